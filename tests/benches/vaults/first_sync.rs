//! A new device takes over everything: what that costs the device.
//!
//! The device is a process of its own, this bench started once more, so that what it uses is nobody else's.

use std::process::Command;
use std::time::Instant;

use selkie_client::{Account, Client, SignIn, SignUp};
use selkie_e2e::measured::cpu_of;
use serde::{Deserialize, Serialize};

use crate::Plan;
use crate::figures::{Figure, Goal};
use crate::machine::Machine;

/// What the bench is started with to be the device.
pub(crate) const AS_A_DEVICE: &str = "--as-a-new-device";

const RECORDS: usize = 100_000;
const BATCH: usize = 1_000;
const NAME: &str = "everything@example.org";
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
}

pub(crate) async fn measure(machine: &Machine, plan: &Plan, found: &mut Vec<Figure>) {
    if !plan.wants("first sync") {
        return;
    }
    let records = plan.scaled(RECORDS);
    let folder = tempfile::tempdir().expect("there is room for temporary files");
    let client = Client::builder(&machine.server.url).store(folder.path()).build().expect("a client");
    let made = client.sign_up(NAME, PASSWORD, SignUp::default()).await.expect("registration is open");
    let key = made.sheet.secret_key().expect("there is a Secret Key").to_owned();
    write(&made.account, records).await;

    let program = std::env::current_exe().expect("a bench knows where it is");
    let url = machine.server.url.clone();
    let ran = tokio::task::spawn_blocking(move || Command::new(program).args([AS_A_DEVICE, &url, &key]).output());
    let output = ran.await.expect("no panic").expect("the bench can be started again");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let used: Used = serde_json::from_slice(&output.stdout).expect("what the device has used");
    assert!(used.records >= records, "{} of {records}", used.records);

    let what = |of: &str| format!("client: first sync of {records}, {of}");
    let figure = Figure::new(machine.name, what("CPU"), used.cpu_s, "s").goal(Goal::at_most(3.0));
    plan.report(found, figure.and("us a record", used.cpu_s * 1e6 / records as f64).and("wall s", used.wall_s));
    let figure = Figure::new(machine.name, what("peak memory"), used.peak_mib, "MiB").goal(Goal::at_most(100.0));
    plan.report(found, figure.and("before", used.before_mib));
}

async fn write(account: &Account, records: usize) {
    let vault = account.create_vault(VAULT, "org.example.bench").await.expect("a vault");
    let notes = vault.collection::<Note>("notes");
    for first in (0..records).step_by(BATCH) {
        let batch: Vec<Note> = (first..records.min(first + BATCH)).map(note).collect();
        notes.put_all(&batch).await.expect("the disk has room");
    }
    vault.sync().await.expect("the server takes it");
}

/// About 300 bytes.
fn note(number: usize) -> Note {
    let day = u32::try_from(number % 3_650).expect("small");
    Note { title: format!("Note {number}"), body: format!("{number:07} ").repeat(30), day }
}

/// The device: signs in, takes everything over, says what that took and ends.
pub(crate) fn be_a_device(arguments: &[String]) {
    let [url, key] = arguments else { panic!("a URL and a Secret Key") };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let used = runtime.block_on(async {
        let folder = tempfile::tempdir().expect("there is room for temporary files");
        let client = Client::builder(url).store(folder.path()).build().expect("a client");
        let signed_in = client.sign_in(NAME, PASSWORD, Some(key), SignIn::default()).await.expect("the right words");
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
        Used { records, cpu_s, wall_s, peak_mib, before_mib }
    });
    println!("{}", serde_json::to_string(&used).expect("figures are plain"));
}

fn peak_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the kernel tells");
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("a number") / 1024.0
}
