//! What was acknowledged stays, in the order in which it was acknowledged, whoever else writes, reads or pulls the
//! plug.
//!
//! The server is a process of its own and is killed, kill -9, while many write. Afterwards the log is verified entry by
//! entry, with the very rules the clients run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use selkie_e2e::network::Network;
use selkie_e2e::on_both_backends;
use selkie_e2e::premises::{Backend, Premises};
use selkie_e2e::program::ServerProcess;
use selkie_e2e::scribe::{Author, Line, Pen, Scribe, Volume, Written, must, record, seen};
use selkie_e2e::server::without_limits;
use selkie_protocol::id::VaultId;
use selkie_protocol::vault::Polled;
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Far more than any of this takes: who is still waiting then waits for each other.
const DEADLOCK: Duration = Duration::from_secs(300);

on_both_backends! {
    async fn a_server_killed_in_the_middle_of_32_writers_has_all_it_acknowledged(backend: Backend) {
        let rounds = if long() { 20 } else { 3 };
        let mut scene = Scene::new(backend).await;
        let mut author = Author::new(&scene.url(), "ana@example.org").await;
        let devices = author.with_devices(32).await;
        let mut shared = author.make_vault().await;
        // Most write into one vault, some each into one of their own: a group of pushes takes in several vaults.
        let mut writers = Vec::new();
        for (number, device) in (0..).zip(devices) {
            let volume = if number < 24 { None } else { Some(author.make_vault().await) };
            let pen = volume.as_ref().unwrap_or(&shared).pen(&device);
            writers.push(Writer { number, pen, own: volume, written: 0, pending: None, acknowledged: BTreeMap::new() });
        }
        let mut interrupted = 0;
        for round in 0..rounds {
            // Early and late, and never at the same place.
            let enough = 40 + (round * 97) % 160;
            writers = write_until_killed(&mut scene, writers, enough).await;
            interrupted += writers.iter().filter(|writer| writer.pending.is_some()).count();
            scene.revive().await;
            take_stock(&scene, &mut shared, &mut writers).await;
        }
        assert!(interrupted > 0, "nobody was ever interrupted");
    }

    async fn sixty_four_writers_of_one_vault_all_get_their_numbers(backend: Backend) {
        let each = if long() { 60 } else { 6 };
        let scene = Scene::new(backend).await;
        let (mut ana, mut ben) =
            (Author::new(&scene.url(), "ana@example.org").await, Author::new(&scene.url(), "ben@example.org").await);
        let anas = ana.with_devices(32).await;
        let bens = ben.with_devices(32).await;
        let mut volume = ana.make_vault().await;
        volume.admit(&ana.first(), &ben).await;
        let begin = volume.log.head().n;
        let end = begin + 64 * each;

        // While they write, others read page by page, and read again what they have read.
        let readers: Vec<_> = [(ana.first(), 3), (ben.first(), 16), (ben.first(), 500)]
            .map(|(scribe, page)| tokio::spawn(read_until(scribe, volume.clone(), page, end)))
            .into_iter()
            .collect();
        let pens = anas.iter().chain(&bens).map(|device| volume.pen(device));
        let writers = (0..).zip(pens).map(|(number, pen)| tokio::spawn(write_many(number, pen, each)));
        let started = Instant::now();
        let finished = within(join_all(writers)).await;
        let finished: Vec<Finished> = finished.into_iter().map(|writer| writer.expect("a writer")).collect();
        tell_fairness("64 writers of one vault", started.elapsed(), &finished, each);

        ana.first().pull(&mut volume).await;
        assert_eq!(volume.log.head().n, end);
        let mut numbers = BTreeMap::new();
        for (n, frame) in finished.iter().flat_map(|writer| &writer.acknowledged) {
            assert!(volume.at(*n) == frame, "another entry stands at {n}");
            assert!(numbers.insert(*n, ()).is_none(), "{n} was given to two");
        }
        assert!(numbers.into_keys().eq(begin + 1..=end), "a number was lost");
        for reader in within(join_all(readers)).await {
            let read = reader.expect("a reader");
            assert!(read.frames == volume.frames, "a reader has seen another log");
        }
    }

    async fn many_vaults_with_one_writer_each_all_get_their_numbers(backend: Backend) {
        let (vaults, each) = if long() { (1000, 20) } else { (100, 5) };
        let scene = Scene::new(backend).await;
        let mut author = Author::new(&scene.url(), "ana@example.org").await;
        let devices = author.with_devices(8).await;
        let mut volumes = Vec::new();
        while volumes.len() < vaults {
            volumes.push(author.make_vault().await);
        }
        let started = Instant::now();
        let writers = (0..)
            .zip(&volumes)
            .map(|(number, volume)| {
                let device = &devices[usize::try_from(number).unwrap() % devices.len()];
                tokio::spawn(write_many(number, volume.pen(device), each))
            });
        let finished = within(join_all(writers)).await;
        let finished: Vec<Finished> = finished.into_iter().map(|writer| writer.expect("a writer")).collect();
        tell_fairness(&format!("{vaults} vaults with one writer each"), started.elapsed(), &finished, each);
        let reader = author.first();
        for (volume, writer) in volumes.iter_mut().zip(&finished) {
            assert_eq!(reader.pull(volume).await, usize::try_from(each).unwrap());
            for (n, frame) in &writer.acknowledged {
                assert!(volume.at(*n) == frame, "another entry stands at {n}");
            }
            assert!(writer.acknowledged.iter().map(|(n, _)| *n).eq(2..2 + each));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_on_one_database_keep_one_log_and_never_hide_what_the_other_acknowledged() {
    let (vaults, each) = if long() { (8, 150) } else { (4, 15) };
    let scene = Scene::new(Backend::PostgresAndS3).await;
    let other = scene.another().await;
    let urls = [scene.url(), format!("http://{}", other.address())];
    let mut author = Author::new(&urls[0], "ana@example.org").await;
    let devices = author.with_devices(8).await;
    let mut volumes = Vec::new();
    for _ in 0..vaults {
        volumes.push(author.make_vault().await);
    }
    // In every vault four devices write, two by way of each server; right after each answer the other server is asked.
    let mut writers = Vec::new();
    for (at, volume) in volumes.iter().enumerate() {
        for (side, device) in devices.iter().enumerate().skip(at % 2).step_by(2) {
            let near = device.at(&urls[side / 2 % 2]);
            let far = device.at(&urls[1 - side / 2 % 2]);
            let number = u64::try_from(at * 100 + side).unwrap();
            writers.push(tokio::spawn(write_here_and_look_there(number, volume.pen(&near), far, each)));
        }
    }
    let finished = within(join_all(writers)).await;
    let finished: Vec<(VaultId, Finished)> = finished.into_iter().map(|writer| writer.expect("a writer")).collect();
    for volume in &mut volumes {
        let mut again = volume.clone();
        author.first().pull(volume).await;
        author.first().at(&urls[1]).pull(&mut again).await;
        assert!(again.frames == volume.frames, "the servers tell different stories");
        let mut numbers = Vec::new();
        let ours = finished.iter().filter(|(vault, _)| *vault == volume.vault());
        for (n, frame) in ours.flat_map(|(_, writer)| &writer.acknowledged) {
            assert!(volume.at(*n) == frame, "another entry stands at {n}");
            numbers.push(*n);
        }
        numbers.sort_unstable();
        assert!(numbers.into_iter().eq(2..=volume.log.head().n), "a number was lost");
        assert_eq!(volume.log.head().n, 1 + 4 * each);
    }
}

/// A device that writes again and again.
struct Writer {
    number: u64,
    pen: Pen,
    /// Its own vault, if it does not write into that of all.
    own: Option<Volume>,
    written: u64,
    /// What it pushed without getting an answer.
    pending: Option<Written>,
    /// What was acknowledged and not yet found in the log.
    acknowledged: BTreeMap<u64, Vec<u8>>,
}

/// What one writer has to tell.
struct Finished {
    took: Duration,
    slowest: Duration,
    acknowledged: Vec<(u64, Vec<u8>)>,
}

impl Writer {
    /// Until the server is gone.
    async fn write(mut self, answers: Arc<AtomicU64>, answered: Arc<Notify>) -> Self {
        loop {
            let written = self.pen.write(&lines(self.number, self.written));
            self.written += 1;
            match self.pen.scribe.try_push(&self.pen.vault(), &written.frame).await {
                Some(answer) => {
                    let pushed = must(answer);
                    assert!(self.acknowledged.insert(pushed.n, written.frame.clone()).is_none());
                    self.pen.wrote(&written, Some(seen(&pushed)));
                    answers.fetch_add(1, Ordering::SeqCst);
                    answered.notify_one();
                }
                None => {
                    self.pending = Some(written);
                    return self;
                }
            }
        }
    }
}

/// Lets everybody write until the server has given so many answers, and kills it among them.
async fn write_until_killed(scene: &mut Scene, writers: Vec<Writer>, enough: u64) -> Vec<Writer> {
    let (answers, answered) = (Arc::new(AtomicU64::new(0)), Arc::new(Notify::new()));
    let mut writing = JoinSet::new();
    for writer in writers {
        writing.spawn(writer.write(answers.clone(), answered.clone()));
    }
    let waiting = async {
        while answers.load(Ordering::SeqCst) < enough {
            answered.notified().await;
        }
    };
    within(waiting).await;
    scene.server.kill();
    let mut writers = within(writing.join_all()).await;
    writers.sort_by_key(|writer| writer.number);
    writers
}

/// Everything that was acknowledged stands where it was said to stand; whatever else stands there was on its way, and
/// is whole. Then everybody goes on.
async fn take_stock(scene: &Scene, shared: &mut Volume, writers: &mut [Writer]) {
    let url = scene.url();
    for writer in writers.iter_mut() {
        writer.pen.scribe = writer.pen.scribe.at(&url);
    }
    let reader = writers[0].pen.scribe.clone();
    let before = shared.log.head().n;
    reader.pull(shared).await;
    let sharing: Vec<&mut Writer> = writers.iter_mut().filter(|writer| writer.own.is_none()).collect();
    take_stock_of(shared, before, sharing);
    for writer in writers.iter_mut() {
        if let Some(mut volume) = writer.own.take() {
            let before = volume.log.head().n;
            writer.pen.scribe.pull(&mut volume).await;
            take_stock_of(&volume, before, vec![writer]);
            writer.own = Some(volume);
        }
    }
    // What was on its way is pushed again as it is: it gets the number it has, or the next.
    for writer in writers {
        let volume = writer.own.as_mut().unwrap_or(shared);
        if let Some(written) = writer.pending.take() {
            let pushed = must(writer.pen.scribe.push(&volume.vault(), &written.frame).await);
            writer.pen.scribe.pull(volume).await;
            assert!(volume.at(pushed.n) == written.frame, "another entry stands at {}", pushed.n);
        }
        writer.pen = volume.pen(&writer.pen.scribe);
    }
}

fn take_stock_of(volume: &Volume, before: u64, writers: Vec<&mut Writer>) {
    let end = volume.log.head().n;
    let mut expected = BTreeMap::new();
    let mut on_the_way = Vec::new();
    for writer in writers {
        expected.append(&mut writer.acknowledged);
        on_the_way.extend(writer.pending.as_ref().map(|written| written.frame.clone()));
    }
    if let Some((last, _)) = expected.last_key_value() {
        assert!(*last <= end, "{last} was acknowledged and the log ends at {end}");
    }
    for n in before + 1..=end {
        match expected.remove(&n) {
            Some(frame) => assert!(volume.at(n) == frame, "another entry stands at {n}"),
            None => {
                let known = on_the_way.iter().position(|frame| volume.at(n) == frame);
                let known = known.unwrap_or_else(|| panic!("nobody wrote what stands at {n}"));
                on_the_way.swap_remove(known);
            }
        }
    }
    assert!(expected.is_empty(), "acknowledged and gone: {:?}", expected.keys());
}

/// Small and large pushes of records that nobody has written before.
fn lines(writer: u64, turn: u64) -> Vec<Line> {
    let count = if turn.is_multiple_of(5) { 20 } else { 1 + turn % 3 };
    let record = |index| record((writer << 40) + (turn << 16) + index);
    let content = |index: u64| vec![0x5e; usize::try_from(50 + (writer * 31 + turn * 17 + index) % 300).unwrap()];
    (0..count).map(|index| Line::new(record(index), &content(index))).collect()
}

async fn write_many(number: u64, mut pen: Pen, count: u64) -> Finished {
    let started = Instant::now();
    let (mut slowest, mut acknowledged) = (Duration::ZERO, Vec::new());
    let mut before = Vec::new();
    for turn in 0..count {
        let mut lines = lines(number, turn);
        // One record is written again and again, each time on top of what it says.
        lines.push(Line { on_top_of: before, ..Line::new(record(number << 40 | 0xffff_ffff), b"again") });
        let written = pen.write(&lines);
        before = written.changes.last().copied().into_iter().collect();
        let asked = Instant::now();
        let pushed = must(pen.push(&written).await);
        slowest = slowest.max(asked.elapsed());
        acknowledged.push((pushed.n, written.frame));
    }
    Finished { took: started.elapsed(), slowest, acknowledged }
}

async fn write_here_and_look_there(number: u64, mut pen: Pen, far: Scribe, count: u64) -> (VaultId, Finished) {
    let vault = pen.vault();
    let started = Instant::now();
    let (mut slowest, mut acknowledged) = (Duration::ZERO, Vec::new());
    let mut known: Polled = must(far.poll(None).await);
    for turn in 0..count {
        let written = pen.write(&lines(number, turn));
        let asked = Instant::now();
        let pushed = must(pen.push(&written).await);
        slowest = slowest.max(asked.elapsed());
        let polled = must(far.poll(Some(&known.state)).await);
        let place = polled.vaults.as_ref().expect("something has moved").iter().find(|polled| polled.vid == vault);
        let n = place.expect("one of our vaults").n;
        assert!(n >= pushed.n, "{} was acknowledged here and the other server says {n}", pushed.n);
        known = polled;
        acknowledged.push((pushed.n, written.frame));
    }
    (vault, Finished { took: started.elapsed(), slowest, acknowledged })
}

/// Reads on, page by page, and now and then again from the beginning, until it has everything.
async fn read_until(scribe: Scribe, mut volume: Volume, page: usize, end: u64) -> Volume {
    let vault = volume.vault();
    let mut turn = 0;
    while volume.log.head().n < end {
        let after = volume.log.head().n;
        let frames = must(scribe.log_after(&vault, after, page).await).frames;
        assert!(frames.len() <= page);
        for frame in frames {
            volume.take(frame.0).unwrap_or_else(|refusal| panic!("after {after}: {refusal}"));
        }
        turn += 1;
        if turn % 4 == 0 {
            let from = volume.log.head().n.saturating_sub(40);
            let again = must(scribe.log_after(&vault, from, 40).await).frames;
            let known = &volume.frames[usize::try_from(from).unwrap()..];
            assert!(again.len() >= known.len().min(40), "less than was there before");
            assert!(known.iter().zip(&again).all(|(known, again)| *known == again.0), "what was seen has changed");
        }
    }
    volume
}

fn tell_fairness(what: &str, took: Duration, finished: &[Finished], each: u64) {
    let times = || finished.iter().map(|writer| writer.took.as_secs_f64() * 1e3);
    let (fastest, slowest) = (times().fold(f64::MAX, f64::min), times().fold(0.0, f64::max));
    let longest = finished.iter().map(|writer| writer.slowest).max().unwrap_or_default();
    let pushes = finished.len() as u64 * each;
    #[allow(clippy::print_stdout, reason = "how fair it was is a finding, not a condition")]
    {
        println!(
            "{what}: {pushes} pushes in {took:.0?}; fastest writer {fastest:.0} ms, slowest {slowest:.0} ms, \
             {:.2} times; longest push {longest:.1?}",
            slowest / fastest
        );
    }
}

async fn within<F: Future>(work: F) -> F::Output {
    tokio::time::timeout(DEADLOCK, work).await.expect("they wait for each other")
}

fn long() -> bool {
    std::env::var_os("SELKIE_LONG").is_some()
}

/// A server that can be killed, and what it stands on.
struct Scene {
    premises: Premises,
    network: Network,
    server: ServerProcess,
}

impl Scene {
    async fn new(backend: Backend) -> Self {
        let premises = Premises::new(backend).await;
        let network = Network::new().await;
        let server = start(&premises, &network).await;
        Scene { premises, network, server }
    }

    /// The server itself, without the network in between.
    fn url(&self) -> String {
        format!("http://{}", self.server.address())
    }

    async fn revive(&mut self) {
        self.server = start(&self.premises, &self.network).await;
    }

    /// A second server on the same database.
    async fn another(&self) -> ServerProcess {
        start(&self.premises, &self.network).await
    }
}

async fn start(premises: &Premises, network: &Network) -> ServerProcess {
    let settings = format!("[registration]\npolicy = \"open\"\n{}", without_limits());
    // All writers come from one address.
    let connections = ("SELKIE_SERVER__MAX_CONNECTIONS_PER_ADDRESS", "4000");
    ServerProcess::start(premises, network, &settings, &[connections]).await
}
