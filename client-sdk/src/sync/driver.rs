//! Does what the engine says, over the transport and the store.
//!
//! Owns one round of one vault. What is verified, opened or sealed happens away from the threads that drive futures,
//! and what it yields is kept in one transaction before anything goes on. A round that is dropped anywhere, or a
//! process that ends, leaves what was kept; the next round goes on from there.

use super::backoff::Backoff;
use super::compose::{Composed, Judges, Known, NoKey, Outgoing, Pen, collides, firsts};
use super::engine::{Action, Engine, Event, Facts};
use super::heads::{check_the_end, note_head};
use super::replica::{InFlight, Me, Replica};
use super::room::{Recollection, Room, Slot};
use super::take::{Reading, Refused, Taken, stands};
use crate::account::Account;
use crate::api::{Contents, PageSize};
use crate::error::{Error, Misbehaviour, Result};
use crate::store::vaults::{Advance, Pending};
use crate::trust::Alarm;
use crate::untrusted::clean;
use selkie_protocol::cipher::{DeviceKey, random_id};
use selkie_protocol::id::{RecordId, UserId, VaultId};
use selkie_protocol::log::{Refusal, SignedHead};
use selkie_protocol::record::RecordBody;
use selkie_protocol::vault::{CreateVault, Push, SignedHeadBytes};
use selkie_protocol::{Bytes, ErrorCode};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// What is asked for at a time.
const PAGE: PageSize = PageSize { entries: 1_000, bytes: 4 << 20, live_only: false };
/// How much of the outbox is looked at for one frame.
const LOOK_AHEAD: usize = 512;
/// How much, where some of it collides with what others wrote: what was written last decides.
const LOOK_AHEAD_IN_CONFLICT: usize = 8_192;
/// How often another program on this device may be faster, before it is left alone for a while.
pub(super) const MOST_OVERTAKEN: u32 = 8;
/// How long at most to wait then, the first time; each time twice as long.
const STEP_ASIDE: Duration = Duration::from_millis(100);

/// What a round has done. That a vault is set apart is no part of it: then there is no report but
/// [`Error::Quarantined`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncReport {
    /// Changes of this device that are in the log now.
    pub pushed: usize,
    /// Changes of other devices that were taken.
    pub pulled: usize,
    /// Conflicts that were settled.
    pub conflicts: usize,
    /// Changes that cannot be read here, for now, whenever they came.
    pub set_aside: u64,
    /// Records whose writes wait, because what they collide with cannot be read here.
    pub waiting: usize,
    /// Writes that are not in the log yet.
    pub pending: u64,
    /// The server was restored from a backup, and this device put back what it had lost.
    pub restored: u64,
    /// Of the account's own vault: so many entries a restored server had lost and could not be given back. What this
    /// device had written in them was written again.
    pub given_up: u64,
    /// The same by collection. A change that is set aside belongs to none before it can be read. Among them is the
    /// SDK's own, in which a vault's name is.
    pub collections: BTreeMap<String, CollectionReport>,
}

/// What a round has done in one collection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CollectionReport {
    /// Changes of this device that are in the log now.
    pub pushed: usize,
    /// Changes of other devices that were taken.
    pub pulled: usize,
    /// Conflicts that were settled.
    pub conflicts: usize,
    /// Records whose writes could not be sent: see [`SyncReport::waiting`].
    pub failures: usize,
}

impl SyncReport {
    pub(crate) fn of_collection(&mut self, name: &str) -> &mut CollectionReport {
        // Whoever may write in the vault has chosen the name, and it is shown to people.
        self.collections.entry(clean(name)).or_default()
    }
}

/// Why a step did not work out.
#[derive(Debug)]
pub(crate) enum Trouble {
    Error(Error),
    Alarm(Box<Alarm>),
    /// Another program on this device was faster: begin again from what it kept.
    Moved,
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Error(error)
    }
}

impl From<crate::store::StoreError> for Trouble {
    fn from(error: crate::store::StoreError) -> Self {
        Trouble::Error(error.into())
    }
}

