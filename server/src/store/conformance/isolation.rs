//! The second wall between tenants, asked of PostgreSQL directly: what the application role sees and may do.

use super::catalogue::{TENANT_TABLES, connect};
use super::scribe::vault_with_everything;
use super::*;
use crate::store::*;

/// A database in which two tenants have a row in every table, and a connection to it as the application role.
async fn two_tenants(house: &House) -> (tokio_postgres::Client, [Tenant; 2]) {
    let tenants = [house.home, house.tenant("other", "home").await];
    for tenant in tenants {
        house.create_invitation(tenant, invitation(1, 1), audit("invited")).await.unwrap();
        let account = house.register(tenant, registration(1)).await.unwrap();
        let on = Some(device_id(1));
        house.open_session(tenant, session(1, account, on), audit("signed_in")).await.unwrap();
        let factor = house.begin_factor(tenant, account, FactorKind::Totp, vec![1], NOW).await.unwrap();
        house.confirm_factor(tenant, account, factor, 1, vec![[1; 32]], audit("totp_on")).await.unwrap();
        let link = NewLink { channel: channel(1), account, offer: vec![1], expires_at: NOW + MINUTE };
        house.open_link(tenant, link).await.unwrap();
        let login = login_id(1);
        let purpose = LoginPurpose::Password;
        let sealed = vec![1];
        let state = LoginStateRow { login, account: None, purpose, sealed, expires_at: NOW + MINUTE, attempts: 0 };
        house.put_login_state(tenant, state).await.unwrap();
        vault_with_everything(&*house.store, tenant, account).await;
        house.count_failure(tenant, None, FailureKind::SignIn, audit("sign_in_failed")).await.unwrap();
    }
    let client = connect(&house.url).await;
    for table in TENANT_TABLES {
        let both: i64 = count(&client, &format!("SELECT count(DISTINCT tenant) FROM {table}")).await;
        assert_eq!(both, 2, "{table} has rows of both, seen by whoever is above the law");
    }
    client.batch_execute("SET ROLE selkie_app").await.unwrap();
    (client, tenants)
}

async fn count(client: &tokio_postgres::Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.unwrap().get(0)
}

async fn name(client: &tokio_postgres::Client, Tenant(tenant): Tenant) {
    client.execute("SELECT set_config('selkie.tenants', $1, true)", &[&format!("{{{tenant}}}")]).await.unwrap();
}

