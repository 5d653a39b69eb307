//! `selkie-server account ...`

use super::{Context, Outcome, moment, table};
use crate::auth::DEFAULT_TENANT;
use crate::config::{Period, RegistrationPolicy};
use crate::store::{AccountRow, AccountState, TenantRole};
use clap::{Subcommand, ValueEnum};
use serde::Serialize;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Makes an invitation and shows its code, once.
    Invite {
        /// The tenant, by its short name.
        #[arg(long, default_value = DEFAULT_TENANT)]
        tenant: String,
        /// What whoever uses it may do in the tenant.
        #[arg(long, value_enum, default_value_t = Role::Member)]
        role: Role,
        /// How many accounts can be made with it.
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=10_000))]
        uses: i32,
        /// How long it can be used, as in `7d` or `12h`; as configured if missing.
        #[arg(long)]
        lifetime: Option<Period>,
    },
    /// Lists a tenant's accounts.
    List {
        /// The tenant, by its short name.
        #[arg(long, default_value = DEFAULT_TENANT)]
        tenant: String,
    },
    /// Suspends an account: its sessions are refused, and it cannot sign in. Nothing is deleted.
    Suspend {
        /// The account, as it signs in or by its number.
        account: String,
        /// The tenant, by its short name.
        #[arg(long, default_value = DEFAULT_TENANT)]
        tenant: String,
    },
    /// Ends an account's suspension.
    Resume {
        /// The account, as it signs in or by its number.
        account: String,
        /// The tenant, by its short name.
        #[arg(long, default_value = DEFAULT_TENANT)]
        tenant: String,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Role {
    Member,
    Admin,
    Owner,
}

#[derive(Serialize)]
struct Shown {
    number: i64,
    login_name: String,
    state: AccountState,
    role: TenantRole,
    devices: u32,
    created_at_ms: i64,
    last_seen_ms: Option<i64>,
}

const CLOSED: &str = "\n\nBut registration is closed here, and nobody is let in with it until registration.policy is \
                      \"invite\" or \"open\".";

pub(super) async fn run(context: &Context, command: Command) -> Outcome {
    let app = context.open().await?;
    match command {
        Command::Invite { tenant, role, uses, lifetime } => {
            let row = app.tenancy.named(&tenant).await?;
            let lifetime = lifetime.unwrap_or(app.config.registration.invitation_lifetime).as_ms();
            let code = app.auth.invite(row.tenant, role.into(), uses, lifetime).await?;
            let expires_at = app.edges.now_ms().saturating_add(lifetime);
            let closed = app.config.registration.policy == RegistrationPolicy::Closed;
            let shown = serde_json::json!({
                "tenant": tenant, "invite": code.as_str(), "expires_at_ms": expires_at, "registration_closed": closed,
            });
            context.show(&shown, || {
                let url = app.config.public_url();
                let at = if tenant == DEFAULT_TENANT { String::new() } else { format!(" --tenant {tenant}") };
                let code = code.as_str();
                let but = if closed { CLOSED } else { "" };
                format!(
                    "Good until {} for {uses} account(s). Shown now and never again:\n  \
                     selkie sign-up NAME@example.org --server {url}{at} --invite {code}{but}",
                    moment(expires_at)
                )
            })
        }
        Command::List { tenant } => {
            let accounts: Vec<Shown> = app.tenancy.accounts(&tenant).await?.into_iter().map(shown).collect();
            context.show(&accounts, || as_table(&accounts))
        }
        Command::Suspend { account, tenant } => {
            app.tenancy.set_account_suspended(&tenant, &account, true).await?;
            let shown = serde_json::json!({ "account": account, "tenant": tenant, "suspended": true });
            context.show(&shown, || format!("{account} is suspended."))
        }
        Command::Resume { account, tenant } => {
            app.tenancy.set_account_suspended(&tenant, &account, false).await?;
            let shown = serde_json::json!({ "account": account, "tenant": tenant, "suspended": false });
            context.show(&shown, || format!("{account} goes on."))
        }
    }
}

fn shown(row: AccountRow) -> Shown {
    Shown {
        number: row.account.0,
        login_name: row.login_name,
        state: row.state,
        role: row.role,
        devices: row.devices,
        created_at_ms: row.created_at,
        last_seen_ms: row.last_seen,
    }
}

fn as_table(accounts: &[Shown]) -> String {
    let row = |account: &Shown| {
        vec![
            account.number.to_string(),
            account.login_name.clone(),
            word(account.state),
            word(account.role),
            account.devices.to_string(),
            account.last_seen_ms.map_or_else(|| "never".to_owned(), moment),
        ]
    };
    table(&["NUMBER", "NAME", "STATE", "ROLE", "DEVICES", "LAST SEEN"], &accounts.iter().map(row).collect::<Vec<_>>())
}

/// A state or a role as it is written in messages.
fn word(value: impl Serialize) -> String {
    let value = serde_json::to_value(value).ok();
    value.as_ref().and_then(|value| value.as_str()).unwrap_or_default().to_owned()
}

impl From<Role> for TenantRole {
    fn from(role: Role) -> Self {
        match role {
            Role::Member => TenantRole::Member,
            Role::Admin => TenantRole::Admin,
            Role::Owner => TenantRole::Owner,
        }
    }
}
