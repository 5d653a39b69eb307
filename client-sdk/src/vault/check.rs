//! Whether what this device keeps of a vault is as it was written.
//!
//! Owns what is held against what. Changes nothing and asks nobody.

use super::Vault;
use crate::error::{Error, Result};
use crate::sync::replica::Replica;
use crate::sync::room::Room;
use selkie_protocol::id::{ChangeId, RecordId, VaultId};
use selkie_protocol::log::{Entry, Frame, chain};
use selkie_protocol::record::RecordBody;
use std::collections::BTreeSet;

const FRAMES_AT_A_TIME: u64 = 500;

/// What a look at everything that is kept of a vault has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultCheck {
    /// Which vault.
    pub id: VaultId,
    /// How many versions of records opened, old ones and those that are still to be sent among them.
    pub opened: u64,
    /// Records of which something does not open, or is not where it should be.
    pub damaged: BTreeSet<RecordId>,
    /// Records that the log has and this device does not, though it should.
    pub missing: BTreeSet<RecordId>,
    /// Records of which a write that is to be sent does not open.
    pub unreadable_writes: BTreeSet<RecordId>,
    /// Why the vault cannot be gone on with, if it cannot.
    pub log: Option<String>,
    /// The server has heard of it, unless this device is sure that it has not.
    pub on_server: bool,
}

impl VaultCheck {
    /// Everything is as it was written.
    pub fn is_sound(&self) -> bool {
        self.damaged.is_empty() && self.missing.is_empty() && self.unreadable_writes.is_empty() && self.log.is_none()
    }
}

impl Vault {
    /// Fetches the vault once more, whole, and puts it in the place of what is kept here: brings back a history that
    /// was let go, and what is damaged. The server must show all that it has shown before. What is to be sent stays;
    /// writes that nobody can read any more are given up, and their records returned.
    pub async fn fetch_again(&self) -> Result<Vec<RecordId>> {
        let here = self.here();
        let lost = here.alone(async |round| round.fetch_again().await).await;
        here.slot.forget();
        here.room.ring(&here.id);
        lost
    }
}

/// How often a vault is looked through that another program goes on with meanwhile.
const LOOKS: usize = 8;

/// Blocks on the disk for as long as it takes to read all of it.
pub(crate) fn check(room: &Room, id: &VaultId) -> Result<VaultCheck> {
    let at = || Some((room.store.stamp(id).ok()?, room.store.revision(id).ok()?));
    for _ in 0..LOOKS {
        let before = at();
        let check = look_through(room, id)?;
        // What was read in the middle of somebody's step may seem not to fit.
        if check.is_sound() || before == at() {
            return Ok(check);
        }
    }
    Err(Error::RetryLater { after: None, why: "another program goes on with the vault all the time".into() })
}

fn look_through(room: &Room, id: &VaultId) -> Result<VaultCheck> {
    let mut check = VaultCheck {
        id: *id,
        opened: 0,
        damaged: BTreeSet::new(),
        missing: BTreeSet::new(),
        unreadable_writes: BTreeSet::new(),
        log: None,
        on_server: true,
    };
    let opened = |record: &RecordId, sealed: &[u8]| {
        let plain = room.at_rest.open_record(id, record, sealed).ok()?;
        RecordBody::from_bytes(&plain).ok()
    };
    for pending in unless_damaged(room.store.outbox(id, usize::MAX), &mut check.log)?.unwrap_or_default() {
        match opened(&pending.record, &pending.sealed) {
            Some(body) if room.at_rest.shelf(id, &body.collection) == pending.shelf => check.opened += 1,
            _ => drop(check.unreadable_writes.insert(pending.record)),
        }
    }
    let kept = unless_damaged(room.store.load(id), &mut check.log)?.flatten();
    let replica = kept.map(|kept| Replica::open(id, &kept, &room.at_rest)).transpose();
    let replica = match replica {
        Ok(replica) => replica,
        Err(error) => {
            check.log.get_or_insert(error.to_string());
            None
        }
    };
    let Some(replica) = replica else { return Ok(check) };
    check.on_server = replica.state.born;
    if let Some(false) = unless_damaged(chain_holds(room, &replica), &mut check.log)? {
        check.log = Some("a vault: its chain is not what its entries make".into());
    }
    let aside = unless_damaged(room.store.aside(id), &mut check.log)?.unwrap_or_default();
    let mut aside: BTreeSet<ChangeId> = aside.into_iter().map(|aside| aside.change).collect();
    let let_go = unless_damaged(room.store.elsewhere(id), &mut check.log)?.unwrap_or_default();
    aside.extend(let_go.into_iter().map(|one| one.change));
    for (record, live) in replica.log.live().records() {
        let Some(versions) = unless_damaged(room.store.versions(id, record), &mut check.log)? else {
            check.damaged.insert(*record);
            continue;
        };
        let heads = live.heads();
        for version in &versions {
            match opened(record, &version.sealed) {
                Some(body) if room.at_rest.shelf(id, &body.collection) == version.shelf => check.opened += 1,
                _ => drop(check.damaged.insert(*record)),
            }
        }
        let kept: BTreeSet<ChangeId> = versions.iter().map(|version| version.change).collect();
        let elsewhere = |head: &ChangeId| aside.contains(head) || replica.state.missing.contains(&(*record, *head));
        if heads.iter().any(|head| !kept.contains(head) && !elsewhere(head)) {
            check.missing.insert(*record);
        }
        // Where no head is kept, what was current before stays so.
        let current = versions.iter().filter(|version| version.current);
        let wrong =
            heads.iter().any(|head| kept.contains(head)) && current.clone().any(|one| !heads.contains(&one.change));
        if wrong || (!versions.is_empty() && current.count() == 0) {
            check.damaged.insert(*record);
        }
    }
    Ok(check)
}

/// Whether the values of the chain are those that the entries make which are kept.
fn chain_holds(room: &Room, replica: &Replica) -> std::result::Result<bool, crate::store::StoreError> {
    let (id, trail, end) = (replica.vault(), replica.log.trail(), replica.head().n);
    let mut from = trail.first() + 1;
    while from <= end {
        let to = end.min(from + FRAMES_AT_A_TIME);
        for (n, frame) in room.store.frames(&id, from, to)? {
            let Ok(entry) = Frame::entry_bytes(&frame).and_then(Entry::parse) else { return Ok(false) };
            if let (Some(before), Some(value)) = (trail.at(n - 1), trail.at(n))
                && chain(&before, n, &entry.hash()) != value
            {
                return Ok(false);
            }
        }
        from = to + 1;
    }
    Ok(true)
}

/// What was read; or that it is damaged, which is what this is about.
fn unless_damaged<T>(read: Result<T, crate::store::StoreError>, found: &mut Option<String>) -> Result<Option<T>> {
    match read {
        Ok(read) => Ok(Some(read)),
        Err(error) if error.is_damage() => {
            found.get_or_insert_with(|| format!("{error}: {}", error.source));
            Ok(None)
        }
        Err(error) => Err(Error::from(error)),
    }
}
