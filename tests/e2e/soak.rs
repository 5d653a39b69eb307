//! A day in the life, pressed into minutes: five people work at random on fifty devices while everything that can
//! happen to a server happens to it, one thing after the other. At the end all is healed, and nothing has been lost,
//! nothing was a false alarm and nothing leaks.
//!
//! What happens, and when, is a plan made from a seed ([`plan`]), which is printed: with `SELKIE_SEED` it happens
//! again. What the devices do is made from it, too; who comes first is left to the machine.
//!
//! It is a step of `./check`, by itself. There each kind of trouble comes once, and the fifty devices are those of both
//! backends together, since to sign in costs far more than to be there. `./check --long` has an hour and fifty devices
//! on each backend, and `SELKIE_SOAK_MINUTES` as many minutes as it says: trouble comes in other orders, on top of what
//! other trouble has left behind, and there is what only shows with time: leaks, and logs that have grown. In the
//! second half the server is not killed, so that there is one to be looked at.
//!
//! A disk that is full is the one trouble that is only played: nothing here may mount one. On SQLite the files of the
//! server may not grow any more, on PostgreSQL nothing may be written any more, as where a provider sees that a disk is
//! nearly full. A PostgreSQL whose disk is really full ends itself and begins again; that it is killed is told here.

mod app;
mod device;
mod growth;
mod ledger;
mod plan;
mod scene;
mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream;
use selkie_client::{Digest, Role, VaultId};
use selkie_e2e::on_both_backends;
use selkie_e2e::premises::Backend;
use tokio::sync::watch;
use tokio::task::JoinSet;

use app::{APP, TALLIES, Tally};
use device::{Device, Person, Shared};
use growth::Growth;
use plan::{Trouble, plan};
use scene::Scene;

const PEOPLE: [&str; 5] = ["ana", "bo", "cy", "di", "ed"];
/// Each person's devices are counted from a multiple of this; nobody has more.
const MOST_DEVICES: u64 = 10;
/// Of those, so many come when there is trouble already. They are the last of the first person.
const NEWCOMERS: u64 = 2;
/// Which of the people, and as what.
type Other = (usize, Role);
/// Each vault: who made it, and who else is in it. Besides, each person has one alone.
const VAULTS: [(&str, usize, &[Other]); 2] = [
    ("Family", 0, &[(1, Role::Editor), (2, Role::Editor), (3, Role::Admin), (4, Role::Viewer)]),
    ("Club", 1, &[(0, Role::Editor), (2, Role::Viewer)]),
];
/// How many do something at once where they could all.
const AT_ONCE: usize = 4;
/// Until all are in step again. They have a minute's work, and more after an hour.
const IN_STEP_LIMIT: Duration = Duration::from_secs(180);
/// Until the server has let go of connections that nobody uses.
const QUIET_LIMIT: Duration = Duration::from_secs(60);
/// What a server may have open when everybody has left for good, beyond what it had open when they had all left once
/// before any trouble came. It opens connections to its database and to its blobs when they are first needed, so what
/// it has open before anybody came says little.
const FILES_MARGIN: usize = 10;
/// How much more memory it may take at the end than at the first calm moment of its life.
const MEMORY_MARGIN_MIB: f64 = 48.0;
/// From this length on, it must not grow either: in less, the server that lives at the end is too young to tell.
const GROWTH_FROM: Duration = Duration::from_secs(20 * 60);

