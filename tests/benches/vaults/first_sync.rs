//! A new device takes over everything: what that costs the device, and whether a long past costs it more.
//!
//! The device is a process of its own, this bench started once more, so that what it uses is nobody else's.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use selkie_client::transport::{Http, Request, Response, Streamed, Transport, TransportError};
use selkie_client::{Account, Client, RecordId, SignIn, SignUp};
use selkie_e2e::measured::cpu_of;
use serde::{Deserialize, Serialize};

use crate::Plan;
use crate::figures::{Figure, Goal};
use crate::machine::{Machine, Used as Spent};

/// What the bench is started with to be the device.
pub(crate) const AS_A_DEVICE: &str = "--as-a-new-device";

const RECORDS: usize = 100_000;
/// Of the long past, all changes together.
const CHANGES: usize = 1_000_000;
const BATCH: usize = 250;
/// By then, whatever was written last.
const CHECKPOINTS_READY: Duration = Duration::from_secs(25);
const PASSWORD: &str = "seven silver swans sail";
const VAULT: &str = "Everything";

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Note {
    title: String,
    body: String,
    day: u32,
}

/// What the device has used.
#[derive(Serialize, Deserialize)]
struct Used {
    records: usize,
    cpu_s: f64,
    wall_s: f64,
    peak_mib: f64,
    before_mib: f64,
    received_mib: f64,
}

pub(crate) async fn measure(machine: &Machine, plan: &Plan, found: &mut Vec<Figure>) {
    let (wants_first, wants_long) = (plan.wants("first sync"), plan.wants("long history"));
    if !wants_first && !wants_long {
        return;
    }
    let (records, changes) = (plan.scaled(RECORDS), plan.scaled(CHANGES));
    let (_, short) = newcomer(machine, "everything@example.org", records, records).await;
    if wants_first {
        let goal = Goal::at_most(3.0);
        tell(machine, plan, found, &format!("client: first sync of {records}"), &short, goal);
    }
    if wants_long {
        let (wrote, long) = newcomer(machine, "long.ago@example.org", records, changes).await;
        let what = format!("client: long history, first sync of {records} after {changes} changes");
        // What is received at most, in the same time.
        tell(machine, plan, found, &what, &long, Goal::at_most(7.5));
        let what = format!("{what}, bytes received");
        let figure = Figure::new(machine.name, what, long.received_mib / short.received_mib, "times those without");
        // Once from the checkpoint, and at most a quarter as many changes from after it, each of which names what it is
        // made on top of.
        let figure = figure.goal(Goal::at_most(1.4));
        let figure = figure.and("MiB", long.received_mib).and("without", short.received_mib);
        let figure = figure.and("server, us a change written", wrote.server);
        plan.report(found, figure.and("database", wrote.database));
    }
}

fn tell(machine: &Machine, plan: &Plan, found: &mut Vec<Figure>, what: &str, used: &Used, cpu: Goal) {
    let figure = Figure::new(machine.name, format!("{what}, CPU"), used.cpu_s, "s").goal(cpu);
    let a_record = used.cpu_s * 1e6 / used.records as f64;
    plan.report(found, figure.and("us a record", a_record).and("wall s", used.wall_s));
    let figure = Figure::new(machine.name, format!("{what}, peak memory"), used.peak_mib, "MiB");
    plan.report(found, figure.goal(Goal::at_most(100.0)).and("before", used.before_mib));
}

/// Somebody writes so many records, and changes them until it were so many changes. Then a new device comes.
async fn newcomer(machine: &Machine, name: &str, records: usize, changes: usize) -> (Spent, Used) {
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let client = Client::builder(&machine.server.url).store(folder.path()).build().expect("a client");
    let before = machine.used();
    let made = client.sign_up(name, PASSWORD, SignUp::default()).await.expect("registration is open");
    let key = made.sheet.secret_key().expect("there is a Secret Key").to_owned();
    write(&made.account, records, changes).await;
    if changes > records {
        // The newest checkpoint is made ready to begin from by a chore of the server's.
        tokio::time::sleep(CHECKPOINTS_READY).await;
    }
    let wrote = machine.used().since(before, changes as f64);

    let program = std::env::current_exe().expect("a bench knows where it is");
    let arguments = [AS_A_DEVICE, &machine.server.url, name, &key].map(str::to_owned);
    let ran = tokio::task::spawn_blocking(move || Command::new(program).args(arguments).output());
    let output = ran.await.expect("no panic").expect("the bench can be started again");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let used: Used = serde_json::from_slice(&output.stdout).expect("what the device has used");
    assert!(used.records >= records, "{} of {records}", used.records);
    (wrote, used)
}

