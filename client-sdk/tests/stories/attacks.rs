//! What a malicious server tries, and what becomes of it. Numbers are those of the published list of attacks.

use crate::accounts::ana;
use crate::fake::{Fake, Mishap};
use selkie_client::{Account, Client, Error, Misbehaviour, Recover, SignIn, SignUp, SignedUp};
use selkie_protocol::account_log::{AccountLog, Entry, Payload, device_id};
use selkie_protocol::cipher::{AccountRootSecret, DeviceKey, Keybag};
use selkie_protocol::{Bytes, Face, account, session};
use serde::Serialize;
use serde::de::DeserializeOwned;

const PASSWORD: &str = "correct horse";
const ANA: &str = "ana@example.org";

async fn sign_in(client: &Client, password: &str, secret_key: Option<&str>) -> selkie_client::Result<Account> {
    let options = SignIn { device_name: "phone".into(), ..SignIn::default() };
    client.sign_in(ANA, password, secret_key, options).await.map(|signed_in| signed_in.account)
}

fn caught(error: Error) -> (Misbehaviour, Option<std::path::PathBuf>) {
    match error {
        Error::ServerMisbehaved { kind, evidence } => (kind, evidence),
        other => panic!("{other:?}"),
    }
}

/// Bends one kind of message.
fn bending<T: DeserializeOwned + Serialize + 'static>(
    path: &'static str,
    bend: impl Fn(&mut T) + Send + Sync + 'static,
) -> impl Fn(&str, Vec<u8>) -> Vec<u8> + Send + Sync + 'static {
    move |asked, body| {
        if !asked.contains(path) {
            return body;
        }
        let mut message: T = Face::Cbor.decode(&body).unwrap();
        bend(&mut message);
        Face::Cbor.encode(&message)
    }
}

#[tokio::test]
async fn mal_001_003_another_cost_for_the_password_is_refused_before_any_work() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    for ksf_id in [0, 2, 255] {
        server.bend(bending("login/start", move |started: &mut session::LoginStarted| started.ksf_id = ksf_id));
        server.asked();
        let error = sign_in(&server.device(), PASSWORD, made.sheet.secret_key()).await.unwrap_err();
        assert!(matches!(error, Error::UnsupportedProtocol(_)), "{ksf_id}: {error:?}");
        assert!(!server.asked().iter().any(|asked| asked.contains("login/finish")), "KE3 was sent");
    }
}

#[tokio::test]
async fn mal_002_a_weaker_profile_at_registration_is_refused() {
    let server = Fake::start();
    server.bend(bending("register/start", |started: &mut session::RegisterStarted| started.ksf_id = 0));
    let error = server.device().sign_up(ANA, PASSWORD, SignUp::default()).await.unwrap_err();
    assert!(matches!(error, Error::UnsupportedProtocol(_)));

    let server = Fake::start();
    let made = ana(&server.device()).await;
    server.bend(bending("password/start", |started: &mut account::PasswordStarted| started.ksf_id = 0));
    let error = made.account.change_password(PASSWORD, "new words", false).await.unwrap_err();
    assert!(matches!(error, Error::UnsupportedProtocol(_)));
}

#[tokio::test]
async fn mal_005_a_wrong_password_sends_nothing_that_can_be_tested_further() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    server.asked();
    let error = sign_in(&server.device(), "guess", made.sheet.secret_key()).await.unwrap_err();
    assert!(matches!(error, Error::WrongCredentials));
    assert_eq!(server.asked(), ["/v1/capabilities", "/v1/auth/login/start"]);
}

#[tokio::test]
async fn mal_006_a_host_that_relays_to_the_real_one_is_noticed() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    server.call_itself("bank.example");
    let error = sign_in(&server.device(), PASSWORD, made.sheet.secret_key()).await.unwrap_err();
    assert!(matches!(error, Error::ServerNameDiffers { announced, .. } if announced == "bank.example"));
    // And if it lies in the first answer only, in the second.
    server.bend(bending("capabilities", |it: &mut selkie_protocol::version::Capabilities| {
        it.server_name = crate::fake::NAME.into();
    }));
    let error = sign_in(&server.device(), PASSWORD, made.sheet.secret_key()).await.unwrap_err();
    assert!(matches!(error, Error::ServerNameDiffers { .. }));
}

