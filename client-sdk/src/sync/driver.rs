//! Does what the engine says, over the transport and the store.
//!
//! Owns one round of one vault. What is verified, opened or sealed happens away from the threads that drive futures,
//! and what it yields is kept in one transaction before anything goes on. A round that is dropped anywhere, or a
//! process that ends, leaves what was kept; the next round goes on from there.

use super::compose::{Composed, Known, NoKey, Outgoing, Pen};
use super::engine::{Action, Engine, Event, Facts};
use super::replica::{InFlight, Me, Replica};
use super::room::{Recollection, Room, Slot};
use super::take::{Place, Reading, Refused, Taken, open_item, stands};
use crate::account::Account;
use crate::api::PageSize;
use crate::error::{Error, Misbehaviour, Quarantine, Result};
use crate::keys::vault::Found;
use crate::store::vaults::{Advance, Pending};
use crate::trust::{Alarm, VaultEvidence};
use selkie_protocol::cipher::DeviceKey;
use selkie_protocol::id::{RecordId, UserId, VaultId};
use selkie_protocol::log::{Head, PageItem, Refusal, SignedHead};
use selkie_protocol::record::RecordBody;
use selkie_protocol::vault::{CreateVault, Push, SignedHeadBytes};
use selkie_protocol::{Bytes, ErrorCode, Fixed};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What is asked for at a time.
const PAGE: PageSize = PageSize { entries: 1_000, bytes: 4 << 20, live_only: false };
/// How much of the outbox is looked at for one frame.
const LOOK_AHEAD: usize = 512;
/// Frames of our own log that are put into evidence.
const SHOWN_FRAMES: u64 = 8;

/// What a round has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SyncReport {
    /// Changes of this device that are in the log now.
    pub pushed: usize,
    /// Changes of other devices that were taken.
    pub pulled: usize,
    /// Conflicts that were settled.
    pub conflicts: usize,
    /// Changes that came and cannot be read here, for now.
    pub set_aside: usize,
    /// Records whose writes wait, because what they collide with cannot be read here.
    pub waiting: usize,
    /// Writes that are not in the log yet.
    pub pending: u64,
    /// The server was restored from a backup, and this device put back what it had lost.
    pub restored: u64,
    /// Why the vault is set apart, if it is.
    pub quarantined: Option<Quarantine>,
}

/// Why a step did not work out.
#[derive(Debug)]
pub(crate) enum Trouble {
    Error(Error),
    Alarm(Box<(Alarm, Vec<Bytes>)>),
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
        Trouble::Alarm(Box::new((alarm, Vec::new())))
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
    pub(crate) report: SyncReport,
    /// Something that must be said, though the round could go on.
    pub(crate) complaint: Option<Error>,
    /// Somebody has asked for a checkpoint.
    pub(crate) checkpoint_wanted: bool,
    /// Where a poll has just said that the log ends.
    pub(crate) server_at: u64,
}

impl<'a> Round<'a> {
    pub(crate) fn new(account: &'a Account, room: &'a Arc<Room>, vault: VaultId) -> Self {
        let kept = account.kept();
        let device = kept.secrets.device.clone();
        let me = Me { user: kept.user(), device: device.id() };
        room.meet(&kept.log, &kept.entries);
        Round {
            account,
            room,
            vault,
            me,
            device,
            replica: None,
            report: SyncReport::default(),
            complaint: None,
            checkpoint_wanted: false,
            server_at: 0,
        }
    }

