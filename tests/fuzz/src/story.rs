//! A vault's log, act by act.
//!
//! Owns the cast (four people, six devices, every key from a small number) and what an input makes them do: write,
//! check, govern, look away, lie. Whatever is made is signed by somebody, so that the rules behind the signature are
//! reached. What was refused has changed nothing; what was taken is taken again by whoever replays the log, resumes it
//! from the disk, or begins with its last checkpoint.

use crate::script::Script;
use selkie_protocol::account_log::{AccountLog, Body as AccountBody, Payload, Pin};
use selkie_protocol::cipher::{DeviceKey, SigningKey};
use selkie_protocol::hash::{Label, sha256};
use selkie_protocol::id::{ChangeId, InviteId, RecordId, UserId};
use selkie_protocol::log::{
    App, BACK_LINK_LENGTH, Body, Bootstrap, Control, Create, Data, Effects, Entry, Frame, HEADER_LENGTH, Head, Header,
    Kind, Leaf, MAX_DEPS, NewChange, PageItem, Pages, People, Policy, Refusal, RemoveRotate, Role, VaultLog, What,
    first_header, signed,
};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// So that one input takes milliseconds.
const MOST_ACTS: usize = 24;
const ROLES: [Role; 5] = [Role::Viewer, Role::Editor, Role::Admin, Role::Owner, Role::Recovery];
const KINDS: [Kind; 4] = [Kind::Control, Kind::Data, Kind::Checkpoint, Kind::Heartbeat];
const PAYLOAD: usize = 104;

/// Somebody with an account log, as far as it has come.
#[derive(Clone)]
pub(crate) struct Person {
    identity: [u8; 32],
    pub(crate) entries: Vec<Vec<u8>>,
    /// After each entry.
    pins: Vec<Pin>,
}

pub(crate) struct Device {
    pub(crate) user: UserId,
    pub(crate) key: DeviceKey,
}

/// Who there is, and how the log begins.
pub(crate) struct Stage {
    users: Vec<UserId>,
    pub(crate) devices: Vec<Device>,
    pub(crate) begun: Story,
}

/// The log so far.
#[derive(Clone)]
pub(crate) struct Story {
    pub(crate) people: BTreeMap<UserId, AccountLog>,
    pub(crate) persons: BTreeMap<UserId, Person>,
    pub(crate) log: VaultLog,
    pub(crate) frames: Vec<Vec<u8>>,
    /// The chain's value at each position, from 0 on.
    pub(crate) values: Vec<[u8; 32]>,
    items: BTreeMap<ChangeId, Vec<u8>>,
    /// The last checkpoint: how many frames are before it, and what was live then and is not forgotten.
    checkpoint: Option<(usize, Vec<Leaf>)>,
}

pub(crate) static STAGE: LazyLock<Stage> = LazyLock::new(Stage::set);

pub(crate) fn run(bytes: &[u8]) {
    let mut story = STAGE.begun.clone();
    let mut script = Script(bytes);
    for _ in 0..MOST_ACTS {
        if script.is_over() {
            break;
        }
        story.act(&STAGE, &mut script);
    }
    story.holds(&STAGE);
}

fn seed(kind: &str, number: usize) -> [u8; 32] {
    sha256(format!("{kind} {number}").as_bytes())
}

