//! What does not come in, and that it leaves no trace.

use super::rule;
use crate::store::NewAudit;
use crate::sync::Refusal;
use crate::sync::pull::Wanted;
use crate::testing::writer::{Writer, push, record, wrap};
use crate::testing::{House, SOMEWHERE};
use selkie_protocol::log::{self, Frame, Kind, Role, SignedHead};

on_both! {
    a_conflict_names_what_to_write_on_top_of_and_nothing_of_the_push_lands,
    who_missed_a_change_of_members_or_keys_signs_again,
    a_viewer_reads_and_a_stranger_does_not_even_learn_that_there_is_a_vault,
    who_was_removed_reads_how_it_came_to_that_and_no_further,
    an_entry_is_whole_and_comes_from_its_author,
    what_does_not_come_in_takes_no_space,
}

async fn a_conflict_names_what_to_write_on_top_of_and_nothing_of_the_push_lands(house: House) {
    let logs = &house.app.logs;
    let mut ana = house.person("ana@example.org").await;
    let mut first = Writer::create(&house, &ana).await;
    let mut second = first.devices(&house, &mut ana, 1).await.pop().unwrap();
    first.publish(logs, first.write(&[(record(1), "first")])).await;
    let refused = second.push(logs, second.write(&[(record(2), "new"), (record(1), "second")])).await.unwrap_err();
    let log::Refusal::Conflict(conflicts) = rule(refused) else { panic!("a conflict") };
    let heads = first.log.live().record(&record(1)).unwrap().heads();
    assert_eq!(conflicts, [log::Conflict { record: record(1), heads }]);
    second.pull(logs).await;
    assert_eq!(second.log.live().record(&record(2)), None);
    second.publish(logs, second.write(&[(record(2), "new"), (record(1), "merged")])).await;
}

async fn who_missed_a_change_of_members_or_keys_signs_again(house: House) {
    let logs = &house.app.logs;
    let mut ana = house.person("ana@example.org").await;
    let bob = house.person("bob@example.org").await;
    let mut first = Writer::create(&house, &ana).await;
    let mut second = first.devices(&house, &mut ana, 1).await.pop().unwrap();
    first.people.insert(bob.user(), bob.log.clone());
    second.people.clone_from(&first.people);
    let early = second.write(&[(record(1), "early")]);
    first.publish(logs, first.add(&bob, Role::Viewer)).await;
    assert_eq!(rule(second.push(logs, early).await.unwrap_err()), log::Refusal::StaleControl);
    second.pull(logs).await;
    let mut header = second.header();
    first.publish(logs, first.remove(&[])).await;
    // Somebody who learned of the change, but not of the key.
    header.control = first.log.core().control();
    let stale = crate::testing::writer::sign(&second.device, &header, Kind::Heartbeat, &[]);
    let refused = second.push(logs, push(Frame::write(&stale, &[]))).await.unwrap_err();
    assert_eq!(rule(refused), log::Refusal::StaleEpoch { current: 2, found: 1 });
}

async fn a_viewer_reads_and_a_stranger_does_not_even_learn_that_there_is_a_vault(house: House) {
    let logs = &house.app.logs;
    let (ana, bob) = (house.person("ana@example.org").await, house.person("bob@example.org").await);
    let mut at_ana = Writer::create(&house, &ana).await;
    at_ana.people.insert(bob.user(), bob.log.clone());
    let vid = at_ana.vault();
    let stranger = house.caller(&bob).await;
    let not_found = |refusal: Refusal| matches!(refusal, Refusal::NotFound("vault"));
    assert!(not_found(logs.pull(&stranger, SOMEWHERE, vid, Wanted::default()).await.unwrap_err()));
    assert!(not_found(logs.head(&stranger, vid).await.unwrap_err()));
    assert!(not_found(logs.wraps(&stranger, vid).await.unwrap_err()));
    assert!(not_found(logs.controls(&stranger, vid, 0).await.unwrap_err()));
    assert!(not_found(logs.beginning(&stranger, vid).await.unwrap_err()));
    assert!(not_found(logs.checkpoint_page(&stranger, vid, 1, 0, 0, true).await.unwrap_err()));
    let mut intruder = Writer { caller: stranger.clone(), user: bob.user(), ..Writer::create(&house, &ana).await };
    intruder.device = selkie_protocol::cipher::DeviceKey::from_seed(&bob.device.seed());
    let refused = intruder.push(logs, intruder.write(&[(record(1), "x")])).await.unwrap_err();
    assert_eq!(rule(refused), log::Refusal::NotAMember);

    let add = at_ana.add(&bob, Role::Viewer);
    let with_key = selkie_protocol::vault::Push { wraps: vec![wrap(bob.user(), 1)], ..add };
    at_ana.publish(logs, with_key).await;
    let at_bob = at_ana.join(&house, &bob, &[&ana, &bob]).await;
    assert_eq!(logs.wraps(&at_bob.caller, vid).await.unwrap().wraps, [wrap(bob.user(), 1)]);
    let refused = at_bob.push(logs, at_bob.write(&[(record(1), "x")])).await.unwrap_err();
    assert_eq!(rule(refused), log::Refusal::NotAllowed(log::Denied::Role));
}

