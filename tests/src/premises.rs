//! What a server stands on and what stays when it falls: a database, a place for blobs, a folder.
//!
//! Owns the making of both backends, the configuration that names them, and looking into them behind the server's
//! back. Knows nothing about the server's types: it asks the catalogue.

use std::collections::BTreeMap;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use selkie_test_postgres::{Cluster, Database};
use tempfile::TempDir;

use crate::s3::{self, S3};

/// How long a server may take until it has time.
const BLOB_LIMIT: Duration = Duration::from_secs(30);

/// The two ways in which Selkie is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    SqliteAndFiles,
    PostgresAndS3,
}

/// Gone, with all that is in it, when it is dropped.
#[derive(Debug)]
pub struct Premises {
    backend: Backend,
    folder: TempDir,
    database: Option<Database>,
    s3: Option<S3>,
}

/// Every row of every table, as text.
pub type Tables = BTreeMap<String, Vec<String>>;

impl Premises {
    pub async fn new(backend: Backend) -> Self {
        match backend {
            Backend::SqliteAndFiles => Self::embedded(),
            Backend::PostgresAndS3 => Self::in_cluster(Cluster::shared()).await,
        }
    }

    /// A folder and nothing else.
    pub fn embedded() -> Self {
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        Premises { backend: Backend::SqliteAndFiles, folder, database: None, s3: None }
    }

    /// A database of this cluster, and a bucket.
    pub async fn in_cluster(cluster: &Cluster) -> Self {
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let (database, s3) = (Some(cluster.database(None)), Some(S3::start().await));
        Premises { backend: Backend::PostgresAndS3, folder, database, s3 }
    }

    /// A second world: everything as it is at this moment, to be changed apart. The server must be at rest, and
    /// embedded.
    pub fn copy(&self) -> Self {
        assert_eq!(self.backend, Backend::SqliteAndFiles, "only an embedded server is a folder");
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        copy_folder(&self.data_folder(), &folder.path().join("data"));
        Premises { backend: self.backend, folder, database: None, s3: None }
    }

    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Where an embedded server keeps everything, and any server its key.
    pub fn data_folder(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Writes a configuration file for a server here, and says where it is. `more` is TOML that goes behind it.
    pub fn write_config(&self, listen: &str, public_url: &str, more: &str) -> PathBuf {
        let data = self.data_folder();
        let mut text = format!(
            "[server]\nlisten = {listen:?}\npublic_url = {public_url:?}\nworkers = 2\n\n[data]\ndir = {data:?}\n\n"
        );
        if let (Some(database), Some(s3)) = (&self.database, &self.s3) {
            // A server on Postgres makes no key of its own.
            let key = self.folder.path().join("master.key");
            write_private(&key, &"5e".repeat(32));
            text += &format!(
                "[database]\nurl = {:?}\npool_size = 6\n\n[master_key]\nkey_file = {key:?}\n\n[blobs]\nkind = \"s3\"\n\n\
                 [blobs.s3]\nbucket = {:?}\nendpoint = {:?}\naccess_key = {:?}\nsecret_key = {:?}\n\n",
                database.url(),
                s3::BUCKET,
                s3.endpoint(),
                s3::ACCESS_KEY,
                s3::SECRET_KEY,
            );
        }
        text += more;
        let path = self.folder.path().join("config.toml");
        write_private(&path, &text);
        path
    }

    /// PostgreSQL's URL, if that is where the rows are.
    pub fn database_url(&self) -> Option<String> {
        self.database.as_ref().map(Database::url)
    }

    /// Where PostgreSQL listens, if that is where the rows are.
    pub fn database_address(&self) -> Option<SocketAddr> {
        let url = url::Url::parse(&self.database.as_ref()?.url()).expect("the test database has a URL");
        let host = url.host_str().expect("the test database has a host");
        let address = (host, url.port().unwrap_or(5432)).to_socket_addrs().expect("the host has an address").next();
        Some(address.expect("the host has an address"))
    }

    /// Where S3 listens, if that is where the blobs are.
    pub fn blobs_address(&self) -> Option<SocketAddr> {
        self.s3.as_ref().map(S3::address)
    }

    /// The database's URL for who goes by way of another address.
    pub fn database_url_through(&self, address: SocketAddr) -> String {
        let database = self.database.as_ref().expect("only PostgreSQL has a URL");
        let mut url = url::Url::parse(&database.url()).expect("the test database has a URL");
        url.set_ip_host(address.ip()).expect("the URL has a host");
        url.set_port(Some(address.port())).expect("the URL has a port");
        url.into()
    }

    /// Everything the database holds, read behind the server's back.
    pub async fn tables(&self) -> Tables {
        match &self.database {
            Some(database) => postgres_tables(&database.url()).await,
            None => {
                let file = self.data_folder().join("selkie.db");
                tokio::task::spawn_blocking(move || sqlite_tables(&file)).await.expect("reading does not panic")
            }
        }
    }

    /// Where the objects lie that S3 keeps, if that is where the blobs are.
    pub fn bucket(&self) -> Option<&Path> {
        self.s3.as_ref().map(S3::folder)
    }

    /// Has PostgreSQL write into its files what it has in memory. SQLite keeps nothing back.
    pub async fn checkpoint(&self) {
        let Some(database) = &self.database else { return };
        let connected = tokio_postgres::connect(&database.url(), tokio_postgres::NoTls).await;
        let (client, connection) = connected.expect("the test database is there");
        let driver = tokio::spawn(connection);
        client.batch_execute("CHECKPOINT").await.expect("whoever made the database may");
        drop(client);
        driver.await.expect("the connection does not panic").expect("the connection ends in peace");
    }

    /// The names of all blobs.
    pub fn blobs(&self) -> Vec<String> {
        match &self.s3 {
            Some(s3) => s3.objects(),
            None => {
                let root = self.data_folder().join("blobs");
                let mut found = Vec::new();
                s3::collect_files(&root, &root, &mut found);
                found
            }
        }
    }

    /// Returns when there is a blob: a server writes some when it has time.
    pub async fn hold_a_blob(&self) {
        let deadline = Instant::now() + BLOB_LIMIT;
        while self.blobs().is_empty() {
            assert!(Instant::now() < deadline, "no blob was written");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The server refuses secrets that others could read.
fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).expect("the folder is ours");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).expect("the file is ours");
}

fn copy_folder(from: &Path, to: &Path) {
    // With its permissions: the server looks at them.
    std::fs::create_dir(to).expect("the folder is ours");
    let permissions = std::fs::metadata(from).expect("the folder is there").permissions();
    std::fs::set_permissions(to, permissions).expect("the folder is ours");
    for entry in std::fs::read_dir(from).expect("the folder is there") {
        let entry = entry.expect("the folder can be read");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("there is room for a copy");
        }
    }
}

