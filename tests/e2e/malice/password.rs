//! Attacks on sign-in and password: rows 1 to 15.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use selkie_client::{Error, ErrorCode, KeyMode, Misbehaviour, SignIn, SignInReason, SignUp};
use selkie_e2e::device::Person;
use selkie_e2e::message::{Reply, Request, header};
use selkie_e2e::network::{Exchange, Network, Outcome, Server};
use selkie_e2e::program;
use selkie_e2e::two_keys;
use selkie_protocol::account::{Keybag, LogPage, PasswordStarted};
use selkie_protocol::cipher::{self, PasswordKek};
use selkie_protocol::hash::Label;
use selkie_protocol::id::{LoginId, UserId};
use selkie_protocol::name::{LoginName, password_input};
use selkie_protocol::session::{LoginStart, LoginStarted, RegisterStarted};
use selkie_protocol::version::Capabilities;
use selkie_protocol::{Bytes, Fixed, opaque};
use serde::{Deserialize, Serialize};

use super::{
    ANA, BO, PASSWORD, World, assert_caught, assert_not_understood, assert_nothing_was_proved,
    assert_wrong_credentials, times,
};

const LOGIN_START: &str = "POST /v1/auth/login/start";
const REGISTER_START: &str = "POST /v1/auth/register/start";
const KEYBAG: &str = "GET /v1/account/keybag";

#[tokio::test(flavor = "multi_thread")]
async fn mal_001_a_lower_password_cost_at_sign_in_is_refused() {
    let world = World::new().await;
    for profile in [0, 2, 255] {
        world.server.network().tamper_with_reply(LOGIN_START, move |reply| {
            reply.rewrite(|started: &mut LoginStarted| started.ksf_id = profile);
        });
        assert_not_understood(world.laptop.signs_in(&world.ana).await);
    }
    assert_nothing_was_proved(&world.server);
}

#[tokio::test(flavor = "multi_thread")]
async fn mal_002_a_lower_password_cost_at_registration_is_refused() {
    let world = World::new().await;
    world.server.network().tamper_with_reply(REGISTER_START, |reply| {
        reply.rewrite(|started: &mut RegisterStarted| started.ksf_id = 0);
    });
    let options = SignUp::default();
    assert_not_understood(world.laptop.sign_up(BO, PASSWORD, options).await);
    assert_nothing_was_proved(&world.server);

    world.server.network().tamper_with_reply("POST /v1/account/password/start", |reply| {
        reply.rewrite(|started: &mut PasswordStarted| started.ksf_id = 0);
    });
    assert_not_understood(world.account.change_password(PASSWORD, "eight golden geese graze", false).await);
    assert!(world.server.network().calls("POST /v1/account/password/finish").is_empty());
}

/// The refusal comes before anything is computed: the client never learns to compute anything else.
#[tokio::test(flavor = "multi_thread")]
async fn mal_003_a_huge_password_cost_is_refused_before_memory_is_touched() {
    let world = World::new().await;
    let sign_in_within = async |kib: u32| {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let (password, key) = (write("p", PASSWORD), write("k", world.ana.sheet.secret_key().unwrap()));
        let (data, url) = (folder.path().join("data").to_str().unwrap().to_owned(), world.server.network().url());
        let arguments = ["--data", &data, "sign-in", ANA, "--server", &url, "--password-file", &password]
            .into_iter()
            .chain(["--secret-key-file", &key])
            .map(str::to_owned)
            .collect::<Vec<_>>();
        let run = move || program::run_within(kib, "selkie", &arguments, folder.path());
        tokio::task::spawn_blocking(run).await.unwrap().status
    };
    // Too little to stretch a password, as an honest server shows; and more than is needed to refuse.
    let little = 60 * 1024;
    assert!(sign_in_within(1024 * 1024).await.success());
    assert_ne!(sign_in_within(little).await.code(), Some(0));
    world.server.network().tamper_with_reply(LOGIN_START, |reply| {
        reply.rewrite(|started: &mut LoginStarted| started.ksf_id = 200);
    });
    assert_eq!(sign_in_within(little).await.code(), Some(5));
}