async fn write(account: &Account, records: usize, changes: usize) {
    let vault = account.create_vault(VAULT, "org.example.bench").await.expect("a vault");
    let notes = vault.collection::<Note>("notes");
    let mut names: Vec<RecordId> = Vec::with_capacity(records);
    for first in (0..changes).step_by(BATCH) {
        let mut transaction = vault.transaction();
        for change in first..changes.min(first + BATCH) {
            match names.get(change % records) {
                Some(known) => transaction.put_as(&notes, *known, &note(change)).expect("a note is a record"),
                None => names.push(transaction.put(&notes, &note(change)).expect("a note is a record")),
            }
        }
        transaction.commit().await.expect("the disk has room");
        // Whoever has written everything sends it: a record that is written twice before that travels once.
        if (first + BATCH) % records < BATCH {
            vault.sync().await.expect("the server takes it");
        }
    }
    vault.sync().await.expect("the server takes it");
    assert_eq!(vault.status().await.expect("it is here").pending, 0);
}

/// About 300 bytes.
fn note(number: usize) -> Note {
    let day = u32::try_from(number % 3_650).expect("small");
    Note { title: format!("Note {number}"), body: format!("{number:07} ").repeat(30), day }
}

/// HTTP, with an eye on what comes back.
#[derive(Debug)]
struct Counted {
    http: Http,
    received: AtomicU64,
}

#[async_trait]
impl Transport for Counted {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let response = self.http.send(request).await?;
        self.received.fetch_add(response.body.len() as u64, Ordering::Relaxed);
        Ok(response)
    }

    async fn stream(&self, request: Request) -> Result<Option<Streamed>, TransportError> {
        self.http.stream(request).await
    }
}

/// The device: signs in, takes everything over, says what that took and ends.
pub(crate) fn be_a_device(arguments: &[String]) {
    let [url, name, key] = arguments else { panic!("a URL, a name and a Secret Key") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let used = runtime.block_on(async {
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let http = Http::builder().allow_plain_http().build(url).expect("an address");
        let line = Arc::new(Counted { http, received: AtomicU64::new(0) });
        let client = Client::builder(url).transport(line.clone()).store(folder.path()).build().expect("a client");
        let signed_in = client.sign_in(name, PASSWORD, Some(key), SignIn::default()).await.expect("the right words");
        let account = signed_in.account;
        // The password was stretched, which takes 64 MiB: the peak is counted from here.
        std::fs::write("/proc/self/clear_refs", "5").expect("the kernel obeys");
        let me = std::process::id();
        let (before_mib, before, started) = (peak_mib(), cpu_of(me), Instant::now());
        let synced = account.sync().await.expect("the server is there");
        assert!(synced.first_error().is_none(), "{:?}", synced.first_error());
        let (wall_s, cpu_s, peak_mib) = (started.elapsed().as_secs_f64(), cpu_of(me) - before, peak_mib());
        let vault = account.vault(VAULT).await.expect("it is here").expect("it is here");
        let records = vault.status().await.expect("it is here").records;
        let records = usize::try_from(records).expect("they fit");
        let received_mib = line.received.load(Ordering::Relaxed) as f64 / 1024.0 / 1024.0;
        Used { records, cpu_s, wall_s, peak_mib, before_mib, received_mib }
    });
    println!("{}", serde_json::to_string(&used).expect("figures are plain"));
}

fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the kernel tells");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("a number") / 1024.0
}
