//! The vaults of the server in memory: the shared rules of the log, and nothing else between a client and its frames.
//!
//! Owns the logs, wraps and signed heads. Honest: what makes it lie reaches in from outside.

use super::{Answer, Asked, Method, id, read, write};
use selkie_protocol::account::Done;
use selkie_protocol::account_log::AccountLog;
use selkie_protocol::cipher::SigningKey;
use selkie_protocol::hash::{Label, sha256};
use selkie_protocol::id::{ChangeId, Incarnation, RecordId, UserId, VaultId};
use selkie_protocol::log::{
    Body, Control, Entry, Frame, Head, Leaf, PAGE_SIZE, PageItem, Pages, Refusal, SignedHead, VaultLog, WINDOW, What,
    chain,
};
use selkie_protocol::sign::PublicKey;
use selkie_protocol::vault::{
    Beginning, CheckpointItems, Controls, CreateVault, LiveRecords, LogFrames, PlacedEntry, Polled, PolledVault, Push,
    Pushed, RestoreTail, SignedHeadBytes, TailRestored, VaultHead, WantedRecords, Wrap, Wraps,
};
use selkie_protocol::{Bytes, ErrorCode};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

pub(crate) type People = BTreeMap<UserId, AccountLog>;

/// The most changes of a checkpoint's page that are shown in one answer.
const ITEMS: usize = 400;

pub(crate) struct Vaults {
    pub(crate) key: Arc<SigningKey>,
    pub(crate) incarnation: Incarnation,
    pub(crate) all: BTreeMap<VaultId, One>,
    /// The most entries of one answer.
    pub(crate) page: usize,
    /// Of what stands before, only the first entry is still there.
    pub(crate) gone_before: u64,
    /// The most entries that are put back in one request.
    pub(crate) most_put_back: usize,
}

#[derive(Clone)]
pub(crate) struct One {
    pub(crate) log: VaultLog,
    /// The frame of position n is at n - 1.
    pub(crate) frames: Vec<Vec<u8>>,
    /// The chain value of position n is at n.
    pub(crate) chain: Vec<[u8; 32]>,
    /// When the entry of position n came is at n - 1.
    pub(crate) dates: Vec<u64>,
    pub(crate) wraps: Vec<Wrap>,
    placed: HashMap<ChangeId, (u64, u16)>,
    beginnings: Vec<Start>,
}

#[derive(Clone)]
struct Start {
    n: u64,
    items: Vec<(Bytes, Bytes)>,
    page_hashes: Vec<u8>,
}

impl Default for Vaults {
    fn default() -> Self {
        Vaults {
            key: Arc::new(SigningKey::generate()),
            incarnation: Incarnation([1; 16]),
            all: BTreeMap::new(),
            page: 1_000,
            gone_before: 0,
            most_put_back: 1_000,
        }
    }
}

impl One {
    pub(crate) fn begin(frame: &[u8], people: &People, now: u64) -> Result<One, ErrorCode> {
        let parsed = Frame::parse(frame).map_err(|_| ErrorCode::BadRequest)?;
        let (log, effects) = VaultLog::create(&parsed.entry, people).map_err(code)?;
        let chain = vec![log.core().vault().0, effects.head.h];
        let (wraps, placed, beginnings) = (Vec::new(), HashMap::new(), Vec::new());
        Ok(One { log, frames: vec![frame.to_vec()], chain, dates: vec![now], wraps, placed, beginnings })
    }

