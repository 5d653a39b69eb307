//! A device that writes in a vault, by hand: what the SDK does for an app, so that a test can do any of it wrongly.

use super::Person;
use crate::auth::Caller;
use crate::store::{AccountChange, Store};
use crate::sync::pull::Wanted;
use crate::sync::{Logs, Refusal};
use crate::testing::{House, SOMEWHERE};
use selkie_protocol::Bytes;
use selkie_protocol::account_log::AccountLog;
use selkie_protocol::cipher::DeviceKey;
use selkie_protocol::hash::Label;
use selkie_protocol::id::{ChangeId, RecordId, UserId, VaultId};
use selkie_protocol::log::{
    App, BACK_LINK_LENGTH, Control, Create, Data, Entry, Frame, Header, Kind, NewChange, RemoveRotate, Role, VaultLog,
    first_header, signed,
};
use selkie_protocol::vault::{CreateVault, Push, Pushed, Wrap};
use std::collections::BTreeMap;

pub(crate) const APP: &str = "org.example.journal";

pub(crate) struct Writer {
    pub(crate) caller: Caller,
    pub(crate) user: UserId,
    pub(crate) device: DeviceKey,
    pub(crate) log: VaultLog,
    pub(crate) people: BTreeMap<UserId, AccountLog>,
    /// The latest checkpoint found right.
    pub(crate) checkpoint_ok: u64,
}

/// An entry, signed.
pub(crate) fn sign(device: &DeviceKey, header: &Header, kind: Kind, body: &[u8]) -> Vec<u8> {
    let unsigned = header.with_body(kind, body);
    let signature = device.sign(Label::VAULT_ENTRY_SIG, &[&unsigned]);
    signed(unsigned, &signature)
}

/// The first entry of a vault.
pub(crate) fn create_frame(person: &Person, device: &DeviceKey, app: &str, random: [u8; 16]) -> Vec<u8> {
    let create = Control::Create(Create {
        random,
        anchor: person.log.head(),
        identity: person.log.identity(),
        commitment: [1; 32],
        min_format: 1,
        flags: 0,
        app: App::new(app).unwrap(),
    });
    let header = first_header(person.user(), device.id(), 1);
    Frame::write(&sign(device, &header, Kind::Control, &create.to_bytes()), &[])
}

/// A sealed payload, as far as the server can see.
pub(crate) fn payload(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.resize(104 + text.len(), 7);
    bytes
}

pub(crate) fn record(number: u16) -> RecordId {
    let mut id = [0; 16];
    id[..2].copy_from_slice(&number.to_be_bytes());
    RecordId(id)
}

pub(crate) fn people(of: &[&Person]) -> BTreeMap<UserId, AccountLog> {
    of.iter().map(|person| (person.user(), person.log.clone())).collect()
}

impl Writer {
    /// Makes a vault.
    pub(crate) async fn create(house: &House, person: &Person) -> Writer {
        let caller = house.caller(person).await;
        let frame = create_frame(person, &person.device, APP, *b"0123456789abcdef");
        let request = CreateVault { frame: Bytes(frame.clone()), wraps: Vec::new() };
        let made = house.app.logs.create(&caller, request).await.unwrap();
        assert_eq!(made.n, 1);
        let people = people(&[person]);
        let frame = Frame::parse(&frame).unwrap();
        let (log, _) = VaultLog::create(&frame.entry, &people).unwrap();
        let device = DeviceKey::from_seed(&person.device.seed());
        Writer { caller, user: person.user(), device, log, people, checkpoint_ok: 0 }
    }

    /// The same vault on the device of a person who is a member, read from the beginning.
    pub(crate) async fn join(&self, house: &House, person: &Person, of: &[&Person]) -> Writer {
        let mut writer = Writer {
            caller: house.caller(person).await,
            user: person.user(),
            device: DeviceKey::from_seed(&person.device.seed()),
            log: self.log.clone(),
            people: people(of),
            checkpoint_ok: 0,
        };
        writer.read_again(&house.app.logs).await;
        writer
    }

    pub(crate) fn vault(&self) -> VaultId {
        self.log.core().vault()
    }

    pub(crate) fn header(&self) -> Header {
        self.log.core().next_header(self.user, self.device.id(), self.checkpoint_ok, 5)
    }

    pub(crate) fn entry(&self, kind: Kind, body: &[u8]) -> Vec<u8> {
        sign(&self.device, &self.header(), kind, body)
    }

    pub(crate) fn control(&self, control: &Control) -> Push {
        push(Frame::write(&self.entry(Kind::Control, &control.to_bytes()), &[]))
    }

    pub(crate) fn add(&self, person: &Person, role: Role) -> Push {
        let (user, identity) = (person.user(), person.log.identity());
        self.control(&Control::AddMember { user, identity, anchor: person.log.head(), role, invite: None })
    }

