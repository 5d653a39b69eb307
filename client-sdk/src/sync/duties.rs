//! What a device writes into a vault besides records: who it is, a new key after a revocation, a checkpoint; and what a
//! person asks for: members, roles, rotation.
//!
//! Owns when each is due and how a change of members is made again until it stands or cannot. The rules themselves are
//! those of the log.

use super::compose::{Pen, in_flight, sign};
use super::driver::{Round, Step, Trouble, keep, keep_all, keep_flight};
use super::engine::Event;
use super::replica::{InFlight, Me, Replica};
use super::room::Crowd;
use crate::error::{Error, Result};
use crate::store::vaults::Advance;
use selkie_protocol::Fixed;
use selkie_protocol::account_log::AccountLog;
use selkie_protocol::cipher::{DeviceKey, EpochKey};
use selkie_protocol::id::UserId;
use selkie_protocol::log::{Control, Entry, Frame, Kind, RemoveRotate, Role};
use selkie_protocol::vault::{Wrap, Wraps};

/// A change of a vault's members, rules or keys, planned from its newest state.
pub(crate) struct Change {
    pub(crate) control: Control,
    pub(crate) wraps: Vec<Wrap>,
    /// The key of the epoch that it begins.
    pub(crate) key: Option<EpochKey>,
}

/// Plans the change; `None` if things are as they should be.
pub(crate) type Plan = Box<dyn Fn(&Replica, &Crowd) -> Result<Option<Change>> + Send>;

/// How often a change is made again because members were changed at the same time.
const MOST_CHANGES: usize = 16;