    pub(crate) fn append(&mut self, frame: &[u8], people: &People, now: u64) -> Result<u64, ErrorCode> {
        let parsed = Frame::parse(frame).map_err(|_| ErrorCode::BadRequest)?;
        if !parsed.is_whole() {
            return Err(ErrorCode::EntryRefused);
        }
        let start = match parsed.entry.body {
            Body::Checkpoint(_) => Some(self.start()?),
            _ => None,
        };
        match self.log.apply(&parsed.entry, parsed.beside(), people) {
            Ok(effects) => {
                let n = effects.head.n;
                if let What::Changed { changes, .. } = &effects.what {
                    self.placed.extend(changes.iter().map(|change| (change.id, (n, change.index))));
                }
                self.beginnings.extend(start);
                self.frames.push(frame.to_vec());
                self.chain.push(effects.head.h);
                self.dates.push(now);
                Ok(n)
            }
            Err(Refusal::Repeated { n }) => Ok(n),
            Err(refusal) => {
                // Further back than the device's last entry, and the same bytes: the same answer.
                match self.frames.iter().position(|known| known == frame) {
                    Some(at) => Ok(at as u64 + 1),
                    None => Err(code(refusal)),
                }
            }
        }
    }

    /// What a device that begins with the checkpoint is given: every live change, in order.
    fn start(&self) -> Result<Start, ErrorCode> {
        let mut pages = Pages::default();
        let mut items = Vec::new();
        for leaf in self.log.live().leaves() {
            pages.push(&leaf);
            items.push(self.item(&leaf).ok_or(ErrorCode::Internal)?);
        }
        Ok(Start { n: self.log.head().n + 1, items, page_hashes: pages.finish().0 })
    }

    fn item(&self, leaf: &Leaf) -> Option<(Bytes, Bytes)> {
        let (n, index) = *self.placed.get(&leaf.change)?;
        let frame = Frame::parse(self.frame(n)?).ok()?;
        let Body::Data(data) = &frame.entry.body else { return None };
        let change = data.changes().nth(usize::from(index))?;
        let header = &frame.entry.header;
        let (user, device, dev_seq, epoch) = (header.user, header.device, header.dev_seq, header.epoch);
        let item = PageItem { user, device, dev_seq, epoch, head: leaf.head, change };
        Some((item.to_bytes().into(), frame.payload(index)?.into()))
    }

    fn wraps_of(&self, user: UserId) -> Wraps {
        Wraps { wraps: self.wraps.iter().filter(|wrap| wrap.uid == user).cloned().collect() }
    }

    fn frame(&self, n: u64) -> Option<&[u8]> {
        let at = usize::try_from(n).ok()?.checked_sub(1)?;
        self.frames.get(at).map(Vec::as_slice)
    }

    fn entry(&self, n: u64) -> Result<&[u8], ErrorCode> {
        let frame = self.frame(n).ok_or(ErrorCode::Internal)?;
        Frame::entry_bytes(frame).map_err(|_| ErrorCode::Internal)
    }
}

impl Vaults {
    pub(crate) fn public_key(&self) -> PublicKey {
        self.key.public_key()
    }

    pub(crate) fn sign(&self, vault: &VaultId, head: Head, unix_ms: u64) -> SignedHeadBytes {
        let incarnation = self.incarnation;
        let signed = SignedHead::signed_bytes(&incarnation, vault, &head, unix_ms);
        let signature = self.key.sign(Label::HEAD, &[&signed]);
        let bytes = SignedHead { incarnation, vault: *vault, head, unix_ms, signature }.to_bytes();
        SignedHeadBytes::try_from_slice(&bytes).expect("a signed head has one length")
    }

    fn head(&self, vault: &VaultId, now: u64) -> Result<SignedHeadBytes, ErrorCode> {
        let one = self.all.get(vault).ok_or(ErrorCode::NotFound)?;
        Ok(self.sign(vault, one.log.head(), now))
    }

    pub(super) fn answer(&mut self, me: UserId, asked: &Asked<'_>, people: &People) -> Answer {
        match (asked.method, asked.parts) {
            (Method::Post, ["vaults"]) => self.create(read(asked.body)?, people, asked.now),
            (Method::Get, ["poll"]) => self.poll(me, asked.query),
            (method, ["vaults", vault, rest @ ..]) => {
                let vault: VaultId = id(vault)?;
                if let (Method::Get, Err(_), Some(end)) = (&method, self.one(&vault, &me), self.removal(&vault, &me)) {
                    return self.show_until(end, me, &vault, rest, asked);
                }
                self.one(&vault, &me)?;
                match method {
                    Method::Get => self.show(me, vault, rest, asked),
                    Method::Post => self.take(me, vault, rest, asked, people),
                }
            }
            _ => Err(ErrorCode::NotFound),
        }
    }

