//! The programs themselves, as processes of their own: for what happens when one is killed, and for the command line.
//!
//! Owns building, starting, killing and what they say. Knows nothing about what they mean by it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::network::Network;
use crate::premises::Premises;

const START_LIMIT: Duration = Duration::from_secs(60);
/// What is not said by then was not heard of in time: without hints a minute passes.
const SAY_LIMIT: Duration = Duration::from_secs(45);

/// The path of one of our programs, built if it is not as new as the code.
pub fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        // All members together, as the tests are built: by itself each would have other features and build for minutes.
        let built = Command::new(env!("CARGO"))
            .args(["build", "--locked", "--quiet", "--workspace", "--bins"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status();
        assert!(built.expect("cargo can be run").success(), "the programs cannot be built");
        let test = std::env::current_exe().expect("a test knows where it is");
        // target/debug/deps/e2e-0123
        test.ancestors().nth(2).expect("a test is built two folders deep").to_owned()
    });
    folder.join(name)
}

/// A server as a process. Killed when it is dropped.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    address: SocketAddr,
    config: PathBuf,
    log: PathBuf,
    said: PathBuf,
    /// Writes down what it logs, where it does not do that itself.
    scribe: Option<JoinHandle<()>>,
}

impl ServerProcess {
    /// Starts one here and leads the network to it. `settings` is TOML, `variables` go to its environment.
    pub async fn start(premises: &Premises, network: &Network, settings: &str, variables: &[(&str, &str)]) -> Self {
        let config = premises.write_config("127.0.0.1:0", &network.url(), settings);
        let mut command = Command::new(program("selkie-server"));
        command.arg("--config").arg(&config).arg("serve").envs(variables.iter().copied());
        let server = Self::run(command, config, false).await;
        network.lead_to(server.address);
        server
    }

    /// Starts one that is known under this address, and that can be told that its files may not grow any more: see
    /// [`ServerProcess::let_files_grow_to`].
    pub async fn start_as(premises: &Premises, url: &str, settings: &str, variables: &[(&str, &str)]) -> Self {
        let config = premises.write_config("127.0.0.1:0", url, settings);
        let mut command = Command::new("sh");
        // A signal that is ignored stays so in the program: a write that is too much is an error like any other.
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
        command.arg(program("selkie-server")).arg("--config").arg(&config).arg("serve");
        command.envs(variables.iter().copied());
        Self::run(command, config, true).await
    }

    /// Starts one in a folder, with no configuration but these variables.
    pub async fn start_in(folder: &Path, network: &Network, variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(program("selkie-server"));
        command.current_dir(folder).envs(variables.iter().copied());
        let server = Self::run(command, folder.join("none"), false).await;
        network.lead_to(server.address);
        server
    }

    /// Starts one here and kills it so soon, however far it has come.
    pub async fn start_and_kill(premises: &Premises, network: &Network, settings: &str, after: Duration) {
        let config = premises.write_config("127.0.0.1:0", &network.url(), settings);
        let mut command = Command::new(program("selkie-server"));
        command.arg("--config").arg(&config).arg("serve");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the server can be started");
        tokio::time::sleep(after).await;
        child.kill().expect("the process is ours");
        child.wait().expect("the process is ours");
    }

    /// What it logs it writes into a file itself, or says to somebody who does: only then it is heard while its files
    /// may not grow.
    async fn run(mut command: Command, config: PathBuf, is_taken_down: bool) -> Self {
        let (log, said) = (sibling(&config, "log"), sibling(&config, "said"));
        let file = |path: &Path| std::fs::File::create(path).expect("the folder is ours");
        command.env("SELKIE_LOG__FORMAT", "json");
        let paper = file(&log);
        let (stderr, paper) = if is_taken_down { (Stdio::piped(), Some(paper)) } else { (paper.into(), None) };
        command.stdin(Stdio::null()).stdout(file(&said)).stderr(stderr);
        let mut child = command.spawn().expect("the server can be started");
        let scribe = child.stderr.take().zip(paper).map(|(mut words, mut paper)| {
            std::thread::spawn(move || {
                std::io::copy(&mut words, &mut paper).expect("the log can be written down");
            })
        });
        let address = wait_for_address(&mut child, &log).await;
        ServerProcess { child, address, config, log, said, scribe }
    }