impl Stage {
    fn set() -> Stage {
        let (mut people, mut persons, mut users) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        for number in 0..4 {
            let identity = SigningKey::from_seed(&seed("identity", number));
            let payload = Payload::Genesis { identity: identity.public_key(), random: [number as u8; 16] };
            let body = AccountBody { user: UserId([0; 32]), index: 0, previous: [0; 32], unix_ms: 1, payload };
            let genesis = body.clone().signed(identity.sign(Label::ACCOUNT_ENTRY, &[&body.to_bytes()]));
            let log = AccountLog::begin(&genesis).expect("a genesis");
            let entries = vec![genesis.as_bytes().to_vec()];
            users.push(log.user());
            persons.insert(log.user(), Person { identity: *identity.seed(), entries, pins: vec![log.head()] });
            people.insert(log.user(), log);
        }
        // Two of the first, two of the second, of which one is certified only if the story wants it.
        let owners = [0, 0, 1, 1, 2, 3];
        let key = |number| DeviceKey::from_seed(&seed("device", number));
        let devices = owners.iter().enumerate().map(|(at, owner)| Device { user: users[*owner], key: key(at) });
        let devices: Vec<Device> = devices.collect();
        for at in [0, 1, 2, 4, 5] {
            let Device { user, key } = &devices[at];
            says(&mut people, &mut persons, user, key.device_add(user));
        }
        let ana = &devices[0];
        let create = Control::Create(Create {
            random: [7; 16],
            anchor: people[&ana.user].head(),
            identity: people[&ana.user].identity(),
            commitment: [0xc1; 32],
            min_format: 1,
            flags: 0,
            app: App::new("org.example.journal").expect("a plain name"),
        });
        let entry = ana.sign(&first_header(ana.user, ana.key.id(), 1), Kind::Control, &create.to_bytes());
        let (log, _) = VaultLog::create(&Entry::parse(&entry).expect("an entry"), &people).expect("a first entry");
        let values = vec![log.core().vault().0, log.head().h];
        let (frames, items) = (vec![Frame::write(&entry, &[])], BTreeMap::new());
        let begun = Story { people, persons, log, frames, values, items, checkpoint: None };
        let mut stage = Stage { users, devices, begun };
        // A second owner, an editor, two records; the fourth person stays a stranger.
        for (member, role) in [(1, Role::Owner), (2, Role::Editor)] {
            let user = stage.users[member];
            let (identity, anchor) = (stage.begun.people[&user].identity(), stage.begun.people[&user].head());
            let control = Control::AddMember { user, identity, anchor, role, invite: None };
            stage.goes_on(0, Kind::Control, &control.to_bytes(), &[]);
        }
        for number in 0..2 {
            let payload = [number; PAYLOAD];
            let change = NewChange { record: RecordId([number; 16]), full: true, deps: &[], payload: &payload };
            stage.goes_on(0, Kind::Data, &Data::write(&[change]).expect("a change"), &payload);
        }
        stage
    }

    fn goes_on(&mut self, device: usize, kind: Kind, body: &[u8], beside: &[u8]) {
        let device = &self.devices[device];
        let header = self.begun.header(device);
        let frame = Frame::write(&device.sign(&header, kind, body), beside);
        self.begun.offer(&frame).expect("the frame is one").expect("the beginning is honest");
    }
}

fn says(
    people: &mut BTreeMap<UserId, AccountLog>,
    persons: &mut BTreeMap<UserId, Person>,
    user: &UserId,
    payload: Payload,
) {
    let (Some(log), Some(person)) = (people.get_mut(user), persons.get_mut(user)) else { return };
    let identity = SigningKey::from_seed(&person.identity);
    let body = log.next(2, payload);
    let entry = body.clone().signed(identity.sign(Label::ACCOUNT_ENTRY, &[&body.to_bytes()]));
    let before = log.clone();
    match log.append(&entry) {
        Ok(()) => {
            person.entries.push(entry.as_bytes().to_vec());
            person.pins.push(log.head());
        }
        Err(_) => assert!(*log == before, "a refusal changed the account log"),
    }
}

impl Device {
    pub(crate) fn sign(&self, header: &Header, kind: Kind, body: &[u8]) -> Vec<u8> {
        self.signed(header.with_body(kind, body))
    }

    fn signed(&self, unsigned: Vec<u8>) -> Vec<u8> {
        let signature = self.key.sign(Label::VAULT_ENTRY_SIG, &[&unsigned]);
        signed(unsigned, &signature)
    }
}

/// An entry before it is signed.
struct Draft {
    header: Header,
    kind: Kind,
    body: Vec<u8>,
    beside: Vec<u8>,
}

impl Story {
    pub(crate) fn header(&self, device: &Device) -> Header {
        self.log.core().next_header(device.user, device.key.id(), 0, 1)
    }