    /// A vault, for its members.
    fn one(&self, vault: &VaultId, me: &UserId) -> Result<&One, ErrorCode> {
        let one = self.all.get(vault).ok_or(ErrorCode::NotFound)?;
        one.log.core().governance().member(me).map(|_| one).ok_or(ErrorCode::NotFound)
    }

    /// The entry that removed somebody who is no member.
    fn removal(&self, vault: &VaultId, me: &UserId) -> Option<u64> {
        let one = self.all.get(vault)?;
        let removes = |n: &u64| {
            let entry = one.entry(*n).and_then(parsed);
            matches!(entry, Ok(Entry { body: Body::Control(Control::RemoveRotate(it)), .. }) if it.removed.contains(me))
        };
        (1..=one.frames.len() as u64).rev().find(removes)
    }

    /// What is shown to somebody who was removed: how it came to that, and nothing after it.
    fn show_until(&self, end: u64, me: UserId, vault: &VaultId, rest: &[&str], asked: &Asked<'_>) -> Answer {
        let one = self.all.get(vault).ok_or(ErrorCode::NotFound)?;
        let (h, came) = (one.chain[count(end)], one.dates.get(count(end) - 1).copied().unwrap_or_default());
        let head = self.sign(vault, Head { n: end, h }, came);
        match rest {
            ["log"] => {
                let after = number(asked.query, "after").unwrap_or(0);
                let most = self.page.min(count(number(asked.query, "max_entries").unwrap_or(1000)));
                let frames = one.frames[..count(end)].iter().skip(count(after)).take(most);
                write(&LogFrames { frames: frames.map(|frame| Bytes(frame.clone())).collect(), head })
            }
            ["head"] => write(&VaultHead { head }),
            ["wraps"] => write(&one.wraps_of(me)),
            ["controls"] => write(&self.controls(one, asked, end)?),
            _ => Err(ErrorCode::NotFound),
        }
    }

    /// CONTROL entries up to a position.
    fn controls(&self, one: &One, asked: &Asked<'_>, end: u64) -> Result<Controls, ErrorCode> {
        let mut entries = Vec::new();
        for n in number(asked.query, "after").unwrap_or(0) + 1..=end {
            let entry = one.entry(n)?;
            if matches!(parsed(entry)?.body, Body::Control(_)) {
                entries.push(PlacedEntry { n, entry: entry.into() });
            }
        }
        let more = entries.len() > self.page;
        entries.truncate(self.page);
        Ok(Controls { entries, more })
    }

    fn one_mut(&mut self, vault: &VaultId) -> Result<&mut One, ErrorCode> {
        self.all.get_mut(vault).ok_or(ErrorCode::NotFound)
    }

    fn create(&mut self, message: CreateVault, people: &People, now: u64) -> Answer {
        let mut one = One::begin(&message.frame, people, now)?;
        let vault = one.log.core().vault();
        one.wraps = message.wraps;
        self.all.entry(vault).or_insert(one);
        write(&Pushed { n: 1, head: self.head(&vault, now)? })
    }

    fn take(&mut self, me: UserId, vault: VaultId, rest: &[&str], asked: &Asked<'_>, people: &People) -> Answer {
        match rest {
            ["push"] => {
                let message: Push = read(asked.body)?;
                let one = self.one_mut(&vault)?;
                let n = one.append(&message.frame, people, asked.now)?;
                message.wraps.into_iter().for_each(|wrap| put_wrap(one, wrap));
                write(&Pushed { n, head: self.head(&vault, asked.now)? })
            }
            ["wraps"] => {
                let message: Wraps = read(asked.body)?;
                let one = self.one_mut(&vault)?;
                message.wraps.into_iter().for_each(|wrap| put_wrap(one, wrap));
                write(&Done {})
            }
            ["records"] => self.live_of(me, &vault, &read(asked.body)?, asked.now),
            ["restore-tail"] => self.put_back(vault, &read(asked.body)?, people, asked.now),
            _ => Err(ErrorCode::NotFound),
        }
    }

