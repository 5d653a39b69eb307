//! What is left of an account when it is gone: asked of the catalogue, of every table and of every file.

use std::time::Duration;

use selkie_client::{AccountState, Error, SignIn};
use selkie_e2e::canary::Canaries;
use selkie_e2e::on_both_backends;
use selkie_e2e::premises::{Backend, Tables};
use selkie_e2e::server::TestServer;
use selkie_e2e::totp;
use selkie_protocol::Face;

const ANA: &str = "ana@deleted.example.org";
const PASSWORD: &str = "seven silver swans sail";
const EIGHT_DAYS: Duration = Duration::from_secs(8 * 24 * 3600);

on_both_backends! {
    async fn a_deleted_account_leaves_no_row_and_no_file(backend: Backend) {
        let server = TestServer::start(backend).await;
        // Somebody else stays, and keeps all that is theirs.
        let (_, bo) = server.device("other").makes_an_account("bo@example.org", PASSWORD).await;
        server.put_a_blob_for("bo@example.org", "kept").await;
        server.sweep().await;
        let before = server.premises().tables().await;
        assert!(before.len() > 15, "the catalogue lists {} tables only", before.len());

        // Something of everything that an account can have.
        let (laptop, phone) = (server.device("laptop"), server.device("phone"));
        let (ana, account) = laptop.makes_an_account(ANA, PASSWORD).await;
        let second = phone.is_linked_by(&account, PASSWORD).await.unwrap();
        let _still_open = account.link_device().await.unwrap();
        let tablet = server.device("tablet").signs_in(&ana).await.unwrap().account;
        account.revoke(&tablet.device_id(), PASSWORD).await.unwrap();
        let secret = account.enable_totp(PASSWORD).await.unwrap();
        account.confirm_totp(&totp::code(secret.secret.as_str(), server.clock().now_ms())).await.unwrap();
        server.put_a_blob_for(ANA, "forgotten").await;
        // A sign-in that nobody finishes: without the Secret Key it cannot be.
        assert_eq!(server.caller(Face::Cbor).sign_in(ANA, PASSWORD).await, Err(None));
        // And one that fails at the second factor.
        server.device("stranger").signs_in_with_code(&ana, Some("000000")).await.unwrap_err();
        let traces = traces_of(&server, &account).await;
        let devices = [&account, &second, &tablet].into_iter().fold(Canaries::default(), |devices, account| {
            devices.bytes("a device's id", account.device_id().as_bytes())
        });
        let present = server.premises().tables().await;
        assert!(traces.find_in(text_of(&present).as_bytes()).is_some());
        let untouched: Vec<&String> = before.keys().filter(|table| present[*table] == before[*table]).collect();
        let never_an_accounts = ["server_meta", "plans", "opaque_setup", "signing_keys", "invitations"];
        assert!(untouched.iter().all(|table| is_bookkeeping(table) || is_of_vaults(table)
                || never_an_accounts.contains(&table.as_str())),
            "this story puts nothing into {untouched:?}");

        server.clock().advance(Duration::from_secs(31));
        let code = totp::code(secret.secret.as_str(), server.clock().now_ms());
        account.delete_account(selkie_client::PasswordProof::new(PASSWORD).with_code(&code)).await.unwrap();
        assert_eq!(server.remove_what_is_due().await, 0);
        server.clock().advance(EIGHT_DAYS);
        assert_eq!(server.remove_what_is_due().await, 1);
        server.sweep().await;

        let after = server.premises().tables().await;
        for (table, rows) in &after {
            if table == "audit_log" || table == "audit_head" || table == "tenants" || table == "sessions" {
                continue;
            }
            assert_eq!(rows.len(), before[table].len(), "{table} has kept something: {rows:#?}");
        }
        assert!(after["sessions"].len() <= before["sessions"].len());
        traces.assert_absent_from("the database", text_of(&after).as_bytes());
        // The audit log stays, under a name that means nothing. It says which device did what, and no more whose it
        // was.
        let but_the_audit_log = after.into_iter().filter(|(table, _)| table != "audit_log").collect();
        devices.assert_absent_from("the database", text_of(&but_the_audit_log).as_bytes());
        let blobs = server.premises().blobs();
        assert_eq!(blobs.len(), 1, "{blobs:?}");
        assert!(blobs[0].contains("kept"), "{blobs:?}");

        // The name is free again, and nobody is let in as before.
        let refused = laptop.sign_in(ANA, PASSWORD, ana.sheet.secret_key(), SignIn::default()).await;
        assert!(matches!(refused, Err(Error::WrongCredentials)), "{refused:?}");
        server.device("new").makes_an_account(ANA, PASSWORD).await;
        bo.devices().await.unwrap();
    }

    async fn an_account_can_be_kept_until_the_last_day(backend: Backend) {
        let server = TestServer::start(backend).await;
        let laptop = server.device("laptop");
        let (ana, account) = laptop.makes_an_account(ANA, PASSWORD).await;
        account.delete_account(PASSWORD).await.unwrap();
        assert_eq!(account.standing().await.unwrap().state, AccountState::Deleting);
        server.clock().advance(Duration::from_secs(6 * 24 * 3600));
        let back = server.device("phone").signs_in(&ana).await.unwrap().account;
        back.keep_account().await.unwrap();
        server.clock().advance(EIGHT_DAYS);
        assert_eq!(server.remove_what_is_due().await, 0);
        assert_eq!(account.standing().await.unwrap().state, AccountState::Active);
    }
}

/// SQLite leaves what was deleted in its file until something is written over it. Not here.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_account_leaves_no_bytes_in_the_file_either() {
    let server = TestServer::start(Backend::SqliteAndFiles).await;
    let laptop = server.device("laptop");
    let (_, account) = laptop.makes_an_account(ANA, PASSWORD).await;
    let traces = traces_of(&server, &account).await;
    account.delete_account(PASSWORD).await.unwrap();
    server.clock().advance(EIGHT_DAYS);
    assert_eq!(server.remove_what_is_due().await, 1);
    let premises = server.stop().await;
    for file in ["selkie.db", "selkie.db-wal", "selkie.db-shm"] {
        let bytes = std::fs::read(premises.data_folder().join(file)).unwrap_or_default();
        traces.assert_absent_from(file, &bytes);
    }
}

/// Everything by which the account could be known again.
async fn traces_of(server: &TestServer, account: &selkie_client::Account) -> Canaries {
    Canaries::default()
        .text("the login name", ANA)
        .bytes("the person's id", account.user_id().as_bytes())
        .bytes("the account's UUID", server.uuid_of(ANA).await.as_bytes())
}

/// Rows that count and order, and name nobody.
fn is_bookkeeping(table: &str) -> bool {
    table.contains("schema_migrations")
}

/// Nothing at the doors makes a vault yet: the store's own stories hold these tables to the same.
fn is_of_vaults(table: &str) -> bool {
    table.starts_with("vault") || table.starts_with("departed")
}

fn text_of(tables: &Tables) -> String {
    tables.values().flatten().map(|row| format!("{row}\n")).collect()
}
