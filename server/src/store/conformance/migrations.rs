//! The schema goes up, down and up again, once, and never backwards under an older server.

use super::catalogue::connect;
use super::house::{House, migrated_database};
use super::people::*;
use crate::store::*;
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, SqliteConnection};
use selkie_test_postgres::Cluster;
use std::os::unix::fs::PermissionsExt as _;
use tokio::runtime::Handle;

const NAMES: [&str; 5] = [
    "00000000000001_accounts",
    "00000000000002_vaults",
    "00000000000003_plans",
    "00000000000004_restored",
    "00000000000005_removed",
];
const FROM_THE_FUTURE: &str = "INSERT INTO __diesel_schema_migrations (version) VALUES ('99999999999999')";

fn file_url(folder: &tempfile::TempDir) -> String {
    format!("sqlite:{}", folder.path().join("data/selkie.db").display())
}

fn execute_on_sqlite(url: &str, sql: &str) {
    let file = url.strip_prefix("sqlite:").unwrap();
    SqliteConnection::establish(file).unwrap().batch_execute(sql).unwrap();
}

async fn up_down_and_up(url: &str) {
    let behind = |from: usize| SchemaState::Behind(NAMES[from..].iter().map(|name| (*name).into()).collect());
    assert_eq!(state(url).await.unwrap(), behind(0));
    let refused = open(url, Options::default(), Handle::current()).await.err().unwrap();
    assert!(matches!(refused, OpenError::Behind(names) if names == NAMES));
    assert_eq!(revert(url).await.unwrap(), None);
    for _ in 0..2 {
        assert_eq!(migrate(url).await.unwrap(), NAMES);
        assert_eq!(migrate(url).await.unwrap(), [""; 0], "once is enough");
        assert_eq!(state(url).await.unwrap(), SchemaState::Current);
        for (applied, name) in NAMES.iter().enumerate().rev() {
            assert_eq!(revert(url).await.unwrap().as_deref(), Some(*name));
            assert_eq!(state(url).await.unwrap(), behind(applied));
        }
        // The newest alone, as an update of a server does it.
        migrate(url).await.unwrap();
        revert(url).await.unwrap();
        assert_eq!(migrate(url).await.unwrap(), NAMES[NAMES.len() - 1..]);
        while revert(url).await.unwrap().is_some() {}
    }
    migrate(url).await.unwrap();
}

async fn expect_refusal(url: &str) {
    let newer = "99999999999999";
    assert_eq!(state(url).await.unwrap(), SchemaState::Newer(newer.into()));
    let refused = open(url, Options::default(), Handle::current()).await.err().unwrap();
    assert!(matches!(refused, OpenError::Newer(version) if version == newer));
    assert!(matches!(migrate(url).await, Err(OpenError::Newer(version)) if version == newer));
    assert!(matches!(revert(url).await, Err(OpenError::Newer(version)) if version == newer));
}

#[tokio::test]
async fn on_sqlite_the_schema_goes_up_down_and_up() {
    let folder = tempfile::tempdir().unwrap();
    up_down_and_up(&file_url(&folder)).await;
}

#[tokio::test]
async fn on_postgres_the_schema_goes_up_down_and_up() {
    let database = tokio::task::spawn_blocking(|| Cluster::shared().database(None)).await.unwrap();
    up_down_and_up(&database.url()).await;
    let client = connect(&database.url()).await;
    let left = "SELECT (SELECT count(*) FROM pg_tables WHERE schemaname = 'public')
        + (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace)";
    while revert(&database.url()).await.unwrap().is_some() {}
    assert_eq!(client.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 1, "only the migrations' own table stays");
}

