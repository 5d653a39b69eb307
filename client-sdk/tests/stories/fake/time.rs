//! Time that stands still until everybody waits for it: days of a schedule pass in a moment, and in order.
//!
//! Owns a clock, the sleepers, and what it is to be idle. It needs tokio's runtime of one thread.

use async_trait::async_trait;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use selkie_client::{Clock, Runtime, Task, TokioRuntime};
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

/// So often everybody may run before they count as idle.
const TURNS: usize = 30;

#[derive(Debug)]
pub(crate) struct Time {
    dial: Mutex<Dial>,
    jobs: Arc<Jobs>,
}

#[derive(Debug)]
struct Dial {
    now_ms: u64,
    sleepers: Vec<(u64, Waker)>,
}

/// What was given to other threads: all of it so far, and what is not done.
#[derive(Debug, Default)]
struct Jobs {
    begun: AtomicUsize,
    open: AtomicUsize,
}

impl Time {
    pub(crate) fn beginning_at(now_ms: u64) -> Arc<Self> {
        let dial = Mutex::new(Dial { now_ms, sleepers: Vec::new() });
        Arc::new(Time { dial, jobs: Arc::default() })
    }

    /// Lets so much time pass, and all that is due in it happen.
    pub(crate) async fn pass(&self, time: Duration) {
        let until = self.now_ms() + millis(time);
        loop {
            self.idle().await;
            if !self.step(until) {
                break;
            }
        }
        self.turn_to(until);
        self.idle().await;
    }

    /// The first of a stream that fits. It comes within so much time, or never.
    pub(crate) async fn until<T: std::fmt::Debug>(
        &self,
        within: Duration,
        stream: &mut (impl Stream<Item = T> + Unpin),
        fits: impl Fn(&T) -> bool,
    ) -> T {
        let (limit, mut last) = (self.now_ms() + millis(within), None);
        loop {
            match self.poll(stream).await {
                Some(now) if fits(&now) => return now,
                Some(now) => last = Some(now),
                None => assert!(self.step(limit), "the last was {last:#?}"),
            }
        }
    }

    /// What a stream has to say without any time passing.
    pub(crate) async fn poll<T>(&self, stream: &mut (impl Stream<Item = T> + Unpin)) -> Option<T> {
        loop {
            self.idle().await;
            let begun = self.jobs.begun.load(Ordering::SeqCst);
            if let Some(next) = stream.next().now_or_never() {
                return next;
            }
            if self.jobs.begun.load(Ordering::SeqCst) == begun {
                return None;
            }
        }
    }

    /// Until everybody waits for time to pass.
    async fn idle(&self) {
        let mut quiet = 0;
        while quiet < TURNS {
            quiet += 1;
            if self.jobs.open.load(Ordering::SeqCst) > 0 {
                quiet = 0;
                std::thread::yield_now();
            }
            tokio::task::yield_now().await;
        }
    }

    /// Goes on to when the next sleeper wakes, if that is soon enough.
    fn step(&self, limit: u64) -> bool {
        let next = self.dial.lock().unwrap().sleepers.iter().map(|(at, _)| *at).min();
        match next.filter(|next| *next <= limit) {
            Some(next) => {
                self.turn_to(next);
                true
            }
            None => false,
        }
    }

    fn turn_to(&self, ms: u64) {
        let mut dial = self.dial.lock().unwrap();
        dial.now_ms = dial.now_ms.max(ms);
        let (awake, asleep) = std::mem::take(&mut dial.sleepers).into_iter().partition(|(at, _)| *at <= ms);
        dial.sleepers = asleep;
        let awake: Vec<(u64, Waker)> = awake;
        awake.into_iter().for_each(|(_, waker)| waker.wake());
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap()
}

impl Clock for Time {
    fn now_ms(&self) -> u64 {
        self.dial.lock().unwrap().now_ms
    }
}

#[async_trait]
impl Runtime for Time {
    fn run_apart(&self, job: Box<dyn FnOnce() + Send>) {
        let jobs = self.jobs.clone();
        jobs.begun.fetch_add(1, Ordering::SeqCst);
        jobs.open.fetch_add(1, Ordering::SeqCst);
        TokioRuntime.run_apart(Box::new(move || {
            job();
            jobs.open.fetch_sub(1, Ordering::SeqCst);
        }));
    }

    async fn sleep(&self, duration: Duration) {
        let until = self.now_ms() + millis(duration).max(1);
        poll_fn(|context| {
            let mut dial = self.dial.lock().unwrap();
            if dial.now_ms >= until {
                return Poll::Ready(());
            }
            dial.sleepers.push((until, context.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    fn spawn(&self, task: Task) {
        TokioRuntime.spawn(task);
    }
}