#[tokio::test]
async fn mal_009_an_old_password_does_not_come_back() {
    let server = Fake::start();
    server.with(|world| world.takes_old_keys = true);
    let data = tempfile::tempdir().unwrap();
    let laptop = server.builder().store(data.path()).build().unwrap();
    let made = ana(&laptop).await;
    let before = server.snapshot(ANA);
    made.account.change_password(PASSWORD, "new words", false).await.unwrap();
    let now = server.snapshot(ANA);

    // Old record and old keybag; the log as it is, then the old log as well.
    for entries in [now.entries.clone(), before.entries.clone()] {
        server.change(ANA, |acct| {
            (acct.record, acct.keybag) = (before.record.clone(), before.keybag);
            acct.entries = entries;
        });
        let (kind, evidence) = caught(sign_in(&laptop, PASSWORD, None).await.unwrap_err());
        assert_eq!(kind, Misbehaviour::PasswordRollback);
        let evidence = std::fs::read_to_string(evidence.expect("evidence is saved")).unwrap();
        assert!(evidence.contains("password_rollback") && evidence.contains("\"ours\""));
    }
    let (kind, _) = caught(made.account.unlock(PASSWORD).await.unwrap_err());
    assert_eq!(kind, Misbehaviour::PasswordRollback);
    // A new device that is shown the true log notices too.
    server.change(ANA, |acct| acct.entries = now.entries.clone());
    let (kind, _) = caught(sign_in(&server.device(), PASSWORD, made.sheet.secret_key()).await.unwrap_err());
    assert_eq!(kind, Misbehaviour::PasswordRollback);
}

#[tokio::test]
async fn mal_010_every_bent_keybag_ends_alike() {
    let server = Fake::start();
    server.with(|world| world.takes_old_keys = true);
    let made = ana(&server.device()).await;
    let honest = server.snapshot(ANA).keybag.unwrap();
    // One of each part: version, generations, nonces, commitments, ciphertexts. The rest is the cipher's own test.
    for at in [0, 4, 5, 6, 40, 70, 108] {
        server.change(ANA, |acct| {
            let mut bent = honest;
            bent.0[at] ^= 1;
            acct.keybag = Some(bent);
        });
        server.asked();
        let (kind, _) = caught(sign_in(&server.device(), PASSWORD, made.sheet.secret_key()).await.unwrap_err());
        assert_eq!(kind, Misbehaviour::WrongKeybag, "byte {at}");
        let asked = server.asked();
        assert_eq!(asked.len(), 6, "byte {at}: {asked:?}");
    }
}

#[tokio::test]
async fn mal_010_the_keybag_of_somebody_else_does_not_open() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    server.device().sign_up("bob", PASSWORD, SignUp::default()).await.unwrap();
    let of_bob = server.snapshot("bob").keybag;
    server.change(ANA, |acct| acct.keybag = of_bob);
    let (kind, _) = caught(sign_in(&server.device(), PASSWORD, made.sheet.secret_key()).await.unwrap_err());
    assert_eq!(kind, Misbehaviour::WrongKeybag);
}

#[tokio::test]
async fn mal_013_more_than_the_protocol_knows_is_not_understood() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    #[derive(Serialize)]
    struct More {
        login_id: selkie_protocol::id::LoginId,
        ke2: selkie_protocol::opaque::Ke2Bytes,
        server_name: String,
        ksf_id: u8,
        legacy_password_hash: bool,
    }
    server.bend(|path, body| {
        if !path.contains("login/start") {
            return body;
        }
        let it: session::LoginStarted = Face::Cbor.decode(&body).unwrap();
        let (login_id, ke2, server_name, ksf_id) = (it.login_id, it.ke2, it.server_name, it.ksf_id);
        Face::Cbor.encode(&More { login_id, ke2, server_name, ksf_id, legacy_password_hash: true })
    });
    let error = sign_in(&server.device(), PASSWORD, made.sheet.secret_key()).await.unwrap_err();
    assert!(matches!(error, Error::UnsupportedProtocol(_)));
    server.be_honest();
    server.speak_protocol(2);
    let error = sign_in(&server.device(), PASSWORD, made.sheet.secret_key()).await.unwrap_err();
    assert!(matches!(error, Error::UnsupportedProtocol(_)));
}