    /// Comes into step. `known_current`: a poll has just said that nothing is new.
    pub(crate) async fn run(mut self, slot: &Slot, known_current: bool) -> Result<SyncReport> {
        self.work(slot, async |round: &mut Round<'_>| round.come_into_step(known_current).await).await?;
        if let Some(complaint) = self.complaint {
            return Err(complaint);
        }
        self.report.pending = self.counts().await?.pending;
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
        self.replica = place.take();
        let outcome = match work(self).await {
            Ok(done) => Ok(done),
            // What another program has kept is read when the vault is next used.
            Err(Trouble::Moved) => Err(Error::RetryLater { after: None, why: "another program uses the vault".into() }),
            Err(Trouble::Error(error)) => Err(error),
            Err(Trouble::Alarm(alarm)) => Err(self.set_apart(alarm.0, &alarm.1).await),
        };
        if let Some(replica) = self.replica.take() {
            slot.show(&replica);
            *place = Some(replica);
        }
        outcome
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
        loop {
            let action = engine.next();
            tracing::trace!(?action, "next");
            let event = match action {
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
                Action::Compose => self.compose().await?,
                Action::Rest => return Ok(()),
            };
            tracing::trace!(?event, "then");
            engine.tell(event);
        }
    }

    /// Another device of this person has seen this head: the server must show it here too.
    pub(crate) async fn heard(&mut self, head: Head) -> Step<()> {
        self.load().await?;
        self.with_replica(move |replica, room| {
            let before = replica.state.promises.clone();
            let seen = replica.state.promises.seen(head, &replica.log);
            seen.map_err(|refusal| Alarm::refused(head.n, &refusal).with_heads(replica.state.reached_head()))?;
            if replica.state.promises != before {
                keep_all(replica, room)?;
            }
            Ok(())
        })
        .await
    }

    /// What could not be read when the program was last started may be readable now.
    async fn try_again_what_was_aside(&mut self) -> Step<()> {
        if self.replica()?.tried_aside {
            return Ok(());
        }
        self.with_replica(|replica, room| {
            replica.tried_aside = true;
            let step = open_what_was_aside(replica, room)?;
            if !step.versions.is_empty() {
                keep(replica, room, &step)?;
            }
            Ok(())
        })
        .await
    }

    pub(crate) fn replica(&self) -> Step<&Replica> {
        let lost = || Error::ApiMisuse("a vault was used after something went wrong with it".into());
        Ok(self.replica.as_ref().ok_or_else(lost)?)
    }

    fn keys_missing(&self, replica: &Replica) -> bool {
        let governance = replica.log.core().governance();
        governance.member(&self.me.user).is_some() && !replica.keys.has(governance.epoch())
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
        let work = move || job(&mut replica, &room).map(|done| (replica, done));
        let (replica, done) = self.account.context().edges.apart(work).await??;
        self.replica = Some(replica);
        Ok(done)
    }

    async fn create(&mut self) -> Step<Event> {
        let context = self.account.context();
        let flight =
            self.replica()?.in_flight.clone().ok_or_else(|| Error::Corrupt("a vault without a start".into()))?;
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
            let step = Advance { state: Some(replica.state_bytes()), in_flight: Some(None), ..Advance::default() };
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

    /// The server's word, if it is the server's.
    pub(crate) async fn signed(&self, bytes: &SignedHeadBytes) -> Step<SignedHead> {
        let forged = |found: &str| {
            Alarm::new(Misbehaviour::ForgedHead, "a head of this vault that the server has signed", found)
        };
        let head = SignedHead::parse(bytes.as_ref()).map_err(|_| forged("something else"))?;
        if head.vault != self.vault {
            return Err(forged("a head of another vault").into());
        }
        let key = match self.room.head_key() {
            Some(key) => key,
            None => self.pin_head_key().await?,
        };
        if !head.is_signed_by(&key) {
            return Err(forged("a head that is not signed with the key this account has known").into());
        }
        Ok(head)
    }

    async fn pin_head_key(&self) -> Step<selkie_protocol::sign::PublicKey> {
        let key = self.account.context().capabilities().await?.head_key;
        let room = self.room.clone();
        let pin = move || room.change_shared(|shared| shared.head_key = Some(key));
        self.account.context().edges.apart(pin).await??;
        Ok(selkie_protocol::sign::PublicKey(*key))
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
        let (taken, end) = self
            .with_replica(move |replica, room| {
                let news = match &head {
                    Some(head) => note_head(replica, head)?,
                    None => false,
                };
                let recall = Recollection { room, vault };
                let reading = Reading { me, people: &crowd.logs, at_rest: &room.at_rest, recall: &recall, now_ms };
                let taken = reading.take(replica, &frames).map_err(|Refused { n, refusal }| {
                    let heads = head.iter().cloned().chain(replica.state.reached_head());
                    Trouble::Alarm(Box::new((Alarm::refused(n, &refusal).with_heads(heads), frames.clone())))
                })?;
                let end = head.as_ref().map_or(replica.head().n, |head| head.head.n);
                if replica.head().n >= end && taken.needs.is_none() {
                    check_the_end(replica)?;
                }
                if news || !frames.is_empty() {
                    keep(replica, room, &taken.step)?;
                }
                Ok((taken, end))
            })
            .await?;
        self.count(&taken);
        if let Some((user, index)) = taken.needs {
            return Ok(Event::PersonNeeded { user, index });
        }
        self.pulled(end)
    }

    fn pulled(&self, server: u64) -> Step<Event> {
        let replica = self.replica()?;
        let keys_missing = self.keys_missing(replica);
        Ok(Event::Pulled { head: replica.head().n, server, keys_missing, in_flight: replica.in_flight.is_some() })
    }

    fn count(&mut self, taken: &Taken) {
        self.report.pulled += taken.pulled;
        self.report.pushed += taken.landed;
        self.report.conflicts += taken.settled;
        self.report.set_aside += taken.aside;
        if taken.forgotten_own {
            tracing::info!("the log has an entry of this device that it does not remember");
        }
    }

    /// Fetches what is missing of somebody's account log and takes it, if it continues what is known.
    pub(crate) async fn learn_person(&self, user: UserId) -> Step<()> {
        learn_person(self.account, self.room, self.me.user, user).await.map_err(Trouble::Error)
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
        let composed = self
            .with_replica(move |replica, room| {
                let may_write = replica.role(&me.user).is_some_and(|role| role.may_write());
                if !may_write {
                    return Ok(Composed::default());
                }
                let pending = room.store.outbox(&replica.vault(), LOOK_AHEAD)?;
                let outbox = open_outbox(replica, room, pending)?;
                let known = versions_in_question(replica, room, &outbox)?;
                let pen = Pen { me, device: &device, now_ms };
                let composed = match pen.batch(replica, &outbox, &known, settings.settle.as_ref()) {
                    Ok(composed) => composed,
                    // It is shown in the vault's status; the key may come with the next round.
                    Err(NoKey { epoch }) => {
                        tracing::debug!(epoch, "nothing is written without the key");
                        return Ok(Composed::default());
                    }
                };
                if let Some(flight) = &composed.flight {
                    keep_flight(replica, room, flight.clone(), Vec::new())?;
                }
                Ok(composed)
            })
            .await?;
        self.report.waiting = composed.waiting.len();
        Ok(Event::Composed { in_flight: composed.flight.is_some() })
    }

    async fn learn_keys(&mut self) -> Step<Event> {
        let kept = self.account.kept();
        let Some(master) = kept.secrets.master_key.clone() else { return Ok(Event::KeysLearned { missing: true }) };
        let (context, vault, me) = (self.account.context(), self.vault, self.me);
        let answer = self.account.call(|bearer| async move { context.api.wraps(&bearer, &vault).await });
        let wraps = answer.await?.wraps;
        let found = self
            .with_replica(move |replica, room| {
                let governance = replica.log.core().governance();
                let links = &replica.state.links;
                let found = replica.keys.open_wraps(vault, &me.user, &master, &wraps, governance, links);
                if matches!(found, Found::New(_)) {
                    let epoch = replica.log.core().governance().epoch();
                    if replica.keys.has(epoch) {
                        replica.state.sealed_to = Some((epoch, master.generation()));
                    }
                    let opened = open_what_was_aside(replica, room)?;
                    keep(replica, room, &Advance { state: Some(replica.state_bytes()), ..opened })?;
                }
                Ok(found)
            })
            .await?;
        if let Found::Wrong { epoch } = found {
            let expected = format!("the key of epoch {epoch} that the vault's log commits to");
            let alarm = Alarm::new(Misbehaviour::WrongVaultKey, expected, "another key, or none at all");
            // The log is right, so it is followed; without the key nothing is read or written.
            let saved = self.save_evidence(&alarm, &[]).await;
            self.with_replica(move |replica, room| {
                replica.state.evidence.push(saved.name);
                keep_all(replica, room)
            })
            .await?;
            self.complaint = Some(Error::ServerMisbehaved { kind: alarm.kind, evidence: saved.path });
        }
        let missing = self.keys_missing(self.replica()?);
        Ok(Event::KeysLearned { missing })
    }

    /// Sets the vault apart and says why. What is kept stays as it was before the lie.
    async fn set_apart(&mut self, alarm: Alarm, served: &[Bytes]) -> Error {
        tracing::warn!(kind = %alarm.kind, "a vault is set apart");
        let reload = self.load().await;
        let saved = self.save_evidence(&alarm, served).await;
        let Alarm { kind, expected, found, .. } = alarm;
        let quarantine = Quarantine { kind, expected, found, at_ms: saved.at_ms, evidence: saved.path };
        let kept = match reload {
            Ok(()) => {
                let quarantine = quarantine.clone();
                self.with_replica(move |replica, room| {
                    replica.state.quarantine = Some(quarantine);
                    replica.state.evidence.push(saved.name);
                    keep_all(replica, room)
                })
                .await
            }
            Err(trouble) => Err(trouble),
        };
        if let Err(trouble) = kept {
            tracing::error!(?trouble, "that a vault is set apart could not be written down");
        }
        Error::Quarantined(Box::new(quarantine))
    }

    /// When, where a person finds it, and under which name it is kept.
    async fn save_evidence(&self, alarm: &Alarm, served: &[Bytes]) -> Saved {
        let (context, kept) = (self.account.context(), self.account.kept());
        let head = self.replica.as_ref().map(Replica::head);
        let our_n = head.map_or(0, |head| head.n);
        let (room, vault) = (self.room.clone(), self.vault);
        let ours = move || room.store.frames(&vault, our_n.saturating_sub(SHOWN_FRAMES), our_n);
        let ours = context.edges.apart(ours).await.ok().and_then(Result::ok).unwrap_or_default();
        let known = self.replica.iter().flat_map(|replica| [replica.state.reached, replica.state.claimed]).flatten();
        let heads = alarm.heads.iter().map(|head| Fixed::<160>::try_from_slice(&head.to_bytes()));
        let mut heads: Vec<SignedHeadBytes> = known.chain(heads.flatten()).collect();
        heads.dedup();
        let at_ms = context.now_ms();
        let evidence = VaultEvidence {
            kind: alarm.kind,
            seen_at_ms: at_ms,
            server_name: &kept.server_name,
            vid: self.vault,
            expected: &alarm.expected,
            found: &alarm.found,
            our_n,
            our_h: head.map_or([0; 32], |head| head.h).into(),
            head_key: self.room.shared().head_key,
            heads,
            ours: ours.into_iter().map(|(_, frame)| frame.into()).collect(),
            served,
        };
        let (name, bytes) = (evidence.file_name(), evidence.to_bytes());
        let path = context.save_evidence(kept.folder(), name.clone(), bytes).await;
        Saved { at_ms, path, name }
    }
}

/// Evidence that was saved.
struct Saved {
    at_ms: u64,
    path: Option<std::path::PathBuf>,
    name: String,
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
            Ok(())
        }
        None => Err(Trouble::Moved),
    }
}

