//! A device by itself, in memory: a vault for one input, made and forgotten within it.
//!
//! Owns the client's edges as a fuzzer wants them: a clock that stands, and nothing that runs elsewhere, so that a
//! panic comes out where the input went in.

use async_trait::async_trait;
use futures_util::FutureExt as _;
use selkie_client::{Client, Clock, Runtime, Task, Vault};
use std::sync::Arc;
use std::time::Duration;

/// Some time in 2027.
pub(crate) const NOW_MS: u64 = 1_800_000_000_000;

/// A new vault with nothing in it.
pub(crate) fn vault() -> Vault {
    let edges = Arc::new(Here);
    let client = Client::alone().in_memory().clock(edges.clone()).runtime(edges).build().expect("nothing is missing");
    now(client.vault("Personal")).expect("memory takes everything")
}

/// What is all done at once, because nothing here waits for anything.
pub(crate) fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing waits here")
}

#[derive(Debug)]
pub(crate) struct Here;

impl Clock for Here {
    fn now_ms(&self) -> u64 {
        NOW_MS
    }
}

#[async_trait]
impl Runtime for Here {
    fn run_apart(&self, job: Box<dyn FnOnce() + Send>) {
        job();
    }

    async fn sleep(&self, _: Duration) {}

    async fn patience(&self, _: Duration) {
        std::future::pending().await
    }

    fn spawn(&self, task: Task) {
        drop(task);
    }
}
