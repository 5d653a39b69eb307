//! Those who listen for what moves: one slot each, with what they were not told yet.
//!
//! Owns who listens to which vaults, how many may, and what is said to them: hints only, so what is said twice is said
//! once, and too much is said as "look again". Knows nothing of how a hint travels.

use super::author::Reader;
use super::heads::Listed;
use super::news::Moved;
use super::refusal::{Refusal, Result};
use crate::limits::{Action, Refused, Who};
use crate::store::{AccountNumber, Place, Tenant};
use selkie_protocol::id::{UserId, VaultId};
use selkie_protocol::vault::VaultMoved;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// The app of an account's own vault, which every session of the account sees.
pub(super) const ACCOUNT_APP: &str = "selkie";
/// More hints than this become one that says to look at everything.
const MOST_HINTS: usize = 64;
/// When a listener beyond the limit should try again.
const RETRY_AFTER_S: u64 = 30;

/// How many may listen at a time.
#[derive(Clone, Copy, Debug)]
pub struct ListenerLimits {
    pub per_account: usize,
    pub per_address: usize,
}

pub(super) struct Hub {
    limits: ListenerLimits,
    listeners: Mutex<Listeners>,
}

#[derive(Default)]
struct Listeners {
    slots: HashMap<u64, Listener>,
    by_vault: HashMap<Place, Audience>,
    by_user: HashMap<(Tenant, UserId), BTreeSet<u64>>,
    by_account: HashMap<(Tenant, AccountNumber), BTreeSet<u64>>,
    per_address: HashMap<IpAddr, usize>,
    next: u64,
    closed: bool,
}

struct Audience {
    vid: VaultId,
    slots: BTreeSet<u64>,
}

struct Listener {
    slot: Arc<Slot>,
    reader: Reader,
    app: Option<String>,
    from: IpAddr,
    vaults: BTreeSet<Place>,
}

#[derive(Default)]
struct Slot {
    pending: Mutex<Pending>,
    bell: Notify,
}

#[derive(Default)]
struct Pending {
    moved: BTreeMap<VaultId, u64>,
    resync: bool,
    look_at_session: bool,
    over: bool,
}

/// What a listener is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hint {
    Moved(VaultMoved),
    /// Something may have been missed: look at everything. For whoever keeps the listener: at what it listens to, too.
    Resync,
    /// For whoever keeps the listener: its session may have ended.
    LookAtSession,
}

/// The listening end. It is over when it is dropped.
pub struct Listening {
    hub: Arc<Hub>,
    slot: Arc<Slot>,
    id: u64,
}

impl Hub {
    pub(super) fn new(limits: ListenerLimits) -> Self {
        Hub { limits, listeners: Mutex::default() }
    }

    /// A new listener, who has been told nothing yet and so begins by looking at everything.
    pub(super) fn listen(
        self: &Arc<Self>,
        reader: Reader,
        app: Option<&str>,
        from: IpAddr,
        vaults: &[Listed],
    ) -> Result<Listening> {
        let mut listeners = self.listeners();
        let account = (reader.tenant, reader.account);
        let refused = |who| {
            let refused = Refused { retry_after: RETRY_AFTER_S, action: Action::Listen, who };
            refused.note();
            Refusal::TooMany(refused)
        };
        if listeners.closed {
            return Err(Refusal::Overloaded);
        }
        if listeners.by_account.get(&account).is_some_and(|slots| slots.len() >= self.limits.per_account) {
            return Err(refused(Who::Account));
        }
        if listeners.per_address.get(&from).is_some_and(|count| *count >= self.limits.per_address) {
            return Err(refused(Who::Address));
        }
        let id = listeners.next;
        listeners.next += 1;
        listeners.by_account.entry(account).or_default().insert(id);
        *listeners.per_address.entry(from).or_default() += 1;
        listeners.by_user.entry((reader.tenant, reader.user)).or_default().insert(id);
        let slot = Arc::new(Slot::default());
        slot.say(|pending| pending.resync = true);
        let app = app.map(str::to_owned);
        let listener = Listener { slot: slot.clone(), reader, app, from, vaults: BTreeSet::new() };
        listeners.slots.insert(id, listener);
        vaults.iter().for_each(|listed| listeners.follow(id, listed.at, listed.vid));
        metrics::gauge!("selkie_listeners").set(listeners.slots.len() as f64);
        Ok(Listening { hub: self.clone(), slot, id })
    }

