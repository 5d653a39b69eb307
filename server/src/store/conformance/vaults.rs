//! Vaults: made once, appended to from their head only, and read as they were written.

use super::scribe::{Scribe, Write, record};
use super::*;
use crate::store::*;
use selkie_protocol::id::{ChangeId, RecordId, VaultId};
use selkie_protocol::log::{Frame, Head};

on_both![
    a_vault_is_made_once_and_found_by_its_name,
    a_plan_limits_the_vaults_of_an_account,
    an_append_moves_the_head_only_from_where_it_was_decided,
    a_stale_append_spoils_no_other,
    bearings_tell_what_the_next_entry_is_judged_by,
    pages_end_by_number_and_by_bytes,
    what_was_live_at_any_position_can_be_told,
    single_entries_are_found_by_what_names_them,
];

const EVERYTHING: PageLimits = PageLimits { entries: 10_000, bytes: u64::MAX };

async fn a_vault_is_made_once_and_found_by_its_name(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let (new, scribe) = Scribe::begin(house.home, account, 1);
    let number = house.create_vault(house.home, new.clone()).await.unwrap();
    let row = VaultRow { vault: number, vid: scribe.vid, app: "org.example.app-1".into(), head: scribe.head };
    assert_eq!(house.vault(house.home, scribe.vid).await.unwrap().unwrap(), row);
    assert_eq!(house.vaults_of(house.home, account).await.unwrap(), [row]);
    assert_eq!(refused(house.create_vault(house.home, new.clone()).await), Refused::IdTaken("vault"));
    assert!(house.vault(house.home, VaultId([7; 32])).await.unwrap().is_none());
    assert_eq!(missing(house.create_vault(house.home, NewVault { creator: AccountNumber(9), ..new }).await), "account");
    // Another tenant may have one of the same name, and sees nothing of this one.
    let other = house.tenant("other", "home").await;
    assert!(house.vault(other, scribe.vid).await.unwrap().is_none());
    let stranger = house.register(other, registration(1)).await.unwrap();
    Scribe::create(&*house.store, other, stranger, 1).await;
}

async fn a_plan_limits_the_vaults_of_an_account(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let limited = |n| NewVault { max_vaults: Some(2), ..Scribe::begin(house.home, account, n).0 };
    for n in 1..=2 {
        house.create_vault(house.home, limited(n)).await.unwrap();
    }
    assert_eq!(refused(house.create_vault(house.home, limited(3)).await), Refused::LimitReached("vaults"));
    assert_eq!(house.vaults_of(house.home, account).await.unwrap().len(), 2);
    let plan = house.tenant("small", "free").await;
    assert_eq!(house.space(plan).await.unwrap(), (0, Some(1 << 30)));
    let row = house.tenants().await.unwrap().into_iter().find(|row| row.tenant == plan).unwrap();
    assert_eq!((row.max_vaults, row.max_bytes, row.history_days), (Some(20), Some(1 << 30), Some(30)));
}

async fn an_append_moves_the_head_only_from_where_it_was_decided(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let mut scribe = Scribe::create(&*house.store, house.home, account, 1).await;
    let other_branch = {
        let mut other = scribe.clone();
        other.now += 1;
        let entry = other.data(&[Write::Whole(7)]);
        other.append(vec![entry])
    };
    scribe.writes(&*house.store, &[Write::Whole(1), Write::Whole(2)]).await;
    let (first, second) = (scribe.data(&[Write::Whole(1)]), scribe.heartbeat());
    let both = scribe.append(vec![first, second]);
    assert_eq!(house.append(vec![both.clone()]).await.unwrap(), [true]);
    assert_eq!(house.append(vec![both]).await.unwrap(), [false], "it is there already");
    assert_eq!(house.append(vec![other_branch]).await.unwrap(), [false], "it was decided elsewhere");
    // The right position under another chain value.
    let mut forked = scribe.clone();
    let entry = forked.heartbeat();
    let append = Append { before: Head { h: [0; 32], ..scribe.head }, ..forked.append(vec![entry]) };
    assert_eq!(house.append(vec![append]).await.unwrap(), [false]);
    let gone =
        Append { at: Place { vault: VaultNumber(99), ..scribe.at }, ..forked.append(vec![forked.entries[1].clone()]) };
    assert_eq!(house.append(vec![gone]).await.unwrap(), [false]);
    assert_eq!(house.vault(house.home, scribe.vid).await.unwrap().unwrap().head, scribe.head);
    expect_log(&house, &scribe).await;
}

