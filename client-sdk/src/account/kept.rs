//! What a device keeps of an account between two starts of the app.
//!
//! Owns the document: its public part in clear, its secrets sealed, its own copy of the account log. Knows nothing of
//! servers. Every change is: lock, read, change, write.

use crate::error::{Error, Result, SignInReason};
use crate::keys::at_rest::{Keychain, KeychainError, local_key};
use crate::store::{AccountStore, Folder};
use crate::trust::{Generations, Superseded};
use selkie_protocol::account_log::{AccountLog, Extends};
use selkie_protocol::bytes::{from_base64url, to_base64url};
use selkie_protocol::cipher::{AccountMasterKey, DeviceKey};
use selkie_protocol::id::{Incarnation, SessionId, UserId};
use selkie_protocol::session::RefreshTokenBytes;
use selkie_protocol::{Bytes, Face, Private};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use zeroize::Zeroizing;

const VERSION: u32 = 1;
const DOCUMENT: &str = "state";

/// How far this device has come with the account, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// No account at all: what this device keeps by itself until there is one.
    Alone,
    /// Written before the server is told: it may know the account or not.
    SigningUp,
    /// Written before the device is added: the account exists, it may know this device or not.
    Joining,
    SignedOut,
    SignedIn,
}

/// Everything, open.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) server_url: String,
    /// The name passwords of this account are bound to.
    pub(crate) server_name: String,
    pub(crate) tenant: Option<String>,
    pub(crate) login_name: Private,
    pub(crate) phase: Phase,
    /// Why the last session ended, if it did not end by being signed out here.
    pub(crate) ended: Option<SignInReason>,
    /// In which life of the server it was last in step. Missing until that was asked.
    pub(crate) life: Option<Life>,
    /// The log as this device has verified it; it only grows.
    pub(crate) log: AccountLog,
    pub(crate) entries: Vec<Bytes>,
    pub(crate) secrets: Secrets,
}

/// A life of the server: it begins another when it is restored from a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Life {
    pub(crate) incarnation: Incarnation,
    /// This device has known another before it: in this one keys may be lost that were made in that.
    restored: bool,
    /// The newest keys that were seen in this life.
    shown: Generations,
    /// Of the log, when the server had earlier keys than it speaks of: they are to be made anew.
    lost: Generations,
}

impl Life {
    /// The first that this device meets.
    pub(crate) fn first(incarnation: Incarnation) -> Self {
        let nothing = Generations::default();
        Life { incarnation, restored: false, shown: nothing, lost: nothing }
    }

    /// One that began with a restore.
    pub(crate) fn after_a_restore(incarnation: Incarnation) -> Self {
        Life { restored: true, ..Life::first(incarnation) }
    }

    /// Up to where earlier keys than these are a rollback and not a loss. `None`: always.
    pub(crate) fn may_have_lost_after(&self) -> Option<Generations> {
        self.restored.then_some(self.shown)
    }

    /// The server has earlier keys than this log speaks of.
    pub(crate) fn lacks_keys_of(&mut self, log: &AccountLog) {
        self.lost = Generations::of(log);
    }
}

/// What is sealed at rest.
#[derive(Clone)]
pub(crate) struct Secrets {
    pub(crate) device: Arc<DeviceKey>,
    /// Missing while signed out.
    pub(crate) master_key: Option<Arc<AccountMasterKey>>,
    /// `S1-...` in its one form.
    pub(crate) secret_key: Option<Private>,
    pub(crate) session: Option<KeptSession>,
    pub(crate) unconfirmed: Option<UnconfirmedSheet>,
}

/// The tokens of the present session.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeptSession {
    pub(crate) session: SessionId,
    pub(crate) access_token: Private,
    /// By this device's clock.
    pub(crate) good_until_ms: u64,
    refresh_token: Private,
}

/// Keys of a sheet that the person has not yet confirmed to have. Kept so that a crash between making them and showing
/// them locks nobody out; forgotten on confirmation.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UnconfirmedSheet {
    pub(crate) recovery_key: Private,
    pub(crate) generation: u32,
    /// Set where the Secret Key changes with it, and the server may not know the change yet.
    pub(crate) renewed: Option<RenewedSecretKey>,
}

/// What takes the place of a Secret Key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RenewedSecretKey {
    /// Missing for an account that goes without from now on.
    pub(crate) secret_key: Option<Private>,
}

impl KeptSession {
    pub(crate) fn new(tokens: &selkie_protocol::session::Tokens, now_ms: u64) -> Self {
        KeptSession {
            session: tokens.session,
            access_token: tokens.access_token.clone(),
            good_until_ms: now_ms.saturating_add(tokens.expires_in.saturating_mul(1000)),
            refresh_token: Private(to_base64url(tokens.refresh_token.as_ref())),
        }
    }