    /// Says on that a vault has moved, and to whom it belongs now.
    pub(super) fn tell(&self, moved: &Moved) {
        let mut listeners = self.listeners();
        if let Some(members) = &moved.members {
            listeners.belongs_to(moved, members);
        }
        listeners.tell(moved.at, moved.n);
    }

    /// What another server says. Who belongs to the vault is not said: listeners ask that themselves, now and then and
    /// when they are told that it has changed.
    pub(super) fn tell_of(&self, at: Place, n: u64) {
        self.listeners().tell(at, n);
    }

    /// Others belong to a vault than did: whoever listens to it is told nothing more of it until they have looked
    /// whether they still do.
    pub(super) fn let_look_again(&self, at: Place) {
        let mut listeners = self.listeners();
        let listening = listeners.by_vault.get(&at).map(|audience| audience.slots.clone()).unwrap_or_default();
        for id in listening {
            listeners.unfollow(id, &at);
            if let Some(listener) = listeners.slots.get(&id) {
                listener.slot.say(|pending| pending.resync = true);
            }
        }
    }

    pub(super) fn tell_all_to_look(&self) {
        self.listeners().slots.values().for_each(|listener| listener.slot.say(|pending| pending.resync = true));
    }

    /// Sessions of an account may have ended.
    pub(super) fn sessions_changed(&self, tenant: Tenant, account: AccountNumber) {
        let listeners = self.listeners();
        for id in listeners.by_account.get(&(tenant, account)).into_iter().flatten() {
            if let Some(listener) = listeners.slots.get(id) {
                listener.slot.say(|pending| pending.look_at_session = true);
            }
        }
    }

    /// Ends everybody's listening: the server stops.
    pub(super) fn close(&self) {
        let mut listeners = self.listeners();
        listeners.closed = true;
        listeners.slots.values().for_each(|listener| listener.slot.say(|pending| pending.over = true));
    }

    fn leave(&self, id: u64) {
        let mut listeners = self.listeners();
        let Some(listener) = listeners.slots.remove(&id) else { return };
        listener.vaults.iter().for_each(|at| listeners.unfollow(id, at));
        let Reader { tenant, account, user } = listener.reader;
        without(&mut listeners.by_account, &(tenant, account), id);
        without(&mut listeners.by_user, &(tenant, user), id);
        if let Some(count) = listeners.per_address.get_mut(&listener.from) {
            *count -= 1;
            if *count == 0 {
                listeners.per_address.remove(&listener.from);
            }
        }
        metrics::gauge!("selkie_listeners").set(listeners.slots.len() as f64);
    }

