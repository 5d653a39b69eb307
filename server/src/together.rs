//! Questions that are asked at the same time, answered by one look.
//!
//! Owns the one rule that makes such an answer true: the look begins after the question was asked. Whoever comes while
//! a look is under way waits for the next one. Knows nothing of what is asked, nor who answers.

use crate::store::{Result, StoreError};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::collections::HashMap;
use std::hash::Hash;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// How many questions one look answers.
const AT_ONCE: usize = 256;
/// How long it may take. Whoever asks later waits for it, so one that hangs must not hang everybody.
const PATIENCE: Duration = Duration::from_secs(15);

/// A desk for questions of one kind. It closes when it is dropped.
pub(crate) struct Together<Q, A>(mpsc::UnboundedSender<Asked<Q, A>>);

type Asked<Q, A> = (Q, oneshot::Sender<Result<A>>);

impl<Q: Clone + Eq + Hash + Send + 'static, A: Clone + Send + 'static> Together<Q, A> {
    /// Opens the desk on the runtime of whoever opens it. `look` answers questions that differ, in their order.
    pub(crate) fn open(look: impl Fn(Vec<Q>) -> BoxFuture<'static, Result<Vec<A>>> + Send + 'static) -> Self {
        Self::with_patience(PATIENCE, look)
    }

    fn with_patience(
        patience: Duration,
        look: impl Fn(Vec<Q>) -> BoxFuture<'static, Result<Vec<A>>> + Send + 'static,
    ) -> Self {
        let (questions, mut waiting) = mpsc::unbounded_channel::<Asked<Q, A>>();
        tokio::spawn(async move {
            let mut round = Vec::new();
            while waiting.recv_many(&mut round, AT_ONCE).await > 0 {
                let (questions, askers) = sorted(round.drain(..));
                // What breaks one look must not keep the next from being taken.
                let look = AssertUnwindSafe(look(questions)).catch_unwind();
                let answers = match tokio::time::timeout(patience, look).await {
                    Ok(Ok(answers)) => answers,
                    Ok(Err(_)) => Err(StoreError::Internal("a look at the store broke".into())),
                    Err(_) => Err(StoreError::Unavailable("the database has not answered in time".into())),
                };
                tell(askers, answers);
            }
        });
        Together(questions)
    }

    /// The answer as it was after this was called.
    pub(crate) async fn ask(&self, question: Q) -> Result<A> {
        let (answer, answered) = oneshot::channel();
        self.0.send((question, answer)).map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())?
    }
}

/// Every question once, and who asked it.
fn sorted<Q: Clone + Eq + Hash, A>(round: impl Iterator<Item = Asked<Q, A>>) -> (Vec<Q>, Vec<Vec<Asker<A>>>) {
    let (mut questions, mut askers) = (Vec::new(), Vec::<Vec<Asker<A>>>::new());
    let mut places = HashMap::new();
    for (question, asker) in round {
        let place = *places.entry(question.clone()).or_insert(questions.len());
        if place == questions.len() {
            questions.push(question);
            askers.push(Vec::new());
        }
        askers[place].push(asker);
    }
    (questions, askers)
}

type Asker<A> = oneshot::Sender<Result<A>>;

fn tell<A: Clone>(askers: Vec<Vec<Asker<A>>>, answers: Result<Vec<A>>) {
    match answers {
        Ok(answers) => {
            // Whoever got no answer learns it by the drop of what it waits for.
            for (askers, answer) in askers.into_iter().zip(answers) {
                for asker in askers {
                    // Whoever went away has no use for it.
                    let _gone = asker.send(Ok(answer.clone()));
                }
            }
        }
        Err(failure) => {
            let failure = Arc::new(failure);
            for asker in askers.into_iter().flatten() {
                let _gone = asker.send(Err(same(&failure)));
            }
        }
    }
}

/// One failure is the answer to many.
fn same(failure: &Arc<StoreError>) -> StoreError {
    match &**failure {
        StoreError::NotFound(what) => StoreError::NotFound(what),
        StoreError::Refused(refused) => StoreError::Refused(*refused),
        StoreError::Unavailable(_) => StoreError::Unavailable(Box::new(failure.clone())),
        StoreError::Internal(_) => StoreError::Internal(Box::new(failure.clone())),
    }
}

fn stopping() -> StoreError {
    StoreError::Unavailable("the server is stopping".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tokio::sync::Semaphore;

    /// What each look was asked.
    type Looks = Arc<Mutex<Vec<Vec<u8>>>>;

    /// A desk whose looks wait to be let through.
    fn desk() -> (Together<u8, u8>, Arc<Semaphore>, Looks) {
        let (gate, looks) = (Arc::new(Semaphore::new(0)), Looks::default());
        let (through, seen) = (gate.clone(), looks.clone());
        let desk = Together::open(move |questions: Vec<u8>| {
            let (through, seen) = (through.clone(), seen.clone());
            async move {
                seen.lock().unwrap().push(questions.clone());
                through.acquire().await.unwrap().forget();
                match questions.as_slice() {
                    [0] => Err(StoreError::Unavailable("no".into())),
                    [1] => panic!("as asked for"),
                    _ => Ok(questions.iter().map(|question| question * 2).collect()),
                }
            }
            .boxed()
        });
        (desk, gate, looks)
    }

    #[tokio::test]
    async fn who_asks_during_a_look_is_answered_by_the_next_one_together() {
        let (desk, gate, looks) = desk();
        let mut first = Box::pin(desk.ask(5));
        assert!((&mut first).now_or_never().is_none());
        while looks.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let mut later = [desk.ask(5), desk.ask(6), desk.ask(6)].map(Box::pin);
        for one in &mut later {
            assert!(one.now_or_never().is_none());
        }
        gate.add_permits(2);
        assert_eq!(first.await.unwrap(), 10);
        let answers = futures_util::future::join_all(later).await;
        assert_eq!(answers.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [10, 12, 12]);
        assert_eq!(*looks.lock().unwrap(), [vec![5], vec![5, 6]], "never by a look that had begun");
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_given_up_and_the_next_is_taken() {
        let hangs = |questions: Vec<u8>| match questions.as_slice() {
            [0] => std::future::pending().boxed(),
            _ => std::future::ready(Ok(questions)).boxed(),
        };
        let desk = Together::with_patience(Duration::ZERO, hangs);
        assert!(matches!(desk.ask(0).await, Err(StoreError::Unavailable(_))));
        assert_eq!(desk.ask(7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_look_that_fails_is_told_to_all_and_the_next_is_taken() {
        let (desk, gate, _) = desk();
        gate.add_permits(3);
        let (one, two) = tokio::join!(desk.ask(0), desk.ask(0));
        for failed in [one, two] {
            assert!(matches!(failed, Err(StoreError::Unavailable(_))));
        }
        assert!(matches!(desk.ask(1).await, Err(StoreError::Internal(_))));
        assert_eq!(desk.ask(7).await.unwrap(), 14);
    }
}