async fn postgres_tables(url: &str) -> Tables {
    let (client, connection) =
        tokio_postgres::connect(url, tokio_postgres::NoTls).await.expect("the test database is there");
    let driver = tokio::spawn(connection);
    let names = "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables \
                 WHERE schemaname NOT IN ('pg_catalog', 'information_schema')";
    let mut tables = Tables::new();
    for row in client.query(names, &[]).await.expect("the catalogue can be read") {
        let table: String = row.get(0);
        let rows = client.query(&format!("SELECT t::text FROM {table} AS t"), &[]).await.expect("a table can be read");
        tables.insert(bare_name(&table), rows.iter().map(|row| row.get(0)).collect());
    }
    drop(client);
    driver.await.expect("the connection does not panic").expect("the connection ends in peace");
    tables
}

fn bare_name(table: &str) -> String {
    table.rsplit('.').next().unwrap_or(table).trim_matches('"').to_owned()
}

fn sqlite_tables(file: &Path) -> Tables {
    use diesel::{Connection, RunQueryDsl, SqliteConnection, sql_query};

    let path = file.to_str().expect("a temporary path is text");
    let mut connection = SqliteConnection::establish(path).expect("the database is there");
    let mut ask = |query: String| -> Vec<String> {
        let rows: Vec<Text> = sql_query(query).load(&mut connection).expect("the database can be read");
        rows.into_iter().map(|row| row.text).collect()
    };
    let names = ask("SELECT name AS text FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'".into());
    let mut tables = Tables::new();
    for table in names {
        let columns = ask(format!("SELECT name AS text FROM pragma_table_info('{table}')"));
        let row: Vec<String> = columns.iter().map(|column| format!("quote({column:?})")).collect();
        let rows = ask(format!("SELECT {} AS text FROM {table:?}", row.join(" || ',' || ")));
        tables.insert(table, rows);
    }
    tables
}

#[derive(diesel::QueryableByName)]
struct Text {
    #[diesel(sql_type = diesel::sql_types::Text)]
    text: String,
}