/// Writes down the state beside the log and what is in flight.
pub(crate) fn keep_all(replica: &mut Replica, room: &Room) -> Step<()> {
    let in_flight = Some(replica.in_flight.as_ref().map(InFlight::to_bytes));
    let step = Advance { state: Some(replica.state_bytes()), in_flight, ..Advance::default() };
    keep(replica, room, &step)
}

/// Puts a frame in flight, on the disk first.
pub(crate) fn keep_flight(replica: &mut Replica, room: &Room, flight: InFlight, keys: Vec<(u32, Vec<u8>)>) -> Step<()> {
    keep(replica, room, &Advance { in_flight: Some(Some(flight.to_bytes())), keys, ..Advance::default() })?;
    replica.in_flight = Some(flight);
    Ok(())
}

/// Holds what the server says of its head against everything it has said before. Whether there is anything to keep.
pub(crate) fn note_head(replica: &mut Replica, head: &SignedHead) -> Step<bool> {
    let bytes: SignedHeadBytes = Fixed::try_from_slice(&head.to_bytes()).ok_or(Trouble::Moved)?;
    let before: Vec<SignedHead> =
        replica.state.reached_head().into_iter().chain(replica.state.claimed_head()).collect();
    let twice = |known: &&SignedHead| {
        known.incarnation == head.incarnation && known.head.n == head.head.n && known.head.h != head.head.h
    };
    if let Some(known) = before.iter().find(twice) {
        let expected = format!("the head it has signed before at {}", head.head.n);
        let alarm = Alarm::new(Misbehaviour::TwoHeads, expected, "another one, signed too");
        return Err(alarm.with_heads([known.clone(), head.clone()]).into());
    }
    let ours = replica.head();
    let refused = |refusal: Refusal| {
        Alarm::refused(head.head.n, &refusal).with_heads(before.clone().into_iter().chain([head.clone()]))
    };
    if head.head.n < ours.n {
        return Err(refused(Refusal::Rollback { known: ours.n, offered: head.head.n }).into());
    }
    replica.state.promises.seen(head.head, &replica.log).map_err(refused)?;
    replica.state.incarnation = Some(head.incarnation);
    replica.state.behind = None;
    let known = replica.state.reached_head();
    if head.head.n > ours.n {
        replica.state.claimed = Some(bytes);
        return Ok(true);
    }
    let news = known.is_none_or(|known| known.head != head.head || known.incarnation != head.incarnation);
    if news {
        replica.state.reached = Some(bytes);
    }
    Ok(news)
}

