//! Random schedules: up to four devices of three people, a bad network, crashes, wrong clocks, changing members, and an
//! honest server. Whatever happens, nothing that was written is lost, everybody ends with the same, and nobody cries
//! out. With a server that lies, `lying`.
//!
//! `SELKIE_SCHEDULES=n` runs so many; `SELKIE_SEED=s` runs the one of that seed, as it is named by a failure.

mod cast;
mod liar;
mod lies;
mod lying;
pub(crate) mod weather;

use cast::{Cast, Device};
use lying::Ears;
use selkie_client::{Error, KeptTrust, RecordId, Role};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;
pub(crate) use weather::Dice;

const MANY: u64 = 2_000;
const STEPS: u64 = 40;

#[test]
fn schedules() {
    let cast = Cast::make();
    play(MANY, |seed| Schedule::new(&cast, seed).run());
}

/// Plays so many schedules, or those that were asked for. Says whether it were so many at least.
fn play(many: u64, schedule: impl Fn(u64) + Sync) -> bool {
    let number = |name: &str| std::env::var(name).ok().and_then(|number| number.parse::<u64>().ok());
    let (asked, begin) = (number("SELKIE_SCHEDULES").unwrap_or(many), number("SELKIE_FIRST_SEED").unwrap_or(1));
    let seeds: Vec<u64> = number("SELKIE_SEED").map_or_else(|| (begin..begin + asked).collect(), |seed| vec![seed]);
    let threads = 2;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|worker| {
                let (schedule, seeds) = (&schedule, &seeds);
                scope.spawn(move || {
                    for seed in seeds.iter().skip(worker).step_by(threads) {
                        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| schedule(*seed))) {
                            panic_with_seed(*seed);
                            resume_unwind(panic);
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            if let Err(panic) = worker.join() {
                resume_unwind(panic);
            }
        }
    });
    seeds.len() as u64 >= many
}

/// The same little story, killed at every request and at every call of the store in turn.
#[test]
fn a_program_that_is_killed_anywhere_loses_nothing() {
    let cut_off = killed_everywhere(1_000_000, |schedule, kill| {
        schedule.sync(1);
        schedule.sync(2);
        schedule.write(1);
        schedule.sync(1);
        kill(&mut schedule.devices[0]);
        for _ in 0..3 {
            schedule.write(0);
        }
        schedule.sync(0);
        let outcome = schedule.devices[0].with_vault(async |vault| vault.rotate().await);
        schedule.bear(0, outcome);
        schedule.write(0);
        schedule.sync(0);
    });
    assert!(cut_off > 40, "it was killed at {cut_off} places only");
}

/// A vault that is fetched once more, killed at every request and at every call of the store in turn: it is the old one
/// or the new one, and nothing that was not sent is lost or sent twice.
#[test]
fn a_program_that_is_killed_while_it_fetches_a_vault_again_loses_nothing() {
    let cut_off = killed_everywhere(2_000_000, |schedule, kill| {
        schedule.sync(1);
        schedule.write(1);
        schedule.sync(1);
        schedule.sync(0);
        for _ in 0..3 {
            schedule.write(0);
        }
        kill(&mut schedule.devices[0]);
        let outcome = schedule.devices[0].with_vault(async |vault| vault.fetch_again().await);
        schedule.bear(0, outcome);
        schedule.write(0);
    });
    assert!(cut_off > 15, "it was killed at {cut_off} places only");
}

/// Another device renews the vault's key and writes with it; this one pulls both, killed at every request and at every
/// call of the store in turn. Whatever was kept last, in the end it reads everything, though nothing new comes.
#[test]
fn a_program_that_is_killed_while_a_key_comes_opens_what_waits_for_it() {
    let cut_off = killed_everywhere(3_000_000, |schedule, kill| {
        schedule.sync(0);
        schedule.sync(1);
        let outcome = schedule.devices[1].with_vault(async |vault| vault.rotate().await);
        schedule.bear(1, outcome);
        schedule.write(1);
        for device in [1, 2, 3, 1] {
            schedule.sync(device);
        }
        kill(&mut schedule.devices[0]);
        schedule.sync(0);
    });
    assert!(cut_off > 10, "it was killed at {cut_off} places only");
}

