//! CSV, as RFC 4180 has it and as spreadsheets write it.
//!
//! Owns commas, quotes and line ends. A quote in the wrong place is an error and not a guess. Pure.

use super::ArchiveError;
use std::io::{BufReader, Bytes, Read};

/// More than a record holds.
const LONGEST_ROW: usize = 4 * 1024 * 1024;

type Result<T> = std::result::Result<T, ArchiveError>;

/// Rows, one after the other.
pub(super) struct Csv<R> {
    bytes: Bytes<BufReader<R>>,
    next: Option<u8>,
    row: u64,
}

impl<R: Read> Csv<R> {
    /// Begins to read; a mark of UTF-8 at the beginning is skipped.
    pub(super) fn new(from: R) -> Result<Self> {
        let mut csv = Csv { bytes: BufReader::new(from).bytes(), next: None, row: 0 };
        csv.step()?;
        if csv.next == Some(0xef) {
            let mark = [csv.step()?, csv.step()?];
            if mark != [Some(0xbb), Some(0xbf)] {
                return Err(csv.bad("the file is not UTF-8"));
            }
            csv.step()?;
        }
        Ok(csv)
    }

    /// The next row, counted from 0; lines with nothing in them are none.
    pub(super) fn row(&mut self) -> Result<Option<(u64, Vec<String>)>> {
        while matches!(self.next, Some(b'\r' | b'\n')) {
            self.step()?;
        }
        if self.next.is_none() {
            return Ok(None);
        }
        let (mut fields, mut length) = (Vec::new(), 0);
        loop {
            let field = self.field(LONGEST_ROW.saturating_sub(length))?;
            // The comma counts: a row of nothing but commas ends, too.
            length += field.len() + 1;
            fields.push(field);
            if self.next == Some(b',') {
                self.step()?;
                continue;
            }
            if self.next == Some(b'\r') && self.step()? != Some(b'\n') {
                return Err(self.bad("a line ends with half an end"));
            }
            break;
        }
        let row = self.row;
        self.row += 1;
        Ok(Some((row, fields)))
    }

    fn field(&mut self, room: usize) -> Result<String> {
        let quoted = self.next == Some(b'"');
        if quoted {
            self.step()?;
        }
        let mut field = Vec::new();
        loop {
            match self.next {
                Some(b'"') if quoted => {
                    // Twice means one; once is the end.
                    if self.step()? != Some(b'"') {
                        if !matches!(self.next, None | Some(b',' | b'\r' | b'\n')) {
                            return Err(self.bad("something follows a closing quote"));
                        }
                        break;
                    }
                    field.push(b'"');
                }
                Some(b'"') => return Err(self.bad("a quote stands in a field that does not begin with one")),
                Some(b',' | b'\r' | b'\n') | None if !quoted => break,
                None => return Err(self.bad("a quote is not closed")),
                Some(byte) => field.push(byte),
            }
            if field.len() >= room {
                return Err(self.bad("it is too long"));
            }
            self.step()?;
        }
        String::from_utf8(field).map_err(|_| self.bad("it is not UTF-8"))
    }

    fn step(&mut self) -> Result<Option<u8>> {
        self.next = self.bytes.next().transpose().map_err(ArchiveError::Reading)?;
        Ok(self.next)
    }

    fn bad(&self, why: &str) -> ArchiveError {
        ArchiveError::BadRow { row: self.row, why: why.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &[u8]) -> Result<Vec<Vec<String>>> {
        let mut csv = Csv::new(text)?;
        let mut rows = Vec::new();
        while let Some((_, row)) = csv.row()? {
            rows.push(row);
        }
        Ok(rows)
    }

    #[test]
    fn what_spreadsheets_write_is_read() {
        let rows = read("\u{feff}a,b\r\n\"x, \"\"y\"\"\",\r\n\r\n\"two\nlines\",ü".as_bytes()).unwrap();
        assert_eq!(rows, [["a", "b"], ["x, \"y\"", ""], ["two\nlines", "ü"]]);
        assert_eq!(read(b"").unwrap(), Vec::<Vec<String>>::new());
        assert_eq!(read(b"a,\n").unwrap(), [["a", ""]]);
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_not_read() {
        for text in [&b"a\"b"[..], b"\"a", b"\"a\"b", b"a\rb", b"\xff", b"\xef\xbb,"] {
            assert!(matches!(read(text), Err(ArchiveError::BadRow { .. })), "{text:?}");
        }
        let endless = [b"\"".as_slice(), &vec![b'x'; LONGEST_ROW + 2]].concat();
        assert!(matches!(read(&endless), Err(ArchiveError::BadRow { .. })));
    }

    proptest! {
        #[test]
        fn whatever_is_quoted_comes_back(rows in prop::collection::vec(prop::collection::vec(".*", 2..4), 0..4)) {
            let line = |row: &Vec<String>| {
                let fields: Vec<String> = row.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))).collect();
                fields.join(",") + "\n"
            };
            let text: String = rows.iter().map(line).collect();
            prop_assert_eq!(read(text.as_bytes()).unwrap(), rows);
        }

        #[test]
        fn nothing_makes_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _read_or_not = read(&bytes);
        }
    }
}
