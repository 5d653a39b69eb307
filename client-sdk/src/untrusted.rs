//! Text that a server sent and a person may see.
//!
//! Owns how such text is cut and cleaned, so that a server cannot fill a screen, move a cursor or pass for the app.
//! Knows nothing of what the text says.

/// At most this many characters of anything a server says are shown.
const LONGEST: usize = 300;

/// The text on one line, without control and direction characters, and not longer than a person would read.
pub(crate) fn clean(text: &str) -> String {
    let mut kept: String = text
        .chars()
        .map(|c| if c.is_whitespace() { ' ' } else { c })
        .filter(|c| !c.is_control() && !is_invisible(*c))
        .take(LONGEST + 1)
        .collect();
    if kept.chars().count() > LONGEST {
        kept.pop();
        kept.push('…');
    }
    kept
}

/// Characters that reorder or hide the text around them.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn plain_text_stays_as_it_is() {
        assert_eq!(clean("Ask Ana (Łódź), 漢字"), "Ask Ana (Łódź), 漢字");
    }

    #[test]
    fn a_server_cannot_drive_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\r\nc\u{202e}d\u{7}\u{9b}"), "a[2Jb  cd");
    }

    #[test]
    fn a_novel_is_cut() {
        let cut = clean(&"x".repeat(100_000));
        assert_eq!(cut.chars().count(), 301);
        assert!(cut.ends_with('…'));
    }
}
