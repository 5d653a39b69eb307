//! Keeps the log of a vault as the rooms above the store would: entries that parse, in frames, with what each of them
//! makes live and ends. Nothing is signed and nobody judges: the store does not either.

use super::people::*;
use crate::store::*;
use selkie_protocol::hash::sha256;
use selkie_protocol::id::{ChangeId, DeviceId, RecordId, UserId, VaultId};
use selkie_protocol::log::{
    Body, Checkpoint, Data, Entry, Frame, Head, Header, Kind, NewChange as Written, Root, SIGNATURE_LENGTH, chain,
    signed, write_note,
};
use selkie_protocol::sign::Signature;
use std::collections::BTreeMap;

/// A log, and what is live in it: the model that the store is held to.
#[derive(Clone)]
pub(super) struct Scribe {
    pub(super) at: Place,
    pub(super) vid: VaultId,
    pub(super) head: Head,
    /// Every entry, as a row of its own.
    pub(super) entries: Vec<NewEntry>,
    pub(super) live: BTreeMap<(RecordId, ChangeId), LiveRow>,
    /// What was live at each position, from 1 on.
    pub(super) history: Vec<BTreeMap<(RecordId, ChangeId), LiveRow>>,
    device: DeviceId,
    dev_seq: u64,
    dev_prev: [u8; 32],
    pub(super) now: Millis,
    payload_length: usize,
}

pub(super) fn record(n: u64) -> RecordId {
    RecordId(bytes("record of a vault", n))
}

/// A change to be written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Write {
    /// The record whole, over everything that is there.
    Whole(u64),
    /// A difference, on top of all heads.
    Delta(u64),
    /// A difference on top of nothing, beside what is there.
    Beside(u64),
}

impl Scribe {
    /// What makes the n-th vault, and who keeps its log once it is made.
    pub(super) fn begin(tenant: Tenant, creator: AccountNumber, n: u64) -> (NewVault, Scribe) {
        let vid = VaultId(bytes("vault", n));
        let mut scribe = Scribe {
            at: Place { tenant, vault: VaultNumber(0) },
            vid,
            head: Head { n: 0, h: vid.0 },
            entries: Vec::new(),
            live: BTreeMap::new(),
            history: Vec::new(),
            device: device_id(n),
            dev_seq: 0,
            dev_prev: [0; 32],
            now: NOW,
            payload_length: 104,
        };
        let mut entry = scribe.entry(Kind::Heartbeat, &[], &[]);
        entry.is_control = true;
        scribe.take(&entry);
        let new = NewVault {
            vid,
            app: format!("org.example.app-{n}"),
            creator,
            entry,
            state: scribe.state(),
            wraps: Vec::new(),
            max_vaults: None,
        };
        (new, scribe)
    }

    /// Makes the n-th vault.
    pub(super) async fn create(store: &dyn Store, tenant: Tenant, creator: AccountNumber, n: u64) -> Scribe {
        let (new, mut scribe) = Scribe::begin(tenant, creator, n);
        scribe.at.vault = store.create_vault(tenant, new).await.unwrap();
        scribe
    }

    pub(super) fn with_payloads_of(mut self, length: usize) -> Self {
        self.payload_length = length;
        self
    }

    /// Something that names this moment.
    pub(super) fn state(&self) -> Vec<u8> {
        [b"state at ".as_slice(), &self.head.n.to_be_bytes(), &self.head.h].concat()
    }

    fn header(&self) -> Header {
        Header {
            vault: self.vid,
            user: uid(1),
            device: self.device,
            dev_seq: self.dev_seq + 1,
            dev_prev: self.dev_prev,
            seen: self.head,
            control: [5; 32],
            epoch: 1,
            checkpoint_ok: 0,
            unix_ms: 0,
        }
    }

