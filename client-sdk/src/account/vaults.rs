//! The vaults of an account.
//!
//! Owns the list, the making of a vault and the one poll that keeps all of them in step. What is done with one vault is
//! in `vault`.

use super::Account;
use crate::alone::was_taken_over;
use crate::error::{Error, Result};
use crate::keys::vault::Keyring;
use crate::store::vaults::KeptFrame;
use crate::sync::backoff::Backoff;
use crate::sync::driver::SyncReport;
use crate::sync::duties::wrap_for;
use crate::sync::learn::learn_person;
use crate::sync::pulse::{Running, Setback};
use crate::sync::replica::{Replica, State};
use crate::sync::room::Room;
use crate::vault::{Vault, VaultSummary, named};
use selkie_protocol::Bytes;
use selkie_protocol::cipher::{FirstEpochKey, random_id};
use selkie_protocol::hash::Label;
use selkie_protocol::id::VaultId;
use selkie_protocol::log::{
    App, Control, Create, Entry, Frame, Kind, NEWEST_FORMAT, Refusal, VaultLog, first_header, signed,
};
use selkie_protocol::vault::PolledVault;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How much newer the last success must be to be written down by itself.
const KEEP_SUCCESS_MS: u64 = 60 * 1000;

/// What [`Account::sync`] has done, vault by vault.
#[derive(Debug, Default)]
pub struct AccountSync {
    /// Those in which something was to be done, and what came of it.
    pub vaults: Vec<(VaultId, Result<SyncReport>)>,
}

impl AccountSync {
    /// The first vault that did not work out, and why.
    pub fn first_error(&self) -> Option<(&VaultId, &Error)> {
        self.vaults.iter().find_map(|(vault, outcome)| outcome.as_ref().err().map(|error| (vault, error)))
    }

    /// What kept the round as a whole from being one, if anything did. What holds up one vault alone, and waits for a
    /// person, is no reason to try all of them again.
    pub(crate) fn trouble(&self) -> Option<&Error> {
        let errors = || self.vaults.iter().filter_map(|(_, outcome)| outcome.as_ref().err());
        let over = errors().find(|error| matches!(error, Error::SignInAgain { .. }));
        over.or_else(|| errors().find(|error| error.is_retryable() || matches!(error, Error::Storage(_))))
    }
}

impl Account {
    /// Makes a vault for an app (`org.example.journal`). No request is made: the vault works at once, and the server
    /// hears of it with the next [`Vault::sync`].
    pub async fn create_vault(&self, name: &str, app: &str) -> Result<Vault> {
        self.make_vault(apps_own(app)?, Some(name)).await
    }

    /// The vault of a name and an app; made if there is none. No request is made. Of several that have both, it is the
    /// one that was last meant on any of this person's devices, else one that this person shares with nobody: a vault
    /// that somebody else has given that name is not taken for it. Two calls at once make one vault.
    pub async fn vault_of(&self, name: &str, app: &str) -> Result<Vault> {
        let app = apps_own(app)?;
        let room = self.room().await?;
        let _alone = room.making.lock().await;
        let (store, folder) = (self.context().keeper.store.clone(), self.0.folder.clone());
        let lock = self.context().edges.apart(move || store.lock(&folder)).await??;
        let meant = self.meant(name, &app);
        let chosen = meant.look_up().await?;
        let vault = match meant.find(&room, chosen).await? {
            Some(vault) => vault,
            None => self.make_vault(app.clone(), Some(name)).await?,
        };
        if chosen != Some(vault.id()) {
            meant.remember(vault.id()).await?;
        }
        drop(lock);
        Ok(vault)
    }

