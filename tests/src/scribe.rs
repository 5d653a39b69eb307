//! People who write to vaults at the level of the wire, without the SDK: real keys, real seals, real signatures.
//!
//! Owns the making of accounts, devices, vaults and entries, and the asking. Cheap enough for thousands: only an
//! account costs the stretching of a password; its further devices come in by link, which costs four requests; and a
//! [`Pen`] writes on without having the log at hand. Knows nothing about what is a fair answer: it hands every one
//! back.

use std::collections::BTreeMap;
use std::sync::Arc;

use selkie_protocol::account_log::{AccountLog, Payload, login_name_hash};
use selkie_protocol::cipher::{
    AccountMasterKey, AccountRootSecret, DeviceKey, EpochKey, FirstEpochKey, Keybag, LinkHello, LinkSecret,
    PasswordKek, RecordContext, RecordKey, RecoveryKek, RecoveryKey,
};
use selkie_protocol::hash::{Label, sha256};
use selkie_protocol::id::{ChangeId, DeviceId, RecordId, UserId, VaultId};
use selkie_protocol::link::{LinkAnswer, LinkOpened, LinkRequest, LinkSession, OpenLink};
use selkie_protocol::log::{
    App, Body, Control, Create, Data, Entry, Frame, Head, Header, Kind, NewChange, Refusal, Role, SignedHead, VaultLog,
    chain, first_header, signed,
};
use selkie_protocol::name::LoginName;
use selkie_protocol::session::{
    LoginDevice, LoginFinish, LoginFinished, LoginStart, LoginStarted, NewAccount, RegisterFinish, RegisterStart,
    RegisterStarted, Registered, Tokens,
};
use selkie_protocol::vault::{CreateVault, LogFrames, PollState, Polled, Push, Pushed, VaultHead, Wrap};
use selkie_protocol::{Bytes, Face, bytes, opaque};
use serde::de::DeserializeOwned;

use crate::caller::{Answer, Caller, fixed, input, open, stretch};

/// The app of every vault here.
pub const APP: &str = "org.example.journal";
/// Everybody's password.
pub const PASSWORD: &str = "seven silver swans sail";
const FIRST: u32 = 1;
/// The clock of whoever writes here: nothing depends on it.
const NOW_MS: u64 = 1_700_000_000_000;

/// Everybody's account log, as it was when a vault was made.
pub type Acquaintances = BTreeMap<UserId, AccountLog>;

/// Somebody with an account, whose secrets lie open.
pub struct Author {
    caller: Caller,
    root: AccountRootSecret,
    pub(crate) master_key: AccountMasterKey,
    log: AccountLog,
    first: Scribe,
}

/// One device of somebody's, signed in.
#[derive(Clone)]
pub struct Scribe {
    pub user: UserId,
    pub tokens: Tokens,
    key: Arc<DeviceKey>,
    caller: Caller,
}

/// A vault as somebody has verified it.
#[derive(Clone)]
pub struct Volume {
    pub log: VaultLog,
    pub key: Arc<RecordKey>,
    pub(crate) epoch_key: Arc<EpochKey>,
    pub(crate) people: Acquaintances,
    /// The frames, from the first on, as they were pushed or pulled.
    pub frames: Vec<Vec<u8>>,
}

/// What a device needs to write its next entry, and no more: it does not have the log.
#[derive(Clone)]
pub struct Pen {
    pub scribe: Scribe,
    key: Arc<RecordKey>,
    next: Header,
}

/// An entry that is ready to be pushed.
#[derive(Clone)]
pub struct Written {
    pub frame: Vec<u8>,
    pub hash: [u8; 32],
    pub changes: Vec<ChangeId>,
}

/// A change that somebody wants to make to a record they alone write.
#[derive(Clone, Debug)]
pub struct Line {
    pub record: RecordId,
    pub on_top_of: Vec<ChangeId>,
    pub content: Vec<u8>,
}