#[tokio::test]
async fn mal_014_nothing_secret_is_ever_sent() {
    let server = Fake::start();
    let laptop = server.device();
    let made = ana(&laptop).await;
    let phone = sign_in(&server.device(), PASSWORD, made.sheet.secret_key()).await.unwrap();
    phone.change_password(PASSWORD, "brand new sentence", true).await.unwrap();
    let sheet = made.account.rotate_recovery_key("brand new sentence").await.unwrap();
    made.account.revoke(&phone.device_id(), "brand new sentence").await.unwrap();
    let codes = [made.sheet.recovery_key(), sheet.recovery_key(), made.sheet.secret_key().unwrap()];
    let bare: Vec<String> = codes.iter().map(|code| code[3..].replace('-', "")).collect();
    let secrets = [PASSWORD, "brand new sentence", "laptop"];
    let all = secrets.into_iter().chain(codes).chain(bare.iter().map(String::as_str));
    let bodies = server.all_bodies();
    assert!(bodies.len() > 30);
    for secret in all {
        for body in &bodies {
            assert!(!body.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret} was sent");
        }
    }
}

/// A log that the server continued by itself, with an entry it signed with a key of its own.
fn forged(entries: &[Bytes], payload: Payload) -> Vec<Bytes> {
    let log = AccountLog::replay(entries.iter().map(|entry| &**entry)).unwrap();
    let entry = AccountRootSecret::generate().identity().sign_entry(log.next(1, payload));
    let mut forged = entries.to_vec();
    forged.push(Bytes::from(entry.as_bytes()));
    forged
}

#[tokio::test]
async fn mal_016_019_nobody_adds_a_device_or_a_key_but_the_account() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    let honest = server.snapshot(ANA);
    let user = made.account.user_id();
    let evil = DeviceKey::generate();
    let proven = evil.device_add(&user);
    let unproven = Payload::DeviceAdd {
        device: device_id(&evil.public_key()),
        key: evil.public_key(),
        proof: DeviceKey::generate().proof_of_possession(&user),
    };
    let kem = AccountRootSecret::generate().master_key(&user, 2);
    let swapped_kem = Payload::UserKem { generation: 2, public_key: Box::new(*kem.user_kem(&user).public_key()) };
    for payload in [proven, unproven, swapped_kem, Payload::PasswordGeneration(2)] {
        let shown = forged(&honest.entries, payload);
        server.bend(bending("account/log", move |page: &mut account::LogPage| {
            page.entries = shown[page.from as usize..].to_vec();
            page.length = shown.len() as u64;
        }));
        let (kind, _) = caught(made.account.devices().await.unwrap_err());
        assert_eq!(kind, Misbehaviour::ForgedLog);
        let (kind, _) = caught(sign_in(&server.device(), PASSWORD, made.sheet.secret_key()).await.unwrap_err());
        assert_eq!(kind, Misbehaviour::ForgedLog);
    }
    server.be_honest();
    server.bend(bending("account/devices", move |list: &mut account::Devices| {
        let mut more = list.devices[0].clone();
        more.did = device_id(&evil.public_key());
        list.devices.push(more);
    }));
    let (kind, _) = caught(made.account.devices().await.unwrap_err());
    assert_eq!(kind, Misbehaviour::UnknownDevice);
}

async fn with_history(server: &std::sync::Arc<Fake>, data: &std::path::Path) -> (Client, SignedUp) {
    let laptop = server.builder().store(data).build().unwrap();
    let made = ana(&laptop).await;
    made.account.rotate_recovery_key(PASSWORD).await.unwrap();
    (laptop, made)
}

#[tokio::test]
async fn mal_017_a_shorter_log_than_was_seen_is_an_alarm_across_restarts() {
    let server = Fake::start();
    let data = tempfile::tempdir().unwrap();
    let (laptop, made) = with_history(&server, data.path()).await;
    server.change(ANA, |acct| {
        acct.entries.pop();
    });
    let (kind, evidence) = caught(made.account.devices().await.unwrap_err());
    assert_eq!(kind, Misbehaviour::Rollback);
    assert!(evidence.unwrap().exists());
    drop((laptop, made));
    let restarted = server.builder().store(data.path()).build().unwrap();
    let account = restarted.account(ANA).await.unwrap().unwrap();
    assert_eq!(caught(account.devices().await.unwrap_err()).0, Misbehaviour::Rollback);
    let state_code = account.state_code();
    // Signing in with the password does not launder it: the keybag is newer than the log that is shown.
    assert_eq!(caught(sign_in(&restarted, PASSWORD, None).await.unwrap_err()).0, Misbehaviour::Rollback);
    let account = restarted.account(ANA).await.unwrap().unwrap();
    assert_eq!(account.state_code(), state_code, "what this device has seen is unchanged");
}