/// Tells a story again and again, in which the first device is killed one request, or one call of its store, later each
/// time, until it is not killed any more. Says how often it was.
fn killed_everywhere(first_seed: u64, story: impl Fn(&mut Schedule, &dyn Fn(&mut Device))) -> usize {
    let cast = Cast::make();
    let (mut cut_off, mut seed) = (0, first_seed);
    for at_the_store in [false, true] {
        for after in 0.. {
            seed += 1;
            let mut schedule = Schedule::new(&cast, seed);
            schedule.begin();
            story(&mut schedule, &|device| match at_the_store {
                true => device.kill_after(None, Some(after)),
                false => device.kill_after(Some(after), None),
            });
            let was_killed = schedule.devices[0].was_killed();
            schedule.heal();
            schedule.judge();
            if !was_killed {
                break;
            }
            cut_off += 1;
        }
    }
    cut_off
}

#[allow(clippy::print_stderr)]
fn panic_with_seed(seed: u64) {
    eprintln!("this schedule failed: run it again with SELKIE_SEED={seed}");
}

struct Schedule {
    seed: u64,
    dice: Dice,
    devices: Vec<Device>,
    server: std::sync::Arc<crate::fake::Fake>,
    written: Vec<(usize, RecordId, String)>,
    /// What somebody at least began to write.
    tried: BTreeSet<(RecordId, String)>,
    counter: u64,
    /// Whoever has little room, and lets go of what is in the log.
    cramped: Option<usize>,
    /// Who may hear of a lie, if one is told.
    ears: Option<Ears>,
}

impl Schedule {
    fn new(cast: &Cast, seed: u64) -> Self {
        let (server, devices) = cast.on_a_new_server(seed);
        let (dice, written, tried) = (Dice::new(seed), Vec::new(), BTreeSet::new());
        let mut schedule =
            Schedule { seed, dice, devices, server, written, tried, counter: 0, cramped: None, ears: None };
        if schedule.dice.one_in(2) {
            schedule.cramped = Some(schedule.dice.below(4) as usize);
        }
        schedule
    }

    fn run(mut self) {
        self.begin();
        for _ in 0..STEPS {
            self.step();
        }
        self.heal();
        self.judge();
    }

    fn begin(&mut self) {
        let ana = &mut self.devices[0];
        ana.open();
        ana.make_vault();
        ana.sync_well();
        self.add(1 + 1, Role::Editor);
        if self.dice.one_in(2) {
            let role = if self.dice.one_in(3) { Role::Viewer } else { Role::Editor };
            self.add(3, role);
        }
    }

    fn add(&mut self, whose: usize, role: Role) {
        let user = self.devices[whose].user();
        let outcome = self.devices[0].with_vault(async |vault| vault.add_member(user, role).await);
        self.bear(0, outcome);
    }

    /// What may go wrong may go wrong; an alarm may not.
    fn bear<T>(&mut self, device: usize, outcome: Option<Result<T, Error>>) -> Option<T> {
        match outcome {
            None => {
                self.devices[device].restart();
                None
            }
            Some(Ok(done)) => Some(done),
            Some(Err(error)) => {
                match &error {
                    Error::Offline(_) | Error::RetryLater { .. } | Error::Refused(_) | Error::NotPossible(_) => {}
                    // To be had again, and never written over meanwhile.
                    Error::NotHere { .. } if self.cramped == Some(device) => {}
                    Error::Storage(_) => self.devices[device].restart(),
                    other if self.ears.as_mut().is_some_and(|ears| ears.hear(device, other)) => {}
                    other => panic!("seed {}: device {device}: {other:?}", self.seed),
                }
                None
            }
        }
    }

    fn step(&mut self) {
        let device = self.dice.below(4) as usize;
        match self.dice.below(21) {
            0..7 => self.write(device),
            7 => self.delete(device),
            8..14 => self.sync(device),
            14 => self.devices[device].restart(),
            15 => self.devices[device].worsen(&mut self.dice),
            16 => self.devices[device].deliver_late(&mut self.dice),
            17 => {
                let jump = (self.dice.below(4_000_000_000) as i64) - 2_000_000_000;
                self.devices[device].jump(jump);
                self.server.later(self.dice.below(2_000_000));
            }
            18 => self.govern(),
            19 => self.make_room(),
            _ => {
                let outcome = self.devices[device].with_vault(async |vault| vault.write_checkpoint().await);
                self.bear(device, outcome);
            }
        }
    }

    fn make_room(&mut self) {
        // A server that lies is asked for logs alone.
        let Some(device) = self.cramped.filter(|_| self.ears.is_none()) else { return };
        let fetch = self.dice.one_in(3);
        let outcome = self.devices[device].with_vault(async |vault| match fetch {
            true => vault.fetch_all_records().await.map(drop),
            false => vault.let_go(Duration::ZERO).await.map(drop),
        });
        self.bear(device, outcome);
    }

    fn record(&mut self) -> RecordId {
        RecordId([1 + self.dice.below(6) as u8; 16])
    }

