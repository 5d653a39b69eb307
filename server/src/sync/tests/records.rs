//! What is live of some records, for whoever has the log and not what is in it.

use super::Refusal;
use crate::testing::House;
use crate::testing::writer::{Writer, record};
use selkie_protocol::id::RecordId;
use selkie_protocol::log::{PageItem, Role, SignedHead};
use selkie_protocol::vault::{LiveRecords, MAX_WANTED_RECORDS, WantedRecords};
use std::net::{IpAddr, Ipv4Addr};

on_both! {
    members_are_given_what_is_live_and_nobody_else_is,
    what_has_no_room_is_left_for_the_next_question,
}

async fn ask(house: &House, writer: &Writer, records: &[RecordId]) -> Result<LiveRecords, Refusal> {
    let wanted = WantedRecords { records: records.to_vec() };
    let from = IpAddr::V4(Ipv4Addr::LOCALHOST);
    house.app.logs.records(&writer.caller, from, writer.vault(), wanted).await
}

/// Each of them is live in the reader's own log, and its payload is the one that was written.
fn held_against(writer: &Writer, answer: &LiveRecords) -> Vec<RecordId> {
    assert_eq!(answer.items.len(), answer.payloads.len());
    let items = answer.items.iter().zip(&answer.payloads);
    items
        .map(|(item, payload)| {
            let item = PageItem::parse(item).unwrap();
            assert!(item.change.is_payload(payload));
            let leaf = item.leaf(&writer.vault());
            assert!(writer.log.live().leaves().any(|live| live == leaf), "not what is live: {leaf:?}");
            leaf.record
        })
        .collect()
}

async fn members_are_given_what_is_live_and_nobody_else_is(house: House) {
    let logs = &house.app.logs;
    let (ana, bob) = (house.person("ana@example.org").await, house.person("bob@example.org").await);
    let mut at_ana = Writer::create(&house, &ana).await;
    at_ana.people.insert(bob.user(), bob.log.clone());
    at_ana.publish(logs, at_ana.add(&bob, Role::Viewer)).await;
    at_ana.publish(logs, at_ana.write(&[(record(1), "one"), (record(2), "two"), (record(3), "three")])).await;
    at_ana.publish(logs, at_ana.write(&[(record(2), "two again")])).await;
    let at_bob = at_ana.join(&house, &bob, &[&ana, &bob]).await;
    let asked = [record(3), record(2), record(9), record(2)];
    for reader in [&at_ana, &at_bob] {
        let answer = ask(&house, reader, &asked).await.unwrap();
        let mut found = held_against(&at_ana, &answer);
        found.sort_unstable();
        assert_eq!((found, answer.left), (vec![record(2), record(3)], vec![]));
        assert_eq!(SignedHead::parse(answer.head.as_ref()).unwrap().head, at_ana.log.head());
    }
    let none = ask(&house, &at_ana, &[]).await.unwrap();
    assert_eq!((none.items.len(), none.left.len()), (0, 0));
    let too_many = vec![record(1); MAX_WANTED_RECORDS + 1];
    assert!(matches!(ask(&house, &at_ana, &too_many).await, Err(Refusal::Invalid { field: "records", .. })));

    // Who is removed has the log up to there, and is given nothing of what is live since.
    at_ana.publish(logs, at_ana.remove(&[bob.user()])).await;
    assert!(matches!(ask(&house, &at_bob, &asked).await, Err(Refusal::NotFound("vault"))));
}

async fn what_has_no_room_is_left_for_the_next_question(house: House) {
    let logs = &house.app.logs;
    let ana = house.person("ana@example.org").await;
    let mut writer = Writer::create(&house, &ana).await;
    let long = "x".repeat(200_000);
    let all: Vec<RecordId> = (0..40).map(record).collect();
    for some in all.chunks(4) {
        let records: Vec<_> = some.iter().map(|id| (*id, long.as_str())).collect();
        writer.publish(logs, writer.write(&records)).await;
    }
    let (mut wanted, mut found, mut answers) = (all.clone(), Vec::new(), 0);
    while !wanted.is_empty() {
        let answer = ask(&house, &writer, &wanted).await.unwrap();
        let some = held_against(&writer, &answer);
        assert!(!some.is_empty(), "something comes each time");
        found.extend(some);
        wanted = answer.left;
        answers += 1;
    }
    found.sort_unstable();
    assert!(found == all && answers == 2, "{answers} answers");
}
