//! A member who helps the server: reads a vault by the rules, without the SDK, and then signs whatever suits a lie.
//!
//! Owns the making of entries that are well signed and should not stand. Knows nothing about how they are shown to
//! anybody.

use std::collections::btree_map::Entry as Place;
use std::sync::Arc;

use selkie_protocol::account::LogPage;
use selkie_protocol::account_log::AccountLog;
use selkie_protocol::cipher::EpochKey;
use selkie_protocol::id::{UserId, VaultId};
use selkie_protocol::log::{Control, Data, Entry, Frame, Header, Kind, NewChange, SignedHead, VaultLog};
use selkie_protocol::vault::Wraps;

use crate::scribe::{Acquaintances, Author, Scribe, Volume, must};

impl Author {
    /// Reads a vault that somebody else made and added this person to, with its newest key.
    pub async fn joins(&self, vault: &VaultId) -> Volume {
        let scribe = self.first();
        let mut frames: Vec<Vec<u8>> = Vec::new();
        loop {
            let page = must(scribe.log_after(vault, frames.len() as u64, 500).await);
            frames.extend(page.frames.into_iter().map(|frame| frame.0));
            let head = SignedHead::parse(&page.head[..]).expect("a head the server signed");
            if frames.len() as u64 >= head.head.n {
                break;
            }
        }
        let people = acquaintances(&scribe, &frames).await;
        let first = Entry::parse(Frame::entry_bytes(&frames[0]).expect("a frame")).expect("an entry");
        let (log, _) = VaultLog::create(&first, &people).expect("a first entry");
        let wraps: Wraps = must(scribe.get(&format!("/v1/vaults/{vault}/wraps")).await);
        let newest = wraps.wraps.iter().max_by_key(|wrap| wrap.epoch).expect("a key for this person");
        let mut replayed = log;
        for frame in &frames[1..] {
            let frame = Frame::parse(frame).expect("a frame");
            replayed.apply(&frame.entry, frame.beside(), &people).expect("an entry that stands");
        }
        let commitment = replayed.core().governance().commitment(newest.epoch).expect("an epoch of the vault");
        let kem = self.master_key.user_kem(&self.user());
        let opened = EpochKey::open(*vault, newest.epoch, &self.user(), &kem, newest.sealed.as_ref(), commitment);
        let epoch_key = Arc::new(opened.expect("a wrap for this person"));
        Volume { log: replayed, key: Arc::new(epoch_key.record_key()), epoch_key, people, frames }
    }
}

impl Volume {
    /// The header of a device's next entry, as it would be if the device were honest.
    pub fn next_header(&self, scribe: &Scribe) -> Header {
        self.log.core().next_header(scribe.user, scribe.device(), 0, 1_700_000_000_000)
    }

    /// A frame with an operation that nobody has asked whether it is allowed.
    pub fn control(&self, scribe: &Scribe, control: &Control) -> Vec<u8> {
        let entry = scribe.sign(&self.next_header(scribe), Kind::Control, &control.to_bytes());
        Frame::write(&entry, &[])
    }

    /// A frame that writes one record.
    pub fn data(&self, scribe: &Scribe, change: &NewChange<'_>) -> Vec<u8> {
        self.data_under(&self.next_header(scribe), scribe, change)
    }

    /// As [`Volume::data`], under a header of the liar's choice.
    pub fn data_under(&self, header: &Header, scribe: &Scribe, change: &NewChange<'_>) -> Vec<u8> {
        let body = Data::write(std::slice::from_ref(change)).expect("a change that fits");
        Frame::write(&scribe.sign(header, Kind::Data, &body), change.payload)
    }

    /// The vault's newest key, as any member has it.
    pub fn epoch_key(&self) -> &EpochKey {
        &self.epoch_key
    }

    /// What the public may know of a person in this vault.
    pub fn person(&self, user: &UserId) -> &AccountLog {
        &self.people[user]
    }

    /// Takes entries that were made meanwhile; they are in order.
    pub async fn catches_up(&mut self, scribe: &Scribe) {
        let more = must(scribe.log_after(&self.vault(), self.log.head().n, 500).await).frames;
        let frames: Vec<Vec<u8>> = more.into_iter().map(|frame| frame.0).collect();
        self.people.extend(acquaintances(scribe, &frames).await);
        for frame in frames {
            self.take(frame).expect("an entry that stands");
        }
    }
}

/// Everybody who wrote or was added, as the server shows their account logs.
async fn acquaintances(scribe: &Scribe, frames: &[Vec<u8>]) -> Acquaintances {
    let mut people = Acquaintances::new();
    for frame in frames {
        let entry = Entry::parse(Frame::entry_bytes(frame).expect("a frame")).expect("an entry");
        let added = match &entry.body {
            selkie_protocol::log::Body::Control(Control::AddMember { user, .. }) => Some(*user),
            _ => None,
        };
        for user in std::iter::once(entry.header.user).chain(added) {
            if let Place::Vacant(place) = people.entry(user) {
                let page: LogPage = must(scribe.get(&format!("/v1/people/{user}/log?from=0")).await);
                let log = AccountLog::replay(page.entries.iter().map(|entry| &**entry));
                place.insert(log.expect("a log that verifies"));
            }
        }
    }
    people
}
