//! Random schedules in the middle of which the server begins to lie. Whoever must notice does, and calls it by its
//! name; nobody else cries out, nothing that was written is lost, and nobody shows what nobody has written.
//!
//! Who must notice each lie is said where it is named. A lie that nobody must notice had no effect; how often each had
//! one is counted. Seeds and `SELKIE_SCHEDULES` are those of the honest schedules; the seed also says which lie it is.

use super::cast::{Cast, Device};
use super::liar::{DEVICES, Liar};
use super::lies::Lie;
use super::{Dice, STEPS, Schedule, play};
use crate::fake::vaults::One;
use selkie_client::{Error, Misbehaviour, RecordId, VaultId, VaultState, VaultStatus};
use selkie_protocol::log::Head;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

const MANY: u64 = 160;
/// So often each lie has an effect at least, among so many.
const FEW: u64 = 3;
/// No step of a schedule needs as many.
const MOST_REQUESTS: u64 = 1_000;

#[test]
fn schedules_of_a_server_that_lies() {
    let cast = Cast::make();
    let effects = Mutex::new(BTreeMap::from(Lie::ALL.map(|lie| (lie, (0, 0)))));
    let enough = play(MANY, |seed| {
        let lie = Lie::ALL[(seed % Lie::ALL.len() as u64) as usize];
        let devices = Schedule::new(&cast, seed).run_with(lie);
        let mut effects = effects.lock().unwrap();
        let (schedules, all) = effects.get_mut(&lie).unwrap();
        *schedules += u64::from(devices > 0);
        *all += devices;
    });
    let effects = effects.into_inner().unwrap();
    say(&effects);
    assert!(!enough || effects.values().all(|(schedules, _)| *schedules >= FEW), "{effects:?}");
}

#[allow(clippy::print_stderr)]
fn say(effects: &BTreeMap<Lie, (u64, u64)>) {
    for (lie, (schedules, devices)) in effects {
        eprintln!("{lie:?} had an effect in {schedules} schedules, on {devices} devices");
    }
}

/// Who hears what the devices cry out.
pub(super) struct Ears {
    liar: Arc<Liar>,
    lie: Lie,
    /// Whose log is lied about: the one they share, or Ana's own.
    vault: VaultId,
    shared: VaultId,
    has_begun: bool,
    alarms: [Vec<Misbehaviour>; DEVICES],
}

impl Ears {
    /// Whether there is a reason to cry that out.
    pub(super) fn hear(&mut self, device: usize, error: &Error) -> bool {
        let kind = match error {
            Error::Quarantined(quarantine) => quarantine.kind,
            Error::ServerMisbehaved { kind, .. } => *kind,
            Error::ServerBehind { .. } => return self.has_begun && self.lie == Lie::CallItARestore,
            _ => return false,
        };
        self.alarms[device].push(kind);
        self.has_begun && self.lie.names().contains(&kind)
    }
}

/// How a device is in the end.
struct End {
    status: Option<VaultStatus>,
    may_write: Option<bool>,
    noticed: bool,
    /// What it shows of each record, now and before.
    histories: BTreeMap<RecordId, Vec<Vec<u8>>>,
}

impl Schedule {
    /// On how many devices the lie has had an effect.
    fn run_with(mut self, lie: Lie) -> u64 {
        let mut dice = Dice::new(self.seed ^ 0x11e5);
        let begins = dice.below(lie.begins_before(STEPS));
        let liar = Liar::new(self.server.clone());
        for (number, device) in self.devices.iter_mut().enumerate() {
            device.listen_to(liar.clone(), number);
        }
        self.begin();
        let (shared, of_one) = self.server.with(|world| {
            let named =
                |own: bool| world.vaults.all.iter().find(|(_, one)| (one.log.core().app().as_str() == "selkie") == own);
            (*named(false).unwrap().0, *named(true).unwrap().0)
        });
        let own = lie.is_told_of_an_own_vault() && dice.one_in(4);
        let vault = if own { of_one } else { shared };
        let alarms = std::array::from_fn(|_| Vec::new());
        self.ears = Some(Ears { liar: liar.clone(), lie, vault, shared, has_begun: false, alarms });
        for step in 0..STEPS {
            if step == begins {
                let ana = self.devices[0].user();
                liar.begin(lie, dice.clone(), vault, ana, self.heads());
                self.ears.as_mut().unwrap().has_begun = true;
            }
            self.step();
            self.has_not_asked_for_ever();
        }
        self.heal_as_far_as_can_be();
        self.judge_the_lie()
    }

    fn ears(&self) -> &Ears {
        self.ears.as_ref().unwrap()
    }

    fn heads(&self) -> [Option<Head>; DEVICES] {
        let vault = self.ears().vault;
        std::array::from_fn(|device| self.devices[device].head(&vault))
    }

    fn has_not_asked_for_ever(&self) {
        let requests = self.ears().liar.requests();
        assert!(requests < MOST_REQUESTS, "seed {}: {requests} requests in one step", self.seed);
    }

    /// The network heals, and the lie goes on. Everybody writes once more, and hours pass.
    fn heal_as_far_as_can_be(&mut self) {
        for device in &mut self.devices {
            device.calm(&mut self.dice);
        }
        self.ears().liar.join(self.heads());
        (0..DEVICES).for_each(|device| self.write(device));
        for round in 0..12 {
            if round == 4 {
                self.server.later(2 * 3600 * 1000);
            }
            for device in 0..DEVICES {
                let outcome = self.devices[device].sync_all();
                let outcome = outcome.unwrap_or_else(|| panic!("seed {}: device {device} hangs", self.seed));
                for error in outcome.unwrap_or_else(|error| vec![error]) {
                    self.bear(device, Some(Err::<(), _>(error)));
                }
                // What devices tell each other is enough to find a fork.
                if round >= 10 && self.ears().lie != Lie::Fork {
                    let vault = self.ears().vault.to_string();
                    let outcome = self.devices[device].with(&vault, async |vault| vault.sync().await);
                    self.bear(device, outcome);
                }
                self.has_not_asked_for_ever();
            }
        }
    }

