//! Many who write to logs at once: none is lost, none is half there, and nobody who reads ever sees a gap.

use super::scribe::{Scribe, Write};
use super::vaults::expect_log;
use super::*;
use crate::store::*;
use futures_util::future::join_all;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Mutex;

on_both![
    of_many_writers_at_one_head_one_wins,
    many_vaults_are_written_at_once_in_any_order,
    two_servers_that_write_the_same_vaults_never_wait_for_each_other,
    several_appends_to_one_vault_go_one_after_the_other,
    readers_see_the_log_in_the_order_of_commits,
    pushes_and_pruning_do_not_lose_each_other,
    two_pruners_who_end_where_they_began_free_nothing_twice,
];

const WRITERS: u64 = 32;

async fn of_many_writers_at_one_head_one_wins(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let mut scribe = Scribe::create(&*house.store, house.home, account, 1).await;
    for _ in 0..4 {
        let versions: Vec<(Scribe, Append)> = (0..WRITERS)
            .map(|n| {
                let mut version = scribe.clone();
                let entry = version.data(&[Write::Whole(n), Write::Whole(1_000)]);
                let append = version.append(vec![entry]);
                (version, append)
            })
            .collect();
        let racers = versions.iter().map(|(_, append)| house.append(vec![append.clone()]));
        let answers = join_all(racers).await;
        let won: Vec<usize> =
            (0..).zip(answers).filter(|(_, answer)| answer.as_ref().unwrap()[0]).map(|(n, _)| n).collect();
        assert_eq!(won.len(), 1);
        scribe = versions[won[0]].0.clone();
        expect_log(&house, &scribe).await;
    }
}

async fn scribes(house: &House, count: u64) -> Vec<Scribe> {
    let other = house.tenant("other", "home").await;
    let mut scribes = Vec::new();
    for n in 1..=count {
        let tenant = if n % 3 == 0 { other } else { house.home };
        let account = house.register(tenant, registration(n)).await.unwrap();
        scribes.push(Scribe::create(&*house.store, tenant, account, n).await);
    }
    scribes
}

async fn many_vaults_are_written_at_once_in_any_order(house: House) {
    let scribes = join_all(scribes(&house, WRITERS).await.into_iter().map(|mut scribe| {
        let store = house.store.clone();
        async move {
            for round in 0..6 {
                scribe.writes(&*store, &[Write::Whole(round % 2), Write::Delta(7)]).await;
            }
            scribe
        }
    }))
    .await;
    for scribe in &scribes {
        assert_eq!(scribe.head.n, 7);
        expect_log(&house, scribe).await;
    }
}

async fn two_servers_that_write_the_same_vaults_never_wait_for_each_other(house: House) {
    let second = open(&house.url, Options { connections: 4, ..Options::default() }, tokio::runtime::Handle::current());
    let second = second.await.unwrap();
    let mut scribes = scribes(&house, 6).await;
    for round in 0..12u64 {
        let mut one: Vec<Append> = Vec::new();
        let mut other: Vec<Append> = Vec::new();
        let mut versions = Vec::new();
        for scribe in &scribes {
            let (mut a, mut b) = (scribe.clone(), scribe.clone());
            let (first, second) = (a.data(&[Write::Whole(1)]), b.data(&[Write::Whole(2)]));
            one.push(a.append(vec![first]));
            other.push(b.append(vec![second]));
            versions.push((a, b));
        }
        // The other way round, and now and then with something that takes another way through the store.
        other.reverse();
        if round % 3 == 0 {
            other[2].members = Some(vec![uid(1)]);
        }
        let (one, other) = tokio::join!(house.append(one), second.append(other));
        let (one, mut other) = (one.unwrap(), other.unwrap());
        other.reverse();
        for (n, (a, b)) in versions.into_iter().enumerate() {
            assert!(one[n] != other[n], "exactly one of them");
            scribes[n] = if one[n] { a } else { b };
        }
    }
    for scribe in &scribes {
        expect_log(&house, scribe).await;
    }
    second.close().await;
}

async fn several_appends_to_one_vault_go_one_after_the_other(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let mut scribe = Scribe::create(&*house.store, house.home, account, 1).await;
    let mut appends = Vec::new();
    for n in 0..3 {
        let entry = scribe.data(&[Write::Whole(n), Write::Whole(9)]);
        appends.push(scribe.append(vec![entry]));
    }
    appends.insert(1, appends[0].clone());
    assert_eq!(house.append(appends).await.unwrap(), [true, false, true, true]);
    expect_log(&house, &scribe).await;
}

