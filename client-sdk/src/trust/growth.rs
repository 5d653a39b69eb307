//! A log that was seen once may only grow.
//!
//! Owns the comparison of a served log with the one this device has. Knows nothing of keys and requests.

use crate::error::Misbehaviour;
use selkie_protocol::Bytes;
use selkie_protocol::account_log::{AccountLog, Entry, Extends};
use selkie_protocol::id::UserId;

/// Whether a whole log contains everything that was seen before.
pub(crate) fn not_behind(log: &AccountLog, seen: &AccountLog) -> Result<(), Misbehaviour> {
    match log.extends(&seen.head()) {
        Extends::Yes => Ok(()),
        Extends::Shorter => Err(Misbehaviour::Rollback),
        Extends::Forked => Err(Misbehaviour::Fork),
    }
}

/// Our log with what the server shows from our last entry on. The last entry is asked for again, so that a server that
/// replaced the past is noticed even if it adds nothing. Returns the new entries with the log.
pub(crate) fn grown(
    ours: &AccountLog,
    our_last: &Bytes,
    served: &[Bytes],
) -> Result<(AccountLog, Vec<Bytes>), Misbehaviour> {
    let Some((first, new)) = served.split_first() else {
        return Err(Misbehaviour::Rollback);
    };
    if first != our_last {
        return Err(Misbehaviour::Fork);
    }
    let mut log = ours.clone();
    for bytes in new {
        let entry = Entry::parse(bytes).map_err(|_| Misbehaviour::ForgedLog)?;
        log.append(&entry).map_err(|_| Misbehaviour::ForgedLog)?;
    }
    Ok((log, new.to_vec()))
}

/// How a whole log that is shown by a server in another life stands to ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stands {
    /// All of ours is in it.
    Whole,
    /// It is the beginning of ours: an honest restore has lost the rest.
    Part { common: usize },
    /// Both go on after these entries, each in its own way.
    Parted { common: usize },
}

/// Compares whole logs, entry by entry.
pub(crate) fn stands(ours: &[Bytes], served: &[Bytes]) -> Stands {
    let common = ours.iter().zip(served).take_while(|(ours, theirs)| ours == theirs).count();
    if common == ours.len() {
        Stands::Whole
    } else if common == served.len() && common > 0 {
        Stands::Part { common }
    } else {
        Stands::Parted { common }
    }
}

/// Somebody else's log, verified from the beginning or as a continuation of what is known of it.
pub(crate) fn person(
    user: &UserId,
    known: Option<&AccountLog>,
    known_entries: Option<&Vec<Bytes>>,
    served: &[Bytes],
) -> Result<(AccountLog, Vec<Bytes>), Misbehaviour> {
    if let (Some(known), Some(entries)) = (known, known_entries)
        && let Some(last) = entries.last()
    {
        let (log, new) = grown(known, last, served)?;
        return Ok((log, entries.iter().cloned().chain(new).collect()));
    }
    let log = AccountLog::replay(served.iter().map(|entry| &**entry)).map_err(|_| Misbehaviour::ForgedLog)?;
    if log.user() == *user { Ok((log, served.to_vec())) } else { Err(Misbehaviour::OtherIdentity) }
}
