//! What two sequences have in common, and the merge of two that grew out of a third.
//!
//! Owns the alignment (Myers' algorithm) and the three-way walk over it. Pure, symmetric: which side is called mine
//! changes nothing but the names. Knows nothing of text or fields.

/// A piece of a three-way merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece<'a, T> {
    /// At most one side changed this.
    Agreed(&'a [T]),
    /// Both did, and differently; `base` is what was there.
    Clash { base: &'a [T], mine: &'a [T], theirs: &'a [T] },
}

/// More edits than these between two versions, and what lies between their common beginning and end counts as changed
/// whole: aligning it would take long and tell little.
const MOST_EDITS: usize = 1_000;

/// For each element of `base` where it is in `other`, ascending.
fn aligned<T: PartialEq>(base: &[T], other: &[T]) -> Vec<Option<usize>> {
    let head = base.iter().zip(other).take_while(|(one, other)| one == other).count();
    let (rest, others) = (&base[head..], &other[head..]);
    let tail = rest.iter().rev().zip(others.iter().rev()).take_while(|(one, other)| one == other).count();
    let (middle, others) = (&rest[..rest.len() - tail], &others[..others.len() - tail]);
    let mut found: Vec<Option<usize>> = (0..head).map(Some).collect();
    let inner = shortest_edit(middle, others).unwrap_or_else(|| vec![None; middle.len()]);
    found.extend(inner.into_iter().map(|place| place.map(|place| place + head)));
    found.extend((other.len() - tail..other.len()).map(Some));
    found
}

/// Myers' greedy walk: the fewest insertions and deletions that make one of the other. `None` if that are too many.
fn shortest_edit<T: PartialEq>(a: &[T], b: &[T]) -> Option<Vec<Option<usize>>> {
    let most = (a.len() + b.len()).min(MOST_EDITS);
    // How far along each diagonal `k` one gets with so many edits; `ends[most + k]`.
    let mut ends = vec![0_usize; 2 * most + 2];
    let at = |k: isize| (most as isize + k) as usize;
    let mut trace: Vec<Vec<usize>> = Vec::new();
    for edits in 0..=most as isize {
        trace.push(ends[at(-edits)..=at(edits)].to_vec());
        for k in (-edits..=edits).step_by(2) {
            let down = k == -edits || (k != edits && ends[at(k - 1)] < ends[at(k + 1)]);
            let mut x = if down { ends[at(k + 1)] } else { ends[at(k - 1)] + 1 };
            let mut y = (x as isize - k) as usize;
            while x < a.len() && y < b.len() && a[x] == b[y] {
                (x, y) = (x + 1, y + 1);
            }
            ends[at(k)] = x;
            if x >= a.len() && y >= b.len() {
                return Some(walk_back(a.len(), b.len(), &trace));
            }
        }
    }
    None
}

fn walk_back(mut x: usize, mut y: usize, trace: &[Vec<usize>]) -> Vec<Option<usize>> {
    let mut found = vec![None; x];
    for (edits, ends) in trace.iter().enumerate().rev() {
        let edits = edits as isize;
        let k = x as isize - y as isize;
        // Of the step before only the diagonals that it had reached count.
        let end = |k: isize| ends.get((k + edits) as usize).copied().unwrap_or_default();
        let down = k == -edits || (k != edits && end(k - 1) < end(k + 1));
        let before = if down { k + 1 } else { k - 1 };
        let (from_x, from_y) = match edits {
            0 => (0, 0),
            _ => (end(before), (end(before) as isize - before) as usize),
        };
        let (start_x, _) = match edits {
            0 => (0, 0),
            _ if down => (from_x, from_y + 1),
            _ => (from_x + 1, from_y),
        };
        while x > start_x {
            (x, y) = (x - 1, y - 1);
            found[x] = Some(y);
        }
        (x, y) = (from_x, from_y);
    }
    found
}

/// Goes through all three at once.
pub(super) fn merge<'a, T: PartialEq>(base: &'a [T], mine: &'a [T], theirs: &'a [T]) -> Vec<Piece<'a, T>> {
    let (in_mine, in_theirs) = (aligned(base, mine), aligned(base, theirs));
    let mut pieces = Vec::new();
    let (mut b, mut m, mut t) = (0, 0, 0);
    let mut between = |b: &'a [T], m: &'a [T], t: &'a [T]| match (m == b, t == b, m == t) {
        (true, true, _) if b.is_empty() => {}
        (true, _, _) => pieces.push(Piece::Agreed(t)),
        (_, true, _) | (_, _, true) => pieces.push(Piece::Agreed(m)),
        _ => pieces.push(Piece::Clash { base: b, mine: m, theirs: t }),
    };
    for (place, both) in in_mine.iter().zip(&in_theirs).enumerate() {
        let (Some(here), Some(there)) = both else { continue };
        between(&base[b..place], &mine[m..*here], &theirs[t..*there]);
        between(&base[place..=place], &mine[*here..=*here], &theirs[*there..=*there]);
        (b, m, t) = (place + 1, here + 1, there + 1);
    }
    between(&base[b..], &mine[m..], &theirs[t..]);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn letters() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(0..4_u8, 0..24)
    }

    fn common(base: &[u8], other: &[u8]) -> usize {
        aligned(base, other).iter().flatten().count()
    }

    /// The textbook's table.
    fn longest_common(a: &[u8], b: &[u8]) -> usize {
        let mut row = vec![0; b.len() + 1];
        for x in a {
            let mut before = 0;
            for (j, y) in b.iter().enumerate() {
                let above = row[j + 1];
                row[j + 1] = if x == y { before + 1 } else { above.max(row[j]) };
                before = above;
            }
        }
        row[b.len()]
    }

    proptest! {
        #[test]
        fn an_alignment_is_true_and_as_long_as_can_be(a in letters(), b in letters()) {
            let places = aligned(&a, &b);
            prop_assert!(places.iter().zip(&a).all(|(place, x)| place.is_none_or(|place| b[place] == *x)));
            let places: Vec<usize> = places.into_iter().flatten().collect();
            prop_assert!(places.is_sorted_by(|one, next| one < next));
            prop_assert_eq!(places.len(), longest_common(&a, &b));
        }

        #[test]
        fn whoever_is_called_mine_changes_nothing(base in letters(), a in letters(), b in letters()) {
            let turned = merge(&base, &b, &a).into_iter().map(|piece| match piece {
                Piece::Clash { base, mine, theirs } => Piece::Clash { base, mine: theirs, theirs: mine },
                agreed => agreed,
            });
            prop_assert_eq!(merge(&base, &a, &b), turned.collect::<Vec<_>>());
        }

        #[test]
        fn a_side_that_changed_nothing_loses_nothing(base in letters(), a in letters()) {
            let all: Vec<u8> = merge(&base, &a, &base).into_iter().flat_map(|piece| match piece {
                Piece::Agreed(piece) => piece.to_vec(),
                Piece::Clash { .. } => vec![99],
            }).collect();
            prop_assert_eq!(all, a);
        }
    }

    #[test]
    fn too_many_edits_are_one_change() {
        let base: Vec<u32> = (0..5_000).collect();
        let mut other: Vec<u32> = (10_000..15_000).collect();
        other[0] = 0;
        other[4_999] = 4_999;
        assert_eq!(aligned(&base, &other).iter().flatten().count(), 2);
        assert_eq!(common(b"abc", b"abc"), 3);
    }
}
