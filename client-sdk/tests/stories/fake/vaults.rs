//! The vaults of the server in memory: the shared rules of the log, and nothing else between a client and its frames.
//!
//! Owns the logs, wraps and signed heads. Honest: what makes it lie reaches in from outside.

use super::{Answer, read, write};
use selkie_client::transport::Method;
use selkie_protocol::account::Done;
use selkie_protocol::account_log::AccountLog;
use selkie_protocol::cipher::SigningKey;
use selkie_protocol::hash::{Label, sha256};
use selkie_protocol::id::{ChangeId, Incarnation, UserId, VaultId};
use selkie_protocol::log::{
    Body, Entry, Frame, Head, PAGE_SIZE, PageItem, Pages, Refusal, SignedHead, VaultLog, WINDOW, What,
};
use selkie_protocol::sign::PublicKey;
use selkie_protocol::vault::{
    Beginning, CheckpointItems, Controls, CreateVault, LogFrames, PlacedEntry, Polled, PolledVault, Push, Pushed,
    RestoreTail, SignedHeadBytes, TailRestored, VaultHead, Wrap, Wraps,
};
use selkie_protocol::{Bytes, ErrorCode};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

type People = BTreeMap<UserId, AccountLog>;

pub(crate) struct Vaults {
    key: Arc<SigningKey>,
    pub(crate) incarnation: Incarnation,
    pub(crate) all: BTreeMap<VaultId, One>,
    /// The most entries of one answer.
    pub(crate) page: usize,
    pub(crate) refuse_tails: bool,
    /// Of what stands before, only the first entry is still there.
    pub(crate) gone_before: u64,
    /// The most entries that are put back in one request.
    pub(crate) most_put_back: usize,
    /// A lie about where checkpoints stand.
    pub(crate) misplace_beginnings_by: u64,
}

#[derive(Clone)]
pub(crate) struct One {
    pub(crate) log: VaultLog,
    /// The frame of position n is at n - 1.
    pub(crate) frames: Vec<Vec<u8>>,
    /// The chain value of position n is at n.
    pub(crate) chain: Vec<[u8; 32]>,
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
            refuse_tails: false,
            gone_before: 0,
            most_put_back: 1_000,
            misplace_beginnings_by: 0,
        }
    }
}

impl One {
    fn begin(frame: &[u8], people: &People) -> Result<One, ErrorCode> {
        let parsed = Frame::parse(frame).map_err(|_| ErrorCode::BadRequest)?;
        let (log, effects) = VaultLog::create(&parsed.entry, people).map_err(code)?;
        let chain = vec![log.core().vault().0, effects.head.h];
        let (wraps, placed, beginnings) = (Vec::new(), HashMap::new(), Vec::new());
        Ok(One { log, frames: vec![frame.to_vec()], chain, wraps, placed, beginnings })
    }