impl Author {
    /// Makes an account with keys and signs its first device in: the password is stretched twice.
    pub async fn new(url: &str, login_name: &str) -> Self {
        let caller = Caller::new(url, Face::Cbor);
        let server_name = caller.server_name().await;
        let password = input(&server_name, login_name, PASSWORD);
        let started = opaque::RegistrationStarted::new(&password).expect("the suite takes any password");
        let request = fixed(&started.request);
        let start = RegisterStart { tenant: None, login_name: login_name.into(), invite: None, request };
        let answer: RegisterStarted = must(caller.post("/v1/auth/register/start", None, &start).await);
        let (again, response) = (password.clone(), answer.response);
        let finished = stretch(move || started.finish(&again, response.as_ref())).await.expect("an honest response");

        let key = DeviceKey::generate();
        let root = AccountRootSecret::generate();
        let genesis = root.identity().sign_genesis(NOW_MS);
        let mut log = AccountLog::begin(&genesis).expect("a genesis we signed is one");
        let user = log.user();
        let master_key = root.master_key(&user, FIRST);
        let recovery_key = RecoveryKey::generate();
        let name = LoginName::new(login_name).expect("a login name");
        let mut entries = vec![Bytes::from(genesis.as_bytes())];
        for payload in [
            key.device_add(&user),
            Payload::UserKem { generation: FIRST, public_key: Box::new(*master_key.user_kem(&user).public_key()) },
            Payload::PasswordGeneration(FIRST),
            Payload::LoginName(login_name_hash(&server_name, name.as_str())),
            Payload::RecoveryKey { generation: FIRST, public_key: recovery_key.sign_in_key(&user, FIRST).public_key() },
        ] {
            entries.push(sign_next(&root, &mut log, payload));
        }
        let password_kek = PasswordKek::derive(&finished.export_key, &user, FIRST);
        let recovery_kek = RecoveryKek::derive(&recovery_key, &user, FIRST);
        let account = NewAccount {
            entries,
            keybag: Keybag::seal(&root, &password_kek, &recovery_kek, &user).to_bytes(),
            device_label: master_key.seal_label(&key.id(), "desk"),
        };
        let message =
            RegisterFinish { reg_token: answer.reg_token, record: fixed(&finished.record), account: Some(account) };
        let made: Registered = must(caller.post("/v1/auth/register/finish", None, &message).await);
        assert_eq!(made.uid, Some(user), "the account has the name its first entry gives it");

        let tokens = sign_in(&caller, &password, login_name, &key).await;
        let first = Scribe { user, tokens, key: Arc::new(key), caller: caller.clone() };
        Author { caller, root, master_key, log, first }
    }

    pub fn user(&self) -> UserId {
        self.first.user
    }

    /// The device the account was made on.
    pub fn first(&self) -> Scribe {
        self.first.clone()
    }

    /// Everything that may be known of this person: to be asked after the last device came in.
    pub fn log(&self) -> &AccountLog {
        &self.log
    }

    /// One more device, by link from the first: no password is stretched. Both ends of the link are in one hand here,
    /// so only the messages that the server reads say something.
    pub async fn bring_in(&mut self) -> Scribe {
        let user = self.user();
        let bearer = Some(&self.first.tokens);
        let secret = LinkSecret::generate();
        let channel = secret.channel();
        let key = DeviceKey::generate();
        let hello = secret.seal(&LinkHello::new(&key, &user, "another")).expect("a short name");
        let opening = OpenLink { channel, offer: Bytes(vec![0]) };
        let _: LinkOpened = must(self.caller.post("/v1/links", bearer, &opening).await);
        let path = format!("/v1/links/{channel}");
        let request = LinkRequest { request: hello.into() };
        done(&self.caller, &format!("{path}/request"), None, &request).await;
        let entry = sign_next(&self.root, &mut self.log, key.device_add(&user));
        let label = self.master_key.seal_label(&key.id(), "another");
        let answer = LinkAnswer { answer: Bytes(vec![0]), entry, label };
        done(&self.caller, &format!("{path}/answer"), bearer, &answer).await;
        let signature = key.sign(Label::LINK_SESSION, &[channel.as_bytes()]).0.into();
        let session = LinkSession { signature, app: Some(APP.into()) };
        let tokens: Tokens = must(self.caller.post(&format!("{path}/session"), None, &session).await);
        Scribe { user, tokens, key: Arc::new(key), caller: self.caller.clone() }
    }