    fn show(&self, me: UserId, vault: VaultId, rest: &[&str], asked: &Asked<'_>) -> Answer {
        let one = self.one(&vault, &me)?;
        match rest {
            ["log"] => {
                let after = number(asked.query, "after").unwrap_or(0);
                if after > 0 && after + 1 < self.gone_before && !one.beginnings.is_empty() {
                    return Err(ErrorCode::ResyncFromCheckpoint);
                }
                let most = self.page.min(count(number(asked.query, "max_entries").unwrap_or(1000)));
                let frames = one.frames.iter().skip(count(after)).take(most);
                let frames = frames.map(|frame| Bytes(frame.clone())).collect();
                write(&LogFrames { frames, head: self.head(&vault, asked.now)? })
            }
            ["head"] => write(&VaultHead { head: self.head(&vault, asked.now)? }),
            ["wraps"] => write(&one.wraps_of(me)),
            ["controls"] => write(&self.controls(one, asked, one.frames.len() as u64)?),
            ["checkpoint"] => self.beginning(&vault, one, asked.now),
            ["checkpoint", n, "pages", page] => {
                let n: u64 = id(n)?;
                let start = one.beginnings.iter().find(|start| start.n == n).ok_or(ErrorCode::NotFound)?;
                let from = count(number(asked.query, "from").unwrap_or(0));
                let items = start.items.chunks(PAGE_SIZE).nth(id(page)?).ok_or(ErrorCode::NotFound)?;
                let here: Vec<_> = items.iter().skip(from).take(ITEMS).cloned().collect();
                let more = from + here.len() < items.len();
                let (items, mut payloads): (Vec<Bytes>, Vec<Bytes>) = here.into_iter().unzip();
                if asked.query.split('&').any(|pair| pair == "payloads=none") {
                    payloads.clear();
                }
                write(&CheckpointItems { items, payloads, more })
            }
            _ => Err(ErrorCode::NotFound),
        }
    }

    /// What is live of some records, as far as an answer goes.
    fn live_of(&self, me: UserId, vault: &VaultId, wanted: &WantedRecords, now: u64) -> Answer {
        let one = self.one(vault, &me)?;
        let mut left = wanted.records.clone();
        let now_asked: BTreeSet<RecordId> = left.drain(..left.len().min(ITEMS)).collect();
        let leaves = one.log.live().leaves().filter(|leaf| now_asked.contains(&leaf.record));
        let found = leaves.map(|leaf| one.item(&leaf).ok_or(ErrorCode::Internal)).collect::<Result<Vec<_>, _>>()?;
        let (items, payloads) = found.into_iter().unzip();
        write(&LiveRecords { items, payloads, left, head: self.head(vault, now)? })
    }

    /// Takes back the end that a restored server has lost, if it leads to a head that it once signed.
    fn put_back(&mut self, vault: VaultId, message: &RestoreTail, people: &People, now: u64) -> Answer {
        let head = SignedHead::parse(message.head.as_ref()).map_err(|_| ErrorCode::RestoreRefused)?;
        if !head.is_signed_by(&self.public_key()) {
            return Err(ErrorCode::RestoreRefused);
        }
        if message.frames.len() > self.most_put_back {
            return Err(ErrorCode::PayloadTooLarge);
        }
        let mut one = self.one_mut(&vault)?.clone();
        let mut last = 0;
        for frame in &message.frames {
            last = one.append(frame, people, now).map_err(|_| ErrorCode::RestoreRefused)?;
        }
        let rest = message.rest.as_deref().unwrap_or_default();
        let after = (last + 1..).zip(rest.as_chunks::<32>().0);
        let value = one.log.trail().at(last).ok_or(ErrorCode::RestoreRefused)?;
        if after.fold(value, |h, (n, entry)| chain(&h, n, entry)) != head.head.h {
            return Err(ErrorCode::RestoreRefused);
        }
        self.all.insert(vault, one);
        write(&TailRestored { head: self.head(&vault, now)? })
    }

