//! What turns one list of records into another, in steps that a list on a screen can take.
//!
//! Owns finding the steps: as few as there can be, each with the place it has when it is taken. Pure; knows nothing of
//! where the lists come from.

use super::query::Found;
use selkie_protocol::id::RecordId;
use std::collections::HashMap;

/// What turns the list that was shown into the one to show now: see [`Query::changes`](crate::Query::changes). The
/// steps are taken in the order of these fields, and each place is one in the list as the steps before have left it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference<T> {
    /// What is no longer shown, from the end of the list to its beginning.
    pub removed: Vec<Removed>,
    /// What is shown elsewhere, in as few steps as there can be.
    pub moved: Vec<Moved>,
    /// What was not shown before, from the beginning of the list to its end.
    pub added: Vec<Placed<T>>,
    /// What says something else in its place.
    pub changed: Vec<Placed<T>>,
}

/// A record that is no longer shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Where it stood.
    pub at: usize,
    /// Which it was.
    pub id: RecordId,
}

/// A record that is taken out of one place and put into another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Where it stood.
    pub from: usize,
    /// Where it stands afterwards.
    pub to: usize,
    /// Which it is.
    pub id: RecordId,
}

/// A record in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed<T> {
    /// Where it stands.
    pub at: usize,
    /// Which it is.
    pub id: RecordId,
    /// What it says.
    pub value: T,
}

impl<T> Difference<T> {
    /// Takes the steps. In a list that is not the one they begin from, steps that lead nowhere are left out.
    pub fn apply(&self, list: &mut Vec<Found<T>>)
    where
        T: Clone,
    {
        for Removed { at, .. } in &self.removed {
            if *at < list.len() {
                list.remove(*at);
            }
        }
        for Moved { from, to, .. } in &self.moved {
            if *from < list.len() && *to < list.len() {
                let one = list.remove(*from);
                list.insert(*to, one);
            }
        }
        for Placed { at, id, value } in &self.added {
            list.insert((*at).min(list.len()), Found { id: *id, value: value.clone() });
        }
        for Placed { at, id, value } in &self.changed {
            if let Some(place) = list.get_mut(*at) {
                *place = Found { id: *id, value: value.clone() };
            }
        }
    }

    /// Nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.removed.is_empty() && self.moved.is_empty() && self.added.is_empty() && self.changed.is_empty()
    }

    /// The same steps with other values; or the first that could not be made.
    pub(super) fn try_map<V, E>(self, make: impl Fn(RecordId, T) -> Result<V, E>) -> Result<Difference<V>, E> {
        let placed = |all: Vec<Placed<T>>| {
            let each = |Placed { at, id, value }| Ok(Placed { at, id, value: make(id, value)? });
            all.into_iter().map(each).collect::<Result<Vec<_>, E>>()
        };
        let (added, changed) = (placed(self.added)?, placed(self.changed)?);
        Ok(Difference { removed: self.removed, moved: self.moved, added, changed })
    }
}

/// The steps from one list to another. No record is in a list twice.
pub(super) fn between<T: PartialEq + Clone>(old: &[(RecordId, T)], new: &[(RecordId, T)]) -> Difference<T> {
    let was: HashMap<RecordId, &T> = old.iter().map(|(id, value)| (*id, value)).collect();
    let is: HashMap<RecordId, usize> = new.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect();
    let gone = old.iter().enumerate().filter(|(_, (id, _))| !is.contains_key(id));
    let removed = gone.map(|(at, (id, _))| Removed { at, id: *id }).rev().collect();
    // What stays, by where it is to stand.
    let stays: Vec<usize> = old.iter().filter_map(|(id, _)| is.get(id).copied()).collect();
    let moved = moves(&stays).into_iter().map(|(from, to, at)| Moved { from, to, id: new[at].0 }).collect();
    let placed = |at: usize| Placed { at, id: new[at].0, value: new[at].1.clone() };
    let differs = |at: &usize| was.get(&new[*at].0).is_some_and(|before| **before != new[*at].1);
    Difference {
        removed,
        moved,
        added: (0..new.len()).filter(|at| !was.contains_key(&new[*at].0)).map(placed).collect(),
        changed: (0..new.len()).filter(differs).map(placed).collect(),
    }
}

