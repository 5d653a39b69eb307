//! One operation on its way through a thread: asked, run, answered.
//!
//! Knows nothing of transactions; those are the threads' own.

use super::{Conn, Operation};
use crate::store::failure::{Failure, Outcome, unavailable};
use crate::store::{Result, StoreError};
use futures_util::FutureExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio::sync::oneshot;

pub(super) trait Job: Send {
    /// Runs the operation; whether what it did is to be kept.
    fn run(&mut self, conn: &mut Conn) -> bool;
    /// Tells who asked. What was done counts only if the transaction around it did.
    fn answer(self: Box<Self>, committed: std::result::Result<(), NotCommitted>);
}

/// Why a transaction around several operations came to nothing.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the transaction was not committed")]
pub(super) struct NotCommitted(#[source] pub(super) Arc<diesel::result::Error>);

pub(super) struct Asked<A, R> {
    args: A,
    operation: Operation<A, R>,
    outcome: Option<Outcome<R>>,
    reply: oneshot::Sender<Result<R>>,
}

impl<A, R> Asked<A, R> {
    pub(super) fn new(args: A, operation: Operation<A, R>, reply: oneshot::Sender<Result<R>>) -> Self {
        Asked { args, operation, outcome: None, reply }
    }
}

impl<A: Send, R: Send> Job for Asked<A, R> {
    fn run(&mut self, conn: &mut Conn) -> bool {
        // A panic is a bug; it must not take the thread along, on which everybody depends.
        let outcome = catch_unwind(AssertUnwindSafe(|| (self.operation)(conn, &self.args).now_or_never()));
        let outcome = match outcome {
            Ok(Some(outcome)) => outcome,
            Ok(None) => Err(Failure::bug("an operation waited for something else than the database")),
            Err(_) => Err(Failure::bug("an operation panicked")),
        };
        let keep = outcome.is_ok();
        self.outcome = Some(outcome);
        keep
    }

    fn answer(self: Box<Self>, committed: std::result::Result<(), NotCommitted>) {
        let answer = match (committed, self.outcome) {
            (Ok(()), Some(outcome)) => outcome.map_err(StoreError::from),
            (Ok(()), None) => Err(Failure::bug("an operation was answered before it ran").into()),
            (Err(error), _) => Err(unavailable(error)),
        };
        // Nobody may be waiting any more; what was done is done all the same.
        let _ = self.reply.send(answer);
    }
}
