//! Damaged copies of inputs, by dice that fall the same way every time.
//!
//! Owns the dice and the ways to damage. For where there is no fuzzer that sees what is covered.

/// Bytes that mean something to one of the readers: lengths, openings, endings, numbers at their limits.
const MEANINGFUL: [&[u8]; 16] = [
    &[0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff],
    &[0, 0, 0, 0],
    &[0xbf],
    &[0xf6],
    b"{\"a\":[",
    b"null",
    b"\\ud800",
    b"1e400",
    b"18446744073709551616",
    b"-0.0",
    b"\"\"",
    b"\n\n",
    b"\r\n",
    "\u{202e}\u{130}".as_bytes(),
];

/// Makes damaged copies.
pub struct Damage(u64);

impl Damage {
    /// Equal seeds, equal damage.
    pub fn new(seed: u64) -> Damage {
        Damage(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// One of these, damaged in a few places, perhaps with a part of another in it.
    pub fn copy(&mut self, inputs: &[Vec<u8>]) -> Vec<u8> {
        if inputs.is_empty() {
            return self.noise(64);
        }
        let mut bytes = inputs[self.below(inputs.len())].clone();
        for _ in 0..=self.below(4) {
            self.damage(&mut bytes, inputs);
        }
        bytes
    }

    fn damage(&mut self, bytes: &mut Vec<u8>, inputs: &[Vec<u8>]) {
        let (at, end) = self.range(bytes.len());
        match self.below(8) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = self.next() as u8,
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..end)),
            4 => bytes.extend_from_within(at..end),
            5 => drop(bytes.splice(at..end, MEANINGFUL[self.below(MEANINGFUL.len())].iter().copied())),
            6 => {
                let other = &inputs[self.below(inputs.len())];
                let (from, to) = self.range(other.len());
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            _ => drop(bytes.splice(at..at, self.noise(8))),
        }
    }

    fn range(&mut self, length: usize) -> (usize, usize) {
        let at = self.below(length + 1);
        let most = if self.below(4) == 0 { length - at } else { (length - at).min(16) };
        (at, at + self.below(most + 1))
    }

    fn noise(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.next() as u8).collect()
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}