impl From<crate::edges::Abandoned> for Trouble {
    fn from(error: crate::edges::Abandoned) -> Self {
        Trouble::Error(error.into())
    }
}

impl From<Alarm> for Trouble {
    fn from(alarm: Alarm) -> Self {
        Trouble::Alarm(Box::new(alarm))
    }
}

pub(crate) type Step<T> = std::result::Result<T, Trouble>;

/// One round with one vault, which it alone works with.
pub(crate) struct Round<'a> {
    pub(crate) account: &'a Account,
    pub(crate) room: &'a Arc<Room>,
    pub(crate) vault: VaultId,
    pub(crate) me: Me,
    pub(crate) device: Arc<DeviceKey>,
    /// Empty while a job has it, and after anything went wrong with it.
    pub(crate) replica: Option<Replica>,
    /// That of the replica, and what it was when it got lost.
    pub(crate) revision: u64,
    pub(crate) report: SyncReport,
    /// Something that must be said, though the round could go on.
    pub(crate) complaint: Option<Error>,
    /// Somebody has asked for a checkpoint.
    pub(crate) checkpoint_wanted: bool,
    /// Where a poll has just said that the log ends.
    pub(crate) server_at: u64,
    /// Whether a checkpoint that this begins with brings what records say.
    pub(crate) contents: Contents,
    pub(crate) backoff: Backoff,
}

impl<'a> Round<'a> {
    pub(crate) fn new(account: &'a Account, room: &'a Arc<Room>, vault: VaultId) -> Self {
        let kept = account.kept();
        let device = kept.secrets.device.clone();
        let me = Me { user: kept.user(), device: device.id() };
        room.meet_own(&kept.log, &kept.entries);
        Round {
            account,
            room,
            vault,
            me,
            device,
            replica: None,
            revision: 0,
            report: SyncReport::default(),
            complaint: None,
            checkpoint_wanted: false,
            server_at: 0,
            contents: room.shared().contents_of(&vault),
            backoff: Backoff::of_a_round(),
        }
    }

