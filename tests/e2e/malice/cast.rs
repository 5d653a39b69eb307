//! The people of the stories about vaults, what each of them knows when a lie begins, and what is left of it.
//!
//! Ana has a laptop and a phone, Bo has a tablet; all three run the SDK. Cas runs something else and helps whoever runs
//! the server. The server is honest when a story begins; then it shows one of them something, and is caught, or what
//! it shows is not believed.

use selkie_client::{Account, Error, Misbehaviour, RecordId, Role, Vault, VaultState};
use selkie_e2e::canary::Canaries;
use selkie_e2e::device::{Device, Person};
use selkie_e2e::liar::Liar;
use selkie_e2e::message::header;
use selkie_e2e::premises::{Backend, Premises};
use selkie_e2e::scribe::{Author, Volume};
use selkie_e2e::server::TestServer;
use selkie_protocol::id::VaultId;

use super::{ANA, BO, PASSWORD};

pub(super) const APP: &str = "org.example.notes";
pub(super) const NOTES: &str = "notes";
/// Stands in everything that anybody writes.
const CANARY: &str = "canary of the vault";

/// Everybody, and the server they are on.
pub(super) struct Cast {
    pub(super) server: TestServer,
    pub(super) liar: Liar,
    pub(super) ana: Person,
    pub(super) laptop_device: Device,
    pub(super) laptop: Account,
    pub(super) phone_device: Device,
    pub(super) phone: Account,
    pub(super) bo_person: Person,
    pub(super) bo: Account,
    cas: Option<Author>,
}

/// One vault of Ana's. All three devices have read it up to the first note; then Ana wrote on her laptop and Bo on his
/// tablet, and the phone, which will be lied to, has seen none of that.
pub(super) struct Story {
    pub(super) id: VaultId,
    pub(super) laptop: Vault,
    pub(super) phone: Vault,
    pub(super) bo: Vault,
    /// The record that all of them know.
    pub(super) first: RecordId,
    /// One that only the laptop and the tablet know.
    pub(super) second: RecordId,
    /// How many entries the phone knows.
    pub(super) known: usize,
}

impl Cast {
    pub(super) async fn new() -> Self {
        let server = TestServer::start(Backend::SqliteAndFiles).await;
        let laptop_device = server.device("laptop");
        let (ana, laptop) = laptop_device.makes_an_account(ANA, PASSWORD).await;
        let phone_device = server.device("phone");
        let phone = phone_device.is_linked_by(&laptop, PASSWORD).await.unwrap();
        let (bo_person, bo) = server.device("tablet").makes_an_account(BO, PASSWORD).await;
        let liar = server.liar();
        Cast { server, liar, ana, laptop_device, laptop, phone_device, phone, bo_person, bo, cas: None }
    }

    pub(super) async fn with_cas() -> Self {
        let cast = Cast::new().await;
        let cas = Author::new(&cast.server.network().url(), "cas@example.org").await;
        Cast { cas: Some(cas), ..cast }
    }

    /// The same people before two servers with one past. The line leads to the one that stays theirs.
    pub(super) async fn split(self) -> (Self, TestServer) {
        let (server, other) = self.server.split().await;
        (Cast { server, ..self }, other)
    }

    /// The same people, and everything as it is now, for later.
    pub(super) async fn backup(self) -> (Self, Premises) {
        let (server, backup) = self.server.backup().await;
        (Cast { server, ..self }, backup)
    }

    /// The same people before a server that was honestly restored.
    pub(super) async fn restored(self, backup: Premises) -> Self {
        let server = self.server.restored(backup).await;
        Cast { server, ..self }
    }

    /// The same people before a server that took back what it said.
    pub(super) async fn replaced(self, backup: Premises) -> Self {
        let server = self.server.replaced(backup).await;
        Cast { server, ..self }
    }

    /// A vault of Ana's and Bo's.
    pub(super) async fn story(&self) -> Story {
        self.story_with(None).await
    }

    /// A vault in which Cas is, too, and reads what there is.
    pub(super) async fn story_with_cas(&self, role: Role) -> (Story, Volume) {
        let story = self.story_with(Some(role)).await;
        let volume = self.cas().joins(&story.id).await;
        (story, volume)
    }

    /// Who helps the server.
    pub(super) fn cas(&self) -> &Author {
        self.cas.as_ref().expect("a story in which Cas is")
    }

    async fn story_with(&self, cas: Option<Role>) -> Story {
        let laptop = self.laptop.create_vault("Household", APP).await.unwrap();
        let (first, second) = (laptop.new_record_id(), laptop.new_record_id());
        put(&laptop, first, "milk").await;
        laptop.sync().await.unwrap();
        laptop.add_member(self.bo.user_id(), Role::Editor).await.unwrap();
        if let Some(role) = cas {
            laptop.add_member(self.cas().user(), role).await.unwrap();
        }
        let id = laptop.id();
        let (phone, bo) = (join(&self.phone, id).await, join(&self.bo, id).await);
        let known = phone.digest().await.unwrap().n;
        put(&laptop, second, "bread").await;
        laptop.sync().await.unwrap();
        put(&bo, first, "milk and honey").await;
        bo.sync().await.unwrap();
        laptop.sync().await.unwrap();
        put(&laptop, first, "milk, honey and tea").await;
        laptop.sync().await.unwrap();
        Story { id, laptop, phone, bo, first, second, known: usize::try_from(known).unwrap() }
    }