/// One dictionary for all: the server gives everybody the same OPRF key.
#[test]
fn mal_004_the_same_oprf_key_for_two_people_saves_no_guesses() {
    let setup = opaque::ServerSetup::generate();
    let keys = [ANA, BO].map(|name| {
        let input = input("selkie.example", name, None);
        let started = opaque::RegistrationStarted::new(&input).unwrap();
        let response = setup.registration_response(&started.request, b"the same for all").unwrap();
        started.finish(&input, &response).unwrap().export_key.as_bytes().to_vec()
    });
    assert_ne!(keys[0], keys[1]);
}

/// The server makes a record for a guess and waits whether the client accepts it.
#[tokio::test(flavor = "multi_thread")]
async fn mal_005_a_forged_envelope_tests_one_guess_and_a_wrong_one_is_seen() {
    let world = World::new().await;
    let name = world.server.network().name();
    forge_envelopes(world.server.network(), input(&name, ANA, None));
    assert_wrong_credentials(world.laptop.signs_in(&world.ana).await);
    assert_nothing_was_proved(&world.server);

    // Not even the right password is a right guess without the Secret Key. With both, the forgery would be believed:
    // that is what makes the refusal above a finding.
    forge_envelopes(world.server.network(), input(&name, ANA, world.ana.sheet.secret_key()));
    let _ = world.laptop.signs_in(&world.ana).await;
    assert_eq!(world.server.network().calls("POST /v1/auth/login/finish").len(), 1);
}

/// A host that passes everything on to the real server, to learn or to use what passes.
#[tokio::test(flavor = "multi_thread")]
async fn mal_006_a_relaying_host_gets_nothing_under_either_name() {
    let world = World::new().await;
    let relay = Network::new().await;
    relay.lead_to(world.server.network().name().parse().unwrap());
    let phone = selkie_e2e::device::Device::new(&relay.url(), "phone");

    let honest_name = phone.signs_in(&world.ana).await;
    assert!(matches!(honest_name, Err(Error::ServerNameDiffers { .. })), "{honest_name:?}");

    let own_name = relay.name();
    relay.behave(move |request, server| {
        let own_name = own_name.clone();
        async move {
            let mut outcome = server.answer(&request).await;
            if let Outcome::Answer(reply) = &mut outcome {
                if request.is("GET /v1/capabilities") {
                    reply.rewrite(|capabilities: &mut Capabilities| capabilities.server_name = own_name.clone());
                } else if request.is(LOGIN_START) {
                    reply.rewrite(|started: &mut LoginStarted| started.server_name = own_name.clone());
                }
            }
            outcome
        }
    });
    assert_wrong_credentials(phone.signs_in(&world.ana).await);
    assert_nothing_was_proved(&world.server);
}

#[tokio::test(flavor = "multi_thread")]
async fn mal_007_odd_group_elements_are_refused() {
    let world = World::new().await;
    type Bend = fn(&[u8], &mut Vec<u8>);
    let bends: [(&str, Bend); 7] = [
        ("reflected", |sent, answer| answer[..32].copy_from_slice(&sent[..32])),
        ("identity", |_, answer| answer[..32].fill(0)),
        ("not canonical", |_, answer| answer[..32].fill(0xff)),
        ("negative", |_, answer| answer[0] |= 1),
        ("all zero", |_, answer| answer.fill(0)),
        ("too short", |_, answer| answer.truncate(answer.len() - 1)),
        ("too long", |_, answer| answer.push(0)),
    ];
    for (what, bend) in bends {
        world.server.network().behave(move |request, server| async move {
            let mut outcome = server.answer(&request).await;
            let Outcome::Answer(reply) = &mut outcome else { return outcome };
            if request.is(LOGIN_START) {
                let sent = request.read::<LoginStart>().ke1;
                reply.rewrite(|started: &mut AnyLoginStarted| bend(sent.as_ref(), &mut started.ke2.0));
            } else if request.is(REGISTER_START) {
                let sent = request.read::<selkie_protocol::session::RegisterStart>().request;
                reply.rewrite(|started: &mut AnyRegisterStarted| bend(sent.as_ref(), &mut started.response.0));
            }
            outcome
        });
        let signed_in = world.laptop.signs_in(&world.ana).await;
        let is_refused = matches!(signed_in, Err(Error::WrongCredentials | Error::UnsupportedProtocol(_)));
        assert!(is_refused, "{what}: {signed_in:?}");
        let signed_up = world.laptop.sign_up(BO, PASSWORD, SignUp::default()).await;
        let is_refused = matches!(signed_up, Err(Error::ServerMisbehaved { .. } | Error::UnsupportedProtocol(_)));
        assert!(is_refused, "{what}: {signed_up:?}");
    }
    assert_nothing_was_proved(&world.server);
}

