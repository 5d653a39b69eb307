//! Errors, named by what the app can do about them.
//!
//! Owns the words an app hears and whose move each is. Knows nothing of status codes: `api` translates those.

use crate::archive::ArchiveError;
use crate::store::StoreError;
use crate::transport::TransportError;
use selkie_protocol::ErrorCode;
use selkie_protocol::cipher::BadCode;
use std::path::PathBuf;
use std::time::Duration;

/// What everything here returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why something did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing reached the server, or nothing came back. What was asked may still have happened.
    #[error(transparent)]
    Offline(TransportError),

    /// The server is there and asks to be left alone for a while, or something on this device is busy.
    #[error("not just now: {why}")]
    RetryLater {
        /// How long, if the server said so.
        after: Option<Duration>,
        /// Why, for people.
        why: String,
    },

    /// This client works alone so far: see [`Client::use_server`](crate::Client::use_server).
    #[error("no server was named")]
    NoServer,

    /// What was asked needs an account, and these records are still this device's alone. They lack nothing for that.
    #[error("these records are on this device alone: there is no account yet")]
    NoAccount,

    /// The session is over or not enough. Nothing on the device is lost.
    #[error("sign in again: {reason}")]
    SignInAgain {
        /// Why.
        reason: SignInReason,
    },

    /// The name, the password or the Secret Key is wrong; nobody can say which.
    #[error("the name, the password or the Secret Key is wrong")]
    WrongCredentials,

    /// The account has a second factor. Ask for a code and repeat the call with it.
    #[error("{}", if *refused { "the code was not right" } else { "a code from the authenticator app is needed" })]
    SecondFactorNeeded {
        /// A code was given, and was not right.
        refused: bool,
    },

    /// This device cannot open what it keeps: the key of the app or of the keychain is missing or another one.
    #[error("the secrets on this device are locked: {0}")]
    Locked(String),

    /// A key or code that a person typed is not one, or is not the right one.
    #[error(transparent)]
    WrongKey(#[from] WrongKey),

    /// The password could be guessed. `score` goes from 0 to 4.
    #[error("the password is too easy to guess (strength {score} of 4, {needed} needed)")]
    WeakPassword {
        /// How strong it is, from 0 to 4.
        score: u8,
        /// How strong it must be.
        needed: u8,
    },

    /// A name that cannot be a login name.
    #[error(transparent)]
    BadName(#[from] selkie_protocol::name::NotALoginName),

    /// The address is not one to send anything to.
    #[error(transparent)]
    BadAddress(Box<crate::transport::HttpError>),

    /// A limit of the account's plan, named by the server.
    #[error("a limit is reached: {0}")]
    LimitReached(Refusal),

    /// The server speaks something this version does not. Nothing was sent that depends on understanding it.
    #[error("this version of the app does not understand the server: {0}")]
    UnsupportedProtocol(String),

    /// The server says it is called something else than the address it was reached at. Whoever relays between a
    /// person and their real server looks just like this.
    #[error("the server calls itself {announced:?}, not {expected:?}")]
    ServerNameDiffers {
        /// What it calls itself.
        announced: String,
        /// What the address says.
        expected: String,
    },

    /// What this device keeps of the account cannot be read.
    #[error("what this device keeps of the account is damaged: {0}")]
    Corrupt(String),

    /// The server showed something no honest server shows. Nothing of it was believed.
    #[error("the server misbehaved: {kind}")]
    ServerMisbehaved {
        /// What it did.
        kind: Misbehaviour,
        /// Where what was seen is kept, if it could be.
        evidence: Option<PathBuf>,
    },

    /// A vault is set apart, because the server was caught: now, or earlier.
    #[error("the vault is set apart: {}; expected {}, came {}", .0.kind, .0.expected, .0.found)]
    Quarantined(Box<Quarantine>),

    /// The server was restored from a backup and has lost the end of a vault's log, which no device could put back so
    /// far. Nothing is lost here.
    #[error("the server has lost the last {missing} entries of the vault")]
    ServerBehind {
        /// How many entries it lacks.
        missing: u64,
    },

    /// The server was restored from a backup, and the account went on there without entries of its log that this device
    /// knows: devices that were added or revoked, passwords that were set. Nothing is believed until a person agrees.
    #[error("the account went on without {missing} entries of its log, which the server has lost")]
    AccountBehind {
        /// How many of the entries that this device knows are not in it.
        missing: u64,
    },

    /// The server was restored from a backup and has an earlier password or recovery key than the account's.
    #[error("the server was restored from a backup and has an earlier password or recovery key of this account")]
    KeysSuperseded,

    /// After such a loss an owner has decided to go on without the lost entries. Nothing happens until a person agrees.
    #[error("an owner of the vault goes on without its last {lost} entries")]
    TailReset {
        /// How many entries of this device that costs.
        lost: u64,
    },

    /// The server will not, and says why.
    #[error("{0}")]
    Refused(Refusal),

    /// What this device keeps of its vaults is damaged. Nothing was written over it: [`Account::repair`] fetches again
    /// what the server has, and keeps what was not sent yet.
    ///
    /// [`Account::repair`]: crate::Account::repair
    #[error("what this device keeps of its vaults is damaged: {what}")]
    Damaged {
        /// What cannot be read.
        what: String,
        /// What the store says, if it was the store that noticed.
        source: Option<StoreError>,
    },

    /// The device's disk.
    #[error("the data folder cannot be used")]
    Storage(#[source] StoreError),

    /// A later version of the app wrote the record. It is kept as it is, and not written over.
    #[error("a later version of the app wrote this record of {collection:?} (version {version})")]
    NewerRecord {
        /// The collection it is in.
        collection: String,
        /// The version that wrote it.
        version: u32,
    },

    /// The record is in the vault's log, and what it says is not kept on this device: it was let go, or not fetched
    /// yet. [`Vault::fetch_records`](crate::Vault::fetch_records) brings it. Nothing was written.
    #[error("what the record {record} says is not kept on this device")]
    NotHere {
        /// Which record.
        record: selkie_protocol::id::RecordId,
    },

    /// An archive or a table of records was not taken, or could not be written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),

    /// What was asked cannot be done, as things stand; the reason says so in words for the person.
    #[error("{0}")]
    NotPossible(String),

    /// A mistake in the app.
    #[error("the SDK was misused: {0}")]
    ApiMisuse(String),
}

/// Why a password is needed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SignInReason {
    /// This device is signed out.
    #[error("this device is signed out")]
    SignedOut,
    /// The session has ended.
    #[error("the session has ended")]
    SessionEnded,
    /// This device was revoked.
    #[error("this device was revoked")]
    DeviceRevoked,
    /// This needs the password again.
    #[error("this needs the password again")]
    PasswordNeeded,
    /// The keys of the account were renewed on another device.
    #[error("the keys of the account were renewed on another device")]
    KeysRenewed,
    /// It refuses tokens that it has just given out. Only a server at fault does that, so the SDK stops asking.
    #[error(
        "the server refuses every token it gives out; this looks like a fault of the server or an attempt to have a password typed"
    )]
    ServerKeepsRefusing,
}

