//! Backups of an embedded server: one folder with the database, the files, and a list of both.
//!
//! Owns what is in the folder, in which order it is copied, and what must hold before any of it is put back. The
//! database is copied first and the files after it, so every file that the copy speaks of was there when it was made;
//! files that are newer than the copy do no harm. The master key stays out unless it is asked for: whoever has the
//! database and the key has the server. Knows nothing of command lines.
//!
//! ```text
//! manifest.json    what is here, with checksums; written last, so a backup without it is none
//! selkie.db        the database
//! blobs/...        the files
//! master.key       only if it was asked for
//! ```

use crate::app::App;
use crate::config::{BlobKind, Config, DatabaseTarget};
use crate::edges::Edges;
use crate::secrets::{self, FILE_NAME as MASTER_KEY, MasterKey, MasterKeyError};
use crate::store::{self, Identity, NewTenant, StoreError};
use aws_lc_rs::digest::{Context as Digest, SHA256};
use selkie_protocol::id::Incarnation;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Component, Path, PathBuf};

const MANIFEST: &str = "manifest.json";
const DATABASE: &str = "selkie.db";
const BLOBS: &str = "blobs";
/// The only manifest there is so far.
const FORMAT: u32 = 1;
const BUFFER: usize = 1 << 20;

/// What a backup consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u32,
    /// What made it.
    pub software: String,
    pub made_at_ms: i64,
    pub incarnation: Incarnation,
    /// Files that are kept in S3 are not in here.
    pub blobs_elsewhere: bool,
    pub files: Vec<Listed>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// From the folder of the backup, with forward slashes.
    pub path: String,
    pub bytes: u64,
    pub sha256: String,
}

