//! Where pushes wait for each other: those that arrive while others are being written go in together.
//!
//! Owns the queue and the forming of groups: at most one group of a vault at a time, a few groups at all, first come
//! first served; and the holding of a vault for what must come right after what was seen. A commit costs much and a row
//! little, so this is what makes small pushes of many people cheap, and it adds no delay: whoever finds the desk idle
//! is served at once. What happens to a group is in `group`.

use super::ground::{Push, Tail};
use super::group::{Office, settle};
use super::refusal::{Refusal, Result};
use super::space::Counted;
use crate::store::Place;
use selkie_protocol::id::{ChangeId, RecordId, UserId, VaultId};
use selkie_protocol::vault::SignedHeadBytes;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

/// While one group is written, the next is judged.
const GROUPS: usize = 2;
/// A group is not larger than this, so that nobody waits for very many.
const GROUP_PUSHES: usize = 256;
const GROUP_BYTES: usize = 8 << 20;
/// What may wait. Past it the server has more work than it can do, and says so.
const WAITING_BYTES: usize = 64 << 20;

/// One request that wants to write in a vault.
pub(super) struct Submission {
    pub(super) at: Place,
    pub(super) vault: VaultId,
    pub(super) what: What,
    pub(super) asks: Asks,
    /// Counted for it: given back with whatever is not taken, also when its caller has gone away.
    pub(super) space: Option<Counted>,
    pub(super) answer: oneshot::Sender<Result<Taken>>,
    /// Held while it waits.
    _weight: Weight,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Push(Push),
    Tail(Tail),
}

/// What must be known to judge it.
#[derive(Clone, Debug, Default)]
pub(super) struct Asks {
    /// Of which everything must be known that is live.
    pub(super) records: Vec<RecordId>,
    /// Of which only the heads must be known, and these changes: what a difference is made on top of.
    pub(super) differences: Vec<(RecordId, Vec<ChangeId>)>,
    pub(super) chain: Vec<u64>,
    pub(super) authors: Vec<UserId>,
    /// People it speaks of, and how far their logs must reach.
    pub(super) people: Vec<(UserId, u64)>,
}

/// It stands, on disk.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    /// Where; of a tail, its last entry.
    pub(super) n: u64,
    pub(super) signed: SignedHeadBytes,
}

pub(super) struct Desk {
    office: Arc<Office>,
    queue: mpsc::UnboundedSender<Arrival>,
    waiting: Arc<AtomicUsize>,
}

/// What comes to the desk.
enum Arrival {
    Submission(Box<Submission>),
    /// Somebody needs a vault to stand still, and is told when it does.
    Hold(Place, oneshot::Sender<Held>),
    Released(Place),
}

/// A vault that stands still, as far as this server goes, until this is dropped: whoever pushes into it waits.
pub(super) struct Held {
    at: Place,
    queue: mpsc::UnboundedSender<Arrival>,
}

impl Drop for Held {
    fn drop(&mut self) {
        // Nobody there means that the server is stopping.
        let _stopping = self.queue.send(Arrival::Released(self.at));
    }
}

impl Desk {
    /// Opens the desk on the runtime of whoever opens it; it closes when it is dropped and what waited is done.
    pub(super) fn open(office: Arc<Office>) -> Self {
        let (queue, arrivals) = mpsc::unbounded_channel();
        tokio::spawn(serve(office.clone(), queue.downgrade(), arrivals));
        Desk { office, queue, waiting: Arc::default() }
    }

    /// Waits until nothing of a vault is being written, and keeps it so.
    pub(super) async fn hold(&self, at: Place) -> Result<Held> {
        let (granted, held) = oneshot::channel();
        self.queue.send(Arrival::Hold(at, granted)).map_err(|_| Refusal::Overloaded)?;
        held.await.map_err(|_| Refusal::Overloaded)
    }

    /// Like [`Desk::submit`], by who holds the vault.
    pub(super) async fn submit_held(&self, held: Held, vault: VaultId, what: What, asks: Asks) -> Result<Taken> {
        let weight = Weight::take(&self.waiting, what.bytes())?;
        let (answer, answered) = oneshot::channel();
        let submission = Submission { at: held.at, vault, what, asks, space: None, answer, _weight: weight };
        let office = self.office.clone();
        // A task of its own, as groups have: a caller that goes away must not take along what is to be told of it.
        let settling = tokio::spawn(async move {
            settle(&office, vec![Batch { at: held.at, vault, submissions: vec![submission] }]).await;
            drop(held);
        });
        settling.await.map_err(|_| Refusal::Overloaded)?;
        answered.await.map_err(|_| Refusal::Overloaded)?
    }

    /// Puts a request into the next group of its vault, and waits until that is on disk.
    pub(super) async fn submit(
        &self,
        at: Place,
        vault: VaultId,
        what: What,
        asks: Asks,
        space: Option<Counted>,
    ) -> Result<Taken> {
        let weight = Weight::take(&self.waiting, what.bytes())?;
        let (answer, answered) = oneshot::channel();
        let submission = Submission { at, vault, what, asks, space, answer, _weight: weight };
        self.queue.send(Arrival::Submission(Box::new(submission))).map_err(|_| Refusal::Overloaded)?;
        answered.await.map_err(|_| Refusal::Overloaded)?
    }
}

impl What {
    pub(super) fn bytes(&self) -> usize {
        match self {
            What::Push(push) => push.frame.len(),
            What::Tail(tail) => tail.frames.iter().map(Vec::len).sum(),
        }
    }
}