/// What was wrong with a key or code that a person typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrongKey {
    /// It is not well formed.
    #[error(transparent)]
    Code(#[from] BadCode),
    /// It is well formed and does not fit this account.
    #[error("the recovery key does not fit this account, or there is no such account")]
    RecoveryKey,
    /// That is not the recovery key on the sheet.
    #[error("that is not the recovery key on the sheet")]
    NotTheSheets,
    /// Nobody is waiting under this link code.
    #[error("nobody is waiting under this link code")]
    Link,
    /// A password may not contain the control character U+001F.
    #[error("a password may not contain the control character U+001F")]
    Password,
}

/// What only a dishonest, broken or restored server shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Misbehaviour {
    /// It offers an old password as the present one.
    #[error("it offers an old password as the present one")]
    PasswordRollback,
    /// It hides entries of the account log that this device has seen.
    #[error("it hides entries of the account log that this device has seen")]
    Rollback,
    /// It shows another account log than before.
    #[error("it shows another account log than before")]
    Fork,
    /// It shows an account log that its owner did not sign.
    #[error("it shows an account log that its owner did not sign")]
    ForgedLog,
    /// It sent keys that do not belong to this account.
    #[error("it sent keys that do not belong to this account")]
    WrongKeybag,
    /// It shows another person under this name.
    #[error("it shows another person under this name")]
    OtherIdentity,
    /// It lists a device that the account did not add.
    #[error("it lists a device that the account did not add")]
    UnknownDevice,
    /// Its answers contradict each other.
    #[error("its answers contradict each other")]
    Contradiction,
    /// It hides entries of a vault that it has acknowledged or shown before.
    #[error("it hides entries of a vault that it has acknowledged or shown before")]
    VaultRollback,
    /// It shows another log of a vault than before.
    #[error("it shows another log of a vault than before")]
    VaultFork,
    /// It shows an entry that may not stand in the vault's log.
    #[error("it shows an entry that may not stand in the vault's log")]
    ForgedEntry,
    /// It withholds what is written in a vault.
    #[error("it withholds what is written in a vault")]
    Withheld,
    /// It shows a checkpoint that does not say what is in the vault.
    #[error("it shows a checkpoint that does not say what is in the vault")]
    FalseCheckpoint,
    /// It signed two heads of a vault that contradict each other.
    #[error("it signed two heads of a vault that contradict each other")]
    TwoHeads,
    /// It goes on in a life that it has said is over.
    #[error("it goes on in a life that had ended when it was restored, as it said itself")]
    TwoLives,
    /// Its word about a vault is not signed with the key it is known by.
    #[error("its word about a vault is not signed with the key it is known by")]
    ForgedHead,
    /// It sent a key of a vault that is not the one the members agreed on.
    #[error("it sent a key of a vault that is not the one the members agreed on")]
    WrongVaultKey,
}

