//! The keys of one vault on this device, and the seal under which its content lies on the disk.
//!
//! Owns when a key counts: only if the vault's log commits to it. An epoch whose key is missing or another one is not
//! written in, and nothing is opened with a key that was not checked. Knows nothing of servers, stores or records.

use selkie_protocol::cipher::{AccountMasterKey, EpochKey, LocalKey, OpenError, RecordKey};
use selkie_protocol::id::{RecordId, UserId, VaultId};
use selkie_protocol::log::{BACK_LINK_LENGTH, Governance};
use selkie_protocol::vault::Wrap;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// The keys of a vault's epochs, as far as this device has them.
#[derive(Debug, Default)]
pub(crate) struct Keyring {
    keys: BTreeMap<u32, (EpochKey, RecordKey)>,
}

/// Links from one epoch's key to the one before, by the later epoch.
pub(crate) type BackLinks = BTreeMap<u32, selkie_protocol::Fixed<BACK_LINK_LENGTH>>;

/// What came of looking for keys among wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Keys of these many epochs that were not here before.
    New(usize),
    Nothing,
    /// A wrap for this person and key would not open, or held another key than the log commits to.
    Wrong {
        epoch: u32,
    },
}

impl Keyring {
    pub(crate) fn insert(&mut self, key: EpochKey) {
        let records = key.record_key();
        self.keys.insert(key.epoch(), (key, records));
    }

    pub(crate) fn has(&self, epoch: u32) -> bool {
        self.keys.contains_key(&epoch)
    }

    /// Opens and seals what was written in an epoch.
    pub(crate) fn records(&self, epoch: u32) -> Option<&RecordKey> {
        self.keys.get(&epoch).map(|(_, records)| records)
    }

    pub(crate) fn epoch(&self, epoch: u32) -> Option<&EpochKey> {
        self.keys.get(&epoch).map(|(key, _)| key)
    }

    pub(crate) fn epochs(&self) -> impl Iterator<Item = &EpochKey> {
        self.keys.values().map(|(key, _)| key)
    }

    /// Takes every key that some wrap holds and the log commits to, then walks back from each.
    pub(crate) fn open_wraps(
        &mut self,
        vault: VaultId,
        me: &UserId,
        master: &AccountMasterKey,
        wraps: &[Wrap],
        governance: &Governance,
        links: &BackLinks,
    ) -> Found {
        let before = self.keys.len();
        let kem = master.user_kem(me);
        let mut wrong = None;
        for wrap in wraps {
            let fits = wrap.uid == *me && wrap.generation == kem.generation() && !self.has(wrap.epoch);
            let Some(commitment) = governance.commitment(wrap.epoch).filter(|_| fits) else { continue };
            match EpochKey::open(vault, wrap.epoch, me, &kem, wrap.sealed.as_ref(), commitment) {
                Ok(key) => self.insert(key),
                Err(OpenError) => wrong = Some(wrap.epoch),
            }
        }
        self.walk_back(governance, links);
        match wrong.filter(|epoch| !self.has(*epoch)) {
            Some(epoch) => Found::Wrong { epoch },
            None if self.keys.len() > before => Found::New(self.keys.len() - before),
            None => Found::Nothing,
        }
    }

    /// Every key leads to the one before it. A link that does not is left alone: the key may still come by a wrap.
    pub(crate) fn walk_back(&mut self, governance: &Governance, links: &BackLinks) {
        for epoch in (2..=governance.epoch()).rev() {
            if self.has(epoch - 1) {
                continue;
            }
            let (Some((key, _)), Some(link)) = (self.keys.get(&epoch), links.get(&epoch)) else { continue };
            let Some(commitment) = governance.commitment(epoch - 1) else { continue };
            if let Ok(previous) = key.previous(link, commitment) {
                self.insert(previous);
            }
        }
    }
}

/// Seals what this device keeps of vaults. A content opens in its place and in no other.
#[derive(Debug)]
pub(crate) struct AtRest {
    key: LocalKey,
    in_the_clear: bool,
}

/// Before a record in the clear, and the tag that holds it to its place. What is sealed begins with 24 random bytes.
const IN_THE_CLEAR: &[u8] = b"in clear";

impl AtRest {
    pub(crate) fn new(key: LocalKey) -> Self {
        AtRest { key, in_the_clear: false }
    }