/// Ana and Bo have the same password and no Secret Keys: only the names keep them apart.
#[tokio::test(flavor = "multi_thread")]
async fn mal_008_the_record_of_somebody_with_the_same_password_is_refused() {
    let world = World::new().await;
    let tablet = world.server.device("tablet");
    let (cas, _) =
        tablet.makes_an_account_with("cas@example.org", PASSWORD, KeyMode::PasswordOnly, None).await.unwrap();
    tablet.makes_an_account_with(BO, PASSWORD, KeyMode::PasswordOnly, None).await.unwrap();
    world.server.network().forget();
    world.server.network().behave(|mut request, server| async move {
        if request.is(LOGIN_START) {
            request.rewrite(|start: &mut LoginStart| start.login_name = BO.into());
        }
        server.answer(&request).await
    });
    assert_wrong_credentials(world.server.device("phone").signs_in(&cas).await);
    assert_nothing_was_proved(&world.server);
}

#[tokio::test(flavor = "multi_thread")]
async fn mal_009_an_old_password_is_not_accepted_again() {
    let World { server, laptop, ana, account } = World::new().await;
    let (present, past) = server.split().await;
    let changed = Person { password: "eight golden geese graze".into(), ..ana.clone() };
    account.change_password(PASSWORD, &changed.password, false).await.unwrap();

    // The whole old world, shown to a device that has seen the change.
    present.network().lead_to(past.address());
    assert_caught(laptop.signs_in(&ana).await, &[Misbehaviour::PasswordRollback, Misbehaviour::Rollback]);

    // The old record and the old keybag beside the present log, shown to a device that has never been here.
    present.network().lead_to(present.address());
    let tablet = present.device("tablet");
    tablet.signs_in(&changed).await.unwrap();
    let log = whole_log(present.network());
    present.network().lead_to(past.address());
    present.network().tamper_with_reply("GET /v1/account/log", move |reply| {
        reply.rewrite(|page: &mut LogPage| *page = log.clone());
    });
    let phone = present.device("phone");
    assert_caught(phone.signs_in(&ana).await, &[Misbehaviour::PasswordRollback]);
    // What the laptop had is untouched.
    present.network().behave_well();
    present.network().lead_to(present.address());
    laptop.signs_in(&changed).await.unwrap();
}

