//! Versions of records written into another vault, with their ids and stamps.
//!
//! Owns what of them is written and what is there already. Each is an edit like any of the app's, on top of what the
//! other vault says. Blocks on the disk.

use crate::error::{Error, Result};
use crate::records::view;
use crate::store::vaults::{NewWrite, Together};
use crate::sync::room::Room;
use selkie_protocol::id::{RecordId, VaultId};
use selkie_protocol::record::{Hlc, RecordBody};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// As many as travel in one entry.
pub(crate) const BATCH: usize = 256;
/// How often something is decided again because somebody else was faster.
pub(crate) const TRIES: usize = 16;
/// A stamp that is later than this from now is a clock that went wrong, and would win every conflict for years.
const MOST_AHEAD_MS: u64 = 24 * 60 * 60 * 1000;

/// A version that is to be carried over.
pub(crate) struct Load {
    pub(crate) record: RecordId,
    pub(crate) body: RecordBody,
    /// What the record says in the end, on this side.
    pub(crate) last: bool,
}

/// Writes down all of it, or nothing. The names of the records that were written to are added to `touched`.
pub(crate) fn put(
    to: &Room,
    into: &VaultId,
    loads: &[Load],
    together: Together,
    now_ms: u64,
    touched: &mut BTreeSet<RecordId>,
) -> Result<()> {
    for _ in 0..TRIES {
        let seen = to.store.stamp(into)?;
        let writes = decided(to, into, loads, now_ms, touched)?;
        if writes.is_empty() {
            return Ok(());
        }
        if to.store.write_down(into, Some(seen), &writes, together)?.is_some() {
            touched.extend(writes.iter().map(|write| write.record));
            return Ok(());
        }
    }
    Err(busy())
}

/// What is written for them. `touched`: the records that were written to before, on this way over.
fn decided(
    to: &Room,
    into: &VaultId,
    loads: &[Load],
    now_ms: u64,
    touched: &BTreeSet<RecordId>,
) -> Result<Vec<NewWrite>> {
    let (mut writes, mut own) = (Vec::new(), BTreeMap::<RecordId, Standing>::new());
    for Load { record, body, last } in loads {
        let (body, is_ahead) = (dated(body, now_ms), is_ahead(&body.hlc, now_ms));
        let before = match own.get(record) {
            Some(standing) => Some(standing.clone()),
            // What the account's record says and this device does not keep is met when it is sent.
            None => view::read_if_here(to, into, record)?.map(|seen| Standing { body: seen.body, carried: false }),
        };
        // When it was written nobody knows; on top of what it was written on top of, at least.
        let is_newer = |theirs: &Standing| match is_ahead {
            true => touched.contains(record),
            false => theirs.body.hlc <= body.hlc,
        };
        let next = match before {
            None => vec![body],
            Some(theirs) if theirs.body.says_the_same(&body) => Vec::new(),
            Some(theirs) if theirs.carried || is_newer(&theirs) => vec![body],
            // The account says something newer, which stands. What this device said is in the history beneath it.
            Some(theirs) if *last && !was_said(to, into, record, &body)? => {
                let mut again = Arc::unwrap_or_clone(theirs.body);
                again.hlc = Hlc::after(again.hlc, now_ms);
                vec![body, again]
            }
            Some(_) => Vec::new(),
        };
        for body in &next {
            writes.push(view::sealed(to, into, *record, body)?);
        }
        let carried = next.len() == 1;
        own.extend(next.into_iter().next_back().map(|body| (*record, Standing { body: Arc::new(body), carried })));
    }
    Ok(writes)
}

/// What a record says in the other vault.
#[derive(Clone)]
struct Standing {
    body: Arc<RecordBody>,
    /// It came from here just now, so what comes next from here is newer.
    carried: bool,
}

/// What was written under a clock that is far ahead has the stamp of now.
fn dated(body: &RecordBody, now_ms: u64) -> RecordBody {
    let mut body = body.clone();
    if is_ahead(&body.hlc, now_ms) {
        body.hlc = Hlc::after(Hlc::default(), now_ms);
    }
    body
}

/// Whether a clock that went wrong has made the stamp.
pub(crate) fn is_ahead(hlc: &Hlc, now_ms: u64) -> bool {
    hlc.ms > now_ms.saturating_add(MOST_AHEAD_MS)
}

/// Whether it was carried over before, and something was written on top of it.
fn was_said(to: &Room, into: &VaultId, record: &RecordId, body: &RecordBody) -> Result<bool> {
    let versions = to.store.versions(into, record)?.into_iter().map(|version| version.sealed);
    let pending = to.store.pending_of(into, record)?.into_iter().map(|pending| pending.sealed);
    for sealed in versions.chain(pending) {
        if view::open(to, into, record, &sealed)?.says_the_same(body) {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(crate) fn busy() -> Error {
    Error::RetryLater { after: None, why: "another part of the app writes the same records all the time".into() }
}
