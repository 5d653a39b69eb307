//! The end of an account: a time to think it over, then every row and every file.

use super::sessions::Caller;
use super::{Auth, Refusal, Result};
use crate::blobs::{BlobPrefix, BlobStore};
use crate::store::{AccountNumber, AccountState, Tenant};
use selkie_protocol::account::DeletionScheduled;

impl Auth {
    /// `POST /v1/account/delete`
    pub async fn schedule_deletion(&self, caller: &Caller) -> Result<DeletionScheduled> {
        self.may_change_keys(caller)?;
        let now = self.edges.now_ms();
        let row = self.store.account(caller.tenant, caller.account).await?;
        if let Some(delete_after) = row.delete_after {
            // Asking twice does not put it off.
            return Ok(DeletionScheduled { delete_after_ms: delete_after.unsigned_abs() });
        }
        let delete_after = now + self.policy.deletion_grace_ms;
        let audit = self.audit("deletion_scheduled", caller.device);
        let keep = Some(caller.session);
        self.store.schedule_deletion(caller.tenant, caller.account, delete_after, keep, now, audit).await?;
        Ok(DeletionScheduled { delete_after_ms: delete_after.unsigned_abs() })
    }

    /// `POST /v1/account/keep`
    pub async fn cancel_deletion(&self, caller: &Caller) -> Result<()> {
        caller.must_be_full()?;
        let row = self.store.account(caller.tenant, caller.account).await?;
        if row.state != AccountState::Deleting {
            return Err(Refusal::Conflict("the account is not about to be deleted"));
        }
        let audit = self.audit("deletion_cancelled", caller.device);
        Ok(self.store.cancel_deletion(caller.tenant, caller.account, audit).await?)
    }
}

/// Accounts that one round deletes in one tenant; the next round takes the rest.
const BATCH: u32 = 50;

impl Auth {
    /// Deletes the accounts whose hour has come. One that cannot be deleted does not hold up the others; the first
    /// failure is told when all have had their turn.
    pub async fn delete_due_accounts(&self, blobs: &dyn BlobStore) -> Result<u64> {
        let now = self.edges.now_ms();
        let (mut deleted, mut first_failure) = (0, None);
        for tenant in self.store.tenants().await? {
            for account in self.store.due_deletions(tenant.tenant, now, BATCH).await? {
                match self.delete_account(tenant.tenant, account, blobs).await {
                    Ok(()) => deleted += 1,
                    // Another server was faster: it is gone, which is all that was wanted.
                    Err(Refusal::NotFound(_)) => {}
                    Err(failure) => {
                        tracing::warn!(error = %failure, "an account whose hour has come could not be deleted");
                        first_failure.get_or_insert(failure);
                    }
                }
            }
        }
        first_failure.map_or(Ok(deleted), Err)
    }

    /// The files first, so that nothing is left without an owner.
    async fn delete_account(&self, tenant: Tenant, account: AccountNumber, blobs: &dyn BlobStore) -> Result<()> {
        let files = blob_prefix(tenant, self.store.account(tenant, account).await?.uuid);
        let gone = |failed| Refusal::Unavailable(Box::new(failed));
        blobs.delete_prefix(&files).await.map_err(gone)?;
        for vault in self.store.vaults_left_empty_by(tenant, account).await? {
            blobs.delete_prefix(&crate::sync::blob_prefix(tenant, vault.vault)).await.map_err(gone)?;
        }
        while self.store.empty_vaults_left_by(tenant, account).await? {}
        Ok(self.store.delete_account(tenant, account, self.audit("account_deleted", None)).await?)
    }
}

/// Where everything of an account is that is not in the database.
pub fn blob_prefix(tenant: Tenant, account: uuid::Uuid) -> BlobPrefix {
    BlobPrefix::below(tenant.0, &["accounts", &account.simple().to_string()]).expect("both are plain words")
}
