//! What a server learns or causes from the side: rows 70, 72, 73 and 75 to 78. Row 74 is in `secrecy`.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use selkie_client::transport::{Http, HttpError};
use selkie_client::{Client, Error, Misbehaviour, Role, SignIn, SignUp};
use selkie_e2e::liar::vault_in;
use selkie_e2e::message::{Reply, Request, header};
use selkie_e2e::network::Outcome;
use selkie_e2e::premises::Backend;
use selkie_e2e::scribe::{Volume, must, record};
use selkie_e2e::server::TestServer;
use selkie_protocol::account::{Account, LogPage};
use selkie_protocol::cipher::{EpochKey, RecordContext};
use selkie_protocol::log::NewChange;
use selkie_protocol::record::{Hlc, RecordBody};
use selkie_protocol::session::LoginStart;
use selkie_protocol::vault::{LogFrames, Push};
use selkie_protocol::version::Capabilities;
use selkie_protocol::{ErrorBody, ErrorCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::cast::{APP, Cast, NOTES, join, put, text};
use super::{ANA, PASSWORD, World, assert_wrong_credentials};

const PUSH: &str = "POST /v1/vaults/*/push";
const YEARS_10_MS: i64 = 10 * 365 * 24 * 3_600_000;

/// Whoever can have text written beside a secret learns nothing from how long the sealed whole is.
#[tokio::test(flavor = "multi_thread")]
async fn mal_070_the_size_of_what_is_sealed_says_no_more_than_its_bucket() {
    let world = World::new().await;
    let vault = world.account.create_vault("Letters", APP).await.unwrap();
    let id = vault.new_record_id();
    put(&vault, id, "first").await;
    vault.sync().await.unwrap();
    // The secret again, and something else of the same length: whatever compresses would tell them apart.
    let secret = "the code is 4711-0815 ".repeat(20);
    let other: String = (0..secret.len()).map(|n| char::from(b'!' + u8::try_from(n * 7919 % 90).unwrap())).collect();
    let mut sizes = BTreeSet::new();
    for guess in [&secret, &other, &"a".repeat(secret.len())] {
        sizes.insert(size_of_push(&world, &vault, id, format!("{secret}{guess}").as_bytes()).await);
    }
    assert_eq!(sizes.len(), 1, "one length in, several lengths out: {sizes:?}");
    // Up to 400 bytes there are few sizes, and longer never weighs less.
    let mut sizes = Vec::new();
    for length in (0..400).step_by(5) {
        sizes.push(size_of_push(&world, &vault, id, &vec![b'x'; length]).await);
    }
    assert!(sizes.is_sorted(), "{sizes:?}");
    sizes.dedup();
    assert!(sizes.len() <= 32, "{} sizes for 80 lengths: {sizes:?}", sizes.len());
    for exchange in world.server.network().exchanges() {
        for name in ["accept-encoding", "content-encoding"] {
            assert_eq!(header(&exchange.request.headers, name), None);
        }
        assert_eq!(header(&exchange.reply().headers, "content-encoding"), None);
    }
}

async fn size_of_push(world: &World, vault: &selkie_client::Vault, id: selkie_client::RecordId, data: &[u8]) -> usize {
    vault.put(NOTES, id, data).await.unwrap();
    vault.sync().await.unwrap();
    let push: Push = world.server.network().calls(PUSH).pop().unwrap().request.read();
    push.frame.len()
}

/// Addresses in every place where a person can write one.
#[tokio::test(flavor = "multi_thread")]
async fn mal_072_nothing_is_fetched_because_of_what_was_decrypted() {
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/icon.png", trap.local_addr().unwrap());
    let caught = Arc::new(AtomicUsize::new(0));
    let count = caught.clone();
    let trapped = tokio::spawn(async move {
        while trap.accept().await.is_ok() {
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let world = World::new().await;
    let options = SignIn { device_name: address.chars().take(60).collect(), ..SignIn::default() };
    let phone = world.server.device("phone");
    let key = world.ana.sheet.secret_key();
    let phone = phone.sign_in(ANA, PASSWORD, key, options).await.unwrap().account;
    let vault = world.account.create_vault(&address, APP).await.unwrap();
    let collection: String = address.chars().take(100).collect();
    for content in [
        address.clone(),
        format!("<img src=\"{address}\"><link rel=icon href='{address}'>"),
        format!("![picture]({address}) file:///etc/passwd data:text/html,<script src={address}>"),
        format!("{{\"url\":\"{address}\",\"$ref\":\"{address}\"}}"),
    ] {
        vault.put(&collection, vault.new_record_id(), content.as_bytes()).await.unwrap();
    }
    world.account.sync().await.unwrap();
    let there = join(&phone, vault.id()).await;
    assert_eq!(there.records(&collection).await.unwrap().len(), 4);
    there.verify().await.unwrap();
    phone.devices().await.unwrap();
    assert_eq!(caught.load(Ordering::SeqCst), 0, "somebody followed an address");
    for exchange in world.server.network().exchanges() {
        let path = &exchange.request.path;
        assert!(path.starts_with("/v1/") && !path.contains("icon"), "{path}");
    }
    trapped.abort();
}

/// Cas seals contents that fail in every way there is; the phone's requests do not depend on which.
#[tokio::test(flavor = "multi_thread")]
async fn mal_073_whatever_does_not_open_ends_in_one_word_and_the_same_requests() {
    let cast = Cast::with_cas().await;
    let body = RecordBody::new(NOTES, Hlc::default(), b"by Cas".to_vec()).to_bytes();
    let wrongs: [(&str, Seal); 6] = [
        ("it opens", |volume, context, body| volume.key.seal(context, body).unwrap()),
        ("noise", |_, _, body| vec![0x5e; body.len().next_multiple_of(104)]),
        ("another key", |volume, context, body| {
            EpochKey::generate(volume.vault(), 1).record_key().seal(context, body).unwrap()
        }),
        ("another record's", |volume, context, body| {
            volume.key.seal(&RecordContext { record: record(99), ..context.clone() }, body).unwrap()
        }),
        ("another index", |volume, context, body| {
            volume.key.seal(&RecordContext { index: 7, ..context.clone() }, body).unwrap()
        }),
        ("one bit", |volume, context, body| {
            let mut payload = volume.key.seal(context, body).unwrap();
            payload[60] ^= 1;
            payload
        }),
    ];
    let (mut traces, mut words) = (BTreeSet::new(), BTreeSet::new());
    for (what, seal) in wrongs {
        let (story, volume) = cast.story_with_cas(Role::Editor).await;
        story.phone.sync().await.unwrap();
        let scribe = cast.cas().first();
        let header = volume.next_header(&scribe);
        let (user, device, dev_seq) = (header.user, header.device, header.dev_seq);
        let context =
            RecordContext { user, device, dev_seq, index: 0, record: record(1), full: true, deps: Vec::new() };
        let mut payload = seal(&volume, &context, &body);
        payload.resize(payload.len().max(104), 0x5e);
        let change = NewChange { record: record(1), full: true, deps: &[], payload: &payload };
        must(scribe.push(&story.id, &volume.data(&scribe, &change)).await);
        cast.server.network().forget();
        story.phone.sync().await.unwrap();
        let trace: Vec<_> = cast.server.network().exchanges().into_iter().map(|one| shape(&one.request)).collect();
        let aside = story.phone.status().await.unwrap().set_aside;
        assert_eq!(aside.is_empty(), what == "it opens", "{what}: {aside:?}");
        words.extend(aside);
        traces.insert(trace);
    }
    assert_eq!(traces.len(), 1, "the requests tell one failure from another: {traces:#?}");
    assert_eq!(words.len(), 1, "the words do: {words:?}");
}

type Seal = fn(&Volume, &RecordContext, &[u8]) -> Vec<u8>;

/// A request without the vault's name.
fn shape(request: &Request) -> (String, String, usize) {
    let path = match vault_in(&request.path) {
        Some(vault) => request.path.replace(&vault.to_string(), "VAULT"),
        None => request.path.clone(),
    };
    (request.method.clone(), path, request.body.len())
}

/// Control characters, a right-to-left override, a terminal's escapes, and far too much of it.
#[tokio::test(flavor = "multi_thread")]
async fn mal_075_a_servers_words_are_shown_clean_and_short() {
    const EVIL: &str = "\u{1b}[2J\u{1b}]0;owned\u{7}Pay \u{202e}gpj.exe\r\n\u{200b}\u{2066}\u{9b}31m<script>\u{0}";
    let world = World::new().await;
    let novel = EVIL.repeat(2_000);
    let network = world.server.network();
    let evil = novel.clone();
    network.tamper_with_reply("GET /v1/capabilities", move |reply| {
        reply.rewrite(|it: &mut Capabilities| it.software = evil.clone());
    });
    let mut shown = vec![world.laptop.server().await.unwrap().software];
    let evil = novel.clone();
    network.tamper_with_reply("GET /v1/account", move |reply| {
        reply.rewrite(|it: &mut Account| it.tenant = evil.clone());
    });
    shown.push(world.account.standing().await.unwrap().tenant);
    for (status, code) in [
        (400, ErrorCode::InvalidField),
        (403, ErrorCode::LimitReached),
        (403, ErrorCode::QuotaExceeded),
        (404, ErrorCode::NotFound),
        (429, ErrorCode::RateLimited),
        (503, ErrorCode::Overloaded),
        (500, ErrorCode::Internal),
        (418, ErrorCode::Unknown),
    ] {
        let evil = novel.clone();
        network.behave(move |request, _| {
            let mut body = ErrorBody::new(code, status, evil.clone());
            (body.title, body.advice, body.request_id) = (evil.clone(), evil.clone(), evil.clone());
            let face = request.wants();
            let mut reply = Reply::forged(face, status, &body);
            reply.headers = vec![("content-type".into(), face.problem_type().as_bytes().to_vec())];
            async move { Outcome::Answer(reply) }
        });
        let error = world.account.sessions().await.unwrap_err();
        shown.extend([error.to_string(), error.advice()]);
        if let Error::Refused(refusal) | Error::LimitReached(refusal) = error {
            shown.extend([refusal.request_id, refusal.title, refusal.detail.unwrap_or_default()]);
        }
    }
    for text in shown {
        assert!(text.chars().count() < 1_000, "{} characters", text.chars().count());
        let bad = text.chars().find(|c| c.is_control() || "\u{200b}\u{202e}\u{2066}".contains(*c));
        assert_eq!(bad, None, "in {text:?}");
    }
}

/// Nothing but the life of a session hangs on what time it is, whoever's clock is wrong.
#[tokio::test(flavor = "multi_thread")]
async fn mal_076_clocks_ten_years_off_change_nothing_that_counts() {
    for (server_ms, client_ms) in [(YEARS_10_MS, -YEARS_10_MS), (-YEARS_10_MS, YEARS_10_MS)] {
        let mut cast = Cast::new().await;
        let story = cast.story().await;
        story.phone.sync().await.unwrap();
        cast.server.clock().shift(server_ms);
        cast.phone_device.clock().shift(client_ms);
        // A session may be over; then a person signs in again, with nothing lost.
        let what = format!("server {server_ms}, phone {client_ms}");
        if let Err(error) = story.phone.sync().await {
            assert!(matches!(error, Error::SignInAgain { .. }), "{what}: {error:?}");
            cast.phone = cast.phone_device.signs_in(&cast.ana).await.unwrap().account;
        }
        let phone = cast.phone.vault_by_id(story.id).await.unwrap().unwrap();
        put(&phone, story.second, "whenever that was").await;
        phone.sync().await.unwrap();
        let bo = cast.server.device("new tablet").signs_in(&cast.bo_person).await.unwrap().account;
        let of_bo = join(&bo, story.id).await;
        assert_eq!(text(&of_bo, story.second).await.as_deref(), Some("whenever that was"), "{what}");
        put(&of_bo, story.second, "and after it").await;
        of_bo.sync().await.unwrap();
        phone.sync().await.unwrap();
        assert_eq!(text(&phone, story.second).await.as_deref(), Some("and after it"), "{what}: the order is the log's");
        // And a lie is caught as ever.
        cast.liar.shows(story.id, |frames| frames.truncate(3));
        cast.catches(&phone, &what, &[Misbehaviour::VaultRollback]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mal_077_nothing_is_said_over_a_line_that_others_can_read() {
    for far in ["http://example.org", "http://192.0.2.1", "http://localhost.example.org", "ftp://example.org"] {
        let refused = Client::builder(far).in_memory().build();
        assert!(matches!(refused, Err(Error::BadAddress(_))), "{far}: {refused:?}");
    }
    // A file without a certificate does not come to mean "whatever the machine trusts".
    let key_alone = "-----BEGIN PRIVATE KEY-----\nMAA=\n-----END PRIVATE KEY-----\n";
    for empty in ["", "no certificate", key_alone] {
        let refused = Http::builder().only_certificates(empty.as_bytes());
        assert!(matches!(refused, Err(HttpError::NoCertificate)), "{empty:?}");
    }

    // A server with a certificate of its own making: reached by who knows the certificate, and by nobody else.
    let (ours, theirs) = (Certificate::new(), Certificate::new());
    let settings = format!("[registration]\npolicy = \"open\"\n\n[tls]\n{}", ours.settings());
    let server = TestServer::with(Backend::SqliteAndFiles, &settings).await;
    let address = format!("https://localhost:{}", server.address().port());
    let name = server.network().name();
    let client = |http| {
        let builder = Client::builder(&address).in_memory().http(http).accept_server_name(name.clone());
        builder.build().unwrap()
    };
    let pinned = |certificate: &Certificate| Http::builder().only_certificates(certificate.pem.as_bytes()).unwrap();
    client(pinned(&ours)).sign_up(ANA, PASSWORD, SignUp::default()).await.unwrap();
    for (what, http) in [("not pinned", Http::builder()), ("another pinned", pinned(&theirs))] {
        let refused = client(http).sign_up("bo@example.org", PASSWORD, SignUp::default()).await;
        assert!(matches!(refused, Err(Error::Offline(_))), "{what}: {refused:?}");
    }

    // A server that speaks TLS 1.1 at most. The client offers nothing below 1.2 and takes nothing below it.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    let old = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut hello = vec![0; 16 * 1024];
        let length = socket.read(&mut hello).await.unwrap();
        let mut answer = vec![22, 3, 2, 0, 42, 2, 0, 0, 38, 3, 2];
        answer.extend([7; 32]);
        answer.extend([0, 0, 0x2f, 0]);
        socket.write_all(&answer).await.unwrap();
        let mut rest = Vec::new();
        // An alert, or nothing but the end.
        let _ = socket.read_to_end(&mut rest).await;
        (hello[..length].to_vec(), rest)
    });
    let refused = Client::builder(&address).in_memory().build().unwrap().server().await;
    assert!(matches!(refused, Err(Error::Offline(_))), "{refused:?}");
    let (hello, rest) = old.await.unwrap();
    // supported_versions: a list of two-byte versions behind the extension's number and lengths.
    let at = hello.windows(2).enumerate().find_map(|(at, pair)| {
        let listed = hello.get(at + 5..at + 5 + usize::from(*hello.get(at + 4)?))?;
        (pair == [0, 43] && listed.len() >= 2 && listed.iter().step_by(2).all(|high| *high == 3)).then_some(listed)
    });
    let versions: Vec<_> = at.expect("the client says which versions it speaks").chunks(2).collect();
    assert!(versions.iter().all(|version| version[1] == 3 || version[1] == 4), "{versions:?}");
    assert!(rest.first() != Some(&22), "the client goes on with TLS 1.1");
}

/// A certificate that nobody but its server has vouched for.
struct Certificate {
    pem: String,
    folder: tempfile::TempDir,
}

impl Certificate {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [("cert.pem", made.cert.pem()), ("key.pem", made.signing_key.serialize_pem())] {
            let path = folder.path().join(name);
            std::fs::File::create(&path).unwrap().write_all(text.as_bytes()).unwrap();
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }
        Certificate { pem: made.cert.pem(), folder }
    }

    fn settings(&self) -> String {
        let path = |name| self.folder.path().join(name);
        format!("cert = {:?}\nkey = {:?}\n", path("cert.pem"), path("key.pem"))
    }
}

/// Two people of one name and one password, each in a tenant of their own; the server shows one the other's things.
#[tokio::test(flavor = "multi_thread")]
async fn mal_078_another_tenants_things_are_not_taken_for_ones_own() {
    let world = World::new().await;
    world.server.add_tenant("acme").await;
    let theirs = world.server.device_of("acme", "desk");
    let (there, of_acme) = theirs.makes_an_account(ANA, PASSWORD).await;
    let network = world.server.network();

    // The sign-in of one is led to the other.
    network.behave(|mut request, server| async move {
        if request.is("POST /v1/auth/login/start") {
            request.rewrite(|start: &mut LoginStart| start.tenant = Some("acme".into()));
        }
        server.answer(&request).await
    });
    for device in [world.server.device("phone"), world.server.device("tablet")] {
        assert_wrong_credentials(device.signs_in(&world.ana).await);
    }
    assert_wrong_credentials(world.laptop.signs_in(&world.ana).await);
    network.behave_well();

    // Their account log as mine.
    of_acme.devices().await.unwrap();
    let fresh = world.server.device_of("acme", "watch");
    fresh.signs_in(&there).await.unwrap();
    let log: LogPage = network.calls("GET /v1/account/log").pop().unwrap().reply().read();
    network.tamper_with_reply("GET /v1/account/log", move |reply| {
        reply.rewrite(|page: &mut LogPage| *page = log.clone());
    });
    let refused = world.account.devices().await;
    assert!(matches!(refused, Err(Error::ServerMisbehaved { .. })), "{refused:?}");
    network.behave_well();

    // Their vault as mine: in the list, and page by page.
    let (ours, foreign) = (vault_with_a_note(&world.account).await, vault_with_a_note(&of_acme).await);
    let request = network.calls("POST /v1/vaults").pop().unwrap().request;
    let (frames, _) = selkie_e2e::liar::true_log(&network.server(), &request, &foreign.id()).await;
    let before = ours.digest().await.unwrap();
    network.tamper_with_reply("GET /v1/vaults/*/log", move |reply| {
        reply.rewrite(|page: &mut LogFrames| page.frames = vec![frames.last().unwrap().clone().into()]);
    });
    let refused = ours.sync().await;
    assert!(matches!(refused, Err(Error::Quarantined(_))), "{refused:?}");
    assert_eq!(ours.digest().await.unwrap(), before);
    network.behave_well();
    // Nor does an honest server hand it out to whoever knows its name.
    let about_ours = format!("/{}/", ours.id());
    let signed_in =
        network.exchanges().into_iter().find(|exchange| exchange.request.path.contains(&about_ours)).unwrap();
    let asked = Request {
        method: "GET".into(),
        path: format!("/v1/vaults/{}/log?after=0", foreign.id()),
        headers: signed_in.request.headers,
        body: Vec::new(),
    };
    let answer = network.server().reply(&asked).await;
    assert_eq!(answer.read::<ErrorBody>().code, ErrorCode::NotFound);
}

async fn vault_with_a_note(account: &selkie_client::Account) -> selkie_client::Vault {
    let vault = account.create_vault("Letters", APP).await.unwrap();
    put(&vault, vault.new_record_id(), "dear").await;
    vault.sync().await.unwrap();
    vault
}