    pub(crate) async fn make_vault(&self, app: App, name: Option<&str>) -> Result<Vault> {
        let room = self.room().await?;
        let (kept, now_ms, name) = (self.kept(), self.context().now_ms(), name.map(str::to_owned));
        let made = room.clone();
        let id = self.context().edges.apart(move || {
            let device = &kept.secrets.device;
            let key = FirstEpochKey::generate();
            let create = Create {
                random: random_id(),
                anchor: kept.log.head(),
                identity: kept.log.identity(),
                commitment: key.commitment(),
                min_format: NEWEST_FORMAT,
                flags: 0,
                app,
            };
            let body = Control::Create(create).to_bytes();
            let unsigned = first_header(kept.user(), device.id(), now_ms).with_body(Kind::Control, &body);
            let signature = device.sign(Label::VAULT_ENTRY_SIG, &[&unsigned]);
            let entry = signed(unsigned, &signature);
            let parsed = Entry::parse(&entry).expect("we have just made it");
            made.meet(&kept.log, &kept.entries);
            let refused = |refusal: Refusal| Error::NotPossible(format!("the vault cannot be made: {refusal}"));
            let (log, _) = VaultLog::create(&parsed, &made.crowd().logs).map_err(refused)?;
            let id = log.core().vault();
            let key = key.of(id);
            let wrap = wrap_for(&key, &kept.log)?;
            let mut replica = Replica::new(log, State::new(false));
            replica.state.sealed_to = Some((1, wrap.generation));
            replica.keys = Keyring::default();
            replica.keys.insert(key);
            replica.in_flight = Some(crate::sync::compose::in_flight(&entry, &[], vec![wrap]));
            let mut begun = replica.begun(&made.at_rest);
            begun.frames = vec![KeptFrame { n: 1, received_ms: now_ms, frame: Frame::write(&entry, &[]) }];
            begun.writes = name.map(|name| named(&made, &id, &name, now_ms)).transpose()?.into_iter().collect();
            made.store.begin(&id, &begun)?;
            made.wrote(&id);
            Ok::<_, Error>(id)
        });
        Ok(Vault::new(self.clone(), room, id.await??))
    }

    /// The vaults on this device, and how each is. No request is made.
    pub async fn vaults(&self) -> Result<Vec<VaultSummary>> {
        let room = self.room().await?;
        let (open, mut summaries) = (room.clone(), Vec::new());
        for id in self.context().edges.apart(move || open.store.vaults()).await?? {
            summaries.push(Vault::new(self.clone(), room.clone(), id).summary().await?);
        }
        Ok(summaries)
    }

    /// A vault on this device, by its id.
    pub async fn vault_by_id(&self, id: VaultId) -> Result<Option<Vault>> {
        let room = self.room().await?;
        let kept = room.clone();
        let here = self.context().edges.apart(move || kept.store.vaults()).await??.contains(&id);
        Ok(here.then(|| Vault::new(self.clone(), room, id)))
    }

    /// A vault on this device, by its name or by its id as text. A name that several have names none of them: anybody
    /// who adds this person to a vault has given it its name, and what is meant for one must not end up in the other.
    pub async fn vault(&self, name_or_id: &str) -> Result<Option<Vault>> {
        if let Ok(id) = name_or_id.parse::<VaultId>()
            && let Some(vault) = self.vault_by_id(id).await?
        {
            return Ok(Some(vault));
        }
        let room = self.room().await?;
        let open = room.clone();
        let mut named = None;
        for id in self.context().edges.apart(move || open.store.vaults()).await?? {
            let vault = Vault::new(self.clone(), room.clone(), id);
            if self.is_alone() && vault.read_as_held(was_taken_over).await? {
                continue;
            }
            let name = match vault.name().await {
                // One that is damaged hides no other.
                Err(Error::Damaged { .. }) => continue,
                name => name?,
            };
            if name.as_deref() == Some(name_or_id) && named.replace(vault).is_some() {
                let why = "several vaults have that name: say which one by its id";
                return Err(Error::NotPossible(why.into()));
            }
        }
        Ok(named)
    }

