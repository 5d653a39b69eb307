//! How long an app waits for its records, at 100,000 of them in a file: `cargo bench -p selkie-client --bench records`.
//!
//! The server is the stand-in of the stories; it is asked once, for the account.

#![allow(dead_code, clippy::print_stdout, reason = "the stand-in has levers that no bench pulls; a bench speaks")]

#[path = "../tests/stories/fake/mod.rs"]
mod fake;

use fake::Fake;
use futures_util::StreamExt as _;
use selkie_client::{Account, CollectionShape, Order, RecordId, SignUp, Vault, field};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const RECORDS: u32 = 100_000;

#[derive(Clone, Serialize, Deserialize)]
struct Entry {
    title: String,
    body: String,
    mood: String,
    day: u32,
}

fn entry(number: u32) -> Entry {
    Entry {
        title: format!("Entry number {number}"),
        body: "What happened today, in about as many words as people write on most days. ".repeat(3),
        mood: format!("mood {}", number % 500),
        day: number.wrapping_mul(2_654_435_761) % 10_000,
    }
}

fn main() {
    // Cargo runs benches as tests, too.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure());
}

async fn measure() {
    let server = Fake::start();
    let folder = tempfile::tempdir().expect("a folder");
    {
        let client = client(&server, folder.path());
        let made = client.sign_up("ana@example.org", "correct horse", SignUp::default()).await.expect("an account");
        made.account.create_vault("Journal", "org.example.journal").await.expect("a vault");
    }
    let ids = {
        let (_account, vault) = open(&server, folder.path()).await;
        let entries = vault.collection::<Entry>("entries");
        let begun = Instant::now();
        let mut ids = Vec::new();
        for number in (0..RECORDS).step_by(1_000) {
            let some: Vec<Entry> = (number..number + 1_000).map(entry).collect();
            ids.extend(entries.put_all(&some).await.expect("written"));
        }
        say("put 100,000 in batches of 1,000, each record", &[begun.elapsed() / RECORDS]);
        ids
    };

    let mut opens = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        let (_account, vault) = open(&server, folder.path()).await;
        let got = vault.collection::<Entry>("entries").get(ids[7]).await.expect("read");
        opens.push(begun.elapsed());
        assert!(got.is_some());
    }
    say("open the account, the vault and a first record", &opens);

    let (_account, vault) = open(&server, folder.path()).await;
    let entries = vault.collection::<Entry>("entries");
    let some = |count: usize| ids.iter().step_by(ids.len() / count).copied().take(count);
    let each = async |ids: &mut dyn Iterator<Item = RecordId>| {
        let mut times = Vec::new();
        for id in ids {
            let begun = Instant::now();
            let got = entries.get(id).await.expect("read");
            times.push(begun.elapsed());
            assert!(got.is_some());
        }
        times
    };
    say("get, not in memory", &each(&mut some(5_000)).await);
    say("get, in memory", &each(&mut std::iter::repeat_n(ids[3], 5_000)).await);

    let mut puts = Vec::new();
    for number in 0..2_000 {
        let value = entry(number);
        let begun = Instant::now();
        entries.put(&value).await.expect("written");
        puts.push(begun.elapsed());
    }
    say("put", &puts);

    let ask = |mood: u32| {
        let filter = field("mood").eq(format!("mood {mood}"));
        entries.query().filter(filter).order_by("day", Order::Descending).limit(20)
    };
    let begun = Instant::now();
    ask(0).all().await.expect("found");
    say("the first query, which builds the index", &[begun.elapsed()]);
    let mut queries = Vec::new();
    for mood in 0..500 {
        let begun = Instant::now();
        let found = ask(mood).all().await.expect("found");
        queries.push(begun.elapsed());
        assert_eq!(found.len(), 20);
    }
    say("an indexed query for 20 of 200 records, sorted", &queries);
    let mut counts = Vec::new();
    for mood in 0..500 {
        let begun = Instant::now();
        let count = entries.query().filter(field("mood").eq(format!("mood {mood}"))).count().await.expect("counted");
        counts.push(begun.elapsed());
        assert!(count >= 200);
    }
    say("count of 200 records by an index", &counts);
    let begun = Instant::now();
    let found = entries.query().search("number 4711").all().await.expect("found");
    say(&format!("a search for two words, {} found", found.len()), &[begun.elapsed()]);

    let mut live = ask(7).watch();
    live.next().await.expect("it does not end").expect("found");
    let mut updates = Vec::new();
    for number in 0..200 {
        let value = Entry { mood: "mood 7".into(), day: 10_000 + number, ..entry(number) };
        entries.put(&value).await.expect("written");
        let begun = Instant::now();
        let shown = live.next().await.expect("it does not end").expect("found");
        updates.push(begun.elapsed());
        assert_eq!(shown[0].value.day, value.day);
    }
    say("a live query's update after a write", &updates);
}

fn client(server: &Arc<Fake>, folder: &Path) -> selkie_client::Client {
    let shape = CollectionShape::new("entries").index(["mood", "day"]).search(["title"]);
    server.builder().store(folder).collection(shape).build().expect("a client")
}

async fn open(server: &Arc<Fake>, folder: &Path) -> (Account, Vault) {
    let account = client(server, folder).account("ana@example.org").await.expect("opens").expect("is here");
    let vault = account.vault("Journal").await.expect("opens").expect("is here");
    (account, vault)
}

fn say(what: &str, times: &[Duration]) {
    let mut times = times.to_vec();
    times.sort();
    let (median, worst) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("{what}: median {median:.1?}, 99th {worst:.1?}");
}
