//! What goes wrong between a device and its server, and with its disk.
//!
//! Owns the dice, a transport that loses, doubles and delays, and a store that fails. Knows nothing of vaults.

use crate::fake::Fake;
use async_trait::async_trait;
use selkie_client::store::StoreError;
use selkie_client::store::vaults::*;
use selkie_client::transport::{Request, Response, Transport, TransportError};
use selkie_protocol::id::{ChangeId, RecordId, UserId, VaultId};
use std::sync::{Arc, Mutex};

/// The same numbers for the same seed, everywhere.
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        // Mixed once before use: or the numbers of one seed would be those of the seed before, one later.
        let mixed = Dice(seed ^ 0x5e1d_1e5e_ed00_0000).roll();
        Dice(mixed)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    pub(crate) fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// One request in so many goes wrong; 0 for none.
    pub(crate) bad: u64,
    /// After so many more requests, or calls of the store, the program is killed.
    pub(crate) killed_on_the_wire: Option<u64>,
    pub(crate) killed_at_the_store: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Sky {
    pub(crate) dice: Dice,
    pub(crate) weather: Weather,
    late: Vec<Request>,
}

impl Sky {
    pub(crate) fn new(seed: u64) -> Self {
        Sky { dice: Dice::new(seed), weather: Weather::default(), late: Vec::new() }
    }
}

/// One device's way to the server.
#[derive(Clone)]
pub(crate) struct Wire {
    pub(crate) server: Arc<Fake>,
    pub(crate) sky: Arc<Mutex<Sky>>,
}

enum Fate {
    Delivered,
    Twice,
    NotDelivered,
    AnswerLost,
    Late,
    Killed,
}

impl Wire {
    fn fate(&self, request: &Request) -> Fate {
        let mut sky = self.sky.lock().unwrap();
        if let Some(left) = &mut sky.weather.killed_on_the_wire {
            if *left == 0 {
                sky.weather.killed_on_the_wire = None;
                return Fate::Killed;
            }
            *left -= 1;
        }
        let bad = sky.weather.bad;
        if bad == 0 || !sky.dice.one_in(bad) {
            return Fate::Delivered;
        }
        let renewal = request.path.contains("/auth/");
        match sky.dice.below(4) {
            0 => Fate::NotDelivered,
            // A renewal of the session that is done twice looks like a theft: that is another story.
            _ if renewal => Fate::NotDelivered,
            1 => Fate::AnswerLost,
            2 => Fate::Twice,
            _ => Fate::Late,
        }
    }

    /// What was delayed arrives now, in any order; nobody waits for its answer any more.
    pub(crate) async fn deliver_late(&self) {
        let late = std::mem::take(&mut self.sky.lock().unwrap().late);
        for request in late.into_iter().rev() {
            let _nobody_listens = self.server.send(request).await;
        }
    }
}

#[async_trait]
impl Transport for Wire {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        match self.fate(&request) {
            Fate::Delivered => self.server.send(request).await,
            Fate::Twice => {
                let _first = self.server.send(request.clone()).await;
                self.server.send(request).await
            }
            Fate::NotDelivered => Err(TransportError::TimedOut),
            Fate::AnswerLost => {
                let _lost = self.server.send(request).await;
                Err(TransportError::TimedOut)
            }
            Fate::Late => {
                self.sky.lock().unwrap().late.push(request);
                Err(TransportError::TimedOut)
            }
            Fate::Killed => std::future::pending().await,
        }
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Wire")
    }
}

/// A disk that fails now and then.
pub(crate) struct Brittle {
    pub(crate) disk: Arc<MemoryVaults>,
    pub(crate) sky: Arc<Mutex<Sky>>,
}

