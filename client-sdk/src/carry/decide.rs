//! What becomes of one record on the way into another account.
//!
//! Owns that decision. Pure: both sides are handed in, and what is to be written comes out.

use crate::error::Result;
use crate::sync::settle::{Settle, Settled};
use selkie_protocol::record::{Hlc, RecordBody};

/// A stamp that is later than this from now is a clock that went wrong, and would win every conflict for years.
const MOST_AHEAD_MS: u64 = 24 * 60 * 60 * 1000;

/// Who decides, and when.
pub(super) struct Judge<'a> {
    pub(super) settle: &'a dyn Settle,
    pub(super) now_ms: u64,
}

impl Judge<'_> {
    /// What is written over there, oldest first; nothing if nothing is to be. `chain`: what the record said here,
    /// oldest first, and in the end what it says. `there`: what it says there. `history`: what it said there before;
    /// it is looked at only where both went on.
    pub(super) fn writes(
        &self,
        chain: &[RecordBody],
        there: Option<&RecordBody>,
        history: impl FnOnce() -> Result<Vec<RecordBody>>,
    ) -> Result<Vec<RecordBody>> {
        let Some((last, before)) = chain.split_last() else { return Ok(Vec::new()) };
        let Some(there) = there else { return Ok(self.dated(chain)) };
        if there.says_the_same(last) {
            // What was said again later stays so: else whatever a third device brings from between the two would stand.
            if there.hlc >= last.hlc || self.is_ahead(last) {
                return Ok(Vec::new());
            }
            let at = before.iter().rposition(|body| body == there);
            return Ok(self.dated(&chain[at.map_or(before.len(), |at| at + 1)..]));
        }
        let said = history()?;
        let was_said = |body: &RecordBody| said.iter().any(|one| one.says_the_same(body));
        // The stamp tells whether it is that very version: somebody may have said the same before and again.
        let is_in_the_history = |body: &RecordBody| match self.is_ahead(body) {
            true => was_said(body),
            false => said.contains(body),
        };
        if is_in_the_history(last) {
            return Ok(Vec::new());
        }
        if let Some(at) = before.iter().rposition(|body| body.says_the_same(there)) {
            return Ok(self.dated(&chain[at + 1..]));
        }
        let base = before.iter().rposition(was_said);
        let mut writes = self.dated(&chain[base.map_or(0, |at| at + 1)..]);
        let mut again = there.clone();
        again.hlc = Hlc::after(there.hlc.max(self.stamp(last)), self.now_ms);
        match self.settled(base.map(|at| &before[at]), last, there) {
            Settled::Same => return Ok(Vec::new()),
            Settled::Mine => {}
            // What does not stand is in the history beneath what does.
            Settled::Theirs | Settled::Ask => writes.push(again),
            Settled::Merged { body, .. } => writes.push(at(again.hlc, &body)),
        }
        Ok(writes)
    }

    /// Where a person would be asked, the newer one stands, and both are in the history.
    fn settled(&self, base: Option<&RecordBody>, mine: &RecordBody, theirs: &RecordBody) -> Settled {
        // When it was written nobody knows, so it is newer than nothing.
        let hlc = if self.is_ahead(mine) { Hlc::default() } else { mine.hlc };
        let mine = at(hlc, mine);
        match self.settle.settle(base, &mine, theirs) {
            Settled::Ask if mine.hlc > theirs.hlc => Settled::Mine,
            settled => settled,
        }
    }

    fn dated(&self, bodies: &[RecordBody]) -> Vec<RecordBody> {
        bodies.iter().map(|body| at(self.stamp(body), body)).collect()
    }

    /// Its own, but for one of a clock that is far ahead.
    fn stamp(&self, body: &RecordBody) -> Hlc {
        if self.is_ahead(body) { Hlc::after(Hlc::default(), self.now_ms) } else { body.hlc }
    }

    fn is_ahead(&self, body: &RecordBody) -> bool {
        is_ahead(body, self.now_ms)
    }
}

/// Whether a clock that went wrong has made its stamp.
pub(crate) fn is_ahead(body: &RecordBody, now_ms: u64) -> bool {
    body.hlc.ms > now_ms.saturating_add(MOST_AHEAD_MS)
}

