//! The chain values of the last positions: what an author may say to have seen.
//!
//! Owns the window. An entry repeats the last position its author had verified and the chain value there, and every
//! reader checks it against its own. Were old positions simply not checked, a server could join two forks by an entry
//! whose author looked long ago; were all of them kept, memory would grow with history. So there is a rule instead,
//! the same for everybody: whoever looked more than [`WINDOW`] entries ago pulls and signs again.

use super::entry::{Head, chain};
use super::reader::Malformed;
use std::collections::VecDeque;

/// How many entries may come between what an author had seen and the entry itself.
pub const WINDOW: u64 = 1024;

/// Chain values up to the head, oldest first. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trail {
    first: u64,
    values: VecDeque<[u8; 32]>,
}

/// Whether a log continues what was seen of it before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extends {
    /// That position is in this log, with that value.
    Yes,
    /// This log ends before it: somebody is hiding entries.
    Shorter,
    /// Another value stands there: two logs are being shown.
    Forked,
    /// Too long ago to be said.
    Forgotten,
}

impl Trail {
    /// Begins at a position whose value is known.
    pub fn new(at: Head) -> Trail {
        Trail { first: at.n, values: VecDeque::from([at.h]) }
    }

    /// Begins at `at` and follows these entry hashes. Whoever knows the value at the end, because it is signed, can
    /// hold the result against it: no other entries lead there.
    pub fn along(at: Head, entries: impl IntoIterator<Item = [u8; 32]>) -> Trail {
        let mut trail = Trail::new(at);
        for entry in entries {
            let head = trail.head();
            trail.push(chain(&head.h, head.n + 1, &entry));
        }
        trail
    }

    pub fn head(&self) -> Head {
        let last = self.values.len() - 1;
        Head { n: self.first + last as u64, h: self.values[last] }
    }

    /// The value at a position, if it is kept.
    pub fn at(&self, n: u64) -> Option<[u8; 32]> {
        self.values.get(usize::try_from(n.checked_sub(self.first)?).ok()?).copied()
    }

    /// The oldest position that is kept.
    pub fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn push(&mut self, value: [u8; 32]) {
        self.values.push_back(value);
        if self.values.len() as u64 > WINDOW + 1 {
            self.values.pop_front();
            self.first += 1;
        }
    }

    pub fn compare(&self, seen: &Head) -> Extends {
        match self.at(seen.n) {
            _ if seen.n > self.head().n => Extends::Shorter,
            None => Extends::Forgotten,
            Some(value) if value == seen.h => Extends::Yes,
            Some(_) => Extends::Forked,
        }
    }

    /// `first u64 | values`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = self.first.to_be_bytes().to_vec();
        self.values.iter().for_each(|value| out.extend_from_slice(value));
        out
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Trail, Malformed> {
        let (first, values) = bytes.split_first_chunk::<8>().ok_or(Malformed("too short"))?;
        let (values, rest) = values.as_chunks::<32>();
        if values.is_empty() || !rest.is_empty() || values.len() as u64 > WINDOW + 1 {
            return Err(Malformed("not a trail"));
        }
        let first = u64::from_be_bytes(*first);
        if first.checked_add(values.len() as u64).is_none() {
            return Err(Malformed("not a trail"));
        }
        Ok(Trail { first, values: values.iter().copied().collect() })
    }
}
