//! `selkie watch`: the records of a collection, and every change of them while it runs.
//!
//! Owns what a difference is. Records of every version of an app are looked at, since this is no app.

use super::query::all_of;
use super::records::{line, object};
use crate::args::WatchArgs;
use crate::place::{Owner, Place};
use crate::terminal::Terminal;
use anyhow::Context as _;
use futures_util::StreamExt as _;
use selkie_client::{BlockedPlace, Content, Digest, Filter, Record, RecordId, Schedule, SyncState, Vault};
use serde_json::json;
use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

/// How often to look where the server's hints do not get through.
const LOOK: Duration = Duration::from_secs(60);
/// And where there is no server at all.
const LOOK_BY_ITSELF: Duration = Duration::from_secs(1);

pub(super) async fn run(place: &Place<'_>, terminal: Terminal, args: &WatchArgs) -> anyhow::Result<()> {
    let filter = all_of(&args.conditions)?;
    let owner = place.owner().await?;
    let vault = owner.vault(&args.vault).await?;
    let Owner::Account(account) = owner else {
        return by_itself(vault, filter, terminal, args).await;
    };
    let background = account.sync_in_background(Schedule { every: Some(LOOK), ..Schedule::default() });
    let mut watched = Watched::new(vault, filter, args);
    let mut status = account.status();
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let mut held_up = false;
    loop {
        // Whatever was written or came into step shows in the status, too.
        let now = tokio::select! {
            ended = &mut interrupted => {
                ended.context("Ctrl-C cannot be heard")?;
                background.stop().await;
                return Ok(());
            }
            now = status.next() => now.context("there is no status")?,
        };
        watched.look(terminal, (now.pending, now.set_aside)).await?;
        if now.blocked.first().is_some_and(|blocked| blocked.what == BlockedPlace::Account) {
            // The error itself says by its code whose move it is.
            background.sync_now().await?;
        }
        let why = match &now.state {
            SyncState::Offline => Some("The server cannot be reached.".to_owned()),
            SyncState::PutOff(reason) => Some(format!("The sync waits: {reason}.")),
            _ => None,
        };
        let was_held_up = std::mem::replace(&mut held_up, why.is_some());
        if let (Some(why), false) = (why, was_held_up) {
            terminal.remark(&format!("{why} What comes is shown when it goes on."));
        }
    }
}

/// On a device by itself there is no sync that would tell: another program that writes is seen when looked for.
async fn by_itself(vault: Vault, filter: Filter, terminal: Terminal, args: &WatchArgs) -> anyhow::Result<()> {
    let mut watched = Watched::new(vault, filter, args);
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    let mut looks = 0;
    loop {
        looks += 1;
        watched.look(terminal, (looks, 0)).await?;
        tokio::select! {
            ended = &mut interrupted => return ended.context("Ctrl-C cannot be heard"),
            () = tokio::time::sleep(LOOK_BY_ITSELF) => {}
        }
    }
}

struct Watched {
    vault: Vault,
    collection: String,
    filter: Filter,
    /// Where the log was when it was last looked at, how much waited to be sent, and how much to be read.
    seen: Option<(Digest, (u64, u64))>,
    shown: BTreeMap<RecordId, Record>,
}

impl Watched {
    fn new(vault: Vault, filter: Filter, args: &WatchArgs) -> Self {
        Watched { vault, collection: args.collection.clone(), filter, seen: None, shown: BTreeMap::new() }
    }

    /// Shows what is otherwise than before, if anything can be.
    async fn look(&mut self, terminal: Terminal, waiting: (u64, u64)) -> anyhow::Result<()> {
        let seen = Some((self.vault.digest().await?, waiting));
        if self.seen == seen {
            return Ok(());
        }
        self.seen = seen;
        let records = self.vault.records(&self.collection).await?.into_iter().filter(|record| self.fits(record));
        let now: BTreeMap<RecordId, Record> = records.map(|record| (record.id, record)).collect();
        for (id, record) in &now {
            match self.shown.get(id) {
                None => say(terminal, "added", '+', record),
                Some(before) if before.data != record.data => say(terminal, "changed", '~', record),
                Some(_) => {}
            }
        }
        for (_, record) in self.shown.iter().filter(|(id, _)| !now.contains_key(id)) {
            say(terminal, "removed", '-', record);
        }
        self.shown = now;
        Ok(())
    }

    fn fits(&self, record: &Record) -> bool {
        match Content::from_bytes(&record.data) {
            Some(content) => self.filter.fits(&content.fields),
            None => self.filter == Filter::All,
        }
    }
}

fn say(terminal: Terminal, change: &str, mark: char, record: &Record) {
    let mut json = object(record);
    json["change"] = json!(change);
    terminal.answer(&format!("{mark} {}", line(record)), &json);
}
