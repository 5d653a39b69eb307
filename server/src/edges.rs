//! The clock and the dice: the two things a server takes from the world without being asked to.
//!
//! They are handed in, so that a test can stop the one and know the other.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the time in milliseconds since 1970.
pub trait Clock: Send + Sync + std::fmt::Debug {
    fn now_ms(&self) -> i64;
}

/// Fills a buffer with bytes nobody can guess.
pub trait Dice: Send + Sync + std::fmt::Debug {
    fn fill(&self, buffer: &mut [u8]);
}

/// What the outermost layer hands to everything below it.
#[derive(Clone, Debug)]
pub struct Edges {
    pub clock: Arc<dyn Clock>,
    pub dice: Arc<dyn Dice>,
}

impl Edges {
    /// The machine's own clock and the operating system's random source.
    pub fn real() -> Self {
        Edges { clock: Arc::new(SystemClock), dice: Arc::new(SystemDice) }
    }

    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    pub fn bytes<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.dice.fill(&mut bytes);
        bytes
    }

    /// A random UUID (version 4).
    pub fn uuid(&self) -> uuid::Uuid {
        uuid::Builder::from_random_bytes(self.bytes()).into_uuid()
    }
}

#[derive(Debug)]
struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }
}

#[derive(Debug)]
struct SystemDice;

impl Dice for SystemDice {
    fn fill(&self, buffer: &mut [u8]) {
        // Without randomness nothing here is safe: to stop is the only honest answer.
        aws_lc_rs::rand::fill(buffer).expect("the operating system's random source works");
    }
}
