//! Whoever sends slowly, reads nothing or says nothing is cut off in time, and nobody else notices.
//!
//! What one of them gets to hear is told in the server's own tests; here there are hundreds, against the real program.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use selkie_e2e::caller::Caller;
use selkie_e2e::measured::pss_mib_of;
use selkie_e2e::network::Network;
use selkie_e2e::premises::Premises;
use selkie_e2e::program::ServerProcess;
use selkie_e2e::server::without_limits;
use selkie_protocol::Face;
use selkie_protocol::account::Account;
use selkie_protocol::session::Tokens;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

/// Of each of the four kinds.
const EACH: usize = 75;
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
const BODY_TIMEOUT: Duration = Duration::from_secs(6);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// What a busy machine may add to a time that is configured.
const SLACK: Duration = Duration::from_secs(10);
/// The slow bodies would take each of these places many times over if they took any.
const PLACES: usize = 16;
/// What one connection may take that does not read its answers: sixteen of the longest answer that a stranger gets, the
/// server's own document, which is shorter than this.
const MIB_A_DEAF_ONE: f64 = 16.0 * 0.25;
/// What any other may take: buffers for reading and writing, and what stands for a request.
const MIB_A_SLOW_ONE: f64 = 0.125;

#[allow(clippy::print_stdout, reason = "how little they disturb is a finding, too")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hundreds_of_slow_clients_are_cut_off_in_time_and_nobody_else_notices() {
    let premises = Premises::embedded();
    let network = Network::new().await;
    let settings = format!(
        "[registration]\npolicy = \"open\"\n[http]\nhead_timeout = \"{}s\"\nbody_timeout = \"{}s\"\n\
         answer_timeout = \"{}s\"\nkeep_alive = \"5s\"\nmax_concurrent_requests = {PLACES}\n{}",
        HEAD_TIMEOUT.as_secs(),
        BODY_TIMEOUT.as_secs(),
        ANSWER_TIMEOUT.as_secs(),
        without_limits()
    );
    // They all come from one address, and none shall be turned away for that.
    let many = [("SELKIE_SERVER__MAX_CONNECTIONS_PER_ADDRESS", "1000")];
    let server = ServerProcess::start(&premises, &network, &settings, &many).await;
    let (address, process) = (server.address(), server.process_id());

    Caller::new(&network.url(), Face::Json).register("ana@example.org", "seven silver swans", None).await.unwrap();
    let honest = Caller::new(&network.url(), Face::Json);
    let tokens = honest.sign_in("ana@example.org", "seven silver swans").await.unwrap();
    let quiet = times_of(&honest, &tokens).await;
    let (files, memory) = (open_files(process), pss_mib_of(process));

    let began = Instant::now();
    let mut cut = JoinSet::new();
    let mut deaf = Vec::new();
    for _ in 0..EACH {
        cut.spawn(sends_its_head_byte_by_byte(address));
        cut.spawn(sends_its_body_byte_by_byte(address));
        cut.spawn(says_nothing(address));
        deaf.push(reads_nothing(address).await);
    }
    let held = wait_until(|| open_files(process) >= files + 4 * EACH, "all of them are connected").await;
    let disturbed = times_of(&honest, &tokens).await;
    let grown = pss_mib_of(process) - memory;
    let bound = EACH as f64 * (MIB_A_DEAF_ONE + 3.0 * MIB_A_SLOW_ONE);
    println!(
        "{} slow ones after {held:.1?}; requests took {quiet} without and {disturbed} with them; {grown:.0} MiB more",
        4 * EACH
    );
    assert!(grown <= bound, "{grown:.0} MiB for {} slow clients, {bound:.0} at most", 4 * EACH);
    assert!(disturbed.median <= 5 * quiet.median + Duration::from_millis(200), "{disturbed}, and {quiet} without");
    assert!(disturbed.slowest <= 5 * quiet.slowest + Duration::from_secs(5), "{disturbed}, and {quiet} without");

    let mut latest = Duration::ZERO;
    while let Some(cut) = cut.join_next().await {
        let Cut { what, after, limit } = cut.unwrap();
        assert!(after <= limit + SLACK, "{what}: cut off after {after:.1?}, and {limit:.1?} are configured");
        latest = latest.max(after);
    }
    // The deaf hear nothing of their end, so the server is asked: it has let go of everything.
    wait_until(|| open_files(process) <= files + 1, "all of them are let go").await;
    println!("the last of those who sent was cut off after {latest:.1?}; all was let go after {:.1?}", began.elapsed());
    drop(deaf);
    times_of(&honest, &tokens).await;
}

