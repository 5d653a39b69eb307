//! A clock that stands still until it is moved, for a server or a client.
//!
//! Knows nothing about who reads it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Clones show the same time.
#[derive(Clone, Debug)]
pub struct ManualClock {
    ms: Arc<AtomicI64>,
}

impl ManualClock {
    /// Stands at the present: what is signed with it is believed by others for a while.
    pub fn at_present() -> Self {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        ManualClock { ms: Arc::new(AtomicI64::new(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))) }
    }

    pub fn advance(&self, by: Duration) {
        self.shift(i64::try_from(by.as_millis()).expect("a test lasts less than an age"));
    }

    /// Backwards too.
    pub fn shift(&self, ms: i64) {
        self.ms.fetch_add(ms, Ordering::SeqCst);
    }

    pub fn now_ms(&self) -> i64 {
        self.ms.load(Ordering::SeqCst)
    }
}

impl selkie_server::edges::Clock for ManualClock {
    fn now_ms(&self) -> i64 {
        ManualClock::now_ms(self)
    }
}