/// What somebody was told is enough to see that it was no whim of the server, and nothing more.
async fn who_was_removed_reads_how_it_came_to_that_and_no_further(house: House) {
    let logs = &house.app.logs;
    let (ana, bob) = (house.person("ana@example.org").await, house.person("bob@example.org").await);
    let mut at_ana = Writer::create(&house, &ana).await;
    at_ana.people.insert(bob.user(), bob.log.clone());
    let vid = at_ana.vault();
    let add = at_ana.add(&bob, Role::Editor);
    let with_key = selkie_protocol::vault::Push { wraps: vec![wrap(bob.user(), 1)], ..add };
    at_ana.publish(logs, with_key).await;
    at_ana.publish(logs, at_ana.write(&[(record(1), "theirs to read")])).await;
    let at_bob = at_ana.join(&house, &bob, &[&ana, &bob]).await;
    let bobs = &at_bob.caller;
    let end = at_ana.publish(logs, at_ana.remove(&[bob.user()])).await;
    let when = house.app.edges.now_ms();
    house.clock.pass(60_000);
    at_ana.publish(logs, at_ana.write(&[(record(1), "none of Bob's business")])).await;

    let whole = logs.pull(bobs, SOMEWHERE, vid, Wanted { live_only: true, ..Wanted::default() }).await.unwrap();
    assert_eq!(whole.frames.len() as u64, end);
    for head in [whole.head, logs.head(bobs, vid).await.unwrap().head] {
        let said = SignedHead::parse(head.as_ref()).unwrap();
        assert!(said.is_signed_by(&house.app.rooms(false).head_key.public()));
        assert_eq!((said.head.n, said.unix_ms), (end, when.unsigned_abs()), "where it stood, and when");
    }
    let page = async |after, entries| {
        let wanted = Wanted { after, max_entries: Some(entries), ..Wanted::default() };
        logs.pull(bobs, SOMEWHERE, vid, wanted).await.unwrap().frames
    };
    assert_eq!(
        (page(1, 1).await, page(end - 1, 9).await),
        (whole.frames[1..2].to_vec(), whole.frames[end as usize - 1..].to_vec())
    );
    assert_eq!((page(end, 9).await, page(u64::MAX, 9).await), (Vec::new(), Vec::new()));
    let controls = logs.controls(bobs, vid, 0).await.unwrap();
    assert_eq!((controls.entries.last().unwrap().n, controls.more), (end, false));
    assert_eq!(logs.wraps(bobs, vid).await.unwrap().wraps, [wrap(bob.user(), 1)]);

    let not_found = |refusal: Refusal| assert!(matches!(refusal, Refusal::NotFound("vault")), "{refusal:?}");
    not_found(logs.beginning(bobs, vid).await.unwrap_err());
    let wraps = selkie_protocol::vault::Wraps { wraps: vec![wrap(bob.user(), 1)] };
    not_found(logs.add_wraps(bobs, SOMEWHERE, vid, wraps).await.unwrap_err());
    let refused = at_bob.push(logs, at_bob.write(&[(record(1), "x")])).await.unwrap_err();
    assert_eq!(rule(refused), log::Refusal::NotAMember);
    assert_eq!(logs.poll(bobs, SOMEWHERE, None).await.unwrap().vaults.unwrap(), []);

    // Let in again, all of it is theirs to read, and where it ended once is forgotten.
    at_ana.publish(logs, at_ana.add(&bob, Role::Viewer)).await;
    assert_eq!(logs.pull(bobs, SOMEWHERE, vid, Wanted::default()).await.unwrap().frames.len() as u64, end + 2);
    let head = logs.head(bobs, vid).await.unwrap().head;
    assert_eq!(SignedHead::parse(head.as_ref()).unwrap().head.n, end + 2);
}

