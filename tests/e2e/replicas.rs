//! Two servers on one database: whoever listens at one of them is told what the other takes; and whether or not they
//! are told, a poll is right.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use selkie_e2e::network::Network;
use selkie_e2e::premises::{Backend, Premises};
use selkie_e2e::program::ServerProcess;
use selkie_e2e::scribe::{Author, Line, Pen, Scribe, must, record};
use selkie_e2e::server::without_limits;
use selkie_protocol::Face;
use selkie_protocol::vault::VaultMoved;
use tokio::time::timeout;

/// Hints travel in milliseconds; this is for a machine that has other things to do.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_push_at_one_server_is_heard_at_the_other_and_seen_there_even_while_nothing_is_heard() {
    let premises = Premises::new(Backend::PostgresAndS3).await;
    let network = Network::new().await;
    let settings = format!("[registration]\npolicy = \"open\"\n{}", without_limits());
    let one = ServerProcess::start(&premises, &network, &settings, &[]).await;
    let other = ServerProcess::start(&premises, &network, &settings, &[]).await;
    let mut author = Author::new(&format!("http://{}", one.address()), "ana@example.org").await;
    let other_url = format!("http://{}", other.address());
    let there = author.bring_in().await.at(&other_url);
    let mut pen = author.make_vault().await.pen(&author.first());

    let mut stream = Stream::open(&other_url, &there).await;
    // The line between the servers comes up some time after them: until then a push is not heard, and a later one is.
    loop {
        let moved = push(&mut pen).await;
        if timeout(Duration::from_secs(1), stream.hears(&moved)).await.is_ok() {
            break;
        }
    }
    for _ in 0..5 {
        let moved = push(&mut pen).await;
        timeout(SOON, stream.hears(&moved)).await.expect("what was pushed is heard");
    }

    let over = Arc::new(AtomicBool::new(false));
    let cutting = tokio::spawn(cut_lines(premises.database_url().expect("a PostgreSQL"), over.clone()));
    for _ in 0..30 {
        // Asked twice, so that the answer is in memory when it becomes false.
        let known = must(there.poll(None).await).state;
        assert_eq!(must(there.poll(Some(&known)).await).vaults, None);
        let moved = push(&mut pen).await;
        let polled = must(there.poll(Some(&known)).await).vaults.expect("something is new");
        assert!(polled.iter().any(|vault| (vault.vid, vault.n) == (moved.vid, moved.n)), "{polled:?}");
    }
    over.store(true, Ordering::SeqCst);
    assert_ne!(cutting.await.expect("no panic"), 0, "nothing was cut");
}

async fn push(pen: &mut Pen) -> VaultMoved {
    let written = pen.write(&[Line::new(record(pen.seen().n), b"something new")]);
    let pushed = must(pen.push(&written).await);
    VaultMoved { vid: pen.vault(), n: pushed.n }
}

/// Ends every connection that listens, as often as one comes back; how many.
async fn cut_lines(database: String, over: Arc<AtomicBool>) -> usize {
    let connected = tokio_postgres::connect(&database, tokio_postgres::NoTls).await;
    let (client, connection) = connected.expect("the database is there");
    let driver = tokio::spawn(connection);
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND query LIKE 'LISTEN%'";
    let mut cuts = 0;
    while !over.load(Ordering::SeqCst) || cuts == 0 {
        cuts += client.query(cut, &[]).await.expect("it obeys").len();
    }
    driver.abort();
    cuts
}

/// Server-sent events as they come.
struct Stream {
    answer: reqwest::Response,
    heard: String,
}

impl Stream {
    async fn open(url: &str, scribe: &Scribe) -> Stream {
        let http = reqwest::Client::builder().no_proxy().build().expect("a client needs nothing");
        let request = http.get(format!("{url}/v1/events")).bearer_auth(scribe.tokens.access_token.as_str());
        let answer = request.send().await.expect("the server answers");
        assert!(answer.status().is_success(), "{}", answer.status());
        Stream { answer, heard: String::new() }
    }

    async fn hears(&mut self, wanted: &VaultMoved) {
        loop {
            let mut lines = self.heard.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            let moved = |line: &str| -> Option<VaultMoved> {
                Face::Json.decode(line.strip_prefix("data:")?.trim().as_bytes()).ok()
            };
            if lines.any(|line| moved(line).as_ref() == Some(wanted)) {
                self.heard.clear();
                return;
            }
            let more = self.answer.chunk().await.expect("the stream goes on").expect("the stream goes on");
            self.heard += &String::from_utf8_lossy(&more);
        }
    }
}