/// One error for every change, and the same requests, whichever byte it was: there is nothing to be learned.
#[tokio::test(flavor = "multi_thread")]
async fn mal_010_a_keybag_that_was_touched_is_refused_alike_wherever_it_was_touched() {
    let world = World::new().await;
    let (secret_part, all) = ([0, 1, 4, 5, 6, 29, 30, 61, 62, 93, 94, 109], 0..110);
    let places: Vec<usize> = if times(0, 1) == 1 { all.collect() } else { secret_part.to_vec() };
    let mut traces = std::collections::BTreeSet::new();
    for place in places {
        world.server.network().forget();
        world.server.network().tamper_with_reply(KEYBAG, move |reply| {
            reply.rewrite(|keybag: &mut Keybag| keybag.keybag.0[place] ^= 1);
        });
        assert_caught(world.server.device("phone").signs_in(&world.ana).await, &[Misbehaviour::WrongKeybag]);
        traces.insert(trace(world.server.network()));
    }
    assert_eq!(traces.len(), 1, "the requests tell one change from another: {traces:#?}");

    // The other half is opened by the recovery key alone.
    for place in [114, 115, 138, 139, 171, 218] {
        world.server.network().tamper_with_reply(KEYBAG, move |reply| {
            reply.rewrite(|keybag: &mut Keybag| keybag.keybag.0[place] ^= 1);
        });
        let recovered = world.server.device("phone").recovers(&world.ana, "nine bronze bears bathe").await;
        assert_caught(recovered, &[Misbehaviour::WrongKeybag]);
    }
    world.server.network().behave_well();
    world.server.device("phone").signs_in(&world.ana).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn mal_010_the_keybag_of_another_account_is_refused() {
    let world = World::new().await;
    let tablet = world.server.device("tablet");
    let (bo, _) = tablet.makes_an_account(BO, PASSWORD).await;
    tablet.signs_in(&bo).await.unwrap();
    world.server.device("phone").signs_in(&bo).await.unwrap();
    let foreign: Keybag = world.server.network().calls(KEYBAG).pop().unwrap().reply().read();
    world.server.network().tamper_with_reply(KEYBAG, move |reply| {
        reply.rewrite(|keybag: &mut Keybag| *keybag = foreign.clone());
    });
    assert_caught(world.server.device("watch").signs_in(&world.ana).await, &[Misbehaviour::WrongKeybag]);
}

/// A box that opens under the keys of two guesses would tell the server which half of the guesses to keep. Ours says
/// under which one key it was made, and that is looked at first.
#[test]
fn mal_011_a_keybag_made_for_two_guesses_opens_for_one() {
    let user = UserId([7; 32]);
    let guesses = ["first guess", "second guess"].map(export_key);
    let context = [&user.0[..], &1_u32.to_be_bytes()].concat();
    let nonce = [9; 24];
    let info = wrap_info("ars/password", &context);
    let derived = guesses.each_ref().map(|export_key| {
        let kek: zeroize::Zeroizing<[u8; 32]> =
            cipher::kdf(export_key.as_bytes(), user.as_bytes(), Label::KEK_PASSWORD, &1_u32.to_be_bytes());
        let mut okm = [0; 64];
        hkdf::Hkdf::<sha2::Sha256>::new(Some(&nonce), kek.as_slice()).expand(&info, &mut okm).unwrap();
        okm
    });
    let key = |guess: usize| -> &[u8; 32] { derived[guess][..32].try_into().unwrap() };
    let sealed = two_keys::seal_under_both([key(0), key(1)], &nonce, &info);

    let bag_committed_to = |guess: usize| {
        let wrap = [&[1], nonce.as_slice(), &derived[guess][32..], &sealed].concat();
        let bag = [&[1], 1_u32.to_be_bytes().as_slice(), &wrap, &1_u32.to_be_bytes(), &wrap].concat();
        cipher::Keybag::parse(&bag).unwrap()
    };
    for committed in [0, 1] {
        for guess in [0, 1] {
            let kek = PasswordKek::derive(&guesses[guess], &user, 1);
            let opened = bag_committed_to(committed).open_with_password(&kek, &user);
            assert_eq!(opened.is_ok(), committed == guess, "committed to {committed}, opened with {guess}");
        }
    }
}

/// Each answer differs, and the server watches what the client does next.
#[tokio::test(flavor = "multi_thread")]
async fn mal_012_many_sign_ins_with_changed_answers_teach_nothing() {
    let world = World::new().await;
    let count = AtomicUsize::new(0);
    world.server.network().tamper_with_reply(LOGIN_START, move |reply| {
        let round = count.fetch_add(1, Ordering::SeqCst);
        reply.rewrite(|started: &mut LoginStarted| {
            let place = round * 41 % started.ke2.0.len();
            started.ke2.0[place] ^= 1 << (round % 8);
        });
    });
    let mut traces = std::collections::BTreeSet::new();
    for _ in 0..times(12, 1000) {
        world.server.network().forget();
        assert_wrong_credentials(world.laptop.signs_in(&world.ana).await);
        traces.insert(trace(world.server.network()));
    }
    assert_eq!(traces.len(), 1, "the requests tell one change from another: {traces:#?}");
    assert_nothing_was_proved(&world.server);
}

#[tokio::test(flavor = "multi_thread")]
async fn mal_013_there_is_no_older_way_to_sign_in() {
    let world = World::new().await;
    let network = world.server.network();
    network.tamper_with_reply(LOGIN_START, |reply| {
        let started: LoginStarted = reply.read();
        let more = WithLegacy { started: AnyLoginStarted::from(started), legacy: true };
        *reply = Reply::forged(selkie_protocol::Face::Json, 200, &more);
    });
    assert_not_understood(world.laptop.signs_in(&world.ana).await);

    network.behave(|request, server| async move {
        if request.is(LOGIN_START) {
            let body = br#"{"code":"use_password_login","status":400,"title":"Update","advice":"Send the password.",
                "request_id":"1","login":"/v0/login"}"#;
            let headers = vec![("content-type".into(), b"application/problem+json".to_vec())];
            return Outcome::Answer(Reply { status: 400, headers, body: body.to_vec() });
        }
        server.answer(&request).await
    });
    let refused = world.laptop.signs_in(&world.ana).await;
    assert_eq!(refused.unwrap_err().code(), Some(ErrorCode::Unknown));

    network.tamper_with_reply("GET /v1/capabilities", |reply| {
        reply.rewrite(|capabilities: &mut Capabilities| capabilities.protocol = 0);
    });
    assert_not_understood(world.laptop.signs_in(&world.ana).await);
    assert_nothing_was_proved(&world.server);
    let routes: Vec<String> = network.exchanges().into_iter().map(|exchange| exchange.request.path).collect();
    assert!(routes.iter().all(|path| path.starts_with("/v1/")), "{routes:?}");
}

