//! The server's master key, and what is derived from it.
//!
//! Owns the key's birth on first start, its file, and every use of it: sealing, authenticating, deriving, one key per
//! purpose. Knows nothing about what is sealed. A leaked database is of little use without this key, and the key is
//! never in the database: a backup of both equals the server.

use crate::config::{Config, DatabaseTarget, Secret};
use crate::edges::Dice;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

/// What a derived key is for. A key of one purpose opens and proves nothing of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Seals the server's half of OPAQUE.
    OpaqueSetup,
    /// Seals a sign-in between its two steps.
    LoginState,
    /// Seals the keys that sign access tokens.
    SigningKey,
    /// Seals the secrets of authenticator apps.
    SecondFactor,
    /// Signs what the server says of its vaults' logs.
    HeadKey,
    /// Makes what a poll says of all vaults at once.
    PollState,
    /// Authenticates what a sign-up carries from its first step to its second.
    RegistrationToken,
    /// Authenticates the challenges that devices sign.
    Challenge,
    /// Makes the secret part of refresh tokens.
    RefreshToken,
    /// Makes the same answer for the same unknown name.
    Enumeration,
    /// Hashes accounts in the log.
    LogSalt,
}

/// 32 bytes from which everything else is derived.
pub struct MasterKey {
    key: Zeroizing<[u8; KEY_LENGTH]>,
    /// Of [`Purpose::LogSalt`]: every request is logged.
    log_salt: OnceLock<hmac::Key>,
    dice: Arc<dyn Dice>,
}

/// A hash of the master key, for the database to remember: a wrong key is then noticed at start, not at a sign-in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(pub [u8; 16]);

/// Where the master key came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A setting.
    Configured,
    /// The file in the data folder, from an earlier start.
    Found(PathBuf),
    /// The file in the data folder, made just now.
    Made(PathBuf),
}

/// It would not open: another key, another purpose, another place, or somebody changed it. Which, is not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the sealed value does not open")]
pub struct DoesNotOpen;

/// There is no master key to start with.
#[derive(Debug, thiserror::Error)]
pub enum MasterKeyError {
    #[error(
        "with PostgreSQL the master key must be given: make one with `head -c 32 /dev/urandom | base64 > master.key`, \
         `chmod 600 master.key`, keep a copy apart from the database's backups, and name it in master_key.key_file \
         (SELKIE_MASTER_KEY_FILE)"
    )]
    Missing,
    #[error("the master key is not 32 bytes in base64 (44 characters) or hexadecimal (64 characters)")]
    NotAKey,
    #[error("{0}")]
    ReadableByOthers(String),
    #[error(
        "{database} is there, but its master key {key} is not: put the key back, or restore both from a backup. \
         A new key could open nothing in that database"
    )]
    Lost { database: PathBuf, key: PathBuf },
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: io::Error },
}

const KEY_LENGTH: usize = 32;
/// Of the file in the data folder.
pub(crate) const FILE_NAME: &str = "master.key";

/// The only layout so far: version, 12 bytes that choose the key, 12 bytes nonce, ciphertext, tag. With 24 random bytes
/// no server lives long enough to repeat them; 12 alone would be enough for some four thousand million values only.
const VERSION: u8 = 1;
const CHOOSER_LENGTH: usize = 12;
const HEADER_LENGTH: usize = 1 + CHOOSER_LENGTH + NONCE_LEN;

impl MasterKey {
    pub fn new(key: impl Into<Zeroizing<[u8; KEY_LENGTH]>>, dice: Arc<dyn Dice>) -> Self {
        MasterKey { key: key.into(), log_salt: OnceLock::new(), dice }
    }

