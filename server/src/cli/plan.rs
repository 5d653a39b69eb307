//! `selkie-server plan ...`

use super::{Context, Outcome, table};
use crate::limits::PlanFactor;
use crate::store::PlanRow;
use clap::Subcommand;
use serde::Serialize;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists the plans a tenant can have.
    List,
}

#[derive(Serialize)]
struct Shown {
    plan: String,
    max_accounts: Option<i64>,
    max_devices: Option<i64>,
    /// How many times the configured limits it allows.
    limits: u32,
}

pub(super) async fn run(context: &Context, command: Command) -> Outcome {
    let app = context.open().await?;
    match command {
        Command::List => {
            let plans: Vec<Shown> = app.tenancy.plans().await?.into_iter().map(shown).collect();
            context.show(&plans, || as_table(&plans))
        }
    }
}

fn shown(row: PlanRow) -> Shown {
    let PlanRow { plan, max_accounts, max_devices, limit_factor } = row;
    Shown { plan, max_accounts, max_devices, limits: PlanFactor::of_percent(limit_factor).as_times() }
}

fn as_table(plans: &[Shown]) -> String {
    let limit = |limit: Option<i64>| limit.map_or_else(|| "any".to_owned(), |limit| limit.to_string());
    let row = |plan: &Shown| {
        vec![plan.plan.clone(), limit(plan.max_accounts), limit(plan.max_devices), format!("x {}", plan.limits)]
    };
    table(&["PLAN", "ACCOUNTS", "DEVICES EACH", "RATE LIMITS"], &plans.iter().map(row).collect::<Vec<_>>())
}
