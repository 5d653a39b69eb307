//! The account logs of those who write in vaults, verified.
//!
//! Owns the memory of them and what must be fetched. A log only grows, and a vault looks into it only as far as its
//! anchor: so a log in memory is good for as long as it reaches the anchor, whatever was added since.

use super::refusal::{Refusal, Result};
use crate::shelf::Shelf;
use crate::store::{Tenant, Vaults};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use selkie_protocol::account_log::{AccountLog, Entry, Extends, Pin};
use selkie_protocol::id::{DeviceId, UserId};
use selkie_protocol::log::{Certificate, People};
use selkie_protocol::sign::PublicKey;
use std::collections::HashMap;
use std::sync::Arc;

/// Some ten thousand people.
const ROOM: usize = 32 << 20;
const PAGE: u32 = 500;
/// So many logs are asked for at once.
const AT_ONCE: usize = 16;
/// Past this many entries their signatures are verified where nobody waits for the thread.
const LONG: usize = 64;

pub(super) struct Acquaintances {
    vaults: Arc<dyn Vaults>,
    logs: Shelf<(Tenant, UserId), Arc<AccountLog>>,
}

/// Those who matter for one decision, in any number of tenants.
#[derive(Default)]
pub(super) struct Crowd(HashMap<(Tenant, UserId), Arc<AccountLog>>);

/// The people of one tenant in a crowd.
pub(super) struct Fellows<'a> {
    crowd: &'a Crowd,
    tenant: Tenant,
}

impl Acquaintances {
    pub(super) fn new(vaults: Arc<dyn Vaults>) -> Self {
        Acquaintances { vaults, logs: Shelf::new(ROOM) }
    }

    /// The logs of these people, each at least up to the entry named, if there is one.
    pub(super) async fn gather(&self, needed: HashMap<(Tenant, UserId), u64>) -> Result<Crowd> {
        // After a start nobody is known, and a group of pushes may need hundreds.
        let each = needed.into_iter().map(async |((tenant, user), index)| {
            let known = self.logs.get(&(tenant, user));
            let log = match known.as_ref().is_none_or(|log| log.next_index() <= index) {
                true => self.fetch(tenant, user, known).await?,
                false => known,
            };
            Ok::<_, Refusal>(log.map(|log| ((tenant, user), log)))
        });
        let all = stream::iter(each).buffer_unordered(AT_ONCE).try_collect::<Vec<_>>().await?;
        Ok(Crowd(all.into_iter().flatten().collect()))
    }

    async fn fetch(
        &self,
        tenant: Tenant,
        user: UserId,
        mut known: Option<Arc<AccountLog>>,
    ) -> Result<Option<Arc<AccountLog>>> {
        loop {
            let from = known.as_ref().map_or(0, |log| log.next_index());
            let Some((entries, length)) = self.vaults.log_of_user(tenant, user, from, PAGE).await? else {
                return Ok(None);
            };
            if entries.is_empty() {
                break;
            }
            let log = Arc::new(verified(known, entries).await?);
            let is_whole = log.next_index() >= length;
            known = Some(log);
            if is_whole {
                break;
            }
        }
        if let Some(log) = &known {
            let entries = usize::try_from(log.next_index()).unwrap_or(usize::MAX);
            self.logs.put((tenant, user), log.clone(), entries.saturating_mul(64).saturating_add(2_048));
        }
        Ok(known)
    }
}

/// What was decided from its rules when it came in is verified again: a database is not more trusted than a client.
async fn verified(known: Option<Arc<AccountLog>>, entries: Vec<Vec<u8>>) -> Result<AccountLog> {
    let is_long = entries.len() > LONG;
    let verify = move || {
        let mut entries = entries.iter();
        let mut log = match (known, entries.next()) {
            (Some(known), Some(first)) => {
                let mut log = AccountLog::clone(&known);
                log.append(&Entry::parse(first)?)?;
                log
            }
            (Some(known), None) => AccountLog::clone(&known),
            (None, first) => AccountLog::replay(first.map(Vec::as_slice))?,
        };
        for entry in entries {
            log.append(&Entry::parse(entry)?)?;
        }
        Ok(log)
    };
    let outcome: Result<AccountLog, selkie_protocol::account_log::Refusal> = if is_long {
        let verified = tokio::task::spawn_blocking(verify).await;
        verified.map_err(|stopped| Refusal::Unavailable(Arc::new(stopped)))?
    } else {
        verify()
    };
    outcome.map_err(|refusal| Refusal::Broken(Arc::new(refusal)))
}

impl Crowd {
    pub(super) fn of(&self, tenant: Tenant) -> Fellows<'_> {
        Fellows { crowd: self, tenant }
    }
}

impl Fellows<'_> {
    fn log(&self, user: &UserId) -> Option<&AccountLog> {
        self.crowd.0.get(&(self.tenant, *user)).map(|log| &**log)
    }
}

impl People for Fellows<'_> {
    fn identity(&self, user: &UserId) -> Option<PublicKey> {
        self.log(user).map(AccountLog::identity)
    }

    fn compare(&self, user: &UserId, pin: &Pin) -> Option<Extends> {
        self.log(user).map(|log| log.extends(pin))
    }

    fn certificate(&self, user: &UserId, device: &DeviceId) -> Option<Certificate> {
        let (_, known) = self.log(user)?.devices().find(|(id, _)| *id == device)?;
        Some(Certificate { key: known.key, added_at: known.added_at, revoked_at: known.revoked_at })
    }
}