    /// The key that is configured; else, for an embedded server, the one in the data folder, made on first start.
    pub fn load(config: &Config, dice: Arc<dyn Dice>) -> Result<(Self, KeySource), MasterKeyError> {
        if let Some(text) = &config.master_key.key {
            return Ok((Self::parse(text, dice)?, KeySource::Configured));
        }
        let DatabaseTarget::Sqlite(database) = config.database() else { return Err(MasterKeyError::Missing) };
        let path = config.data.dir.join(FILE_NAME);
        match Self::read(&path, dice.clone()) {
            Err(MasterKeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            found => return found.map(|key| (key, KeySource::Found(path))),
        }
        if database.exists() {
            return Err(MasterKeyError::Lost { database, key: path });
        }
        let key = Self::make(&path, dice)?;
        Ok((key, KeySource::Made(path)))
    }

    fn parse(text: &Secret, dice: Arc<dyn Dice>) -> Result<Self, MasterKeyError> {
        let text = text.reveal().trim();
        let bytes = Zeroizing::new(match text.len() {
            64 => from_hex(text).ok_or(MasterKeyError::NotAKey)?,
            _ => STANDARD.decode(text).map_err(|_| MasterKeyError::NotAKey)?,
        });
        let mut key = Zeroizing::new([0; KEY_LENGTH]);
        if bytes.len() != key.len() {
            return Err(MasterKeyError::NotAKey);
        }
        key.copy_from_slice(&bytes);
        Ok(Self::new(key, dice))
    }

    fn read(path: &Path, dice: Arc<dyn Dice>) -> Result<Self, MasterKeyError> {
        let metadata = fs::metadata(path).map_err(at(path))?;
        crate::config::refuse_readable_by_others(path, &metadata).map_err(MasterKeyError::ReadableByOthers)?;
        let text = Secret::new(fs::read_to_string(path).map_err(at(path))?);
        Self::parse(&text, dice)
    }

    /// Makes a key and its file. The file appears complete or not at all, and never over another: of two servers that
    /// start at once, both use the first one's key.
    fn make(path: &Path, dice: Arc<dyn Dice>) -> Result<Self, MasterKeyError> {
        let folder = path.parent().unwrap_or(Path::new("."));
        make_private_folder(folder).map_err(at(folder))?;
        let mut bytes = Zeroizing::new([0; KEY_LENGTH]);
        dice.fill(bytes.as_mut());
        let text = Zeroizing::new(STANDARD.encode(*bytes) + "\n");

        let mut nobody_else = [0; 8];
        dice.fill(&mut nobody_else);
        let draft = folder.join(format!(".{FILE_NAME}.{:016x}", u64::from_be_bytes(nobody_else)));
        let linked = || match fs::hard_link(&draft, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
            // Some file systems have no links. Then the key is written in place, still never over another.
            Err(_) => write_private_file(path, text.as_bytes()),
            Ok(()) => Ok(()),
        };
        let written = write_private_file(&draft, text.as_bytes()).and_then(|()| linked());
        let removed = fs::remove_file(&draft);
        match written {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Self::read(path, dice),
            written => written.and(removed).and_then(|()| File::open(folder)?.sync_all()).map_err(at(path))?,
        }
        Ok(Self::new(bytes, dice))
    }

    /// The key of a purpose.
    pub fn derive(&self, purpose: Purpose) -> Zeroizing<[u8; KEY_LENGTH]> {
        self.expand(&[LABEL, purpose.label()])
    }

    /// Seals a value. The same `aad` (what it is, whose, which row) must be given to open it.
    pub fn seal(&self, purpose: Purpose, aad: &[&[u8]], plaintext: &[u8]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(HEADER_LENGTH + plaintext.len() + AES_256_GCM.tag_len());
        sealed.resize(HEADER_LENGTH, VERSION);
        self.dice.fill(&mut sealed[1..]);
        let (key, nonce) = self.key_and_nonce(purpose, &sealed[1..]);
        let mut body = Zeroizing::new(plaintext.to_vec());
        let tag = key
            .seal_in_place_separate_tag(nonce, Aad::from(unambiguous(aad)), &mut body)
            .expect("AES-GCM seals anything shorter than 64 GiB");
        sealed.extend_from_slice(&body);
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    pub fn open(&self, purpose: Purpose, aad: &[&[u8]], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, DoesNotOpen> {
        let (header, body) = sealed.split_at_checked(HEADER_LENGTH).ok_or(DoesNotOpen)?;
        if header[0] != VERSION {
            return Err(DoesNotOpen);
        }
        let (key, nonce) = self.key_and_nonce(purpose, &header[1..]);
        let mut body = Zeroizing::new(body.to_vec());
        let length = key.open_in_place(nonce, Aad::from(unambiguous(aad)), &mut body).map_err(|_| DoesNotOpen)?.len();
        body.truncate(length);
        Ok(body)
    }

    /// Authenticates values, each for itself: `["ab", "c"]` is not `["a", "bc"]`.
    pub fn mac(&self, purpose: Purpose, parts: &[&[u8]]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.derive(purpose).as_ref());
        let tag = hmac::sign(&key, &unambiguous(parts));
        tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// The same for what stands in the log.
    pub fn log_mac(&self, part: &[u8]) -> [u8; 32] {
        let derive = || hmac::Key::new(hmac::HMAC_SHA256, self.derive(Purpose::LogSalt).as_ref());
        let tag = hmac::sign(self.log_salt.get_or_init(derive), &unambiguous(&[part]));
        tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
    }

    /// Compares in constant time. A shortened tag matches nothing.
    pub fn mac_matches(&self, purpose: Purpose, parts: &[&[u8]], tag: &[u8]) -> bool {
        self.mac(purpose, parts).ct_eq(tag).into()
    }

    pub fn fingerprint(&self) -> Fingerprint {
        let long = self.expand(&[LABEL, b"fingerprint"]);
        Fingerprint(std::array::from_fn(|i| long[i]))
    }

    fn key_and_nonce(&self, purpose: Purpose, random: &[u8]) -> (LessSafeKey, Nonce) {
        let (chooser, nonce) = random.split_at(CHOOSER_LENGTH);
        let key = self.expand(&[LABEL, purpose.label(), b" seal ", chooser]);
        let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).expect("AES-256 takes 32 bytes");
        (LessSafeKey::new(key), Nonce::try_assume_unique_for_key(nonce).expect("the header has room for a nonce"))
    }

    fn expand(&self, info: &[&[u8]]) -> Zeroizing<[u8; KEY_LENGTH]> {
        let mut derived = Zeroizing::new([0; KEY_LENGTH]);
        // The master key is 32 uniform bytes already, so HKDF's first step has nothing to extract.
        hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, self.key.as_ref())
            .expand(info, hkdf::HKDF_SHA256)
            .and_then(|okm| okm.fill(derived.as_mut()))
            .expect("HKDF-SHA-256 gives 32 bytes");
        derived
    }
}

const LABEL: &[u8] = b"selkie/server/v1 ";

impl Purpose {
    /// Part of every derived key: these words never change.
    fn label(self) -> &'static [u8] {
        match self {
            Purpose::OpaqueSetup => b"opaque-setup",
            Purpose::LoginState => b"login-state",
            Purpose::SigningKey => b"signing-key",
            Purpose::SecondFactor => b"second-factor",
            Purpose::HeadKey => b"head-key",
            Purpose::RegistrationToken => b"registration-token",
            Purpose::Challenge => b"challenge",
            Purpose::RefreshToken => b"refresh-token",
            Purpose::Enumeration => b"enumeration",
            Purpose::PollState => b"poll-state",
            Purpose::LogSalt => b"log-salt",
        }
    }
}

