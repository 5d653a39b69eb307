//! DECIDES on tenants and their people, for the operator: making, listing, suspending.
//!
//! Owns the shape of a tenant's short name and what is noted of an operator's actions. Knows nothing of HTTP, of
//! passwords or of keys.

use crate::edges::Edges;
use crate::notices::Notices;
use crate::store::{
    AccountNumber, AccountRow, InvitationRow, NewAudit, NewTenant, PlanRow, Store, StoreError, TenantRow,
};
use std::sync::Arc;

/// The plan of a tenant nobody chose a plan for.
pub const DEFAULT_PLAN: &str = "home";
const PAGE: u32 = 500;

/// A tenant's short name: in addresses, in commands, in tokens of the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slug(String);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a tenant's short name has 2 to 40 characters of a-z, 0-9 and dash, and begins and ends with a letter or digit"
)]
pub struct NotASlug;

#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("there is no tenant {0:?}")]
    NoSuchTenant(String),
    #[error("the tenant {tenant:?} has no account of this name or number")]
    NoSuchAccount { tenant: String },
    #[error("the tenant {tenant:?} has no invitation {invitation}")]
    NoSuchInvitation { tenant: String, invitation: i64 },
    #[error("there is no plan {0:?}: `selkie-server plan list` shows them")]
    NoSuchPlan(String),
    #[error(transparent)]
    NotASlug(#[from] NotASlug),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("it is done, but a server that runs on the same data may not know of it for some minutes")]
    Unnoticed(#[from] std::io::Error),
}

type Result<T> = std::result::Result<T, Refusal>;

/// The operator's hand.
#[derive(Clone)]
pub struct Tenancy {
    store: Arc<dyn Store>,
    edges: Edges,
    notices: Notices,
}

impl Slug {
    pub fn new(text: &str) -> std::result::Result<Self, NotASlug> {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let fits =
            (2..=40).contains(&text.len()) && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-');
        if fits { Ok(Slug(text.to_owned())) } else { Err(NotASlug) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tenancy {
    /// Word of what ends somebody's sessions is left in `notices`.
    pub fn new(store: Arc<dyn Store>, edges: Edges, notices: Notices) -> Self {
        Tenancy { store, edges, notices }
    }

    pub async fn create(&self, slug: &str, name: &str, plan: &str) -> Result<TenantRow> {
        let slug = Slug::new(slug)?;
        let name = if name.trim().is_empty() { slug.as_str() } else { name.trim() };
        let tenant = NewTenant {
            slug: slug.as_str().to_owned(),
            name: name.to_owned(),
            plan: plan.to_owned(),
            created_at: self.edges.now_ms(),
        };
        self.store.create_tenant(tenant).await.map_err(|error| no_such_plan(error, plan))
    }

    pub async fn list(&self) -> Result<Vec<TenantRow>> {
        Ok(self.store.tenants().await?)
    }

    pub async fn named(&self, slug: &str) -> Result<TenantRow> {
        self.store.tenant_by_slug(slug).await?.ok_or_else(|| Refusal::NoSuchTenant(slug.to_owned()))
    }

    pub async fn plans(&self) -> Result<Vec<PlanRow>> {
        Ok(self.store.plans().await?)
    }

    /// Gives a tenant another plan. Its limits hold at once for whatever is asked next.
    pub async fn set_plan(&self, slug: &str, plan: &str) -> Result<()> {
        let tenant = self.named(slug).await?.tenant;
        let audit = NewAudit { detail: Some(format!("by the operator: {plan}")), ..self.audit("plan_changed") };
        self.store.set_tenant_plan(tenant, plan, audit).await.map_err(|error| no_such_plan(error, plan))?;
        Ok(self.notices.leave()?)
    }

    pub async fn set_suspended(&self, slug: &str, suspended: bool) -> Result<()> {
        let tenant = self.named(slug).await?.tenant;
        let action = if suspended { "tenant_suspended" } else { "tenant_resumed" };
        self.store.set_tenant_suspended(tenant, suspended, self.audit(action)).await?;
        Ok(self.notices.leave()?)
    }

    /// Every account of a tenant, in the order they were made.
    pub async fn accounts(&self, slug: &str) -> Result<Vec<AccountRow>> {
        let tenant = self.named(slug).await?.tenant;
        let mut accounts: Vec<AccountRow> = Vec::new();
        loop {
            let after = accounts.last().map_or(AccountNumber(0), |last| last.account);
            let page = self.store.accounts(tenant, after, PAGE).await?;
            if page.is_empty() {
                return Ok(accounts);
            }
            accounts.extend(page);
        }
    }

    /// Suspends an account, named as it signs in or by its number.
    pub async fn set_account_suspended(&self, slug: &str, account: &str, suspended: bool) -> Result<()> {
        let tenant = self.named(slug).await?.tenant;
        let name = selkie_protocol::name::LoginName::new(account).ok();
        let found = match name {
            Some(name) => self.store.login_account(tenant, name.as_str()).await?.map(|found| found.account),
            None => None,
        };
        let number = found.or_else(|| account.parse().ok().map(AccountNumber));
        let number = number.ok_or_else(|| Refusal::NoSuchAccount { tenant: slug.to_owned() })?;
        let action = if suspended { "account_suspended" } else { "account_resumed" };
        let changed = self.store.set_account_suspended(tenant, number, suspended, self.audit(action)).await;
        changed.map_err(|error| match error {
            StoreError::NotFound(_) => Refusal::NoSuchAccount { tenant: slug.to_owned() },
            error => error.into(),
        })?;
        Ok(self.notices.leave()?)
    }

    pub async fn invitations(&self, slug: &str) -> Result<Vec<InvitationRow>> {
        let tenant = self.named(slug).await?.tenant;
        Ok(self.store.invitations(tenant).await?)
    }

    pub async fn revoke_invitation(&self, slug: &str, invitation: i64) -> Result<()> {
        let tenant = self.named(slug).await?.tenant;
        let revoked = self.store.revoke_invitation(tenant, invitation, self.audit("invitation_revoked")).await;
        revoked.map_err(|error| match error {
            StoreError::NotFound(_) => Refusal::NoSuchInvitation { tenant: slug.to_owned(), invitation },
            error => error.into(),
        })
    }

    fn audit(&self, action: &'static str) -> NewAudit {
        NewAudit { at: self.edges.now_ms(), action, device: None, detail: Some("by the operator".into()) }
    }
}

fn no_such_plan(error: StoreError, plan: &str) -> Refusal {
    match error {
        StoreError::NotFound("plan") => Refusal::NoSuchPlan(plan.to_owned()),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_is_short_and_plain() {
        for good in ["home", "acme-2", "a1"] {
            assert_eq!(Slug::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a", "Acme", "-acme", "acme-", "a b", "ünïcode", &"a".repeat(41), "a/b"] {
            assert_eq!(Slug::new(bad), Err(NotASlug), "{bad:?}");
        }
    }
}
