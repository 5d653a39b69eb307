//! The vaults of one account on this device: where they are kept, who is known, and who is working with which.
//!
//! Owns what vaults share: the store, the people, the server's key. One round at a time works with a vault; reading and
//! writing records waits for nobody. Knows nothing of what a round does.

use super::pulse::{Pulse, Setback};
use super::replica::{Replica, State, read_state};
use super::settle::{NewestFirst, Settle};
use super::take::waits_for_a_key;
use crate::api::Contents;
use crate::context::Context;
use crate::error::{Error, Quarantine, Result};
use crate::keys::at_rest::local_key;
use crate::keys::vault::AtRest;
use crate::store::Folder;
use crate::store::vaults::{Aside, Outline, VaultStore};
use selkie_protocol::account_log::{self, AccountLog};
use selkie_protocol::id::{DeviceId, Incarnation, UserId, VaultId};
use selkie_protocol::log::{Core, Head, Role};
use selkie_protocol::sign::PublicKey;
use selkie_protocol::vault::{PollState, SignedHeadBytes};
use selkie_protocol::{Bytes, Face, Fixed};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How a client keeps vaults in step.
#[derive(Clone)]
pub(crate) struct SyncSettings {
    pub(crate) settle: Arc<dyn Settle>,
    pub(crate) checkpoint_changes: u64,
    pub(crate) checkpoint_percent_of_live: u64,
    pub(crate) begin_with_checkpoint_from: u64,
}

impl Default for SyncSettings {
    fn default() -> Self {
        SyncSettings {
            settle: Arc::new(NewestFirst),
            checkpoint_changes: 5_000,
            // So whoever comes in new takes what is live from the checkpoint, and little more after it.
            checkpoint_percent_of_live: 25,
            // A checkpoint is written after 5,000 changes, which may be 20 entries. To ask for one is one request.
            begin_with_checkpoint_from: 20,
        }
    }
}

/// Opened once an account.
pub(crate) struct Room {
    pub(crate) store: Arc<dyn VaultStore>,
    pub(crate) at_rest: Arc<AtRest>,
    slots: Mutex<HashMap<VaultId, Arc<Slot>>>,
    crowd: Mutex<Arc<Crowd>>,
    shared: Mutex<Shared>,
    changing: Mutex<()>,
    pub(crate) pulse: Pulse,
    /// One poll at a time.
    pub(crate) polling: futures_util::lock::Mutex<()>,
    /// One making of the account's own vault.
    pub(crate) making_own: futures_util::lock::Mutex<()>,
    /// One looking for a vault of a name, and making it if there is none.
    pub(crate) making: futures_util::lock::Mutex<()>,
}

/// One vault's place.
#[derive(Default)]
pub(crate) struct Slot {
    /// Held by the round that works with the vault. Empty: to be read from the store.
    pub(crate) replica: futures_util::lock::Mutex<Option<Replica>>,
    glance: Mutex<Option<Glance>>,
    /// Where other devices of this person have been, as they told last, that our log was held against.
    compared: Mutex<HashMap<DeviceId, Head>>,
    /// The vault of an account that this one has become.
    became: Mutex<Option<crate::vault::Vault>>,
    /// What was read lately.
    pub(crate) view: crate::records::view::View,
    /// Rung after every write.
    pub(crate) bell: crate::records::watch::Bell,
}

/// What can be told of a vault while somebody works with it.
#[derive(Clone, Debug)]
pub(crate) struct Glance {
    /// Of what is kept: with another, another program has gone on with the vault.
    revision: u64,
    pub(crate) head: Head,
    pub(crate) app: String,
    pub(crate) members: Vec<(UserId, Role)>,
    pub(crate) epoch: u32,
    pub(crate) has_key: bool,
    /// The server was asked for it, and somebody has to give it first.
    pub(crate) waits_for_key: bool,
    /// The present key, or the one before it, which is the last one of who was removed.
    pub(crate) has_last_key: bool,
    pub(crate) born: bool,
    pub(crate) incarnation: Option<Incarnation>,
    /// The server's signature over where we are, or were.
    pub(crate) reached: Option<SignedHeadBytes>,
    pub(crate) in_flight: bool,
    /// What could not be read was tried again since the program began.
    pub(crate) tried_aside: bool,
    pub(crate) quarantine: Option<Quarantine>,
    pub(crate) behind: Option<u64>,
    /// The server must show more than this device has taken so far.
    pub(crate) more_is_promised: bool,
    pub(crate) reset_offered: Option<u64>,
    pub(crate) trust: super::replica::KeptTrust,
    pub(crate) last_checkpoint: u64,
}