impl Round<'_> {
    /// What is due before records are sent, if anything.
    pub(super) async fn compose_duties(&mut self) -> Step<Option<Event>> {
        self.seal_key_to_ourselves().await?;
        let kept = self.account.kept();
        let (me, device, log) = (self.me, self.device.clone(), kept.log);
        let context = self.account.context();
        let (now_ms, settings, wanted) = (context.now_ms(), context.sync.clone(), self.checkpoint_wanted);
        let crowd = self.room.crowd();
        let flight = self
            .with_replica(move |replica, room| {
                let pen = Pen { me, device: &device, now_ms };
                let Some(member) = replica.log.core().governance().member(&me.user) else { return Ok(false) };
                let may_write = member.role.may_write();
                let (introduce, revoked) = anchor_is_due(&log, &me, member.anchor.index);
                if introduce || revoked {
                    let anchor = Control::Anchor { user: me.user, anchor: log.head() };
                    let flight = pen.frame(replica, Kind::Control, &anchor.to_bytes(), &[], Vec::new());
                    if revoked && may_write && !replica.state.rotation_due {
                        replica.state.rotation_due = true;
                        keep_all(replica, room)?;
                    }
                    keep_flight(replica, room, flight, Vec::new())?;
                    return Ok(true);
                }
                if replica.state.rotation_due && may_write {
                    let change = rotation(replica, &crowd, Vec::new())?;
                    return put_change_in_flight(replica, room, &me, &device, now_ms, change).map(|()| true);
                }
                // Changes count, not entries: one entry may have hundreds, and it is them that a newcomer is spared.
                let since = replica.state.since_checkpoint;
                let live = replica.log.live().count();
                let share = live.saturating_mul(settings.checkpoint_percent_of_live) / 100;
                let much = since >= settings.checkpoint_changes.max(share);
                if may_write && since > 0 && (much || wanted) {
                    let (body, note) =
                        replica.log.checkpoint(&[]).map_err(|error| Error::NotPossible(error.to_string()))?;
                    let beside = note.unwrap_or_default();
                    let flight = pen.frame(replica, Kind::Checkpoint, &body, &beside, Vec::new());
                    keep_flight(replica, room, flight, Vec::new())?;
                    return Ok(true);
                }
                Ok(false)
            })
            .await?;
        Ok(flight.then_some(Event::Composed { in_flight: true }))
    }

    /// After the account's keys were renewed, a device that has the vault's key seals it to the new ones, so that
    /// devices which come later can read.
    async fn seal_key_to_ourselves(&mut self) -> Step<()> {
        let kept = self.account.kept();
        let Some(master) = kept.secrets.master_key.clone() else { return Ok(()) };
        let replica = self.replica()?;
        let epoch = replica.log.core().governance().epoch();
        let due = Some((epoch, master.generation()));
        let may_write = replica.role(&self.me.user).is_some_and(|role| role.may_write());
        if replica.state.sealed_to == due || !may_write || !replica.keys.has(epoch) {
            return Ok(());
        }
        let me = self.me.user;
        let log = kept.log;
        let wrap = self
            .with_replica(move |replica, _| {
                let key = replica.keys.epoch(epoch);
                Ok(key.and_then(|key| wrap_for(key, &log).ok()).filter(|wrap| wrap.uid == me))
            })
            .await?;
        if let Some(wrap) = wrap.filter(|wrap| wrap.generation == master.generation()) {
            let (context, vault) = (self.account.context(), self.vault);
            let body = Wraps { wraps: vec![wrap] };
            self.account
                .call(|bearer| {
                    let body = &body;
                    async move { context.api.add_wraps(&bearer, &vault, body).await }
                })
                .await?;
            self.with_replica(move |replica, room| {
                replica.state.sealed_to = due;
                keep(replica, room, &Advance { state: Some(replica.state_bytes(&room.at_rest)), ..Advance::default() })
            })
            .await?;
        }
        Ok(())
    }

    /// Puts a planned change in flight, if one is needed. Returns whether one was.
    pub(super) async fn put_in_flight(&mut self, plan: Plan) -> Step<(bool, Plan)> {
        let crowd = self.room.crowd();
        let (me, device, now_ms) = (self.me, self.device.clone(), self.account.context().now_ms());
        self.with_replica(move |replica, room| {
            if replica.in_flight.is_some() {
                return Ok((false, plan));
            }
            let Some(change) = plan(replica, &crowd)? else { return Ok((false, plan)) };
            put_change_in_flight(replica, room, &me, &device, now_ms, change)?;
            Ok((true, plan))
        })
        .await
    }

    /// Comes into step, makes the change, comes into step; again, if somebody else was faster.
    pub(crate) async fn change_until_it_stands(&mut self, mut plan: Plan) -> Step<()> {
        for _ in 0..MOST_CHANGES {
            self.come_into_step(false).await?;
            let (needed, back) = self.put_in_flight(plan).await?;
            if !needed {
                return Ok(());
            }
            plan = back;
        }
        Err(Error::RetryLater { after: None, why: "the vault's members are being changed all the time".into() }.into())
    }
}

impl Round<'_> {
    /// An owner goes on without what the server has lost and no device could put back; also one whose own device lacks
    /// nothing, for the others.
    pub(crate) async fn reset_tail(&mut self) -> Step<()> {
        self.load().await?;
        if self.replica()?.role(&self.me.user) != Some(Role::Owner) {
            return Err(Error::NotPossible("only an owner of the vault can do that".into()).into());
        }
        match self.come_into_step(false).await {
            Err(Trouble::Error(Error::ServerBehind { missing })) => {
                let kept_to = self.replica()?.head().n.saturating_sub(missing);
                self.start_over(kept_to).await?;
            }
            Err(trouble) => return Err(trouble),
            Ok(()) => {}
        }
        for _ in 0..MOST_CHANGES {
            let before = self.replica()?.head().n;
            let plan: Plan = Box::new(|replica, _| {
                let control = Control::ResetTail { n: replica.head().n };
                Ok(Some(Change { control, wraps: Vec::new(), key: None }))
            });
            let (put, _) = self.put_in_flight(plan).await?;
            let sent = self.replica()?.in_flight.as_ref().map(|flight| flight.hash);
            self.come_into_step(false).await?;
            // Somebody else may have been faster, and then it was made for another position.
            if put && self.stands_after(before, sent).await? {
                return Ok(());
            }
        }
        Err(Error::RetryLater { after: None, why: "the vault moves on all the time".into() }.into())
    }

    async fn stands_after(&self, n: u64, hash: Option<Fixed<32>>) -> Step<bool> {
        let (room, vault, to) = (self.room.clone(), self.vault, self.replica()?.head().n);
        let frames = self.account.context().edges.apart(move || room.store.frames(&vault, n + 1, to)).await??;
        let hashes = frames.iter().filter_map(|(_, frame)| Frame::entry_bytes(frame).and_then(Entry::parse).ok());
        Ok(hashes.map(|entry| entry.hash()).any(|one| hash.is_some_and(|hash| *hash == one)))
    }

    /// Goes on as an owner has decided.
    pub(crate) async fn accept_reset(&mut self) -> Step<()> {
        self.load().await?;
        let replica = self.replica()?;
        let lost = replica.state.reset_offered;
        let lost = lost.ok_or_else(|| Error::NotPossible("there is nothing to accept".into()))?;
        let kept_to = replica.head().n.saturating_sub(lost);
        self.start_over(kept_to).await?;
        self.come_into_step(false).await
    }
}