    fn act(&mut self, stage: &Stage, script: &mut Script<'_>) {
        let act = script.byte() % 16;
        let device = script.one_of(&stage.devices);
        let header = self.header(device);
        let (kind, body, beside) = match act {
            0..=4 => match self.written(script) {
                Some((body, payloads)) => (Kind::Data, body, payloads),
                None => return,
            },
            5 => (Kind::Heartbeat, Vec::new(), Vec::new()),
            6 | 7 => {
                let records: Vec<RecordId> = self.log.live().records().map(|(id, _)| *id).collect();
                let mask = script.byte();
                let forgotten = (0..8).zip(records).filter(|(at, _)| mask >> at & 1 == 1);
                let forgotten: Vec<RecordId> = forgotten.map(|(_, id)| id).collect();
                let (body, note) = self.log.checkpoint(&forgotten).expect("few devices and few records");
                (Kind::Checkpoint, body, note.unwrap_or_default())
            }
            8..=11 => (Kind::Control, self.control(stage, device, script).to_bytes(), Vec::new()),
            12 => return self.moves_on(stage, device, script),
            13 => {
                let again = script.below(self.frames.len());
                let frame = self.frames[again].clone();
                let taken = self.offer(&frame).expect("it was one before");
                assert!(taken.is_err(), "nothing is taken twice");
                return;
            }
            _ => (*script.one_of(&KINDS), script.piece().to_vec(), Vec::new()),
        };
        let mut draft = Draft { header, kind, body, beside };
        let confirms = script.byte();
        if confirms & 1 == 1 {
            let known = self.log.core().checkpoints().last().map_or(0, |known| known.n);
            draft.header.checkpoint_ok = if confirms & 2 == 0 { known } else { u64::from(confirms >> 2) };
        }
        let frame = self.bent(draft, stage, device, script);
        let Some(taken) = self.offer(&frame) else { return };
        if taken.is_ok() {
            assert!(self.offer(&frame).is_some_and(|again| again.is_err()), "nothing is taken twice");
        }
    }

