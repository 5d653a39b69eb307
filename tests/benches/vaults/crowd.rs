//! Very many devices, each signed in with a key of its own, and what they ask: real sealed entries, made ready before.
//!
//! Owns the people, their devices and the requests of the load scenarios. Knows nothing about when anything is asked.
//!
//! A password is stretched twice for a person, which is most of what this takes; so people have many devices, which
//! come in by link.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use futures_util::{StreamExt as _, stream};
use selkie_e2e::scribe::{Author, Pen};
use selkie_protocol::id::VaultId;
use selkie_protocol::vault::{LogFrames, PollState, Polled, Pushed};
use selkie_protocol::{Face, bytes};

use crate::arrivals::{Due, Kind};
use crate::line::{Answer, Line, Lines, request};
use crate::machine::Machine;
use crate::pushes::prepare;

/// The server lets an account have 64.
pub(crate) const DEVICES_EACH: usize = 50;
/// What a vault holds before anybody is measured, and how much of it a pull is behind.
const ENTRIES: usize = 20;
const BEHIND: usize = 5;
/// Who are made at the same time: each stretching takes 64 MiB.
const AT_ONCE: usize = 4;

/// Everybody, and what they are going to write.
pub(crate) struct Crowd {
    pub(crate) people: Vec<Person>,
    pub(crate) devices: Vec<Device>,
}

/// Somebody with a vault that their first device writes to.
pub(crate) struct Person {
    pub(crate) login_name: String,
    pen: Pen,
    vault: VaultId,
    head: usize,
    /// A vault's entries are pushed in their order, one after the other; whoever comes takes the next.
    ready: tokio::sync::Mutex<VecDeque<Vec<u8>>>,
}

/// One of somebody's devices, and what it was told last.
pub(crate) struct Device {
    pub(crate) token: String,
    pub(crate) person: usize,
    known: Mutex<Option<PollState>>,
}

impl Crowd {
    /// So many devices, in step with their vaults.
    pub(crate) async fn gather(machine: &Machine, devices: usize) -> Crowd {
        static CROWDS: AtomicUsize = AtomicUsize::new(0);
        let crowd = CROWDS.fetch_add(1, Ordering::Relaxed);
        let people = devices.div_ceil(DEVICES_EACH);
        let coming = (0..people).map(|number| {
            let each = DEVICES_EACH.min(devices - number * DEVICES_EACH);
            come(machine, format!("crowd{crowd}.{number}@example.org"), number, each)
        });
        let came: Vec<(Person, Vec<Device>)> = stream::iter(coming).buffered(AT_ONCE).collect().await;
        let (people, devices): (Vec<_>, Vec<_>) = came.into_iter().unzip();
        let crowd = Crowd { people, devices: devices.into_iter().flatten().collect() };
        let lines = Lines::kept(machine.server.address);
        for device in 0..crowd.devices.len() {
            crowd.ask(&lines, Kind::Poll, device).await.expect("a first poll is answered");
        }
        crowd
    }

    /// Seals and signs one entry for each push that is due.
    pub(crate) fn make_ready(&mut self, schedule: &[Due]) {
        for due in schedule.iter().filter(|due| due.kind == Kind::Push) {
            let person = &mut self.people[self.devices[due.who].person];
            person.ready.get_mut().extend(prepare(&mut person.pen, 1, 1));
        }
    }

    /// Asks, and says how many bytes that was there and back; `None` if the answer is not what the app wants.
    pub(crate) async fn ask(&self, lines: &Lines, kind: Kind, device: usize) -> Option<usize> {
        let person = &self.people[self.devices[device].person];
        let mut ready = if kind == Kind::Push { Some(person.ready.lock().await) } else { None };
        let known = self.known(device);
        let request = match &mut ready {
            Some(ready) => ready.pop_front().expect("as many are made ready as are pushed"),
            None => self.request(kind, device, known),
        };
        let mut line = lines.take().await.ok()?;
        let answer = line.try_ask(&request).await.ok()?;
        lines.give_back(line);
        self.heed(kind, device, known, &answer).then_some(request.len() + answer.bytes)
    }

    fn known(&self, device: usize) -> Option<PollState> {
        *self.devices[device].known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, kind: Kind, device: usize, known: Option<PollState>) -> Vec<u8> {
        let Device { token, person, .. } = &self.devices[device];
        match kind {
            Kind::Poll => {
                let known = known.map(|state| format!("?known={}", bytes::to_base64url(&state[..])));
                request("GET", &format!("/v1/poll{}", known.unwrap_or_default()), token, &[])
            }
            Kind::Pull => {
                let Person { vault, head, .. } = &self.people[*person];
                request("GET", &format!("/v1/vaults/{vault}/log?after={}", head - BEHIND), token, &[])
            }
            Kind::Empty => request("GET", "/healthz", "", &[]),
            Kind::Push => unreachable!("it is signed before"),
        }
    }

    /// Takes an answer as an app would; false if it could not.
    fn heed(&self, kind: Kind, device: usize, known: Option<PollState>, answer: &Answer) -> bool {
        if answer.status != 200 {
            return false;
        }
        match kind {
            Kind::Poll => Face::Cbor.decode::<Polled>(&answer.body).is_ok_and(|polled| {
                let mut told = self.devices[device].known.lock().unwrap_or_else(PoisonError::into_inner);
                *told = Some(polled.state);
                polled.vaults.is_some() || known == *told
            }),
            Kind::Pull => Face::Cbor.decode::<LogFrames>(&answer.body).is_ok_and(|page| page.frames.len() >= BEHIND),
            Kind::Push => Face::Cbor.decode::<Pushed>(&answer.body).is_ok(),
            Kind::Empty => true,
        }
    }
}

async fn come(machine: &Machine, login_name: String, number: usize, devices: usize) -> (Person, Vec<Device>) {
    let mut author = Author::new(&machine.server.url, &login_name).await;
    let scribes = author.with_devices(devices).await;
    let volume = author.make_vault().await;
    let (mut pen, vault) = (volume.pen(&author.first()), volume.vault());
    let mut line = Line::to(machine.server.address).await;
    for request in prepare(&mut pen, 1, ENTRIES) {
        line.ask(&request).await;
    }
    let devices = scribes.into_iter().map(|scribe| {
        let token = scribe.tokens.access_token.as_str().to_owned();
        Device { token, person: number, known: Mutex::default() }
    });
    let devices = devices.collect();
    let ready = tokio::sync::Mutex::default();
    // CREATE stands before them.
    (Person { login_name, pen, vault, head: 1 + ENTRIES, ready }, devices)
}