/// Which of a vault's keys are here.
struct HasKeys {
    present: bool,
    last: bool,
}

impl Glance {
    pub(crate) fn of(replica: &Replica) -> Glance {
        let core = replica.log.core();
        let (keys, epoch) = (&replica.keys, core.governance().epoch());
        let has = HasKeys { present: keys.has(epoch), last: keys.has(epoch) || keys.has(epoch.saturating_sub(1)) };
        let in_flight = replica.in_flight.is_some();
        let parts = Glance::of_parts(replica.revision, core, &replica.state, has, in_flight);
        Glance { tried_aside: replica.tried_aside, ..parts }
    }

    /// As it is kept, without reading the chain and the live records, which grow with the log.
    pub(crate) fn of_outline(vault: &VaultId, outline: &Outline, at_rest: &AtRest) -> Result<Glance> {
        let (state, core) = read_state(vault, &outline.state, at_rest)?;
        let governance = core.governance();
        let has = |epoch: u32| {
            let kept = outline.keys.iter().find(|(kept, _)| *kept == epoch);
            let found = kept.zip(governance.commitment(epoch));
            found.is_some_and(|((_, sealed), commitment)| at_rest.open_key(vault, epoch, sealed, commitment).is_ok())
        };
        let present = has(governance.epoch());
        let has = HasKeys { present, last: present || has(governance.epoch().saturating_sub(1)) };
        Ok(Glance::of_parts(outline.revision, &core, &state, has, outline.in_flight.is_some()))
    }

    fn of_parts(revision: u64, core: &Core, state: &State, has: HasKeys, in_flight: bool) -> Glance {
        let governance = core.governance();
        Glance {
            revision,
            head: core.head(),
            app: core.app().as_str().to_owned(),
            members: governance.members().map(|(user, member)| (*user, member.role)).collect(),
            epoch: governance.epoch(),
            has_key: has.present,
            waits_for_key: !has.present && state.key_not_given == Some(governance.epoch()),
            has_last_key: has.last,
            born: state.born,
            incarnation: state.incarnation,
            reached: state.reached,
            in_flight,
            tried_aside: false,
            quarantine: state.quarantine.clone(),
            behind: state.behind,
            more_is_promised: !state.promises.is_empty(),
            reset_offered: state.reset_offered,
            trust: state.trust,
            last_checkpoint: state.last_checkpoint,
        }
    }

    /// It cannot be read for want of the present key, and nobody has asked for that so far: the next round does.
    pub(crate) fn key_comes_for(&self, aside: &Aside) -> bool {
        !self.has_key && !self.waits_for_key && waits_for_a_key(aside)
    }

    pub(crate) fn role(&self, user: &UserId) -> Option<Role> {
        self.members.iter().find(|(member, _)| member == user).map(|(_, role)| *role)
    }
}

