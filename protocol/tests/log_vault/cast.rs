//! The people of the stories: persons with account logs, devices that sign, and a vault whose log an honest server
//! keeps. Every key comes from a small number, so that every run is the same.

use selkie_protocol::account_log::{AccountLog, Body as AccountBody, Payload, Pin};
use selkie_protocol::cipher::{AccountMasterKey, DeviceKey, SigningKey};
use selkie_protocol::hash::{Label, sha256};
use selkie_protocol::id::{ChangeId, DeviceId, RecordId, UserId};
use selkie_protocol::log::{
    App, BACK_LINK_LENGTH, Beside, Control, Create, Data, Effects, Entry, Header, Kind, NewChange, Refusal,
    RemoveRotate, Role, VaultLog, What, first_header, signed,
};
use std::collections::BTreeMap;

/// Everybody's verified account log, as everybody has it.
#[derive(Clone, Default)]
pub(crate) struct Cast {
    pub(crate) logs: BTreeMap<UserId, AccountLog>,
    identities: BTreeMap<UserId, [u8; 32]>,
}

/// A device and its owner.
pub(crate) struct Device {
    pub(crate) user: UserId,
    pub(crate) key: DeviceKey,
}

/// A vault, the entries of its log, and the state they lead to.
#[derive(Clone)]
pub(crate) struct Vault {
    pub(crate) log: VaultLog,
    pub(crate) entries: Vec<Vec<u8>>,
    pub(crate) beside: Vec<Vec<Vec<u8>>>,
}

fn seed(kind: &str, number: u8) -> [u8; 32] {
    sha256(format!("{kind} {number}").as_bytes())
}

/// An identity and an account log with nothing but its first entry.
fn newborn(number: u8) -> (SigningKey, AccountLog) {
    let identity = SigningKey::from_seed(&seed("identity", number));
    let genesis = Payload::Genesis { identity: identity.public_key(), random: [number; 16] };
    let body = AccountBody { user: UserId([0; 32]), index: 0, previous: [0; 32], unix_ms: 1, payload: genesis };
    let signature = identity.sign(Label::ACCOUNT_ENTRY, &[&body.to_bytes()]);
    let log = AccountLog::begin(&body.signed(signature)).unwrap();
    (identity, log)
}

impl Cast {
    /// A person with an account log and one certified device.
    pub(crate) fn person(&mut self, number: u8) -> Device {
        let (identity, log) = newborn(number);
        let user = log.user();
        self.logs.insert(user, log);
        self.identities.insert(user, *identity.seed());
        self.device(user, number)
    }

    /// Another device of a person, certified in their account log.
    pub(crate) fn device(&mut self, user: UserId, number: u8) -> Device {
        let key = DeviceKey::from_seed(&seed("device", number));
        self.says(user, key.device_add(&user));
        Device { user, key }
    }

    pub(crate) fn revoke(&mut self, device: &Device) {
        self.says(device.user, Payload::DeviceRevoke { device: device.key.id() });
    }

    pub(crate) fn says(&mut self, user: UserId, payload: Payload) {
        let identity = SigningKey::from_seed(&self.identities[&user]);
        let log = self.logs.get_mut(&user).unwrap();
        let body = log.next(2, payload);
        let signature = identity.sign(Label::ACCOUNT_ENTRY, &[&body.to_bytes()]);
        log.append(&body.signed(signature)).unwrap();
    }

    /// Where a person's account log stands now.
    pub(crate) fn anchor(&self, user: UserId) -> Pin {
        self.logs[&user].head()
    }

    /// The same people, except that this person's account log says other things after its first entry.
    pub(crate) fn forked(&self, number: u8) -> Cast {
        let mut other = self.clone();
        let (_, log) = newborn(number);
        let user = log.user();
        other.logs.insert(user, log);
        for _ in 0..self.logs[&user].head().index {
            other.says(user, Payload::LoginName([9; 32]));
        }
        other
    }

    pub(crate) fn add(&self, user: UserId, role: Role) -> Control {
        let identity = self.logs[&user].identity();
        Control::AddMember { user, identity, anchor: self.anchor(user), role, invite: None }
    }

    pub(crate) fn move_anchor(&self, user: UserId) -> Control {
        Control::Anchor { user, anchor: self.anchor(user) }
    }
}

impl Device {
    pub(crate) fn id(&self) -> DeviceId {
        self.key.id()
    }

    pub(crate) fn sign(&self, header: &Header, kind: Kind, body: &[u8]) -> Vec<u8> {
        let unsigned = header.with_body(kind, body);
        let signature = self.key.sign(Label::VAULT_ENTRY_SIG, &[&unsigned]);
        signed(unsigned, &signature)
    }

    /// The header of this device's next entry, having seen all of a log.
    pub(crate) fn header(&self, log: &VaultLog) -> Header {
        log.core().next_header(self.user, self.id(), 0, 1_700_000_000_000)
    }

    pub(crate) fn control(&self, log: &VaultLog, control: &Control) -> Vec<u8> {
        self.sign(&self.header(log), Kind::Control, &control.to_bytes())
    }

