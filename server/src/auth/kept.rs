//! The store as this room uses it: what changes a session is noticed here, whoever asks for it.
//!
//! Owns the memory of sessions, which makes a token check cost no look into the database, and what makes that memory
//! true: every operation that can change a session passes through here and takes the account's sessions out of memory
//! before it is answered. So a session that was ended is refused from the next request on.
//!
//! Where no other server works on the database, that is enough; commands of the operator do, beside a running server:
//! they leave word, and everything is forgotten. Where others do, memory is used as long as the database says that
//! nothing at all has changed in it; for whoever asks at the same time it is asked once, and so is what was forgotten.

use crate::notices::Notices;
use crate::snapshots::Snapshots;
use crate::store::{
    AccountChange, AccountNumber, EndSessions, Millis, NewAudit, NewSession, Result, SessionRow, Snapshot, Store,
    Tenant,
};
use crate::together::Together;
use futures_util::FutureExt as _;
use selkie_protocol::id::SessionId;
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Past so many everything is forgotten.
const MOST: usize = 100_000;
/// A row is read again after this, in case word of a change got lost.
const GOOD_FOR_MS: i64 = 10 * 60_000;

pub(super) struct Kept {
    store: Arc<dyn Store>,
    memory: Option<Memory>,
    then: Option<Then>,
}

/// A session, and as of when it is true.
pub(super) type AsOf = (Option<Arc<SessionRow>>, Option<Snapshot>);

type Then = Box<dyn Fn(Tenant, AccountNumber) + Send + Sync>;

struct Memory {
    truth: Truth,
    sessions: Mutex<Known>,
}

/// What makes memory true.
enum Truth {
    /// All others are commands of the operator, who leave word.
    Word(Notices),
    /// The database says whether anything has changed.
    Snapshot { snapshots: Snapshots, sessions: Together<(Tenant, SessionId), Option<SessionRow>> },
}

#[derive(Default)]
struct Known {
    rows: HashMap<(Tenant, SessionId), (Arc<SessionRow>, Millis)>,
    by_account: HashMap<(Tenant, AccountNumber), Vec<SessionId>>,
    /// Counts what was forgotten: a row that was being read meanwhile is not kept.
    changes: u64,
    /// How much word was left when that was last asked.
    noticed: Option<u64>,
    /// What all of this was read after.
    as_of: Option<Snapshot>,
}

