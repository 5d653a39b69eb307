//! A server on what it stands on, the lines between all of them, and the trouble.
//!
//! Owns how trouble is made and healed, what the server said meanwhile, and how much it took. What is wrong with that
//! is decided in `verdict`.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use selkie_e2e::dice::Dice;
use selkie_e2e::line::{Line, Weather};
use selkie_e2e::measured::pss_mib_of;
use selkie_e2e::premises::{Backend, Premises};
use selkie_e2e::program::ServerProcess;
use selkie_e2e::server::without_limits;
use selkie_test_postgres::Cluster;
use tokio::time::sleep;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

use super::plan::{Event, Trouble};
use super::verdict::{Sample, Window};

/// How long after a trouble the server may still complain of it: what waited for an answer hears that there is none.
const AFTERMATH: Duration = Duration::from_millis(1500);

/// Tokens are renewed again and again, in any weather. Connections that nobody uses end soon, so that at the end only
/// those are left that have leaked.
const SETTINGS: &str = "[registration]\npolicy = \"open\"\n\n[sessions]\naccess_token = \"15s\"\n\n\
                        [http]\nkeep_alive = \"5s\"\n";

/// The order matters: the cluster ends last.
#[derive(Debug)]
pub(super) struct Scene {
    pub(super) door: Line,
    server: ServerProcess,
    settings: String,
    variables: Vec<(String, String)>,
    database_line: Option<Line>,
    blobs_line: Option<Line>,
    refusals: Arc<Mutex<Vec<String>>>,
    windows: Vec<Window>,
    /// What servers said that have ended.
    logs: Vec<String>,
    begun: Instant,
    samples: Vec<Sample>,
    premises: Premises,
    cluster: Option<Cluster>,
}

impl Scene {
    pub(super) async fn new(backend: Backend, seed: u64) -> Self {
        let (premises, cluster) = match backend {
            Backend::SqliteAndFiles => (Premises::embedded(), None),
            Backend::PostgresAndS3 => {
                let cluster = Cluster::durable().expect("a PostgreSQL of its own");
                (Premises::in_cluster(&cluster).await, Some(cluster))
            }
        };
        let refusals = Arc::new(Mutex::new(Vec::new()));
        let heard = refusals.clone();
        let ear = move |piece: &[u8]| {
            if let Some(request) = refusal(piece) {
                heard.lock().unwrap_or_else(PoisonError::into_inner).push(request);
            }
        };
        let door = Line::new(Dice::of(seed, 1), ear).await;
        let database_line = match premises.database_address() {
            Some(address) => Some(Line::to(address, Dice::of(seed, 2)).await),
            None => None,
        };
        let blobs_line = match premises.blobs_address() {
            Some(address) => Some(Line::to(address, Dice::of(seed, 3)).await),
            None => None,
        };
        let mut variables = vec![("SELKIE_SERVER__MAX_CONNECTIONS_PER_ADDRESS".to_owned(), "2000".to_owned())];
        variables.extend(
            database_line
                .as_ref()
                .map(|line| ("SELKIE_DATABASE_URL".to_owned(), premises.database_url_through(line.address()))),
        );
        variables.extend(blobs_line.as_ref().map(|line| ("SELKIE_BLOBS__S3__ENDPOINT".to_owned(), line.url())));
        let settings = format!("{SETTINGS}\n{}", without_limits());
        let server = start(&premises, &door, &settings, &variables).await;
        Scene {
            door,
            server,
            settings,
            variables,
            database_line,
            blobs_line,
            refusals,
            windows: Vec::new(),
            logs: Vec::new(),
            begun: Instant::now(),
            samples: Vec::new(),
            premises,
            cluster,
        }
    }

    /// A time of calm, then the trouble, then all is well again.
    pub(super) async fn suffer(&mut self, event: &Event) {
        sleep(event.calm.saturating_sub(AFTERMATH)).await;
        self.take_sample();
        let from = now();
        self.begin(event.trouble).await;
        sleep(event.lasts).await;
        self.heal(event.trouble).await;
        sleep(AFTERMATH).await;
        self.windows.push(Window { trouble: event.trouble, from, until: now() });
    }