    /// Only hints depend on this: after a panic elsewhere the worst is one that is missing.
    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listeners {
    fn follow(&mut self, id: u64, at: Place, vid: VaultId) {
        let Some(listener) = self.slots.get_mut(&id) else { return };
        listener.vaults.insert(at);
        self.by_vault.entry(at).or_insert_with(|| Audience { vid, slots: BTreeSet::new() }).slots.insert(id);
    }

    fn unfollow(&mut self, id: u64, at: &Place) {
        if let Some(listener) = self.slots.get_mut(&id) {
            listener.vaults.remove(at);
        }
        if let Some(audience) = self.by_vault.get_mut(at) {
            audience.slots.remove(&id);
            if audience.slots.is_empty() {
                self.by_vault.remove(at);
            }
        }
    }

    fn belongs_to(&mut self, moved: &Moved, members: &[UserId]) {
        let Moved { at, vault, app, .. } = moved;
        let listening = self.by_vault.get(at).map(|audience| audience.slots.clone()).unwrap_or_default();
        for id in listening {
            let stays = self.slots.get(&id).is_some_and(|listener| members.contains(&listener.reader.user));
            if !stays {
                // So they look at once, and are told nothing of what comes after it.
                if let Some(listener) = self.slots.get(&id) {
                    listener.slot.say(|pending| pending.resync = true);
                }
                self.unfollow(id, at);
            }
        }
        for user in members {
            for id in self.by_user.get(&(at.tenant, *user)).cloned().unwrap_or_default() {
                if self.slots.get(&id).is_some_and(|listener| is_shown(listener.app.as_deref(), app)) {
                    self.follow(id, *at, *vault);
                }
            }
        }
    }

    fn tell(&self, at: Place, n: u64) {
        let Some(audience) = self.by_vault.get(&at) else { return };
        for listener in audience.slots.iter().filter_map(|id| self.slots.get(id)) {
            listener.slot.say(|pending| {
                let position = pending.moved.entry(audience.vid).or_default();
                *position = n.max(*position);
                if pending.moved.len() > MOST_HINTS {
                    pending.moved.clear();
                    pending.resync = true;
                }
            });
        }
    }
}

/// Whether a session that was opened for an app is shown a vault of this one.
pub(super) fn is_shown(session: Option<&str>, vault: &str) -> bool {
    session.is_none_or(|app| app == vault || vault == ACCOUNT_APP)
}

fn without<K: std::hash::Hash + Eq>(slots: &mut HashMap<K, BTreeSet<u64>>, key: &K, id: u64) {
    if let Some(of_key) = slots.get_mut(key) {
        of_key.remove(&id);
        if of_key.is_empty() {
            slots.remove(key);
        }
    }
}

impl Slot {
    fn say(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.pending.lock().unwrap_or_else(PoisonError::into_inner));
        self.bell.notify_one();
    }
}

impl Listening {
    /// The next hint; `None` when there will be no more.
    pub async fn next(&mut self) -> Option<Hint> {
        loop {
            {
                let mut pending = self.slot.pending.lock().unwrap_or_else(PoisonError::into_inner);
                if pending.over {
                    return None;
                }
                if std::mem::take(&mut pending.look_at_session) {
                    return Some(Hint::LookAtSession);
                }
                if std::mem::take(&mut pending.resync) {
                    // It says all the others, too.
                    pending.moved.clear();
                    return Some(Hint::Resync);
                }
                if let Some((vid, n)) = pending.moved.pop_first() {
                    return Some(Hint::Moved(VaultMoved { vid, n }));
                }
            }
            self.slot.bell.notified().await;
        }
    }

