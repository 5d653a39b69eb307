//! `selkie-server migrate`

use super::{Context, Failure, Outcome};
use crate::app::database_urls;
use crate::config::DatabaseTarget;
use crate::edges::Edges;
use crate::secrets::{self, MasterKey};
use crate::store::{self, SchemaState};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Change nothing; exit with 3 unless the schema is the one of this server. For deployments.
    #[arg(long)]
    check: bool,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Outcome {
    let config = context.load()?;
    let (login_url, url) = database_urls(&config);
    if arguments.check {
        let state = store::state(&url).await.map_err(|error| Failure::NotReady(error.into()))?;
        let problem = match state {
            SchemaState::Current => None,
            SchemaState::Behind(missing) => Some(format!("these migrations have not run: {}", missing.join(", "))),
            SchemaState::Newer(version) => Some(format!("the database is at {version}, made by a newer server")),
        };
        return match problem {
            None => context.show(&serde_json::json!({ "schema": "current" }), || "The schema is current.".into()),
            Some(problem) => Err(Failure::NotReady(anyhow::anyhow!(problem))),
        };
    }
    if matches!(config.database(), DatabaseTarget::Sqlite(_)) {
        secrets::make_private_folder(&config.data.dir)?;
        // A database without its master key looks like one whose key was lost: the key comes first.
        MasterKey::load(&config, Edges::real().dice)?;
    }
    let done = store::migrate(&url).await.map_err(|error| Failure::NotReady(error.into()))?;
    let left = store::let_work(&login_url, &url).await.map_err(|error| Failure::NotReady(error.into()))?;
    context.show(&serde_json::json!({ "migrated": done, "left_to_do": left }), || {
        let mut said = match done.len() {
            0 => "The schema is current; there was nothing to do.".to_owned(),
            _ => format!("Migrated: {}", done.join(", ")),
        };
        if let Some(sql) = &left {
            said += "\nThe server's login may not work as selkie_app. As an administrator of the database, run\n  ";
            said += sql;
            said += "\nand then `selkie-server migrate` again.";
        }
        said
    })
}
