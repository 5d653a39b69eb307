//! Where all vaults stand, in memory.
//!
//! Owns what polls are answered from: the positions of vaults and which account has which. What this process moves is
//! changed here between the commit and the answer to it, and what was read from the store while something changed is
//! not kept: so nothing here is older than what anybody was told. Where others write, too, all of it is as of a
//! snapshot of the database, and forgotten when that is past.

use crate::store::{AccountNumber, Place, Snapshot, Tenant, VaultRow};
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
    /// What all of this was read after, where others write, too.
    as_of: Option<Snapshot>,
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
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(u64);

pub(super) fn listed(tenant: Tenant, row: &VaultRow) -> Listed {
    Listed { at: Place { tenant, vault: row.vault }, vid: row.vid, app: row.app.clone() }
}

impl Heads {
    /// The vaults of an account and where they stand, if they are in memory; else what is to be shown when the store
    /// was asked for them.
    pub(super) fn of(
        &self,
        snapshot: Option<&Snapshot>,
        tenant: Tenant,
        account: AccountNumber,
    ) -> Result<Vec<Standing>, Moment> {
        let mut memory = self.memory();
        memory.heed(snapshot);
        memory.of(tenant, account).ok_or(Moment(memory.changes))
    }

    /// Keeps what the store said, if nothing changed since it was asked.
    pub(super) fn learn(&self, tenant: Tenant, account: AccountNumber, rows: &[VaultRow], asked: Moment) {
        let mut memory = self.memory();
        // First: where room is made, what has moved since it was asked is forgotten as well.
        memory.stay_bounded();
        if memory.changes != asked.0 {
            return;
        }
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
    fn heed(&mut self, snapshot: Option<&Snapshot>) {
        if self.as_of.as_ref() != snapshot {
            self.as_of = snapshot.cloned();
            self.changes += 1;
            self.lists.clear();
            self.positions.clear();
        }
    }

    fn of(&self, tenant: Tenant, account: AccountNumber) -> Option<Vec<Standing>> {
        let list = self.lists.get(&(tenant, account))?;
        list.iter().map(|listed| Some((listed.clone(), *self.positions.get(&listed.at)?))).collect()
    }

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
        Some(heads.of(None, TENANT, ANA).ok()?.into_iter().map(|(_, n)| n).collect())
    }

    #[test]
    fn what_was_asked_before_room_was_made_is_not_kept() {
        let heads = Heads::default();
        let asked = moment(&heads);
        let many = i64::try_from(MOST).unwrap();
        (2..=many).for_each(|vault| heads.moved(place(vault), 1));
        heads.moved(place(1), 5);
        heads.learn(TENANT, ANA, &[row(1, 4)], asked);
        assert_eq!(positions(&heads), None, "somebody was told that it is at 5");
    }

    fn moment(heads: &Heads) -> Moment {
        heads.of(None, TENANT, ANA).expect_err("nothing is in memory")
    }

    #[test]
    fn nothing_is_true_beyond_its_snapshot() {
        let (then, now) = (Snapshot("1".into()), Snapshot("2".into()));
        let heads = Heads::default();
        let asked = heads.of(Some(&then), TENANT, ANA).unwrap_err();
        heads.learn(TENANT, ANA, &[row(1, 5)], asked);
        let found = heads.of(Some(&then), TENANT, ANA).unwrap();
        assert_eq!(found[0].1, 5);
        let asked = heads.of(Some(&now), TENANT, ANA).unwrap_err();
        let late = heads.of(Some(&then), TENANT, ANA).unwrap_err();
        heads.learn(TENANT, ANA, &[row(1, 6)], asked);
        heads.of(Some(&then), TENANT, ANA).unwrap_err();
        heads.learn(TENANT, ANA, &[row(1, 6)], late);
        heads.of(Some(&then), TENANT, ANA).unwrap();
        heads.of(Some(&now), TENANT, ANA).unwrap_err();
    }

    #[test]
    fn what_was_read_before_a_push_does_not_hide_it() {
        let heads = Heads::default();
        let asked = moment(&heads);
        heads.moved(place(1), 6);
        heads.learn(TENANT, ANA, &[row(1, 5)], asked);
        assert_eq!(positions(&heads), Some(vec![6]));
        heads.moved(place(1), 7);
        assert_eq!(positions(&heads), Some(vec![7]));
    }

    #[test]
    fn what_was_read_before_somebody_joined_is_not_kept() {
        let heads = Heads::default();
        let asked = moment(&heads);
        heads.members_changed();
        heads.learn(TENANT, ANA, &[row(1, 5)], asked);
        assert_eq!(positions(&heads), None);
        heads.learn(TENANT, ANA, &[row(1, 5), row(2, 1)], moment(&heads));
        assert_eq!(positions(&heads), Some(vec![5, 1]));
        heads.created(TENANT, ANA);
        assert_eq!(positions(&heads), None);
    }
}