    fn entry(&self, kind: Kind, body: &[u8], beside: &[u8]) -> NewEntry {
        let header = self.header();
        let bytes = signed(header.with_body(kind, body), &Signature([9; SIGNATURE_LENGTH]));
        let hash = Entry::parse(&bytes).unwrap().hash();
        let n = self.head.n + 1;
        NewEntry {
            head: Head { n, h: chain(&self.head.h, n, &hash) },
            hash,
            device: self.device,
            dev_seq: header.dev_seq,
            is_control: false,
            is_checkpoint: kind == Kind::Checkpoint,
            frame: Frame::write(&bytes, beside),
            received_at: self.now,
            adds: Vec::new(),
            supersedes: Vec::new(),
            no_longer_heads: Vec::new(),
            forgets: Vec::new(),
        }
    }

    fn take(&mut self, entry: &NewEntry) {
        self.head = entry.head;
        (self.dev_seq, self.dev_prev) = (entry.dev_seq, entry.hash);
        self.entries.push(entry.clone());
        self.history.push(self.live.clone());
    }

    pub(super) fn heartbeat(&mut self) -> NewEntry {
        let entry = self.entry(Kind::Heartbeat, &[], &[]);
        self.take(&entry);
        entry
    }

    /// Whatever it says, it counts as CONTROL.
    pub(super) fn control(&mut self) -> NewEntry {
        let mut entry = self.entry(Kind::Heartbeat, &[], &[]);
        entry.is_control = true;
        self.take(&entry);
        entry
    }

    pub(super) fn checkpoint(&mut self, forgotten: &[RecordId]) -> NewEntry {
        let mut sorted = forgotten.to_vec();
        sorted.sort_unstable();
        let note = (!sorted.is_empty()).then(|| write_note(&sorted));
        let hash = note.as_ref().map(|(_, hash)| *hash);
        let root: Root = std::iter::empty().collect();
        let body = Checkpoint::write(self.head, &root, hash, std::iter::empty()).unwrap();
        let note = note.map(|(note, _)| note).unwrap_or_default();
        let mut entry = self.entry(Kind::Checkpoint, &body, &note);
        entry.forgets = forgotten.to_vec();
        self.live.retain(|(record, _), _| !forgotten.contains(record));
        self.take(&entry);
        entry
    }

    /// A DATA entry.
    pub(super) fn data(&mut self, writes: &[Write]) -> NewEntry {
        let payloads: Vec<Vec<u8>> = (0..writes.len())
            .map(|index| {
                let seed = sha256(format!("payload {} {} {index}", self.vid, self.head.n).as_bytes());
                seed.iter().copied().cycle().take(self.payload_length).collect()
            })
            .collect();
        let places: Vec<(RecordId, bool)> = writes
            .iter()
            .map(|write| match write {
                Write::Whole(n) => (record(*n), true),
                Write::Delta(n) | Write::Beside(n) => (record(*n), false),
            })
            .collect();
        let changes: Vec<Written<'_>> = places
            .iter()
            .zip(&payloads)
            .map(|((record, full), payload)| Written { record: *record, full: *full, deps: &[], payload })
            .collect();
        let mut entry = self.entry(Kind::Data, &Data::write(&changes).unwrap(), &payloads.concat());
        let parsed = Frame::parse(&entry.frame).unwrap();
        let Body::Data(data) = &parsed.entry.body else { panic!("DATA") };
        let ids: Vec<ChangeId> = data.changes().map(|c| c.id(&self.vid, &self.device, entry.dev_seq)).collect();
        let n = entry.head.n;
        for ((index, write), change) in (0u16..).zip(writes).zip(ids) {
            let (record, full) = places[usize::from(index)];
            let there: Vec<(RecordId, ChangeId)> =
                self.live.range((record, ChangeId([0; 32]))..=(record, ChangeId([255; 32]))).map(|(k, _)| *k).collect();
            for key in there {
                let row = self.live[&key];
                match write {
                    Write::Whole(_) => {
                        self.live.remove(&key);
                        if row.n == n {
                            let added = entry.adds.iter_mut().find(|added| added.change == key.1).unwrap();
                            (added.live, added.head) = (false, false);
                        } else {
                            entry.supersedes.push(key);
                        }
                    }
                    Write::Delta(_) if row.head => {
                        self.live.get_mut(&key).unwrap().head = false;
                        match entry.adds.iter_mut().find(|added| added.change == key.1) {
                            Some(added) => added.head = false,
                            None => entry.no_longer_heads.push(key),
                        }
                    }
                    _ => {}
                }
            }
            entry.adds.push(NewChange { record, change, index, full, head: true, live: true });
            self.live.insert((record, change), LiveRow { record, change, n, index, full, head: true });
        }
        self.take(&entry);
        entry
    }