impl Brittle {
    fn creaks(&self) -> Result<(), StoreError> {
        let mut sky = self.sky.lock().unwrap();
        match &mut sky.weather.killed_at_the_store {
            Some(0) => {
                let source = std::io::Error::other("the disk is gone");
                Err(StoreError { doing: "anything".into(), source })
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Brittle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Brittle")
    }
}

type Kept<T> = Result<T, StoreError>;

macro_rules! creaking {
    ($(fn $name:ident(&self $(, $arg:ident: $type:ty)*) -> $out:ty;)*) => {
        impl VaultStore for Brittle {
            $(fn $name(&self $(, $arg: $type)*) -> Kept<$out> {
                self.creaks()?;
                self.disk.$name($($arg),*)
            })*
        }
    };
}

creaking! {
    fn account(&self) -> Option<Vec<u8>>;
    fn keep_account(&self, before: Option<&[u8]>, state: &[u8]) -> bool;
    fn people(&self) -> Vec<(UserId, Vec<u8>)>;
    fn keep_person(&self, user: &UserId, log: &[u8]) -> ();
    fn vaults(&self) -> Vec<VaultId>;
    fn revision(&self, vault: &VaultId) -> Option<u64>;
    fn load(&self, vault: &VaultId) -> Option<KeptVault>;
    fn begin(&self, vault: &VaultId, begun: &Begun) -> ();
    fn advance(&self, vault: &VaultId, revision: u64, advance: &Advance) -> Option<u64>;
    fn stage_anew(&self, vault: &VaultId, revision: u64) -> Option<u64>;
    fn stage(&self, vault: &VaultId, revision: u64, versions: &[Version], aside: &[Aside]) -> bool;
    fn replace(&self, vault: &VaultId, revision: u64, fresh: &Fresh) -> Option<u64>;
    fn forget(&self, vault: &VaultId) -> ();
    fn forget_if_sent(&self, vault: &VaultId) -> bool;
    fn write_down(&self, vault: &VaultId, seen: Option<u64>, writes: &[NewWrite], together: Together) -> Option<Vec<u64>>;
    fn put_on_shelves(&self, vault: &VaultId, seqs: &[(u64, Shelf)]) -> ();
    fn take_back(&self, vault: &VaultId, revision: u64, seqs: &[u64]) -> Option<u64>;
    fn flush(&self) -> ();
    fn outbox(&self, vault: &VaultId, limit: usize) -> Vec<Pending>;
    fn pending_of(&self, vault: &VaultId, record: &RecordId) -> Vec<Pending>;
    fn now(&self, vault: &VaultId, record: &RecordId) -> Now;
    fn shelf(&self, vault: &VaultId, shelf: &Shelf, visit: &mut dyn FnMut(Shown)) -> u64;
    fn shelves(&self, vault: &VaultId) -> Vec<Shelf>;
    fn page(&self, vault: &VaultId, shelf: &Shelf, after: Option<RecordId>, limit: usize) -> Vec<RecordId>;
    fn stamp(&self, vault: &VaultId) -> u64;
    fn touched(&self, vault: &VaultId, after: u64) -> (u64, Option<Vec<RecordId>>);
    fn outline(&self, vault: &VaultId) -> Option<Outline>;
    fn versions(&self, vault: &VaultId, record: &RecordId) -> Vec<Version>;
    fn current(&self, vault: &VaultId, shelf: Option<&Shelf>) -> Vec<Version>;
    fn aside_after(&self, vault: &VaultId, after: Option<&ChangeId>, most: usize) -> Vec<Aside>;
    fn settlements(&self, vault: &VaultId) -> Vec<Settlement>;
    fn settlements_of(&self, vault: &VaultId, record: &RecordId) -> Vec<Settlement>;
    fn resolve(&self, vault: &VaultId, settlement: u64) -> ();
    fn keep_note(&self, vault: &VaultId, name: &Shelf, sealed: &[u8]) -> ();
    fn note(&self, vault: &VaultId, name: &Shelf) -> Option<Vec<u8>>;
    fn frames(&self, vault: &VaultId, from: u64, to: u64) -> Vec<(u64, Vec<u8>)>;
    fn counts(&self, vault: &VaultId) -> Counts;
    fn usage(&self, vault: &VaultId) -> Usage;
    fn size(&self) -> u64;
    fn prune(&self, vault: &VaultId, before_ms: u64) -> Usage;
    fn let_go(&self, vault: &VaultId, seen: u64, records: &[Elsewhere]) -> (u64, Usage);
    fn elsewhere(&self, vault: &VaultId) -> Vec<Elsewhere>;
    fn elsewhere_of(&self, vault: &VaultId, record: &RecordId) -> Vec<Elsewhere>;
    fn shrink(&self) -> ();
    fn damage(&self) -> Vec<String>;
    fn rebuild(&self) -> bool;
}
