//! `selkie-server doctor`: looks at everything the server needs, and changes nothing.

use super::{Context, Failure, Outcome};
use crate::app::{database_urls, open_blobs};
use crate::config::{BlobKind, Config, DatabaseTarget};
use crate::edges::Edges;
use crate::secrets::MasterKey;
use crate::store::{self, SchemaState, Wall};
use crate::telemetry::chain;
use serde::Serialize;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Below this a server should not go on writing.
const LITTLE_SPACE: u64 = 512 << 20;

/// One thing that was looked at.
#[derive(Serialize)]
struct Finding {
    what: &'static str,
    fine: bool,
    detail: String,
}

pub(super) async fn run(context: &Context) -> Outcome {
    let config = context.load()?;
    let mut findings = vec![Finding::fine("configuration", "valid")];
    findings.push(master_key(&config));
    let (wall, can_work) = second_wall(&config).await;
    if can_work {
        findings.push(database(&config).await);
    }
    findings.extend(wall);
    findings.push(blobs(&config).await);
    findings.push(clock());
    if matches!(config.database(), DatabaseTarget::Sqlite(_)) || config.blobs.kind == BlobKind::Files {
        findings.push(disk(&config.data.dir));
    }
    let ill = findings.iter().filter(|finding| !finding.fine).count();
    context.show(&findings, || findings.iter().map(Finding::line).collect::<Vec<_>>().join("\n"))?;
    if ill == 0 {
        Ok(())
    } else {
        Err(Failure::NotReady(anyhow::anyhow!("{ill} of {} is not as it should be", findings.len())))
    }
}

impl Finding {
    fn fine(what: &'static str, detail: impl Into<String>) -> Self {
        Finding { what, fine: true, detail: detail.into() }
    }

    fn ill(what: &'static str, detail: impl Into<String>) -> Self {
        Finding { what, fine: false, detail: detail.into() }
    }

    fn line(&self) -> String {
        format!("{:4}  {:13}  {}", if self.fine { "ok" } else { "FAIL" }, self.what, self.detail)
    }
}

fn master_key(config: &Config) -> Finding {
    let first_start = config.master_key.key.is_none()
        && matches!(config.database(), DatabaseTarget::Sqlite(path) if !path.exists())
        && !config.data.dir.join("master.key").exists();
    if first_start {
        return Finding::fine("master key", "will be made at the first start");
    }
    match MasterKey::load(config, Edges::real().dice) {
        Ok((key, _)) => Finding::fine("master key", format!("fingerprint {}", key.fingerprint())),
        Err(error) => Finding::ill("master key", chain(&error).to_string()),
    }
}

async fn database(config: &Config) -> Finding {
    const WHAT: &str = "database";
    let (url, _) = database_urls(config);
    match store::state(&url).await {
        Ok(SchemaState::Current) => {}
        Ok(SchemaState::Behind(missing)) if config.database.migrate_on_start => {
            return Finding::fine(WHAT, format!("{} migration(s) will run at the next start", missing.len()));
        }
        Ok(SchemaState::Behind(missing)) => {
            return Finding::ill(WHAT, format!("run `selkie-server migrate`: {} is missing", missing.join(", ")));
        }
        Ok(SchemaState::Newer(version)) => {
            return Finding::ill(WHAT, format!("it is at {version}, made by a newer server: update this one"));
        }
        Err(error) => return Finding::ill(WHAT, chain(&error).to_string()),
    }
    let opened = store::open(&url, store::Options::default(), tokio::runtime::Handle::current()).await;
    let store = match opened {
        Ok(store) => store,
        Err(error) => return Finding::ill(WHAT, chain(&error).to_string()),
    };
    let finding = match audit_chains(&*store).await {
        Ok(None) => Finding::fine(WHAT, "reachable, the schema is current, the audit logs are whole"),
        Ok(Some((tenant, number))) => {
            let what = format!("the audit log of {tenant} was changed at entry {number}");
            Finding::ill(WHAT, format!("{what}: see \"Keeping it\" in docs/self-hosting.md"))
        }
        Err(error) => Finding::ill(WHAT, chain(&error).to_string()),
    };
    store.close().await;
    finding
}

/// Whether PostgreSQL itself keeps the tenants apart, and whether the server can work at all as who it would be.
async fn second_wall(config: &Config) -> (Option<Finding>, bool) {
    let (url, _) = database_urls(config);
    match store::wall(&url, &store::Options::default()).await {
        Ok(wall) => (wall_finding(&wall), !matches!(wall, Wall::Shut { .. })),
        // What is wrong with the database itself is said by the finding about the database.
        Err(_) => (None, true),
    }
}

fn wall_finding(wall: &Wall) -> Option<Finding> {
    const WHAT: &str = "row security";
    let run = |sql: &str| format!("as an administrator run {sql} and then `selkie-server migrate`");
    Some(match wall {
        Wall::Never => return None,
        Wall::Stands { role } => Finding::fine(WHAT, format!("holds: the server works as {role}, which owns nothing")),
        Wall::Owner { role, sql } => Finding::fine(
            WHAT,
            format!(
                "the server works as {role}, the owner of the tables: row-level security is forced on it, too, but an \
                 owner can switch that off. Better: {}",
                run(sql)
            ),
        ),
        Wall::Missing { role, sql } => Finding::ill(
            WHAT,
            format!(
                "the server works as {role}, which ignores it: let it sign in as a login that is no superuser and does \
                 not bypass it, or {}",
                run(sql)
            ),
        ),
        Wall::Shut { login, sql } => {
            Finding::ill(WHAT, format!("the login {login} is no member of selkie_app: {}", run(sql)))
        }
    })
}

/// The first tenant whose audit log is not the chain it was written as, and the first entry that does not fit.
async fn audit_chains(store: &dyn store::Store) -> store::Result<Option<(String, i64)>> {
    for tenant in store.tenants().await? {
        if let Some(number) = store.verify_audit(tenant.tenant).await? {
            return Ok(Some((tenant.slug, number)));
        }
    }
    Ok(None)
}

async fn blobs(config: &Config) -> Finding {
    const WHAT: &str = "blob store";
    if config.blobs.kind == BlobKind::Files && !config.blob_dir().exists() {
        return Finding::fine(WHAT, format!("{} will be made at the first start", config.blob_dir().display()));
    }
    let probed = match open_blobs(config) {
        Ok(blobs) => blobs.probe().await,
        Err(error) => Err(error),
    };
    match probed {
        Ok(()) => Finding::fine(WHAT, "writable and readable"),
        Err(error) => Finding::ill(WHAT, chain(&error).to_string()),
    }
}

/// Whether the clock can be right: nobody can run this server before it was written.
fn clock() -> Finding {
    const WRITTEN: Duration = Duration::from_secs(1_763_700_000);
    let plausible = SystemTime::now() > SystemTime::UNIX_EPOCH + WRITTEN;
    if plausible {
        Finding::fine("clock", "plausible")
    } else {
        Finding::ill("clock", "it shows a time before this server was written: tokens will not be valid")
    }
}

fn disk(folder: &Path) -> Finding {
    // Before the first start the folder is not there yet; the disk is the one it will be on.
    let existing = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."));
    match rustix::fs::statvfs(existing) {
        Ok(space) => {
            let free = space.f_bavail.saturating_mul(space.f_frsize);
            let detail = format!("{} MiB free in {}", free >> 20, existing.display());
            if free >= LITTLE_SPACE { Finding::fine("disk", detail) } else { Finding::ill("disk", detail) }
        }
        Err(error) => Finding::ill("disk", format!("{}: {error}", existing.display())),
    }
}