#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    #[error("the folder {0} is there already; a backup is made in a new one")]
    FolderExists(PathBuf),
    #[error(
        "the database is PostgreSQL: back it up with its own means (pg_dump, or archiving for any point in time), and \
         after a restore run `selkie-server backup mark-restored`"
    )]
    Postgres,
    #[error("the configuration has the master key; there is no file of it to put into the backup")]
    KeyConfigured,
    #[error("{0} is no backup, or one that was not finished: it has no manifest.json")]
    NoManifest(PathBuf),
    #[error("the manifest cannot be read: {0}")]
    Manifest(String),
    #[error("the backup is of format {0}, which this server does not know")]
    Format(u32),
    #[error("{0} is missing in the backup, or is not what it was")]
    Damaged(String),
    #[error("{0} is there already: a backup is restored into an empty data folder, so that nothing is written over")]
    NotEmpty(PathBuf),
    #[error(
        "the master key is not in the backup and not at {0}: put it there first, or name it in the configuration; \
         without it nobody could sign in"
    )]
    KeyMissing(PathBuf),
    #[error("the database of the backup was sealed with another master key than the one that is here")]
    OtherKey,
    #[error(transparent)]
    MasterKey(#[from] MasterKeyError),
    #[error("{0}")]
    File(PathBuf, #[source] io::Error),
    #[error("the database")]
    Database(#[from] store::OpenError),
    #[error("the database")]
    Store(#[from] StoreError),
}

type Result<T> = std::result::Result<T, BackupError>;

/// Makes a backup of a server that may be running.
pub async fn create(app: &App, folder: &Path, with_master_key: bool) -> Result<Manifest> {
    let DatabaseTarget::Sqlite(_) = app.config.database() else { return Err(BackupError::Postgres) };
    if folder.exists() {
        return Err(BackupError::FolderExists(folder.to_owned()));
    }
    secrets::make_private_folder(folder).map_err(at(folder))?;
    app.store.copy_to(&folder.join(DATABASE)).await?;
    let mut files = vec![listed(folder, DATABASE)?];
    let blobs_elsewhere = app.config.blobs.kind != BlobKind::Files;
    if !blobs_elsewhere {
        copy_tree(&app.config.blob_dir(), folder, BLOBS, &mut files)?;
    }
    if with_master_key {
        let key = app.config.data.dir.join(MASTER_KEY);
        if app.config.master_key.key.is_some() {
            return Err(BackupError::KeyConfigured);
        }
        files.push(copy(&key, folder, MASTER_KEY)?);
    }
    let manifest = Manifest {
        format: FORMAT,
        software: concat!("selkie-server ", env!("CARGO_PKG_VERSION")).into(),
        made_at_ms: app.edges.now_ms(),
        incarnation: app.identity.incarnation,
        blobs_elsewhere,
        files,
    };
    let text = serde_json::to_vec_pretty(&manifest).map_err(|error| BackupError::Manifest(error.to_string()))?;
    let path = folder.join(MANIFEST);
    write(&path, &text).and_then(|()| File::open(folder)?.sync_all()).map_err(at(&path))?;
    Ok(manifest)
}

/// Puts a backup into an empty data folder, as another life of the same server: clients then compare heads and put
/// back what the backup does not have.
pub async fn restore(config: &Config, edges: &Edges, folder: &Path) -> Result<Manifest> {
    let DatabaseTarget::Sqlite(database) = config.database() else { return Err(BackupError::Postgres) };
    let manifest = read_manifest(folder)?;
    verify(folder, &manifest)?;
    let data = &config.data.dir;
    let key = data.join(MASTER_KEY);
    must_be_empty(config, &database, &key)?;
    let brings_key = manifest.files.iter().any(|file| file.path == MASTER_KEY);
    if config.master_key.key.is_none() && !brings_key && !key.exists() {
        return Err(BackupError::KeyMissing(key));
    }
    secrets::make_private_folder(data).map_err(at(data))?;
    for file in &manifest.files {
        let target = match file.path.strip_prefix("blobs/") {
            Some(rest) => config.blob_dir().join(rest),
            None if file.path == MASTER_KEY && !key.exists() => key.clone(),
            None => continue,
        };
        let parent = target.parent().unwrap_or(data);
        secrets::make_private_folder(parent).map_err(at(parent))?;
        copy_file(&folder.join(&file.path), &target)?;
    }
    // Under its own name only once it is another life: a server that starts too early finds nothing.
    let draft = database.with_extension("restoring");
    copy_file(&folder.join(DATABASE), &draft)?;
    begin_another_life(config, edges, &draft, &manifest).await?;
    fs::rename(&draft, &database).and_then(|()| sync_folder(&database)).map_err(at(&database))?;
    Ok(manifest)
}

async fn begin_another_life(config: &Config, edges: &Edges, database: &Path, manifest: &Manifest) -> Result<()> {
    let (master, _) = MasterKey::load(config, edges.dice.clone())?;
    let url = format!("sqlite:{}", database.display());
    store::migrate(&url).await?;
    let store = store::open(&url, store::Options::default(), tokio::runtime::Handle::current()).await?;
    // What is in there stays as it is.
    let fingerprint = master.fingerprint().0;
    let ours = Identity {
        incarnation: manifest.incarnation,
        master_key_fingerprint: fingerprint.to_vec(),
        created_at: manifest.made_at_ms,
        restored_at: None,
    };
    let tenant = NewTenant { slug: "home".into(), name: "Home".into(), plan: "home".into(), created_at: 0 };
    let identity = store.initialise(ours, tenant).await?;
    if identity.master_key_fingerprint != fingerprint {
        store.close().await;
        return Err(BackupError::OtherKey);
    }
    store.begin_another_life(Incarnation(edges.bytes()), edges.now_ms()).await?;
    store.close().await;
    must_be_one_file(database)
}

/// What is in a log beside the file would stay behind under the file's old name: the new life, of all things.
fn must_be_one_file(database: &Path) -> Result<()> {
    let mut log = database.as_os_str().to_owned();
    log.push("-wal");
    let log = PathBuf::from(log);
    match fs::metadata(&log) {
        Ok(found) if found.len() > 0 => {
            Err(BackupError::File(log, io::Error::other("somebody else has the database open: end them and try again")))
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(BackupError::File(log, error)),
        _ => Ok(()),
    }
}

fn read_manifest(folder: &Path) -> Result<Manifest> {
    let path = folder.join(MANIFEST);
    let text = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(BackupError::NoManifest(folder.to_owned()));
        }
        text => text.map_err(at(&path))?,
    };
    let manifest: Manifest = serde_json::from_slice(&text).map_err(|error| BackupError::Manifest(error.to_string()))?;
    if manifest.format != FORMAT {
        return Err(BackupError::Format(manifest.format));
    }
    Ok(manifest)
}

/// Every file is there, is what it was, and lies where files of a backup lie.
fn verify(folder: &Path, manifest: &Manifest) -> Result<()> {
    for file in &manifest.files {
        let damaged = || BackupError::Damaged(file.path.clone());
        let inside = Path::new(&file.path).components().all(|part| matches!(part, Component::Normal(_)));
        let known = file.path == DATABASE || file.path == MASTER_KEY || file.path.starts_with("blobs/");
        if !inside || !known {
            return Err(damaged());
        }
        let found = listed(folder, &file.path).map_err(|_| damaged())?;
        if found != *file {
            return Err(damaged());
        }
    }
    if manifest.files.iter().all(|file| file.path != DATABASE) {
        return Err(BackupError::Damaged(DATABASE.into()));
    }
    Ok(())
}

/// Nothing is there but, perhaps, the master key, which the operator keeps apart and has put back.
fn must_be_empty(config: &Config, database: &Path, key: &Path) -> Result<()> {
    if database.exists() {
        return Err(BackupError::NotEmpty(database.to_owned()));
    }
    for folder in [config.data.dir.clone(), config.blob_dir()] {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries.map_err(at(&folder))?,
        };
        for entry in entries {
            let path = entry.map_err(at(&folder))?.path();
            // An earlier attempt that was cut off may be tried again.
            let ours = path == *key || path == config.blob_dir() || path == database.with_extension("restoring");
            if !ours {
                return Err(BackupError::NotEmpty(path));
            }
        }
    }
    Ok(())
}

/// Everything below a folder but drafts. What vanishes meanwhile was removed by the server and is not missed.
fn copy_tree(from: &Path, to: &Path, name: &str, files: &mut Vec<Listed>) -> Result<()> {
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(at(from))?,
    };
    for entry in entries {
        let entry = entry.map_err(at(from))?;
        let Ok(word) = entry.file_name().into_string() else { continue };
        if word.starts_with('.') {
            continue;
        }
        let name = format!("{name}/{word}");
        if entry.path().is_dir() {
            copy_tree(&entry.path(), to, &name, files)?;
        } else {
            match copy(&entry.path(), to, &name) {
                Err(BackupError::File(_, error)) if error.kind() == io::ErrorKind::NotFound => {}
                copied => files.push(copied?),
            }
        }
    }
    Ok(())
}

fn copy(from: &Path, folder: &Path, name: &str) -> Result<Listed> {
    let target = folder.join(name);
    let parent = target.parent().unwrap_or(folder);
    secrets::make_private_folder(parent).map_err(at(parent))?;
    copy_file(from, &target)?;
    listed(folder, name)
}

fn copy_file(from: &Path, to: &Path) -> Result<()> {
    let copied = fs::copy(from, to).map_err(at(from));
    copied.and_then(|_| File::open(to).and_then(|file| file.sync_all()).map_err(at(to)))
}

fn listed(folder: &Path, name: &str) -> Result<Listed> {
    let path = folder.join(name);
    let (bytes, sha256) = checksum(&path).map_err(at(&path))?;
    Ok(Listed { path: name.to_owned(), bytes, sha256 })
}

fn checksum(path: &Path) -> io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let (mut digest, mut bytes, mut buffer) = (Digest::new(&SHA256), 0, vec![0; BUFFER]);
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        digest.update(&buffer[..count]);
        bytes += count as u64;
    }
    let hex = digest.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((bytes, hex))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn sync_folder(of: &Path) -> io::Result<()> {
    File::open(of.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BackupError + use<> {
    let path = path.to_owned();
    move |source| BackupError::File(path, source)
}