async fn readers_see_the_log_in_the_order_of_commits(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let scribe = Scribe::create(&*house.store, house.home, account, 1).await;
    let at = scribe.at;
    let newest = Arc::new(Mutex::new(scribe));
    let done = Arc::new(AtomicBool::new(false));
    let writers = (0..8).map(|_| {
        let (store, newest) = (house.store.clone(), newest.clone());
        async move {
            for round in 0..20 {
                let mut scribe = newest.lock().await;
                scribe.writes(&*store, &[Write::Whole(round), Write::Delta(3)]).await;
            }
        }
    });
    let readers = (0..4u32).map(|reader| {
        let (store, done) = (house.store.clone(), done.clone());
        async move {
            let (mut seen, mut heads) = (Vec::new(), 0);
            loop {
                let finished = done.load(Ordering::SeqCst);
                let limits = PageLimits { entries: 3 + reader, bytes: u64::MAX };
                let (frames, head) = store.entries_after(at, seen.len() as u64, limits).await.unwrap();
                assert!(head.n >= heads, "a head never goes back");
                heads = head.n;
                for frame in frames {
                    assert_eq!(frame.n, seen.len() as u64 + 1, "no gap, and nothing behind the reader's back");
                    assert!(frame.n <= head.n);
                    seen.push(frame.frame);
                }
                let (records, differences) = (Vec::new(), Vec::new());
                let chain = vec![seen.len() as u64];
                let asked = Question { at, known: Some(head.n), records, differences, chain };
                let bearings = store.bearings(vec![asked]).await.unwrap().remove(0).unwrap();
                assert!(bearings.head.n >= head.n && bearings.chain.len() == 1);
                if finished && seen.len() as u64 == head.n {
                    return seen;
                }
            }
        }
    });
    let writing = async {
        join_all(writers).await;
        done.store(true, Ordering::SeqCst);
    };
    let (seen, ()) = tokio::join!(join_all(readers), writing);
    let scribe = newest.lock().await.clone();
    for seen in seen {
        assert!(seen.iter().eq(scribe.entries.iter().map(|entry| &entry.frame)));
    }
    expect_log(&house, &scribe).await;
}

async fn pushes_and_pruning_do_not_lose_each_other(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let mut scribe = Scribe::create(&*house.store, house.home, account, 1).await;
    let at = scribe.at;
    let done = AtomicBool::new(false);
    let pushing = async {
        for round in 0..60 {
            scribe.writes(&*house.store, &[Write::Whole(round % 3), Write::Delta(5)]).await;
        }
        done.store(true, Ordering::SeqCst);
    };
    let pruning = || async {
        while !done.load(Ordering::SeqCst) {
            match house.prune(at, NOW + 1, Vec::new()).await {
                // Another pruner is at it.
                Ok(_) | Err(StoreError::Unavailable(_)) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
    };
    tokio::join!(pushing, pruning(), pruning());
    while house.prune(at, NOW + 1, Vec::new()).await.unwrap().1 {}
    let n = scribe.head.n;
    assert_eq!(house.live_at(at, n, None, 1_000).await.unwrap(), scribe.live_at(n));
    let everything = PageLimits { entries: 1_000, bytes: u64::MAX };
    let (frames, _) = house.entries_after(at, 0, everything).await.unwrap();
    let length: u64 = frames.iter().map(|frame| frame.frame.len() as u64).sum();
    assert_eq!(house.space(house.home).await.unwrap().0, length, "what is freed is counted exactly");
    for row in scribe.live.values() {
        let frame = selkie_protocol::log::Frame::parse(&frames[row.n as usize - 1].frame).unwrap();
        assert!(frame.payload(row.index).is_some(), "what is live is there");
    }
}

/// What was kept for a position is looked at again up to where the walk was already: how far it has come is the same.
async fn two_pruners_who_end_where_they_began_free_nothing_twice(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let mut scribe = Scribe::create(&*house.store, house.home, account, 1).await;
    let records: Vec<Write> = (0..100).map(Write::Whole).collect();
    let everything = PageLimits { entries: 1_000, bytes: u64::MAX };
    for _ in 0..12 {
        scribe.writes(&*house.store, &records).await;
        let keep = scribe.head.n;
        scribe.writes(&*house.store, &records).await;
        while house.prune(scribe.at, NOW + 1, vec![keep]).await.unwrap().1 {}
        let pruning = (0..4).map(|_| house.prune(scribe.at, NOW + 1, Vec::new()));
        for outcome in join_all(pruning).await {
            assert!(matches!(outcome, Ok(_) | Err(StoreError::Unavailable(_))), "{outcome:?}");
        }
        let (frames, _) = house.entries_after(scribe.at, 0, everything).await.unwrap();
        let length: u64 = frames.iter().map(|frame| frame.frame.len() as u64).sum();
        assert_eq!(house.space(house.home).await.unwrap().0, length);
    }
}