async fn a_stale_append_spoils_no_other(house: House) {
    let other = house.tenant("other", "home").await;
    let mut scribes = Vec::new();
    for (n, tenant) in (1..).zip([house.home, other, house.home, other]) {
        let account = house.register(tenant, registration(n)).await.unwrap();
        scribes.push(Scribe::create(&*house.store, tenant, account, n).await);
    }
    let mut stale = scribes[1].clone();
    scribes[1].writes(&*house.store, &[Write::Whole(1)]).await;
    stale.now += 1;
    let mut appends = Vec::new();
    for (n, scribe) in scribes.iter_mut().enumerate().rev() {
        let scribe = if n == 1 { &mut stale } else { scribe };
        let entry = scribe.data(&[Write::Whole(1), Write::Delta(1), Write::Whole(2)]);
        appends.push(scribe.append(vec![entry]));
    }
    assert_eq!(house.append(appends).await.unwrap(), [true, true, false, true]);
    for scribe in &scribes {
        expect_log(&house, scribe).await;
    }
    let mut places: Vec<Place> = scribes.iter().map(|scribe| scribe.at).collect();
    places.push(Place { tenant: other, vault: VaultNumber(77) });
    assert_eq!(house.positions(places).await.unwrap(), [2, 2, 2, 2, 0]);
    assert_eq!(house.positions(Vec::new()).await.unwrap(), [0; 0]);
    assert_eq!(house.append(Vec::new()).await.unwrap(), [false; 0]);
}

async fn bearings_tell_what_the_next_entry_is_judged_by(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let mut scribe = Scribe::create(&*house.store, house.home, account, 1).await;
    let mut quiet = Scribe::create(&*house.store, house.home, account, 2).await;
    let first_state = scribe.state();
    scribe.writes(&*house.store, &[Write::Whole(1), Write::Whole(2)]).await;
    scribe.writes(&*house.store, &[Write::Delta(1), Write::Beside(1), Write::Whole(3)]).await;
    let records = [record(1), record(3), record(9)];
    let asked = Question { records: records.to_vec(), chain: vec![0, 2, 99], ..scribe.question() };
    let gone = Question { at: Place { vault: VaultNumber(99), ..scribe.at }, ..scribe.question() };
    let known = Question { known: Some(1), ..quiet.question() };
    let answers = house.bearings(vec![gone, asked.clone(), known.clone()]).await.unwrap();
    assert!(answers[0].is_none());
    let answer = answers[1].clone().unwrap();
    assert_eq!(answer.head, scribe.head);
    let entries: Vec<Vec<u8>> =
        scribe.entries[1..].iter().map(|entry| Frame::entry_bytes(&entry.frame).unwrap().to_vec()).collect();
    assert_eq!(answer.state, Some((first_state, entries)));
    assert_eq!(answer.live, scribe.live_of(&records));
    assert_eq!(answer.chain, [(0, scribe.vid.0), (2, scribe.entries[1].head.h)]);
    let answer = answers[2].clone().unwrap();
    assert_eq!((answer.head, answer.state, answer.live, answer.chain), (quiet.head, None, Vec::new(), Vec::new()));

    // A state that is kept on the way stands for everything before it.
    let entry = scribe.control();
    let state = scribe.state();
    let append = Append { state: Some(state.clone()), ..scribe.append(vec![entry]) };
    assert_eq!(house.append(vec![append]).await.unwrap(), [true]);
    scribe.writes(&*house.store, &[Write::Whole(1)]).await;
    quiet.writes(&*house.store, &[Write::Whole(1)]).await;
    let answers = house.bearings(vec![asked, known]).await.unwrap();
    let answer = answers[0].clone().unwrap();
    let newest = Frame::entry_bytes(&scribe.entries[4].frame).unwrap().to_vec();
    assert_eq!(answer.state, Some((state, vec![newest])));
    assert_eq!(answer.live, scribe.live_of(&records));
    let (_, entries) = answers[1].clone().unwrap().state.expect("what was known is not of the head any more");
    assert_eq!(entries.len(), 1);
}