    pub(crate) fn remove(&self, users: &[UserId]) -> Push {
        let mut removed = users.to_vec();
        removed.sort_unstable();
        let epoch = self.log.core().governance().epoch() + 1;
        let (commitment, back) = ([2; 32], [3; BACK_LINK_LENGTH]);
        self.control(&Control::RemoveRotate(Box::new(RemoveRotate { removed, epoch, commitment, back })))
    }

    /// Writes records whole, on top of what this device knows of them.
    pub(crate) fn write(&self, records: &[(RecordId, &str)]) -> Push {
        let payloads: Vec<Vec<u8>> = records.iter().map(|(_, text)| payload(text)).collect();
        let heads: Vec<Vec<ChangeId>> = records
            .iter()
            .map(|(id, _)| self.log.live().record(id).map_or(Vec::new(), |known| known.heads()))
            .collect();
        let changes = records.iter().zip(&payloads).zip(&heads);
        let changes: Vec<NewChange<'_>> = changes
            .map(|(((record, _), payload), deps)| NewChange { record: *record, full: true, deps, payload })
            .collect();
        push(Frame::write(&self.entry(Kind::Data, &Data::write(&changes).unwrap()), &payloads.concat()))
    }

    pub(crate) fn checkpoint(&self, forgotten: &[RecordId]) -> Push {
        let (body, note) = self.log.checkpoint(forgotten).unwrap();
        push(Frame::write(&self.entry(Kind::Checkpoint, &body), &note.unwrap_or_default()))
    }

    pub(crate) async fn push(&self, logs: &Logs, push: Push) -> Result<Pushed, Refusal> {
        logs.push(&self.caller, SOMEWHERE, self.vault(), push).await
    }

    /// Pushes, and takes what stands then into the log of this device.
    pub(crate) async fn publish(&mut self, logs: &Logs, push: Push) -> u64 {
        let n = self.push(logs, push).await.unwrap().n;
        self.pull(logs).await;
        n
    }

    /// Reads on, verifying everything, to the end.
    pub(crate) async fn pull(&mut self, logs: &Logs) {
        loop {
            let wanted = Wanted { after: self.log.head().n, ..Wanted::default() };
            let page = logs.pull(&self.caller, SOMEWHERE, self.vault(), wanted).await.unwrap();
            if page.frames.is_empty() {
                let head = selkie_protocol::log::SignedHead::parse(page.head.as_ref()).unwrap();
                assert_eq!(head.head, self.log.head());
                return;
            }
            for frame in &page.frames {
                let frame = Frame::parse(frame).unwrap();
                self.log.apply(&frame.entry, frame.beside(), &self.people).unwrap();
            }
        }
    }

    /// From the first entry on.
    pub(crate) async fn read_again(&mut self, logs: &Logs) {
        let wanted = Wanted { max_entries: Some(1), ..Wanted::default() };
        let page = logs.pull(&self.caller, SOMEWHERE, self.vault(), wanted).await.unwrap();
        let frame = Frame::parse(&page.frames[0]).unwrap();
        (self.log, _) = VaultLog::create(&frame.entry, &self.people).unwrap();
        self.pull(logs).await;
    }

    /// Other devices of the same person, certified and anchored in the vault.
    pub(crate) async fn devices(&mut self, house: &House, person: &mut Person, count: usize) -> Vec<Writer> {
        let keys: Vec<DeviceKey> = (0..count).map(|_| DeviceKey::generate()).collect();
        let log_length = person.log.next_index();
        let user = person.user();
        let entries = keys.iter().map(|key| person.sign_next(key.device_add(&user)).0).collect();
        let change = AccountChange { log_length, entries, ..AccountChange::default() };
        let store: &dyn Store = &*house.app.store;
        store.change_account(self.caller.tenant(), self.caller.account(), change).await.unwrap();
        self.people = people(&[person]);
        let anchor = person.log.head();
        let push = self.control(&Control::Anchor { user, anchor });
        self.publish(&house.app.logs, push).await;
        let writer = |key: DeviceKey| Writer {
            caller: self.caller.on_device(key.id()),
            user,
            device: key,
            log: self.log.clone(),
            people: self.people.clone(),
            checkpoint_ok: 0,
        };
        keys.into_iter().map(writer).collect()
    }
}

pub(crate) fn push(frame: Vec<u8>) -> Push {
    Push { frame: Bytes(frame), wraps: Vec::new() }
}

pub(crate) fn wrap(uid: UserId, epoch: u32) -> Wrap {
    Wrap { uid, epoch, generation: 1, sealed: [9; _].into() }
}

/// An entry as it stands in a frame.
pub(crate) fn entry(frame: &[u8]) -> Entry<'_> {
    Frame::parse(frame).unwrap().entry
}
