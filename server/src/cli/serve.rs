//! `selkie-server serve`

use super::{Context, Outcome};
use crate::app::App;
use crate::auth::DEFAULT_TENANT;
use crate::config::{BlobKind, DatabaseTarget, RegistrationPolicy};
use crate::secrets::KeySource;
use crate::{secrets, telemetry};
use selkie_protocol::Private;
use std::sync::Arc;
use tokio::signal::unix::{Signal, SignalKind, signal};

pub(super) async fn run(context: &Context) -> Outcome {
    let config = context.load()?;
    telemetry::init(&config.log).map_err(|error| anyhow::anyhow!(error))?;
    telemetry::quiet_panics();
    // Memory that holds keys is not for core dumps. Where that cannot be said, the server still works.
    if secrets::forbid_core_dumps().is_err() {
        tracing::warn!("core dumps cannot be turned off here");
    }
    // Before anybody can know that we are here: from now on a signal is heard, and none of them ends us by surprise.
    let mut signals = Signals::listen()?;
    let opened = tokio::select! {
        opened = super::open(config) => opened?,
        () = signals.end() => return Ok(()),
    };
    let app = Arc::new(opened);
    let running = app.listen()?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        listen = %running.address,
        server_name = app.auth.policy().server_name,
        incarnation = %app.identity.incarnation,
        "the server is ready"
    );
    super::say(&greeting(&app, running.address, first_command(&app, running.address).await?));
    signals.end().await;
    tracing::info!("stopping: no new requests are taken, those under way are finished");
    tokio::select! {
        stopped = running.stop() => stopped?,
        () = signals.end() => return Err(anyhow::anyhow!("told twice to stop: what was under way is cut off").into()),
    }
    tracing::info!("the server has stopped");
    Ok(())
}

/// What the operator and the machine say to a process.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Only the certificate listens to it. Without one it is still not for ending a server, which it does by default.
    _hangup: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            _hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Until somebody wants the server to end.
    async fn end(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// While nobody has an account, the command that makes the first one.
async fn first_command(app: &App, address: std::net::SocketAddr) -> Result<Option<String>, super::Failure> {
    if app.config.registration.policy == RegistrationPolicy::Closed {
        return Ok(None);
    }
    let home = app.tenancy.named(DEFAULT_TENANT).await?.tenant;
    let lifetime = app.config.registration.invitation_lifetime.as_ms();
    let code = app.auth.invite_first_owner(home, lifetime).await?;
    let url = reachable_at(app, address);
    // A client refuses a server that calls itself something else than what was typed, unless it is told so.
    let name = app.config.server_name();
    let named = if url.ends_with(&format!("://{name}")) { String::new() } else { format!(" --server-name {name}") };
    let command =
        |code: Private| format!("selkie sign-up YOU@example.org --server {url}{named} --invite {}", code.as_str());
    Ok(code.map(command))
}

fn greeting(app: &App, address: std::net::SocketAddr, first: Option<String>) -> String {
    let database = match app.config.database() {
        DatabaseTarget::Sqlite(path) => path.display().to_string(),
        DatabaseTarget::Postgres { .. } => "PostgreSQL".to_owned(),
    };
    let blobs = match app.config.blobs.kind {
        BlobKind::Files => app.config.blob_dir().display().to_string(),
        BlobKind::S3 => "S3".to_owned(),
    };
    let mut text = format!(
        "Selkie is ready.\n  reach it at   {}\n  database      {database}\n  files         {blobs}",
        reachable_at(app, address)
    );
    if let KeySource::Made(path) = &app.key_source {
        text += &format!(
            "\n\nA master key was made in {}. Keep a copy of it apart from the backups of the\ndatabase: without it \
             nobody can sign in, and with both of them one is the server.",
            path.display()
        );
    }
    if let Some(command) = first {
        text += &format!(
            "\n\nNobody has an account here yet. This command makes the first one, and its owner; it works once:\n  \
             {command}"
        );
    }
    text
}

/// The address people use; with port 0 only the bound one is of use.
fn reachable_at(app: &App, address: std::net::SocketAddr) -> String {
    if app.config.server.public_url.is_none() && app.config.server.listen.port() == 0 {
        format!("http://{address}")
    } else {
        app.config.public_url()
    }
}