async fn pages_end_by_number_and_by_bytes(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let mut scribe = Scribe::create(&*house.store, house.home, account, 1).await.with_payloads_of(5_000);
    for n in 0..6 {
        let entry = if n == 3 { scribe.control() } else { scribe.data(&[Write::Whole(n)]) };
        scribe.appended(&*house.store, vec![entry]).await;
    }
    let length = |n: usize| scribe.entries[n - 1].frame.len() as u64;
    let page = async |after, entries, bytes| {
        let (frames, head) = house.entries_after(scribe.at, after, PageLimits { entries, bytes }).await.unwrap();
        assert_eq!(head, scribe.head);
        for frame in &frames {
            assert!(frame.frame == scribe.entries[frame.n as usize - 1].frame);
        }
        frames.iter().map(|frame| frame.n).collect::<Vec<_>>()
    };
    assert_eq!(page(0, 100, u64::MAX).await, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(page(2, 3, u64::MAX).await, [3, 4, 5]);
    assert_eq!(page(1, 100, length(2) + length(3)).await, [2, 3]);
    assert_eq!(page(1, 100, length(2) + length(3) - 1).await, [2]);
    assert_eq!(page(1, 100, 1).await, [2], "never empty while there is more");
    assert_eq!(page(7, 100, u64::MAX).await, [0; 0]);
    assert_eq!(page(u64::MAX, 100, u64::MAX).await, [0; 0]);
    let entry = |n: usize| Frame::entry_bytes(&scribe.entries[n - 1].frame).unwrap().to_vec();
    let alone = async |after, entries, bytes| {
        let found = house.entries_alone_after(scribe.at, after, PageLimits { entries, bytes }).await.unwrap();
        for (n, alone) in &found {
            assert!(*alone == entry(*n as usize));
        }
        found.into_iter().map(|(n, _)| n).collect::<Vec<_>>()
    };
    let length_alone = |n: usize| entry(n).len() as u64;
    assert_eq!(alone(0, 100, u64::MAX).await, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(alone(2, 3, u64::MAX).await, [3, 4, 5]);
    assert_eq!(alone(1, 100, length_alone(2) + length_alone(3)).await, [2, 3], "what is beside them is not counted");
    assert_eq!(alone(1, 100, 1).await, [2]);
    assert_eq!(alone(7, 100, u64::MAX).await, [0; 0]);
    let controls = house.controls_after(scribe.at, 0, EVERYTHING).await.unwrap();
    assert_eq!(controls.iter().map(|frame| frame.n).collect::<Vec<_>>(), [1, 5]);
    assert_eq!(house.controls_after(scribe.at, 1, EVERYTHING).await.unwrap().len(), 1);
    let nowhere = Place { vault: VaultNumber(i64::MAX), ..scribe.at };
    assert_eq!(missing(house.entries_after(nowhere, 0, EVERYTHING).await), "vault");
}

async fn what_was_live_at_any_position_can_be_told(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let mut scribe = Scribe::create(&*house.store, house.home, account, 1).await;
    scribe.writes(&*house.store, &[Write::Whole(1), Write::Whole(2), Write::Delta(2), Write::Whole(2)]).await;
    scribe.writes(&*house.store, &[Write::Delta(1), Write::Beside(1), Write::Whole(3)]).await;
    scribe.writes(&*house.store, &[Write::Whole(1), Write::Whole(4)]).await;
    let entry = scribe.checkpoint(&[record(4)]);
    scribe.appended(&*house.store, vec![entry]).await;
    scribe.writes(&*house.store, &[Write::Whole(4), Write::Delta(3), Write::Delta(3)]).await;
    for n in 1..=scribe.head.n {
        assert_eq!(house.live_at(scribe.at, n, None, 1000).await.unwrap(), scribe.live_at(n), "at {n}");
        // In pages of two.
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let page = house.live_at(scribe.at, n, after, 2).await.unwrap();
            after = page.last().map(|row| (row.record, row.change));
            if after.is_none() {
                break;
            }
            paged.extend(page);
        }
        assert_eq!(paged, scribe.live_at(n), "at {n}");
    }
}

async fn single_entries_are_found_by_what_names_them(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let mut scribe = Scribe::create(&*house.store, house.home, account, 1).await;
    for n in 0..5 {
        scribe.writes(&*house.store, &[Write::Whole(n)]).await;
    }
    let hashes: Vec<[u8; 32]> = scribe.entries.iter().map(|entry| entry.hash).collect();
    assert_eq!(house.entry_hashes(scribe.at, 2, 4).await.unwrap(), hashes[1..4]);
    assert_eq!(house.entry_hashes(scribe.at, 5, 99).await.unwrap(), hashes[4..]);
    assert_eq!(house.chain_value(scribe.at, 0).await.unwrap(), Some(scribe.vid.0));
    assert_eq!(house.chain_value(scribe.at, 6).await.unwrap(), Some(scribe.head.h));
    assert_eq!(house.chain_value(scribe.at, 7).await.unwrap(), None);
    let found = house.entry_of(scribe.at, device_id(1), 3, 100).await.unwrap();
    assert_eq!(found, Some((3, hashes[2])));
    assert_eq!(house.entry_of(scribe.at, device_id(1), 3, 4).await.unwrap(), Some((3, hashes[2])));
    assert_eq!(house.entry_of(scribe.at, device_id(1), 3, 3).await.unwrap(), None, "it is too long ago");
    assert_eq!(house.entry_of(scribe.at, device_id(2), 3, 100).await.unwrap(), None);
}

/// The whole log, and what is live at its head, are as they were written.
pub(super) async fn expect_log(house: &House, scribe: &Scribe) {
    let (frames, head) = house.entries_after(scribe.at, 0, EVERYTHING).await.unwrap();
    assert_eq!(head, scribe.head);
    let expected = (1..).zip(&scribe.entries).map(|(n, entry)| (n, entry.frame.clone()));
    assert!(frames.into_iter().map(|frame| (frame.n, frame.frame)).eq(expected));
    expect_live(house, scribe).await;
}

/// What is live at the head is what was written, whichever way it is asked.
pub(super) async fn expect_live(house: &House, scribe: &Scribe) {
    let live = house.live_at(scribe.at, scribe.head.n, None, 100_000).await.unwrap();
    assert_eq!(live, scribe.live_at(scribe.head.n));
    let records: Vec<RecordId> = live.iter().map(|row| row.record).collect();
    let answer = house
        .bearings(vec![Question { records: records.clone(), ..scribe.question() }])
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    assert_eq!(answer.head, scribe.head);
    assert_eq!(answer.live, live);
    // As who writes differences asks: of each record the first change by its name, and what every answer has.
    let mut differences: Vec<(RecordId, Vec<ChangeId>)> =
        records.into_iter().map(|record| (record, Vec::new())).collect();
    differences.dedup();
    let mut expected = Vec::new();
    for (record, named) in &mut differences {
        let of_record = live.iter().filter(|row| row.record == *record);
        named.extend(of_record.clone().map(|row| row.change).take(1));
        named.push(ChangeId([0xee; 32]));
        expected.extend(of_record.filter(|row| row.head || row.full || named.contains(&row.change)).copied());
    }
    let asked = Question { differences, ..scribe.question() };
    assert_eq!(house.bearings(vec![asked]).await.unwrap().remove(0).unwrap().live, expected);
}