#[tokio::test]
async fn without_a_tenant_there_is_not_a_single_row() {
    let house = House::on_postgres().await;
    let (client, tenants) = two_tenants(&house).await;
    for table in TENANT_TABLES {
        assert_eq!(count(&client, &format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
    // A transaction's setting ends with it; what is left is an empty one, which must not be an error either.
    client.batch_execute("BEGIN").await.unwrap();
    name(&client, tenants[0]).await;
    assert_eq!(count(&client, "SELECT count(*) FROM accounts").await, 1);
    client.batch_execute("COMMIT").await.unwrap();
    for table in TENANT_TABLES {
        assert_eq!(count(&client, &format!("SELECT count(*) FROM {table}")).await, 0, "{table}");
    }
}

#[tokio::test]
async fn one_tenant_cannot_read_change_remove_or_become_another() {
    let house = House::on_postgres().await;
    let (client, [home, other]) = two_tenants(&house).await;
    client.batch_execute("BEGIN").await.unwrap();
    name(&client, home).await;
    for table in TENANT_TABLES {
        let seen = count(&client, &format!("SELECT count(DISTINCT tenant) FROM {table}")).await;
        assert_eq!(seen, 1, "{table}");
        let strange = count(&client, &format!("SELECT count(*) FROM {table} WHERE tenant = {}", other.0)).await;
        assert_eq!(strange, 0, "{table}");
        for sql in [
            format!("UPDATE {table} SET tenant = tenant WHERE tenant = {}", other.0),
            format!("DELETE FROM {table} WHERE tenant = {}", other.0),
        ] {
            assert_eq!(attempt(&client, &sql).await.unwrap_or_default(), 0, "{sql}");
        }
        for sql in [
            format!(
                "INSERT INTO {table} SELECT (jsonb_populate_record(t, '{{\"tenant\": {}}}')).* FROM {table} t",
                other.0
            ),
            format!("UPDATE {table} SET tenant = {}", other.0),
        ] {
            let error = attempt(&client, &sql).await.expect_err(&sql);
            let denied = error.contains("violates row-level security policy") || error.contains("permission denied");
            assert!(denied, "{sql}: {error}");
        }
    }
}

#[tokio::test]
async fn nobody_may_rewrite_the_audit_log() {
    let house = House::on_postgres().await;
    let (client, [home, _]) = two_tenants(&house).await;
    client.batch_execute("BEGIN").await.unwrap();
    name(&client, home).await;
    for sql in ["UPDATE audit_log SET at = 0", "DELETE FROM audit_log", "TRUNCATE audit_log"] {
        let error = attempt(&client, sql).await.expect_err(sql);
        assert!(error.contains("permission denied"), "{sql}: {error}");
    }
}

#[tokio::test]
async fn the_application_role_cannot_lift_the_law() {
    let house = House::on_postgres().await;
    let (client, _) = two_tenants(&house).await;
    client.batch_execute("BEGIN").await.unwrap();
    for sql in [
        "ALTER TABLE accounts DISABLE ROW LEVEL SECURITY",
        "DROP POLICY tenant_select ON accounts",
        "CREATE TABLE of_my_own (x int)",
        "UPDATE plans SET max_accounts = NULL",
        "DELETE FROM tenants",
        "UPDATE server_meta SET created_at = 0",
        "UPDATE server_meta SET master_key_fingerprint = '\\x00'",
        "UPDATE plans SET max_bytes = NULL",
        "ALTER TABLE vault_entries DISABLE ROW LEVEL SECURITY",
        "ALTER TABLE vaults DISABLE TRIGGER ALL",
        "DELETE FROM opaque_setup",
    ] {
        attempt(&client, sql).await.expect_err(sql);
    }
    let above = "SELECT count(*) FROM pg_roles WHERE rolname = 'selkie_app'
        AND (rolsuper OR rolbypassrls OR rolcreaterole OR rolcreatedb OR rolcanlogin)";
    assert_eq!(count(&client, above).await, 0);
}

/// Rows that a statement touched, or why it may not; either way the transaction goes on as if it had not been.
async fn attempt(client: &tokio_postgres::Client, sql: &str) -> std::result::Result<u64, String> {
    client.batch_execute("SAVEPOINT attempt").await.unwrap();
    let result = client.execute(sql, &[]).await;
    client.batch_execute("ROLLBACK TO attempt").await.unwrap();
    result.map_err(|error| error.as_db_error().map_or(error.to_string(), |error| error.message().to_owned()))
}

/// The store itself works as that role; the other tests would prove nothing if it did not.
#[tokio::test]
async fn the_store_works_as_the_application_role() {
    let house = House::on_postgres().await;
    house.ping().await.unwrap();
    let client = connect(&house.url).await;
    let own = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'selkie-server'
        AND datname = current_database()";
    assert!(count(&client, own).await > 0);
    let rows = client
        .query("SELECT pg_get_userbyid(relowner)::text FROM pg_class WHERE relname = 'accounts'", &[])
        .await
        .unwrap();
    assert_ne!(rows[0].get::<_, String>(0), "selkie_app");
}

#[tokio::test]
async fn whether_the_wall_stands_for_the_server_can_be_asked() {
    let house = House::on_postgres().await;
    let stands = Wall::Stands { role: "selkie_app".into() };
    assert_eq!(wall(&house.url, &Options::default()).await.unwrap(), stands);
    let as_whoever_signs_in = Options { role: None, ..Options::default() };
    assert!(matches!(wall(&house.url, &as_whoever_signs_in).await.unwrap(), Wall::Missing { .. }));
    let house = House::on_sqlite().await;
    assert_eq!(wall(&house.url, &Options::default()).await.unwrap(), Wall::Never);
}