impl Misbehaviour {
    /// Whether what the server has signed says it, whatever is known here.
    pub(crate) fn proves_itself(self) -> bool {
        matches!(self, Misbehaviour::TwoHeads | Misbehaviour::ForgedHead)
    }
}

/// What a vault was set apart for: nothing is pushed from here or applied, until a person decides. What is on this
/// device stays readable and writable.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Quarantine {
    /// What the server did.
    pub kind: Misbehaviour,
    /// What an honest server would have shown, in words for a person.
    pub expected: String,
    /// What came.
    pub found: String,
    /// By this device's clock.
    pub at_ms: u64,
    /// Where what was seen is kept.
    pub evidence: Option<PathBuf>,
}

/// A refusal in the server's words, cleaned for display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it is, for programs.
    pub code: ErrorCode,
    /// What it is, for people.
    pub title: String,
    /// More about it, for people.
    pub detail: Option<String>,
    /// What would help, for people.
    pub advice: String,
    /// Names the request in the server's log.
    pub request_id: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.title)?;
        match &self.detail {
            Some(detail) => write!(f, " {detail}"),
            None => Ok(()),
        }
    }
}

impl Error {
    pub(crate) const OFFLINE: &str = "offline";
    pub(crate) const RETRY_LATER: &str = "retry_later";