impl Kept {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Kept { store, memory: None, then: None }
    }

    pub(super) fn remember(&mut self, notices: Notices) {
        let sessions = Mutex::new(Known { noticed: notices.count(), ..Known::default() });
        self.memory = Some(Memory { truth: Truth::Word(notices), sessions });
    }

    pub(super) fn remember_among_others(&mut self) {
        let store = self.store.clone();
        let sessions = Together::open(move |named| {
            let store = store.clone();
            async move { store.sessions_named(named).await }.boxed()
        });
        let snapshots = Snapshots::open(self.store.clone());
        self.memory = Some(Memory { truth: Truth::Snapshot { snapshots, sessions }, sessions: Mutex::default() });
    }

    pub(super) fn on_change(&mut self, then: Then) {
        self.then = Some(then);
    }

    /// A session as it is now, from memory where that is as good.
    pub(super) async fn known_session(&self, tenant: Tenant, session: SessionId, now: Millis) -> Result<AsOf> {
        let Some(memory) = &self.memory else {
            return Ok((self.store.session(tenant, session).await?.map(Arc::new), None));
        };
        let (snapshot, noticed) = match &memory.truth {
            Truth::Word(notices) => (None, notices.count()),
            Truth::Snapshot { snapshots, .. } => (snapshots.now().await?, None),
        };
        // Where the database cannot say whether anything has changed, nothing is remembered.
        let tells_nothing = matches!(memory.truth, Truth::Snapshot { .. }) && snapshot.is_none();
        let moment = if tells_nothing {
            None
        } else {
            let mut known = memory.known();
            known.heed(noticed, snapshot.as_ref());
            if let Some((row, read_at)) = known.rows.get(&(tenant, session))
                && (0..GOOD_FOR_MS).contains(&now.saturating_sub(*read_at))
            {
                return Ok((Some(row.clone()), snapshot));
            }
            Some(known.changes)
        };
        let row = match &memory.truth {
            Truth::Word(_) => self.store.session(tenant, session).await?,
            Truth::Snapshot { sessions, .. } => sessions.ask((tenant, session)).await?,
        };
        let row = row.map(Arc::new);
        if let (Some(row), Some(moment)) = (&row, moment) {
            memory.known().learn(tenant, row, now, moment);
        }
        Ok((row, snapshot))
    }

    fn changed(&self, tenant: Tenant, account: AccountNumber) {
        if let Some(memory) = &self.memory {
            memory.known().forget(tenant, account);
        }
        if let Some(then) = &self.then {
            then(tenant, account);
        }
    }

    // What follows has the names of the store's own operations, so that nobody can pass by it. Whether it was done is
    // not always known; so it is taken to be.

    pub(super) async fn open_session(
        &self,
        tenant: Tenant,
        session: NewSession,
        audit: NewAudit,
    ) -> Result<SessionRow> {
        let account = session.account;
        let done = self.store.open_session(tenant, session, audit).await;
        self.changed(tenant, account);
        done
    }

    pub(super) async fn rotate_session(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        session: SessionId,
        from_generation: u32,
        now: Millis,
        idle_expires_at: Millis,
    ) -> Result<bool> {
        let moved = self.store.rotate_session(tenant, session, from_generation, now, idle_expires_at).await;
        self.changed(tenant, account);
        moved
    }

    pub(super) async fn end_sessions(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        which: EndSessions,
        now: Millis,
        audit: NewAudit,
    ) -> Result<u64> {
        let ended = self.store.end_sessions(tenant, account, which, now, audit).await;
        self.changed(tenant, account);
        ended
    }

    pub(super) async fn change_account(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        change: AccountChange,
    ) -> Result<()> {
        let done = self.store.change_account(tenant, account, change).await;
        self.changed(tenant, account);
        done
    }

    pub(super) async fn schedule_deletion(
        &self,
        tenant: Tenant,
        account: AccountNumber,
        delete_after: Millis,
        keep: Option<SessionId>,
        now: Millis,
        audit: NewAudit,
    ) -> Result<()> {
        let done = self.store.schedule_deletion(tenant, account, delete_after, keep, now, audit).await;
        self.changed(tenant, account);
        done
    }

    pub(super) async fn cancel_deletion(&self, tenant: Tenant, account: AccountNumber, audit: NewAudit) -> Result<()> {
        let done = self.store.cancel_deletion(tenant, account, audit).await;
        self.changed(tenant, account);
        done
    }

    pub(super) async fn delete_account(&self, tenant: Tenant, account: AccountNumber, audit: NewAudit) -> Result<()> {
        let done = self.store.delete_account(tenant, account, audit).await;
        self.changed(tenant, account);
        done
    }
}

impl Deref for Kept {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

impl Memory {
    /// Every step leaves less to be remembered or adds a whole row: a panic elsewhere cannot have spoiled it.
    fn known(&self) -> MutexGuard<'_, Known> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn heed(&mut self, noticed: Option<u64>, snapshot: Option<&Snapshot>) {
        if noticed != self.noticed || snapshot != self.as_of.as_ref() {
            self.noticed = noticed;
            self.as_of = snapshot.cloned();
            self.forget_all();
        }
    }

    fn learn(&mut self, tenant: Tenant, row: &Arc<SessionRow>, now: Millis, moment: u64) {
        if self.changes != moment {
            return;
        }
        if self.rows.len() >= MOST {
            self.forget_all();
        }
        if self.rows.insert((tenant, row.session), (row.clone(), now)).is_none() {
            self.by_account.entry((tenant, row.account)).or_default().push(row.session);
        }
    }

    fn forget(&mut self, tenant: Tenant, account: AccountNumber) {
        self.changes += 1;
        for session in self.by_account.remove(&(tenant, account)).unwrap_or_default() {
            self.rows.remove(&(tenant, session));
        }
    }

    fn forget_all(&mut self) {
        self.changes += 1;
        self.rows.clear();
        self.by_account.clear();
    }
}
