//! The server as it is delivered, in a process of its own, and what processes have used of the machine.
//!
//! Owns the building in the release profile, the starting and ending, and the asking of the kernel. Knows nothing about
//! what is measured, nor what is a good figure.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::premises::Premises;
use crate::server::without_limits;

/// Where the kernel counts processor time in hundredths of a second.
const TICKS_A_SECOND: f64 = 100.0;

/// A server in a process of its own, ended with it.
#[derive(Debug)]
pub struct MeasuredServer {
    child: Child,
    pub address: SocketAddr,
    pub url: String,
    /// From its start until it said that it is ready.
    pub since_start: Duration,
    /// Kept open: the server may go on talking.
    _words: BufReader<ChildStdout>,
}

impl MeasuredServer {
    /// Starts this program here, without limits; `variables` go to its environment.
    pub fn start(program: &Path, premises: &Premises, variables: &[(&str, &str)]) -> Self {
        Self::run(program, premises, variables, None)
    }

    /// The same on what the first stands on, and under its name.
    pub fn start_beside(first: &Self, program: &Path, premises: &Premises, variables: &[(&str, &str)]) -> Self {
        Self::run(program, premises, variables, Some(&first.url))
    }

    /// Ends it, as a loss of power would, and starts it again on the same, under the same name.
    pub fn start_again(&mut self, program: &Path, premises: &Premises, variables: &[(&str, &str)]) {
        self.end();
        *self = Self::run(program, premises, variables, Some(&self.url));
    }

    fn end(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }

    fn run(program: &Path, premises: &Premises, variables: &[(&str, &str)], known_as: Option<&str>) -> Self {
        let more = format!("[registration]\npolicy = \"open\"\n{}", without_limits());
        // The server is known by its address, so the address must be known before.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("there is a free port");
        let url = known_as.map_or_else(|| format!("http://{free}"), str::to_owned);
        let config = premises.write_config(&free.to_string(), &url, &more);
        // A line for every request, into a file, as most servers' logs end up.
        let log = OpenOptions::new().create(true).append(true).open(config.with_extension("log"));
        let started = Instant::now();
        let mut child = Command::new(program)
            .arg("--config")
            .arg(config)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(log.expect("the log can be written"))
            .spawn()
            .expect("the server can be started");
        let mut words = BufReader::new(child.stdout.take().expect("it was asked for"));
        let mut line = String::new();
        while !line.contains(&url) {
            line.clear();
            assert_ne!(words.read_line(&mut line).expect("the server writes text"), 0, "the server did not start");
        }
        MeasuredServer { child, address: free, url, since_start: started.elapsed(), _words: words }
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Seconds of processor time so far.
    pub fn cpu(&self) -> f64 {
        cpu_of(self.child.id())
    }

    pub fn pss_mib(&self) -> f64 {
        pss_mib_of(self.child.id())
    }
}

impl Drop for MeasuredServer {
    fn drop(&mut self) {
        self.end();
    }
}

/// The server's program, built for release.
pub fn build_server() -> PathBuf {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let built = Command::new(cargo).args(["build", "--locked", "--release", "-p", "selkie-server"]).status();
    assert!(built.expect("cargo runs").success(), "the server does not build");
    let bench = std::env::current_exe().expect("a bench knows where it is");
    // target/release/deps/vaults-0123
    bench.ancestors().nth(3).expect("a bench is built three folders deep").join("release/selkie-server")
}

/// Seconds of user and system time of a process that is ours.
pub fn cpu_of(process: u32) -> f64 {
    let usage = usage(process).expect("it runs");
    usage.own / TICKS_A_SECOND
}

/// Seconds of a process and of all its children, those that have ended included.
pub fn cpu_of_family(parent: u32) -> f64 {
    let of_parent = usage(parent).expect("it runs");
    let children = children_of(parent).map(|(_, usage)| usage.own).sum::<f64>();
    (of_parent.own + of_parent.ended_children + children) / TICKS_A_SECOND
}

/// What a process and its children take of the memory.
pub fn pss_mib_of_family(parent: u32) -> f64 {
    let children = children_of(parent).filter_map(|(process, _)| pss_mib(process)).sum::<f64>();
    pss_mib_of(parent) + children
}

fn children_of(parent: u32) -> impl Iterator<Item = (u32, Usage)> {
    let all = std::fs::read_dir("/proc").expect("the kernel tells");
    let processes = all.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let usages = processes.filter_map(|process| Some((process, usage(process)?)));
    usages.filter(move |(_, usage)| usage.parent == parent)
}

/// What a process takes of the memory, shared pages shared out.
pub fn pss_mib_of(process: u32) -> f64 {
    pss_mib(process).expect("it runs")
}

/// `None` for a process that has just gone.
fn pss_mib(process: u32) -> Option<f64> {
    let text = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let line = text.lines().find(|line| line.starts_with("Pss:"))?;
    Some(line.split_whitespace().nth(1)?.parse::<f64>().ok()? / 1024.0)
}

/// In ticks.
struct Usage {
    parent: u32,
    own: f64,
    ended_children: f64,
}

/// `None` for a process that has just gone.
fn usage(process: u32) -> Option<Usage> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit(')').next()?.split_whitespace().collect();
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    Some(Usage {
        parent: fields.get(1)?.parse().ok()?,
        own: ticks(11)? + ticks(12)?,
        ended_children: ticks(13)? + ticks(14)?,
    })
}