    /// Comes into step. `known_current`: a poll has just said that nothing is new.
    pub(crate) async fn run(mut self, slot: &Slot, known_current: bool) -> Result<SyncReport> {
        let all = async |round: &mut Round<'_>, known_current: bool| {
            round.come_into_step(known_current).await?;
            match round.fetch_what_is_written_over().await? {
                true => round.come_into_step(false).await,
                false => Ok(()),
            }
        };
        let work = async |round: &mut Round<'_>| {
            let mut tries = 0;
            loop {
                tries += 1;
                let trouble = match all(round, known_current && tries == 1).await {
                    Ok(()) => return Ok(()),
                    Err(trouble) => trouble,
                };
                if tries == MOST_OVERTAKEN || !round.was_overtaken(&trouble).await? {
                    return Err(trouble);
                }
                // The other has come further, so it is worth going on from there; and to let it come to an end, since
                // to fetch a vault whole takes a while.
                round.replica = None;
                let most = STEP_ASIDE * (1 << (tries - 1));
                let wait = most.mul_f64(f64::from(u32::from_be_bytes(random_id())) / f64::from(u32::MAX));
                round.account.context().edges.runtime.sleep(wait).await;
            }
        };
        self.work(slot, work).await?;
        if let Some(complaint) = self.complaint {
            return Err(complaint);
        }
        let counts = self.counts().await?;
        (self.report.pending, self.report.set_aside) = (counts.pending, counts.aside);
        Ok(self.report)
    }

    /// Does something with the vault that is no round of its own.
    pub(crate) async fn alone<T>(
        mut self,
        slot: &Slot,
        work: impl AsyncFnOnce(&mut Round<'_>) -> Step<T>,
    ) -> Result<T> {
        self.work(slot, work).await
    }

    /// Holds the vault's place while it is worked with, and sets the vault apart if the server is caught.
    async fn work<T>(&mut self, slot: &Slot, work: impl AsyncFnOnce(&mut Round<'_>) -> Step<T>) -> Result<T> {
        let mut place = slot.replica.lock().await;
        self.replica = self.if_newest(place.take()).await?;
        self.revision = self.replica.as_ref().map_or(0, |replica| replica.revision);
        let outcome = match work(self).await {
            Ok(done) => Ok(done),
            Err(trouble) => Err(self.error_of(trouble).await),
        };
        if let Some(replica) = self.replica.take() {
            // Another program may have gone on, and whoever watches has not heard of it.
            if slot.show(&replica) {
                self.room.ring(&self.vault);
            }
            *place = Some(replica);
        }
        outcome
    }

    async fn error_of(&mut self, trouble: Trouble) -> Error {
        let is_overtaken = match self.was_overtaken(&trouble).await {
            Ok(is_overtaken) => is_overtaken,
            Err(error) => return error,
        };
        match trouble {
            Trouble::Error(error) => error,
            Trouble::Alarm(alarm) if !is_overtaken => self.set_apart(*alarm).await,
            _ => Error::RetryLater { after: None, why: "another program uses the vault".into() },
        }
    }

    /// The replica, if no other program on this device has gone on from what it is made of. Else it is read again.
    async fn if_newest(&self, replica: Option<Replica>) -> Result<Option<Replica>> {
        let Some(replica) = replica else { return Ok(None) };
        Ok((self.revision_kept().await? == Some(replica.revision)).then_some(replica))
    }

    pub(super) async fn revision_kept(&self) -> Result<Option<u64>> {
        let (room, vault) = (self.room.clone(), self.vault);
        Ok(self.account.context().edges.apart(move || room.store.revision(&vault)).await??)
    }

    /// Whether this came of knowing less than is kept. Nobody is accused for what another program knows better.
    async fn was_overtaken(&self, trouble: &Trouble) -> Result<bool> {
        Ok(match trouble {
            Trouble::Moved => true,
            Trouble::Alarm(alarm) if alarm.kind.proves_itself() => false,
            Trouble::Alarm(_) => self.revision_kept().await? != Some(self.revision),
            Trouble::Error(_) => false,
        })
    }

    pub(crate) async fn come_into_step(&mut self, known_current: bool) -> Step<()> {
        self.load().await?;
        let replica = self.replica()?;
        if let Some(quarantine) = &replica.state.quarantine {
            return Err(Error::Quarantined(Box::new(quarantine.clone())).into());
        }
        self.try_again_what_was_aside().await?;
        let replica = self.replica()?;
        let newcomer = replica.state.born && replica.head().n == 1 && replica.in_flight.is_none();
        if newcomer && self.server_at >= self.account.context().sync.begin_with_checkpoint_from {
            self.begin_with_checkpoint(false).await?;
        }
        let replica = self.replica()?;
        let mut engine = Engine::new(Facts {
            born: replica.state.born,
            head: replica.head().n,
            in_flight: replica.in_flight.is_some(),
            keys_missing: self.keys_missing(replica),
            known_current: known_current && replica.state.behind.is_none(),
            quarantined: false,
        });
        let mut furthest = self.replica()?.head().n;
        loop {
            let action = engine.next();
            if action == Action::Rest {
                return Ok(());
            }
            tracing::trace!(?action, "next");
            let event = match self.act(action, &engine).await {
                Ok(event) => event,
                Err(Trouble::Error(error)) => match self.backoff.after(&error, u32::from_be_bytes(random_id())) {
                    Some(wait) => {
                        tracing::debug!(%error, ms = wait.as_millis(), "waiting before the same is tried again");
                        self.account.context().edges.runtime.sleep(wait).await;
                        Event::Unanswered
                    }
                    None => return Err(error.into()),
                },
                Err(trouble) => return Err(trouble),
            };
            tracing::trace!(?event, "then");
            engine.tell(event);
            let n = self.replica()?.head().n;
            if n > furthest {
                furthest = n;
                self.backoff.came_further();
            }
        }
    }

    async fn act(&mut self, action: Action, engine: &Engine) -> Step<Event> {
        Ok(match action {
            Action::Create => self.create().await?,
            Action::Pull => self.pull().await?,
            Action::LearnPerson { user, index } => {
                if engine.asked_before(user, index) {
                    let refusal = Refusal::AccountLogNeeded { user, index };
                    return Err(Alarm::refused(self.replica()?.head().n + 1, &refusal).into());
                }
                self.learn_person(user).await?;
                Event::PersonLearned
            }
            Action::Compare => self.compare().await?,
            Action::Restore { from } => self.restore(from).await?,
            Action::LearnKeys => self.learn_keys().await?,
            Action::Judge => self.judge().await?,
            Action::Send => self.send().await?,
            Action::Compose | Action::Rest => self.compose().await?,
        })
    }

    pub(crate) fn replica(&self) -> Step<&Replica> {
        let lost = || Error::ApiMisuse("a vault was used after something went wrong with it".into());
        Ok(self.replica.as_ref().ok_or_else(lost)?)
    }

    pub(super) fn keys_missing(&self, replica: &Replica) -> bool {
        let governance = replica.log.core().governance();
        // Who was removed may have missed the last key that was theirs, too: what was written until then is.
        let theirs = match governance.member(&self.me.user) {
            Some(_) => governance.epoch(),
            None => governance.epoch().saturating_sub(1),
        };
        theirs > 0 && !replica.keys.has(theirs)
    }

    pub(crate) async fn load(&mut self) -> Step<()> {
        if self.replica.is_some() {
            return Ok(());
        }
        let (room, vault) = (self.room.clone(), self.vault);
        let load = move || match room.store.load(&vault)? {
            Some(kept) => Replica::open(&vault, &kept, &room.at_rest).map(Some),
            None => Ok(None),
        };
        let replica = self.account.context().edges.apart(load).await??;
        let replica = replica.ok_or_else(|| Error::NotPossible("this device does not keep that vault".into()))?;
        self.revision = replica.revision;
        self.replica = Some(replica);
        Ok(())
    }

    async fn counts(&self) -> Result<crate::store::vaults::Counts> {
        let (room, vault) = (self.room.clone(), self.vault);
        Ok(self.account.context().edges.apart(move || room.store.counts(&vault)).await??)
    }

    /// Runs a job with the replica, which comes back unless the job fails.
    pub(crate) async fn with_replica<T: Send + 'static>(
        &mut self,
        job: impl FnOnce(&mut Replica, &Room) -> Step<T> + Send + 'static,
    ) -> Step<T> {
        self.replica()?;
        let (Some(mut replica), room) = (self.replica.take(), self.room.clone()) else { return Err(Trouble::Moved) };
        let work = move || {
            let done = job(&mut replica, &room);
            (replica, done)
        };
        let (replica, done) = self.account.context().edges.apart(work).await?;
        self.revision = replica.revision;
        let done = done?;
        self.replica = Some(replica);
        Ok(done)
    }

    async fn create(&mut self) -> Step<Event> {
        let context = self.account.context();
        let flight = self.replica()?.in_flight.clone().ok_or_else(|| Error::damaged("a vault without a start"))?;
        let body = CreateVault { frame: flight.frame, wraps: flight.wraps };
        let answer = self.account.call(|bearer| {
            let body = &body;
            async move { context.api.create_vault(&bearer, body).await }
        });
        let head = match answer.await {
            Ok(pushed) => pushed.head,
            // An earlier answer got lost, and the server says so in its own way.
            Err(error) if error.code() == Some(ErrorCode::Conflict) => self.head_of_server().await?,
            Err(error) => return Err(error.into()),
        };
        let head = self.signed(&head).await?;
        self.with_replica(move |replica, room| {
            replica.state.born = true;
            replica.in_flight = None;
            replica.state.incarnation = Some(head.incarnation);
            note_head(replica, &head)?;
            let step = Advance {
                state: Some(replica.state_bytes(&room.at_rest)),
                in_flight: Some(None),
                ..Advance::default()
            };
            keep(replica, room, &step)
        })
        .await?;
        Ok(Event::Created)
    }

    pub(crate) async fn head_of_server(&self) -> Step<SignedHeadBytes> {
        let (context, vault) = (self.account.context(), self.vault);
        let answer = self.account.call(|bearer| async move { context.api.vault_head(&bearer, &vault).await }).await?;
        Ok(answer.head)
    }

    async fn pull(&mut self) -> Step<Event> {
        let (context, vault, after) = (self.account.context(), self.vault, self.replica()?.head().n);
        let answer =
            self.account.call(|bearer| async move { context.api.vault_log(&bearer, &vault, after, PAGE).await });
        let page = match answer.await {
            Ok(page) => page,
            // Too far behind for what the server still has: what was not sent stays, the rest is fetched anew.
            Err(error) if error.code() == Some(ErrorCode::ResyncFromCheckpoint) => {
                if !self.begin_with_checkpoint(true).await? {
                    return Err(error.into());
                }
                return self.pulled(u64::MAX);
            }
            Err(error) if error.code() == Some(ErrorCode::NotFound) => return self.make_again(error).await,
            Err(error) => return Err(error.into()),
        };
        let head = self.signed(&page.head).await?;
        if self.replica()?.state.incarnation.is_some_and(|known| known != head.incarnation) {
            return Ok(Event::Reborn(head.incarnation));
        }
        let server = head.head.n;
        if page.frames.is_empty() && server > after {
            let refusal = Refusal::Rollback { known: server, offered: after };
            return Err(Alarm::refused(after + 1, &refusal).with_heads([head]).into());
        }
        self.take(page.frames, Some(head)).await
    }

    /// Takes frames that stand right after our head, and what the server says of its own.
    async fn take(&mut self, frames: Vec<Bytes>, head: Option<SignedHead>) -> Step<Event> {
        let (me, crowd, vault) = (self.me, self.room.crowd(), self.vault);
        let now_ms = self.account.context().now_ms();
        let (taken, end, look_again) = self
            .with_replica(move |replica, room| {
                let news = match &head {
                    Some(head) => note_head(replica, head)?,
                    None => false,
                };
                let recall = Recollection { room, vault };
                let reading = Reading { me, people: &crowd.logs, at_rest: &room.at_rest, recall: &recall, now_ms };
                let after = replica.head().n;
                let taken = reading.take(replica, &frames).map_err(|Refused { n, refusal }| {
                    let heads = head.iter().cloned().chain(replica.state.reached_head());
                    Alarm::refused(n, &refusal).with_heads(heads).with_served(after, &frames)
                })?;
                let end = head.as_ref().map_or(replica.head().n, |head| head.head.n);
                let at_end = replica.head().n >= end && taken.needs.is_none();
                let look_again = at_end && replica.state.missing_from_before && replica.role(&me.user).is_some();
                if at_end && !look_again {
                    check_the_end(replica, &me.user)?;
                }
                if news || !frames.is_empty() {
                    keep(replica, room, &taken.step)?;
                }
                Ok((taken, end, look_again))
            })
            .await?;
        self.count(&taken);
        if let Some((user, index)) = taken.needs {
            return Ok(Event::PersonNeeded { user, index });
        }
        if look_again {
            self.look_for_what_is_missing().await?;
        }
        self.pulled(end)
    }

    fn pulled(&self, server: u64) -> Step<Event> {
        let replica = self.replica()?;
        let keys_missing = self.keys_missing(replica);
        if server != u64::MAX {
            self.room.pulse.still_to_read(server.saturating_sub(replica.head().n));
        }
        Ok(Event::Pulled { head: replica.head().n, server, keys_missing, in_flight: replica.in_flight.is_some() })
    }

    fn count(&mut self, taken: &Taken) {
        self.report.pulled += taken.pulled;
        self.report.pushed += taken.landed;
        self.report.conflicts += taken.settled;
        for (name, counted) in &taken.collections {
            let known = self.report.of_collection(name);
            known.pushed += counted.pushed;
            known.pulled += counted.pulled;
            known.conflicts += counted.conflicts;
        }
        if taken.forgotten_own {
            tracing::info!("the log has an entry of this device that it does not remember");
        }
    }

    /// Fetches what is missing of somebody's account log and takes it, if it continues what is known.
    pub(crate) async fn learn_person(&self, user: UserId) -> Step<()> {
        super::learn::learn_person(self.account, self.room, self.me.user, user).await.map_err(Trouble::Error)
    }

    async fn judge(&mut self) -> Step<Event> {
        let crowd = self.room.crowd();
        self.with_replica(move |replica, room| {
            let Some(flight) = &replica.in_flight else { return Ok(Event::Dead) };
            match stands(replica, &flight.frame, &crowd.logs) {
                Ok(()) => Ok(Event::Good),
                Err(Refusal::AccountLogNeeded { user, index }) => Ok(Event::PersonNeeded { user, index }),
                Err(refusal) => {
                    tracing::debug!(%refusal, "what was being sent is made again");
                    replica.in_flight = None;
                    keep(replica, room, &Advance { in_flight: Some(None), ..Advance::default() })?;
                    Ok(Event::Dead)
                }
            }
        })
        .await
    }

    async fn send(&mut self) -> Step<Event> {
        let (context, vault) = (self.account.context(), self.vault);
        let Some(flight) = self.replica()?.in_flight.clone() else { return Ok(Event::Dead) };
        let body = Push { frame: flight.frame.clone(), wraps: flight.wraps };
        let answer = self.account.call(|bearer| {
            let body = &body;
            async move { context.api.push(&bearer, &vault, body).await }
        });
        let pushed = match answer.await {
            Ok(pushed) => pushed,
            Err(error) if error.code().is_some_and(made_anew) => return Ok(Event::Stale),
            Err(error) => return Err(error.into()),
        };
        let head = self.signed(&pushed.head).await?;
        let (ours, n) = (self.replica()?.head().n, pushed.n);
        if self.replica()?.state.incarnation.is_some_and(|known| known != head.incarnation) {
            return Ok(Event::Reborn(head.incarnation));
        }
        if n == 0 || head.head.n < n {
            let (expected, found) = (format!("a head at {n} or after"), format!("a head at {}", head.head.n));
            return Err(Alarm::new(Misbehaviour::Contradiction, expected, found).with_heads([head]).into());
        }
        let hash = flight.hash;
        if n != ours + 1 {
            self.with_replica(move |replica, room| {
                note_head(replica, &head)?;
                let log = &replica.log;
                replica.state.promises.acknowledged(n, *hash, log).map_err(|refusal| Alarm::refused(n, &refusal))?;
                if let Some(flight) = &mut replica.in_flight {
                    flight.acknowledged = Some(n);
                }
                keep_all(replica, room)
            })
            .await?;
            return Ok(Event::Acknowledged);
        }
        match self.take(vec![flight.frame], Some(head)).await? {
            Event::Pulled { head, server, keys_missing: false, .. } if head >= server => Ok(Event::Landed { head }),
            other => Ok(other),
        }
    }

    async fn compose(&mut self) -> Step<Event> {
        if let Some(event) = self.compose_duties().await? {
            return Ok(event);
        }
        let (me, device) = (self.me, self.device.clone());
        let context = self.account.context();
        let (now_ms, settings) = (context.now_ms(), context.sync.clone());
        let (composed, waiting) = self
            .with_replica(move |replica, room| {
                let nothing = || Ok((Composed::default(), BTreeMap::new()));
                let may_write = replica.role(&me.user).is_some_and(|role| role.may_write());
                if !may_write {
                    return nothing();
                }
                let open = |most: usize| open_outbox(replica, room, room.store.outbox(&replica.vault(), most)?);
                let mut outbox = open(LOOK_AHEAD)?;
                if outbox.len() == LOOK_AHEAD && firsts(&outbox).any(|outgoing| collides(replica, outgoing)) {
                    outbox = open(LOOK_AHEAD_IN_CONFLICT)?;
                }
                let known = versions_in_question(replica, room, &outbox)?;
                let pen = Pen { me, device: &device, now_ms };
                let vault = replica.vault();
                let seal = |record: &RecordId, asked: &[u8]| room.at_rest.seal_record(&vault, record, asked);
                let judges = Judges { settle: settings.settle.as_ref(), seal: &seal };
                let composed = match pen.batch(replica, &outbox, &known, judges) {
                    Ok(composed) => composed,
                    // It is shown in the vault's status; the key may come with the next round.
                    Err(NoKey { epoch }) => {
                        tracing::debug!(epoch, "nothing is written without the key");
                        return nothing();
                    }
                };
                if let Some(flight) = &composed.flight {
                    keep_flight(replica, room, flight.clone(), Vec::new())?;
                }
                let waits = |outgoing: &Outgoing| composed.waiting.contains(&outgoing.pending.record);
                let waiting = outbox.into_iter().filter(waits);
                let waiting: BTreeMap<RecordId, String> =
                    waiting.map(|outgoing| (outgoing.pending.record, outgoing.body.collection)).collect();
                Ok((composed, waiting))
            })
            .await?;
        self.report.waiting = composed.waiting.len();
        self.report.collections.values_mut().for_each(|counted| counted.failures = 0);
        waiting.values().for_each(|name| self.report.of_collection(name).failures += 1);
        Ok(Event::Composed { in_flight: composed.flight.is_some() })
    }
}