#[tokio::test]
async fn mal_018_another_history_of_the_same_length_is_a_fork() {
    let server = Fake::start();
    let data = tempfile::tempdir().unwrap();
    let laptop = server.builder().store(data.path()).build().unwrap();
    let made = ana(&laptop).await;
    let before = server.snapshot(ANA);
    // The account itself signs two continuations: the server shows one to each device.
    made.account.rotate_recovery_key(PASSWORD).await.unwrap();
    let one = server.snapshot(ANA);
    let phone_data = tempfile::tempdir().unwrap();
    let phone_client = server.builder().store(phone_data.path()).build().unwrap();
    server.change(ANA, |acct| *acct = before.clone());
    sign_in(&phone_client, PASSWORD, made.sheet.secret_key()).await.unwrap();
    let other = server.snapshot(ANA);
    assert_eq!(one.entries.len(), other.entries.len());

    let (kind, evidence) = caught(made.account.devices().await.unwrap_err());
    assert_eq!(kind, Misbehaviour::Fork);
    let evidence = std::fs::read_to_string(evidence.unwrap()).unwrap();
    assert!(evidence.contains("\"fork\""));
    assert_eq!(caught(sign_in(&laptop, PASSWORD, None).await.unwrap_err()).0, Misbehaviour::Fork);
}

#[tokio::test]
async fn mal_024_another_person_under_the_name_is_refused() {
    let server = Fake::start();
    let data = tempfile::tempdir().unwrap();
    let laptop = server.builder().store(data.path()).build().unwrap();
    let made = ana(&laptop).await;
    // The same name and password, made anew elsewhere; then shown to this device.
    let elsewhere = Fake::start();
    elsewhere.device().sign_up(ANA, PASSWORD, SignUp::default()).await.unwrap();
    let other = elsewhere.snapshot(ANA);
    server.change(ANA, |acct| (acct.entries, acct.keybag) = (other.entries.clone(), other.keybag));
    let (kind, _) = caught(sign_in(&server.device(), PASSWORD, made.sheet.secret_key()).await.unwrap_err());
    assert_eq!(kind, Misbehaviour::Contradiction);
    server.change(ANA, |acct| acct.uid = other.uid);
    let (kind, _) = caught(sign_in(&server.device(), PASSWORD, made.sheet.secret_key()).await.unwrap_err());
    assert_eq!(kind, Misbehaviour::WrongKeybag, "the keybag belongs to another password key");
    let (kind, _) = caught(sign_in(&laptop, PASSWORD, None).await.unwrap_err());
    assert_eq!(kind, Misbehaviour::OtherIdentity);
}

#[tokio::test]
async fn mal_024_a_genesis_that_does_not_hash_to_the_person_is_refused() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    let genesis = AccountRootSecret::generate().identity().sign_genesis(1);
    let shown = Bytes::from(genesis.as_bytes());
    server.bend(bending("account/log", move |page: &mut account::LogPage| {
        if page.from == 0 {
            page.entries[0] = shown.clone();
        }
    }));
    let (kind, _) = caught(sign_in(&server.device(), PASSWORD, made.sheet.secret_key()).await.unwrap_err());
    assert_eq!(kind, Misbehaviour::Contradiction);
}

#[tokio::test]
async fn mal_025_a_linked_device_cannot_be_shown_the_past() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    let link = made.account.link_device().await.unwrap();
    let joining = server.device().link(link.code(), "phone").await.unwrap();
    let asking = link.wait_for_request().await.unwrap();
    asking.approve(PASSWORD).await.unwrap();
    server.bend(bending("account/log", |page: &mut account::LogPage| {
        page.length -= 1;
        page.entries.truncate((page.length - page.from) as usize);
    }));
    assert_eq!(caught(joining.finish().await.unwrap_err()).0, Misbehaviour::Rollback);
}