#[tokio::test]
async fn asking_for_the_state_makes_no_file() {
    let folder = tempfile::tempdir().unwrap();
    state(&file_url(&folder)).await.unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_new_file_belongs_to_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let url = file_url(&folder);
    migrate(&url).await.unwrap();
    let store = open(&url, Options::default(), Handle::current()).await.unwrap();
    store.create_tenant(super::house::tenant("home", "home")).await.unwrap();
    let mode = |path: &str| std::fs::metadata(folder.path().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("data"), 0o700);
    for file in ["selkie.db", "selkie.db-wal", "selkie.db-shm"] {
        assert_eq!(mode(&format!("data/{file}")), 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_newer_schema_is_refused_on_sqlite() {
    let house = House::on_sqlite().await;
    house.close().await;
    execute_on_sqlite(&house.url, FROM_THE_FUTURE);
    expect_refusal(&house.url).await;
}

#[tokio::test]
async fn a_newer_schema_is_refused_on_postgres() {
    let database = tokio::task::spawn_blocking(migrated_database).await.unwrap();
    connect(&database.url()).await.batch_execute(FROM_THE_FUTURE).await.unwrap();
    expect_refusal(&database.url()).await;
}

#[tokio::test]
async fn servers_that_start_together_migrate_once() {
    let folder = tempfile::tempdir().unwrap();
    let database = tokio::task::spawn_blocking(|| Cluster::shared().database(None)).await.unwrap();
    for url in [file_url(&folder), database.url()] {
        let ran = futures_util::future::join_all((0..4).map(|_| migrate(&url))).await;
        let ran: Vec<String> = ran.into_iter().flat_map(Result::unwrap).collect();
        assert_eq!(ran, NAMES, "{}", url.split(':').next().unwrap());
    }
}

/// As in production where one role migrates and another runs the server.
#[tokio::test]
async fn a_role_that_may_only_become_the_application_role_can_run_the_server() {
    let database = tokio::task::spawn_blocking(migrated_database).await.unwrap();
    let role = format!("runs_{}", database.name());
    let client = connect(&database.url()).await;
    client.batch_execute(&format!("CREATE ROLE {role} LOGIN NOINHERIT; GRANT selkie_app TO {role}")).await.unwrap();
    let url = database.url_as(&role);
    let store = open(&url, Options::default(), Handle::current()).await.unwrap();
    let tenant = store.create_tenant(super::house::tenant("home", "home")).await.unwrap().tenant;
    store.add_opaque_setup(SealedKey { id: 1, sealed: vec![1], created_at: NOW }).await.unwrap();
    store.register(tenant, registration(1)).await.unwrap();
    store.close().await;
    drop(store);
    client.batch_execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
}

/// An owner that may make roles, and a login of the server's that nobody has told anything.
#[tokio::test]
async fn migrating_lets_the_servers_login_work_or_says_what_to_run() {
    let database = tokio::task::spawn_blocking(|| Cluster::shared().database(None)).await.unwrap();
    let (owner, login) = (format!("owns_{}", database.name()), format!("works_{}", database.name()));
    let client = connect(&database.url()).await;
    let roles = format!(
        "CREATE ROLE {owner} LOGIN; CREATE ROLE {login} LOGIN; GRANT ALL ON DATABASE {} TO {owner};
         GRANT ALL ON SCHEMA public TO {owner}",
        database.name()
    );
    client.batch_execute(&roles).await.unwrap();
    let (url, migration_url) = (database.url_as(&login), database.url_as(&owner));
    let options = Options::default();
    assert_eq!(wall(&url, &options).await.unwrap(), Wall::Never, "there are no tables");
    migrate(&migration_url).await.unwrap();
    // Not every owner may give roles away.
    let sql = let_work(&url, &migration_url).await.unwrap().expect("nobody may grant anything");
    assert!(sql.ends_with(&format!("GRANT selkie_app TO \"{login}\";")), "{sql}");
    let shut = wall(&url, &options).await.unwrap();
    assert!(matches!(&shut, Wall::Shut { login: found, .. } if *found == login), "{shut:?}");
    assert!(matches!(open(&url, options.clone(), Handle::current()).await, Err(OpenError::NoMember { .. })));
    let owned = wall(&migration_url, &options).await.unwrap();
    assert!(matches!(&owned, Wall::Owner { role, .. } if *role == owner), "{owned:?}");
    // With the right to, the owner does it itself, rights that came too late included.
    let rights = format!(
        "REVOKE ALL ON ALL TABLES IN SCHEMA public FROM selkie_app;
         REVOKE USAGE ON SCHEMA public FROM selkie_app; ALTER ROLE {owner} CREATEROLE"
    );
    client.batch_execute(&rights).await.unwrap();
    assert_eq!(let_work(&url, &migration_url).await.unwrap(), None);
    assert_eq!(let_work(&url, &migration_url).await.unwrap(), None, "once is enough");
    assert_eq!(wall(&url, &options).await.unwrap(), Wall::Stands { role: "selkie_app".into() });
    let store = open(&url, options, Handle::current()).await.unwrap();
    let tenant = store.create_tenant(super::house::tenant("home", "home")).await.unwrap().tenant;
    store.add_opaque_setup(SealedKey { id: 1, sealed: vec![1], created_at: NOW }).await.unwrap();
    let account = store.register(tenant, registration(1)).await.unwrap();
    store.delete_account(tenant, account, audit("deleted")).await.unwrap();
    store.sweep(NOW, 0).await.unwrap();
    store.close().await;
    drop(store);
    let tidy = format!("DROP OWNED BY {login}; DROP ROLE {login}; DROP OWNED BY {owner} CASCADE; DROP ROLE {owner}");
    client.batch_execute(&tidy).await.unwrap();
}

#[tokio::test]
async fn a_second_process_may_write_to_the_same_file() {
    let house = House::on_sqlite().await;
    let command_line = open(&house.url, Options::default(), Handle::current()).await.unwrap();
    let writes = (0..40).map(|n| {
        let store = if n % 2 == 0 { &house.store } else { &command_line };
        store.register(house.home, registration(n))
    });
    for result in futures_util::future::join_all(writes).await {
        result.unwrap();
    }
    assert_eq!(house.tenant_by_slug("home").await.unwrap().unwrap().accounts, 40);
    assert_eq!(command_line.verify_audit(house.home).await.unwrap(), None);
}

#[tokio::test]
async fn a_database_that_is_not_there_is_unavailable() {
    let gone = open("postgres://nobody@127.0.0.1:1/selkie", Options::default(), Handle::current()).await;
    assert!(matches!(gone.err().unwrap(), OpenError::Store(StoreError::Unavailable(_))));
}
