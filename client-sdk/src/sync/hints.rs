//! Reads server-sent events.
//!
//! Owns the text of the stream: lines into hints. Pure: bytes in, hints out. Nothing in it is believed: a hint says
//! where looking may be worth while, and whoever looks checks what they find.

use selkie_protocol::Face;
use selkie_protocol::vault::VaultMoved;
use std::collections::VecDeque;

/// No honest event is longer.
const LONGEST_LINE: usize = 4 * 1024;

/// What a server hints at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    Moved(VaultMoved),
    /// Something may have been missed; and whatever this version does not know.
    LookAround,
    /// It is still there.
    Beat,
}

/// The stream is not one of events.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotEvents;

/// Takes the stream as it comes, however it is cut into pieces.
#[derive(Debug, Default)]
pub(crate) struct Hints {
    line: Vec<u8>,
    event: Vec<u8>,
    data: Vec<u8>,
    said: VecDeque<Said>,
}

impl Hints {
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(), NotEvents> {
        for byte in bytes {
            match byte {
                b'\n' => self.end_of_line(),
                b'\r' => {}
                _ if self.line.len() >= LONGEST_LINE => return Err(NotEvents),
                byte => self.line.push(*byte),
            }
        }
        Ok(())
    }

    pub(crate) fn next(&mut self) -> Option<Said> {
        self.said.pop_front()
    }

    fn end_of_line(&mut self) {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            self.end_of_event();
        } else if line[0] == b':' {
            self.say(Said::Beat);
        } else if let Some(name) = value(&line, b"event") {
            self.event = name.to_vec();
        } else if let Some(data) = value(&line, b"data") {
            self.data = data.to_vec();
        }
    }

    fn end_of_event(&mut self) {
        let (event, data) = (std::mem::take(&mut self.event), std::mem::take(&mut self.data));
        if event.is_empty() && data.is_empty() {
            return;
        }
        let moved = if event == b"vault" { Face::Json.decode::<VaultMoved>(&data).ok() } else { None };
        self.say(moved.map_or(Said::LookAround, Said::Moved));
    }

    /// One look answers any number of hints alike: a server cannot fill the memory with them.
    fn say(&mut self, said: Said) {
        if !self.said.contains(&said) {
            self.said.push_back(said);
        }
    }
}

fn value<'a>(line: &'a [u8], field: &[u8]) -> Option<&'a [u8]> {
    let rest = line.strip_prefix(field)?.strip_prefix(b":")?;
    Some(rest.strip_prefix(b" ").unwrap_or(rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use selkie_protocol::id::VaultId;

    fn all(pieces: &[&[u8]]) -> Vec<Said> {
        let mut hints = Hints::default();
        pieces.iter().for_each(|piece| hints.take(piece).unwrap());
        std::iter::from_fn(|| hints.next()).collect()
    }

    fn moved(n: u64) -> (Vec<u8>, Said) {
        let said = VaultMoved { vid: VaultId([0; 32]), n };
        let text = format!("event: vault\ndata: {{\"vid\":\"{}\",\"n\":{n}}}\n\n", "A".repeat(43));
        (text.into_bytes(), Said::Moved(said))
    }

    #[test]
    fn a_stream_says_the_same_however_it_is_cut() {
        let (text, said) = moved(7);
        let text = [b"event: resync\ndata: {}\n\n".as_slice(), &text, b":\n\n"].concat();
        let expected = [Said::LookAround, said, Said::Beat];
        assert_eq!(all(&[&text]), expected);
        for at in 0..text.len() {
            assert_eq!(all(&[&text[..at], &text[at..]]), expected, "cut at {at}");
        }
        let windows = String::from_utf8(text).unwrap().replace('\n', "\r\n");
        assert_eq!(all(&[windows.as_bytes()]), expected);
    }

    #[test]
    fn what_is_not_known_is_a_reason_to_look() {
        assert_eq!(all(&[b"event: party\ndata: {}\n\n"]), [Said::LookAround]);
        assert_eq!(all(&[b"event: vault\ndata: nonsense\n\n"]), [Said::LookAround]);
        assert_eq!(all(&[b"id: 4\nretry: 9\n\n"]), []);
    }

    #[test]
    fn neither_one_long_line_nor_many_short_ones_fill_the_memory() {
        let mut hints = Hints::default();
        assert_eq!(hints.take(&vec![b'x'; LONGEST_LINE + 1]), Err(NotEvents));
        let many: Vec<u8> = (0..1000).flat_map(|_| b"event: resync\ndata: {}\n\n".to_vec()).collect();
        assert_eq!(all(&[&many]), [Said::LookAround]);
    }
}
