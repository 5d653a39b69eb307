//! What must not be in a log, at the most talkative level there is.

use std::collections::BTreeSet;
use std::io::Write;
use std::sync::{Arc, Mutex};

use selkie_client::Account;
use selkie_e2e::canary::Canaries;
use selkie_e2e::device::Device;
use selkie_e2e::message::header;
use selkie_e2e::network::Network;
use selkie_e2e::on_both_backends;
use selkie_e2e::premises::Premises;
use selkie_e2e::program::ServerProcess;
use selkie_protocol::session::{LoginStart, Refresh, RegisterFinish};

const ANA: &str = "ana@secret.example.org";
const PASSWORD: &str = "seven silver swans sail";
const VAULT: &str = "Letters to the editor";
const COLLECTION: &str = "unsent-letters";
const CONTENT: &str = "what nobody was to read";
/// Where Ana is, as a proxy that the server trusts reports it.
const ADDRESS: &str = "203.0.113.77";

on_both_backends! {
    async fn mal_074_no_log_says_who_where_or_what_at_any_level(backend: Backend) {
        let premises = Premises::new(backend).await;
        let network = Network::new().await;
        let settings = "[registration]\npolicy = \"open\"\n";
        let variables = [("SELKIE_LOG__LEVEL", "trace"), ("SELKIE_SERVER__TRUSTED_PROXIES", "[\"127.0.0.1\"]")];
        let server = ServerProcess::start(&premises, &network, settings, &variables).await;
        network.behave(|mut request, server| async move {
            request.headers.push(("x-forwarded-for".into(), ADDRESS.as_bytes().to_vec()));
            server.answer(&request).await
        });

        let sdk_log = Log::default();
        let secrets = {
            let subscriber = tracing_subscriber::fmt()
                .with_max_level(tracing::Level::TRACE)
                .with_writer(sdk_log.clone())
                .finish();
            // This thread alone, and the whole story happens on it: other tests are not listened to.
            let folder = tokio::task::spawn_blocking(move || {
                let _listening = tracing::subscriber::set_default(subscriber);
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(a_whole_life(&network))
            });
            folder.await.unwrap()
        };
        let server_log = server.log();
        assert!(server_log.contains("/v1/account/password/finish"), "a server says more than {server_log}");
        assert!(sdk_log.text().len() > 1000, "an SDK at trace level says more than {}", sdk_log.text());
        secrets.assert_absent_from("the server's log", server_log.as_bytes());
        secrets.assert_absent_from("the SDK's log", sdk_log.text().as_bytes());
    }
}

/// Writes, shares with the other device, collides, rotates; returns everything as it is printed for debugging.
async fn a_life_with_vaults(phone: &Device, account: &Account) -> Vec<u8> {
    let vault = account.create_vault(VAULT, "org.example.notes").await.unwrap();
    let id = vault.new_record_id();
    vault.put(COLLECTION, id, CONTENT.as_bytes()).await.unwrap();
    account.sync().await.unwrap();
    let on_phone = phone.account(ANA).await.unwrap().unwrap();
    on_phone.sync().await.unwrap();
    let there = on_phone.vault(VAULT).await.unwrap().unwrap();
    there.put(COLLECTION, id, format!("{CONTENT} again").as_bytes()).await.unwrap();
    vault.put(COLLECTION, id, format!("{CONTENT} at once").as_bytes()).await.unwrap();
    for _ in 0..2 {
        account.sync().await.unwrap();
        on_phone.sync().await.unwrap();
    }
    vault.rotate().await.unwrap();
    let (record, history) = (vault.get(id).await.unwrap(), vault.history(id).await.unwrap());
    let (status, members) = (vault.status().await.unwrap(), vault.members().await.unwrap());
    format!("{phone:?} {account:?} {vault:?} {record:?} {history:?} {status:?} {members:?}").into_bytes()
}

/// Lives it, right and wrong, and returns everything that came up and is nobody's business.
async fn a_whole_life(network: &Network) -> Canaries {
    let (laptop, phone) = (Device::new(&network.url(), "laptop of Ana"), Device::new(&network.url(), "phone of Ana"));
    let (ana, account) = laptop.makes_an_account(ANA, PASSWORD).await;
    phone.is_linked_by(&account, PASSWORD).await.unwrap();
    let wrong = selkie_e2e::device::Person { password: "a wrong password".into(), ..ana.clone() };
    phone.signs_in(&wrong).await.unwrap_err();
    let printed = a_life_with_vaults(&phone, &account).await;
    ana.secrets()
        .text("a content", CONTENT)
        .text("a vault's name", VAULT)
        .assert_absent_from("what is printed", &printed);
    laptop.clock().shift(16 * 60_000);
    account.devices().await.unwrap();
    let secret = account.enable_totp(PASSWORD).await.unwrap();
    account.change_password(PASSWORD, "eight golden geese graze", false).await.unwrap();
    let (recovered, again) = phone.recovers(&ana, "nine bronze bears bathe").await.unwrap();
    again.account.delete_account(recovered.password.as_str()).await.unwrap();

    let mut canaries = ana.secrets();
    for (name, secret) in [
        ("the login name", ANA),
        ("the address", ADDRESS),
        ("a wrong password", "a wrong password"),
        ("the changed password", "eight golden geese graze"),
        ("the new password", &recovered.password),
        ("the new recovery key", recovered.sheet.recovery_key()),
        ("the secret of the authenticator", secret.secret.as_str()),
        ("a device's name", "laptop of Ana"),
        ("a vault's name", VAULT),
        ("a collection", COLLECTION),
        ("a content", CONTENT),
    ] {
        canaries = canaries.text(name, secret);
    }
    let mut tokens = BTreeSet::new();
    for exchange in network.exchanges() {
        let request = exchange.request;
        if let Some(bearer) = header(&request.headers, "authorization")
            && tokens.insert(bearer.clone())
        {
            canaries = canaries.text("an access token", bearer.trim_start_matches("Bearer "));
        }
        if request.is("POST /v1/auth/refresh") {
            canaries = canaries.bytes("a refresh token", request.read::<Refresh>().refresh_token.as_ref());
        } else if request.is("POST /v1/auth/login/start") {
            canaries = canaries.bytes("a KE1", request.read::<LoginStart>().ke1.as_ref());
        } else if request.is("POST /v1/auth/register/finish") {
            canaries = canaries.bytes("an OPAQUE record", request.read::<RegisterFinish>().record.as_ref());
        }
    }
    canaries
}

/// Where the SDK's lines go.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> tracing_subscriber::fmt::MakeWriter<'a> for Log {
    type Writer = Log;
    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}
