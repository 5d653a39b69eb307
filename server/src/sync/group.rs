//! One group of pushes: what is asked of the store, how they are judged, what is written, what each is answered.
//!
//! Owns the way of a group from the queue to the disk. Every push is judged by itself: a refused one is answered and
//! spoils no other. If another server was faster in a vault, its part of the group is judged again on the new ground.

use super::desk::{Batch, Submission, Taken, What};
use super::ground::{Ground, Judged};
use super::head_key::HeadKey;
use super::known::{Cores, Known, look_up, state_of};
use super::news::{Moved, News};
use super::people::{Acquaintances, Crowd};
use super::refusal::{Refusal, Result};
use super::space::Counted;
use crate::edges::Edges;
use crate::store::{Append, Bearings, Millis, Place, Question, Vaults};
use crate::telemetry;
use selkie_protocol::id::{Incarnation, UserId, VaultId};
use selkie_protocol::log::{self, Head};
use selkie_protocol::vault::SignedHeadBytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a vault's part is judged again because another server was faster.
const ATTEMPTS: u32 = 24;
/// After the first few times it waits a while first, at random up to this, so that two servers do not keep step.
const LONGEST_PAUSE_MS: u64 = 32;
/// How far back an entry that was pushed before is looked for.
const LOOKBACK: u64 = 1_024;
/// A group that is larger is judged where nobody waits for the thread.
const SMALL_BYTES: usize = 64 << 10;
const SMALL_PUSHES: usize = 8;

/// What everybody in this room uses.
pub(super) struct Office {
    pub(super) vaults: Arc<dyn Vaults>,
    pub(super) edges: Edges,
    pub(super) head_key: Arc<HeadKey>,
    pub(super) incarnation: Incarnation,
    /// When this life of the server began, if it is not its first.
    pub(super) restored_at: Option<Millis>,
    pub(super) people: Acquaintances,
    pub(super) cores: Cores,
    pub(super) news: News,
}

/// One vault's part of a group, on its ground.
struct Case {
    batch: Batch,
    ground: Ground,
    /// For each tail among the submissions, what stands at its positions already.
    here: Vec<Vec<[u8; 32]>>,
}

/// The same, judged.
struct Settled {
    batch: Batch,
    verdicts: Vec<Result<Judged>>,
    append: Option<Append>,
    known: Arc<Known>,
}

