//! Between the devices and their server, once it lies.
//!
//! Owns who is lied to, who really heard of it, and what the server does to its vaults behind everybody's back: rolling
//! one back, showing two logs of it, dropping what it has acknowledged. An answer counts as told when it arrives.

use super::Dice;
use super::lies::{Lie, Page};
use super::weather::Wire;
use crate::fake::Fake;
use crate::fake::vaults::{One, Vaults};
use async_trait::async_trait;
use selkie_client::transport::{Method, Request, Response, Transport, TransportError};
use selkie_client::{UserId, VaultId};
use selkie_protocol::Face;
use selkie_protocol::account::LogPage;
use selkie_protocol::cipher::{DeviceKey, SigningKey};
use selkie_protocol::log::{Head, SignedHead};
use selkie_protocol::vault::{LogFrames, Pushed, SignedHeadBytes, VaultHead, Wraps};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

pub(super) const DEVICES: usize = 4;

pub(super) struct Liar {
    server: Arc<Fake>,
    told: Mutex<Option<Tale>>,
    requests: Mutex<u64>,
}

/// One lie, and how far it has come.
struct Tale {
    lie: Lie,
    vault: VaultId,
    dice: Dice,
    /// Who is lied to; of a fork, who is shown the other log.
    victims: [bool; DEVICES],
    heard: [bool; DEVICES],
    /// What devices know for sure, and the server may deny.
    known: Vec<(usize, Head)>,
    other: Option<One>,
    end: u64,
    dropped: Option<u64>,
    held_back: Option<(u64, u16)>,
    ana: UserId,
    stranger: DeviceKey,
    key: Arc<SigningKey>,
}

impl Liar {
    pub(super) fn new(server: Arc<Fake>) -> Arc<Liar> {
        Arc::new(Liar { server, told: Mutex::new(None), requests: Mutex::new(0) })
    }

    /// From here on the server lies about a vault. `heads` is how far each device has come.
    pub(super) fn begin(&self, lie: Lie, mut dice: Dice, vault: VaultId, ana: UserId, heads: [Option<Head>; DEVICES]) {
        let mut victims: [bool; DEVICES] = std::array::from_fn(|_| dice.one_in(2));
        // Whatever vault it is, one of Ana's devices has it.
        victims[dice.below(2) as usize] = true;
        match lie {
            // One of Ana's devices is shown the other log: who never meets cannot compare.
            Lie::Fork => victims[1] = !victims[0],
            Lie::CutAnAccountLog => victims = [false, false, true, true],
            _ => {}
        }
        let known: Vec<_> = (0..).zip(heads).filter_map(|(device, head)| Some((device, head?))).collect();
        let mut tale = Tale {
            lie,
            vault,
            victims,
            heard: [false; DEVICES],
            known: Vec::new(),
            other: None,
            end: 0,
            dropped: None,
            held_back: None,
            ana,
            stranger: DeviceKey::generate(),
            key: Arc::new(SigningKey::generate()),
            dice,
        };
        self.server.with(|world| {
            let people = world.people();
            let one = &world.vaults.all[&vault];
            tale.end = one.frames.len() as u64;
            let earlier = tale.end - (1 + tale.dice.below(8)).min(tale.end - 1);
            match lie {
                Lie::RollBack => {
                    let one = one.back_to(earlier, &people);
                    world.vaults.all.insert(vault, one);
                    tale.known = known;
                }
                Lie::CallItARestore => {
                    world.vaults.restore(&BTreeMap::from([(vault, earlier)]), &people);
                    known.iter().for_each(|(device, head)| tale.heard[*device] = head.n > earlier);
                    tale.known = known;
                }
                Lie::Fork | Lie::ForkAndJoin => tale.other = Some(one.clone()),
                _ => {}
            }
        });
        *self.told.lock().unwrap() = Some(tale);
    }

    /// All are shown one of the two logs.
    pub(super) fn join(&self, heads: [Option<Head>; DEVICES]) {
        let mut told = self.told.lock().unwrap();
        let Some(tale) = told.as_mut().filter(|tale| tale.lie == Lie::ForkAndJoin) else { return };
        tale.known = (0..).zip(heads).filter_map(|(device, head)| Some((device, head?))).collect();
        if let Some(other) = tale.other.take().filter(|_| tale.dice.one_in(2)) {
            self.server.with(|world| world.vaults.all.insert(tale.vault, other));
        }
    }