on_both_backends! {
    #[ignore = "minutes of every core: a step of ./check by itself"]
    async fn a_household_loses_nothing_through_all_that_can_happen_to_a_server(backend: Backend) {
        let (seed, length) = (seed(), length());
        let diary = Diary::new(format!("{backend:?}, SELKIE_SEED={seed}, {length:?}"));
        let mut scene = Scene::new(backend, seed).await;
        let shared = Arc::new(Shared::default());
        let (mut devices, mut newcomers) = household(&scene.door.url(), seed, &shared).await;
        for device in &mut devices {
            device.close().await;
        }
        let files_before = left_alone(&scene).await;
        for device in &mut devices {
            device.open().await;
        }
        diary.note(&format!("{} devices are in step, {} will come", devices.len(), newcomers.len()));

        let (end, over) = watch::channel(false);
        let mut living = JoinSet::new();
        for device in devices {
            living.spawn(device.live(over.clone()));
        }
        for event in plan(seed, backend, length) {
            let arrival = match (event.trouble, backend) {
                (Trouble::BlobsAway, _) | (Trouble::Slow, Backend::SqliteAndFiles) => newcomers.pop(),
                _ => None,
            };
            if let Some(mut device) = arrival {
                let over = over.clone();
                living.spawn(async move {
                    device.signs_in().await;
                    device.live(over).await
                });
            }
            scene.suffer(&event).await;
        }
        // Whoever has not come by now comes when all is well.
        for mut device in newcomers {
            device.signs_in().await;
            living.spawn(device.live(over.clone()));
        }
        diary.note("all is healed");
        end.send_replace(true);
        let mut devices = living.join_all().await;
        devices.sort_by_key(|device| device.number);
        for device in &mut devices {
            device.close().await;
            device.open().await;
        }
        diary.note("all have stopped and are opened again");
        let digests = come_into_step(&devices).await;
        diary.note("all are in step");
        // While everybody lived, and before all of them came at once.
        let growth = Growth::of(scene.samples());
        scene.take_sample();
        let mut wrong = audit(&devices, &digests, &shared).await;
        wrong.extend(shared.surprises());
        diary.note(&format!("{} writes were looked for", shared.ledger.len()));

        for device in &mut devices {
            device.close().await;
        }
        let files_after = quiet(&scene, files_before).await;
        let (in_good_order, log, refusals) = scene.end();
        let failures = refusals.len();
        diary.note(&format!("the server had {files_before} files open and has {files_after}; {failures} failures"));
        if !in_good_order {
            wrong.push("the server did not stop in good order".into());
        }
        if files_after > files_before + FILES_MARGIN {
            wrong.push(format!("{files_before} files were open, and {files_after} are"));
        }
        let of_last: Vec<_> = {
            let last = scene.samples().last().map(|sample| sample.process);
            scene.samples().iter().filter(|sample| Some(sample.process) == last).collect()
        };
        if let (Some(first), Some(last)) = (of_last.first(), of_last.last())
            && last.pss_mib > first.pss_mib + MEMORY_MARGIN_MIB
        {
            wrong.push(format!("it took {} MiB and takes {}: {of_last:?}", first.pss_mib, last.pss_mib));
        }
        if length >= GROWTH_FROM && growth.is_none_or(Growth::is_a_leak) {
            wrong.push(format!("what it takes grows, or cannot be told: {growth:?}"));
        }
        diary.note(&format!("{growth:?}"));
        diary.note(&format!("{:?}", of_last.iter().map(|sample| (sample.pss_mib, sample.files)).collect::<Vec<_>>()));
        diary.note(&format!("{:#?}", verdict::complaints(&log)));
        wrong.extend(verdict::surprises(&log, scene.windows()));
        wrong.extend(verdict::unknown(&refusals, &log).into_iter().map(|id| format!("{id} is not in the log")));
        let (count, some) = (wrong.len(), &wrong[..wrong.len().min(40)]);
        assert!(wrong.is_empty(), "SELKIE_SEED={seed}: {count} surprises: {some:#?}\n{:#?}", scene.windows());
    }
}

/// Everybody, with what they share: all devices but the newcomers, in step.
async fn household(url: &str, seed: u64, shared: &Arc<Shared>) -> (Vec<Device>, Vec<Device>) {
    let each = if is_long() { MOST_DEVICES } else { MOST_DEVICES / 2 };
    let people = stream::iter(PEOPLE.iter().enumerate()).map(|(number, name)| async move {
        let (login_name, password) = (format!("{name}@example.org"), format!("seven silver swans sail with {name}"));
        let mut person = Person { login_name, password, sheet: None };
        let mut first = Device::new(number as u64 * MOST_DEVICES, &Arc::new(person.clone()), shared, url, seed);
        person.sheet = Some(first.signs_up().await);
        first.person = Arc::new(person);
        first
    });
    let firsts: Vec<Device> = people.buffered(AT_ONCE).collect().await;
    share(&firsts, shared).await;
    let others = firsts.iter().flat_map(|first| {
        (1..each).map(move |number| Device::new(first.number + number, &first.person, shared, url, seed))
    });
    let (newcomers, others): (Vec<_>, Vec<_>) =
        others.partition(|device| (each - NEWCOMERS..each).contains(&device.number));
    let joining = stream::iter(others).map(|mut device| async move {
        device.signs_in().await;
        device.syncs().await;
        device
    });
    let others: Vec<Device> = joining.buffered(AT_ONCE).collect().await;
    (firsts.into_iter().chain(others).collect(), newcomers)
}

/// Makes the vaults, and lets everybody in who is to be.
async fn share(firsts: &[Device], shared: &Arc<Shared>) {
    let nobody: &[(usize, Role)] = &[];
    let alone = (0..firsts.len()).map(|owner| ("Alone", owner, nobody));
    for (name, owner, members) in VAULTS.into_iter().chain(alone) {
        let account = firsts[owner].account();
        let vault = account.create_vault(name, APP).await.expect("making a vault needs nobody");
        for _ in 0..2 {
            let tally = vault.collection::<Tally>(TALLIES).put(&Tally::default()).await.expect("there is room");
            shared.ledger.counted(vault.id(), tally, 0);
        }
        assert!(firsts[owner].syncs().await, "all is well");
        for (member, role) in members {
            vault.add_member(firsts[*member].account().user_id(), *role).await.expect("the owner may");
        }
        assert!(firsts[owner].syncs().await, "all is well");
    }
    for device in firsts {
        assert!(device.syncs().await, "all is well");
    }
}