/// Whether the vault must look further into our account log: for this device to count, and for a revoked one not to.
fn anchor_is_due(log: &AccountLog, me: &Me, anchored: u64) -> (bool, bool) {
    if log.head().index <= anchored {
        return (false, false);
    }
    let ours = log.active_device(&me.device);
    let introduce = ours.is_some_and(|device| device.added_at > anchored);
    let revoked = log.devices().any(|(_, device)| device.revoked_at.is_some_and(|at| at > anchored));
    (introduce, ours.is_some() && revoked)
}

fn put_change_in_flight(
    replica: &mut Replica,
    room: &super::room::Room,
    me: &Me,
    device: &DeviceKey,
    now_ms: u64,
    change: Change,
) -> Step<()> {
    let header = replica.log.core().next_header(me.user, me.device, replica.state.checkpoint_ok, now_ms);
    let entry = sign(device, &header, Kind::Control, &change.control.to_bytes());
    let flight: InFlight = in_flight(&entry, &[], change.wraps);
    // The new key is on the disk before anybody can hear of it.
    let keys = change.key.iter().map(|key| room.at_rest.seal_key(key)).collect();
    keep_flight(replica, room, flight, keys)?;
    if let Some(key) = change.key {
        replica.coming = Some(key);
    }
    Ok(())
}

/// The key of an epoch, sealed to somebody.
pub(crate) fn wrap_for(key: &EpochKey, log: &AccountLog) -> Result<Wrap> {
    let (generation, public) =
        log.kem().ok_or_else(|| Error::NotPossible(format!("{} has no key to seal to", log.user())))?;
    let sealed = key.seal_to(&log.user(), generation, public).map_err(|error| Error::NotPossible(error.to_string()))?;
    Ok(Wrap { uid: log.user(), epoch: key.epoch(), generation, sealed: (*sealed).into() })
}

/// Begins the next epoch without some of the members. Its key is made here, from nothing anybody else has a say in.
pub(crate) fn rotation(replica: &Replica, crowd: &Crowd, mut removed: Vec<UserId>) -> Result<Change> {
    let governance = replica.log.core().governance();
    let old = governance.epoch();
    let old_key = replica.keys.epoch(old).ok_or_else(|| Error::NotPossible("the vault's key is not here".into()))?;
    let key = EpochKey::generate(replica.vault(), old + 1);
    removed.sort_unstable();
    removed.dedup();
    let stay = governance.members().map(|(user, _)| user).filter(|user| !removed.contains(user));
    let wraps = stay.map(|user| {
        let log = crowd.logs.get(user).ok_or_else(|| Error::NotPossible(format!("{user} is not known here")))?;
        wrap_for(&key, log)
    });
    let wraps = wraps.collect::<Result<_>>()?;
    let (commitment, back) = (key.commitment(), key.link_back(old_key));
    let rotate = RemoveRotate { removed, epoch: old + 1, commitment, back };
    Ok(Change { control: Control::RemoveRotate(Box::new(rotate)), wraps, key: Some(key) })
}