    fn poll(&self, me: UserId, query: &str) -> Answer {
        let is_mine = |one: &One| one.log.core().governance().member(&me).is_some();
        let mine = self.all.iter().filter(|(_, one)| is_mine(one));
        let vaults: Vec<PolledVault> = mine
            .map(|(vid, one)| {
                let app = one.log.core().app().as_str().to_owned();
                PolledVault { vid: *vid, n: one.log.head().n, app }
            })
            .collect();
        let all: Vec<u8> =
            vaults.iter().flat_map(|vault| [&vault.vid.0[..], &vault.n.to_be_bytes()].concat()).collect();
        let hash = sha256(&all);
        let state: [u8; 16] = std::array::from_fn(|at| hash[at]);
        let known = query.strip_prefix("known=").and_then(selkie_protocol::bytes::from_base64url);
        let vaults = (known.as_deref() != Some(&state)).then_some(vaults);
        write(&Polled { incarnation: self.incarnation, state: state.into(), vaults })
    }

    fn beginning(&self, vault: &VaultId, one: &One, now: u64) -> Answer {
        let start = one.beginnings.last().ok_or(ErrorCode::NotFound)?;
        let at = start.n - 1;
        let before_n = at.saturating_sub(WINDOW);
        let entry = one.entry(start.n)?;
        let author = parsed(entry)?.header.user;
        let mut evidence = Vec::new();
        for n in start.n + 1..=one.frames.len() as u64 {
            let later = one.entry(n)?;
            let header = parsed(later)?.header;
            if header.user != author && header.checkpoint_ok == start.n {
                evidence.push(Bytes::from(later));
                break;
            }
        }
        let mut hashes = Vec::new();
        for n in before_n + 1..=at {
            hashes.extend(parsed(one.entry(n)?)?.hash());
        }
        let before_h = *one.chain.get(count(before_n)).ok_or(ErrorCode::Internal)?;
        write(&Beginning {
            n: start.n,
            entry: entry.into(),
            evidence,
            before_n,
            before_h: before_h.into(),
            entry_hashes: hashes.into(),
            page_hashes: start.page_hashes.clone().into(),
            head: self.head(vault, now)?,
        })
    }
}

fn number(query: &str, name: &str) -> Option<u64> {
    let pair = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
    pair.and_then(|(_, value)| value.parse().ok())
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn parsed(entry: &[u8]) -> Result<Entry<'_>, ErrorCode> {
    Entry::parse(entry).map_err(|_| ErrorCode::Internal)
}

fn put_wrap(one: &mut One, wrap: Wrap) {
    let same = |known: &Wrap| (known.uid, known.epoch, known.generation) == (wrap.uid, wrap.epoch, wrap.generation);
    one.wraps.retain(|known| !same(known));
    one.wraps.push(wrap);
}

fn code(refusal: Refusal) -> ErrorCode {
    match refusal {
        Refusal::Conflict(_) | Refusal::UnknownDependency { .. } => ErrorCode::RecordConflict,
        Refusal::StaleControl => ErrorCode::StaleControl,
        Refusal::StaleEpoch { .. } => ErrorCode::StaleEpoch,
        Refusal::DeviceSequence { .. } | Refusal::DevicePrevious => ErrorCode::DeviceSequence,
        Refusal::BadSeen { .. } | Refusal::Fork { .. } => ErrorCode::BadSeen,
        _ => ErrorCode::EntryRefused,
    }
}