    pub(crate) fn append(&mut self, frame: &[u8], people: &People) -> Result<u64, ErrorCode> {
        let parsed = Frame::parse(frame).map_err(|_| ErrorCode::BadRequest)?;
        if !parsed.is_whole() {
            return Err(ErrorCode::EntryRefused);
        }
        let start = matches!(parsed.entry.body, Body::Checkpoint(_)).then(|| self.start());
        match self.log.apply(&parsed.entry, parsed.beside(), people) {
            Ok(effects) => {
                let n = effects.head.n;
                if let What::Changed { changes, .. } = &effects.what {
                    self.placed.extend(changes.iter().map(|change| (change.id, (n, change.index))));
                }
                self.beginnings.extend(start);
                self.frames.push(frame.to_vec());
                self.chain.push(effects.head.h);
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

    fn start(&self) -> Start {
        let mut pages = Pages::default();
        let mut items = Vec::new();
        for leaf in self.log.live().leaves() {
            pages.push(&leaf);
            let (n, index) = self.placed[&leaf.change];
            let frame = Frame::parse(&self.frames[n as usize - 1]).unwrap();
            let Body::Data(data) = &frame.entry.body else { panic!("a change is in DATA") };
            let change = data.changes().nth(usize::from(index)).unwrap();
            let header = &frame.entry.header;
            let (user, device, dev_seq, epoch) = (header.user, header.device, header.dev_seq, header.epoch);
            let item = PageItem { user, device, dev_seq, epoch, head: leaf.head, change };
            items.push((item.to_bytes().into(), frame.payload(index).unwrap().into()));
        }
        Start { n: self.log.head().n + 1, items, page_hashes: pages.finish().0 }
    }

    /// Puts a frame at the end that the rules may forbid, as a server that lies can.
    pub(crate) fn append_unasked(&mut self, frame: &[u8]) -> Head {
        let n = self.frames.len() as u64 + 1;
        let entry = Frame::parse(frame).unwrap().entry.hash();
        let h = selkie_protocol::log::chain(&self.chain[n as usize - 1], n, &entry);
        self.frames.push(frame.to_vec());
        self.chain.push(h);
        Head { n, h }
    }

    fn entry(&self, n: u64) -> &[u8] {
        Frame::entry_bytes(&self.frames[n as usize - 1]).unwrap()
    }

    /// As it was at an earlier position.
    pub(crate) fn back_to(&self, n: u64, people: &People) -> One {
        let mut one = One::begin(&self.frames[0], people).unwrap();
        for frame in &self.frames[1..n as usize] {
            one.append(frame, people).unwrap();
        }
        one.wraps = self.wraps.clone();
        one
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
        SignedHeadBytes::try_from_slice(&bytes).unwrap()
    }

    pub(crate) fn replace_key(&mut self) {
        self.key = Arc::new(SigningKey::generate());
    }

    fn head(&self, vault: &VaultId, now: u64) -> SignedHeadBytes {
        self.sign(vault, self.all[vault].log.head(), now)
    }

    /// The server is restored from a backup in which these vaults ended earlier.
    pub(crate) fn restore(&mut self, ends: &BTreeMap<VaultId, u64>, people: &People) {
        self.incarnation = Incarnation(sha256(self.incarnation.as_bytes())[..16].try_into().unwrap());
        for (vault, n) in ends {
            let one = self.all[vault].back_to(*n, people);
            self.all.insert(*vault, one);
        }
    }

    #[allow(clippy::too_many_arguments)]
    pub(crate) fn answer(
        &mut self,
        me: UserId,
        method: Method,
        parts: &[&str],
        query: &str,
        body: &[u8],
        people: &People,
        now: u64,
    ) -> Answer {
        let asked = |name: &str| {
            let pair = query.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name);
            pair.and_then(|(_, value)| value.parse::<u64>().ok())
        };
        if let (Method::Post, ["vaults"]) = (method, parts) {
            let message: CreateVault = read(body)?;
            let mut one = One::begin(&message.frame, people)?;
            let vault = one.log.core().vault();
            one.wraps = message.wraps;
            self.all.entry(vault).or_insert(one);
            return write(&Pushed { n: 1, head: self.head(&vault, now) });
        }
        if let (Method::Get, ["poll"]) = (method, parts) {
            return self.poll(me, query);
        }
        let ["vaults", vault, rest @ ..] = parts else { return Err(ErrorCode::NotFound) };
        let vault: VaultId = vault.parse().map_err(|_| ErrorCode::NotFound)?;
        let one = self.all.get(&vault).ok_or(ErrorCode::NotFound)?;
        if one.log.core().governance().member(&me).is_none() {
            return Err(ErrorCode::NotFound);
        }
        match (method, rest) {
            (Method::Post, ["push"]) => {
                let message: Push = read(body)?;
                let one = self.all.get_mut(&vault).unwrap();
                let n = one.append(&message.frame, people)?;
                for wrap in message.wraps {
                    put_wrap(one, wrap);
                }
                write(&Pushed { n, head: self.head(&vault, now) })
            }
            (Method::Get, ["log"]) => {
                let after = asked("after").unwrap_or(0) as usize;
                if after > 0 && after + 1 < self.gone_before as usize && !one.beginnings.is_empty() {
                    return Err(ErrorCode::ResyncFromCheckpoint);
                }
                let most = self.page.min(asked("max_entries").unwrap_or(1000) as usize);
                let frames = one.frames.iter().skip(after).take(most).map(|frame| Bytes(frame.clone())).collect();
                write(&LogFrames { frames, head: self.head(&vault, now) })
            }
            (Method::Get, ["head"]) => write(&VaultHead { head: self.head(&vault, now) }),
            (Method::Get, ["wraps"]) => {
                let wraps = one.wraps.iter().filter(|wrap| wrap.uid == me).cloned().collect();
                write(&Wraps { wraps })
            }
            (Method::Post, ["wraps"]) => {
                let message: Wraps = read(body)?;
                let one = self.all.get_mut(&vault).unwrap();
                message.wraps.into_iter().for_each(|wrap| put_wrap(one, wrap));
                write(&Done {})
            }
            (Method::Get, ["controls"]) => {
                let after = asked("after").unwrap_or(0);
                let places = after + 1..=one.frames.len() as u64;
                let controls = places.map(|n| PlacedEntry { n, entry: one.entry(n).into() });
                let is_control =
                    |placed: &PlacedEntry| matches!(Entry::parse(&placed.entry).unwrap().body, Body::Control(_));
                let mut entries: Vec<PlacedEntry> = controls.filter(is_control).collect();
                let more = entries.len() > self.page;
                entries.truncate(self.page);
                write(&Controls { entries, more })
            }
            (Method::Get, ["checkpoint"]) => self.beginning(&vault, now),
            (Method::Get, ["checkpoint", n, "pages", page]) => {
                let n: u64 = n.parse().map_err(|_| ErrorCode::NotFound)?;
                let start = one.beginnings.iter().find(|start| start.n == n).ok_or(ErrorCode::NotFound)?;
                let page: usize = page.parse().map_err(|_| ErrorCode::NotFound)?;
                let from = asked("from").unwrap_or(0) as usize;
                let items = start.items.chunks(PAGE_SIZE).nth(page).ok_or(ErrorCode::NotFound)?;
                let here: Vec<_> = items.iter().skip(from).take(400).cloned().collect();
                let more = from + here.len() < items.len();
                let (items, payloads) = here.into_iter().unzip();
                write(&CheckpointItems { items, payloads, more })
            }
            (Method::Post, ["restore-tail"]) => {
                let message: RestoreTail = read(body)?;
                let head = SignedHead::parse(message.head.as_ref()).map_err(|_| ErrorCode::RestoreRefused)?;
                if self.refuse_tails || !head.is_signed_by(&self.public_key()) {
                    return Err(ErrorCode::RestoreRefused);
                }
                if message.frames.len() > self.most_put_back {
                    return Err(ErrorCode::PayloadTooLarge);
                }
                let mut one = one.clone();
                let mut last = 0;
                for frame in &message.frames {
                    last = one.append(frame, people).map_err(|_| ErrorCode::RestoreRefused)?;
                }
                let rest = message.rest.unwrap_or_default();
                let after = (last + 1..).zip(rest.as_chunks::<32>().0);
                let value = one.log.trail().at(last).ok_or(ErrorCode::RestoreRefused)?;
                let leads_to = after.fold(value, |h, (n, entry)| selkie_protocol::log::chain(&h, n, entry));
                if leads_to != head.head.h {
                    return Err(ErrorCode::RestoreRefused);
                }
                self.all.insert(vault, one);
                write(&TailRestored { head: self.head(&vault, now) })
            }
            _ => Err(ErrorCode::NotFound),
        }
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
        let state = <[u8; 16]>::try_from(&sha256(&all)[..16]).unwrap();
        let known = query.strip_prefix("known=").and_then(selkie_protocol::bytes::from_base64url);
        let vaults = (known.as_deref() != Some(&state)).then_some(vaults);
        write(&Polled { incarnation: self.incarnation, state: state.into(), vaults })
    }

    fn beginning(&self, vault: &VaultId, now: u64) -> Answer {
        let one = &self.all[vault];
        let start = one.beginnings.last().ok_or(ErrorCode::NotFound)?;
        let at = start.n - 1;
        let before_n = at.saturating_sub(WINDOW);
        let author = Entry::parse(one.entry(start.n)).unwrap().header.user;
        let after = start.n + 1..=one.frames.len() as u64;
        let evidence = after.map(|n| one.entry(n)).find(|entry| {
            let header = Entry::parse(entry).unwrap().header;
            header.user != author && header.checkpoint_ok == start.n
        });
        let hashes: Vec<u8> = (before_n + 1..=at).flat_map(|n| Entry::parse(one.entry(n)).unwrap().hash()).collect();
        write(&Beginning {
            n: start.n + self.misplace_beginnings_by,
            entry: one.entry(start.n).into(),
            evidence: evidence.into_iter().map(Bytes::from).collect(),
            before_n,
            before_h: one.chain[before_n as usize].into(),
            entry_hashes: hashes.into(),
            page_hashes: start.page_hashes.clone().into(),
            head: self.head(vault, now),
        })
    }
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
