//! `selkie-server backup create|restore|mark-restored`

use super::{Context, Failure, Outcome};
use crate::backup::{self, BackupError, Manifest};
use crate::edges::Edges;
use selkie_protocol::id::Incarnation;
use std::path::PathBuf;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Makes a backup of an embedded server in a new folder, while the server runs.
    ///
    /// The master key is not in it: whoever has the database and the master key has the server, so the two are kept in
    /// different places. Keep a copy of the key apart, once; it does not change.
    Create {
        /// The folder to make.
        folder: PathBuf,
        /// Put the master key into the backup all the same. The backup is then to be guarded like the server itself.
        #[arg(long)]
        with_master_key: bool,
    },
    /// Puts a backup of an embedded server into an empty data folder. The server must not run.
    ///
    /// The restored server knows that it was restored: clients compare what they have seen with it, and put back what
    /// it acknowledged after the backup was made.
    Restore {
        /// The folder of the backup.
        folder: PathBuf,
    },
    /// Says that the database was restored by its own means, as with pg_restore. All servers must be stopped.
    ///
    /// Without this, clients that have seen more than the database now has take the server for one that lies.
    MarkRestored,
}

fn told(error: BackupError) -> Failure {
    match error {
        BackupError::Database(_) | BackupError::Store(_) => Failure::NotReady(error.into()),
        error => Failure::Failed(error.into()),
    }
}

pub(super) async fn run(context: &Context, command: Command) -> Outcome {
    match command {
        Command::Create { folder, with_master_key } => {
            let app = context.open().await?;
            let made = backup::create(&app, &folder, with_master_key).await;
            app.store.close().await;
            let made = made.map_err(told)?;
            context.show(&made, || created(&made, &folder, with_master_key))
        }
        Command::Restore { folder } => {
            let config = context.load()?;
            let restored = backup::restore(&config, &Edges::real(), &folder).await.map_err(told)?;
            context.show(&restored, || {
                let mut text = format!("Restored {} into {}.", files(&restored), config.data.dir.display());
                if restored.blobs_elsewhere {
                    text += "\nFiles are kept in S3 and were not in the backup.";
                }
                text + "\nClients put back what they saw acknowledged since, as they come."
            })
        }
        Command::MarkRestored => {
            let app = context.open().await?;
            let incarnation = Incarnation(app.edges.bytes());
            app.store.begin_another_life(incarnation, app.edges.now_ms()).await?;
            app.store.close().await;
            context.show(&serde_json::json!({ "incarnation": incarnation }), || {
                "The database begins another life. Start the servers now; any that ran must be started again.".into()
            })
        }
    }
}

fn files(manifest: &Manifest) -> String {
    let bytes: u64 = manifest.files.iter().map(|file| file.bytes).sum();
    format!("{} files, {bytes} bytes", manifest.files.len())
}

fn created(manifest: &Manifest, folder: &std::path::Path, with_master_key: bool) -> String {
    let mut text = format!("The backup is in {}: {}.", folder.display(), files(manifest));
    if manifest.blobs_elsewhere {
        text += "\nFiles are kept in S3 and are not in it.";
    }
    if !with_master_key {
        text += "\nThe master key is not in it, on purpose: keep a copy of it in another place.";
    }
    text
}