    pub(crate) fn refresh_token(&self) -> Result<RefreshTokenBytes> {
        let bytes = from_base64url(self.refresh_token.as_str()).map(Zeroizing::new);
        bytes
            .and_then(|bytes| Some(RefreshTokenBytes::from(<[u8; _]>::try_from(bytes.as_slice()).ok()?)))
            .ok_or_else(|| Error::Corrupt("the session".into()))
    }
}

impl Kept {
    pub(crate) fn user(&self) -> UserId {
        self.log.user()
    }

    pub(crate) fn folder(&self) -> Folder {
        folder_of(&self.user())
    }

    /// Whether this device was certified and not revoked, as far as it knows.
    pub(crate) fn device_is_in_the_log(&self) -> bool {
        self.log.active_device(&self.secrets.device.id()).is_some()
    }

    /// A first check was passed, in a new life of the server or in the one that is known.
    pub(crate) fn live_on(&mut self, new: Option<Life>, superseded: Superseded) {
        let newest = Generations::of(&self.log);
        self.life = new.or(self.life).map(|life| match superseded.any() {
            true => Life { lost: newest, ..life },
            false => Life { shown: newest, lost: Generations::default(), ..life },
        });
    }

    /// The server has earlier keys than the log speaks of, and nobody has made newer ones since.
    pub(crate) fn keys_superseded(&self) -> bool {
        let (newest, lost) = (Generations::of(&self.log), self.life.map(|life| life.lost).unwrap_or_default());
        let is_lost = |newest: u32, lost: u32| lost > 0 && newest <= lost;
        is_lost(newest.password, lost.password) && is_lost(newest.recovery, lost.recovery)
    }

    /// Takes a log that goes on where this one ends. Any other changes nothing: another program on this device has seen
    /// more, or a person has given up there what is known here.
    pub(crate) fn take_log(&mut self, log: &AccountLog, entries: &[Bytes]) {
        if log.next_index() > self.log.next_index() && log.extends(&self.log.head()) == Extends::Yes {
            (self.log, self.entries) = (log.clone(), entries.to_vec());
        }
    }
}

/// One folder a person: the id is a hash, so two accounts never meet in one.
pub(crate) fn folder_of(user: &UserId) -> Folder {
    let hex: String = user.as_bytes()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    Folder::new(&hex).expect("hexadecimal digits make a folder name")
}

/// Reads and writes [`Kept`] through the store, with the keychain's key.
#[derive(Clone, Debug)]
pub(crate) struct Keeper {
    pub(crate) store: Arc<dyn AccountStore>,
    pub(crate) keychain: Arc<dyn Keychain>,
}

impl Keeper {
    /// The accounts that fit what is sought, by their public part. One that cannot be opened hides no other.
    pub(crate) fn find(&self, fits: impl Fn(&Glance) -> bool) -> Result<Vec<Kept>> {
        let mut found = Vec::new();
        for folder in self.folders(fits)? {
            found.extend(self.load(&folder)?);
        }
        Ok(found)
    }

    /// The folders of the accounts that fit; none of them is opened.
    pub(crate) fn folders(&self, fits: impl Fn(&Glance) -> bool) -> Result<Vec<Folder>> {
        let mut found = Vec::new();
        for folder in self.store.folders()? {
            match self.glance(&folder) {
                Ok(Some(glance)) if fits(&glance) => found.push(folder),
                Ok(_) => {}
                // Whose it is cannot be told, so it cannot be the one that is sought.
                Err(error) => tracing::warn!(%error, "an account in the data folder cannot be read"),
            }
        }
        Ok(found)
    }

    pub(crate) fn load(&self, folder: &Folder) -> Result<Option<Kept>> {
        let Some(bytes) = self.store.load(folder, DOCUMENT)? else {
            return Ok(None);
        };
        let document: Document = Face::Json.decode(&bytes).map_err(|error| Error::Corrupt(error.what))?;
        if document.version != VERSION {
            return Err(Error::UnsupportedProtocol("the data folder was written by another version of the app".into()));
        }
        let key = self.keychain.get(folder)?.ok_or_else(|| Error::Locked("there is no key for this account".into()))?;
        let key = selkie_protocol::cipher::LocalKey::from_bytes(&key);
        let opened = key
            .open(folder.as_str().as_bytes(), &document.sealed)
            .map_err(|_| Error::Locked("the key does not fit".into()))?;
        let form: SecretsForm = Face::Cbor.decode(&opened).map_err(|error| Error::Corrupt(error.what))?;
        let kept = document.open(form.open()?)?;
        if kept.folder() != *folder {
            return Err(Error::Corrupt("the folder holds another account".into()));
        }
        Ok(Some(kept))
    }

    /// The public part alone, for a list: needs no key.
    pub(crate) fn glance(&self, folder: &Folder) -> Result<Option<Glance>> {
        let Some(bytes) = self.store.load(folder, DOCUMENT)? else {
            return Ok(None);
        };
        Face::Json.decode(&bytes).map(Some).map_err(|error| Error::Corrupt(error.what))
    }