    fn write(&mut self, device: usize) {
        let record = self.record();
        self.counter += 1;
        let content = format!("{device}-{}", self.counter);
        self.tried.insert((record, content.clone()));
        let data = content.clone();
        let outcome = self.devices[device].with_vault(async |vault| vault.put("notes", record, data.as_bytes()).await);
        if self.bear(device, outcome).is_some() {
            self.written.push((device, record, content));
        }
    }

    fn delete(&mut self, device: usize) {
        let record = self.record();
        let outcome = self.devices[device].with_vault(async |vault| vault.delete("notes", record).await);
        self.bear(device, outcome);
    }

    fn sync(&mut self, device: usize) {
        let outcome = self.devices[device].sync();
        self.bear(device, outcome);
    }

    fn govern(&mut self) {
        let by = self.dice.below(4) as usize;
        let whom = 2 + self.dice.below(2) as usize;
        let user = self.devices[whom].user();
        let role = if self.dice.one_in(3) { Role::Viewer } else { Role::Editor };
        let what = self.dice.below(4);
        let outcome = self.devices[by].with_vault(async |vault| match what {
            0 => vault.add_member(user, role).await,
            1 => vault.set_role(user, role).await,
            2 => vault.remove_member(user).await,
            _ => vault.rotate().await,
        });
        self.bear(by, outcome);
    }

    fn heal(&mut self) {
        for device in &mut self.devices {
            device.calm(&mut self.dice);
        }
        for _ in 0..4 {
            for device in 0..4 {
                self.sync(device);
            }
        }
        if let Some(device) = self.cramped {
            let outcome = self.devices[device].with_vault(async |vault| vault.fetch_all_records().await);
            self.bear(device, outcome);
        }
    }

    fn judge(&mut self) {
        let seed = self.seed;
        let members = self.server.with(|world| {
            let is_shared = |one: &&crate::fake::vaults::One| one.log.core().app().as_str() != "selkie";
            let one = world.vaults.all.values().find(is_shared).unwrap();
            let members = one.log.core().governance().members();
            members.map(|(user, member)| (*user, member.role)).collect::<BTreeMap<_, _>>()
        });
        let mut digests = BTreeSet::new();
        let mut contents = BTreeSet::new();
        for (number, device) in self.devices.iter_mut().enumerate() {
            let check = device.check();
            assert!(check.is_sound(), "seed {seed}: device {number} takes itself for damaged: {check:?}");
            let Some(role) = members.get(&device.user()) else { continue };
            let shown = device
                .with_vault(async |vault| {
                    let status = vault.status().await?;
                    let mut records = vault.records("notes").await?;
                    records.sort_by_key(|record| record.id);
                    let records: Vec<_> = records.into_iter().map(|record| (record.id.0, record.data)).collect();
                    Ok((status, records))
                })
                .unwrap_or_else(|| panic!("seed {seed}: device {number} hangs"))
                .unwrap_or_else(|error| panic!("seed {seed}: device {number}: {error:?}"));
            let (status, records) = shown;
            if role.may_write() {
                assert_eq!(status.pending, 0, "seed {seed}: device {number} still has writes: {status:?}");
                contents.insert(records);
            }
            assert_eq!(status.elsewhere, 0, "seed {seed}: device {number}");
            assert!(status.set_aside.is_empty(), "seed {seed}: device {number}: {:?}", status.set_aside);
            digests.insert(status.digest.to_string());
        }
        assert_eq!(digests.len(), 1, "seed {seed}: {digests:?}");
        assert!(contents.len() <= 1, "seed {seed}: {contents:?}");
        for (device, record, content) in std::mem::take(&mut self.written) {
            let writes = members.get(&self.devices[device].user()).is_some_and(|role| role.may_write());
            for (number, reader) in self.devices.iter_mut().enumerate() {
                if number != device && !(writes && members.contains_key(&reader.user())) {
                    continue;
                }
                if self.cramped == Some(number) {
                    // What was let go comes again as it is now, what it said before went with it; and to somebody who
                    // was removed meanwhile it does not come again.
                    continue;
                }
                let kept =
                    reader.with_vault(async |vault| Ok((vault.history(record).await?, vault.status().await?.trust)));
                let (history, trust) = kept.unwrap().unwrap();
                if number != device && trust != KeptTrust::WholeLog {
                    // It began with a checkpoint, which has what was live there and nothing before it.
                    continue;
                }
                let found = history.iter().any(|version| version.data == content.as_bytes());
                assert!(found, "seed {seed}: {content:?} of device {device} is lost to device {number}");
            }
        }
    }
}
