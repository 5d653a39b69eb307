//! Where all vaults stand, in the memory of the only process that moves them.
//!
//! Owns what polls of an embedded server are answered from: the positions of vaults and which account has which. What
//! is here is never older than what anybody was told: it is changed between the commit and the answer to it. What was
//! read from the store while something changed is not kept.

use crate::store::{AccountNumber, Place, Tenant, VaultRow};
use selkie_protocol::id::VaultId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Past so many vaults or accounts everything is forgotten and read again.
const MOST: usize = 200_000;

#[derive(Default)]
pub(super) struct Heads(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    positions: HashMap<Place, u64>,
    lists: HashMap<(Tenant, AccountNumber), Arc<[Listed]>>,
    /// Counts the changes of who has which vaults.
    changes: u64,
}

/// A vault that an account has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) at: Place,
    pub(super) vid: VaultId,
    pub(super) app: String,
}

/// A vault and where it stands.
pub(super) type Standing = (Listed, u64);

/// The moment at which a reading began.
#[derive(Clone, Copy)]
pub(super) struct Moment(u64);

pub(super) fn listed(tenant: Tenant, row: &VaultRow) -> Listed {
    Listed { at: Place { tenant, vault: row.vault }, vid: row.vid, app: row.app.clone() }
}

impl Heads {
    /// The vaults of an account and where they stand, if they are in memory.
    pub(super) fn of(&self, tenant: Tenant, account: AccountNumber) -> Option<Vec<Standing>> {
        let memory = self.memory();
        let list = memory.lists.get(&(tenant, account))?;
        list.iter().map(|listed| Some((listed.clone(), *memory.positions.get(&listed.at)?))).collect()
    }

    /// To be taken before the store is asked.
    pub(super) fn moment(&self) -> Moment {
        Moment(self.memory().changes)
    }

    /// Keeps what the store said, if nothing changed since it was asked.
    pub(super) fn learn(&self, tenant: Tenant, account: AccountNumber, rows: &[VaultRow], asked: Moment) {
        let mut memory = self.memory();
        if memory.changes != asked.0 {
            return;
        }
        memory.stay_bounded();
        for row in rows {
            let position = memory.positions.entry(Place { tenant, vault: row.vault }).or_default();
            *position = row.head.n.max(*position);
        }
        memory.lists.insert((tenant, account), rows.iter().map(|row| listed(tenant, row)).collect());
    }

    pub(super) fn moved(&self, at: Place, n: u64) {
        let mut memory = self.memory();
        memory.stay_bounded();
        let position = memory.positions.entry(at).or_default();
        *position = n.max(*position);
    }

    /// Somebody, somewhere, came into a vault or left one.
    pub(super) fn members_changed(&self) {
        let mut memory = self.memory();
        memory.changes += 1;
        memory.lists.clear();
    }

    /// An account made a vault.
    pub(super) fn created(&self, tenant: Tenant, account: AccountNumber) {
        let mut memory = self.memory();
        memory.changes += 1;
        memory.lists.remove(&(tenant, account));
    }

    /// Every change here is one whole step, or leaves more to be read again: a panic cannot have spoiled it.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn stay_bounded(&mut self) {
        if self.positions.len() >= MOST || self.lists.len() >= MOST {
            self.changes += 1;
            self.lists.clear();
            self.positions.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::VaultNumber;
    use selkie_protocol::log::Head;

    const TENANT: Tenant = Tenant(1);
    const ANA: AccountNumber = AccountNumber(2);

    fn row(vault: i64, n: u64) -> VaultRow {
        let vid = VaultId([u8::try_from(vault).unwrap(); 32]);
        VaultRow { vault: VaultNumber(vault), vid, app: "org.example".into(), head: Head { n, h: [0; 32] } }
    }

    fn place(vault: i64) -> Place {
        Place { tenant: TENANT, vault: VaultNumber(vault) }
    }

    fn positions(heads: &Heads) -> Option<Vec<u64>> {
        Some(heads.of(TENANT, ANA)?.into_iter().map(|(_, n)| n).collect())
    }

    #[test]
    fn what_was_read_before_a_push_does_not_hide_it() {
        let heads = Heads::default();
        let asked = heads.moment();
        heads.moved(place(1), 6);
        heads.learn(TENANT, ANA, &[row(1, 5)], asked);
        assert_eq!(positions(&heads), Some(vec![6]));
        heads.moved(place(1), 7);
        assert_eq!(positions(&heads), Some(vec![7]));
    }

    #[test]
    fn what_was_read_before_somebody_joined_is_not_kept() {
        let heads = Heads::default();
        let asked = heads.moment();
        heads.members_changed();
        heads.learn(TENANT, ANA, &[row(1, 5)], asked);
        assert_eq!(positions(&heads), None);
        heads.learn(TENANT, ANA, &[row(1, 5), row(2, 1)], heads.moment());
        assert_eq!(positions(&heads), Some(vec![5, 1]));
        heads.created(TENANT, ANA);
        assert_eq!(positions(&heads), None);
    }
}
