//! A new device's way in: control entries from the first on, a checkpoint, its pages, and the log after it.
//!
//! Owns what is checked on that way. It ends in a [`VaultLog`] that stands right before the checkpoint's entry, which
//! must be the next one applied: it is then checked like any other, against what was built here.
//! What it cannot give is who wrote the old changes: for that the word of the checkpoint's author is taken, and of
//! whoever confirmed it ([`Trust`]).

use super::checkpoint::{Checkpoint, Leaf, PAGE_SIZE, Pages, Root};
use super::control::Control;
use super::core::{Core, DeviceChain, verify};
use super::effects::Effects;
use super::entry::{Body, Entry, Head, Header};
use super::live::{LiveChange, LiveSet, Record};
use super::page::PageItem;
use super::people::{People, reaches};
use super::reader::Malformed;
use super::refusal::{Denied, Refusal};
use super::trail::{Trail, WINDOW};
use super::vault::VaultLog;
use crate::id::{ChangeId, DeviceId, RecordId, UserId};
use std::collections::BTreeMap;

/// Members, keys and rules, replayed from CONTROL entries alone.
#[derive(Clone, Debug)]
pub struct Bootstrap {
    core: Core,
}

/// Whose word a checkpoint stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// One of the person's own devices wrote it.
    Own,
    /// A device of somebody other than its author found it right.
    Confirmed(UserId),
    /// Its author's alone. To be shown, or the whole log to be read instead.
    Unconfirmed,
}

/// A checkpoint whose pages are arriving.
#[derive(Debug)]
pub struct Arriving {
    core: Core,
    trust: Trust,
    trail: Trail,
    root: Root,
    pages: Vec<[u8; 32]>,
    next_page: usize,
    arrived: u64,
    open: Option<(RecordId, Vec<LiveChange>)>,
    last: Option<(RecordId, ChangeId)>,
    live: LiveSet,
}

impl Bootstrap {
    pub fn create(entry: &Entry<'_>, people: &impl People) -> Result<(Bootstrap, Effects), Refusal> {
        let (core, effects) = Core::create(entry, people)?;
        Ok((Bootstrap { core }, effects))
    }

    /// The next CONTROL entry. What lies between it and the one before is not known here, so only what control entries
    /// say of each other is checked.
    pub fn control(&mut self, entry: &Entry<'_>, people: &impl People) -> Result<(), Refusal> {
        let Body::Control(control) = &entry.body else {
            return Err(Malformed("not a control entry").into());
        };
        let header = &entry.header;
        self.check_author(entry, Some(control), people)?;
        let hash = entry.hash();
        if let Some(before) = self.core.devices.get(&header.device) {
            if header.dev_seq <= before.dev_seq {
                let expected = before.dev_seq.saturating_add(1);
                return Err(Refusal::DeviceSequence { expected, found: header.dev_seq });
            }
            if header.dev_seq == before.dev_seq + 1 && header.dev_prev != before.last {
                return Err(Refusal::DevicePrevious);
            }
        }
        self.core.governance = self.core.governance.after(header.user, control, people)?;
        self.core.control = hash;
        let chain = DeviceChain { dev_seq: header.dev_seq, last: hash, n: 0 };
        self.core.devices.insert(header.device, chain);
        Ok(())
    }

    pub fn core(&self) -> &Core {
        &self.core
    }