    /// Whether the same call, unchanged, may succeed later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Error::Offline(_) | Error::RetryLater { .. })
    }

    /// Whether the account that was to be made was certainly not made. Any other failure, a garbled answer or a proxy's
    /// page among them, may have come after the server did what it was asked.
    pub(crate) fn made_no_account(&self) -> bool {
        matches!(
            self.code(),
            Some(
                ErrorCode::LoginNameTaken
                    | ErrorCode::InvitationRequired
                    | ErrorCode::InvitationInvalid
                    | ErrorCode::RegistrationClosed
                    | ErrorCode::InvalidField
                    | ErrorCode::LogEntryRefused
                    | ErrorCode::SignInExpired
            )
        )
    }

    /// One stable word, for programs that cannot match on the type.
    pub fn word(&self) -> &'static str {
        match self {
            Error::Offline(_) => Error::OFFLINE,
            Error::RetryLater { .. } => Error::RETRY_LATER,
            Error::NoServer => "no_server",
            Error::NoAccount => "no_account",
            Error::SignInAgain { .. } => "sign_in_again",
            Error::WrongCredentials => "wrong_credentials",
            Error::SecondFactorNeeded { .. } => "second_factor_needed",
            Error::Locked(_) => "locked",
            Error::WrongKey(_) => "wrong_key",
            Error::WeakPassword { .. } => "weak_password",
            Error::BadName(_) => "bad_name",
            Error::BadAddress(_) => "bad_address",
            Error::LimitReached(_) => "limit_reached",
            Error::UnsupportedProtocol(_) => "unsupported_protocol",
            Error::ServerNameDiffers { .. } => "server_name_differs",
            Error::Corrupt(_) => "corrupt",
            Error::ServerMisbehaved { .. } => "server_misbehaved",
            Error::Quarantined(_) => "quarantined",
            Error::ServerBehind { .. } => "server_behind",
            Error::AccountBehind { .. } => "account_behind",
            Error::KeysSuperseded => "keys_superseded",
            Error::TailReset { .. } => "tail_reset",
            Error::Refused(_) => "refused",
            Error::Damaged { .. } => "damaged",
            Error::Storage(_) => "storage",
            Error::NewerRecord { .. } => "newer_record",
            Error::NotHere { .. } => "not_here",
            Error::Archive(_) => "archive",
            Error::NotPossible(_) => "not_possible",
            Error::ApiMisuse(_) => "api_misuse",
        }
    }

    /// What a person can do about it, as one sentence or two.
    pub fn advice(&self) -> String {
        match self {
            Error::Offline(TransportError::TooLarge) => "Tell the people who run the server.".into(),
            Error::Offline(_) => "Check the connection and the address, and try again.".into(),
            Error::RetryLater { after: Some(after), .. } => format!("Try again in {} seconds.", after.as_secs().max(1)),
            Error::RetryLater { after: None, .. } => "Try again after a moment.".into(),
            Error::NoServer => "Name the server first.".into(),
            Error::NoAccount => "Sign up, or sign in: what is here comes along.".into(),
            Error::SignInAgain { reason: SignInReason::ServerKeepsRefusing } => {
                "Do not type the password. Tell the people who run the server.".into()
            }
            Error::SignInAgain { .. } => "Sign in again; nothing on this device is lost.".into(),
            Error::WrongCredentials => "Check all three. The server cannot tell which it was.".into(),
            Error::SecondFactorNeeded { .. } => {
                "Give a code from the authenticator app, or one of the recovery codes.".into()
            }
            Error::Locked(_) => "Unlock the keychain, or give the key the app was set up with.".into(),
            Error::WrongKey(WrongKey::Link) => "Start again on the signed-in device.".into(),
            Error::WrongKey(_) => "Check what was typed against the sheet or the other screen.".into(),
            Error::WeakPassword { .. } => "Use several unrelated words.".into(),
            Error::BadAddress(_) => "Check the address of the server.".into(),
            Error::BadName(_) => "Choose another name.".into(),
            Error::UnsupportedProtocol(_) | Error::NewerRecord { .. } => "Update the app.".into(),
            Error::ServerNameDiffers { .. } => {
                "Check the address. If you know that the server moved or has this name, say so explicitly.".into()
            }
            Error::Corrupt(_) => "Remove the account from this device and sign in again.".into(),
            Error::ServerMisbehaved { evidence: Some(path), .. } => format!(
                "Nothing was believed. Ask the people who run the server whether it was restored from a backup. \
                 What was seen is kept in {}.",
                path.display()
            ),
            Error::ServerMisbehaved { evidence: None, .. } => {
                "Nothing was believed. Ask the people who run the server whether it was restored from a backup.".into()
            }
            Error::Quarantined(_) => "Nothing was believed, and what is on this device is safe. Ask the people who \
                                      run the server, and show them the evidence."
                .into(),
            Error::ServerBehind { .. } => {
                "Open the app on other devices: any that has the entries puts them back. If none has, an owner of \
                 the vault can go on without them."
                    .into()
            }
            Error::AccountBehind { .. } => {
                "If you know that the server was restored, and of every device that was added since, sign in again and \
                 accept it. If not, ask the people who run the server."
                    .into()
            }
            Error::KeysSuperseded => {
                "On a device that is in the account already, change the password: until then the earlier one counts."
                    .into()
            }
            Error::TailReset { .. } => "Look at what is lost, then accept it or ask the owner.".into(),
            Error::LimitReached(refusal) | Error::Refused(refusal) => refusal.advice.clone(),
            Error::Damaged { .. } => {
                "Nothing was written over it. Let the app repair it: what the server has is fetched \
                                      again, and what was not sent yet is kept."
                    .into()
            }
            Error::Storage(error) => error.advice().into(),
            Error::NotHere { .. } => "Fetch it from the server, and try again.".into(),
            Error::Archive(why) => why.advice().into(),
            Error::NotPossible(_) => "Nothing was changed.".into(),
            Error::ApiMisuse(_) => "This is a mistake in the app: please report it.".into(),
        }
    }

    /// Something of a vault cannot be read here.
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Error::Damaged { what: what.into(), source: None }
    }

    pub(crate) fn misbehaved(kind: Misbehaviour) -> Self {
        Error::ServerMisbehaved { kind, evidence: None }
    }

    pub(crate) fn sign_in_again(reason: SignInReason) -> Self {
        Error::SignInAgain { reason }
    }

    /// The server's word for it, where it had one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Error::Refused(refusal) | Error::LimitReached(refusal) => Some(refusal.code),
            _ => None,
        }
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        match error.is_damage() {
            true => Error::Damaged { what: "the file does not hold together".into(), source: Some(error) },
            false => Error::Storage(error),
        }
    }
}