/// Codes after which a frame is made anew: it was made without something that stands by now.
fn made_anew(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::RecordConflict
            | ErrorCode::StaleControl
            | ErrorCode::StaleEpoch
            | ErrorCode::DeviceSequence
            | ErrorCode::BadSeen
    )
}

/// Writes a step down and takes the new revision.
pub(crate) fn keep(replica: &mut Replica, room: &Room, step: &Advance) -> Step<()> {
    match room.store.advance(&replica.vault(), replica.revision, step)? {
        Some(revision) => {
            replica.revision = revision;
            room.ring(&replica.vault());
            Ok(())
        }
        None => Err(Trouble::Moved),
    }
}

/// Writes down the state beside the log and what is in flight.
pub(crate) fn keep_all(replica: &mut Replica, room: &Room) -> Step<()> {
    let in_flight = Some(replica.in_flight.as_ref().map(InFlight::to_bytes));
    let step = Advance { state: Some(replica.state_bytes(&room.at_rest)), in_flight, ..Advance::default() };
    keep(replica, room, &step)
}

/// Puts a frame in flight, on the disk first.
pub(crate) fn keep_flight(replica: &mut Replica, room: &Room, flight: InFlight, keys: Vec<(u32, Vec<u8>)>) -> Step<()> {
    keep(replica, room, &Advance { in_flight: Some(Some(flight.to_bytes())), keys, ..Advance::default() })?;
    replica.in_flight = Some(flight);
    Ok(())
}