/// Room in the queue, given back when it is dropped.
struct Weight {
    waiting: Arc<AtomicUsize>,
    bytes: usize,
}

impl Weight {
    fn take(waiting: &Arc<AtomicUsize>, bytes: usize) -> Result<Self> {
        let before = waiting.fetch_add(bytes, Ordering::Relaxed);
        let weight = Weight { waiting: waiting.clone(), bytes };
        if before > WAITING_BYTES { Err(Refusal::Overloaded) } else { Ok(weight) }
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.waiting.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

async fn serve(
    office: Arc<Office>,
    queue: mpsc::WeakUnboundedSender<Arrival>,
    mut arrivals: mpsc::UnboundedReceiver<Arrival>,
) {
    let mut line = Line::default();
    let mut groups: JoinSet<Vec<Place>> = JoinSet::new();
    let mut open = true;
    while open || !groups.is_empty() || !line.is_empty() {
        tokio::select! {
            next = arrivals.recv(), if open => match next {
                Some(arrival) => {
                    line.arrive(arrival);
                    // Whoever is here already comes along.
                    while let Ok(arrival) = arrivals.try_recv() {
                        line.arrive(arrival);
                    }
                }
                None => open = false,
            },
            Some(done) = groups.join_next(), if !groups.is_empty() => match done {
                Ok(places) => line.are_free(&places),
                // Its pushes are answered by the drop of their senders. Which vaults it held is lost with it, so none
                // is held any more: that costs at most a second judging, for every append names the head it is for.
                Err(_) => {
                    tracing::error!("a group of pushes panicked");
                    line.all_are_free();
                }
            },
        }
        if let Some(queue) = queue.upgrade() {
            line.grant(&queue);
        }
        while groups.len() < GROUPS {
            let group = line.next_group();
            if group.is_empty() {
                break;
            }
            let office = office.clone();
            groups.spawn(async move {
                let places: Vec<Place> = group.iter().map(|batch| batch.at).collect();
                settle(&office, group).await;
                places
            });
        }
    }
}

/// What goes into one vault in one group, in the order in which it came.
pub(super) struct Batch {
    pub(super) at: Place,
    pub(super) vault: VaultId,
    pub(super) submissions: Vec<Submission>,
}

/// Those who wait, by vault, and which vaults are being written.
#[derive(Default)]
struct Line {
    waiting: HashMap<Place, VecDeque<Submission>>,
    /// Vaults with somebody waiting, the longest wait first.
    turns: VecDeque<Place>,
    busy: HashSet<Place>,
    /// Vaults that somebody holds.
    held: HashSet<Place>,
    wanted: HashMap<Place, VecDeque<oneshot::Sender<Held>>>,
}

impl Line {
    fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Submission(submission) => self.join(*submission),
            Arrival::Hold(at, granted) => self.wanted.entry(at).or_default().push_back(granted),
            Arrival::Released(at) => drop(self.held.take(&at)),
        }
    }

    /// Lets those have their vaults who wait for one that nobody has.
    fn grant(&mut self, queue: &mpsc::UnboundedSender<Arrival>) {
        let Line { busy, held, wanted, .. } = self;
        wanted.retain(|at, asking| {
            if !busy.contains(at) && !held.contains(at) {
                while let Some(granted) = asking.pop_front() {
                    if granted.is_closed() {
                        continue;
                    }
                    held.insert(*at);
                    // If it went away just now, the vault is released by the drop of what it was sent.
                    let _gone = granted.send(Held { at: *at, queue: queue.clone() });
                    break;
                }
            }
            !asking.is_empty()
        });
    }

    fn join(&mut self, submission: Submission) {
        let at = submission.at;
        let of_vault = self.waiting.entry(at).or_default();
        of_vault.push_back(submission);
        if of_vault.len() == 1 {
            self.turns.push_back(at);
        }
    }

    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn are_free(&mut self, places: &[Place]) {
        self.busy.retain(|at| !places.contains(at));
    }

    fn all_are_free(&mut self) {
        self.busy.clear();
    }

    /// Everybody who can go now, as far as a group goes. A vault that had to leave some behind is last next time.
    fn next_group(&mut self) -> Vec<Batch> {
        let (mut group, mut pushes, mut bytes) = (Vec::new(), 0, 0);
        let mut passed_over = VecDeque::new();
        while let Some(at) = self.turns.pop_front() {
            if pushes >= GROUP_PUSHES || bytes >= GROUP_BYTES {
                passed_over.push_back(at);
                break;
            }
            if self.busy.contains(&at) || self.held.contains(&at) {
                passed_over.push_back(at);
                continue;
            }
            let Some(mut of_vault) = self.waiting.remove(&at) else { continue };
            let mut submissions = Vec::new();
            while pushes < GROUP_PUSHES && bytes < GROUP_BYTES {
                let Some(submission) = of_vault.pop_front() else { break };
                pushes += 1;
                bytes += submission.what.bytes();
                submissions.push(submission);
            }
            if let Some(first) = submissions.first() {
                group.push(Batch { at, vault: first.vault, submissions });
                self.busy.insert(at);
            }
            if !of_vault.is_empty() {
                self.waiting.insert(at, of_vault);
                self.turns.push_back(at);
            }
        }
        while let Some(at) = passed_over.pop_back() {
            self.turns.push_front(at);
        }
        group
    }
}