/// How long an honest client's requests took.
#[derive(Clone, Copy)]
struct Times {
    median: Duration,
    slowest: Duration,
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.1?} (slowest {:.1?})", self.median, self.slowest)
    }
}

async fn times_of(honest: &Caller, tokens: &Tokens) -> Times {
    let mut times = Vec::new();
    for _ in 0..100 {
        let asked = Instant::now();
        let _: Account = honest.get("/v1/account", Some(tokens)).await.unwrap();
        times.push(asked.elapsed());
    }
    times.sort();
    Times { median: times[times.len() / 2], slowest: times[times.len() - 1] }
}

/// What was cut off, when, and after how long it had to be.
struct Cut {
    what: &'static str,
    after: Duration,
    limit: Duration,
}

async fn sends_its_head_byte_by_byte(server: SocketAddr) -> Cut {
    let head = format!("GET /v1/capabilities HTTP/1.1\r\nhost: {server}\r\nx-patience: {}\r\n\r\n", "z".repeat(200));
    let after = drips(server, "", &head, Duration::from_millis(200)).await;
    Cut { what: "a head byte by byte", after, limit: HEAD_TIMEOUT }
}

async fn sends_its_body_byte_by_byte(server: SocketAddr) -> Cut {
    let head = format!(
        "POST /v1/auth/login/start HTTP/1.1\r\nhost: {server}\r\ncontent-type: application/json\r\n\
         content-length: 500\r\n\r\n"
    );
    let after = drips(server, &head, &" ".repeat(500), Duration::from_secs(1)).await;
    Cut { what: "a body, a byte a second", after, limit: BODY_TIMEOUT }
}

async fn says_nothing(server: SocketAddr) -> Cut {
    let after = drips(server, "", "", Duration::ZERO).await;
    Cut { what: "silence", after, limit: HEAD_TIMEOUT }
}

/// Sends something at once and the rest a byte at a time, until the server ends it.
async fn drips(server: SocketAddr, at_once: &str, then: &str, every: Duration) -> Duration {
    let mut socket = TcpStream::connect(server).await.unwrap();
    let began = Instant::now();
    socket.write_all(at_once.as_bytes()).await.unwrap();
    let (mut from, mut to) = socket.split();
    let ended = async {
        let mut answer = Vec::new();
        // Cut off with a word or without one.
        let _ = from.read_to_end(&mut answer).await;
    };
    let dripping = async {
        for byte in then.bytes() {
            tokio::time::sleep(every).await;
            if to.write_all(&[byte]).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = ended => {}
        () = dripping => {}
    }
    began.elapsed()
}

/// Asks for more than fits between it and the server, and takes nothing of it.
async fn reads_nothing(server: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let socket = socket.connect(server).await.unwrap();
    let request = format!("GET /v1/openapi.json HTTP/1.1\r\nhost: {server}\r\n\r\n").repeat(100);
    let mut sent = 0;
    // As much as is taken: a server that answers nobody who does not read takes no more.
    while let Ok(more @ 1..) = socket.try_write(&request.as_bytes()[sent..]) {
        sent += more;
    }
    assert!(sent > 0, "it asked for nothing");
    socket
}

fn open_files(process: u32) -> usize {
    std::fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}

/// Returns how long that took.
async fn wait_until(holds: impl Fn() -> bool, what: &str) -> Duration {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < BODY_TIMEOUT + 2 * SLACK, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}
