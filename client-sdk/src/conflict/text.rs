//! Texts that two people changed at once.
//!
//! Owns the cutting into words and the three-way merge of them. Pure.

use super::align::{Piece, merge};

/// From so many words on a text is merged by lines.
const MOST_WORDS: usize = 8_000;

/// A text put together, and whether something that one side wrote is not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MergedText {
    /// Both, put together.
    pub text: String,
    /// Something that one of them said is not in it.
    pub lost: bool,
}

/// Merges two texts that grew out of a third. Where both changed the same words, `newer` wins; where both only added
/// something, both additions stay, the older first.
pub fn merge_text(base: &str, older: &str, newer: &str) -> MergedText {
    let by_lines = [base, older, newer].iter().any(|text| words(text).len() > MOST_WORDS);
    let cut = |text| if by_lines { lines(text) } else { words(text) };
    let (base, older, newer) = (cut(base), cut(older), cut(newer));
    let mut merged = MergedText { text: String::new(), lost: false };
    for piece in merge(&base, &older, &newer) {
        match piece {
            Piece::Agreed(words) => merged.text.extend(words.iter().copied()),
            Piece::Clash { base: [], mine, theirs } => {
                merged.text.extend(mine.iter().copied());
                merged.text.extend(theirs.iter().copied());
            }
            Piece::Clash { theirs, .. } => {
                merged.text.extend(theirs.iter().copied());
                merged.lost = true;
            }
        }
    }
    merged
}

fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// Words, the space between them, and every other sign by itself; together they are the text.
fn words(text: &str) -> Vec<&str> {
    let kind = |c: char| match c {
        c if c.is_alphanumeric() => 0,
        c if c.is_whitespace() && c != '\n' => 1,
        _ => 2,
    };
    let mut words = Vec::new();
    let mut start = 0;
    let mut before = None;
    for (at, c) in text.char_indices() {
        if before.is_some_and(|before| before != kind(c) || before == 2) {
            words.push(&text[start..at]);
            start = at;
        }
        before = Some(kind(c));
    }
    if start < text.len() {
        words.push(&text[start..]);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn changes_in_different_places_both_stand() {
        let base = "We meet on Monday at noon. Bring cake.";
        let merged =
            merge_text(base, "We meet on Tuesday at noon. Bring cake.", "We meet on Monday at noon. Bring tea.");
        assert_eq!(merged, MergedText { text: "We meet on Tuesday at noon. Bring tea.".into(), lost: false });
    }

    #[test]
    fn of_two_changes_of_one_word_the_newer_stands() {
        let merged = merge_text("the red car", "the green car", "the blue car");
        assert_eq!(merged, MergedText { text: "the blue car".into(), lost: true });
    }

    #[test]
    fn two_additions_at_one_place_both_stand() {
        let merged = merge_text("milk\n", "milk\nbread\n", "milk\neggs\n");
        assert_eq!(merged, MergedText { text: "milk\nbread\neggs\n".into(), lost: false });
    }

    proptest! {
        #[test]
        fn words_together_are_the_text(text in "\\PC{0,40}") {
            prop_assert_eq!(words(&text).concat(), text.clone());
            prop_assert_eq!(lines(&text).concat(), text);
        }

        #[test]
        fn who_changed_nothing_changes_nothing(base in "[ab \n]{0,20}", other in "[ab \n]{0,20}") {
            prop_assert_eq!(merge_text(&base, &other, &base).text, other.clone());
            prop_assert_eq!(merge_text(&base, &base, &other).text, other);
        }
    }
}
