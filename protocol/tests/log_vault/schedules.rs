//! Random schedules of five devices of four people, with an honest server and with one that lies.
//!
//! With an honest server nobody is ever alarmed and everybody ends with the same digest. With any other, whoever takes
//! an entry agrees with its author on everything the author had seen: that is what makes a fork last for ever.

use super::cast::{Cast, Device, Vault, delta, payload, record, rotate, whole};
use super::checkpoints::Served;
use super::follow::follows_everywhere;
use proptest::prelude::*;
use selkie_protocol::id::ChangeId;
use selkie_protocol::log::{
    Beside, Control, Data, Entry, Head, Header, Kind, NewChange, Promises, Refusal, Role, VaultLog,
};

#[derive(Clone, Copy, Debug)]
enum Act {
    Write {
        device: usize,
        records: [u8; 2],
        whole: bool,
    },
    Rotate {
        device: usize,
    },
    Toggle {
        device: usize,
        whom: usize,
    },
    Checkpoint {
        device: usize,
    },
    Confirm {
        device: usize,
    },
    Pull {
        device: usize,
        at_most: usize,
    },
    /// Only a lying server does that.
    Deliver {
        device: usize,
        which: usize,
    },
}

fn act() -> impl Strategy<Value = Act> {
    let device = 0..5usize;
    prop_oneof![
        6 => (device.clone(), [0..4u8, 0..4], any::<bool>())
            .prop_map(|(device, records, whole)| Act::Write { device, records, whole }),
        1 => device.clone().prop_map(|device| Act::Rotate { device }),
        1 => (0..2usize, 2..4usize).prop_map(|(device, whom)| Act::Toggle { device, whom }),
        1 => device.clone().prop_map(|device| Act::Checkpoint { device }),
        1 => device.clone().prop_map(|device| Act::Confirm { device }),
        5 => (device.clone(), 1..6usize).prop_map(|(device, at_most)| Act::Pull { device, at_most }),
        6 => (device, any::<usize>()).prop_map(|(device, which)| Act::Deliver { device, which }),
    ]
}

/// One device's own idea of the log.
struct View {
    device: Device,
    log: VaultLog,
    /// The chain value of every position, the first at 0.
    history: Vec<[u8; 32]>,
    /// Its last entry, which it may not have read back yet.
    own: (u64, [u8; 32]),
    promises: Promises,
    sent: u8,
}

impl View {
    fn new(device: Device, vault: &Vault) -> View {
        let history = vec![vault.log.core().vault().0, vault.log.head().h];
        let own = vault.log.core().device(&device.id()).map_or((0, [0; 32]), |chain| (chain.dev_seq, chain.last));
        View { device, log: vault.log.clone(), history, own, promises: Promises::default(), sent: 0 }
    }

    fn header(&self) -> Header {
        Header { dev_seq: self.own.0 + 1, dev_prev: self.own.1, ..self.device.header(&self.log) }
    }

    fn heads(&self, number: u8) -> Vec<ChangeId> {
        self.log.live().record(&record(number)).map(|record| record.heads()).unwrap_or_default()
    }

