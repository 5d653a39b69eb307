//! What an append of many vaults asks of the statements.

use super::{Arguments, Work, arrays, get};
use crate::store::Append;
use crate::store::columns;
use crate::store::failure::{Failure, Outcome};
use selkie_protocol::id::{ChangeId, RecordId};
use std::collections::{BTreeSet, HashMap};
use tokio_postgres::Row;

arrays!(Heads {
    i: i32,
    tenant: i64,
    vault: i32,
    before_n: i64,
    before_h: &'a [u8],
    n: i64,
    h: &'a [u8],
    added: i64,
});

arrays!(Entries {
    i: i32,
    tenant: i64,
    vault: i32,
    n: i64,
    kind: i16,
    dev_seq: i64,
    received_at: i64,
    h: &'a [u8],
    hash: &'a [u8],
    device: &'a [u8],
    frame: &'a [u8],
});

arrays!(Changes {
    i: i32,
    tenant: i64,
    vault: i32,
    record: &'a [u8],
    place: i64,
    change: &'a [u8],
    whole: bool,
    superseded_at: Option<i64>,
    unheaded_at: Option<i64>,
});

arrays!(Ends {
    i: i32,
    tenant: i64,
    vault: i32,
    record: &'a [u8],
    change: &'a [u8],
    superseded_at: Option<i64>,
    unheaded_at: Option<i64>,
});

arrays!(States {
    i: i32,
    tenant: i64,
    vault: i32,
    n: i64,
    state: &'a [u8],
});

/// The end of a change: from which entry on it is not live, and from which on no head.
#[derive(Clone, Copy, Default)]
struct End {
    superseded_at: Option<i64>,
    unheaded_at: Option<i64>,
}

/// What becomes of changes that were there before, or were made by an earlier entry of the same append.
fn ends_of(append: &Append) -> HashMap<(&RecordId, &ChangeId), End> {
    let mut ends: HashMap<(&RecordId, &ChangeId), End> = HashMap::new();
    for entry in &append.entries {
        let n = columns::position(entry.head.n);
        for (record, change) in &entry.supersedes {
            ends.entry((record, change)).or_default().superseded_at.get_or_insert(n);
        }
        for (record, change) in &entry.no_longer_heads {
            ends.entry((record, change)).or_default().unheaded_at.get_or_insert(n);
        }
    }
    ends
}

pub(super) fn ask(appends: &[(usize, Append)]) -> Work<'_> {
    let (mut heads, mut entries) = (Heads::default(), Entries::default());
    let (mut changes, mut ends, mut states) = (Changes::default(), Ends::default(), States::default());
    for (i, (_, append)) in (0i32..).zip(appends) {
        let (tenant, vault) = (append.at.tenant.0, columns::vault(append.at.vault));
        let Some(last) = append.entries.last() else { continue };
        let last_n = columns::position(last.head.n);
        let (before_n, added) =
            (columns::position(append.before.n), append.entries.iter().map(|e| e.frame.len() as i64));
        heads.push(i, tenant, vault, before_n, &append.before.h, last_n, &last.head.h, added.sum());
        let mut ended = ends_of(append);
        for entry in &append.entries {
            let n = columns::position(entry.head.n);
            let kind = columns::entry_kind(entry.is_control, entry.is_checkpoint);
            let dev_seq = columns::position(entry.dev_seq);
            let (h, hash, device) = (&entry.head.h, &entry.hash, &entry.device.0);
            entries.push(i, tenant, vault, n, kind, dev_seq, entry.received_at, h, hash, device, &entry.frame);
            for change in &entry.adds {
                // A change that is ended by the append that makes it is written down as ended.
                let end = ended.remove(&(&change.record, &change.change)).unwrap_or_default();
                let superseded_at = if change.live { end.superseded_at } else { Some(n) };
                let unheaded_at = if change.head { end.unheaded_at } else { Some(n) };
                let (record, place) = (&change.record.0, columns::place(entry.head.n, change.index));
                let id = &change.change.0;
                changes.push(i, tenant, vault, record, place, id, change.full, superseded_at, unheaded_at);
            }
        }
        for ((record, change), End { superseded_at, unheaded_at }) in ended {
            ends.push(i, tenant, vault, &record.0, &change.0, superseded_at, unheaded_at);
        }
        if let Some(state) = &append.state {
            states.push(i, tenant, vault, last_n, state);
        }
    }
    let mut work: Work<'_> = vec![
        (|statements| &statements.move_heads, heads.into_arguments()),
        (|statements| &statements.insert_entries, entries.into_arguments()),
    ];
    if !changes.i.is_empty() {
        work.push((|statements| &statements.insert_changes, changes.into_arguments()));
    }
    if !ends.i.is_empty() {
        work.push((|statements| &statements.end_changes, ends.into_arguments()));
    }
    if !states.i.is_empty() {
        work.push((|statements| &statements.keep_states, states.into_arguments()));
    }
    work
}

/// Which of the heads were moved.
pub(super) fn read(appends: &[(usize, Append)], rows: Vec<Vec<Row>>) -> Outcome<Vec<(usize, bool)>> {
    let moved = rows.first().and_then(|rows| rows.first()).ok_or(Failure::bug("no heads were asked for"))?;
    let moved: BTreeSet<i32> = get::<Vec<i32>>(moved, 0)?.into_iter().collect();
    Ok((0i32..).zip(appends).map(|(i, (index, _))| (*index, moved.contains(&i))).collect())
}
