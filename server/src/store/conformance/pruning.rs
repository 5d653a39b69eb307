//! What was superseded long enough ago loses its payload, and nothing else does.

use super::scribe::{Scribe, Write, record};
use super::*;
use crate::store::*;
use selkie_protocol::log::Frame;

on_both![
    superseded_payloads_go_when_their_time_has_come,
    what_was_live_at_a_kept_position_stays,
    forgotten_records_lose_their_payloads,
    a_step_of_pruning_is_bounded,
    checkpoints_that_can_be_begun_from_are_kept_newest_first,
];

/// Positions and places of all payloads that are there.
async fn payloads(house: &House, scribe: &Scribe) -> Vec<(u64, u16)> {
    let everything = PageLimits { entries: 10_000, bytes: u64::MAX };
    let (frames, head) = house.entries_after(scribe.at, 0, everything).await.unwrap();
    assert_eq!(head, scribe.head);
    let mut there = Vec::new();
    for (stored, entry) in frames.iter().zip(&scribe.entries) {
        let (now, then) = (Frame::parse(&stored.frame).unwrap(), Frame::parse(&entry.frame).unwrap());
        assert!(now.entry.as_bytes() == then.entry.as_bytes(), "entries stay as they were signed");
        for index in 0..256 {
            if let Some(payload) = now.payload(index) {
                assert!(then.payload(index) == Some(payload));
                there.push((stored.n, index));
            }
        }
    }
    there
}

async fn prune_all(house: &House, scribe: &Scribe, before: Millis, keep: &[u64]) -> u64 {
    let mut dropped = 0;
    loop {
        let (step, more) = house.prune(scribe.at, before, keep.to_vec()).await.unwrap();
        dropped += step;
        if !more {
            return dropped;
        }
    }
}