    /// The phone after its app was closed and opened again.
    pub(super) async fn restart_phone(&mut self, id: VaultId) -> Vault {
        self.phone_device.restart();
        self.phone = self.phone_device.account(ANA).await.unwrap().expect("the phone has the account");
        self.phone.vault_by_id(id).await.unwrap().expect("the phone has the vault")
    }

    /// What is shown to a device is not believed: it says so, it keeps what it had and what it was shown, and asks for
    /// nothing more.
    #[track_caller]
    pub(super) fn catches<'a>(
        &'a self,
        at: &'a Vault,
        what: &'a str,
        expected: &'a [Misbehaviour],
    ) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let before = view(at).await;
            let caught = at.sync().await;
            let Err(Error::Quarantined(quarantine)) = &caught else { panic!("{caller}: {what}: {caught:?}") };
            assert!(expected.contains(&quarantine.kind), "{caller}: {what}: {quarantine:?}");
            assert_eq!(view(at).await, before, "{caller}: {what}: something of it was believed");
            let state = at.status().await.unwrap().state;
            assert!(matches!(state, VaultState::Quarantined(_)), "{caller}: {what}: {state:?}");
            let evidence = at.export_evidence().await.unwrap();
            assert_eq!(evidence.len(), 1, "{caller}: {what}");
            let record: serde_json::Value = serde_json::from_slice(&evidence[0]).unwrap();
            let shown = ["served", "heads"].iter().any(|part| record[part].as_array().is_some_and(|it| !it.is_empty()));
            assert!(shown, "{caller}: {what}: nothing of what was shown is kept: {record}");
            self.secrets().assert_absent_from("the evidence", &evidence[0]);
            let asked = self.server.network().exchanges().len();
            assert!(matches!(at.sync().await, Err(Error::Quarantined(_))), "{caller}: {what}: it stays apart");
            assert_eq!(self.server.network().exchanges().len(), asked, "{caller}: {what}: it asks for more");
            self.liar.stops();
        }
    }

    /// The phone is shown the log after this was done to it, and catches the server.
    #[track_caller]
    pub(super) fn phone_catches<'a>(
        &'a self,
        story: &'a Story,
        what: &'a str,
        expected: &'a [Misbehaviour],
        lie: impl Fn(&mut Vec<Vec<u8>>) + Send + Sync + 'static,
    ) -> impl Future<Output = ()> {
        self.liar.shows(story.id, lie);
        self.catches(&story.phone, what, expected)
    }

    /// Everything that nobody but these people may know.
    pub(super) fn secrets(&self) -> Canaries {
        let canaries = Canaries::default().text("the content of a record", CANARY);
        [&self.ana, &self.bo_person].into_iter().fold(canaries, |canaries, person| {
            let canaries = canaries.text("a recovery key", person.sheet.recovery_key());
            match person.sheet.secret_key() {
                Some(key) => canaries.text("a Secret Key", key),
                None => canaries,
            }
        })
    }

    /// Whatever crossed the line in all of this, nothing of it was open.
    pub(super) fn nothing_leaked(&self, keys: &[&[u8]]) {
        let canaries = keys.iter().fold(self.secrets().text("the password", PASSWORD), |canaries, key| {
            canaries.bytes("a key of a vault", key)
        });
        let exchanges = self.server.network().exchanges();
        assert!(exchanges.len() > 30, "only {} exchanges", exchanges.len());
        let all: Vec<u8> = exchanges.iter().flat_map(|exchange| exchange.raw()).collect();
        canaries.assert_absent_from("what crossed the line", &all);
        let tokens = exchanges.iter().filter(|one| header(&one.request.headers, "authorization").is_some()).count();
        assert!(tokens > 0, "nobody was signed in");
    }
}

/// Writes a note, with the canary in it.
pub(super) async fn put(vault: &Vault, id: RecordId, text: &str) {
    vault.put(NOTES, id, format!("{CANARY}: {text}").as_bytes()).await.unwrap();
}

/// What a note says, without the canary.
pub(super) async fn text(vault: &Vault, id: RecordId) -> Option<String> {
    let record = vault.get(id).await.unwrap()?;
    let text = String::from_utf8(record.data).unwrap();
    Some(text.strip_prefix(CANARY).map_or(text.clone(), |rest| rest.trim_start_matches(": ").to_owned()))
}

/// Finds a vault that one was added to.
pub(super) async fn join(account: &Account, id: VaultId) -> Vault {
    let outcome = account.sync().await.unwrap();
    let of_this = outcome.vaults.iter().find(|(vault, _)| *vault == id);
    assert!(of_this.is_some_and(|(_, outcome)| outcome.is_ok()), "{outcome:?}");
    account.vault_by_id(id).await.unwrap().expect("the vault is here")
}

/// Everything that a device shows of a vault.
pub(super) async fn view(vault: &Vault) -> String {
    let mut notes: Vec<String> = Vec::new();
    for record in vault.records(NOTES).await.unwrap() {
        notes.push(format!("{} {:?} {}", record.id, record.data, vault.history(record.id).await.unwrap().len()));
    }
    notes.sort();
    let (digest, members) = (vault.digest().await.unwrap(), vault.members().await.unwrap());
    format!("{digest} {members:?} {} {notes:?}", vault.status().await.unwrap().pending)
}