    /// What this device would push now, having seen what it has.
    fn makes(&mut self, act: Act, cast: &Cast, views: &[selkie_protocol::id::UserId]) -> Option<Vec<u8>> {
        self.sent = self.sent.wrapping_add(1);
        let (body, header) = (payload(self.sent), self.header());
        Some(match act {
            Act::Write { records: [one, two], whole: full, .. } => {
                let (deps, others) = (self.heads(one), self.heads(two));
                if deps.len() > 16 || others.len() > 16 {
                    return None;
                }
                let change = |number: u8, deps| {
                    if full { whole(record(number), deps, &body) } else { delta(record(number), deps, &body) }
                };
                let all: [NewChange<'_>; 2] = [change(one, &deps), change(two, &others)];
                let some = if one == two { &all[..1] } else { &all };
                self.device.sign(&header, Kind::Data, &Data::write(some).unwrap())
            }
            Act::Rotate { .. } => self.device.sign(&header, Kind::Control, &rotate(&self.log, &[]).to_bytes()),
            Act::Toggle { whom, .. } => {
                let user = views[whom];
                let op = match self.log.core().governance().member(&user) {
                    None => cast.add(user, Role::Editor),
                    Some(_) => {
                        let Control::RemoveRotate(mut op) = rotate(&self.log, &[]) else { unreachable!() };
                        op.removed = vec![user];
                        Control::RemoveRotate(op)
                    }
                };
                self.device.sign(&header, Kind::Control, &op.to_bytes())
            }
            Act::Checkpoint { .. } => {
                // A device that has not read its own entries back does not know what it should list.
                if self.log.core().device(&self.device.id()).map_or(0, |chain| chain.dev_seq) != self.own.0 {
                    return None;
                }
                self.device.sign(&header, Kind::Checkpoint, &self.log.checkpoint(&[]).unwrap().0)
            }
            Act::Confirm { .. } => {
                let n = self.log.core().checkpoints().last()?.n;
                self.device.sign(&Header { checkpoint_ok: n, ..header }, Kind::Heartbeat, &[])
            }
            Act::Pull { .. } | Act::Deliver { .. } => return None,
        })
    }

    fn take(&mut self, cast: &Cast, bytes: &[u8]) -> Result<(), Refusal> {
        let effects = self.log.apply(&Entry::parse(bytes)?, Beside::Nothing, &cast.logs)?;
        self.promises.check(&effects)?;
        assert_eq!(effects.head.n as usize, self.history.len());
        self.history.push(effects.head.h);
        Ok(())
    }

    fn signed(&mut self, bytes: &[u8]) -> [u8; 32] {
        let entry = Entry::parse(bytes).unwrap();
        self.own = (entry.header.dev_seq, entry.hash());
        self.own.1
    }
}

/// Ana with two devices, Bob, Carol and Dora with one. Carol and Dora come and go.
fn cast() -> (Cast, Vault, Vec<View>) {
    let mut cast = Cast::default();
    let ana = cast.person(1);
    let phone = cast.device(ana.user, 10);
    let [bob, carol, dora] = [2, 3, 4].map(|number| cast.person(number));
    let mut vault = Vault::create(&cast, &ana);
    let (first, bob_joins) = (vault.clone(), cast.add(bob.user, Role::Owner));
    vault.does(&cast, &ana, &bob_joins);
    let mut views: Vec<View> =
        [ana, bob, carol, dora, phone].into_iter().map(|device| View::new(device, &first)).collect();
    views[0].own = vault.log.core().device(&views[0].device.id()).map(|chain| (chain.dev_seq, chain.last)).unwrap();
    for view in &mut views {
        view.take(&cast, &vault.entries[1]).unwrap();
    }
    (cast, vault, views)
}

fn device_of(act: Act) -> usize {
    match act {
        Act::Write { device, .. }
        | Act::Rotate { device }
        | Act::Toggle { device, .. }
        | Act::Checkpoint { device }
        | Act::Confirm { device }
        | Act::Pull { device, .. }
        | Act::Deliver { device, .. } => device,
    }
}

/// Many more of them with `SELKIE_LONG`.
fn cases() -> u32 {
    if std::env::var_os("SELKIE_LONG").is_some() { 2_000 } else { 96 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn an_honest_server_alarms_nobody(schedule in prop::collection::vec(act(), 1..80)) {
        let (cast, mut server, mut views) = cast();
        let users: Vec<_> = views.iter().map(|view| view.device.user).collect();
        for act in schedule {
            let view = &mut views[device_of(act)];
            match act {
                Act::Pull { at_most, .. } => pull(view, &cast, &server, at_most),
                Act::Deliver { .. } => {}
                _ => {
                    let Some(bytes) = view.makes(act, &cast, &users) else { continue };
                    match server.push(&cast, bytes.clone()) {
                        Ok(effects) => {
                            view.signed(&bytes);
                            view.promises.acknowledged(effects.head.n, effects.entry, &view.log).unwrap();
                            view.promises.seen(effects.head, &view.log).unwrap();
                        }
                        // What an honest client can meet, each with its own way out; all of them begin with a pull.
                        Err(
                            Refusal::StaleControl
                            | Refusal::Conflict(_)
                            | Refusal::NotAMember
                            | Refusal::NotAllowed(_)
                            | Refusal::BadSeen { .. },
                        ) => pull(view, &cast, &server, usize::MAX),
                        Err(other) => prop_assert!(false, "{:?}: {:?}", act, other),
                    }
                }
            }
        }
        for view in &mut views {
            pull(view, &cast, &server, usize::MAX);
            prop_assert_eq!(view.promises.all_kept(&view.log), Ok(()));
            prop_assert_eq!(view.log.head(), server.log.head());
            prop_assert!(view.log == server.log, "the same digest, but not the same state");
        }
        // Somebody who comes now, by the last checkpoint, ends where everybody is.
        if let Some(served) = Served::last(&cast, &server) {
            let (log, _) = served.bootstraps(&cast, &server, &users[0], &[]).unwrap();
            prop_assert_eq!(log.head(), server.log.head());
            prop_assert!(log.live().leaves().eq(server.log.live().leaves()));
        }
        follows_everywhere(&cast, &server.entries);
        let resumed = VaultLog::resume(&server.log.snapshot()).unwrap();
        prop_assert!(resumed == server.log);
    }

    #[test]
    fn mal_048_whoever_takes_an_entry_agrees_on_all_its_author_had_seen(
        schedule in prop::collection::vec(act(), 1..80),
    ) {
        let (cast, vault, mut views) = cast();
        let users: Vec<_> = views.iter().map(|view| view.device.user).collect();
        // Everything that was ever signed. The server shows to anybody whatever it likes, in any order.
        let mut signed: Vec<(usize, Vec<u8>)> = vault.entries.iter().map(|bytes| (0, bytes.clone())).collect();
        for act in schedule {
            let at = device_of(act);
            match act {
                Act::Pull { .. } => {}
                Act::Deliver { which, .. } => {
                    for offset in 0..signed.len().min(8) {
                        let (author, bytes) = &signed[(which % signed.len() + offset) % signed.len()];
                        if deliver(&mut views, at, *author, bytes, &cast) {
                            break;
                        }
                    }
                }
                _ => {
                    let Some(bytes) = views[at].makes(act, &cast, &users) else { continue };
                    // The server says yes to everything, so the author builds on it.
                    views[at].signed(&bytes);
                    signed.push((at, bytes));
                    let (author, bytes) = signed.last().unwrap();
                    deliver(&mut views, at, *author, bytes, &cast);
                }
            }
        }
        // Two devices that are apart are found out by the first word between them.
        for one in &views {
            for other in &views {
                let (a, b) = (&one.history, &other.history);
                let common = a.len().min(b.len());
                let agree = a[common - 1] == b[common - 1];
                prop_assert_eq!(agree, a[..common] == b[..common], "chains that met again");
                let head = Head { n: common as u64 - 1, h: a[common - 1] };
                prop_assert_eq!(Promises::default().seen(head, &other.log).is_ok(), agree);
            }
        }
    }
}

/// Offers an entry to a device, and holds the invariant against it if it is taken.
fn deliver(views: &mut [View], to: usize, author: usize, bytes: &[u8], cast: &Cast) -> bool {
    let before = views[to].log.clone();
    if views[to].take(cast, bytes).is_err() {
        assert!(views[to].log == before, "a refusal changed the log");
        return false;
    }
    let seen = Entry::parse(bytes).unwrap().header.seen;
    let k = seen.n as usize;
    assert_eq!(views[to].history[k], seen.h);
    assert_eq!(views[author].history[k], seen.h, "the author had seen what it said");
    assert_eq!(views[to].history[..=k], views[author].history[..=k], "and so everything before it");
    true
}

fn pull(view: &mut View, cast: &Cast, server: &Vault, at_most: usize) {
    let from = view.log.head().n as usize;
    for bytes in server.entries[from..].iter().take(at_most) {
        view.take(cast, bytes).expect("an honest server alarms nobody");
    }
}
