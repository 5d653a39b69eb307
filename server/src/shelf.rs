//! Memory that cannot be made to grow without end: what was not asked for longest goes first.
//!
//! Owns the bound and the forgetting. Knows nothing of what is kept, nor whether it is still true.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) struct Shelf<K, V>(Mutex<Held<K, V>>);

struct Held<K, V> {
    items: HashMap<K, Item<V>>,
    weight: usize,
    room: usize,
    /// Counts uses, so that they can be told apart without a clock.
    uses: u64,
}

struct Item<V> {
    value: V,
    weight: usize,
    used: u64,
}

impl<K: Eq + Hash + Clone, V: Clone> Shelf<K, V> {
    /// `room` is in the unit of the weights, which is roughly bytes.
    pub(crate) fn new(room: usize) -> Self {
        Shelf(Mutex::new(Held { items: HashMap::new(), weight: 0, room, uses: 0 }))
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        let mut held = self.held();
        held.uses += 1;
        let used = held.uses;
        let item = held.items.get_mut(key)?;
        item.used = used;
        Some(item.value.clone())
    }

    pub(crate) fn put(&self, key: K, value: V, weight: usize) {
        let mut held = self.held();
        held.uses += 1;
        let item = Item { value, weight, used: held.uses };
        held.weight += weight;
        if let Some(before) = held.items.insert(key, item) {
            held.weight -= before.weight;
        }
        held.make_room();
    }

    pub(crate) fn forget(&self, key: &K) {
        let mut held = self.held();
        if let Some(gone) = held.items.remove(key) {
            held.weight -= gone.weight;
        }
    }

    /// A shelf is changed by whole steps only, so a panic elsewhere cannot have spoiled it.
    fn held(&self) -> MutexGuard<'_, Held<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Clone, V> Held<K, V> {
    /// An eighth goes at a time, so that the search for the oldest is paid for by many that come.
    fn make_room(&mut self) {
        if self.weight <= self.room {
            return;
        }
        let mut by_age: Vec<(u64, usize)> = self.items.values().map(|item| (item.used, item.weight)).collect();
        by_age.sort_unstable();
        let enough = self.room - self.room / 8;
        let mut oldest_kept = 0;
        for (used, weight) in by_age {
            if self.weight <= enough {
                break;
            }
            self.weight -= weight;
            oldest_kept = used + 1;
        }
        self.items.retain(|_, item| item.used >= oldest_kept);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_used_goes_first_and_the_bound_holds() {
        let shelf = Shelf::new(80);
        for number in 0..8 {
            shelf.put(number, number, 10);
        }
        assert_eq!(shelf.get(&0), Some(0));
        shelf.put(8, 8, 10);
        assert_eq!(shelf.get(&0), Some(0), "it was asked for");
        assert_eq!((shelf.get(&1), shelf.get(&2), shelf.get(&3)), (None, None, Some(3)));
        shelf.put(3, 33, 1_000);
        assert_eq!(shelf.get(&3), None, "what is larger than the shelf does not stay");
        shelf.put(4, 44, 10);
        shelf.forget(&4);
        assert_eq!((shelf.get(&4), shelf.held().weight), (None, 0));
    }
}