impl Slot {
    pub(crate) fn glance(&self) -> Option<Glance> {
        self.glance.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn became(&self) -> Option<crate::vault::Vault> {
        self.became.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Every handle of this vault is one of the other from now on.
    pub(crate) fn become_another(&self, vault: crate::vault::Vault) {
        *self.became.lock().unwrap_or_else(PoisonError::into_inner) = Some(vault);
        self.bell.ring();
    }

    /// What was read from the store, unless somebody who worked with the vault has shown something newer.
    pub(crate) fn show_first(&self, glance: Glance) -> Glance {
        self.glance.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(glance).clone()
    }

    /// How the vault is, is read again, unless somebody has just shown it. What was read in it is held against the
    /// store at every look.
    fn look_again(&self, old: u64) {
        let mut shown = self.glance.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.as_ref().is_some_and(|shown| shown.revision == old) {
            *shown = None;
        }
    }

    /// Of what was shown of it.
    fn revision(&self) -> Option<u64> {
        self.glance.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(|shown| shown.revision)
    }

    /// It is not here any more. If it comes again, nothing of it is taken for that. Whoever works with it now is told
    /// by the store.
    fn forget_all(&self) {
        if let Some(mut replica) = self.replica.try_lock() {
            *replica = None;
        }
        self.forget();
    }

    /// What was read is read again.
    pub(crate) fn forget(&self) {
        *self.glance.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.compared.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.view.forget();
    }

    pub(crate) fn was_compared(&self, device: &DeviceId, head: &Head) -> bool {
        self.compared.lock().unwrap_or_else(PoisonError::into_inner).get(device) == Some(head)
    }

    /// Our log was held against what a device told: it only grows, so that need not be done again.
    pub(crate) fn note_compared(&self, device: DeviceId, head: Head) {
        self.compared.lock().unwrap_or_else(PoisonError::into_inner).insert(device, head);
    }

    /// Whether it is otherwise than what was shown before.
    pub(crate) fn show(&self, replica: &Replica) -> bool {
        let new = Glance::of(replica);
        let mut shown = self.glance.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = shown.as_ref().is_none_or(|shown| shown.revision != new.revision);
        *shown = Some(new);
        is_news
    }
}

/// People whose account logs were verified here.
#[derive(Clone, Debug, Default)]
pub(crate) struct Crowd {
    pub(crate) logs: BTreeMap<UserId, AccountLog>,
    pub(crate) entries: BTreeMap<UserId, Vec<Bytes>>,
}

/// What is kept for all vaults together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Shared {
    /// The key the server signs heads with, as it was when this account first saw it.
    pub(crate) head_key: Option<Fixed<32>>,
    pub(crate) incarnation: Option<Incarnation>,
    /// The lives of the server that this device has met, the present one last. None of them comes back.
    pub(crate) lives: Vec<Incarnation>,
    pub(crate) poll: Option<PollState>,
    /// When heads were last written down in the account's own vault.
    pub(crate) gossiped_ms: u64,
    /// What this device is called, for the others.
    pub(crate) device_name: String,
    /// When everything was last in step, give or take a minute.
    pub(crate) synced_ms: u64,
    /// Why the last round was none, if it was none.
    pub(crate) setback: Option<Setback>,
    /// Vaults that are not kept here, though this person is in them.
    pub(crate) left_out: Vec<LeftOutNote>,
    /// Vaults that are new here join them.
    pub(crate) leaves_new_out: bool,
}

/// A vault that is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeftOutNote {
    pub(crate) id: VaultId,
    /// What it was called, sealed.
    pub(crate) name: Option<Bytes>,
    /// How far it was seen here, and in which life of the server: the server must show it again.
    pub(crate) seen: Option<(u64, Fixed<32>, Incarnation)>,
    /// It was asked for again. The note stays until the server has shown what was seen, however often it is cut off.
    #[serde(default)]
    pub(crate) wanted: bool,
    /// And what its records say is fetched later.
    #[serde(default)]
    pub(crate) headers_first: bool,
}

impl Shared {
    /// Whether what the records of a vault say is fetched with its log.
    pub(crate) fn contents_of(&self, vault: &VaultId) -> Contents {
        match self.note_of(vault) {
            Some(note) if note.wanted && note.headers_first => Contents::Later,
            _ => Contents::Now,
        }
    }

    /// A life of the server that is not the present one begins.
    pub(crate) fn begin_life(&mut self, life: Incarnation) {
        self.lives.push(life);
        // The other devices are to hear of it at once.
        self.gossiped_ms = 0;
    }

    /// Whether a life had ended, as far as somebody has met them in this order.
    pub(crate) fn is_over(lives: &[Incarnation], life: Incarnation) -> bool {
        lives.last().is_some_and(|present| *present != life) && lives.contains(&life)
    }

    /// Leaves a vault out. What was seen of it before, and not shown again since, stays owed.
    pub(crate) fn leave_out(&mut self, mut note: LeftOutNote) {
        if let Some(known) = self.note_of(&note.id)
            && let Some((n, _, life)) = known.seen
            && note.seen.is_none_or(|(seen, _, in_life)| life == in_life && seen < n)
        {
            note.seen = known.seen;
        }
        self.left_out.retain(|known| known.id != note.id);
        self.left_out.push(note);
    }

    /// What is known of a vault that was left out, and perhaps asked for again.
    pub(crate) fn note_of(&self, vault: &VaultId) -> Option<&LeftOutNote> {
        self.left_out.iter().find(|note| note.id == *vault)
    }

