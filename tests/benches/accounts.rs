//! What accounts cost: starting, idling, signing up, signing in.
//!
//! Owns the figures of docs/benchmarks.md that concern accounts. It starts the real server program as a process of its
//! own and asks the operating system what that process used. Knows nothing about correctness: the stories do that.
//!
//! `cargo bench -p selkie-e2e --bench accounts` (it builds the server in the release profile first).

#![allow(clippy::print_stdout, reason = "a bench tells what it found")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use selkie_client::{Client, SignIn, SignUp};
use selkie_e2e::caller::Caller;
use selkie_e2e::premises::{Backend, Premises};
use selkie_e2e::server;
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
        first_starts.push(Process::start(server, &premises).since_start);
    }
    let premises = Premises::new(backend).await;
    let _made = Process::start(server, &premises);
    drop(_made);
    let starts: Vec<Duration> = (0..STARTS).map(|_| Process::start(server, &premises).since_start).collect();
    println!("first start to ready, median      {:>9.0} ms", ms(median(first_starts)));
    println!("start to ready, median            {:>9.0} ms", ms(median(starts)));

    let process = Process::start(server, &premises);
    println!("idle memory (PSS)                 {:>9.1} MiB", process.pss_mib());
    sign_up_and_in(&process).await;
    sign_in_often(&process).await;
    println!("memory after that (PSS)           {:>9.1} MiB", process.pss_mib());
}

/// The whole SDK: keys, log, first check, device.
async fn sign_up_and_in(process: &Process) {
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
async fn sign_in_often(process: &Process) {
    let caller = Caller::new(&process.url, Face::Cbor);
    caller.register("often@example.org", "a password", None).await.expect("registration is open");
    let before = (process.cpu(), own_cpu());
    for _ in 0..SIGN_INS {
        caller.sign_in("often@example.org", "a password").await.expect("the password is right");
    }
    let server = (process.cpu() - before.0) / SIGN_INS as f64;
    let client = (own_cpu() - before.1) / SIGN_INS as f64;
    println!("a sign-in, CPU of the server      {:>9.2} ms", server * 1e3);
    println!("a sign-in, CPU of the client      {:>9.2} ms", client * 1e3);
    println!("sign-ins a second and core        {:>9.0}", 1.0 / server);
}

/// A server in a process of its own, ended with it.
struct Process {
    child: Child,
    url: String,
    since_start: Duration,
    /// Kept open: the server may go on talking.
    _words: BufReader<ChildStdout>,
}

impl Process {
    fn start(server: &Path, premises: &Premises) -> Self {
        let limits = server::without_limits();
        let more = format!("[registration]\npolicy = \"open\"\n{limits}");
        // The server is known by its address, so the address must be known before.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("there is a free port");
        let url = format!("http://{free}");
        let config = premises.write_config(&free.to_string(), &url, &more);
        let started = Instant::now();
        let mut child = Command::new(server)
            .arg("--config")
            .arg(config)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server can be started");
        let mut words = BufReader::new(child.stdout.take().expect("it was asked for"));
        let mut line = String::new();
        while !line.contains(&url) {
            line.clear();
            assert_ne!(words.read_line(&mut line).expect("the server writes text"), 0, "the server did not start");
        }
        Process { child, url, since_start: started.elapsed(), _words: words }
    }

    fn cpu(&self) -> f64 {
        cpu_of(self.child.id())
    }

    fn pss_mib(&self) -> f64 {
        let rollup = format!("/proc/{}/smaps_rollup", self.child.id());
        let text = std::fs::read_to_string(rollup).expect("the server is running");
        let line = text.lines().find(|line| line.starts_with("Pss:")).expect("the kernel tells");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("a number") / 1024.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn own_cpu() -> f64 {
    cpu_of(std::process::id())
}

/// Seconds of user and system time.
fn cpu_of(pid: u32) -> f64 {
    let mut text = String::new();
    std::fs::File::open(format!("/proc/{pid}/stat"))
        .and_then(|mut stat| stat.read_to_string(&mut text))
        .expect("it runs");
    let fields: Vec<&str> = text.rsplit(')').next().expect("the name ends").split_whitespace().collect();
    let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().expect("a number")).sum();
    ticks / 100.0
}

fn build_server() -> PathBuf {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let built = Command::new(cargo).args(["build", "--release", "-p", "selkie-server"]).status().expect("cargo runs");
    assert!(built.success(), "the server does not build");
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/selkie-server")
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