/// At the end of what the server has: every promise was kept, and nothing was held back.
fn check_the_end(replica: &Replica) -> Step<()> {
    let n = replica.head().n;
    let heads = || replica.state.reached_head().into_iter().chain(replica.state.claimed_head());
    let refused = |refusal: Refusal| Alarm::refused(n, &refusal).with_heads(heads());
    replica.state.promises.all_kept(&replica.log).map_err(refused)?;
    if !replica.state.missing.is_empty() {
        let missing = replica.state.missing.iter().map(|(_, change)| *change).collect();
        return Err(refused(Refusal::Withheld(missing)).into());
    }
    Ok(())
}

pub(crate) fn open_outbox(replica: &Replica, room: &Room, pending: Vec<Pending>) -> Result<Vec<Outgoing>> {
    let vault = replica.vault();
    let open = |pending: Pending| {
        let damaged = || Error::Corrupt("a write that is to be sent".into());
        let plain = room.at_rest.open_record(&vault, &pending.record, &pending.sealed).map_err(|_| damaged())?;
        Ok(Outgoing { body: RecordBody::from_bytes(&plain).map_err(|_| damaged())?, pending })
    };
    pending.into_iter().map(open).collect()
}

/// What is known of the records that were written by somebody else since our write was made.
fn versions_in_question(replica: &Replica, room: &Room, outbox: &[Outgoing]) -> Result<BTreeMap<RecordId, Known>> {
    let vault = replica.vault();
    let mut known: BTreeMap<RecordId, Known> = BTreeMap::new();
    for outgoing in outbox {
        let record = outgoing.pending.record;
        let heads = replica.log.live().record(&record).map(|live| live.heads()).unwrap_or_default();
        if heads.is_empty() || outgoing.pending.base.as_ref() == Some(&heads) || known.contains_key(&record) {
            continue;
        }
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

/// Tries again what could not be read before.
pub(crate) fn open_what_was_aside(replica: &Replica, room: &Room) -> Result<Advance> {
    let mut step =
        Advance { keys: replica.keys.epochs().map(|key| room.at_rest.seal_key(key)).collect(), ..Advance::default() };
    for aside in room.store.aside(&replica.vault())? {
        let Ok(item) = PageItem::parse(&aside.item) else { continue };
        let place = Place { change: aside.change, n: aside.n, unix_ms: aside.unix_ms };
        if let Ok((version, _)) =
            open_item(&replica.vault(), &replica.keys, &room.at_rest, &item, &aside.payload, place)
        {
            if let Some(live) = replica.log.live().record(&aside.record) {
                step.heads.push((aside.record, live.heads()));
            }
            step.versions.push(version);
            step.no_longer_aside.push(aside.change);
        }
    }
    Ok(step)
}

/// Fetches what is missing of somebody's account log and takes it, if it continues what is known.
pub(crate) async fn learn_person(account: &Account, room: &Arc<Room>, me: UserId, user: UserId) -> Result<()> {
    if user == me {
        let kept = account.sync_log().await?;
        room.meet(&kept.log, &kept.entries);
        return Ok(());
    }
    let crowd = room.crowd();
    let known = crowd.logs.get(&user);
    let from = known.map_or(0, |log| log.head().index);
    let context = account.context();
    let served = account.call(|bearer| async move { context.fetch_log_of(&bearer, Some(&user), from).await }).await?;
    match crate::trust::person(&user, known, crowd.entries.get(&user), &served) {
        Ok((log, entries)) => {
            let (room, log_bytes) = (room.clone(), selkie_protocol::Face::Cbor.encode(&entries));
            let keep = move || {
                room.store.keep_person(&user, &log_bytes)?;
                room.meet(&log, &entries);
                Ok(())
            };
            context.edges.apart(keep).await?
        }
        Err(kind) => {
            let kept = account.kept();
            let ours = crowd.entries.get(&user).map(Vec::as_slice).unwrap_or_default();
            let mut evidence = crate::trust::Evidence::new(kind, context.now_ms(), &kept.server_name)
                .ours(known, ours)
                .served(from, &served);
            evidence.uid = Some(me);
            Err(context.caught(kind, evidence).await)
        }
    }
}