/// Until every device says the same of every vault that it has.
async fn come_into_step(devices: &[Device]) -> BTreeMap<VaultId, Digest> {
    let deadline = Instant::now() + IN_STEP_LIMIT;
    loop {
        let syncing = stream::iter(devices).for_each_concurrent(AT_ONCE, |device| async move {
            let _worked = device.syncs().await;
        });
        syncing.await;
        let mut agreed: BTreeMap<VaultId, Digest> = BTreeMap::new();
        let mut not_yet = Vec::new();
        for (device, (digests, of_device)) in devices.iter().zip(join_all(devices.iter().map(Device::standing)).await) {
            not_yet.extend(of_device);
            for (vault, digest) in digests {
                let known = *agreed.entry(vault).or_insert(digest);
                if known != digest {
                    not_yet.push(format!("device {} has {digest} of {vault}, and not {known}", device.number));
                }
            }
        }
        if not_yet.is_empty() {
            return agreed;
        }
        assert!(Instant::now() < deadline, "not in step: {not_yet:#?}");
    }
}

/// On one device of each person everything that was ever written is looked for; the others must read as it does.
async fn audit(devices: &[Device], digests: &BTreeMap<VaultId, Digest>, shared: &Shared) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut read = BTreeMap::new();
    for device in devices {
        let vaults = device.vaults().await.expect("the store can be read");
        for vault in &vaults {
            if !digests.contains_key(&vault.id()) {
                wrong.push(format!("device {} has a vault of its own", device.number));
            }
            let here = device.reads(&vault.id()).await;
            let there = read.entry(vault.id()).or_insert_with(|| here.clone());
            if here != *there {
                wrong.push(format!("device {} reads {} otherwise", device.number, vault.id()));
            }
            if device.number.is_multiple_of(MOST_DEVICES) {
                let lost = shared.ledger.audit(vault).await;
                wrong.extend(lost.into_iter().map(|what| format!("device {}: {what}", device.number)));
            }
        }
        let person = usize::try_from(device.number / MOST_DEVICES).expect("there are few");
        let shares = VAULTS
            .iter()
            .filter(|(_, owner, members)| *owner == person || members.iter().any(|(member, _)| *member == person));
        if vaults.len() != shares.count() + 1 {
            wrong.push(format!("device {} has {} vaults", device.number, vaults.len()));
        }
    }
    wrong
}

/// How much a server has open that nobody talks to any more, when it has come to rest.
async fn left_alone(scene: &Scene) -> usize {
    let deadline = Instant::now() + QUIET_LIMIT;
    let (mut open, mut for_so_long) = (scene.open_files(), 0);
    while for_so_long < 10 && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = scene.open_files();
        for_so_long = if now == open { for_so_long + 1 } else { 0 };
        open = now;
    }
    open
}

/// Waits until a server that nobody talks to has closed what it had open for others; how much it has open then.
async fn quiet(scene: &Scene, before: usize) -> usize {
    let deadline = Instant::now() + QUIET_LIMIT;
    while scene.open_files() > before + FILES_MARGIN && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    scene.open_files()
}

fn seed() -> u64 {
    match std::env::var("SELKIE_SEED") {
        Ok(seed) => seed.parse().expect("SELKIE_SEED is a number"),
        Err(_) => u64::from(std::process::id()) ^ u64::from(uuid::Uuid::new_v4().as_fields().0),
    }
}

fn is_long() -> bool {
    std::env::var_os("SELKIE_SOAK_MINUTES").is_some() || std::env::var_os("SELKIE_LONG").is_some()
}

fn length() -> Duration {
    match std::env::var("SELKIE_SOAK_MINUTES") {
        Ok(minutes) => Duration::from_secs(60) * minutes.parse().expect("SELKIE_SOAK_MINUTES is a number"),
        Err(_) if is_long() => Duration::from_secs(3600),
        Err(_) => Duration::from_secs(80),
    }
}

/// What is printed as it goes.
struct Diary {
    begun: Instant,
    of: String,
}

impl Diary {
    fn new(of: String) -> Self {
        let diary = Diary { begun: Instant::now(), of };
        diary.note("begins");
        diary
    }

    #[allow(clippy::print_stderr, reason = "a seed that nobody sees cannot be tried again")]
    fn note(&self, what: &str) {
        eprintln!("{:6.1}s {}: {what}", self.begun.elapsed().as_secs_f64(), self.of);
    }
}
