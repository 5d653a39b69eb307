//! The promise: whoever has the server has nothing of what people keep on it.
//!
//! People live through a busy day with marked words everywhere. Afterwards everything that the server side holds or has
//! ever seen is searched for them, in every spelling: rows, files of the database with its log of writes, blobs, the
//! server's own words at its most talkative, figures, and every byte that crossed the line. So it is for the keys that
//! all of it is sealed under. Tokens, and the secret of an authenticator, do cross the line: they are searched for in
//! all the rest.

use std::collections::BTreeSet;
use std::path::Path;

use selkie_client::{Account, Collection, ExportOptions, Role, UserId, Vault};
use selkie_e2e::canary::Canaries;
use selkie_e2e::device::{Device, Person};
use selkie_e2e::liar::vault_in;
use selkie_e2e::message::header;
use selkie_e2e::network::{Exchange, Network, Outcome};
use selkie_e2e::premises::{Backend, Premises};
use selkie_e2e::program::ServerProcess;
use selkie_e2e::round::step;
use selkie_e2e::totp;
use selkie_protocol::bytes::from_base64url;
use selkie_protocol::cipher::{AccountRootSecret, EpochKey, Keybag, RecoveryKek, RecoveryKey};
use selkie_protocol::log::{Body, Control, Entry, Frame};
use selkie_protocol::session::{REFRESH_TOKEN_LENGTH, Refresh, RegisterFinish, Tokens};
use selkie_protocol::vault::{CreateVault, Push};
use selkie_test_postgres::Cluster;
use serde::{Deserialize, Serialize};

const ANA: &str = "ana@example.org";
const BO: &str = "bo@example.org";
const APP: &str = "org.example.journal";
const FIGURES: &str = "a token for figures, long enough";