/// Brings a group to its end. Everybody in it is answered.
pub(super) async fn settle(office: &Office, group: Vec<Batch>) {
    let began = Instant::now();
    let pushes: usize = group.iter().map(|batch| batch.submissions.len()).sum();
    metrics::histogram!("selkie_push_group_size").record(pushes as f64);
    let mut left = group;
    for attempt in 0..ATTEMPTS {
        if attempt > 1 {
            let most = LONGEST_PAUSE_MS.min(1 << attempt.min(16));
            let pause = u64::from_be_bytes(office.edges.bytes()) % most;
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        left = office.attempt(left).await;
        if left.is_empty() {
            break;
        }
        metrics::counter!("selkie_push_groups_overtaken_total").increment(1);
    }
    left.into_iter().for_each(|batch| refuse(batch, &Refusal::Overloaded));
    metrics::histogram!("selkie_push_group_seconds").record(began.elapsed().as_secs_f64());
}

impl Office {
    pub(super) fn sign(&self, vault: VaultId, head: Head) -> SignedHeadBytes {
        self.head_key.sign_bytes(self.incarnation, vault, head, self.edges.now_ms())
    }

    /// Says where a log stood then. It is said in this life: not that it stood there before it.
    pub(super) fn sign_as_of(&self, vault: VaultId, head: Head, then: Millis) -> SignedHeadBytes {
        let then = self.restored_at.map_or(then, |restored| restored.max(then));
        self.head_key.sign_bytes(self.incarnation, vault, head, then)
    }

    pub(super) async fn look_up(&self, at: Place) -> Result<Arc<Known>> {
        look_up(&*self.vaults, &self.cores, at).await?.ok_or(Refusal::NotFound("vault"))
    }

    /// Tries once, and returns the parts in which another server was faster.
    async fn attempt(&self, group: Vec<Batch>) -> Vec<Batch> {
        let cases = self.survey(group).await;
        let crowd = match self.people.gather(needed_people(&cases)).await {
            Ok(crowd) => crowd,
            Err(failure) => {
                cases.into_iter().for_each(|case| refuse(case.batch, &failure));
                return Vec::new();
            }
        };
        let now = self.edges.now_ms();
        let small = cases.iter().map(|case| case.batch.submissions.len()).sum::<usize>() <= SMALL_PUSHES
            && cases.iter().map(|case| bytes_of(&case.batch)).sum::<usize>() <= SMALL_BYTES;
        let settled = if small {
            judge(cases, &crowd, now)
        } else {
            match tokio::task::spawn_blocking(move || judge(cases, &crowd, now)).await {
                Ok(settled) => settled,
                // Its submissions are gone, and their senders with them: that is their answer.
                Err(_) => return Vec::new(),
            }
        };
        self.write(settled).await
    }

    /// Finds the ground for every part. Those that have none are answered.
    async fn survey(&self, group: Vec<Batch>) -> Vec<Case> {
        let mut cases = Vec::with_capacity(group.len());
        let mut open = group;
        for from_memory in [true, false] {
            let known: Vec<_> = open.iter().map(|batch| self.cores.get(&batch.at).filter(|_| from_memory)).collect();
            let questions = open.iter().zip(&known).map(|(batch, known)| question(batch, known.as_deref())).collect();
            let answers = match self.vaults.bearings(questions).await {
                Ok(answers) => answers,
                Err(error) => {
                    let failure = Refusal::from(error);
                    open.into_iter().for_each(|batch| refuse(batch, &failure));
                    return cases;
                }
            };
            let mut stale = Vec::new();
            for ((batch, known), answer) in open.into_iter().zip(known).zip(answers) {
                match self.ground(&batch, known.as_ref(), answer).await {
                    Ok(Some((ground, here))) => cases.push(Case { batch, ground, here }),
                    Ok(None) => {
                        self.cores.forget(&batch.at);
                        stale.push(batch);
                    }
                    Err(failure) => refuse(batch, &failure),
                }
            }
            open = stale;
            if open.is_empty() {
                break;
            }
        }
        // Without memory an answer brings everything it is about; so this is nobody.
        open.into_iter().for_each(|batch| refuse(batch, &Refusal::Overloaded));
        cases
    }

    /// `None` if what was in memory is not of the head any more: then too little was asked for.
    async fn ground(
        &self,
        batch: &Batch,
        known: Option<&Arc<Known>>,
        answer: Option<Bearings>,
    ) -> Result<Option<(Ground, Vec<Vec<[u8; 32]>>)>> {
        let bearings = answer.ok_or(Refusal::NotFound("vault"))?;
        if known.is_some() && bearings.state.is_some() {
            return Ok(None);
        }
        let Some(state) = state_of(&bearings, known)? else { return Ok(None) };
        let head = bearings.head.n;
        let mut here = Vec::new();
        for submission in &batch.submissions {
            let What::Tail(tail) = &submission.what else { continue };
            let (from, to) = (tail.first(), head.min(tail.last()));
            here.push(if from <= to { self.vaults.entry_hashes(batch.at, from, to).await? } else { Vec::new() });
        }
        Ok(Some((Ground::new(batch.at, &state, bearings), here)))
    }

    async fn write(&self, mut settled: Vec<Settled>) -> Vec<Batch> {
        let appends: Vec<Append> = settled.iter_mut().filter_map(|settled| settled.append.take()).collect();
        let moved: HashMap<Place, Option<Vec<UserId>>> =
            appends.iter().map(|append| (append.at, append.members.clone())).collect();
        let outcomes = self.append(appends).await;
        let mut overtaken = Vec::new();
        for settled in settled {
            let at = settled.batch.at;
            match outcomes.get(&at) {
                Some(Ok(false)) => {
                    self.cores.forget(&at);
                    overtaken.push(settled.batch);
                }
                Some(Err(failure)) => {
                    // Whether it was written is not known.
                    self.cores.forget(&at);
                    refuse(settled.batch, failure);
                }
                Some(Ok(true)) => {
                    self.cores.put(at, settled.known.clone(), settled.known.weight());
                    let n = settled.known.head().n;
                    let members = moved.get(&at).cloned().flatten();
                    let app = settled.known.core.app().as_str().to_owned();
                    self.news.tell(&Moved { at, vault: settled.batch.vault, app, n, members });
                    self.answer(settled).await;
                }
                None => {
                    self.cores.put(at, settled.known.clone(), settled.known.weight());
                    self.answer(settled).await;
                }
            }
        }
        overtaken
    }

    /// Writes everything at once. If that fails, each part is tried by itself: what breaks one must not break others.
    async fn append(&self, appends: Vec<Append>) -> HashMap<Place, Result<bool>> {
        if appends.is_empty() {
            return HashMap::new();
        }
        let places: Vec<Place> = appends.iter().map(|append| append.at).collect();
        let alone = if appends.len() > 1 { appends.clone() } else { Vec::new() };
        let failure = match self.vaults.append(appends).await {
            Ok(outcomes) => return places.into_iter().zip(outcomes.into_iter().map(Ok)).collect(),
            Err(failure) => Refusal::from(failure),
        };
        if alone.is_empty() {
            return places.into_iter().map(|at| (at, Err(failure.shared()))).collect();
        }
        tracing::warn!(error = %telemetry::chain(&failure), "a group of pushes failed: each is tried by itself");
        let mut outcomes = HashMap::new();
        for append in alone {
            let at = append.at;
            let outcome = self.vaults.append(vec![append]).await;
            let outcome = outcome.map(|outcomes| outcomes.first().copied().unwrap_or(false));
            outcomes.insert(at, outcome.map_err(Refusal::from));
        }
        outcomes
    }

    async fn answer(&self, settled: Settled) {
        let Settled { batch, verdicts, known, .. } = settled;
        let head = known.head();
        let signed = self.sign(batch.vault, head);
        for (mut submission, verdict) in batch.submissions.into_iter().zip(verdicts) {
            let outcome = match verdict {
                Ok(Judged::Stands(n)) => {
                    submission.space.take().into_iter().for_each(Counted::keep);
                    counted("taken", Ok(n))
                }
                Ok(Judged::Repeated(n)) => counted("repeated", Ok(n)),
                Ok(Judged::Before { device, dev_seq, hash, expected }) => {
                    let found = self.vaults.entry_of(batch.at, device, dev_seq, LOOKBACK).await;
                    match found {
                        Ok(Some((n, same))) if same == hash => counted("repeated", Ok(n)),
                        Ok(_) => {
                            let refusal = log::Refusal::DeviceSequence { expected, found: dev_seq };
                            counted("refused", Err(Refusal::Rule(refusal)))
                        }
                        Err(error) => counted("failed", Err(Refusal::from(error))),
                    }
                }
                Err(refusal) => counted("refused", Err(refusal)),
            };
            // Whoever no longer waits for the answer has pushed all the same.
            let _gone = submission.answer.send(outcome.map(|n| Taken { n, signed }));
        }
    }
}

fn counted(outcome: &'static str, result: Result<u64>) -> Result<u64> {
    metrics::counter!("selkie_pushes_total", "outcome" => outcome).increment(1);
    result
}

fn refuse(batch: Batch, failure: &Refusal) {
    for submission in batch.submissions {
        metrics::counter!("selkie_pushes_total", "outcome" => "failed").increment(1);
        let _gone = submission.answer.send(Err(failure.shared()));
    }
}

fn question(batch: &Batch, known: Option<&Known>) -> Question {
    let is_new = |n: &u64| known.is_none_or(|known| known.chain_value(*n).is_none());
    let asks = || batch.submissions.iter().map(|submission| &submission.asks);
    let records: BTreeSet<_> = asks().flat_map(|asks| &asks.records).copied().collect();
    let chain: BTreeSet<u64> = asks().flat_map(|asks| &asks.chain).copied().filter(is_new).collect();
    let mut differences: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for (record, named) in asks().flat_map(|asks| &asks.differences).filter(|(record, _)| !records.contains(record)) {
        differences.entry(*record).or_default().extend(named.iter().copied());
    }
    let differences = differences.into_iter().map(|(record, named)| (record, named.into_iter().collect()));
    Question {
        at: batch.at,
        known: known.map(|known| known.head().n),
        differences: differences.collect(),
        records: records.into_iter().collect(),
        chain: chain.into_iter().collect(),
    }
}

/// Everybody who writes or is spoken of, and how far their account logs must reach.
fn needed_people(cases: &[Case]) -> HashMap<(crate::store::Tenant, UserId), u64> {
    let mut needed: HashMap<_, u64> = HashMap::new();
    for case in cases {
        let tenant = case.batch.at.tenant;
        let members = case.ground.governance();
        for Submission { asks, .. } in &case.batch.submissions {
            let authors = asks.authors.iter().filter_map(|user| Some((*user, members.member(user)?.anchor.index)));
            for (user, index) in authors.chain(asks.people.iter().copied()) {
                let so_far = needed.entry((tenant, user)).or_default();
                *so_far = index.max(*so_far);
            }
        }
    }
    needed
}

fn bytes_of(batch: &Batch) -> usize {
    batch.submissions.iter().map(|submission| submission.what.bytes()).sum()
}

/// Judges every submission, in the order in which they came, each on top of what stood before it.
fn judge(cases: Vec<Case>, crowd: &Crowd, now: Millis) -> Vec<Settled> {
    let settled = cases.into_iter().map(|case| {
        let Case { batch, mut ground, here } = case;
        let people = crowd.of(batch.at.tenant);
        let mut here = here.iter();
        let verdict = |submission: &Submission| match &submission.what {
            What::Push(push) => ground.push(push, &people, now),
            What::Tail(tail) => {
                let here = here.next().map_or(&[][..], Vec::as_slice);
                ground.tail(tail, here, &people, now).map(|()| Judged::Repeated(tail.last()))
            }
        };
        let verdicts = batch.submissions.iter().map(verdict).collect();
        let (append, known) = ground.finish();
        Settled { batch, verdicts, append, known }
    });
    settled.collect()
}
