//! The keys of an account being made, and its root secret while it is open.
//!
//! Owns the six entries a log begins with, and the signing of what comes after. Knows nothing of servers and disks.

use selkie_protocol::Bytes;
use selkie_protocol::account_log::{AccountLog, Payload, login_name_hash};
use selkie_protocol::cipher::{
    AccountMasterKey, AccountRootSecret, DeviceKey, Keybag, PasswordKek, RecoveryKek, RecoveryKey,
};
use selkie_protocol::id::UserId;
use selkie_protocol::name::LoginName;
use selkie_protocol::opaque::ExportKey;
use selkie_protocol::session::NewAccount;

/// The first generation of everything that turns.
pub(crate) const FIRST: u32 = 1;

/// An account that the server has not heard of yet.
pub(crate) struct NewIdentity {
    pub(crate) log: AccountLog,
    pub(crate) entries: Vec<Bytes>,
    pub(crate) master_key: AccountMasterKey,
    pub(crate) recovery_key: RecoveryKey,
    keybag: Keybag,
}

impl NewIdentity {
    pub(crate) fn make(
        export_key: &ExportKey,
        server_name: &str,
        login_name: &LoginName,
        device: &DeviceKey,
        now_ms: u64,
    ) -> Self {
        let root = AccountRootSecret::generate();
        let genesis = root.identity().sign_genesis(now_ms);
        let log = AccountLog::begin(&genesis).expect("a genesis we signed is one");
        let user = log.user();
        let recovery_key = RecoveryKey::generate();
        let master_key = root.master_key(&user, FIRST);
        let mut open = OpenRoot { root, log };
        let mut entries = vec![Bytes::from(genesis.as_bytes())];
        for payload in [
            device.device_add(&user),
            kem(&master_key, &user),
            Payload::PasswordGeneration(FIRST),
            Payload::LoginName(login_name_hash(server_name, login_name.as_str())),
            recovery(&recovery_key, &user, FIRST),
        ] {
            entries.push(open.sign(now_ms, payload));
        }
        let keybag = Keybag::seal(
            &open.root,
            &PasswordKek::derive(export_key, &user, FIRST),
            &RecoveryKek::derive(&recovery_key, &user, FIRST),
            &user,
        );
        NewIdentity { log: open.log, entries, master_key, recovery_key, keybag }
    }

    pub(crate) fn to_message(&self, device: &DeviceKey, device_name: &str) -> NewAccount {
        NewAccount {
            entries: self.entries.clone(),
            keybag: self.keybag.to_bytes(),
            device_label: self.master_key.seal_label(&device.id(), device_name),
        }
    }
}

/// Keys under which a device keeps vaults that belong to no account. Whoever signs up or in gets others, and the
/// records: nothing of this ever leaves the device.
pub(crate) struct Stand {
    pub(crate) log: AccountLog,
    pub(crate) entries: Vec<Bytes>,
    pub(crate) master_key: AccountMasterKey,
}

impl Stand {
    pub(crate) fn make(device: &DeviceKey, now_ms: u64) -> Self {
        let root = AccountRootSecret::generate();
        let genesis = root.identity().sign_genesis(now_ms);
        let log = AccountLog::begin(&genesis).expect("a genesis we signed is one");
        let user = log.user();
        let master_key = root.master_key(&user, FIRST);
        let mut open = OpenRoot { root, log };
        let mut entries = vec![Bytes::from(genesis.as_bytes())];
        for payload in [device.device_add(&user), kem(&master_key, &user)] {
            entries.push(open.sign(now_ms, payload));
        }
        Stand { log: open.log, entries, master_key }
    }
}

/// The root secret and the log it signs, for as long as one operation takes.
pub(crate) struct OpenRoot {
    pub(crate) root: AccountRootSecret,
    pub(crate) log: AccountLog,
}

impl OpenRoot {
    /// Signs the next entry and takes it into the log.
    pub(crate) fn sign(&mut self, now_ms: u64, payload: Payload) -> Bytes {
        let entry = self.root.identity().sign_entry(self.log.next(now_ms, payload));
        self.log.append(&entry).expect("the caller asks only for entries that may come next");
        Bytes::from(entry.as_bytes())
    }

    /// The master key of the newest generation.
    pub(crate) fn master_key(&self) -> AccountMasterKey {
        let generation = self.log.kem().map_or(FIRST, |(generation, _)| generation);
        self.root.master_key(&self.log.user(), generation)
    }
}

/// The public half of a generation's key pair, as the log has it.
pub(crate) fn kem(master_key: &AccountMasterKey, user: &UserId) -> Payload {
    let public_key = Box::new(*master_key.user_kem(user).public_key());
    Payload::UserKem { generation: master_key.generation(), public_key }
}

/// The public half of a recovery key, as the log has it.
pub(crate) fn recovery(key: &RecoveryKey, user: &UserId, generation: u32) -> Payload {
    Payload::RecoveryKey { generation, public_key: key.sign_in_key(user, generation).public_key() }
}