    /// From now on it listens to these vaults; true if there are others than before.
    pub(super) fn follow_only(&self, vaults: &[Listed]) -> bool {
        let mut listeners = self.hub.listeners();
        let Some(listener) = listeners.slots.get(&self.id) else { return false };
        let now: BTreeSet<Place> = vaults.iter().map(|listed| listed.at).collect();
        let gone: Vec<Place> = listener.vaults.difference(&now).copied().collect();
        let new: Vec<&Listed> = vaults.iter().filter(|listed| !listener.vaults.contains(&listed.at)).collect();
        gone.iter().for_each(|at| listeners.unfollow(self.id, at));
        new.iter().for_each(|listed| listeners.follow(self.id, listed.at, listed.vid));
        !(gone.is_empty() && new.is_empty())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.hub.leave(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::VaultNumber;
    use futures_util::FutureExt as _;
    use std::net::Ipv4Addr;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn hub() -> Arc<Hub> {
        Arc::new(Hub::new(ListenerLimits { per_account: 2, per_address: 3 }))
    }

    fn reader(number: u8) -> Reader {
        Reader { tenant: Tenant(1), account: AccountNumber(number.into()), user: UserId([number; 32]) }
    }

    fn vault(number: u8) -> Listed {
        let at = Place { tenant: Tenant(1), vault: VaultNumber(number.into()) };
        Listed { at, vid: VaultId([number; 32]), app: "org.example".into() }
    }

    fn moved(number: u8, n: u64, members: Option<Vec<UserId>>) -> Moved {
        let Listed { at, vid: vault, app } = vault(number);
        Moved { at, vault, app, n, members }
    }

    fn all(listening: &mut Listening) -> Vec<Hint> {
        std::iter::from_fn(|| listening.next().now_or_never().flatten()).collect()
    }

    fn hint(number: u8, n: u64) -> Hint {
        Hint::Moved(VaultMoved { vid: VaultId([number; 32]), n })
    }

    #[test]
    fn a_vault_that_moves_twice_is_told_once_and_only_to_those_who_have_it() {
        let hub = hub();
        let mut ana = hub.listen(reader(1), None, HERE, &[vault(1), vault(2)]).unwrap();
        let mut bob = hub.listen(reader(2), None, HERE, &[vault(2)]).unwrap();
        assert_eq!((all(&mut ana), all(&mut bob)), (vec![Hint::Resync], vec![Hint::Resync]));
        for n in 4..7 {
            hub.tell(&moved(1, n, None));
        }
        hub.tell(&moved(2, 3, None));
        assert_eq!(all(&mut ana), [hint(1, 6), hint(2, 3)]);
        assert_eq!(all(&mut bob), [hint(2, 3)]);
    }

    #[test]
    fn who_joins_is_told_from_then_on_and_who_is_removed_is_told_to_look() {
        let hub = hub();
        let mut ana = hub.listen(reader(1), Some("org.example"), HERE, &[vault(1)]).unwrap();
        let mut bob = hub.listen(reader(2), Some("org.example"), HERE, &[]).unwrap();
        let mut other_app = hub.listen(reader(2), Some("org.other"), HERE, &[]).unwrap();
        let _first = [&mut ana, &mut bob, &mut other_app].map(all);
        hub.tell(&moved(1, 2, Some(vec![UserId([1; 32]), UserId([2; 32])])));
        assert_eq!((all(&mut ana), all(&mut bob), all(&mut other_app)), (vec![hint(1, 2)], vec![hint(1, 2)], vec![]));
        hub.tell(&moved(1, 3, Some(vec![UserId([1; 32])])));
        assert_eq!((all(&mut ana), all(&mut bob)), (vec![hint(1, 3)], vec![Hint::Resync]));
        hub.tell(&moved(1, 4, None));
        assert_eq!((all(&mut ana), all(&mut bob)), (vec![hint(1, 4)], vec![]));
    }

    #[test]
    fn too_much_is_told_as_one() {
        let hub = hub();
        let vaults: Vec<Listed> = (0..=100).map(vault).collect();
        let mut ana = hub.listen(reader(1), None, HERE, &vaults).unwrap();
        all(&mut ana);
        (0..=100).for_each(|number| hub.tell(&moved(number, 9, None)));
        assert_eq!(all(&mut ana)[0], Hint::Resync);
    }

    #[test]
    fn there_is_an_end_to_listeners_and_to_listening() {
        let hub = hub();
        let one = hub.listen(reader(1), None, HERE, &[]).unwrap();
        let mut two = hub.listen(reader(1), None, HERE, &[]).unwrap();
        assert!(matches!(hub.listen(reader(1), None, HERE, &[]), Err(Refusal::TooMany(_))));
        let _three = hub.listen(reader(2), None, HERE, &[]).unwrap();
        assert!(matches!(hub.listen(reader(3), None, HERE, &[]), Err(Refusal::TooMany(_))));
        drop(one);
        let _four = hub.listen(reader(3), None, HERE, &[]).unwrap();
        hub.close();
        assert_eq!(two.next().now_or_never(), Some(None));
        assert!(matches!(hub.listen(reader(4), None, HERE, &[]), Err(Refusal::Overloaded)));
    }
}
