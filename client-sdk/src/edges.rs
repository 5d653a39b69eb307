//! The edges of the world: the clock, the wait, and the place where long computations run.
//!
//! Owns three small things that the core takes from its surroundings, so that tests can stop the one and skip the
//! other. Knows nothing of accounts. Randomness is not here: keys are made in `selkie_protocol::cipher`.

use async_trait::async_trait;
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tells the time in milliseconds since 1970. Nothing depends on its being right but the reuse of an access token.
pub trait Clock: Send + Sync + Debug {
    /// The time, in milliseconds since 1970.
    fn now_ms(&self) -> u64;
}

/// What an async runtime does for the core. With tokio there is nothing to do: `TokioRuntime` is the default.
#[async_trait]
pub trait Runtime: Send + Sync + Debug {
    /// Runs a job that computes or blocks for a while (a password is stretched for 150 ms) away from the threads that
    /// drive futures.
    fn run_apart(&self, job: Box<dyn FnOnce() + Send>);

    /// A pause before something is tried again.
    async fn sleep(&self, duration: Duration);

    /// Drives a task beside everything else, until it ends by itself. What the SDK does in the background runs so.
    fn spawn(&self, task: Task);
    /// How long is waited at most for something that should come before that. A runtime that cuts pauses short, as
    /// tests like to, must not cut this short.
    async fn patience(&self, duration: Duration) {
        self.sleep(duration).await;
    }
}

/// Something that runs beside the app: see [`Runtime::spawn`].
pub type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// Tokio's blocking threads and timer.
#[cfg(feature = "tokio")]
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioRuntime;

#[cfg(feature = "tokio")]
#[async_trait]
impl Runtime for TokioRuntime {
    fn run_apart(&self, job: Box<dyn FnOnce() + Send>) {
        drop(tokio::task::spawn_blocking(job));
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }

    fn spawn(&self, task: Task) {
        drop(tokio::spawn(task));
    }
}

/// The one that an app has if it says nothing.
#[cfg(feature = "tokio")]
pub(crate) fn usual_runtime() -> Option<Arc<dyn Runtime>> {
    Some(Arc::new(TokioRuntime))
}

#[cfg(not(feature = "tokio"))]
pub(crate) fn usual_runtime() -> Option<Arc<dyn Runtime>> {
    None
}

/// How one task hands another a single thing: no runtime is needed for that.
pub(crate) use futures_channel::oneshot::{Receiver as Take, Sender as Give, channel as handover};

/// What the outermost layer hands to everything below it.
#[derive(Clone, Debug)]
pub(crate) struct Edges {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) runtime: Arc<dyn Runtime>,
}

/// The runtime ended before the job did.
#[derive(Debug, thiserror::Error)]
#[error("the async runtime is shutting down")]
pub(crate) struct Abandoned;

impl Edges {
    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// Runs a job apart and waits for what it yields.
    pub(crate) async fn apart<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Abandoned> {
        let (give, take) = handover();
        self.runtime.run_apart(Box::new(move || {
            // Nobody waits any more if the future was dropped; the job's result is then of no use to anybody.
            let _ = give.send(job());
        }));
        take.await.map_err(|_| Abandoned)
    }
}