    /// Changes to a few records, on top of what is there or of something else.
    fn written(&self, script: &mut Script<'_>) -> Option<(Vec<u8>, Vec<u8>)> {
        let count = 1 + script.below(3);
        let mut drawn = Vec::new();
        for _ in 0..count {
            let (record, how) = (RecordId([script.byte() % 4; 16]), script.byte());
            let live = self.log.live().record(&record);
            let heads = live.map(|live| live.heads()).unwrap_or_default();
            let mut deps = match how >> 1 & 7 {
                0..=3 => heads,
                4 => live.into_iter().flat_map(|live| live.changes().map(|change| change.id)).collect(),
                5 => Vec::new(),
                6 => heads.into_iter().skip(1).collect(),
                _ => self.items.keys().take(2).copied().collect(),
            };
            deps.truncate(MAX_DEPS);
            drawn.push((record, how & 1 == 0, deps, vec![how; PAYLOAD]));
        }
        let change = |(record, full, deps, payload): &'_ (RecordId, bool, Vec<ChangeId>, Vec<u8>)| -> Vec<u8> {
            let change = NewChange { record: *record, full: *full, deps, payload };
            Data::write(&[change]).map(|body| body[2..].to_vec()).unwrap_or_default()
        };
        let changes: Vec<u8> = drawn.iter().flat_map(change).collect();
        let payloads = drawn.iter().flat_map(|(.., payload)| payload.clone()).collect();
        let body = [&u16::try_from(count).ok()?.to_be_bytes(), changes.as_slice()].concat();
        Some((body, if script.flag() { Vec::new() } else { payloads }))
    }

    fn control(&self, stage: &Stage, device: &Device, script: &mut Script<'_>) -> Control {
        let user = *script.one_of(&stage.users);
        let pins = &self.persons[&user].pins;
        let which = script.byte();
        let (role, invite) = (ROLES[usize::from(which >> 3) % ROLES.len()], InviteId([1 + (which >> 6); 16]));
        // Mostly where the account log stands now.
        let back = script.byte();
        let mut anchor = pins[pins.len() - 1 - usize::from(back & 3) % pins.len()];
        anchor.hash[0] ^= u8::from(back == 0xff);
        match which % 8 {
            0 => {
                let identity = self.people[&user].identity();
                let invite = (back & 4 != 0).then_some(invite);
                Control::AddMember { user, identity, anchor, role, invite }
            }
            1 => Control::SetRole { user, role },
            2 => {
                let mask = script.byte();
                let mut removed: Vec<UserId> =
                    (0..4).zip(&stage.users).filter(|(at, _)| mask >> at & 1 == 1).map(|(_, user)| *user).collect();
                removed.sort_unstable();
                let epoch = self.log.core().governance().epoch() + 1 + u32::from(mask >> 7);
                let rotate = RemoveRotate { removed, epoch, commitment: [mask; 32], back: [9; BACK_LINK_LENGTH] };
                Control::RemoveRotate(Box::new(rotate))
            }
            3 => {
                let own = &self.persons[&device.user].pins;
                match which & 8 {
                    0 => Control::Anchor { user: device.user, anchor: own[own.len() - 1] },
                    _ => Control::Anchor { user, anchor },
                }
            }
            4 => {
                let recovery = (which & 8 != 0).then_some(user);
                Control::Policy(Policy { min_format: script.byte() % 3, flags: script.byte() % 4, recovery })
            }
            5 => Control::InviteOpen { invite, role, expires: u64::MAX },
            6 => Control::InviteClose { invite },
            _ => Control::ResetTail { n: self.log.head().n },
        }
    }

    /// Somebody's account log goes on meanwhile: a device comes or goes.
    fn moves_on(&mut self, stage: &Stage, device: &Device, script: &mut Script<'_>) {
        let payload = match script.byte() % 4 {
            0 | 1 => device.key.device_add(&device.user),
            2 => Payload::DeviceRevoke { device: script.one_of(&stage.devices).key.id() },
            _ => Payload::LoginName([script.byte(); 32]),
        };
        says(&mut self.people, &mut self.persons, &device.user, payload);
    }

    /// The frame of a draft: as it should be, half of the time.
    fn bent(&self, mut draft: Draft, stage: &Stage, device: &Device, script: &mut Script<'_>) -> Vec<u8> {
        let how = script.byte() % 14;
        if how == 7 {
            // What its author had seen is a while ago; a checkpoint or a reset cannot say that.
            let n = script.below(self.values.len());
            draft.header.seen = Head { n: n as u64, h: self.values[n] };
        }
        let mut unsigned = draft.header.with_body(draft.kind, &draft.body);
        match how {
            8 => {
                let (at, by) = (script.below(HEADER_LENGTH), script.byte());
                unsigned[at] ^= by;
            }
            9 if unsigned.len() > HEADER_LENGTH => {
                let at = HEADER_LENGTH + usize::from(u16::from_be_bytes([script.byte(), script.byte()]));
                let at = at.min(unsigned.len() - 1);
                unsigned[at] ^= script.byte();
            }
            10 => {
                draft.beside.truncate(script.below(256));
                draft.beside.push(0);
            }
            11 => draft.beside.iter_mut().take(1).for_each(|byte| *byte ^= 1),
            _ => {}
        }
        let mut entry =
            if how == 12 { script.one_of(&stage.devices).signed(unsigned) } else { device.signed(unsigned) };
        if how == 13 {
            let last = entry.len() - 1 - script.below(64);
            entry[last] ^= 1 << script.below(8);
        }
        Frame::write(&entry, &draft.beside)
    }

    /// What the log says to a frame; nothing if it is none.
    pub(crate) fn offer(&mut self, bytes: &[u8]) -> Option<Result<Effects, Refusal>> {
        let frame = Frame::parse(bytes).ok()?;
        let before = self.log.clone();
        let taken = self.log.apply(&frame.entry, frame.beside(), &self.people);
        let Ok(effects) = &taken else {
            assert!(self.log == before, "a refusal changed the log");
            return Some(taken);
        };
        assert_eq!((effects.head, effects.head.n), (self.log.head(), before.head().n + 1));
        assert_eq!(
            self.values[frame.entry.header.seen.n as usize], frame.entry.header.seen.h,
            "its author saw this log"
        );
        if frame.entry.kind() != Kind::Control {
            let mut followed = before.core().clone();
            followed.follow(&frame.entry).expect("what may stand here can be followed");
            assert!(followed == *self.log.core());
        }
        let Header { user, device, dev_seq, epoch, .. } = frame.entry.header;
        if let Body::Data(data) = &frame.entry.body {
            for change in data.changes() {
                let id = change.id(&self.log.core().vault(), &device, dev_seq);
                let item = PageItem { user, device, dev_seq, epoch, head: false, change };
                self.items.insert(id, item.to_bytes());
            }
        }
        if let What::Checkpointed { forgotten, .. } = &effects.what {
            let live = before.live().leaves().filter(|leaf| !forgotten.contains(&leaf.record));
            self.checkpoint = Some((self.frames.len(), live.collect()));
        }
        self.values.push(effects.head.h);
        self.frames.push(bytes.to_vec());
        Some(taken)
    }

    /// Whoever comes to this log by another way has the same.
    fn holds(&self, stage: &Stage) {
        assert!(VaultLog::resume(&self.log.snapshot()).expect("what was written down") == self.log);
        assert!(self.replayed() == self.log, "whoever reads the log from its start has another");
        if let Some((at, live)) = &self.checkpoint {
            let log = self.begun_at(*at, live).expect("a checkpoint that everybody took");
            assert_eq!(log.head(), self.log.head());
            assert!(
                log.live().leaves().eq(self.log.live().leaves()),
                "whoever began at the checkpoint has other records"
            );
        }
        // And it goes on, if anybody is left who may.
        let may_write = |device: &&Device| {
            let member = self.log.core().governance().member(&device.user);
            let known = self.people.certificate(&device.user, &device.key.id());
            member.is_some_and(|member| {
                member.role.may_write() && known.is_some_and(|known| known.stands_at(member.anchor.index))
            })
        };
        if let Some(device) = stage.devices.iter().find(may_write) {
            let (body, _) = self.log.checkpoint(&[]).expect("few devices");
            for (kind, body) in [(Kind::Checkpoint, body), (Kind::Heartbeat, Vec::new())] {
                let frame = Frame::write(&device.sign(&self.header(device), kind, &body), &[]);
                let taken = self.clone().offer(&frame).expect("an entry");
                assert!(taken.is_ok(), "{kind:?}: {taken:?}");
            }
        }
    }

    fn replayed(&self) -> VaultLog {
        let mut frames = self.frames.iter().map(|frame| Frame::parse(frame).expect("it was one before"));
        let create = frames.next().expect("a log begins");
        let (mut log, _) = VaultLog::create(&create.entry, &self.people).expect("it began before");
        for frame in frames {
            log.apply(&frame.entry, frame.beside(), &self.people).expect("it was taken before");
        }
        log
    }

    /// The log of a new device that begins with a checkpoint and what was live then.
    fn begun_at(&self, at: usize, live: &[Leaf]) -> Result<VaultLog, Refusal> {
        let frames: Vec<Frame<'_>> =
            self.frames.iter().map(|frame| Frame::parse(frame).expect("it was one before")).collect();
        let (mut begun, _) = Bootstrap::create(&frames[0].entry, &self.people)?;
        for frame in frames[1..at].iter().filter(|frame| frame.entry.kind() == Kind::Control) {
            begun.control(&frame.entry, &self.people)?;
        }
        let checkpoint = &frames[at].entry;
        let hashes: Vec<[u8; 32]> = frames[..at].iter().map(|frame| frame.entry.hash()).collect();
        let before = Head { n: 0, h: self.values[0] };
        let me = checkpoint.header.user;
        let mut arriving = begun.checkpoint(checkpoint, &me, &[], before, &hashes, &self.people)?;
        let items = live.iter().map(|leaf| {
            let mut item = self.items[&leaf.change].clone();
            item[62] = u8::from(leaf.head);
            item
        });
        let items: Vec<Vec<u8>> = items.collect();
        let items: Vec<PageItem<'_>> = items.iter().map(|item| PageItem::parse(item).expect("an item")).collect();
        let mut pages = Pages::default();
        live.iter().for_each(|leaf| pages.push(leaf));
        arriving.page_hashes(pages.finish().0.as_chunks().0)?;
        if !items.is_empty() {
            arriving.page(&items)?;
        }
        let mut log = arriving.finish()?;
        for frame in &frames[at..] {
            log.apply(&frame.entry, frame.beside(), &self.people)?;
        }
        Ok(log)
    }
}
