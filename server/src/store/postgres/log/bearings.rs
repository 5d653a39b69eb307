//! What bearings of many vaults ask of the statements, and how the answers are put together again.

use super::{Arguments, Work, arrays, fixed, get, position};
use crate::store::columns;
use crate::store::failure::{Failure, Outcome};
use crate::store::{Bearings, LiveRow, Question};
use selkie_protocol::id::{ChangeId, RecordId};
use selkie_protocol::log::Head;
use std::collections::BTreeSet;
use tokio_postgres::Row;

arrays!(Standings {
    i: i32,
    tenant: i64,
    vault: i32,
    known: Option<i64>,
});

arrays!(Records {
    i: i32,
    tenant: i64,
    vault: i32,
    record: &'a [u8],
    everything: bool,
    named: Vec<u8>,
});

arrays!(Positions { i: i32, tenant: i64, vault: i32, n: i64 });

pub(super) fn ask(questions: &[Question]) -> Work<'_> {
    let (mut standings, mut records, mut positions) = (Standings::default(), Records::default(), Positions::default());
    for (i, question) in (0i32..).zip(questions) {
        let (tenant, vault) = (question.at.tenant.0, columns::vault(question.at.vault));
        standings.push(i, tenant, vault, question.known.map(columns::position));
        for record in question.records.iter().collect::<BTreeSet<_>>() {
            records.push(i, tenant, vault, &record.0, true, Vec::new());
        }
        for (record, named) in &question.differences {
            let named = named.iter().flat_map(|change| change.0).collect();
            records.push(i, tenant, vault, &record.0, false, named);
        }
        for n in question.chain.iter().filter(|n| **n > 0).collect::<BTreeSet<_>>() {
            positions.push(i, tenant, vault, columns::position(*n));
        }
    }
    // All three are always asked, so that the answers are found by their places; nothing costs next to nothing.
    vec![
        (|statements| &statements.standings, standings.into_arguments()),
        (|statements| &statements.live, records.into_arguments()),
        (|statements| &statements.chain, positions.into_arguments()),
    ]
}

pub(super) fn read(questions: &[Question], rows: Vec<Vec<Row>>) -> Outcome<Vec<Option<Bearings>>> {
    let mut rows = rows.into_iter();
    let mut next = || rows.next().unwrap_or_default();
    let (standings, live, chain) = (next(), next(), next());
    let mut answers: Vec<Option<Bearings>> = questions.iter().map(|_| None).collect();
    for row in &standings {
        let (i, question) = asked(questions, row)?;
        answers[i] = Some(standing(question, row)?);
    }
    for row in &live {
        let (i, _) = asked(questions, row)?;
        let answer = answers[i].as_mut().ok_or(Failure::corrupt("change without a vault"))?;
        answer.live.push(live_row(row)?);
    }
    for row in &chain {
        let (i, _) = asked(questions, row)?;
        let answer = answers[i].as_mut().ok_or(Failure::corrupt("entry without a vault"))?;
        answer.chain.push((position(row, 1)?, fixed(row, 2, "chain value")?));
    }
    for answer in answers.iter_mut().flatten() {
        answer.live.sort_unstable_by_key(|row| (row.record, row.change));
        answer.chain.sort_unstable();
    }
    Ok(answers)
}

fn asked<'q>(questions: &'q [Question], row: &Row) -> Outcome<(usize, &'q Question)> {
    let i = usize::try_from(get::<i32>(row, 0)?).unwrap_or(usize::MAX);
    questions.get(i).map(|question| (i, question)).ok_or(Failure::bug("nobody asked"))
}

fn standing(question: &Question, row: &Row) -> Outcome<Bearings> {
    let head = Head { n: position(row, 1)?, h: fixed(row, 2, "chain value")? };
    let state = if question.known == Some(head.n) {
        None
    } else {
        let state: Option<Vec<u8>> = get(row, 4)?;
        let entries: Option<Vec<Vec<u8>>> = get(row, 5)?;
        Some((state.ok_or(Failure::corrupt("vault without a state"))?, entries.unwrap_or_default()))
    };
    let mut chain = Vec::new();
    if question.chain.contains(&0) {
        // Nothing stands at 0, but the chain begins there, with the vault's name.
        chain.push((0, fixed(row, 3, "vault id")?));
    }
    Ok(Bearings { head, state, live: Vec::new(), chain })
}

fn live_row(row: &Row) -> Outcome<LiveRow> {
    let (n, index) = columns::placed(get(row, 2)?)?;
    Ok(LiveRow {
        record: RecordId(fixed(row, 1, "record")?),
        change: ChangeId(fixed(row, 3, "change")?),
        n,
        index,
        full: get(row, 4)?,
        head: get(row, 5)?,
    })
}
