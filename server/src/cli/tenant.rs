//! `selkie-server tenant ...`

use super::{Context, Outcome, moment, table};
use crate::store::TenantRow;
use crate::tenancy::DEFAULT_PLAN;
use clap::Subcommand;
use serde::Serialize;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Makes a tenant.
    Create {
        /// Its short name, as in `acme`: a-z, 0-9 and dash. It never changes.
        slug: String,
        /// Its name for people; the short name if missing.
        #[arg(long, default_value = "")]
        name: String,
        /// What it may use; `selkie-server plan list` shows the choice.
        #[arg(long, default_value = DEFAULT_PLAN)]
        plan: String,
    },
    /// Gives a tenant another plan.
    Plan {
        /// Its short name.
        slug: String,
        /// The plan; `selkie-server plan list` shows the choice.
        plan: String,
    },
    /// Lists all tenants.
    List,
    /// Suspends a tenant: nobody of it can sign in, and every request of its people is refused. Nothing is deleted.
    Suspend {
        /// Its short name.
        slug: String,
    },
    /// Ends a tenant's suspension.
    Resume {
        /// Its short name.
        slug: String,
    },
}

#[derive(Serialize)]
struct Shown {
    slug: String,
    name: String,
    plan: String,
    accounts: i64,
    suspended: bool,
    created_at_ms: i64,
}

pub(super) async fn run(context: &Context, command: Command) -> Outcome {
    let app = context.open().await?;
    match command {
        Command::Create { slug, name, plan } => {
            let tenant = shown(app.tenancy.create(&slug, &name, &plan).await?);
            context.show(&tenant, || format!("The tenant {} is there.", tenant.slug))
        }
        Command::Plan { slug, plan } => {
            app.tenancy.set_plan(&slug, &plan).await?;
            context.show(&serde_json::json!({ "slug": slug, "plan": plan }), || format!("{slug} has the plan {plan}."))
        }
        Command::List => {
            let tenants: Vec<Shown> = app.tenancy.list().await?.into_iter().map(shown).collect();
            context.show(&tenants, || as_table(&tenants))
        }
        Command::Suspend { slug } => {
            app.tenancy.set_suspended(&slug, true).await?;
            context.show(&serde_json::json!({ "slug": slug, "suspended": true }), || format!("{slug} is suspended."))
        }
        Command::Resume { slug } => {
            app.tenancy.set_suspended(&slug, false).await?;
            context.show(&serde_json::json!({ "slug": slug, "suspended": false }), || format!("{slug} goes on."))
        }
    }
}

fn shown(row: TenantRow) -> Shown {
    let TenantRow { slug, name, plan, accounts, suspended, created_at, .. } = row;
    Shown { slug, name, plan, accounts, suspended, created_at_ms: created_at }
}

fn as_table(tenants: &[Shown]) -> String {
    let row = |tenant: &Shown| {
        let state = if tenant.suspended { "suspended" } else { "active" };
        let (slug, name, plan) = (tenant.slug.clone(), tenant.name.clone(), tenant.plan.clone());
        vec![slug, name, plan, tenant.accounts.to_string(), state.to_owned(), moment(tenant.created_at_ms)]
    };
    table(&["TENANT", "NAME", "PLAN", "ACCOUNTS", "STATE", "SINCE"], &tenants.iter().map(row).collect::<Vec<_>>())
}
