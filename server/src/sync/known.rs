//! What this process remembers of the state of a vault, so that a push need not read it again.
//!
//! Owns the state of the rules ([`Core`]) with the last chain values, and how it is built from what the store keeps.
//! It is true of one head only: whoever uses it must see in the same breath that the head is still this one.

use super::refusal::{Refusal, Result};
use crate::shelf::Shelf;
use crate::store::{Bearings, Place, Question, Vaults};
use selkie_protocol::log::{Core, Entry, Head, Header};
use std::collections::VecDeque;
use std::sync::Arc;

/// Chain values kept of each vault: nearly every author has seen one of the last few positions.
const RECENT: usize = 32;
/// In all.
const ROOM: usize = 48 << 20;

#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) core: Core,
    /// Of the last positions, the head's last.
    recent: VecDeque<[u8; 32]>,
}

pub(super) type Cores = Shelf<Place, Arc<Known>>;

pub(super) fn cores() -> Cores {
    Shelf::new(ROOM)
}

impl Known {
    pub(super) fn new(core: Core) -> Self {
        let recent = VecDeque::from([core.head().h]);
        Known { core, recent }
    }

    /// From the newest state that was kept and the entries since.
    fn rebuilt(state: &[u8], entries: &[Vec<u8>]) -> Result<Self> {
        let damaged = |error: selkie_protocol::log::Malformed| Refusal::Broken(Arc::new(error));
        let mut known = Known::new(Core::from_bytes(state).map_err(damaged)?);
        for bytes in entries {
            let entry = Entry::parse(bytes).map_err(damaged)?;
            known.core.follow(&entry).map_err(|refusal| Refusal::Broken(Arc::new(refusal)))?;
            known.moved();
        }
        Ok(known)
    }

    pub(super) fn head(&self) -> Head {
        self.core.head()
    }

    /// Whether the device has written an entry of that number already, be it this one or another.
    pub(super) fn is_past(&self, header: &Header) -> bool {
        self.core.device_heads().any(|head| head.device == header.device && head.dev_seq >= header.dev_seq)
    }

    pub(super) fn chain_value(&self, n: u64) -> Option<[u8; 32]> {
        let back = usize::try_from(self.head().n.checked_sub(n)?).ok()?;
        self.recent.iter().rev().nth(back).copied()
    }

    /// To be called after every step of the core.
    pub(super) fn moved(&mut self) {
        self.recent.push_back(self.core.head().h);
        if self.recent.len() > RECENT {
            self.recent.pop_front();
        }
    }

    /// What it takes, roughly.
    pub(super) fn weight(&self) -> usize {
        let governance = self.core.governance();
        let members = governance.members().len() + governance.open_invites().len();
        let epochs = governance.epoch() as usize;
        2_048 + 160 * members + 128 * self.core.device_heads().count() + 32 * epochs
    }
}

/// The state that an answer of the store is about: the one it brings, else the one that was known. `None` if what was
/// known is of another log than the store's, and must be forgotten.
pub(super) fn state_of(bearings: &Bearings, known: Option<&Arc<Known>>) -> Result<Option<Arc<Known>>> {
    let state = match (&bearings.state, known) {
        (Some((state, entries)), _) => Arc::new(Known::rebuilt(state, entries)?),
        (None, Some(known)) => known.clone(),
        (None, None) => return Err(Refusal::broken("a vault without a state")),
    };
    if state.head() == bearings.head {
        return Ok(Some(state));
    }
    if bearings.state.is_some() {
        return Err(Refusal::broken("the state that was kept does not lead to the head"));
    }
    Ok(None)
}

/// The state of one vault now, from memory if the store says that it is of the head; `None` if the vault is gone.
pub(super) async fn look_up(vaults: &dyn Vaults, cores: &Cores, at: Place) -> Result<Option<Arc<Known>>> {
    let mut known = cores.get(&at);
    loop {
        let position = known.as_ref().map(|known| known.head().n);
        let question =
            Question { at, known: position, records: Vec::new(), differences: Vec::new(), chain: Vec::new() };
        let answer = vaults.bearings(vec![question]).await?.pop().flatten();
        let Some(bearings) = answer else {
            cores.forget(&at);
            return Ok(None);
        };
        match state_of(&bearings, known.as_ref())? {
            Some(state) => {
                cores.put(at, state.clone(), state.weight());
                return Ok(Some(state));
            }
            None => known = None,
        }
    }
}