    /// The checkpoint to begin from. All control entries before it, and no later ones, must have been given.
    /// `evidence` are entries of other people that say it is right; `before` and `entries` are the chain value
    /// [`WINDOW`] positions before it (or at 0) and the hashes of the entries from there on.
    pub fn checkpoint(
        mut self,
        entry: &Entry<'_>,
        me: &UserId,
        evidence: &[Entry<'_>],
        before: Head,
        entries: &[[u8; 32]],
        people: &impl People,
    ) -> Result<Arriving, Refusal> {
        let Body::Checkpoint(checkpoint) = &entry.body else {
            return Err(Malformed("not a checkpoint").into());
        };
        let author = entry.header.user;
        let member = self.core.governance.member(&author).ok_or(Refusal::NotAMember)?;
        if !member.role.may_write() {
            return Err(Refusal::NotAllowed(Denied::Role));
        }
        self.check_author(entry, None, people)?;
        let devices = self.device_chains(checkpoint)?;
        let trail = trail_to(checkpoint.at, before, entries)?;
        let trust = self.trust(entry, checkpoint, me, evidence, people)?;

        self.core.head = checkpoint.at;
        self.core.devices = devices;
        self.core.checkpoints.clear();
        self.core.unremembered = checkpoint.at.n;
        Ok(Arriving {
            core: self.core,
            trust,
            trail,
            root: checkpoint.root,
            pages: Vec::new(),
            next_page: 0,
            arrived: 0,
            open: None,
            last: None,
            live: LiveSet::default(),
        })
    }

    fn check_author(&self, entry: &Entry<'_>, control: Option<&Control>, people: &impl People) -> Result<(), Refusal> {
        let Header { vault, user, .. } = entry.header;
        if vault != self.core.vault {
            return Err(Refusal::OtherVault);
        }
        let member = self.core.governance.member(&user).ok_or(Refusal::NotAMember)?;
        reaches(people, user, &member.anchor)?;
        verify(entry, &member.anchor_for(user, control), people)?;
        if entry.header.control != self.core.control {
            return Err(Refusal::StaleControl);
        }
        let current = self.core.governance.epoch();
        if entry.header.epoch != current {
            return Err(Refusal::StaleEpoch { current, found: entry.header.epoch });
        }
        Ok(())
    }

    /// The checkpoint's list of device heads, held against what the control entries showed of the same devices.
    fn device_chains(&self, checkpoint: &Checkpoint<'_>) -> Result<BTreeMap<DeviceId, DeviceChain>, Refusal> {
        let listed: BTreeMap<_, _> = checkpoint
            .devices
            .iter()
            .map(|head| (head.device, DeviceChain { dev_seq: head.dev_seq, last: head.entry, n: 0 }))
            .collect();
        let agrees = |(device, shown): (&DeviceId, &DeviceChain)| {
            listed.get(device).is_some_and(|listed| match listed.dev_seq.cmp(&shown.dev_seq) {
                std::cmp::Ordering::Less => false,
                std::cmp::Ordering::Equal => listed.last == shown.last,
                std::cmp::Ordering::Greater => true,
            })
        };
        if self.core.devices.iter().all(agrees) {
            Ok(listed)
        } else {
            Err(Refusal::FalseCheckpoint("the devices' last entries are others"))
        }
    }

    fn trust(
        &self,
        entry: &Entry<'_>,
        checkpoint: &Checkpoint<'_>,
        me: &UserId,
        evidence: &[Entry<'_>],
        people: &impl People,
    ) -> Result<Trust, Refusal> {
        if entry.header.user == *me {
            return Ok(Trust::Own);
        }
        for said in evidence {
            let header = &said.header;
            if header.vault != self.core.vault {
                return Err(Refusal::OtherVault);
            }
            let Some(member) = self.core.governance.member(&header.user) else { continue };
            reaches(people, header.user, &member.anchor)?;
            match verify(said, &member.anchor, people) {
                // Rightly said, perhaps, by a device that was revoked since. It no longer counts.
                Err(Refusal::NotCertified) => continue,
                other => other?,
            }
            if header.user != entry.header.user && header.checkpoint_ok == checkpoint.at.n + 1 {
                return Ok(Trust::Confirmed(header.user));
            }
        }
        Ok(Trust::Unconfirmed)
    }
}

impl Arriving {
    pub fn trust(&self) -> Trust {
        self.trust
    }

    /// The hashes of all pages, which the root commits to: every page can then be checked as it comes.
    pub fn page_hashes(&mut self, hashes: &[[u8; 32]]) -> Result<(), Refusal> {
        let expected = self.root.live.div_ceil(PAGE_SIZE as u64);
        if hashes.len() as u64 != expected || Root::of(self.root.live, hashes.as_flattened()) != self.root {
            return Err(Refusal::FalseCheckpoint("other pages are live"));
        }
        self.pages = hashes.to_vec();
        Ok(())
    }

    /// The next page: 1024 items, the last page fewer, ascending. A page that is not the checkpoint's leaves everything
    /// as it was, and another can be tried; a record without a head cannot be mended by another page.
    pub fn page(&mut self, items: &[PageItem<'_>]) -> Result<(), Refusal> {
        let leaves: Vec<Leaf> = items.iter().map(|item| item.leaf(&self.core.vault)).collect();
        let places = leaves.iter().map(|leaf| (leaf.record, leaf.change));
        if !self.last.into_iter().chain(places).is_sorted_by(|one, next| one < next) {
            return Err(Refusal::FalseCheckpoint("live changes are not ascending"));
        }
        let mut page = Pages::default();
        leaves.iter().for_each(|leaf| page.push(leaf));
        let (hash, _) = page.finish();
        if self.pages.get(self.next_page).map(<[u8; 32]>::as_slice) != Some(&hash) {
            return Err(Refusal::FalseCheckpoint("other changes are live"));
        }
        self.next_page += 1;
        self.arrived += leaves.len() as u64;
        for leaf in leaves {
            let live = LiveChange { id: leaf.change, payload: leaf.payload, head: leaf.head };
            self.last = Some((leaf.record, leaf.change));
            match &mut self.open {
                Some((record, changes)) if *record == leaf.record => changes.push(live),
                _ => {
                    self.close_record()?;
                    self.open = Some((leaf.record, vec![live]));
                }
            }
        }
        Ok(())
    }

    fn close_record(&mut self) -> Result<(), Refusal> {
        if let Some((id, changes)) = self.open.take() {
            let record = Record::new(self.core.head.n, changes);
            self.live.insert(id, record.ok_or(Refusal::FalseCheckpoint("a record has no head"))?);
        }
        Ok(())
    }

    /// All pages have come: the log, standing right before the checkpoint's entry.
    pub fn finish(mut self) -> Result<VaultLog, Refusal> {
        self.close_record()?;
        if self.next_page != self.pages.len() || self.arrived != self.root.live {
            return Err(Refusal::FalseCheckpoint("pages are missing"));
        }
        Ok(VaultLog::from_parts(self.core, self.trail, self.live)?)
    }
}

/// The trail that ends at the checkpoint's position. It cannot be made up: the end is signed.
fn trail_to(at: Head, before: Head, entries: &[[u8; 32]]) -> Result<Trail, Refusal> {
    if before.n != at.n.saturating_sub(WINDOW) || entries.len() as u64 != at.n - before.n {
        return Err(Malformed("the trail does not lead to the checkpoint").into());
    }
    let trail = Trail::along(before, entries.iter().copied());
    if trail.head() == at { Ok(trail) } else { Err(Refusal::Fork { n: at.n }) }
}