    /// The world as a device is shown it, as long as this is held.
    pub(super) fn show(&self, device: usize) -> Shown<'_> {
        let told = self.told.lock().unwrap();
        let swapped = told.as_ref().is_some_and(|tale| tale.other.is_some() && tale.victims[device]);
        drop(told);
        if swapped {
            self.swap();
        }
        Shown { liar: self, swapped }
    }

    fn swap(&self) {
        if let Some(Tale { vault, other: Some(other), .. }) = self.told.lock().unwrap().as_mut() {
            self.server.with(|world| std::mem::swap(world.vaults.all.get_mut(vault).unwrap(), other));
        }
    }

    /// The log of the vault as a device is shown it.
    pub(super) fn log_for(&self, device: usize, vault: &VaultId) -> One {
        let _world = self.show(device);
        self.server.with(|world| world.vaults.all[vault].clone())
    }

    /// Whether what this device was told is a lie that it cannot overlook. `heads` is how far each device is at the
    /// end.
    pub(super) fn must_notice(&self, device: usize, heads: [Option<Head>; DEVICES]) -> bool {
        let (lie, vault, heard, mut known) = {
            let told = self.told.lock().unwrap();
            let Some(tale) = told.as_ref() else { return false };
            (tale.lie, tale.vault, tale.heard, tale.known.clone())
        };
        if lie == Lie::Fork {
            // What Ana's devices tell each other; nobody else has another device.
            known = [(0, heads[1]), (1, heads[0])].into_iter().filter_map(|(one, head)| Some((one, head?))).collect();
        }
        let log = self.log_for(device, &vault);
        let is_denied = |head: &Head| log.chain.get(head.n as usize) != Some(&head.h);
        // What a server says that was restored need not be a lie: it is what it still lacks in the end that is told.
        heard[device] && lie != Lie::CallItARestore
            || known.iter().any(|(whose, head)| *whose == device && is_denied(head))
    }

    pub(super) fn was_told(&self, device: usize) -> bool {
        self.told.lock().unwrap().as_ref().is_some_and(|tale| tale.heard[device])
    }

    /// Whether this device has a reason to cry out: a lie to itself, or to a device it hears of.
    pub(super) fn may_notice(&self, device: usize) -> bool {
        let told = self.told.lock().unwrap();
        told.as_ref().is_some_and(|tale| match tale.lie {
            Lie::RollBack | Lie::Fork | Lie::ForkAndJoin | Lie::AcknowledgeAndDrop => true,
            _ => tale.heard[device],
        })
    }

    /// Whether contents that are superseded were kept from this device. That is no lie.
    pub(super) fn may_lack_contents(&self, device: usize) -> bool {
        let told = self.told.lock().unwrap();
        told.as_ref().is_some_and(|tale| tale.lie == Lie::HoldBackAPayload && tale.victims[device])
    }

    /// How many requests there were since the last time this was called.
    pub(super) fn requests(&self) -> u64 {
        std::mem::take(&mut self.requests.lock().unwrap())
    }

    /// The vault as it is right before a push that may be dropped again.
    fn before(&self, device: usize, request: &Request) -> Option<One> {
        let told = self.told.lock().unwrap();
        let tale = told.as_ref().filter(|tale| tale.lie == Lie::AcknowledgeAndDrop)?;
        let is_meant = tale.victims[device] && !tale.heard[device];
        let is_push = request.path == format!("/v1/vaults/{}/push", tale.vault);
        (is_meant && is_push).then(|| self.server.with(|world| world.vaults.all[&tale.vault].clone()))
    }

    /// What becomes of an answer that has arrived.
    fn answer(&self, device: usize, asked: &Asked, before: Option<One>, mut response: Response) -> Response {
        let mut told = self.told.lock().unwrap();
        if let Some(tale) = told.as_mut().filter(|tale| tale.victims[device] && response.status == 200) {
            let now_ms = self.server.now_ms();
            let lie = self.server.with(|world| match before {
                Some(before) => {
                    tale.drop_again(device, &mut world.vaults, before, &response.body);
                    None
                }
                None => tale.bend(&mut world.vaults, now_ms, asked, &response.body),
            });
            let (body, is_lie) = lie.unwrap_or((response.body, false));
            tale.heard[device] |= is_lie;
            response.body = body;
        }
        response
    }
}

/// Which request it was.
struct Asked {
    method: Method,
    path: String,
}

impl Tale {
    /// The same answer, and the entry is gone.
    fn drop_again(&mut self, device: usize, vaults: &mut Vaults, before: One, body: &[u8]) {
        let pushed: Pushed = read(body);
        let head = SignedHead::parse(pushed.head.as_ref()).unwrap().head;
        if pushed.n != before.log.head().n + 1 || pushed.n != head.n {
            return;
        }
        vaults.all.insert(self.vault, before);
        self.known.push((device, head));
        // That counts when the server denies it. Once is enough.
        self.victims[device] = false;
    }