async fn an_entry_is_whole_and_comes_from_its_author(house: House) {
    let logs = &house.app.logs;
    let mut ana = house.person("ana@example.org").await;
    let mut writer = Writer::create(&house, &ana).await;
    let other = writer.devices(&house, &mut ana, 1).await.pop().unwrap();
    let whole = writer.write(&[(record(1), "one"), (record(2), "two")]);
    let half = Frame::parse(&whole.frame).unwrap().keeping(|index| index == 0);
    assert!(matches!(writer.push(logs, push(half)).await, Err(Refusal::Invalid { field: "frame", .. })));
    let foreign = logs.push(&other.caller, SOMEWHERE, writer.vault(), whole.clone()).await;
    assert!(matches!(foreign, Err(Refusal::Forbidden(_))));
    let mut bent = whole.frame.clone();
    *bent.0.last_mut().unwrap() ^= 1;
    let refused = writer.push(logs, push(bent.0)).await.unwrap_err();
    assert_eq!(rule(refused), log::Refusal::WrongPayload { index: 1 });
    let mut forged = whole.frame.clone();
    let end = 4 + Frame::entry_bytes(&forged).unwrap().len();
    forged.0[end - 1] ^= 1;
    assert_eq!(rule(writer.push(logs, push(forged.0)).await.unwrap_err()), log::Refusal::Forged);
    let strangers_key = selkie_protocol::vault::Push { wraps: vec![wrap(ana.user(), 1)], ..whole.clone() };
    assert!(matches!(writer.push(logs, strangers_key).await, Err(Refusal::Invalid { field: "wraps", .. })));
    assert_eq!(writer.push(logs, whole).await.unwrap().n, 3);
}

async fn what_does_not_come_in_takes_no_space(house: House) {
    let logs = &house.app.logs;
    let mut ana = house.person("ana@example.org").await;
    let tenant = house.caller(&ana).await.tenant();
    let audit = NewAudit { at: 1, action: "plan_changed", device: None, detail: None };
    house.app.store.set_tenant_plan(tenant, "free", audit).await.unwrap();
    let mut first = Writer::create(&house, &ana).await;
    let second = first.devices(&house, &mut ana, 1).await.pop().unwrap();
    let stands = first.write(&[(record(1), "first")]);
    first.publish(logs, stands.clone()).await;
    let next = first.write(&[(record(2), "next")]);
    // As if others had left room for two such pushes.
    let (spaces, store) = (&logs.room.spaces, &*house.app.store);
    let (taken, allowed) = store.space(tenant).await.unwrap();
    let rest = allowed.unwrap() - taken - 2 * next.frame.len() as u64;
    let _others = spaces.take(store, tenant, rest, house.app.edges.now_ms()).await.unwrap();
    for _ in 0..5 {
        assert_eq!(first.push(logs, stands.clone()).await.unwrap().n, 3, "repeated");
        let refused = second.push(logs, second.write(&[(record(1), "second")])).await.unwrap_err();
        assert!(matches!(rule(refused), log::Refusal::StaleControl | log::Refusal::Conflict(_)));
    }
    first.publish(logs, next).await;
    let last = first.write(&[(record(3), "last")]);
    let n = first.publish(logs, last.clone()).await;
    let over = first.push(logs, first.write(&[(record(4), "over")])).await.unwrap_err();
    assert!(matches!(over, Refusal::QuotaExceeded), "what came in is counted: {over:?}");
    for (push, n) in [(last, n), (stands, 3)] {
        assert_eq!(first.push(logs, push).await.unwrap().n, n, "what is there is told, however full it is");
    }
}