    /// An append of these entries, which are the newest.
    pub(super) fn append(&self, entries: Vec<NewEntry>) -> Append {
        let before = match self.entries.len() - entries.len() {
            0 => Head { n: 0, h: self.vid.0 },
            n => self.entries[n - 1].head,
        };
        Append { at: self.at, before, entries, state: None, members: None, removed: Vec::new(), wraps: Vec::new() }
    }

    pub(super) async fn writes(&mut self, store: &dyn Store, writes: &[Write]) {
        let entry = self.data(writes);
        self.appended(store, vec![entry]).await;
    }

    pub(super) async fn appended(&mut self, store: &dyn Store, entries: Vec<NewEntry>) {
        assert_eq!(store.append(vec![self.append(entries)]).await.unwrap(), [true]);
    }

    pub(super) fn question(&self) -> Question {
        Question { at: self.at, known: None, records: Vec::new(), differences: Vec::new(), chain: Vec::new() }
    }

    /// Everything of these records that is live, as the store should tell it.
    pub(super) fn live_of(&self, records: &[RecordId]) -> Vec<LiveRow> {
        self.live.values().filter(|row| records.contains(&row.record)).copied().collect()
    }

    pub(super) fn live_at(&self, n: u64) -> Vec<LiveRow> {
        self.history[n as usize - 1].values().copied().collect()
    }
}

/// A vault of the first person with a row in every table that belongs to vaults: two members, of whom one goes.
pub(super) async fn vault_with_everything(store: &dyn Store, tenant: Tenant, creator: AccountNumber) -> Scribe {
    let mut scribe = Scribe::create(store, tenant, creator, 1).await;
    let goes = store.register(tenant, registration(90)).await.unwrap();
    scribe.joined(store, &[uid(1), uid(90)]).await;
    scribe.writes(store, &[Write::Whole(1), Write::Whole(2)]).await;
    let checkpoint = scribe.checkpoint(&[]);
    scribe.appended(store, vec![checkpoint]).await;
    let row = CheckpointRow { n: scribe.head.n, page_hashes: vec![1; 64] };
    store.add_checkpoint(scribe.at, row, 2).await.unwrap();
    store.delete_account(tenant, goes, audit("deleted")).await.unwrap();
    scribe
}

pub(super) fn wrap(n: u64, epoch: u32, generation: u32) -> WrapRow {
    let sealed = bytes::<200>(&format!("wrap {epoch} {generation}"), n).to_vec();
    WrapRow { user: uid(n), epoch, generation, sealed }
}

impl Scribe {
    /// A CONTROL entry after which these are the members, each with a key.
    pub(super) async fn joined(&mut self, store: &dyn Store, members: &[UserId]) {
        self.removed(store, members, &[]).await;
    }

    /// The same, which removes these. Where it stands, and when it came.
    pub(super) async fn removed(
        &mut self,
        store: &dyn Store,
        members: &[UserId],
        removed: &[UserId],
    ) -> (Head, Millis) {
        let entry = self.control();
        let end = (entry.head, entry.received_at);
        let removed = removed.iter().map(|user| (*user, end.0.n)).collect();
        let wraps = members.iter().map(|user| WrapRow { user: *user, ..wrap(0, 1, 1) }).collect();
        let state = Some(self.state());
        let append = Append { members: Some(members.to_vec()), removed, wraps, state, ..self.append(vec![entry]) };
        assert_eq!(store.append(vec![append]).await.unwrap(), [true]);
        end
    }
}
