//! A PostgreSQL server of our own, from `initdb` to the removal of its folder.
//!
//! Owns its settings, its start and its end, and the making of databases in it. Knows nothing about schemas.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::address::Address;
use crate::binaries::Binaries;
use crate::child::{self, User};
use crate::folder::Folder;
use crate::sql::{self, Connection, literal, quoted};
use crate::{Database, Error};

/// Where this is set, [`Cluster::shared`] uses the server it names, as the superuser it names.
pub const SHARED_URL_VARIABLE: &str = "SELKIE_TEST_DATABASE_URL";

const START_LIMIT: Duration = Duration::from_secs(60);
/// A port is free when we look and may be taken when PostgreSQL binds it.
const START_ATTEMPTS: usize = 5;

/// A running server. Dropping one that was started here stops it and removes its files.
#[derive(Debug)]
pub struct Cluster {
    maintenance: Address,
    /// `None` for a server that somebody else runs.
    server: Option<Server>,
}

/// The order matters: the server ends before its folder goes.
#[derive(Debug)]
struct Server {
    /// `None` between its end and its next start.
    process: Mutex<Option<Process>>,
    folder: Folder,
    port: u16,
    durability: Durability,
}

#[derive(Debug)]
struct Process(Child);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durability {
    /// A crash of the machine may lose everything, and tests run twice as fast.
    None,
    /// What was committed is on the disk, as in production.
    Full,
}

impl Cluster {
    /// The one of this process, or the one that `SELKIE_TEST_DATABASE_URL` names.
    ///
    /// # Panics
    /// When there is none and none can be started; the message says what is missing.
    pub fn shared() -> &'static Cluster {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(|| {
            let cluster = match std::env::var(SHARED_URL_VARIABLE) {
                Ok(url) => Address::parse(&url).map(|maintenance| Cluster { maintenance, server: None }),
                Err(_) => Cluster::start(),
            };
            cluster.unwrap_or_else(|error| panic!("a PostgreSQL for tests: {}", error.in_full()))
        })
    }

    /// A new cluster, for tests that need one of their own. It forgets on a power cut, which tests never have.
    pub fn start() -> Result<Self, Error> {
        Self::start_with(Durability::None)
    }

    /// A new cluster that flushes to the disk as one in production does, for tests of crashes and for measuring.
    pub fn durable() -> Result<Self, Error> {
        Self::start_with(Durability::Full)
    }

    /// Where its files are, if it was started here.
    pub fn folder(&self) -> Option<&std::path::Path> {
        self.server.as_ref().map(|server| server.folder.path())
    }

    /// The address of the maintenance database, as superuser.
    pub fn url(&self) -> String {
        self.maintenance.url()
    }

    /// A fresh database: empty, or a copy of `template`.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn database(&self, template: Option<&str>) -> Database {
        let name = unique("selkie_test");
        let statement =
            format!("CREATE DATABASE {} TEMPLATE {}", quoted(&name), quoted(template.unwrap_or("template0")));
        sql::on_own_thread(|| Connection::open(&self.url())?.run(&statement))
            .unwrap_or_else(|error| panic!("a database for a test: {}", error.in_full()));
        Database::new(name, self.maintenance.clone())
    }

    /// Makes a template once per cluster, by whichever test process comes first, and gives back its name.
    ///
    /// `prepare` gets the address of an empty database, and runs on a thread of its own outside of any async runtime.
    /// Name the template after what is in it (a hash of the migrations), so that a cluster which outlives a change of
    /// the schema does not serve the old one.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn template<E>(&self, name: &str, prepare: impl FnOnce(&str) -> Result<(), E> + Send) -> String
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        sql::on_own_thread(|| self.make_template(name, prepare))
            .unwrap_or_else(|error| panic!("a template for tests: {}", error.in_full()));
        name.to_owned()
    }

    fn make_template<E>(&self, name: &str, prepare: impl FnOnce(&str) -> Result<(), E>) -> Result<(), Error>
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let admin = Connection::open(&self.url())?;
        // Ends with the connection.
        admin.run(&format!("SELECT pg_advisory_lock(hashtext({}))", literal(name)))?;
        if !admin.query_is_empty(&format!("SELECT 1 FROM pg_database WHERE datname = {}", literal(name)))? {
            return Ok(());
        }
        // Under another name until it is whole, so that a preparation which was killed leaves no half template.
        let unfinished = unique("selkie_template");
        admin.run(&format!("CREATE DATABASE {} TEMPLATE template0", quoted(&unfinished)))?;
        prepare(&self.maintenance.with_database(&unfinished).url())
            .map_err(|error| Error::Template { name: name.to_owned(), source: error.into() })?;
        // Renaming waits a few seconds for connections that are just closing, then refuses.
        admin.run(&format!("ALTER DATABASE {} RENAME TO {}", quoted(&unfinished), quoted(name)))
    }

    fn start_with(durability: Durability) -> Result<Self, Error> {
        let binaries = Binaries::find()?;
        let user = User::to_run_as()?;
        let folder = Folder::new()?;
        let data = folder.path().join("data");
        initialise(&binaries, user, &data)?;
        let mut last = None;
        for _ in 0..START_ATTEMPTS {
            let port = free_port()?;
            let process = launch(&binaries, user, &data, port, durability)?;
            match wait_until_ready(process, &data) {
                Ok(process) => {
                    let server = Some(Server { process: Mutex::new(Some(process)), folder, port, durability });
                    return Ok(Cluster { maintenance: Address::local(port), server });
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.expect("there was at least one attempt"))
    }

    /// The number of the server's process, for tests that are unkind to it. `None` when it is somebody else's, or was
    /// killed.
    pub fn process_id(&self) -> Option<u32> {
        self.server.as_ref()?.process().as_ref().map(|process| process.0.id())
    }

    /// Kills it, kill -9. What it has not flushed is lost; what is connected will notice.
    ///
    /// # Panics
    /// When it is somebody else's.
    pub fn kill(&self) {
        let server = self.server.as_ref().expect("only a server that was started here is killed");
        if let Some(process) = server.process().take() {
            process.kill();
        }
    }

    /// Starts it again where it was, with what it has on its disk.
    ///
    /// # Panics
    /// When it is somebody else's, or cannot be started.
    pub fn start_again(&self) {
        let server = self.server.as_ref().expect("only a server that was started here is started again");
        let mut process = server.process();
        assert!(process.is_none(), "it runs");
        let started = server.start().unwrap_or_else(|error| panic!("a PostgreSQL again: {}", error.in_full()));
        *process = Some(started);
    }
}

impl Server {
    fn process(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// On the port that it had. The processes that served connections may outlive the one that was killed for a
    /// moment, and while one does PostgreSQL refuses to start.
    fn start(&self) -> Result<Process, Error> {
        let (binaries, user) = (Binaries::find()?, User::to_run_as()?);
        let data = self.folder.path().join("data");
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let process = launch(&binaries, user, &data, self.port, self.durability)?;
            match wait_until_ready(process, &data) {
                Err(_) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(50)),
                started => return started,
            }
        }
    }
}