/// How distinct numbers are put in order by taking as few as possible out of their places: from where, to where, and
/// which.
fn moves(numbers: &[usize]) -> Vec<(usize, usize, usize)> {
    let stay = longest_in_order(numbers);
    if stay.len() == numbers.len() {
        return Vec::new();
    }
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable();
    let (mut list, mut moves) = (numbers.to_vec(), Vec::new());
    let mut before = None;
    for number in sorted {
        if stay.binary_search(&number).is_err() {
            let place = |wanted: usize| list.iter().position(|known| *known == wanted);
            let from = place(number).expect("nothing is ever taken out for good");
            // Right behind the one before it, which has its place by now.
            let behind = before.and_then(place).map_or(0, |at| at + 1);
            let to = if from < behind { behind - 1 } else { behind };
            list.remove(from);
            list.insert(to, number);
            moves.push((from, to, number));
        }
        before = Some(number);
    }
    moves
}

/// The longest ascending selection of distinct numbers.
fn longest_in_order(numbers: &[usize]) -> Vec<usize> {
    // By length: where the selection of that length ends that ends lowest. And what each is preceded by.
    let mut ends: Vec<usize> = Vec::new();
    let mut preceded: Vec<Option<usize>> = Vec::with_capacity(numbers.len());
    for (at, number) in numbers.iter().enumerate() {
        let length = ends.partition_point(|end| numbers[*end] < *number);
        preceded.push(length.checked_sub(1).map(|shorter| ends[shorter]));
        if length == ends.len() {
            ends.push(at);
        } else {
            ends[length] = at;
        }
    }
    let mut selected = Vec::with_capacity(ends.len());
    let mut next = ends.last().copied();
    while let Some(at) = next {
        selected.push(numbers[at]);
        next = preceded[at];
    }
    selected.reverse();
    selected
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn list(of: &[(u8, u8)]) -> Vec<(RecordId, u8)> {
        let mut seen = BTreeSet::new();
        of.iter().filter(|(id, _)| seen.insert(*id)).map(|(id, value)| (RecordId([*id; 16]), *value)).collect()
    }

    fn shown(list: &[(RecordId, u8)]) -> Vec<Found<u8>> {
        list.iter().map(|(id, value)| Found { id: *id, value: *value }).collect()
    }

    proptest! {
        #[test]
        fn the_old_list_becomes_the_new_one_and_nothing_is_touched_that_need_not_be(
            old in prop::collection::vec((0_u8..24, 0_u8..3), 0..30),
            new in prop::collection::vec((0_u8..24, 0_u8..3), 0..30),
        ) {
            let (old, new) = (list(&old), list(&new));
            let difference = between(&old, &new);
            let mut applied = shown(&old);
            difference.apply(&mut applied);
            prop_assert_eq!(&applied, &shown(&new));
            prop_assert_eq!(difference.is_empty(), old == new);
            let ids = |list: &[(RecordId, u8)]| list.iter().map(|(id, _)| *id).collect::<BTreeSet<_>>();
            prop_assert_eq!(difference.removed.len(), ids(&old).difference(&ids(&new)).count());
            prop_assert_eq!(difference.added.len(), ids(&new).difference(&ids(&old)).count());
            let kept: Vec<_> = old.iter().filter(|(id, _)| ids(&new).contains(id)).collect();
            let differ = kept.iter().filter(|one| !new.contains(one)).count();
            prop_assert_eq!(difference.changed.len(), differ);
        }

        #[test]
        fn of_a_list_that_was_shuffled_the_longest_part_in_order_stays(
            numbers in Just((0..7_usize).collect::<Vec<_>>()).prop_shuffle()
        ) {
            let ascends = |chosen: u32| {
                let chosen = numbers.iter().enumerate().filter(|(at, _)| chosen & (1 << at) != 0);
                let chosen: Vec<usize> = chosen.map(|(_, number)| *number).collect();
                chosen.is_sorted().then_some(chosen.len())
            };
            let longest = (0..1_u32 << numbers.len()).filter_map(ascends).max().unwrap();
            prop_assert_eq!(moves(&numbers).len(), numbers.len() - longest);
        }
    }

    #[test]
    fn one_that_goes_to_the_end_is_one_step() {
        let [old, new] = [[1, 2, 3, 4], [2, 3, 4, 1]].map(|ids| list(&ids.map(|id| (id, 0))));
        let id = RecordId([1; 16]);
        let moved = vec![Moved { from: 0, to: 3, id }];
        let expected = Difference { removed: Vec::new(), moved, added: Vec::new(), changed: Vec::new() };
        assert_eq!(between(&old, &new), expected);
    }

    #[test]
    fn steps_for_another_list_do_no_harm() {
        let difference = between(&list(&[(1, 0), (2, 0), (3, 0)]), &list(&[(3, 1), (2, 0), (4, 0)]));
        let mut other = shown(&list(&[(9, 9)]));
        difference.apply(&mut other);
    }
}
