//! What accounts cost: starting, idling, signing up, signing in.
//!
//! Owns the figures of docs/benchmarks.md that concern accounts. It starts the real server program as a process of its
//! own and asks the operating system what that process used. Knows nothing about correctness: the stories do that.
//!
//! `cargo bench -p selkie-e2e --bench accounts` (it builds the server in the release profile first).

#![allow(clippy::print_stdout, reason = "a bench tells what it found")]

use std::path::Path;
use std::time::{Duration, Instant};

use selkie_client::{Client, SignIn, SignUp};
use selkie_e2e::caller::Caller;
use selkie_e2e::measured::{MeasuredServer, build_server, cpu_of};
use selkie_e2e::premises::{Backend, Premises};
use selkie_protocol::Face;
use tempfile::TempDir;

const STARTS: usize = 11;
const PEOPLE: usize = 20;
const SIGN_INS: usize = 200;

fn main() {
    // `cargo test --benches` runs this too; the figures of an unoptimised build are worth nothing.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let server = build_server();
    let size = std::fs::metadata(&server).expect("the server was built").len();
    println!("server binary                     {:>9.1} MB", size as f64 / 1e6);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("threads can be made").block_on(async {
        for backend in [Backend::SqliteAndFiles, Backend::PostgresAndS3] {
            println!("\n{backend:?}");
            measure(&server, backend).await;
        }
    });
}

async fn measure(server: &Path, backend: Backend) {
    let mut first_starts = Vec::new();
    for _ in 0..STARTS {
        let premises = Premises::new(backend).await;
        first_starts.push(MeasuredServer::start(server, &premises, &[]).since_start);
    }
    let premises = Premises::new(backend).await;
    let _made = MeasuredServer::start(server, &premises, &[]);
    drop(_made);
    let starts: Vec<Duration> =
        (0..STARTS).map(|_| MeasuredServer::start(server, &premises, &[]).since_start).collect();
    println!("first start to ready, median      {:>9.0} ms", ms(median(first_starts)));
    println!("start to ready, median            {:>9.0} ms", ms(median(starts)));

    let process = MeasuredServer::start(server, &premises, &[]);
    println!("idle memory (PSS)                 {:>9.1} MiB", process.pss_mib());
    sign_up_and_in(&process).await;
    sign_in_often(&process).await;
    println!("memory after that (PSS)           {:>9.1} MiB", process.pss_mib());
}

/// The whole SDK: keys, log, first check, device.
async fn sign_up_and_in(process: &MeasuredServer) {
    let mut ups = Vec::new();
    let mut ins = Vec::new();
    for person in 0..PEOPLE {
        let name = format!("person{person}@example.org");
        let password = "correct horse battery staple";
        let (first, second) = (TempDir::new().expect("there is room"), TempDir::new().expect("there is room"));
        let client = Client::builder(&process.url).store(first.path()).build().expect("a client");
        let started = Instant::now();
        let signed_up = client.sign_up(&name, password, SignUp::default()).await.expect("registration is open");
        ups.push(started.elapsed());
        let client = Client::builder(&process.url).store(second.path()).build().expect("a client");
        let secret_key = signed_up.sheet.secret_key().expect("a Secret Key is the default").to_owned();
        let started = Instant::now();
        client.sign_in(&name, password, Some(&secret_key), SignIn::default()).await.expect("the keys are right");
        ins.push(started.elapsed());
    }
    println!("sign-up with the SDK, median      {:>9.0} ms", ms(median(ups)));
    println!("sign-in of a new device, median   {:>9.0} ms", ms(median(ins)));
}

/// OPAQUE and tokens alone, for the server's share.
async fn sign_in_often(process: &MeasuredServer) {
    let caller = Caller::new(&process.url, Face::Cbor);
    caller.register("often@example.org", "a password", None).await.expect("registration is open");
    let before = (process.cpu(), cpu_of(std::process::id()));
    for _ in 0..SIGN_INS {
        caller.sign_in("often@example.org", "a password").await.expect("the password is right");
    }
    let server = (process.cpu() - before.0) / SIGN_INS as f64;
    let client = (cpu_of(std::process::id()) - before.1) / SIGN_INS as f64;
    println!("a sign-in, CPU of the server      {:>9.2} ms", server * 1e3);
    println!("a sign-in, CPU of the client      {:>9.2} ms", client * 1e3);
    println!("sign-ins a second and core        {:>9.0}", 1.0 / server);
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