    /// This many devices, the first among them.
    pub async fn with_devices(&mut self, count: usize) -> Vec<Scribe> {
        let mut devices = vec![self.first()];
        while devices.len() < count {
            devices.push(self.bring_in().await);
        }
        devices
    }

    /// Makes a vault on the first device. The devices that are to write must have come in before.
    pub async fn make_vault(&self) -> Volume {
        let (volume, message) = self.draft_vault();
        let made: Pushed = must(self.first.caller.post("/v1/vaults", Some(&self.first.tokens), &message).await);
        assert_eq!(made.n, 1);
        volume
    }

    /// A vault, and the message that makes it.
    pub fn draft_vault(&self) -> (Volume, CreateVault) {
        let user = self.user();
        let key = FirstEpochKey::generate();
        let random = sha256(&key.commitment());
        let create = Create {
            random: random[..16].try_into().expect("16 of 32"),
            anchor: self.log.head(),
            identity: self.log.identity(),
            commitment: key.commitment(),
            min_format: 1,
            flags: 0,
            app: App::new(APP).expect("a plain name"),
        };
        let header = first_header(user, self.first.device(), NOW_MS);
        let entry = self.first.sign(&header, Kind::Control, &Control::Create(create).to_bytes());
        let people = Acquaintances::from([(user, self.log.clone())]);
        let parsed = Entry::parse(&entry).expect("an entry we wrote");
        let (log, _) = VaultLog::create(&parsed, &people).expect("a first entry");
        let epoch_key = Arc::new(key.of(log.core().vault()));
        let wraps = vec![wrap(&epoch_key, &self.log)];
        let frame = Frame::write(&entry, &[]);
        let message = CreateVault { frame: frame.clone().into(), wraps };
        (Volume { log, key: Arc::new(epoch_key.record_key()), epoch_key, people, frames: vec![frame] }, message)
    }
}

impl Scribe {
    pub fn device(&self) -> DeviceId {
        self.key.id()
    }

    /// The same device, asking at another address.
    pub fn at(&self, url: &str) -> Scribe {
        Scribe { caller: Caller::new(url, Face::Cbor), ..self.clone() }
    }

    pub fn sign(&self, header: &Header, kind: Kind, body: &[u8]) -> Vec<u8> {
        let unsigned = header.with_body(kind, body);
        let signature = self.key.sign(Label::VAULT_ENTRY_SIG, &[&unsigned]);
        signed(unsigned, &signature)
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Answer<T> {
        self.caller.get(path, Some(&self.tokens)).await
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str, message: &impl serde::Serialize) -> Answer<T> {
        self.caller.post(path, Some(&self.tokens), message).await
    }

    pub async fn push(&self, vault: &VaultId, frame: &[u8]) -> Answer<Pushed> {
        self.push_with(vault, frame, Vec::new()).await
    }

    pub async fn push_with(&self, vault: &VaultId, frame: &[u8], wraps: Vec<Wrap>) -> Answer<Pushed> {
        let message = Push { frame: frame.into(), wraps };
        self.caller.post(&push_path(vault), Some(&self.tokens), &message).await
    }

    /// Pushes to a server that may be gone before it has answered: then there is no answer.
    pub async fn try_push(&self, vault: &VaultId, frame: &[u8]) -> Option<Answer<Pushed>> {
        let message = Face::Cbor.encode(&Push { frame: frame.into(), wraps: Vec::new() });
        let headers = self.caller.headers(Some(&self.tokens));
        let reply = self.caller.try_send("POST", &push_path(vault), &headers, message).await;
        reply.ok().map(open)
    }

    pub async fn log_after(&self, vault: &VaultId, after: u64, max_entries: usize) -> Answer<LogFrames> {
        self.get(&format!("/v1/vaults/{vault}/log?after={after}&max_entries={max_entries}")).await
    }

    pub async fn head(&self, vault: &VaultId) -> Answer<VaultHead> {
        self.get(&format!("/v1/vaults/{vault}/head")).await
    }

    pub async fn poll(&self, known: Option<&PollState>) -> Answer<Polled> {
        let query = known.map(|state| format!("?known={}", bytes::to_base64url(&state[..]))).unwrap_or_default();
        self.get(&format!("/v1/poll{query}")).await
    }

    /// Verifies everything that is new in a vault, to the head that the server says there is; returns how many
    /// entries.
    pub async fn pull(&self, volume: &mut Volume) -> usize {
        let vault = volume.vault();
        let before = volume.frames.len();
        loop {
            let page = must(self.log_after(&vault, volume.log.head().n, 500).await);
            let head = SignedHead::parse(&page.head[..]).expect("a head the server signed");
            assert_eq!(head.vault, vault);
            let empty = page.frames.is_empty();
            for frame in page.frames {
                volume.take(frame.0).unwrap_or_else(|refusal| panic!("a log that does not verify: {refusal}"));
            }
            if head.head.n == volume.log.head().n {
                assert_eq!(head.head, volume.log.head(), "the head that was signed is that of the entries that came");
                return volume.frames.len() - before;
            }
            assert!(!empty, "an empty page at {}, and the head is at {}", volume.log.head().n, head.head.n);
        }
    }
}

impl Volume {
    pub fn vault(&self) -> VaultId {
        self.log.core().vault()
    }

