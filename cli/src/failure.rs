//! What a failure means outside: an exit code, a sentence and what to do.
//!
//! Owns the table of exit codes that `--help` shows. Knows nothing of how things fail.

use selkie_client::{ArchiveError, Error};
use serde_json::json;

/// The command line asks for something that cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// What was to be proven, or to be sound, is not.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct DoesNotHold(pub(crate) &'static str);

pub(crate) fn exit_code(error: &anyhow::Error) -> u8 {
    if error.downcast_ref::<Usage>().is_some() {
        return 2;
    }
    match error.downcast_ref::<Error>() {
        Some(Error::SignInAgain { .. }) => 3,
        Some(Error::Offline(_) | Error::RetryLater { .. }) => 4,
        Some(
            Error::ServerMisbehaved { .. }
            | Error::Quarantined(_)
            | Error::ServerBehind { .. }
            | Error::TailReset { .. }
            | Error::AccountBehind { .. }
            | Error::KeysSuperseded
            | Error::UnsupportedProtocol(_)
            | Error::ServerNameDiffers { .. },
        ) => 5,
        Some(
            Error::Refused(_)
            | Error::LimitReached(_)
            | Error::WrongCredentials
            | Error::WrongKey(_)
            | Error::SecondFactorNeeded { .. }
            | Error::WeakPassword { .. }
            | Error::NotHere { .. }
            | Error::NotPossible(_),
        ) => 6,
        // The disk, and not what is in the file.
        Some(Error::Archive(ArchiveError::Reading(_) | ArchiveError::Writing(_))) => 1,
        Some(Error::Archive(_)) => 6,
        Some(Error::BadName(_) | Error::BadAddress(_)) => 2,
        _ => 1,
    }
}

/// For people.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    let mut text = format!("error: {error}");
    for cause in error.chain().skip(1) {
        text.push_str(&format!("\n  because: {cause}"));
    }
    if let Some(known) = error.downcast_ref::<Error>() {
        text.push_str(&format!("\n{}", advice(known)));
        if let Error::Refused(refusal) | Error::LimitReached(refusal) = known {
            text.push_str(&format!("\n(request {})", refusal.request_id));
        }
    }
    text
}

/// For scripts.
pub(crate) fn object(error: &anyhow::Error) -> serde_json::Value {
    let known = error.downcast_ref::<Error>();
    let evidence = match known {
        Some(Error::ServerMisbehaved { evidence, .. }) => evidence.clone(),
        Some(Error::Quarantined(quarantine)) => quarantine.evidence.clone(),
        _ => None,
    };
    json!({ "error": {
        "kind": known.map_or(if exit_code(error) == 2 { "usage" } else { "failed" }, Error::word),
        "message": error.to_string(),
        "advice": known.map(advice),
        "code": known.and_then(Error::code).map(selkie_client::ErrorCode::word),
        "evidence": evidence,
        "exit_code": exit_code(error),
    }})
}

/// What to do, in the words of this command.
fn advice(error: &Error) -> String {
    match error {
        Error::ServerNameDiffers { announced, .. } => {
            format!("{} With this command: --server-name {announced}", error.advice())
        }
        Error::AccountBehind { .. } => format!("{} With this command: selkie sign-in --accept-loss", error.advice()),
        Error::KeysSuperseded => format!("{} With this command: selkie password change", error.advice()),
        Error::Damaged { .. } => format!("{} With this command: selkie storage repair", error.advice()),
        Error::Archive(ArchiveError::Sealed) => format!("{} With this command: --passphrase-file", error.advice()),
        _ => error.advice(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selkie_client::{Misbehaviour, SignInReason};

    #[test]
    fn every_kind_of_failure_has_its_code() {
        let code = |error: Error| exit_code(&anyhow::Error::from(error));
        assert_eq!(code(Error::SignInAgain { reason: SignInReason::SessionEnded }), 3);
        assert_eq!(code(Error::RetryLater { after: None, why: String::new() }), 4);
        assert_eq!(code(Error::ServerMisbehaved { kind: Misbehaviour::Fork, evidence: None }), 5);
        assert_eq!(code(Error::AccountBehind { missing: 1 }), 5);
        assert_eq!(code(Error::KeysSuperseded), 5);
        assert_eq!(code(Error::WrongCredentials), 6);
        assert_eq!(code(Error::Corrupt(String::new())), 1);
        assert_eq!(exit_code(&Usage("x".into()).into()), 2);
        assert_eq!(exit_code(&DoesNotHold("x").into()), 1);
    }

    #[test]
    fn context_does_not_hide_the_code() {
        let error = anyhow::Error::from(Error::WrongCredentials).context("signing in");
        assert_eq!(exit_code(&error), 6);
        assert!(sentence(&error).contains("Check all three"));
    }
}