    /// Records are written as they are, where the platform seals the disk. Keys are sealed all the same. What was
    /// written in another way before is read as it lies.
    pub(crate) fn in_the_clear(self) -> Self {
        AtRest { in_the_clear: true, ..self }
    }

    pub(crate) fn seal_record(&self, vault: &VaultId, record: &RecordId, body: &[u8]) -> Vec<u8> {
        match self.in_the_clear {
            true => [IN_THE_CLEAR, self.clear_tag(vault, record, body).as_slice(), body].concat(),
            false => self.key.seal(&record_place(vault, record), body),
        }
    }

    pub(crate) fn open_record(
        &self,
        vault: &VaultId,
        record: &RecordId,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let Some(clear) = sealed.strip_prefix(IN_THE_CLEAR) else {
            return self.key.open(&record_place(vault, record), sealed);
        };
        let (tag, body) = clear.split_first_chunk::<16>().ok_or(OpenError)?;
        let is_as_written = *tag == self.clear_tag(vault, record, body);
        is_as_written.then(|| Zeroizing::new(body.to_vec())).ok_or(OpenError)
    }

    fn clear_tag(&self, vault: &VaultId, record: &RecordId, body: &[u8]) -> [u8; 16] {
        self.key.tag(&[b"in-clear\0".as_slice(), vault.as_bytes(), record.as_bytes(), body].concat())
    }

    pub(crate) fn seal_key(&self, key: &EpochKey) -> (u32, Vec<u8>) {
        (key.epoch(), self.key.seal(&key_place(&key.vault(), key.epoch()), key.to_bytes().as_slice()))
    }

    /// The key, if it is the one that the log commits to.
    pub(crate) fn open_key(
        &self,
        vault: &VaultId,
        epoch: u32,
        sealed: &[u8],
        commitment: &[u8; 32],
    ) -> Result<EpochKey, OpenError> {
        let bytes = self.key.open(&key_place(vault, epoch), sealed)?;
        let key = Zeroizing::new(<[u8; 32]>::try_from(bytes.as_slice()).map_err(|_| OpenError)?);
        EpochKey::from_bytes(*vault, epoch, &key, commitment)
    }

    /// The key of an epoch that this device wanted to begin, and that the log does not know yet.
    pub(crate) fn open_coming_key(&self, vault: &VaultId, epoch: u32, sealed: &[u8]) -> Option<EpochKey> {
        let bytes = self.key.open(&key_place(vault, epoch), sealed).ok()?;
        let key = Zeroizing::new(<[u8; 32]>::try_from(bytes.as_slice()).ok()?);
        EpochKey::uncommitted(*vault, epoch, &key)
    }

    /// What is kept of a vault beside its records, so that it is noticed if it is not what was written. It is no
    /// secret: what it says is what the server says.
    pub(crate) fn vouch(&self, vault: &VaultId, state: &[u8]) -> Vec<u8> {
        [&[VOUCHED], self.state_tag(vault, state).as_slice(), state].concat()
    }

    /// The state, if it is what was written. One that was kept before states were vouched for is taken as it is.
    pub(crate) fn vouched<'a>(&self, vault: &VaultId, kept: &'a [u8]) -> Option<&'a [u8]> {
        let Some((&VOUCHED, rest)) = kept.split_first() else { return Some(kept) };
        let (tag, state) = rest.split_first_chunk::<16>()?;
        (*tag == self.state_tag(vault, state)).then_some(state)
    }

    fn state_tag(&self, vault: &VaultId, state: &[u8]) -> [u8; 16] {
        self.key.tag(&[b"vault-state\0".as_slice(), vault.as_bytes(), state].concat())
    }

    /// The tag under which a collection is looked up here.
    pub(crate) fn shelf(&self, vault: &VaultId, collection: &str) -> [u8; 16] {
        self.key.tag(&[b"collection\0".as_slice(), vault.as_bytes(), collection.as_bytes()].concat())
    }
}

/// Before the tag of a state. No state begins so by itself: it is a map.
const VOUCHED: u8 = 1;

fn record_place(vault: &VaultId, record: &RecordId) -> Vec<u8> {
    [b"vault-record\0".as_slice(), vault.as_bytes(), record.as_bytes()].concat()
}

fn key_place(vault: &VaultId, epoch: u32) -> Vec<u8> {
    [b"vault-key\0".as_slice(), vault.as_bytes(), &epoch.to_be_bytes()].concat()
}