    /// Takes the next frame, with everything beside it.
    pub fn take(&mut self, frame: Vec<u8>) -> Result<(), Refusal> {
        let parsed = Frame::parse(&frame)?;
        assert!(parsed.is_whole(), "something is missing beside the entry");
        self.log.apply(&parsed.entry, parsed.beside(), &self.people)?;
        self.frames.push(frame);
        Ok(())
    }

    /// The frame at a position.
    pub fn at(&self, n: u64) -> &[u8] {
        &self.frames[usize::try_from(n).expect("positions are few") - 1]
    }

    /// A device that writes on from here.
    pub fn pen(&self, scribe: &Scribe) -> Pen {
        let next = self.log.core().next_header(scribe.user, scribe.device(), 0, NOW_MS);
        Pen { scribe: scribe.clone(), key: self.key.clone(), next }
    }

    /// Lets somebody else write here. The owner signs and pushes; nobody else may be writing meanwhile.
    pub async fn admit(&mut self, owner: &Scribe, other: &Author) {
        self.admit_person(owner, &other.log, Role::Editor).await;
    }

    /// As [`Volume::admit`], for who is known by their account log alone.
    pub async fn admit_person(&mut self, owner: &Scribe, log: &AccountLog, role: Role) {
        self.people.insert(log.user(), log.clone());
        let (identity, anchor) = (log.identity(), log.head());
        let control = Control::AddMember { user: log.user(), identity, anchor, role, invite: None };
        let header = self.log.core().next_header(owner.user, owner.device(), 0, NOW_MS);
        let frame = Frame::write(&owner.sign(&header, Kind::Control, &control.to_bytes()), &[]);
        let wraps = vec![wrap(&self.epoch_key, log)];
        must(owner.push_with(&self.vault(), &frame, wraps).await);
        self.take(frame).expect("an entry that the server took");
    }
}

impl Pen {
    pub fn vault(&self) -> VaultId {
        self.next.vault
    }

    /// The device's next entry. It stays the next one until [`Pen::wrote`].
    pub fn write(&self, lines: &[Line]) -> Written {
        let header = &self.next;
        let payloads: Vec<Vec<u8>> = (0..)
            .zip(lines)
            .map(|(index, line)| {
                let context = RecordContext {
                    user: header.user,
                    device: header.device,
                    dev_seq: header.dev_seq,
                    index,
                    record: line.record,
                    full: true,
                    deps: line.on_top_of.clone(),
                };
                self.key.seal(&context, &line.content).expect("a short content")
            })
            .collect();
        let changes: Vec<NewChange<'_>> = lines
            .iter()
            .zip(&payloads)
            .map(|(line, payload)| NewChange { record: line.record, full: true, deps: &line.on_top_of, payload })
            .collect();
        let body = Data::write(&changes).expect("changes that fit");
        let entry = self.scribe.sign(header, Kind::Data, &body);
        let parsed = Entry::parse(&entry).expect("an entry we wrote");
        let Body::Data(data) = &parsed.body else { unreachable!("it was written as DATA") };
        let changes = data.changes().map(|change| change.id(&header.vault, &header.device, header.dev_seq)).collect();
        Written { hash: parsed.hash(), changes, frame: Frame::write(&entry, &payloads.concat()) }
    }