pub(crate) fn open_outbox(replica: &Replica, room: &Room, pending: Vec<Pending>) -> Result<Vec<Outgoing>> {
    let vault = replica.vault();
    let open = |pending: Pending| {
        let damaged = || Error::damaged("a write that is to be sent");
        let plain = room.at_rest.open_record(&vault, &pending.record, &pending.sealed).map_err(|_| damaged())?;
        Ok(Outgoing { body: RecordBody::from_bytes(&plain).map_err(|_| damaged())?, pending })
    };
    pending.into_iter().map(open).collect()
}

/// What is known of the records that were written by somebody else since our write was made.
fn versions_in_question(replica: &Replica, room: &Room, outbox: &[Outgoing]) -> Result<BTreeMap<RecordId, Known>> {
    let vault = replica.vault();
    let mut known: BTreeMap<RecordId, Known> = BTreeMap::new();
    for outgoing in firsts(outbox).filter(|outgoing| collides(replica, outgoing)) {
        let record = outgoing.pending.record;
        let entry = known.entry(record).or_default();
        for version in room.store.versions(&vault, &record)? {
            let Ok(plain) = room.at_rest.open_record(&vault, &record, &version.sealed) else { continue };
            if let Ok(body) = RecordBody::from_bytes(&plain) {
                entry.versions.insert(version.change, body);
            }
        }
    }
    Ok(known)
}
