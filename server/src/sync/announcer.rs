//! Hints between the servers of one database.
//!
//! Owns when they are sent: a few milliseconds after a push, many at once, and never on its way. They may be lost: what
//! is correct without them is only faster with them.

use super::hub::Hub;
use crate::store::{Announcement, Place, Vaults};
use crate::telemetry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;

/// How long is waited for more to say.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) struct Announcer(mpsc::UnboundedSender<(Place, u64)>);

/// Stands for a position where it is said that other people belong to a vault now.
const OTHERS: u64 = 0;

impl Announcer {
    /// Begins to speak to the others, and to listen to them, until it is dropped.
    pub(super) fn open(vaults: Arc<dyn Vaults>, hub: &Arc<Hub>) -> Self {
        let (announcer, moved) = mpsc::unbounded_channel();
        tokio::spawn(listen(vaults.announcements(), Arc::downgrade(hub)));
        tokio::spawn(speak(vaults, moved));
        Announcer(announcer)
    }

    pub(super) fn say(&self, at: Place, n: u64, others_belong: bool) {
        if others_belong {
            let _stopping = self.0.send((at, OTHERS));
        }
        // Nobody there means that the server is stopping.
        let _stopping = self.0.send((at, n));
    }
}

async fn speak(vaults: Arc<dyn Vaults>, mut moved: mpsc::UnboundedReceiver<(Place, u64)>) {
    while let Some((at, n)) = moved.recv().await {
        tokio::time::sleep(PAUSE).await;
        let (mut newest, mut others) = (HashMap::new(), HashSet::new());
        let more = std::iter::from_fn(|| moved.try_recv().ok());
        for (at, n) in std::iter::once((at, n)).chain(more) {
            if n == OTHERS {
                others.insert(at);
            } else {
                let position = newest.entry(at).or_default();
                *position = n.max(*position);
            }
        }
        // Who does not belong to a vault any more is not told where it is.
        let all = others.into_iter().map(|at| (at, OTHERS)).chain(newest).collect();
        if let Err(error) = vaults.announce(all).await {
            tracing::warn!(error = %telemetry::chain(&error), "other servers were not told that vaults moved");
            metrics::counter!("selkie_announcements_lost_total").increment(1);
        }
    }
}

async fn listen(mut announcements: tokio::sync::broadcast::Receiver<Announcement>, hub: Weak<Hub>) {
    loop {
        let heard = announcements.recv().await;
        let Some(hub) = hub.upgrade() else { return };
        match heard {
            Ok(Announcement::Moved(at, OTHERS)) => hub.let_look_again(at),
            Ok(Announcement::Moved(at, n)) => hub.tell_of(at, n),
            Ok(Announcement::Missed) | Err(RecvError::Lagged(_)) => hub.tell_all_to_look(),
            Err(RecvError::Closed) => return,
        }
    }
}
