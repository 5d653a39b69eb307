//! What can go wrong inside an operation, before it is told to the outside.
//!
//! Owns the one mapping from a database's errors to [`StoreError`], and what is worth a second try. Knows nothing of
//! the operations: a refusal that can be foreseen is decided where it is seen, not guessed from an error here.

use super::{Refused, StoreError};
use diesel::result::{DatabaseErrorKind, Error as Database};

/// An operation's own result; the backend turns it into a [`super::Result`].
pub(super) type Outcome<T> = std::result::Result<T, Failure>;

#[derive(Debug)]
pub(super) enum Failure {
    /// Decided by the operation.
    Decided(StoreError),
    Database(Database),
}

impl Failure {
    pub(super) fn not_found(what: &'static str) -> Self {
        Failure::Decided(StoreError::NotFound(what))
    }

    /// A value in the database that no operation writes.
    pub(super) fn corrupt(what: &'static str) -> Self {
        Failure::Decided(StoreError::Internal(Box::new(Corrupt(what))))
    }

    /// Somebody else is at it.
    pub(super) fn busy(what: &'static str) -> Self {
        Failure::Decided(unavailable(what))
    }

    /// Something that cannot happen has happened.
    pub(super) fn bug(what: &'static str) -> Self {
        Failure::Decided(StoreError::Internal(what.into()))
    }

    /// Worth one more try: another transaction was in the way, or was faster and has left a state in which the
    /// operation decides differently (a unique key taken, or a row that was to be referred to gone, between its look
    /// and its leap).
    pub(super) fn is_a_race(&self) -> bool {
        match self {
            Failure::Database(Database::DatabaseError(kind, info)) => {
                matches!(
                    kind,
                    DatabaseErrorKind::SerializationFailure
                        | DatabaseErrorKind::UniqueViolation
                        | DatabaseErrorKind::ForeignKeyViolation
                ) || info.message() == "deadlock detected"
            }
            _ => false,
        }
    }
}

impl From<Database> for Failure {
    fn from(error: Database) -> Self {
        Failure::Database(error)
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Failure::Decided(StoreError::Refused(refused))
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Decided(error) => error,
            Failure::Database(error) => match &error {
                Database::DatabaseError(kind, info) if passes(kind, info.message()) => unavailable(error),
                Database::BrokenTransactionManager => unavailable(error),
                _ => StoreError::Internal(Box::new(error)),
            },
        }
    }
}

pub(super) fn unavailable(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Unavailable(source.into())
}

#[derive(Debug, thiserror::Error)]
#[error("a stored {0} has a shape that nothing writes")]
struct Corrupt(&'static str);

/// Whether the same request may well succeed later. Diesel keeps no SQLSTATE for most of these, so the message decides;
/// in another language than English they fall to `Internal`, which is told the same way but not retried by clients.
fn passes(kind: &DatabaseErrorKind, message: &str) -> bool {
    const PASSING: &[&str] = &[
        // Postgres
        "deadlock detected",
        "canceling statement due to",
        "terminating connection due to",
        "the database system is",
        "sorry, too many clients already",
        "could not extend file",
        // SQLite
        "database is locked",
        "database table is locked",
        "database or disk is full",
    ];
    matches!(
        kind,
        DatabaseErrorKind::SerializationFailure
            | DatabaseErrorKind::UnableToSendCommand
            | DatabaseErrorKind::ClosedConnection
            | DatabaseErrorKind::ReadOnlyTransaction
    ) || PASSING.iter().any(|start| message.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(kind: DatabaseErrorKind, message: &str) -> Failure {
        Failure::Database(Database::DatabaseError(kind, Box::new(message.to_owned())))
    }

    #[test]
    fn what_passes_is_told_apart_from_what_does_not() {
        for (kind, message) in [
            (DatabaseErrorKind::Unknown, "database is locked"),
            (DatabaseErrorKind::Unknown, "canceling statement due to statement timeout"),
            (DatabaseErrorKind::UnableToSendCommand, "connection closed"),
            (DatabaseErrorKind::SerializationFailure, "could not serialize access"),
        ] {
            assert!(matches!(database(kind, message).into(), StoreError::Unavailable(_)), "{message}");
        }
        assert!(matches!(database(DatabaseErrorKind::CheckViolation, "no").into(), StoreError::Internal(_)));
        assert!(matches!(Database::NotFound.into(), Failure::Database(_)));
    }

    #[test]
    fn only_races_are_tried_again() {
        assert!(database(DatabaseErrorKind::UniqueViolation, "").is_a_race());
        assert!(database(DatabaseErrorKind::Unknown, "deadlock detected").is_a_race());
        assert!(!database(DatabaseErrorKind::CheckViolation, "").is_a_race());
        assert!(!Failure::from(Refused::LogMoved).is_a_race());
    }
}
