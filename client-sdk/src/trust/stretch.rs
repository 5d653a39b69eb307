//! A stretch of a vault's log in somebody's file: entries one after the other, and the chain over them.
//!
//! Owns what can be said of it without the log before it: which chain values it leads to, and which of its entries
//! could not have stood there. The values are as good as the end of them: a head the server signed there vouches for
//! all before it, because nothing else leads to it.

use selkie_protocol::Bytes;
use selkie_protocol::id::VaultId;
use selkie_protocol::log::{Body, Entry, Frame, Head, People, chain};

/// A rule that an entry breaks.
pub(super) struct Flaw {
    pub(super) why: &'static str,
    /// It is one only if the account logs in the file are the ones that its author's server and friends know. Who owns
    /// an account can sign another log of it for the occasion.
    pub(super) by_account_logs: bool,
}

/// Entries that follow a position.
pub(super) struct Stretch<'a> {
    base: u64,
    /// The value at the base, and after each entry.
    values: Vec<[u8; 32]>,
    entries: Vec<Entry<'a>>,
    /// Why it ends before the file does: the rest cannot be read.
    pub(super) unreadable: bool,
}

impl<'a> Stretch<'a> {
    pub(super) fn along(base: Head, frames: impl IntoIterator<Item = &'a Bytes>) -> Self {
        let mut stretch = Stretch { base: base.n, values: vec![base.h], entries: Vec::new(), unreadable: false };
        for frame in frames {
            match Frame::entry_bytes(frame).and_then(Entry::parse) {
                Ok(entry) => stretch.push(entry),
                Err(_) => {
                    stretch.unreadable = true;
                    break;
                }
            }
        }
        stretch
    }

    fn push(&mut self, entry: Entry<'a>) {
        let end = self.end();
        self.values.push(chain(&end.h, end.n.saturating_add(1), &entry.hash()));
        self.entries.push(entry);
    }

    pub(super) fn end(&self) -> Head {
        let steps = self.entries.len();
        Head { n: self.base.saturating_add(steps as u64), h: self.values[steps] }
    }

    pub(super) fn at(&self, n: u64) -> Option<[u8; 32]> {
        let step = usize::try_from(n.checked_sub(self.base)?).ok()?;
        self.values.get(step).copied()
    }

    /// The entry that makes the step to a position.
    pub(super) fn entry(&self, n: u64) -> Option<&Entry<'a>> {
        let step = usize::try_from(n.checked_sub(self.base)?.checked_sub(1)?).ok()?;
        self.entries.get(step)
    }

    /// Where an entry stands in it.
    pub(super) fn position_of(&self, hash: &[u8; 32]) -> Option<u64> {
        let at = self.entries.iter().position(|entry| entry.hash() == *hash)?;
        // Whoever made the file says where it begins, and may say: at the last position there is.
        Some(self.base.saturating_add(1 + at as u64))
    }

    pub(super) fn positions(&self) -> impl Iterator<Item = u64> + use<> {
        let base = self.base;
        (1..=self.entries.len() as u64).map(move |step| base.saturating_add(step))
    }

    /// The rule that the entry at a position breaks, as far as this stretch and the account logs at hand show it.
    pub(super) fn flaw(&self, n: u64, vault: &VaultId, people: &impl People) -> Option<Flaw> {
        if let Some(why) = self.flaw_by_itself(n, vault) {
            return Some(Flaw { why, by_account_logs: false });
        }
        let entry = self.entry(n)?;
        let certificate = people.certificate(&entry.header.user, &entry.header.device)?;
        let why = "it is not signed by the device it names";
        (!entry.is_signed_by(&certificate.key)).then_some(Flaw { why, by_account_logs: true })
    }

    fn flaw_by_itself(&self, n: u64, vault: &VaultId) -> Option<&'static str> {
        let entry = self.entry(n)?;
        let header = &entry.header;
        let belongs = header.vault == *vault || n == 1 && entry.creates().is_some_and(|made| made == *vault);
        if !belongs {
            return Some("it belongs to another vault");
        }
        let before = &self.entries[..usize::try_from(n - self.base - 1).ok()?];
        let by_the_same = before.iter().rfind(|other| other.header.device == header.device);
        if let Some(last) = by_the_same
            && (header.dev_seq.checked_sub(1) != Some(last.header.dev_seq) || header.dev_prev != last.hash())
        {
            return Some("it does not follow from its device's entry before");
        }
        if n > 1 && header.seen.n >= n {
            return Some("its author claims to have seen what did not stand yet");
        }
        if n > 1 && self.at(header.seen.n).is_some_and(|value| value != header.seen.h) {
            return Some("its author had been shown another log");
        }
        let control = before.iter().rfind(|other| matches!(other.body, Body::Control(_)));
        if control.is_some_and(|control| control.hash() != header.control) {
            return Some("it was made under another membership");
        }
        None
    }
}