    /// Waits for other programs that are changing this account, then replaces what is kept.
    pub(crate) fn save(&self, kept: &Kept) -> Result<()> {
        let lock = self.store.lock(&kept.folder())?;
        self.save_locked(kept)?;
        drop(lock);
        Ok(())
    }

    /// For who holds the lock. The key is made under it too: two programs that begin at once would make two.
    pub(crate) fn save_locked(&self, kept: &Kept) -> Result<()> {
        let folder = kept.folder();
        let key = local_key(self.keychain.as_ref(), &folder)?;
        let plain = Zeroizing::new(Face::Cbor.encode(&SecretsForm::write(&kept.secrets)));
        let document = Document {
            version: VERSION,
            server_url: kept.server_url.clone(),
            server_name: kept.server_name.clone(),
            tenant: kept.tenant.clone(),
            login_name: kept.login_name.clone(),
            phase: kept.phase,
            ended: kept.ended,
            life: kept.life,
            entries: kept.entries.clone(),
            sealed: key.seal(folder.as_str().as_bytes(), &plain).into(),
        };
        Ok(self.store.save(&folder, DOCUMENT, &Face::Json.encode(&document))?)
    }

    pub(crate) fn forget(&self, folder: &Folder) -> Result<()> {
        // The key first: without it what remains of a folder half removed is noise.
        self.keychain.remove(folder)?;
        Ok(self.store.remove(folder)?)
    }

    /// Changes what is kept while no other program does. `None` if it is gone.
    pub(crate) fn change(&self, folder: &Folder, change: impl FnOnce(&mut Kept)) -> Result<Option<Kept>> {
        if self.store.load(folder, DOCUMENT)?.is_none() {
            return Ok(None);
        }
        let lock = self.store.lock(folder)?;
        let Some(mut kept) = self.load(folder)? else {
            return Ok(None);
        };
        change(&mut kept);
        self.save_locked(&kept)?;
        drop(lock);
        Ok(Some(kept))
    }
}

/// As it lies on the disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    server_url: String,
    server_name: String,
    tenant: Option<String>,
    login_name: Private,
    phase: Phase,
    ended: Option<SignInReason>,
    #[serde(default)]
    life: Option<Life>,
    entries: Vec<Bytes>,
    sealed: Bytes,
}

/// What a list of accounts shows.
#[derive(Deserialize)]
pub(crate) struct Glance {
    pub(crate) server_url: String,
    pub(crate) server_name: String,
    pub(crate) tenant: Option<String>,
    pub(crate) login_name: Private,
    pub(crate) phase: Phase,
}

/// Secrets as text that is wiped when dropped.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretsForm {
    device_seed: Private,
    master_key: Option<(u32, Private)>,
    secret_key: Option<Private>,
    session: Option<KeptSession>,
    unconfirmed: Option<UnconfirmedSheet>,
}

impl Document {
    fn open(self, secrets: Secrets) -> Result<Kept> {
        let log = AccountLog::replay(self.entries.iter().map(|entry| &**entry))
            .map_err(|refusal| Error::Corrupt(format!("the account log: {refusal}")))?;
        Ok(Kept {
            server_url: self.server_url,
            server_name: self.server_name,
            tenant: self.tenant,
            login_name: self.login_name,
            phase: self.phase,
            ended: self.ended,
            life: self.life,
            log,
            entries: self.entries,
            secrets,
        })
    }
}

impl SecretsForm {
    fn write(secrets: &Secrets) -> Self {
        SecretsForm {
            device_seed: Private(to_base64url(secrets.device.seed().as_slice())),
            master_key: secrets
                .master_key
                .as_ref()
                .map(|key| (key.generation(), Private(to_base64url(key.to_bytes().as_slice())))),
            secret_key: secrets.secret_key.clone(),
            session: secrets.session.clone(),
            unconfirmed: secrets.unconfirmed.clone(),
        }
    }

    fn open(self) -> Result<Secrets> {
        let master_key = match &self.master_key {
            Some((generation, key)) => {
                let key = key32(key)?;
                Some(Arc::new(AccountMasterKey::from_bytes(*generation, &key)))
            }
            None => None,
        };
        let device_seed = key32(&self.device_seed)?;
        Ok(Secrets {
            device: Arc::new(DeviceKey::from_seed(&device_seed)),
            master_key,
            secret_key: self.secret_key,
            session: self.session,
            unconfirmed: self.unconfirmed,
        })
    }
}

fn key32(text: &Private) -> Result<Zeroizing<[u8; 32]>> {
    let bytes = from_base64url(text.as_str()).map(Zeroizing::new);
    bytes
        .and_then(|bytes| bytes.as_slice().try_into().ok())
        .map(Zeroizing::new)
        .ok_or_else(|| Error::Corrupt("a key".into()))
}

impl From<KeychainError> for Error {
    fn from(error: KeychainError) -> Self {
        match error {
            KeychainError::Locked(why) => Error::Locked(why),
            KeychainError::File(source) => Error::Storage(source),
        }
    }
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("phase", &self.phase).finish_non_exhaustive()
    }
}
