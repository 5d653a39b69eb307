//! The line between the servers on one database: a connection of its own that listens, and speaks.
//!
//! What is said is a hint. After every gap, the first one included, it is said that something may have been missed.

use super::connect::connect_hearing;
use super::{Address, unavailable};
use crate::store::{Announcement, Place, StoreError, Tenant, VaultNumber};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{broadcast, mpsc};
use tokio::task::AbortHandle;
use tokio_postgres::{Client, Notification};

const CHANNEL: &str = "selkie_vaults";

/// What PostgreSQL lets one notification say, with some room.
const LONGEST: usize = 7_900;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A line that says nothing may be dead: it is asked now and then, and given some time to answer.
const QUIET: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(5);

/// What listeners that fall behind may leave lying.
const HEARD: usize = 4_096;

pub(super) struct Line {
    heard: broadcast::Sender<Announcement>,
    /// `None` while the line is down.
    client: Arc<Mutex<Option<Arc<Client>>>>,
    listener: AbortHandle,
}

impl Line {
    /// Never waits: a line that cannot be had now is tried for again and again.
    pub(super) fn open(address: Address, runtime: &Handle) -> Self {
        let (heard, _) = broadcast::channel(HEARD);
        let client = Arc::<Mutex<Option<Arc<Client>>>>::default();
        let listener = {
            let (heard, client, runtime) = (heard.clone(), client.clone(), runtime.clone());
            async move { listen(&address, &runtime, &heard, &client).await }
        };
        let listener = runtime.spawn(listener).abort_handle();
        Line { heard, client, listener }
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Announcement> {
        self.heard.subscribe()
    }

    /// Tells the others. `false` if the line is down: then it must go another way.
    pub(super) async fn say(&self, moved: &[(Place, u64)]) -> bool {
        let client = self.client.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(client) = client else { return false };
        for text in texts(moved) {
            if client.execute(NOTIFY, &[&CHANNEL, &text]).await.is_err() {
                return false;
            }
        }
        true
    }

    pub(super) fn close(&self) {
        self.listener.abort();
        self.client.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.close();
    }
}

const NOTIFY: &str = "SELECT pg_notify($1, $2)";

/// The same by any other connection.
pub(super) async fn say_by(lane: &mut super::lanes::Lane<'_>, moved: &[(Place, u64)]) -> Result<(), StoreError> {
    for text in texts(moved) {
        lane.execute(NOTIFY, &[&CHANNEL, &text]).await.map_err(unavailable)?;
    }
    Ok(())
}

async fn listen(
    address: &Address,
    runtime: &Handle,
    heard: &broadcast::Sender<Announcement>,
    line: &Mutex<Option<Arc<Client>>>,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        if let Ok((client, own, mut notifications)) = dial(address, runtime).await {
            let client = Arc::new(client);
            *line.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
            pause = FIRST_PAUSE;
            // Nobody may be listening; that is their affair.
            let _ = heard.send(Announcement::Missed);
            while let Some(notification) = next(&client, &mut notifications).await {
                // Whatever this server says it hears itself.
                if notification.process_id() != own {
                    for announcement in announcements(notification.payload()) {
                        let _ = heard.send(announcement);
                    }
                }
            }
            line.lock().unwrap_or_else(PoisonError::into_inner).take();
            tracing::warn!("the line to the other servers on this database is down");
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

type Dialled = (Client, i32, mpsc::UnboundedReceiver<Notification>);

async fn dial(address: &Address, runtime: &Handle) -> Result<Dialled, StoreError> {
    let (hears, notifications) = mpsc::unbounded_channel();
    let client = connect_hearing(address, runtime, Some(hears)).await.map_err(unavailable)?;
    let own = client.query_one("SELECT pg_backend_pid()", &[]).await.map_err(unavailable)?;
    let own = own.try_get(0).map_err(unavailable)?;
    client.batch_execute("LISTEN selkie_vaults").await.map_err(unavailable)?;
    Ok((client, own, notifications))
}

/// `None` once the line is down.
async fn next(client: &Client, notifications: &mut mpsc::UnboundedReceiver<Notification>) -> Option<Notification> {
    loop {
        match tokio::time::timeout(QUIET, notifications.recv()).await {
            Ok(notification) => return notification,
            Err(_) => match tokio::time::timeout(PATIENCE, client.batch_execute("")).await {
                Ok(Ok(())) => {}
                _ => return None,
            },
        }
    }
}

/// `tenant:vault:n`, as many in a text as it may have.
fn texts(moved: &[(Place, u64)]) -> Vec<String> {
    let mut texts = Vec::new();
    let mut text = String::new();
    for (Place { tenant, vault }, n) in moved {
        let one = format!("{}:{}:{n}", tenant.0, vault.0);
        if text.len() + 1 + one.len() > LONGEST {
            texts.push(std::mem::take(&mut text));
        }
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&one);
    }
    if !text.is_empty() {
        texts.push(text);
    }
    texts
}

/// What cannot be read may have said anything.
fn announcements(text: &str) -> Vec<Announcement> {
    let one = |word: &str| {
        let mut numbers = word.split(':');
        let (tenant, vault) = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
        let n = numbers.next()?.parse().ok()?;
        let at = Place { tenant: Tenant(tenant), vault: VaultNumber(vault) };
        numbers.next().is_none().then_some(Announcement::Moved(at, n))
    };
    text.split(',').map(|word| one(word).unwrap_or(Announcement::Missed)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_heard_in_texts_that_are_short_enough() {
        let place = |n: i64| Place { tenant: Tenant(n), vault: VaultNumber(i64::MAX - n) };
        let moved: Vec<(Place, u64)> = (0..2_000).map(|n| (place(n), u64::MAX - n as u64)).collect();
        let texts = texts(&moved);
        assert!(texts.len() > 1 && texts.iter().all(|text| text.len() <= LONGEST));
        let heard: Vec<Announcement> = texts.iter().flat_map(|text| announcements(text)).collect();
        assert_eq!(heard, moved.iter().map(|(at, n)| Announcement::Moved(*at, *n)).collect::<Vec<_>>());
        assert_eq!(announcements("1:2"), [Announcement::Missed]);
        assert_eq!(announcements("1:2:3:4"), [Announcement::Missed]);
        assert_eq!(announcements(""), [Announcement::Missed]);
    }
}