/// Keeps this process's memory out of core dumps and away from other processes of the same user.
pub fn forbid_core_dumps() -> io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Makes a folder that only we can look into. One that is there is left as it is.
pub fn make_private_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

fn write_private_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> MasterKeyError + '_ {
    |source| MasterKeyError::Io { path: path.to_owned(), source }
}

/// Each part behind its length, so that no two lists read the same.
fn unambiguous(parts: &[&[u8]]) -> Vec<u8> {
    let mut joined = Vec::with_capacity(parts.iter().map(|part| 8 + part.len()).sum());
    for part in parts {
        joined.extend_from_slice(&(part.len() as u64).to_be_bytes());
        joined.extend_from_slice(part);
    }
    joined
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| (*byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair.first()?)? << 4 | digit(pair.get(1)?)?)).collect()
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(***)")
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edges::Edges;

    fn key(byte: u8) -> MasterKey {
        MasterKey::new([byte; 32], Edges::real().dice)
    }

    fn embedded(folder: &Path) -> Config {
        let mut config = Config::default();
        config.data.dir = folder.join("selkie-data");
        config
    }

    fn load(config: &Config) -> Result<(MasterKey, KeySource), MasterKeyError> {
        MasterKey::load(config, Edges::real().dice)
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_key_purpose_and_place_only() {
        let sealed = key(1).seal(Purpose::OpaqueSetup, &[b"setup", &[1]], b"crown jewel");
        assert_eq!(*key(1).open(Purpose::OpaqueSetup, &[b"setup", &[1]], &sealed).unwrap(), b"crown jewel");
        assert!(key(2).open(Purpose::OpaqueSetup, &[b"setup", &[1]], &sealed).is_err());
        assert!(key(1).open(Purpose::LoginState, &[b"setup", &[1]], &sealed).is_err());
        assert!(key(1).open(Purpose::OpaqueSetup, &[b"setup", &[2]], &sealed).is_err());
        assert!(key(1).open(Purpose::OpaqueSetup, &[b"setup\x01"], &sealed).is_err());
    }

    #[test]
    fn every_changed_bit_and_every_shortened_form_is_refused() {
        let sealed = key(1).seal(Purpose::LoginState, &[], b"x");
        for bit in 0..sealed.len() * 8 {
            let mut changed = sealed.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key(1).open(Purpose::LoginState, &[], &changed).unwrap_err(), DoesNotOpen);
        }
        for length in 0..sealed.len() {
            assert!(key(1).open(Purpose::LoginState, &[], &sealed[..length]).is_err());
        }
    }

    #[test]
    fn sealing_twice_gives_different_bytes() {
        assert_ne!(key(1).seal(Purpose::LoginState, &[], b"x"), key(1).seal(Purpose::LoginState, &[], b"x"));
    }

    #[test]
    fn a_mac_knows_where_one_part_ends_and_the_next_begins() {
        let tag = key(1).mac(Purpose::Challenge, &[b"ab", b"c"]);
        assert!(key(1).mac_matches(Purpose::Challenge, &[b"ab", b"c"], &tag));
        assert!(!key(1).mac_matches(Purpose::Challenge, &[b"a", b"bc"], &tag));
        assert!(!key(1).mac_matches(Purpose::RefreshToken, &[b"ab", b"c"], &tag));
        assert!(!key(1).mac_matches(Purpose::Challenge, &[b"ab", b"c"], &tag[..16]));
        assert!(!key(1).mac_matches(Purpose::Challenge, &[b"ab", b"c"], &[]));
    }

    #[test]
    fn derived_keys_keep_their_known_values() {
        // A change of these makes every database of every server unreadable. They were computed apart from this code,
        // as HMAC-SHA-256(07 07 ..., label | 01), which is the first block of HKDF-Expand.
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let derived = "4d043cb4e157593de72f2a376bd05693b565993f1fed0b2ea8ff21c99f621cce";
        assert_eq!(hex(key(7).derive(Purpose::OpaqueSetup).as_ref()), derived);
        let tag = "c7b536e142cc6b88e6d998b8314c5fa0ee0dbbfd201e0abbb4cac42e8fe58880";
        assert_eq!(hex(&key(7).mac(Purpose::RefreshToken, &[b"session", &[0, 0, 0, 1]])), tag);
        assert_eq!(key(7).log_mac(b"account"), key(7).mac(Purpose::LogSalt, &[b"account"]));
        assert_eq!(key(7).fingerprint().to_string(), "3cbe5e442cf0c96e7b9c48d66a601371");
    }

    #[test]
    fn a_master_key_can_be_neither_copied_nor_written_out() {
        // Compiles only while the master key has neither trait: with one, the call below would be ambiguous.
        trait Unless<Trait> {
            fn holds() {}
        }
        struct Copied;
        struct WrittenOut;
        impl<T> Unless<()> for T {}
        impl<T: Clone> Unless<Copied> for T {}
        impl<T: serde::Serialize> Unless<WrittenOut> for T {}
        <MasterKey as Unless<_>>::holds();
    }

    #[test]
    fn the_key_shows_itself_nowhere() {
        assert_eq!(format!("{:?}", key(1)), "MasterKey(***)");
    }

    #[test]
    fn an_embedded_server_makes_its_key_once() {
        let folder = tempfile::tempdir().unwrap();
        let config = embedded(folder.path());
        let path = config.data.dir.join("master.key");
        let (made, source) = load(&config).unwrap();
        assert_eq!(source, KeySource::Made(path.clone()));
        let (found, source) = load(&config).unwrap();
        assert_eq!(source, KeySource::Found(path));
        assert_eq!(made.fingerprint(), found.fingerprint());
        assert_eq!(fs::read_dir(&config.data.dir).unwrap().count(), 1, "no draft is left behind");
    }

    #[cfg(unix)]
    #[test]
    fn the_key_file_is_for_its_owner_alone_and_refused_when_it_is_not() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let config = embedded(folder.path());
        load(&config).unwrap();
        let path = config.data.dir.join("master.key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let refusal = load(&config).unwrap_err().to_string();
        assert!(refusal.contains("chmod 600") && refusal.contains("master.key"), "{refusal}");
    }

    #[test]
    fn two_servers_that_start_at_once_use_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let config = embedded(folder.path());
        let prints: Vec<_> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8).map(|_| scope.spawn(|| load(&config).unwrap().0.fingerprint())).collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(prints.iter().all(|print| *print == prints[0]));
    }

    #[test]
    fn a_database_without_its_key_is_not_given_a_new_one() {
        let folder = tempfile::tempdir().unwrap();
        let config = embedded(folder.path());
        fs::create_dir(&config.data.dir).unwrap();
        fs::write(config.data.dir.join("selkie.db"), "a database").unwrap();
        assert!(matches!(load(&config).unwrap_err(), MasterKeyError::Lost { .. }));
    }

    #[test]
    fn postgres_needs_a_key_from_outside_and_the_refusal_says_how_to_make_one() {
        let mut config = Config::default();
        config.database.url = Some(Secret::new("postgres://selkie@localhost/selkie"));
        let refusal = load(&config).unwrap_err().to_string();
        assert!(refusal.contains("head -c 32 /dev/urandom | base64") && refusal.contains("key_file"), "{refusal}");
        config.master_key.key = Some(Secret::new(STANDARD.encode([7; 32])));
        assert_eq!(load(&config).unwrap().0.fingerprint(), key(7).fingerprint());
        config.master_key.key = Some(Secret::new("07".repeat(32)));
        assert_eq!(load(&config).unwrap().0.fingerprint(), key(7).fingerprint());
    }

    #[test]
    fn what_is_not_a_key_is_refused_without_being_shown() {
        for text in ["", "hunter2", "zz", &"g".repeat(64), &STANDARD.encode([7; 31]), &STANDARD.encode([7; 33])] {
            let mut config = Config::default();
            config.master_key.key = Some(Secret::new(text));
            let refusal = load(&config).unwrap_err();
            assert!(matches!(refusal, MasterKeyError::NotAKey));
            assert!(text.is_empty() || !refusal.to_string().contains(text));
        }
    }
}