// What nobody but Ana and Bo is to know.
const ANAS_PASSWORD: &str = "violet umbrella parade";
const ANAS_NEXT_PASSWORD: &str = "quiet lantern orchard";
const ANAS_LAST_PASSWORD: &str = "amber thimble causeway";
const BOS_PASSWORD: &str = "copper violin meadow";
const GUESSED: &str = "a guess of somebody else";
const LAPTOP: &str = "Laptop in the attic";
const PHONE: &str = "Phone with a scratch";
const TABLET: &str = "Tablet of the kitchen";
const JOURNAL: &str = "Diary of a lighthouse";
const HOUSEHOLD: &str = "Household at the harbour";
const NOTES: &str = "unspoken-thoughts";
const TITLE: &str = "The letter I never sent";
const BODY: &str = "He must not hear of the inheritance";
const ON_THE_LAPTOP: &str = "written beside the window";
const ON_THE_PHONE: &str = "written under the bridge";
const FROM_BO: &str = "eleven loaves and a secret";
const AFTER_BO: &str = "now that he is no longer here";
const TAKEN_BACK: &str = "what was better deleted";
const SETTING: &str = "favourite-constellation";
const SET_TO: &str = "Cassiopeia in November";
const PASSPHRASE: &str = "a passphrase for the drawer";
/// The name of a field of [`Note`], which is content as well.
const FIELD: &str = "confided_to_whom";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Note {
    title: String,
    body: String,
    confided_to_whom: String,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_learns_nothing_on_sqlite_and_files() {
    let premises = Premises::embedded();
    let day = a_busy_day(&premises).await;
    day.is_nowhere_in(&premises).await;
    day.is_in_no_file_of("the data folder", &premises.data_folder());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_learns_nothing_on_postgres_and_s3() {
    let cluster = Cluster::durable().unwrap_or_else(|error| panic!("a PostgreSQL of our own: {error}"));
    let premises = Premises::in_cluster(&cluster).await;
    let day = a_busy_day(&premises).await;
    day.is_nowhere_in(&premises).await;
    premises.checkpoint().await;
    // The heap, the indexes and every write since the cluster was made.
    day.is_in_no_file_of("PostgreSQL's files", cluster.folder().expect("the cluster is ours"));
    day.is_in_no_file_of("the bucket", premises.bucket().expect("there is one"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_search_for_what_a_server_learned_finds_what_a_careless_client_would_tell() {
    let cluster = Cluster::durable().unwrap_or_else(|error| panic!("a PostgreSQL of our own: {error}"));
    for premises in [Premises::embedded(), Premises::in_cluster(&cluster).await] {
        let network = Network::new().await;
        let server = start(&premises, &network).await;
        // The name of an app is one of the few things that the server is told, in clear.
        let told = "org.example.confidential";
        let (_, account) = Device::new(&network.url(), LAPTOP).makes_an_account(ANA, ANAS_PASSWORD).await;
        account.create_vault(JOURNAL, told).await.unwrap();
        account.sync().await.unwrap();
        let mark = Canaries::default().text("a mark", told);
        let rows = premises.tables().await;
        assert!(rows.values().flatten().any(|row| mark.find_in(row.as_bytes()).is_some()), "not seen in a row");
        assert!(rows.values().flatten().any(|row| mark.find_in(&bytes_in(row)).is_some()), "not seen in bytes");
        assert!(network.exchanges().iter().any(|one| mark.find_in(&one.raw()).is_some()), "not seen on the line");
        drop(server);
        premises.checkpoint().await;
        let data = premises.data_folder();
        let folder = if premises.backend() == Backend::PostgresAndS3 { cluster.folder().unwrap() } else { &data };
        let (mut seen, mut files) = (0, 0);
        each_file(folder, &mut |_, bytes| {
            files += 1;
            seen += usize::from(mark.find_in(bytes).is_some());
        });
        assert!(seen > 0, "not seen in {files} files");
    }
}

/// What was marked, and what was overheard.
struct Day {
    /// What only the people know, and their devices.
    marks: Canaries,
    /// That, and what the server is shown and must not keep.
    not_kept: Canaries,
    /// The server's own words.
    said: Vec<(&'static str, Vec<u8>)>,
    crossed: Vec<(String, Vec<u8>)>,
}

async fn start(premises: &Premises, network: &Network) -> ServerProcess {
    let settings = format!("[registration]\npolicy = \"open\"\n[metrics]\ntoken = \"{FIGURES}\"\n");
    ServerProcess::start(premises, network, &settings, &[("SELKIE_LOG__LEVEL", "trace")]).await
}

async fn notes_in(account: &Account, name: &str) -> (Vault, Collection<Note>) {
    let vault = account.vault(name).await.expect("the list can be read").expect("the vault is here");
    let notes = vault.collection(NOTES);
    (vault, notes)
}

fn note(body: &str) -> Note {
    Note { title: TITLE.into(), body: body.into(), confided_to_whom: "nobody at all".into() }
}

async fn a_busy_day(premises: &Premises) -> Day {
    let network = Network::new().await;
    let mut server = start(premises, &network).await;
    // Checkpoints early, so that there is something in the blobs.
    let device = |name| Device::new(&network.url(), name).with_app(|client| client.checkpoint_after(2, 0));
    let [laptop, phone, tablet] = [LAPTOP, PHONE, TABLET].map(device);

    // Two people come, and one of them with two devices; somebody guesses.
    let (ana, on_laptop) = laptop.makes_an_account(ANA, ANAS_PASSWORD).await;
    let (bo, on_tablet) = tablet.makes_an_account(BO, BOS_PASSWORD).await;
    let on_phone = phone.is_linked_by(&on_laptop, ANAS_PASSWORD).await.unwrap();
    let guesser = Person { password: GUESSED.into(), ..ana.clone() };
    tablet.signs_in(&guesser).await.unwrap_err();

    // Ana writes, settles what she wrote in two places, deletes, sets, finds.
    let journal = on_laptop.create_vault(JOURNAL, APP).await.unwrap();
    let notes = journal.collection::<Note>(NOTES);
    let id = notes.put(&note(BODY)).await.unwrap();
    on_laptop.settings().put(SETTING, SET_TO.as_bytes()).await.unwrap();
    step(&on_laptop).await;
    step(&on_phone).await;
    let (_, there) = notes_in(&on_phone, JOURNAL).await;
    there.update(id, |note| note.body = ON_THE_PHONE.into()).await.unwrap();
    notes.update(id, |note| note.body = ON_THE_LAPTOP.into()).await.unwrap();
    let short = notes.put(&note(TAKEN_BACK)).await.unwrap();
    for _ in 0..2 {
        step(&on_laptop).await;
        step(&on_phone).await;
    }
    notes.delete(short).await.unwrap();
    step(&on_laptop).await;

    // She shares with Bo, who writes and is sent away; what she writes then is under another key.
    let household = on_laptop.create_vault(HOUSEHOLD, APP).await.unwrap();
    let shared = household.collection::<Note>(NOTES);
    step(&on_laptop).await;
    household.add_member(on_tablet.user_id(), Role::Editor).await.unwrap();
    step(&on_laptop).await;
    step(&on_tablet).await;
    let (_, of_bo) = notes_in(&on_tablet, HOUSEHOLD).await;
    of_bo.put(&note(FROM_BO)).await.unwrap();
    step(&on_tablet).await;
    step(&on_laptop).await;
    assert_eq!(shared.query().all().await.unwrap().len(), 1, "what Bo wrote has come");
    household.remove_member(on_tablet.user_id()).await.unwrap();
    shared.put(&note(AFTER_BO)).await.unwrap();
    step(&on_laptop).await;

    // She takes everything home, is asked for two things at the door, changes her password and loses everything.
    let home = tempfile::tempdir().unwrap();
    let sealed = ExportOptions { passphrase: Some(PASSPHRASE.into()), ..ExportOptions::default() };
    let file = std::fs::File::create(home.path().join("diary.zip.age")).unwrap();
    journal.export(file, sealed).await.unwrap();
    laptop.clock().shift(16 * 60_000);
    // Her access token is too old by now: the refresh token is shown.
    on_laptop.devices().await.unwrap();
    let totp = on_laptop.enable_totp(ANAS_PASSWORD).await.unwrap();
    on_laptop.change_password(ANAS_PASSWORD, ANAS_NEXT_PASSWORD, false).await.unwrap();
    let (recovered, again) = Device::new(&network.url(), PHONE).recovers(&ana, ANAS_LAST_PASSWORD).await.unwrap();
    step(&again.account).await;
    let (_, there) = notes_in(&again.account, JOURNAL).await;
    assert_eq!(there.query().all().await.unwrap().len(), 1, "and has it again");
    on_tablet.delete_account(BOS_PASSWORD).await.unwrap();

    let figures = reqwest::Client::new().get(format!("http://{}/metrics", server.address())).bearer_auth(FIGURES);
    let figures = figures.send().await.unwrap().error_for_status().unwrap().bytes().await.unwrap();
    assert!(figures.len() > 1000, "there are figures");
    // The next server begins with what waits to be done: the checkpoints are laid out.
    server.kill();
    let mut log = server.log().into_bytes();
    let server = start(premises, &network).await;
    premises.hold_a_blob().await;

    let mut marks = Canaries::default();
    for person in [&ana, &bo, &recovered] {
        marks = marks.and(person.secrets());
    }
    for word in [
        ANAS_NEXT_PASSWORD,
        GUESSED,
        LAPTOP,
        PHONE,
        TABLET,
        JOURNAL,
        HOUSEHOLD,
        NOTES,
        TITLE,
        BODY,
        ON_THE_LAPTOP,
        ON_THE_PHONE,
        FROM_BO,
        AFTER_BO,
        TAKEN_BACK,
        SETTING,
        SET_TO,
        PASSPHRASE,
        FIELD,
        "nobody at all",
    ] {
        marks = marks.text(word, word);
    }
    let exchanges = network.exchanges();
    let marks = marks.and(keys_of(&ana, on_laptop.user_id(), &exchanges));
    let secret = totp.secret.as_str();
    let factor = Canaries::default()
        .text("the secret of the authenticator", secret)
        .bytes("the bytes of that secret", &totp::from_base32(secret));
    let shown = [tokens_in(&exchanges), factor];
    for shown in &shown {
        let is_seen = exchanges.iter().any(|one| shown.find_in(&one.raw()).is_some());
        assert!(is_seen, "{shown:?} did not cross the line, and are searched for wrongly");
    }
    let not_kept = shown.into_iter().fold(marks.clone(), Canaries::and);
    log.extend(server.log().into_bytes());

    assert!(log.len() > 10_000, "it is talkative");
    let said = vec![("the figures", figures.to_vec()), ("the server's log", log)];
    let place = |one: &Exchange| format!("what crossed at {} {}", one.request.method, one.request.path);
    let crossed = exchanges.iter().map(|one| (place(one), one.raw())).collect();
    Day { marks, not_kept, said, crossed }
}

/// The keys that what this person made is sealed under, by way of the recovery key, as they would come by them.
fn keys_of(person: &Person, user: UserId, exchanges: &[Exchange]) -> Canaries {
    let recovery_key = RecoveryKey::parse(person.sheet.recovery_key()).expect("it is on the sheet");
    let open = |bag: Keybag| {
        let kek = RecoveryKek::derive(&recovery_key, &user, bag.rec_gen());
        bag.open_with_recovery(&kek, &user).ok()
    };
    let sent = exchanges.iter().filter(|one| one.request.is("POST /v1/auth/register/finish"));
    let bags = sent.filter_map(|one| one.request.read::<RegisterFinish>().account);
    let root: AccountRootSecret = bags
        .filter_map(|account| Keybag::parse(account.keybag.as_ref()).ok())
        .find_map(open)
        .expect("the account came with its keybag");

    let master_key = root.master_key(&user, 1).to_bytes();
    let mut keys = Canaries::default().bytes("the account's master key", master_key.as_slice());
    let mut epochs = BTreeSet::new();
    for request in exchanges.iter().map(|one| &one.request) {
        let (frame, wraps) = if request.is("POST /v1/vaults") {
            let made: CreateVault = request.read();
            (made.frame, made.wraps)
        } else if request.is("POST /v1/vaults/*/push") {
            let pushed: Push = request.read();
            (pushed.frame, pushed.wraps)
        } else {
            continue;
        };
        let entry = Entry::parse(Frame::entry_bytes(&frame).expect("a frame")).expect("an entry");
        let (epoch, commitment) = match &entry.body {
            Body::Control(Control::Create(create)) => (1, create.commitment),
            Body::Control(Control::RemoveRotate(rotate)) => (rotate.epoch, rotate.commitment),
            _ => continue,
        };
        let vault = entry.creates().or_else(|| vault_in(&request.path)).expect("it is in some vault");
        for wrap in wraps.iter().filter(|wrap| wrap.uid == user) {
            let kem = root.master_key(&user, wrap.generation).user_kem(&user);
            let key = EpochKey::open(vault, epoch, &user, &kem, wrap.sealed.as_ref(), &commitment);
            keys = keys.bytes("a key of a vault", key.expect("a wrap for this person").to_bytes().as_slice());
            epochs.insert(epoch);
        }
    }
    assert!(epochs.len() > 1, "there are keys of more than one epoch to look for");
    keys
}

/// What opens the doors of the accounts.
fn tokens_in(exchanges: &[Exchange]) -> Canaries {
    let (mut access, mut refresh) = (BTreeSet::new(), BTreeSet::new());
    for Exchange { request, outcome } in exchanges {
        access.extend(header(&request.headers, "authorization").map(|bearer| bearer.replace("Bearer ", "")));
        if !request.is("POST /v1/auth/refresh") {
            continue;
        }
        refresh.insert(request.read::<Refresh>().refresh_token.0);
        if let Outcome::Answer(reply) = outcome
            && reply.is_success()
        {
            let tokens: Tokens = reply.read();
            access.insert(tokens.access_token.as_str().to_owned());
            refresh.insert(tokens.refresh_token.0);
        }
    }
    assert!(access.len() > 3 && refresh.len() > 1, "{} and {} tokens crossed", access.len(), refresh.len());
    let mut tokens = Canaries::default();
    // Of each the part that nobody can make up: the others say who it is for.
    for token in access {
        let signature = token.rsplit('.').next().unwrap_or_default();
        let bytes = from_base64url(signature).expect("a signature in base64url");
        tokens = tokens.text("an access token", signature).bytes("the signature of an access token", &bytes);
    }
    for token in refresh {
        tokens = tokens.bytes("a refresh token", &token[REFRESH_TOKEN_LENGTH - 32..]);
    }
    tokens
}

impl Day {
    /// In no row, no name of a blob, nothing that the server said, and nothing that crossed the line.
    async fn is_nowhere_in(&self, premises: &Premises) {
        let tables = premises.tables().await;
        assert!(tables["vault_entries"].len() > 10, "there is something to be searched");
        for (table, row) in tables.iter().flat_map(|(table, rows)| rows.iter().map(move |row| (table, row))) {
            self.not_kept.assert_absent_from(table, row.as_bytes());
            self.not_kept.assert_absent_from(table, &bytes_in(row));
        }
        assert!(!premises.blobs().is_empty(), "there are blobs to be searched");
        for name in premises.blobs() {
            self.not_kept.assert_absent_from("a blob's name", name.as_bytes());
        }
        for (what, bytes) in &self.said {
            self.not_kept.assert_absent_from(what, bytes);
        }
        for (what, bytes) in &self.crossed {
            self.marks.assert_absent_from(what, bytes);
        }
    }

    fn is_in_no_file_of(&self, what: &str, folder: &Path) {
        let mut files = 0;
        each_file(folder, &mut |path, bytes| {
            files += 1;
            self.not_kept.assert_absent_from(&format!("{what}: {}", path.display()), bytes);
        });
        assert!(files > 0, "{what} is empty");
    }
}

/// A row's columns of bytes, as they are: both databases print them in hex.
fn bytes_in(row: &str) -> Vec<u8> {
    let pairs = row.as_bytes().split(|byte| !byte.is_ascii_hexdigit()).filter(|digits| digits.len() % 2 == 0);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.flat_map(|digits| digits.chunks_exact(2).map(byte)).collect()
}

fn each_file(folder: &Path, look: &mut impl FnMut(&Path, &[u8])) {
    for entry in std::fs::read_dir(folder).expect("the folder is ours") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            each_file(&path, look);
        } else if let Ok(bytes) = std::fs::read(&path) {
            // A file of a living database may be gone by now; what it held is in another.
            look(&path, &bytes);
        }
    }
}