    /// The entry was taken. `seen` is a position that the device may say to have seen from now on.
    pub fn wrote(&mut self, written: &Written, seen: Option<Head>) {
        self.next.dev_seq += 1;
        self.next.dev_prev = written.hash;
        if let Some(seen) = seen {
            self.next.seen = seen;
        }
    }

    /// Where the device stands.
    pub fn seen(&self) -> Head {
        self.next.seen
    }

    /// The entry will be the log's next one, because nobody else writes there: goes on to what follows it.
    pub fn wrote_alone(&mut self, written: &Written) {
        let Head { n, h } = self.next.seen;
        self.wrote(written, Some(Head { n: n + 1, h: chain(&h, n + 1, &written.hash) }));
    }

    /// Pushes an entry and goes on to the next.
    pub async fn push(&mut self, written: &Written) -> Answer<Pushed> {
        let pushed = self.scribe.push(&self.vault(), &written.frame).await?;
        self.wrote(written, Some(seen(&pushed)));
        Ok(pushed)
    }
}

impl Line {
    /// A record that is new.
    pub fn new(record: RecordId, content: &[u8]) -> Self {
        Line { record, on_top_of: Vec::new(), content: content.to_vec() }
    }
}

/// The head that came with an answer.
pub fn seen(pushed: &Pushed) -> Head {
    SignedHead::parse(&pushed.head[..]).expect("a head the server signed").head
}

pub fn push_path(vault: &VaultId) -> String {
    format!("/v1/vaults/{vault}/push")
}

/// A record id as random ones are, from a number.
pub fn record(number: u64) -> RecordId {
    let digest = sha256(&number.to_be_bytes());
    RecordId(digest[..16].try_into().expect("16 of 32"))
}

/// What was asked is in order, so the answer must be one.
#[track_caller]
pub fn must<T>(answer: Answer<T>) -> T {
    answer.unwrap_or_else(|refused| panic!("refused: {refused:?}"))
}

async fn done(caller: &Caller, path: &str, bearer: Option<&Tokens>, message: &impl serde::Serialize) {
    let reply = caller.send("POST", path, &caller.headers(bearer), Face::Cbor.encode(message)).await;
    assert!(reply.is_success(), "{path}: {} {:?}", reply.status, reply.read::<selkie_protocol::ErrorBody>());
}

async fn sign_in(caller: &Caller, password: &[u8], login_name: &str, key: &DeviceKey) -> Tokens {
    let started = opaque::LoginStarted::new(password).expect("the suite takes any password");
    let start = LoginStart { tenant: None, login_name: login_name.into(), ke1: fixed(&started.ke1), device: None };
    let answer: LoginStarted = must(caller.post("/v1/auth/login/start", None, &start).await);
    let (password, ke2) = (password.to_vec(), answer.ke2);
    let finished = stretch(move || started.finish(&password, ke2.as_ref())).await.expect("the password is right");
    let signature = key.sign(Label::DEVICE_LOGIN, &[answer.login_id.as_bytes()]).0.into();
    let message = LoginFinish {
        login_id: answer.login_id,
        ke3: fixed(&finished.ke3),
        second_factor: None,
        device: Some(LoginDevice { did: key.id(), signature }),
        app: Some(APP.into()),
        seal: 0,
    };
    let finished: LoginFinished = must(caller.post("/v1/auth/login/finish", None, &message).await);
    finished.tokens.expect("tokens in clear were asked for")
}

fn sign_next(root: &AccountRootSecret, log: &mut AccountLog, payload: Payload) -> Bytes {
    let entry = root.identity().sign_entry(log.next(NOW_MS, payload));
    log.append(&entry).expect("an entry that may come next");
    Bytes::from(entry.as_bytes())
}

fn wrap(key: &EpochKey, of: &AccountLog) -> Wrap {
    let (generation, kem) = of.kem().expect("an account with keys");
    let sealed = key.seal_to(&of.user(), generation, kem).expect("a key that was made for this");
    Wrap { uid: of.user(), epoch: key.epoch(), generation, sealed: (*sealed).into() }
}

macro_rules! silent {
    ($($name:ident),*) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    )*};
}
silent!(Author, Scribe, Volume, Pen, Written);