#[tokio::test]
async fn mal_026_a_new_device_that_is_shown_the_past_shows_what_to_compare() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    let before = server.snapshot(ANA);
    let phone = sign_in(&server.device(), PASSWORD, made.sheet.secret_key()).await.unwrap();
    made.account.devices().await.unwrap();
    assert_eq!(phone.state_code(), made.account.state_code());
    server.change(ANA, |acct| *acct = before);
    let options = SignIn { device_name: "tablet".into(), ..SignIn::default() };
    let shown_the_past = server.device().sign_in(ANA, PASSWORD, made.sheet.secret_key(), options).await.unwrap();
    assert_ne!(shown_the_past.state_code, made.account.state_code());
    assert!(!shown_the_past.devices.iter().any(|device| device.id == phone.device_id()));
}

#[tokio::test]
async fn mal_059_pages_that_do_not_fit_together_end_the_asking() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    type Page = account::LogPage;
    let lies: [fn(&mut Page); 4] = [
        |page| page.entries.clear(),
        |page| page.from += 1,
        |page| page.length = u64::MAX,
        |page| page.entries.extend(page.entries.clone()),
    ];
    for (which, lie) in lies.into_iter().enumerate() {
        server.bend(bending("account/log", lie));
        server.asked();
        let error = sign_in(&server.device(), PASSWORD, made.sheet.secret_key()).await.unwrap_err();
        assert!(matches!(error, Error::ServerMisbehaved { .. }), "lie {which}: {error:?}");
        assert!(server.asked().len() < 12, "lie {which}");
    }
}

#[tokio::test]
async fn mal_075_words_of_a_server_cannot_drive_a_terminal() {
    let server = Fake::start();
    let account = ana(&server.device()).await.account;
    let lie = bending("/v1/account", |it: &mut account::Account| it.tenant = "\u{1b}[2Jhome".repeat(1000));
    server.bend(move |path, body| if path == "/v1/account" { lie(path, body) } else { body });
    let status = account.standing().await.unwrap();
    assert!(!status.tenant.contains('\u{1b}') && status.tenant.chars().count() < 400);
}

#[tokio::test]
async fn evidence_holds_nothing_secret() {
    let server = Fake::start();
    let data = tempfile::tempdir().unwrap();
    let (_, made) = with_history(&server, data.path()).await;
    server.change(ANA, |acct| {
        acct.entries.pop();
    });
    let evidence = caught(made.account.devices().await.unwrap_err()).1.unwrap();
    let text = std::fs::read_to_string(evidence).unwrap();
    let keybag = server.snapshot(ANA).keybag.unwrap();
    assert!(Keybag::parse(keybag.as_ref()).is_ok());
    for secret in [ANA, PASSWORD, made.sheet.recovery_key(), &selkie_protocol::bytes::to_base64url(keybag.as_ref())] {
        assert!(!text.contains(secret));
    }
    let ours = Entry::parse(&server.snapshot(ANA).entries[0]).unwrap();
    assert!(text.contains(&selkie_protocol::bytes::to_base64url(ours.as_bytes())), "but the signed bytes are there");
}

#[tokio::test]
async fn an_alarm_does_not_depend_on_the_server_staying_reachable() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    server.next_request_to("account/log", Mishap::NotDelivered);
    assert!(matches!(made.account.devices().await, Err(Error::Offline(_))), "offline is not an alarm");
    made.account.devices().await.unwrap();
}

#[tokio::test]
async fn mal_006_a_host_that_relays_is_noticed_by_a_device_that_knows_the_account_too() {
    const EVIL: &str = "https://evil.example/";
    let server = Fake::start();
    let data = tempfile::tempdir().unwrap();
    let made = ana(&server.builder().store(data.path()).build().unwrap()).await;
    let relayed = server.builder_at(EVIL).store(data.path()).build().unwrap();
    server.asked();
    let error = sign_in(&relayed, PASSWORD, None).await.unwrap_err();
    assert!(
        matches!(&error, Error::ServerNameDiffers { announced, .. } if announced == crate::fake::NAME),
        "{error:?}"
    );
    let recovered = relayed.recover(ANA, made.sheet.recovery_key(), "new words", Recover::default()).await;
    assert!(matches!(recovered, Err(Error::ServerNameDiffers { .. })));
    assert_eq!(server.asked(), ["/v1/capabilities", "/v1/capabilities"], "nothing else was said to it");
    assert_eq!(relayed.accounts().await.unwrap()[0].server_url, crate::fake::URL);
    // Whoever knows that the server moved says so, and the device keeps the new address.
    let moved = server.builder_at(EVIL).store(data.path()).accept_server_name(crate::fake::NAME).build().unwrap();
    sign_in(&moved, PASSWORD, None).await.unwrap();
    assert_eq!(moved.accounts().await.unwrap()[0].server_url, EVIL);
}