    /// Those that are left out and not asked for.
    pub(crate) fn unwanted(&self) -> impl Iterator<Item = &LeftOutNote> {
        self.left_out.iter().filter(|note| !note.wanted)
    }
}

impl Room {
    /// Blocks on the disk.
    pub(crate) fn open(context: &Context, folder: &Folder) -> Result<Room> {
        let store = context.vault_stores.open(folder)?;
        let at_rest = AtRest::new(local_key(context.keeper.keychain.as_ref(), folder)?);
        let at_rest = if context.records_in_the_clear { at_rest.in_the_clear() } else { at_rest };
        let mut crowd = Crowd::default();
        for (user, log) in store.people()? {
            let entries: Option<Vec<Bytes>> = Face::Cbor.decode(&log).ok();
            let read = entries.and_then(|entries| {
                let log = AccountLog::replay(entries.iter().map(|entry| &**entry)).ok()?;
                (log.user() == user).then_some((log, entries))
            });
            // It is fetched again when it is needed, and verified again: nothing else hangs on it.
            let Some((log, entries)) = read else {
                tracing::warn!(%user, "what is kept of a person cannot be read");
                continue;
            };
            crowd.logs.insert(user, log);
            crowd.entries.insert(user, entries);
        }
        let (_, shared) = read_shared(store.as_ref())?;
        Ok(Room {
            store,
            at_rest: Arc::new(at_rest),
            slots: Mutex::default(),
            crowd: Mutex::new(Arc::new(crowd)),
            pulse: Pulse::new(shared.synced_ms, shared.setback.clone()),
            shared: Mutex::new(shared),
            changing: Mutex::default(),
            polling: futures_util::lock::Mutex::new(()),
            making_own: futures_util::lock::Mutex::new(()),
            making: futures_util::lock::Mutex::new(()),
        })
    }