/// A whole life, and none of it contains what only Ana may know. That includes the recovery key while recovering.
#[tokio::test(flavor = "multi_thread")]
async fn mal_014_secrets_never_cross_the_line() {
    let World { server, laptop, ana, account } = World::new().await;
    let phone = server.device("phone");
    phone.signs_in(&ana).await.unwrap();
    server.device("tablet").is_linked_by(&account, PASSWORD).await.unwrap();
    account.change_password(PASSWORD, "eight golden geese graze", true).await.unwrap();
    let changed = Person { password: "eight golden geese graze".into(), ..ana.clone() };
    let (recovered, _) = server.device("watch").recovers(&changed, "nine bronze bears bathe").await.unwrap();
    laptop.sign_in(ANA, &recovered.password, recovered.sheet.secret_key(), SignIn::default()).await.unwrap();

    let exchanges = server.network().exchanges();
    assert!(exchanges.len() > 30, "only {} exchanges", exchanges.len());
    for exchange in &exchanges {
        for person in [&ana, &changed, &recovered] {
            person.secrets().assert_absent_from(&exchange.request.path, &exchange.raw());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mal_015_a_server_that_refuses_every_token_is_left_alone() {
    let world = World::new().await;
    world.server.network().behave(|request, server| async move {
        if header(&request.headers, "authorization").is_some() {
            return Outcome::Answer(Reply::refusal(request.wants(), 401, ErrorCode::Unauthenticated));
        }
        server.answer(&request).await
    });
    for _ in 0..20 {
        match world.account.sessions().await {
            Err(Error::SignInAgain { reason: SignInReason::ServerKeepsRefusing }) => {}
            other => panic!("{other:?}"),
        }
    }
    let asked = world.server.network().exchanges().len();
    assert!(asked < 12, "{asked} requests were made");
    assert!(world.server.network().calls(LOGIN_START).is_empty());
    assert!(world.server.network().calls(REGISTER_START).is_empty());
}

/// What the client sent, as far as a server that cannot open anything can tell.
fn trace(network: &Network) -> Vec<(String, String, usize)> {
    network
        .exchanges()
        .into_iter()
        .map(|Exchange { request, .. }| (request.method, request.path, request.body.len()))
        .collect()
}

/// The log as the server last showed it from its beginning.
fn whole_log(network: &Network) -> LogPage {
    let mut pages =
        network.calls("GET /v1/account/log").into_iter().filter(|exchange| exchange.request.path.ends_with("=0"));
    pages.next_back().expect("somebody has fetched the log").reply().read()
}

/// Answers every sign-in with a record of the server's own making, for this password input.
fn forge_envelopes(network: &Network, guess: Vec<u8>) {
    let setup = opaque::ServerSetup::generate();
    let started = opaque::RegistrationStarted::new(&guess).unwrap();
    let response = setup.registration_response(&started.request, b"any").unwrap();
    let record = started.finish(&guess, &response).unwrap().record;
    let forger = std::sync::Arc::new(Mutex::new((setup, record)));
    let name = network.name();
    network.behave(move |request: Request, server: Server| {
        let (forger, name) = (forger.clone(), name.clone());
        async move {
            if !request.is(LOGIN_START) {
                return server.answer(&request).await;
            }
            let ke1 = request.read::<LoginStart>().ke1;
            let (_, ke2) = {
                let forger = forger.lock().unwrap();
                forger.0.login_response(Some(&forger.1), ke1.as_ref(), b"any").unwrap()
            };
            let started =
                LoginStarted { login_id: LoginId([5; LoginId::LENGTH]), ke2: Fixed(ke2), server_name: name, ksf_id: 1 };
            Outcome::Answer(Reply::forged(request.wants(), 200, &started))
        }
    });
}

fn input(server_name: &str, name: &str, secret_key: Option<&str>) -> Vec<u8> {
    password_input(server_name, &LoginName::new(name).unwrap(), PASSWORD, secret_key).unwrap().to_vec()
}

fn export_key(password: &str) -> opaque::ExportKey {
    let setup = opaque::ServerSetup::generate();
    let started = opaque::RegistrationStarted::new(password.as_bytes()).unwrap();
    let response = setup.registration_response(&started.request, b"any").unwrap();
    started.finish(password.as_bytes(), &response).unwrap().export_key
}

/// What a wrap is bound to (docs/protocol.md, section 2).
fn wrap_info(purpose: &str, context: &[u8]) -> Vec<u8> {
    let mut info = Label::WRAP.prefixed();
    for part in [purpose.as_bytes(), context] {
        info.extend(u32::try_from(part.len()).unwrap().to_be_bytes());
        info.extend(part);
    }
    info
}

/// [`LoginStarted`] with room for bytes of any length.
#[derive(Serialize, Deserialize)]
struct AnyLoginStarted {
    login_id: LoginId,
    ke2: Bytes,
    server_name: String,
    ksf_id: u8,
}

impl From<LoginStarted> for AnyLoginStarted {
    fn from(LoginStarted { login_id, ke2, server_name, ksf_id }: LoginStarted) -> Self {
        AnyLoginStarted { login_id, ke2: Bytes(ke2.0.to_vec()), server_name, ksf_id }
    }
}

#[derive(Serialize)]
struct WithLegacy {
    #[serde(flatten)]
    started: AnyLoginStarted,
    legacy: bool,
}

/// [`RegisterStarted`] with room for bytes of any length.
#[derive(Serialize, Deserialize)]
struct AnyRegisterStarted {
    reg_token: Bytes,
    response: Bytes,
    server_name: String,
    ksf_id: u8,
}