    /// The file it was told to read.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// What it said to whoever started it, once it has said this.
    pub async fn said_containing(&self, text: &str) -> String {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let said = std::fs::read_to_string(&self.said).unwrap_or_default();
            if said.contains(text) {
                return said;
            }
            assert!(Instant::now() < deadline, "it said:\n{said}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// At once, whatever it is doing.
    pub fn kill(&mut self) {
        self.child.kill().expect("the process is ours");
        self.wait();
    }

    /// Asks it to stop, and waits. Says whether it stopped in good order.
    pub fn stop(&mut self) -> bool {
        signal(self.child.id(), libc::SIGTERM);
        self.wait().success()
    }

    fn wait(&mut self) -> ExitStatus {
        let status = self.child.wait().expect("the process is ours");
        if let Some(scribe) = self.scribe.take() {
            scribe.join().expect("the log was written down");
        }
        status
    }

    /// From now on no file of it may grow beyond so many bytes, as if the disk were full; with `None` there is room
    /// again. Unlike on a full disk, what lies beyond cannot be written over either.
    #[cfg(target_os = "linux")]
    #[allow(unsafe_code, reason = "std cannot limit another process")]
    pub fn let_files_grow_to(&self, bytes: Option<u64>) {
        let process = i32::try_from(self.child.id()).expect("a process number");
        let limit = libc::rlimit { rlim_cur: bytes.unwrap_or(libc::RLIM_INFINITY), rlim_max: libc::RLIM_INFINITY };
        // SAFETY: the child has not been waited for, so its number is still its own; the old limit is not asked for.
        let set = unsafe { libc::prlimit(process, libc::RLIMIT_FSIZE, &raw const limit, std::ptr::null_mut()) };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    }

    /// Everything it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // It may have been killed before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program to its end. It reads nothing and sees no terminal.
pub fn run(name: &str, arguments: &[String], variables: &[(String, String)], folder: &Path) -> Output {
    Command::new(program(name))
        .args(arguments)
        .envs(variables.iter().cloned())
        .current_dir(folder)
        .env_remove("SELKIE_DATA")
        .env("HOME", folder)
        .stdin(Stdio::null())
        .output()
        .expect("the program can be started")
}

/// A program that goes on, and says a line now and then. Killed when it is dropped.
#[derive(Debug)]
pub struct Speaking {
    child: Child,
    lines: UnboundedReceiver<String>,
}

/// Starts a program that goes on. It reads nothing and sees no terminal.
pub fn speak(name: &str, arguments: &[String], folder: &Path) -> Speaking {
    let mut command = Command::new(program(name));
    command.args(arguments).current_dir(folder).env_remove("SELKIE_DATA").env("HOME", folder);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program can be started");
    let said = child.stdout.take().expect("its output is piped");
    let (say, lines) = unbounded_channel();
    std::thread::spawn(move || {
        for line in BufReader::new(said).lines().map_while(Result::ok) {
            // Whoever listened may have heard enough.
            let _ = say.send(line);
        }
    });
    Speaking { child, lines }
}

impl Speaking {
    /// The next line, once it is said.
    pub async fn line(&mut self) -> String {
        let line = tokio::time::timeout(SAY_LIMIT, self.lines.recv()).await;
        line.expect("it says something in time").unwrap_or_else(|| panic!("it ended: {:?}", self.child.try_wait()))
    }

    /// As with Ctrl-C. Returns the code it ends with.
    pub fn interrupt(&mut self) -> Option<i32> {
        signal(self.child.id(), libc::SIGINT);
        self.child.wait().expect("the process is ours").code()
    }

    /// Waits until it ends by itself, which it does when it has nothing more to say. The code, and what it complained
    /// of.
    pub async fn end(&mut self) -> (Option<i32>, String) {
        let silent = async { while self.lines.recv().await.is_some() {} };
        tokio::time::timeout(SAY_LIMIT, silent).await.expect("it ends in time");
        let mut complaint = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            errors.read_to_string(&mut complaint).expect("it complains in UTF-8");
        }
        (self.child.wait().expect("the process is ours").code(), complaint)
    }
}

impl Drop for Speaking {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a program that gets no more memory for its data than this.
pub fn run_within(kib: u32, name: &str, arguments: &[String], folder: &Path) -> Output {
    Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit -d {kib} && exec \"$0\" \"$@\""))
        .arg(program(name))
        .args(arguments)
        .current_dir(folder)
        .env("HOME", folder)
        .stdin(Stdio::null())
        .output()
        .expect("the program can be started")
}

/// The line in which the server says that it is ready says where, too.
async fn wait_for_address(child: &mut Child, log: &Path) -> SocketAddr {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        if let Some(address) = lines.filter_map(|line| find_listen(&line)).next() {
            return address;
        }
        let ended = child.try_wait().expect("the process is ours");
        assert!(ended.is_none() && Instant::now() < deadline, "the server did not start ({ended:?}):\n{text}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn find_listen(line: &serde_json::Value) -> Option<SocketAddr> {
    let listen = line.get("listen").or_else(|| line.get("fields")?.get("listen"))?;
    listen.as_str()?.parse().ok()
}

#[allow(unsafe_code, reason = "std can kill a child and cannot ask it to stop")]
fn signal(process: u32, signal: i32) {
    let process = i32::try_from(process).expect("a process number");
    // SAFETY: the child has not been waited for, so its number is still its own.
    unsafe { libc::kill(process, signal) };
}

/// A new file beside another.
fn sibling(file: &Path, name: &str) -> PathBuf {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    file.with_file_name(format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed)))
}