    pub(crate) fn slot(&self, vault: &VaultId) -> Arc<Slot> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).entry(*vault).or_default().clone()
    }

    fn all_slots(&self) -> Vec<Arc<Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Lets go of what is in memory only to be quicker. Whoever works with a vault goes on with what they hold.
    pub(crate) fn let_go_of_memory(&self) {
        for slot in self.all_slots() {
            slot.view.forget();
            if let Some(mut place) = slot.replica.try_lock() {
                *place = None;
            }
        }
    }

    /// Does something with the store after which everything in memory is to be read again. No round runs meanwhile.
    pub(crate) async fn turned_over<T>(&self, work: impl AsyncFnOnce() -> T) -> T {
        let slots = self.all_slots();
        let mut places = Vec::with_capacity(slots.len());
        for slot in &slots {
            places.push(slot.replica.lock().await);
        }
        let done = work().await;
        for (slot, place) in slots.iter().zip(&mut places) {
            **place = None;
            slot.forget();
        }
        drop(places);
        slots.iter().for_each(|slot| slot.bell.ring());
        self.pulse.changed.ring();
        done
    }

    /// Something of a vault is otherwise than before: tells whoever watches.
    pub(crate) fn ring(&self, vault: &VaultId) {
        self.slot(vault).bell.ring();
        self.pulse.changed.ring();
    }

    /// The same, after a write of this device that is to be sent.
    pub(crate) fn wrote(&self, vault: &VaultId) {
        self.ring(vault);
        self.pulse.writes.ring();
    }

    pub(crate) fn crowd(&self) -> Arc<Crowd> {
        self.crowd.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes a longer log of somebody; a shorter one is not taken.
    pub(crate) fn meet(&self, log: &AccountLog, entries: &[Bytes]) {
        let mut crowd = self.crowd.lock().unwrap_or_else(PoisonError::into_inner);
        let known = crowd.logs.get(&log.user()).map_or(0, AccountLog::next_index);
        if log.next_index() > known {
            let crowd = Arc::make_mut(&mut crowd);
            crowd.logs.insert(log.user(), log.clone());
            crowd.entries.insert(log.user(), entries.to_vec());
        }
    }

    /// Takes the account's own log as it is kept: a person may have given up the end of one that was known here.
    pub(crate) fn meet_own(&self, log: &AccountLog, entries: &[Bytes]) {
        let is_in = |known: &AccountLog| known.extends(&log.head()) == account_log::Extends::Yes;
        if !self.crowd().logs.get(&log.user()).is_some_and(is_in) {
            self.meet_anew(log, entries);
        }
    }

    /// Takes a log in place of another one that it does not continue.
    pub(crate) fn meet_anew(&self, log: &AccountLog, entries: &[Bytes]) {
        let mut crowd = self.crowd.lock().unwrap_or_else(PoisonError::into_inner);
        let crowd = Arc::make_mut(&mut crowd);
        crowd.logs.insert(log.user(), log.clone());
        crowd.entries.insert(log.user(), entries.to_vec());
    }

    pub(crate) fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn head_key(&self) -> Option<PublicKey> {
        self.shared().head_key.map(|key| PublicKey(*key))
    }

    /// Changes what is kept for all vaults, on the disk first. Blocks. Another program may have changed it meanwhile:
    /// then it is changed as that has left it, so `change` may be asked again.
    pub(crate) fn change_shared(&self, mut change: impl FnMut(&mut Shared)) -> Result<()> {
        // One after the other: of two that begin with the same, one would undo what the other did.
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let (before, kept) = read_shared(self.store.as_ref())?;
            // A file that was made anew may have lost it.
            let mut changed = if before.is_some() { kept.clone() } else { self.shared().clone() };
            change(&mut changed);
            let is_kept =
                changed == kept || self.store.keep_account(before.as_deref(), &Face::Cbor.encode(&changed))?;
            if is_kept {
                *self.shared() = changed;
                return Ok(());
            }
        }
    }

    /// Sees what another program on this device has changed since it was last looked at. Which vaults are here. Blocks.
    pub(crate) fn look_around(&self) -> Result<Vec<VaultId>> {
        self.look_at_shared()?;
        let slots: Vec<(VaultId, Arc<Slot>)> = {
            let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            slots.iter().map(|(id, slot)| (*id, slot.clone())).collect()
        };
        for (id, slot) in slots {
            let Some(shown) = slot.revision() else { continue };
            match self.store.revision(&id) {
                Ok(Some(revision)) if revision == shown => continue,
                Ok(Some(_)) => slot.look_again(shown),
                Ok(None) => slot.forget_all(),
                Err(error) => {
                    // Whoever works with it is told. The others are no worse for it.
                    tracing::warn!(%error, vault = %id, "how far a vault has come cannot be read");
                    continue;
                }
            }
            self.ring(&id);
        }
        Ok(self.store.vaults()?)
    }

    /// The same of what is kept for all vaults. Blocks.
    pub(crate) fn look_at_shared(&self) -> Result<()> {
        self.change_shared(|_| ())
    }

    /// Where what is kept for all vaults says nothing any more, what this program knows of it takes its place. A file
    /// that cannot be read is made anew first. Blocks.
    pub(crate) fn mend_shared(&self) -> Result<()> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(Error::Damaged { source: None, .. }) = read_shared(self.store.as_ref()) {
            let known = Face::Cbor.encode(&*self.shared());
            let before = self.store.account()?;
            self.store.keep_account(before.as_deref(), &known)?;
        }
        Ok(())
    }
}

/// What is kept for all vaults, as it lies there and as it is read.
fn read_shared(store: &dyn VaultStore) -> Result<(Option<Vec<u8>>, Shared)> {
    let kept = store.account()?;
    let shared = match &kept {
        Some(bytes) => Face::Cbor.decode(bytes).map_err(|error| Error::damaged(error.what))?,
        None => Shared::default(),
    };
    Ok((kept, shared))
}

impl super::take::Recall for Recollection<'_> {
    fn is_deleted(&self, record: &selkie_protocol::id::RecordId) -> Option<bool> {
        let now = self.room.store.now(&self.vault, record).ok()?;
        if let Some(elsewhere) = now.elsewhere {
            // What was let go was living; of what was never fetched nothing is known.
            return elsewhere.was_here.then_some(false);
        }
        let versions = self.room.store.versions(&self.vault, record).ok()?;
        let current = versions.iter().rfind(|version| version.current)?;
        let plain = self.room.at_rest.open_record(&self.vault, record, &current.sealed).ok()?;
        selkie_protocol::record::RecordBody::from_bytes(&plain).ok().map(|body| body.deleted)
    }
}

/// What the store remembers of a vault's records.
pub(crate) struct Recollection<'a> {
    pub(crate) room: &'a Room,
    pub(crate) vault: VaultId,
}