    pub(crate) fn data(&self, log: &VaultLog, changes: &[NewChange<'_>]) -> Vec<u8> {
        self.sign(&self.header(log), Kind::Data, &Data::write(changes).unwrap())
    }

    pub(crate) fn heartbeat(&self, log: &VaultLog) -> Vec<u8> {
        self.sign(&self.header(log), Kind::Heartbeat, &[])
    }

    pub(crate) fn checkpoint(&self, log: &VaultLog) -> Vec<u8> {
        self.sign(&self.header(log), Kind::Checkpoint, &log.checkpoint(&[]).unwrap().0)
    }

    /// A vault's first entry.
    pub(crate) fn create(&self, cast: &Cast, random: u8) -> Vec<u8> {
        let create = Create {
            random: [random; 16],
            anchor: cast.anchor(self.user),
            identity: cast.logs[&self.user].identity(),
            commitment: [0xc1; 32],
            min_format: 1,
            flags: 0,
            app: App::new("org.example.journal").unwrap(),
        };
        let header = first_header(self.user, self.id(), 1_700_000_000_000);
        self.sign(&header, Kind::Control, &Control::Create(create).to_bytes())
    }

    pub(crate) fn master(&self, generation: u32) -> AccountMasterKey {
        AccountMasterKey::from_bytes(generation, &seed("master", self.user.0[0]))
    }
}

impl Vault {
    pub(crate) fn create(cast: &Cast, owner: &Device) -> Vault {
        Self::create_with(cast, owner, 7)
    }

    pub(crate) fn create_with(cast: &Cast, owner: &Device, random: u8) -> Vault {
        let bytes = owner.create(cast, random);
        let (log, _) = VaultLog::create(&Entry::parse(&bytes).unwrap(), &cast.logs).unwrap();
        Vault { log, entries: vec![bytes], beside: vec![Vec::new()] }
    }

    /// Offers an entry to the log, and keeps it if it is taken.
    pub(crate) fn push(&mut self, cast: &Cast, bytes: Vec<u8>) -> Result<Effects, Refusal> {
        let before = self.log.clone();
        let entry = Entry::parse(&bytes)?;
        match self.log.apply(&entry, Beside::Nothing, &cast.logs) {
            Ok(effects) => {
                assert_eq!(effects.head, self.log.head());
                self.entries.push(bytes);
                self.beside.push(Vec::new());
                Ok(effects)
            }
            Err(refusal) => {
                assert!(self.log == before, "a refusal changed the log");
                Err(refusal)
            }
        }
    }

    #[track_caller]
    pub(crate) fn takes(&mut self, cast: &Cast, bytes: Vec<u8>) -> Effects {
        self.push(cast, bytes).unwrap()
    }

    #[track_caller]
    pub(crate) fn refuses(&self, cast: &Cast, bytes: &[u8], reason: Refusal) {
        assert_eq!(self.clone().push(cast, bytes.to_vec()).unwrap_err(), reason);
    }

    #[track_caller]
    pub(crate) fn does(&mut self, cast: &Cast, device: &Device, control: &Control) -> Effects {
        let bytes = device.control(&self.log, control);
        self.takes(cast, bytes)
    }

    #[track_caller]
    pub(crate) fn refuses_to(&self, cast: &Cast, device: &Device, control: &Control, reason: Refusal) {
        self.refuses(cast, &device.control(&self.log, control), reason);
    }

    /// Writes a record whole, on top of what is there.
    #[track_caller]
    pub(crate) fn writes(&mut self, cast: &Cast, device: &Device, record: RecordId, content: u8) -> ChangeId {
        let heads = self.heads(record);
        let bytes = device.data(&self.log, &[whole(record, &heads, &payload(content))]);
        only_change(&self.takes(cast, bytes))
    }

    pub(crate) fn heads(&self, record: RecordId) -> Vec<ChangeId> {
        self.log.live().record(&record).map(|record| record.heads()).unwrap_or_default()
    }
}

/// The id of the only change of an entry.
#[track_caller]
pub(crate) fn only_change(effects: &Effects) -> ChangeId {
    match &effects.what {
        What::Changed { changes, .. } if changes.len() == 1 => changes[0].id,
        other => panic!("{other:?}"),
    }
}

pub(crate) fn record(number: u8) -> RecordId {
    RecordId([number; 16])
}

/// Something that has the length of a sealed payload.
pub(crate) fn payload(content: u8) -> Vec<u8> {
    vec![content; 104]
}

pub(crate) fn whole<'a>(record: RecordId, deps: &'a [ChangeId], payload: &'a [u8]) -> NewChange<'a> {
    NewChange { record, full: true, deps, payload }
}

pub(crate) fn delta<'a>(record: RecordId, deps: &'a [ChangeId], payload: &'a [u8]) -> NewChange<'a> {
    NewChange { record, full: false, deps, payload }
}

/// Begins the next epoch, removing these.
pub(crate) fn rotate(log: &VaultLog, removed: &[&Device]) -> Control {
    let mut removed: Vec<UserId> = removed.iter().map(|device| device.user).collect();
    removed.sort_unstable();
    let epoch = log.core().governance().epoch() + 1;
    let commitment = [u8::try_from(epoch).unwrap(); 32];
    Control::RemoveRotate(Box::new(RemoveRotate { removed, epoch, commitment, back: [9; BACK_LINK_LENGTH] }))
}