    async fn begin(&mut self, trouble: Trouble) {
        let weather = Weather::default();
        match trouble {
            Trouble::ServerKilled => {
                self.server.kill();
                self.logs.push(self.server.log());
            }
            Trouble::DatabaseKilled => self.with_cluster(Cluster::kill),
            Trouble::DiskFull => self.fill_disk().await,
            Trouble::BlobsAway => self.blobs_line().set(Weather { away: true, ..weather }),
            Trouble::Unreachable => self.door.set(Weather { away: true, ..weather }),
            Trouble::Slow => {
                self.door.set(Weather { delay: Duration::from_millis(150), ..weather });
                if let Some(line) = &self.database_line {
                    line.set(Weather { delay: Duration::from_millis(10), ..weather });
                }
            }
            Trouble::Lossy => self.door.set(Weather { lost: 60, delay: Duration::from_millis(20), ..weather }),
            Trouble::CutOff => {
                self.door.set(Weather { cut: 120, ..weather });
                if let Some(line) = &self.database_line {
                    line.set(Weather { cut: 10, ..weather });
                }
            }
        }
    }

    async fn heal(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::ServerKilled => {
                self.server = start(&self.premises, &self.door, &self.settings, &self.variables).await;
            }
            Trouble::DatabaseKilled => self.with_cluster(Cluster::start_again),
            Trouble::DiskFull => self.make_room().await,
            Trouble::BlobsAway => self.blobs_line().clear(),
            Trouble::Unreachable | Trouble::Slow | Trouble::Lossy | Trouble::CutOff => {
                self.door.clear();
                self.database_line.iter().for_each(Line::clear);
            }
        }
    }

    async fn fill_disk(&self) {
        match self.premises.database_url() {
            // As those do who run databases for others: before the disk is full, nothing may be written any more.
            Some(url) => ask_database(&url, READ_ONLY).await,
            None => self.server.let_files_grow_to(Some(half_of_log(&self.premises.data_folder()))),
        }
    }

    async fn make_room(&self) {
        match self.premises.database_url() {
            Some(url) => ask_database(&url, WRITABLE).await,
            None => self.server.let_files_grow_to(None),
        }
    }

    fn with_cluster(&self, what: fn(&Cluster)) {
        let cluster = self.cluster.as_ref().expect("there is a database that can be killed");
        tokio::task::block_in_place(|| what(cluster));
    }

    fn blobs_line(&self) -> &Line {
        self.blobs_line.as_ref().expect("there is a place for blobs apart")
    }

    pub(super) fn take_sample(&mut self) {
        let process = self.server.process_id();
        let (at, pss_mib, files) = (self.begun.elapsed(), pss_mib_of(process), open_files(process));
        self.samples.push(Sample { process, at, pss_mib, files });
    }

    pub(super) fn samples(&self) -> &[Sample] {
        &self.samples
    }

    pub(super) fn windows(&self) -> &[Window] {
        &self.windows
    }

    pub(super) fn open_files(&self) -> usize {
        open_files(self.server.process_id())
    }

    /// Ends the server in good order. What all servers said, and the requests whose answer was that the server failed.
    pub(super) fn end(&mut self) -> (bool, String, Vec<String>) {
        let in_good_order = self.server.stop();
        self.logs.push(self.server.log());
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (in_good_order, self.logs.concat(), refusals)
    }
}

async fn start(premises: &Premises, door: &Line, settings: &str, variables: &[(String, String)]) -> ServerProcess {
    let variables: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let server = ServerProcess::start_as(premises, &door.url(), settings, &variables).await;
    door.lead_to(server.address());
    server
}

/// Existing sessions heed it from their next transaction on.
const READ_ONLY: &[&str] = &["ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"];
const WRITABLE: &[&str] = &["ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"];

async fn ask_database(url: &str, statements: &[&str]) {
    let connected = tokio_postgres::connect(url, tokio_postgres::NoTls).await;
    let (client, connection) = connected.expect("the database is there");
    let driver = tokio::spawn(connection);
    for statement in statements {
        client.batch_execute(statement).await.expect("whoever made the database may");
    }
    driver.abort();
}

/// The log that SQLite writes ahead is what grows with every write. It is written from its beginning again and again;
/// with half of it, it is full at once or very soon.
fn half_of_log(data: &Path) -> u64 {
    let log = std::fs::metadata(data.join("selkie.db-wal")).map_or(0, |log| log.len());
    (log / 2).max(1 << 16)
}

fn open_files(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).expect("it runs").count()
}

/// The request's id, if this is the beginning of an answer that says that the server failed.
fn refusal(piece: &[u8]) -> Option<String> {
    if !piece.starts_with(b"HTTP/1.1 5") {
        return None;
    }
    let head = String::from_utf8_lossy(piece);
    let mut lines = head.lines().take_while(|line| !line.is_empty());
    let id = lines.find_map(|line| line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("x-request-id")));
    Some(id.map_or_else(|| "no id".to_owned(), |(_, id)| id.trim().to_owned()))
}

/// As the server writes it.
fn now() -> String {
    let mut text = String::new();
    SystemTime.format_time(&mut Writer::new(&mut text)).expect("it is after 1970");
    text
}