    fn judge_the_lie(&mut self) -> u64 {
        let (seed, heads) = (self.seed, self.heads());
        let Ears { liar, lie, vault, shared, alarms, .. } = self.ears.take().unwrap();
        let (mut effects, mut ends) = (0, Vec::new());
        for (number, device) in self.devices.iter_mut().enumerate() {
            let who = format!("seed {seed}: {lie:?}: device {number}");
            let status = look(device, &vault, &who);
            let state = status.as_ref().map(|status| &status.state);
            let noticed = match lie {
                Lie::CallItARestore => matches!(state, Some(VaultState::ServerBehind { .. })),
                lie if lie.sets_apart() => matches!(state, Some(VaultState::Quarantined(_))),
                _ => !alarms[number].is_empty(),
            };
            if let Some(VaultState::Quarantined(quarantine)) = state {
                assert!(lie.names().contains(&quarantine.kind), "{who}: {quarantine:?}");
                let evidence = device.with(&vault.to_string(), async |vault| vault.export_evidence().await);
                assert!(!evidence.unwrap().unwrap().is_empty(), "{who} has kept nothing of it");
            }
            let may_write = rights(&liar.log_for(number, &vault), device);
            let must = may_write.is_some() && liar.must_notice(number, heads);
            // What a restored server lacked may have been put back.
            effects += u64::from(must || lie == Lie::CallItARestore && liar.was_told(number));
            assert!(noticed || !must, "{who} has not noticed: {status:?}");
            assert!(alarms[number].is_empty() || liar.may_notice(number), "{who}: {:?}", alarms[number]);
            let check = device.check();
            assert!(check.is_sound(), "{who} takes itself for damaged: {check:?}");
            if !noticed {
                is_in_step(&liar.log_for(number, &vault), status.as_ref(), may_write, &who);
            }
            // Whoever noticed something about another vault goes on in this one.
            let noticed = noticed && vault == shared;
            let (log, status) = (liar.log_for(number, &shared), look(device, &shared, &who));
            let may_write = rights(&log, device);
            if !noticed {
                is_in_step(&log, status.as_ref(), may_write, &who);
            }
            let histories = if status.is_some() { histories(device, &shared, &who) } else { BTreeMap::new() };
            for (record, versions) in &histories {
                for version in versions {
                    let text = String::from_utf8_lossy(version).into_owned();
                    assert!(self.tried.contains(&(*record, text)), "{who} shows what nobody wrote: {version:?}");
                }
            }
            ends.push(End { status, may_write, noticed, histories });
        }
        for (writer, record, content) in &self.written {
            let shown_by = |end: &End| {
                let versions = end.histories.get(record);
                versions.is_some_and(|versions| versions.iter().any(|version| version == content.as_bytes()))
            };
            for (number, reader) in ends.iter().enumerate() {
                let of_both = ends[*writer].head_in_step().filter(|_| ends[*writer].may_write == Some(true));
                let shared = of_both.is_some() && of_both == reader.head_in_step() && !liar.may_lack_contents(number);
                assert!(
                    number != *writer && !shared || shown_by(reader),
                    "seed {seed}: {lie:?}: {content:?} of device {writer} is lost to device {number}"
                );
            }
        }
        effects
    }
}

impl End {
    /// Where a member's device stands that goes along with what it is shown.
    fn head_in_step(&self) -> Option<(u64, [u8; 32])> {
        let status = self.status.as_ref().filter(|_| self.may_write.is_some() && !self.noticed)?;
        Some((status.digest.n, status.digest.h))
    }
}

/// Whether a device may write in a vault, if its person is a member.
fn rights(log: &One, device: &mut Device) -> Option<bool> {
    log.log.core().governance().member(&device.user()).map(|member| member.role.may_write())
}

fn is_in_step(log: &One, status: Option<&VaultStatus>, may_write: Option<bool>, who: &str) {
    let Some(may_write) = may_write else { return };
    let status = status.unwrap_or_else(|| panic!("{who} has never met the vault"));
    let there = log.log.head();
    assert_eq!((status.digest.n, status.digest.h), (there.n, there.h), "{who} is not in step: {status:?}");
    assert_eq!(status.state, VaultState::Ready, "{who}");
    assert!(!may_write || status.pending == 0, "{who} still has writes: {status:?}");
    assert!(status.set_aside.is_empty(), "{who}: {:?}", status.set_aside);
}

/// How a vault is on a device, if it has met it.
fn look(device: &mut Device, vault: &VaultId, who: &str) -> Option<VaultStatus> {
    match device.with(&vault.to_string(), async |vault| vault.status().await) {
        Some(Ok(status)) => Some(status),
        Some(Err(Error::NotPossible(_))) => None,
        other => panic!("{who}: {other:?}"),
    }
}

fn histories(device: &mut Device, vault: &VaultId, who: &str) -> BTreeMap<RecordId, Vec<Vec<u8>>> {
    let work = device.with(&vault.to_string(), async |vault| {
        let mut histories = BTreeMap::new();
        for number in 1..7 {
            let record = RecordId([number; 16]);
            let versions = vault.history(record).await?.into_iter().filter(|version| !version.deleted);
            histories.insert(record, versions.map(|version| version.data).collect());
        }
        Ok(histories)
    });
    work.unwrap_or_else(|| panic!("{who} hangs")).unwrap_or_else(|error| panic!("{who}: {error:?}"))
}