fn at(hlc: Hlc, body: &RecordBody) -> RecordBody {
    let mut body = body.clone();
    body.hlc = hlc;
    body
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::settle::NewestFirst;
    use std::slice;

    const NOW: u64 = 1_795_660_800_000;
    const YEAR_MS: u64 = 365 * 24 * 60 * 60 * 1000;

    fn said(what: &str, at: u64) -> RecordBody {
        RecordBody::new("notes", Hlc { ms: NOW - 1_000 + at, count: 0 }, what.as_bytes().to_vec())
    }

    fn writes(settle: &dyn Settle, chain: &[RecordBody], there: &[RecordBody]) -> Vec<RecordBody> {
        let judge = Judge { settle, now_ms: NOW };
        judge.writes(chain, there.last(), || Ok(there.to_vec())).unwrap()
    }

    /// Twice, as it is after the first time.
    fn in_the_end(settle: &dyn Settle, chain: &[RecordBody], there: &[RecordBody]) -> Vec<RecordBody> {
        let all = [there, &writes(settle, chain, there)].concat();
        assert_eq!(writes(settle, chain, &all), [], "once is enough");
        all
    }

    fn words(bodies: &[RecordBody]) -> Vec<&str> {
        bodies.iter().map(|body| std::str::from_utf8(&body.data).unwrap()).collect()
    }

    struct MineWins;

    impl Settle for MineWins {
        fn settle(&self, _: Option<&RecordBody>, _: &RecordBody, _: &RecordBody) -> Settled {
            Settled::Mine
        }
    }

    struct Joined;

    impl Settle for Joined {
        fn settle(&self, base: Option<&RecordBody>, mine: &RecordBody, theirs: &RecordBody) -> Settled {
            let words = words(&[base.unwrap().clone(), mine.clone(), theirs.clone()]).join("+");
            Settled::Merged { body: said(&words, 0), lossy: false }
        }
    }

    #[test]
    fn what_is_not_there_comes_whole_whatever_its_stamps() {
        let chain = [said("a", 5), said("b", 3), said("c", 9)];
        assert_eq!(in_the_end(&NewestFirst, &chain, &[]), chain);
    }

    #[test]
    fn what_went_on_here_goes_on_there() {
        let (a, b, c) = (said("a", 1), said("b", 2), said("c", 3));
        assert_eq!(in_the_end(&NewestFirst, &[a.clone(), b.clone(), c.clone()], slice::from_ref(&a)), [a, b, c]);
        // And back to what it was before.
        let (a, b, again) = (said("a", 1), said("b", 2), said("a", 3));
        assert_eq!(in_the_end(&NewestFirst, &[a.clone(), b.clone(), again.clone()], &[a.clone(), b.clone()]).len(), 3);
    }

    #[test]
    fn what_was_said_again_later_stays_so() {
        let (early, late) = (said("a", 1), said("a", 5));
        assert_eq!(
            in_the_end(&NewestFirst, slice::from_ref(&late), slice::from_ref(&early)),
            [early.clone(), late.clone()]
        );
        assert_eq!(writes(&NewestFirst, slice::from_ref(&early), slice::from_ref(&late)), []);
        // With what was said between.
        let chain = [early.clone(), said("b", 3), late];
        assert_eq!(in_the_end(&NewestFirst, &chain, slice::from_ref(&early)), chain);
    }

    #[test]
    fn what_went_on_there_stands() {
        let (a, b) = (said("a", 1), said("b", 2));
        assert_eq!(writes(&NewestFirst, slice::from_ref(&a), &[a.clone(), b.clone()]), []);
        // Also where it went back, and whoever is asked.
        assert_eq!(writes(&MineWins, &[a.clone(), b.clone()], &[a, b, said("a", 7)]), []);
    }

    #[test]
    fn where_both_went_on_it_is_settled_as_any_conflict_and_nothing_is_lost() {
        let base = said("base", 1);
        let (older, newer) = (said("older", 2), said("newer", 3));
        let here = [base.clone(), older.clone()];
        assert_eq!(
            words(&in_the_end(&NewestFirst, &here, &[base.clone(), newer.clone()])),
            ["base", "newer", "older", "newer"]
        );
        let newer_here = [base.clone(), newer.clone()];
        assert_eq!(
            words(&in_the_end(&NewestFirst, &newer_here, &[base.clone(), older.clone()])),
            ["base", "older", "newer"]
        );
        assert_eq!(words(&in_the_end(&MineWins, &here, &[base.clone(), newer.clone()])), ["base", "newer", "older"]);
        assert_eq!(
            words(&in_the_end(&Joined, &here, &[base.clone(), newer.clone()])),
            ["base", "newer", "older", "base+older+newer"]
        );
        // A device with the one and a device with the other do not take turns.
        let after_one = in_the_end(&MineWins, &here, slice::from_ref(&base));
        let after_both = in_the_end(&MineWins, &newer_here, &after_one);
        assert_eq!(writes(&MineWins, &here, &after_both), []);
    }

    #[test]
    fn a_clock_ten_years_ahead_wins_nothing_and_does_not_lose_its_own_order() {
        let ahead = |what: &str, at: u64| said(what, 10 * YEAR_MS + at);
        let first = in_the_end(&NewestFirst, &[ahead("a", 1)], &[]);
        assert_eq!(first[0].hlc.ms, NOW);
        // It goes on under the same clock, and under the right one.
        let second = in_the_end(&NewestFirst, &[ahead("a", 1), ahead("b", 2)], &first);
        assert_eq!(words(&second), ["a", "b"]);
        // Somebody else has written since.
        let since = [&second[..], &[said("today", 900)]].concat();
        let end = in_the_end(&NewestFirst, &[ahead("a", 1), ahead("b", 2), ahead("c", 3)], &since);
        assert_eq!(words(&end).last(), Some(&"today"), "{:?}", words(&end));
        assert!(words(&end).contains(&"c"));
    }
}