impl From<BadCode> for Error {
    fn from(bad: BadCode) -> Self {
        Error::WrongKey(WrongKey::Code(bad))
    }
}

impl From<selkie_protocol::name::ContainsSeparator> for Error {
    fn from(_: selkie_protocol::name::ContainsSeparator) -> Self {
        Error::WrongKey(WrongKey::Password)
    }
}

impl From<crate::edges::Abandoned> for Error {
    fn from(_: crate::edges::Abandoned) -> Self {
        Error::ApiMisuse("the async runtime was shut down under a running call".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_pass_by_itself_is_retryable() {
        assert!(Error::Offline(TransportError::TimedOut).is_retryable());
        assert!(Error::RetryLater { after: None, why: String::new() }.is_retryable());
        assert!(!Error::WrongCredentials.is_retryable());
        assert!(!Error::sign_in_again(SignInReason::SessionEnded).is_retryable());
        assert!(!Error::misbehaved(Misbehaviour::Fork).is_retryable());
    }

    #[test]
    fn a_401_loop_does_not_advise_to_type_the_password() {
        let error = Error::sign_in_again(SignInReason::ServerKeepsRefusing);
        assert!(error.advice().starts_with("Do not type the password"));
        assert!(error.to_string().contains("refuses every token"));
    }
}