    /// Comes into step in all vaults: asks once what is new, finds vaults this person was added to, and leaves alone
    /// those where nothing is to be done. One vault that fails holds up no other.
    pub async fn sync(&self) -> Result<AccountSync> {
        self.sync_trying(Backoff::of_a_round()).await
    }

    /// The same, for whoever has waits of their own.
    pub(super) async fn sync_trying(&self, backoff: Backoff) -> Result<AccountSync> {
        let outcome = self.sync_round(backoff).await?;
        let client = self.context().client.get().and_then(std::sync::Weak::upgrade).map(crate::Client);
        match client {
            // It is known now which vaults the account has, and something was waiting for that.
            Some(client) if outcome.trouble().is_none() && client.catch_up(self).await? => {
                self.sync_round(Backoff::of_one_try()).await
            }
            _ => Ok(outcome),
        }
    }

    /// One round, and nothing else.
    pub(crate) async fn sync_round(&self, backoff: Backoff) -> Result<AccountSync> {
        let room = self.room().await?;
        let _alone = room.polling.lock().await;
        let round = room.pulse.begin();
        let outcome = self.sync_all(&room, &round, backoff).await;
        self.end_round(&room, round, true, outcome.as_ref()).await;
        outcome
    }

    /// Tells how a round has ended, here and to the next start of the app.
    async fn end_round(
        &self,
        room: &Arc<Room>,
        round: Running<'_>,
        is_whole: bool,
        outcome: Result<&AccountSync, &Error>,
    ) {
        round.end(self.context().now_ms(), outcome);
        let trouble = match outcome {
            Ok(sync) => sync.trouble(),
            Err(error) => Some(error),
        };
        let (setback, is_well) = (trouble.and_then(Setback::of), trouble.is_none());
        let (kept, now_ms) = (room.clone(), self.context().now_ms());
        let keep = move || {
            kept.change_shared(|shared| {
                if is_well && is_whole && shared.setback.is_some() {
                    shared.synced_ms = now_ms;
                }
                shared.setback.clone_from(&setback);
            })
        };
        // The round is over, however this goes.
        match self.context().edges.apart(keep).await.map_err(Error::from).flatten() {
            Ok(()) => {}
            Err(error) => tracing::warn!(%error, "how the round has ended could not be written down"),
        }
    }

    /// Comes into step in one vault that something was heard of, if it is one of the app's that is here; else in all.
    pub(super) async fn sync_hinted(&self, id: VaultId) -> Result<AccountSync> {
        let vault = match self.vault_by_id(id).await? {
            Some(vault) if !self.is_own(&vault).await? => vault,
            _ => return self.sync_trying(Backoff::of_one_try()).await,
        };
        let room = vault.room.clone();
        let _alone = room.polling.lock().await;
        let round = room.pulse.begin();
        round.goes_on(0, 1);
        let done = vault.sync_known(false, 0, Backoff::of_one_try()).await;
        let outcome = Ok(AccountSync { vaults: vec![(id, done)] });
        self.end_round(&room, round, false, outcome.as_ref()).await;
        outcome
    }