async fn superseded_payloads_go_when_their_time_has_come(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let mut scribe = Scribe::create(&*house.store, house.home, account, 1).await;
    scribe.writes(&*house.store, &[Write::Whole(1), Write::Whole(2), Write::Whole(2)]).await;
    scribe.now = NOW + DAY;
    scribe.writes(&*house.store, &[Write::Whole(1), Write::Delta(2)]).await;
    scribe.now = NOW + 2 * DAY;
    scribe.writes(&*house.store, &[Write::Whole(2)]).await;
    let length = async || house.space(house.home).await.unwrap().0;
    let before = length().await;
    assert_eq!(before, scribe.entries.iter().map(|entry| entry.frame.len() as u64).sum::<u64>());
    let all = [(2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (4, 0)];
    assert_eq!(payloads(&house, &scribe).await, all);

    assert_eq!(house.vaults_to_prune(NOW, None, 10).await.unwrap(), []);
    assert_eq!(prune_all(&house, &scribe, NOW, &[]).await, 0);
    assert_eq!(house.vaults_to_prune(NOW + 1, None, 10).await.unwrap(), [scribe.at]);
    assert_eq!(house.vaults_to_prune(NOW + 1, Some(scribe.at), 10).await.unwrap(), []);
    // Of the first data entry only what it replaced itself.
    assert_eq!(prune_all(&house, &scribe, NOW + 1, &[]).await, 1);
    assert_eq!(payloads(&house, &scribe).await, [(2, 0), (2, 2), (3, 0), (3, 1), (4, 0)]);
    assert_eq!(prune_all(&house, &scribe, NOW + DAY + 1, &[]).await, 1);
    assert_eq!(payloads(&house, &scribe).await, [(2, 2), (3, 0), (3, 1), (4, 0)]);
    assert_eq!(prune_all(&house, &scribe, NOW + 3 * DAY, &[]).await, 2);
    assert_eq!(payloads(&house, &scribe).await, [(3, 0), (4, 0)]);
    assert_eq!(prune_all(&house, &scribe, NOW + 3 * DAY, &[]).await, 0);
    assert_eq!(house.vaults_to_prune(NOW + 9 * DAY, None, 10).await.unwrap(), []);
    assert!(length().await < before - 4 * 104 + 8);
    assert_eq!(house.live_at(scribe.at, 4, None, 10).await.unwrap(), scribe.live_at(4));
    let gone = Place { vault: VaultNumber(9), ..scribe.at };
    assert_eq!(house.prune(gone, NOW, Vec::new()).await.unwrap(), (0, false));
}

async fn what_was_live_at_a_kept_position_stays(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let mut scribe = Scribe::create(&*house.store, house.home, account, 1).await;
    for _ in 0..6 {
        scribe.writes(&*house.store, &[Write::Whole(1)]).await;
    }
    // Changes stand at 2 to 7; the one at 3 and the one at 5 are kept for positions.
    assert_eq!(prune_all(&house, &scribe, NOW + 1, &[3, 5]).await, 3);
    assert_eq!(payloads(&house, &scribe).await, [(3, 0), (5, 0), (7, 0)]);
    for n in [3, 5, 7] {
        assert_eq!(house.live_at(scribe.at, n, None, 10).await.unwrap(), scribe.live_at(n));
    }
    assert_eq!(prune_all(&house, &scribe, NOW + 1, &[3, 5]).await, 0);
    assert_eq!(prune_all(&house, &scribe, NOW + 1, &[5]).await, 1, "nobody needs the one at 3 any more");
    assert_eq!(payloads(&house, &scribe).await, [(5, 0), (7, 0)]);
    scribe.writes(&*house.store, &[Write::Whole(1)]).await;
    assert_eq!(prune_all(&house, &scribe, NOW + 1, &[7]).await, 1);
    assert_eq!(payloads(&house, &scribe).await, [(7, 0), (8, 0)]);
    assert_eq!(prune_all(&house, &scribe, NOW + 1, &[8]).await, 1);
    assert_eq!(payloads(&house, &scribe).await, [(8, 0)]);
}

async fn forgotten_records_lose_their_payloads(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let mut scribe = Scribe::create(&*house.store, house.home, account, 1).await;
    scribe.writes(&*house.store, &[Write::Whole(1), Write::Whole(2)]).await;
    let checkpoint = scribe.checkpoint(&[record(1)]);
    scribe.appended(&*house.store, vec![checkpoint]).await;
    scribe.writes(&*house.store, &[Write::Whole(1)]).await;
    let asked = Question { records: vec![record(1)], ..scribe.question() };
    let answer = house.bearings(vec![asked]).await.unwrap().remove(0).unwrap();
    assert_eq!(answer.live, scribe.live_of(&[record(1)]), "the record begins anew");
    assert_eq!(prune_all(&house, &scribe, NOW + 1, &[]).await, 1);
    assert_eq!(payloads(&house, &scribe).await, [(2, 1), (4, 0)]);
}

async fn a_step_of_pruning_is_bounded(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let mut scribe = Scribe::create(&*house.store, house.home, account, 1).await;
    let entries: Vec<NewEntry> = (0..450).map(|n| scribe.data(&[Write::Whole(n % 2)])).collect();
    scribe.appended(&*house.store, entries).await;
    let (first, more) = house.prune(scribe.at, NOW + 1, Vec::new()).await.unwrap();
    assert!(more && first > 0 && first < 300, "{first}");
    assert_eq!(first + prune_all(&house, &scribe, NOW + 1, &[]).await, 448);
    assert_eq!(payloads(&house, &scribe).await, [(450, 0), (451, 0)]);
    // And by bytes: few entries, but long ones.
    let mut long = Scribe::create(&*house.store, house.home, account, 2).await.with_payloads_of(200_000);
    for _ in 0..60 {
        long.writes(&*house.store, &[Write::Whole(1)]).await;
    }
    let (first, more) = house.prune(long.at, NOW + 1, Vec::new()).await.unwrap();
    assert!(more && first > 0 && first < 59, "{first}");
    assert_eq!(first + prune_all(&house, &long, NOW + 1, &[]).await, 59);
}

async fn checkpoints_that_can_be_begun_from_are_kept_newest_first(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let mut scribe = Scribe::create(&*house.store, house.home, account, 1).await;
    let other = house.tenant("other", "home").await;
    let stranger = house.register(other, registration(1)).await.unwrap();
    let mut strange = Scribe::create(&*house.store, other, stranger, 1).await;
    assert_eq!(house.checkpoints_to_prepare(10).await.unwrap(), []);
    for scribe in [&mut scribe, &mut strange] {
        for _ in 0..2 {
            let entry = scribe.checkpoint(&[]);
            scribe.appended(&*house.store, vec![entry]).await;
        }
    }
    assert_eq!(house.checkpoints_to_prepare(10).await.unwrap(), [(scribe.at, 3), (strange.at, 3)]);
    assert_eq!(house.checkpoints_to_prepare(1).await.unwrap(), [(scribe.at, 3)]);
    let row = |n| CheckpointRow { n, page_hashes: vec![n as u8; 96] };
    assert_eq!(house.add_checkpoint(scribe.at, row(2), 2).await.unwrap(), [0u64; 0]);
    assert_eq!(house.checkpoints_to_prepare(1).await.unwrap(), [(scribe.at, 3)]);
    assert_eq!(house.add_checkpoint(scribe.at, row(3), 2).await.unwrap(), [0u64; 0]);
    assert_eq!(house.checkpoints_to_prepare(10).await.unwrap(), [(strange.at, 3)]);
    assert_eq!(house.checkpoints(scribe.at).await.unwrap(), [row(3), row(2)]);
    let entry = scribe.checkpoint(&[]);
    scribe.appended(&*house.store, vec![entry]).await;
    assert_eq!(house.add_checkpoint(scribe.at, row(4), 2).await.unwrap(), [2]);
    assert_eq!(house.checkpoints(scribe.at).await.unwrap(), [row(4), row(3)]);
    assert_eq!(missing(house.add_checkpoint(Place { vault: VaultNumber(9), ..scribe.at }, row(4), 2).await), "vault");
}