    /// What is said instead, and whether that is a lie.
    fn bend(&mut self, vaults: &mut Vaults, now_ms: u64, asked: &Asked, body: &[u8]) -> Option<(Vec<u8>, bool)> {
        let (path, query) = asked.path.split_once('?').unwrap_or((&asked.path, ""));
        let of_the_vault = path.strip_prefix(&format!("/v1/vaults/{}", self.vault));
        match (self.lie, asked.method, of_the_vault) {
            (Lie::SealAnotherKey, Method::Get, Some("/wraps")) => {
                let mut wraps: Wraps = read(body);
                let epoch = vaults.all[&self.vault].log.core().governance().epoch();
                wraps.wraps.iter_mut().for_each(|wrap| wrap.sealed.0[1130] ^= 1);
                wraps.wraps.iter().any(|wrap| wrap.epoch == epoch).then(|| (Face::Cbor.encode(&wraps), true))
            }
            (Lie::CutAnAccountLog, Method::Get, None) if path == format!("/v1/people/{}/log", self.ana) => {
                let mut page: LogPage = read(body);
                page.length -= 1;
                page.entries.truncate(page.length.saturating_sub(page.from) as usize);
                Some((Face::Cbor.encode(&page), true))
            }
            (Lie::SignWithAnotherKey, _, Some("/log" | "/push" | "/head")) => {
                std::mem::swap(&mut vaults.key, &mut self.key);
                let vault = self.vault;
                let other = resigned(path, body, |head| vaults.sign(&vault, head, now_ms));
                std::mem::swap(&mut vaults.key, &mut self.key);
                Some((other, true))
            }
            (Lie::SignTwoHeads, _, Some("/log" | "/push" | "/head")) => {
                let vault = self.vault;
                let other = resigned(path, body, |head| vaults.sign(&vault, Head { h: [7; 32], ..head }, now_ms));
                Some((other, true))
            }
            (_, Method::Get, Some("/log")) => {
                let after: u64 = query.split('&').find_map(|pair| pair.strip_prefix("after="))?.parse().unwrap();
                let mut page: LogFrames = read(body);
                // The first entry is the vault's name: another one is another vault.
                let is_lie = after > 0 && self.bend_page(vaults, now_ms, after, &mut page);
                Some((Face::Cbor.encode(&page), is_lie))
            }
            _ => None,
        }
    }

    fn bend_page(&mut self, vaults: &Vaults, now_ms: u64, after: u64, shown: &mut LogFrames) -> bool {
        let dice = &mut self.dice;
        let mut page = Page { after, frames: &mut shown.frames, one: &vaults.all[&self.vault] };
        match self.lie {
            Lie::HoldBackTheEnd => page.end_at(self.end),
            Lie::HoldBackAPayload => page.hold_back(dice, &mut self.held_back),
            Lie::ChangeAPayload => page.change_a_payload(dice),
            Lie::SwapPayloads => page.swap_payloads(dice),
            Lie::ReplayAPayload => page.replay_a_payload(dice),
            Lie::Reorder => page.reorder(dice),
            Lie::Drop => page.drop(dice, &mut self.dropped),
            Lie::Repeat => page.repeat(dice),
            Lie::ChangeAnEntry => page.change_an_entry(dice),
            Lie::ForgeAnEntry => {
                let head = page.forge(dice, self.ana, &self.stranger, now_ms);
                head.inspect(|head| shown.head = vaults.sign(&self.vault, *head, now_ms)).is_some()
            }
            Lie::ShowAnotherVault => {
                let (other, one) = vaults.all.iter().find(|(vault, _)| **vault != self.vault).unwrap();
                shown.frames = vec![one.frames.last().unwrap().clone().into()];
                if dice.one_in(2) {
                    shown.head = vaults.sign(other, one.log.head(), now_ms);
                }
                true
            }
            _ => false,
        }
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> T {
    Face::Cbor.decode(body).unwrap()
}

/// The same answer with another head.
fn resigned(path: &str, body: &[u8], sign: impl Fn(Head) -> SignedHeadBytes) -> Vec<u8> {
    fn with<T: DeserializeOwned + Serialize>(body: &[u8], change: impl FnOnce(&mut T)) -> Vec<u8> {
        let mut message: T = read(body);
        change(&mut message);
        Face::Cbor.encode(&message)
    }
    let other = |bytes: &mut SignedHeadBytes| *bytes = sign(SignedHead::parse(bytes.as_ref()).unwrap().head);
    match path.rsplit('/').next() {
        Some("log") => with(body, |page: &mut LogFrames| other(&mut page.head)),
        Some("push") => with(body, |pushed: &mut Pushed| other(&mut pushed.head)),
        _ => with(body, |answer: &mut VaultHead| other(&mut answer.head)),
    }
}

/// See [`Liar::show`].
pub(super) struct Shown<'a> {
    liar: &'a Liar,
    swapped: bool,
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if self.swapped {
            self.liar.swap();
        }
    }
}

/// What a device hears of its server.
pub(super) struct Told {
    pub(super) device: usize,
    pub(super) liar: Arc<Liar>,
    pub(super) wire: Wire,
}

#[async_trait]
impl Transport for Told {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        *self.liar.requests.lock().unwrap() += 1;
        let _world = self.liar.show(self.device);
        let before = self.liar.before(self.device, &request);
        let asked = Asked { method: request.method, path: request.path.clone() };
        let response = self.wire.send(request).await?;
        Ok(self.liar.answer(self.device, &asked, before, response))
    }
}

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Told")
    }
}