    async fn sync_all(&self, room: &Arc<Room>, round: &Running<'_>, mut backoff: Backoff) -> Result<AccountSync> {
        let context = self.context();
        let kept = room.clone();
        context.edges.apart(move || kept.look_around()).await??;
        let (known, lives) = {
            let shared = room.shared();
            (shared.poll, shared.lives.clone())
        };
        let polled = self.call(|bearer| async move { context.api.poll(&bearer, known.as_ref()).await }).await?;
        self.meet_life(room, polled.incarnation, &lives).await?;
        let news: Option<BTreeMap<VaultId, PolledVault>> =
            polled.vaults.map(|vaults| vaults.into_iter().map(|vault| (vault.vid, vault)).collect());
        let mut outcome = AccountSync::default();
        if let Some(news) = &news {
            let others_have_one = news.values().any(|vault| vault.app == super::own_vault::OWN_APP);
            self.make_own_vault(room, others_have_one).await?;
        }
        let kept = room.clone();
        let here = context.edges.apart(move || kept.store.vaults()).await??;
        let strangers = news.iter().flat_map(BTreeMap::values).filter(|vault| !here.contains(&vault.vid));
        let strangers = strangers.map(|vault| (vault.vid, vault.app == super::own_vault::OWN_APP)).collect();
        let strangers = self.to_be_fetched(room, strangers).await?.into_iter().map(|id| (id, false));
        let all: Vec<(VaultId, bool)> = here.iter().map(|id| (*id, true)).chain(strangers).collect();
        let (mut all_well, of) = (true, all.len());
        for (done, (id, is_here)) in all.into_iter().enumerate() {
            round.goes_on(done, of);
            let vault = Vault::new(self.clone(), room.clone(), id);
            let done = match self.sync_one(&vault, is_here, polled.incarnation, news.as_ref(), backoff.clone()).await {
                Ok(None) => {
                    round.is_well(&id);
                    continue;
                }
                Ok(Some(report)) => Ok(report),
                Err(error) => Err(error),
            };
            all_well &= done.is_ok();
            if done.as_ref().is_err_and(Error::is_retryable) {
                backoff = Backoff::of_one_try();
            }
            outcome.vaults.push((id, done));
        }
        // Whatever one vault suffers from, the devices tell each other of the rest.
        match self.gossip(room).await {
            Ok(trouble) => {
                for (id, error) in trouble {
                    all_well = false;
                    if !outcome.vaults.iter().any(|(told, done)| *told == id && done.is_err()) {
                        outcome.vaults.push((id, Err(error)));
                    }
                }
            }
            Err(error) if all_well && !matches!(error, Error::Quarantined(_)) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "what the devices tell each other was not heard to the end");
                all_well = false;
            }
        }
        // Only once everything it told of was seen to: whoever is cut off asks again.
        if all_well {
            let (kept, state, now_ms) = (room.clone(), polled.state, context.now_ms());
            let keep = move || {
                kept.change_shared(|shared| {
                    // If somebody wants to hear of all vaults once more since, they are to.
                    if shared.poll == known {
                        shared.poll = Some(state);
                    }
                    shared.incarnation = Some(polled.incarnation);
                    // For the next start of the app. Not every round is worth a write to the disk for that.
                    if now_ms.abs_diff(shared.synced_ms) >= KEEP_SUCCESS_MS {
                        shared.synced_ms = now_ms;
                    }
                })
            };
            context.edges.apart(keep).await??;
        }
        Ok(outcome)
    }

    async fn sync_one(
        &self,
        vault: &Vault,
        is_here: bool,
        incarnation: selkie_protocol::id::Incarnation,
        news: Option<&BTreeMap<VaultId, PolledVault>>,
        backoff: Backoff,
    ) -> Result<Option<SyncReport>> {
        if !is_here {
            self.join(vault).await?;
        }
        let glance = vault.glance().await?;
        let polled = news.and_then(|news| news.get(&vault.id()));
        let same_life = vault.room.shared().incarnation == Some(incarnation);
        let nothing_new =
            same_life && news.is_none() || polled.is_some_and(|polled| polled.n == glance.head.n && same_life);
        let id = vault.id();
        let counts = vault.read(move |room, _| Ok(room.store.counts(&id)?)).await?;
        // Whatever a poll says: it is not signed, and another device may have seen more.
        let is_owed = glance.more_is_promised || vault.room.shared().note_of(&id).is_some();
        // A key may have been the last thing that was kept before the program ended.
        let tried = counts.aside == 0 || glance.tried_aside;
        let is_over = glance.role(&self.user_id()).is_none() && polled.is_none();
        let is_read = tried && (counts.aside == 0 || glance.has_last_key);
        if is_over && is_read && !glance.in_flight && !is_owed && glance.quarantine.is_none() {
            // Who was removed has read how it came to that. There is no more for them, unless they are let in again.
            return Ok(None);
        }
        let settled =
            glance.born && !glance.in_flight && glance.behind.is_none() && glance.has_key && !is_owed && tried;
        if nothing_new && settled && counts.pending == 0 && glance.quarantine.is_none() {
            return Ok(None);
        }
        let server_at = polled.map_or(0, |polled| polled.n);
        let done = vault.sync_known(nothing_new && settled, server_at, backoff).await;
        // Nobody but this person's devices writes in the account's own vault, and nothing in it is worth a question.
        let (given_up, gone_on) = match done {
            Err(Error::ServerBehind { missing }) if self.is_own(vault).await? => (missing, vault.reset_tail().await),
            Err(Error::TailReset { lost }) if self.is_own(vault).await? => (lost, vault.accept_reset().await),
            done => {
                let report = done?;
                self.hold_to_what_was_seen(vault).await?;
                return Ok(Some(report));
            }
        };
        gone_on?;
        vault.sync().await.map(|report| Some(SyncReport { given_up, ..report }))
    }

    /// Begins to keep a vault that the server says we are in: its first entry, which names it.
    pub(super) async fn join(&self, vault: &Vault) -> Result<()> {
        let (context, id, room) = (self.context(), vault.id(), &vault.room);
        let first = crate::api::PageSize { entries: 1, bytes: 1, live_only: true };
        let page = self.call(|bearer| async move { context.api.vault_log(&bearer, &id, 0, first).await }).await?;
        let strange = || Error::misbehaved(crate::Misbehaviour::ForgedEntry);
        let frame: Bytes = page.frames.into_iter().next().ok_or_else(strange)?;
        for _ in 0..2 {
            let (bytes, kept, now_ms) = (frame.clone(), room.clone(), context.now_ms());
            let begin = move || begin(&kept, id, &bytes, now_ms);
            match context.edges.apart(begin).await?? {
                Ok(()) => return Ok(()),
                Err(Refusal::AccountLogNeeded { user, .. }) => {
                    learn_person(self, room, self.user_id(), user).await?;
                }
                Err(refusal) => {
                    tracing::warn!(%refusal, "the first entry of a vault may not stand");
                    return Err(strange());
                }
            }
        }
        Err(strange())
    }

    pub(crate) async fn room(&self) -> Result<Arc<Room>> {
        let mut place = self.0.room.lock().await;
        if let Some(room) = place.as_ref() {
            return Ok(room.clone());
        }
        let (context, folder) = (self.0.context.clone(), self.0.folder.clone());
        let room = Arc::new(self.context().edges.apart(move || Room::open(&context, &folder)).await??);
        *place = Some(room.clone());
        Ok(room)
    }
}

fn begin(room: &Room, id: VaultId, frame: &[u8], now_ms: u64) -> Result<Result<(), Refusal>> {
    let parsed = match Frame::parse(frame) {
        Ok(parsed) => parsed,
        Err(malformed) => return Ok(Err(malformed.into())),
    };
    let log = match VaultLog::create(&parsed.entry, &room.crowd().logs) {
        Ok((log, _)) => log,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if log.core().vault() != id {
        return Ok(Err(Refusal::OtherVault));
    }
    let replica = Replica::new(log, State::new(true));
    let mut begun = replica.begun(&room.at_rest);
    begun.frames = vec![KeptFrame { n: 1, received_ms: now_ms, frame: frame.to_vec() }];
    room.store.begin(&id, &begun)?;
    Ok(Ok(()))
}

/// An app's name, and not the SDK's own.
fn apps_own(app: &str) -> Result<App> {
    if app == super::own_vault::OWN_APP {
        return Err(Error::NotPossible("that app is the SDK's own: name another".into()));
    }
    App::new(app).map_err(|error| Error::ApiMisuse(error.to_string()))
}
