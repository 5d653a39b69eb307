//! `selkie-server invitation ...`

use super::{Context, Outcome, moment, table};
use crate::auth::DEFAULT_TENANT;
use crate::store::{InvitationRow, TenantRole};
use clap::Subcommand;
use serde::Serialize;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Lists a tenant's invitations. Their codes are not kept.
    List {
        /// The tenant, by its short name.
        #[arg(long, default_value = DEFAULT_TENANT)]
        tenant: String,
    },
    /// Revokes an invitation.
    Revoke {
        /// Its number, from the list.
        invitation: i64,
        /// The tenant, by its short name.
        #[arg(long, default_value = DEFAULT_TENANT)]
        tenant: String,
    },
}

#[derive(Serialize)]
struct Shown {
    number: i64,
    role: TenantRole,
    uses_left: i32,
    created_at_ms: i64,
    expires_at_ms: i64,
    revoked: bool,
}

pub(super) async fn run(context: &Context, command: Command) -> Outcome {
    let app = context.open().await?;
    match command {
        Command::List { tenant } => {
            let invitations: Vec<Shown> = app.tenancy.invitations(&tenant).await?.into_iter().map(shown).collect();
            let now = app.edges.now_ms();
            context.show(&invitations, || as_table(&invitations, now))
        }
        Command::Revoke { invitation, tenant } => {
            app.tenancy.revoke_invitation(&tenant, invitation).await?;
            let shown = serde_json::json!({ "invitation": invitation, "tenant": tenant, "revoked": true });
            context.show(&shown, || format!("Invitation {invitation} is revoked."))
        }
    }
}

fn shown(row: InvitationRow) -> Shown {
    Shown {
        number: row.invitation,
        role: row.role,
        uses_left: row.uses_left,
        created_at_ms: row.created_at,
        expires_at_ms: row.expires_at,
        revoked: row.revoked_at.is_some(),
    }
}

fn as_table(invitations: &[Shown], now: i64) -> String {
    let state = |invitation: &Shown| match invitation {
        it if it.revoked => "revoked",
        it if it.expires_at_ms <= now => "expired",
        it if it.uses_left == 0 => "used up",
        _ => "usable",
    };
    let row = |it: &Shown| {
        let role = format!("{:?}", it.role).to_lowercase();
        vec![it.number.to_string(), role, it.uses_left.to_string(), state(it).to_owned(), moment(it.expires_at_ms)]
    };
    table(&["NUMBER", "ROLE", "USES LEFT", "STATE", "UNTIL"], &invitations.iter().map(row).collect::<Vec<_>>())
}