#[tokio::test]
async fn an_account_with_keys_is_not_completed_a_second_time() {
    let server = Fake::start();
    let data = tempfile::tempdir().unwrap();
    let laptop = server.builder().store(data.path()).build().unwrap();
    let made = ana(&laptop).await;
    server.change(ANA, |acct| acct.uid = None);
    server.asked();
    let (kind, evidence) = caught(sign_in(&laptop, PASSWORD, None).await.unwrap_err());
    assert_eq!(kind, Misbehaviour::OtherIdentity);
    assert!(evidence.unwrap().exists());
    let (kind, _) = caught(sign_in(&server.device(), PASSWORD, made.sheet.secret_key()).await.unwrap_err());
    assert_eq!(kind, Misbehaviour::OtherIdentity, "what has a Secret Key has keys");
    assert!(!server.asked().iter().any(|asked| asked.contains("complete")));
    assert_eq!(laptop.accounts().await.unwrap().len(), 1);
}

#[tokio::test]
async fn after_a_conflict_the_device_remembers_the_whole_log() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    let phone = sign_in(&server.device(), PASSWORD, made.sheet.secret_key()).await.unwrap();
    made.account.devices().await.unwrap();
    let seen = server.snapshot(ANA).entries.len() as u64;
    // A third device comes in, and the laptop's first look at the log was a moment too early to see it.
    sign_in(&server.device(), PASSWORD, made.sheet.secret_key()).await.unwrap();
    server.bend(bending("account/log", move |page: &mut account::LogPage| {
        if page.from + 1 < seen {
            page.length = seen;
            page.entries.truncate((seen - page.from) as usize);
        }
    }));
    made.account.revoke(&phone.device_id(), PASSWORD).await.unwrap();
    let head = server.snapshot(ANA).log().unwrap().head().hash;
    assert_eq!(made.account.state_code(), selkie_protocol::cipher::state_code(&head));
}

#[tokio::test]
async fn a_log_without_end_is_not_taken_in() {
    type Page = account::LogPage;
    let server = Fake::start();
    let made = ana(&server.device()).await;
    let huge = Bytes::from(vec![7; selkie_protocol::account_log::MAX_ENTRY_LENGTH + 1]);
    server.bend(bending("account/log", move |page: &mut Page| page.entries[0] = huge.clone()));
    server.asked();
    let (kind, _) = caught(sign_in(&server.device(), PASSWORD, made.sheet.secret_key()).await.unwrap_err());
    assert_eq!(kind, Misbehaviour::Contradiction);
    assert_eq!(server.asked().iter().filter(|asked| asked.contains("account/log")).count(), 1);

    let large = Bytes::from(vec![7; selkie_protocol::account_log::MAX_ENTRY_LENGTH]);
    server.bend(bending("account/log", move |page: &mut Page| {
        page.entries = vec![large.clone(); 3000];
        page.length = page.from + 3001;
    }));
    let (kind, _) = caught(sign_in(&server.device(), PASSWORD, made.sheet.secret_key()).await.unwrap_err());
    assert_eq!(kind, Misbehaviour::Contradiction);
    assert!(server.asked().iter().filter(|asked| asked.contains("account/log")).count() < 10);
}

#[tokio::test]
async fn a_revoked_device_is_not_let_in_by_a_server_that_overlooks_it() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    let phone = server.device();
    let on_phone = sign_in(&phone, PASSWORD, made.sheet.secret_key()).await.unwrap();
    assert!(on_phone.sign_out(selkie_client::SignOut::Keep).await.unwrap().server_told);
    let before = server.snapshot(ANA).entries;
    made.account.revoke(&on_phone.device_id(), PASSWORD).await.unwrap();
    let signed = server.snapshot(ANA).entries;
    server.change(ANA, |acct| acct.entries = before);
    server.bend(bending("account/log", move |page: &mut account::LogPage| {
        page.length = signed.len() as u64;
        page.entries = signed[page.from as usize..].to_vec();
    }));
    assert_eq!(caught(sign_in(&phone, PASSWORD, None).await.unwrap_err()).0, Misbehaviour::Contradiction);
}