impl Process {
    fn kill(mut self) {
        // Both fail only for a child that was already waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Process {
    /// The immediate shutdown: nobody wants this data any more.
    fn drop(&mut self) {
        // The number of one that was waited for may be another's by now.
        if let Ok(None) = self.0.try_wait() {
            child::send_signal(&self.0, libc::SIGQUIT);
            let _ = self.0.wait();
        }
    }
}

fn initialise(binaries: &Binaries, user: Option<User>, data: &Path) -> Result<(), Error> {
    std::fs::create_dir(data).map_err(Error::io("make the data folder of the test cluster"))?;
    if let Some(User { uid, gid }) = user {
        std::os::unix::fs::chown(data, Some(uid), Some(gid))
            .map_err(Error::io("give the data folder to the unprivileged user"))?;
    }
    let mut initdb = Command::new(&binaries.initdb);
    initdb.current_dir(data).arg("-D").arg(data);
    initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"]);
    child::run_as(&mut initdb, user);
    let output = initdb.output().map_err(Error::io("run initdb"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(Error::Failed {
        program: binaries.initdb.clone(),
        status: output.status,
        output: String::from_utf8_lossy(&text).into_owned(),
    })
}

fn launch(
    binaries: &Binaries,
    user: Option<User>,
    data: &Path,
    port: u16,
    durability: Durability,
) -> Result<Process, Error> {
    let log = std::fs::File::create(log_file(data)).map_err(Error::io("make the log of the test cluster"))?;
    let mut postgres = Command::new(&binaries.postgres);
    postgres.current_dir(data).arg("-D").arg(data).arg("-p").arg(port.to_string());
    let mut set = |setting: &str| {
        postgres.arg("-c").arg(setting);
    };
    set("listen_addresses=127.0.0.1");
    set("unix_socket_directories=");
    set("max_connections=200");
    set("shared_buffers=64MB");
    set("log_min_messages=warning");
    if durability == Durability::None {
        set("fsync=off");
        set("synchronous_commit=off");
        set("full_page_writes=off");
    }
    postgres.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    child::run_as(&mut postgres, user);
    child::spawn_bound(postgres, libc::SIGQUIT).map(Process).map_err(Error::io("run postgres"))
}

/// PostgreSQL itself says when it is ready, in the eighth line of this file: no connection is needed to ask. One that
/// was killed leaves its file behind; the first line says whose it is.
fn wait_until_ready(mut process: Process, data: &Path) -> Result<Process, Error> {
    let deadline = Instant::now() + START_LIMIT;
    while Instant::now() < deadline {
        let status = std::fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
        let mut lines = status.lines();
        let is_ours = lines.next() == Some(process.0.id().to_string().as_str());
        if is_ours && lines.nth(6).is_some_and(|line| line.trim() == "ready") {
            return Ok(process);
        }
        if process.0.try_wait().map_err(Error::io("ask after postgres"))?.is_some() {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(Error::NotReady { log: std::fs::read_to_string(log_file(data)).unwrap_or_default() })
}

fn log_file(data: &Path) -> std::path::PathBuf {
    data.with_file_name("postgres.log")
}

fn free_port() -> Result<u16, Error> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(Error::io("find a free port"))?;
    Ok(listener.local_addr().map_err(Error::io("find a free port"))?.port())
}

/// A name no other test has: of another thread, another process, or another run against the same server.
fn unique(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("{prefix}_{:x}_{}_{count}", since.as_micros(), std::process::id())
}
