//! Checkpoints, and who begins from one.

use super::rule;
use crate::testing::House;
use crate::testing::writer::{Writer, entry, record};
use selkie_protocol::log::{self, Bootstrap, Entry, Frame, Head, PageItem, Role, Trust, VaultLog};

on_both! {
    a_new_device_begins_from_a_checkpoint_and_ends_where_the_others_are,
    a_false_checkpoint_does_not_come_in,
    what_a_checkpoint_forgets_is_gone_and_its_pages_do_not_have_it,
}

/// Comes in new by the newest checkpoint, as a client does, and reads on.
async fn begin(house: &House, writer: &Writer) -> (VaultLog, Trust) {
    let (logs, vid, me) = (&house.app.logs, writer.vault(), &writer.caller);
    let beginning = logs.beginning(me, vid).await.unwrap();
    let controls = logs.controls(me, vid, 0).await.unwrap();
    assert!(!controls.more);
    let before: Vec<_> = controls.entries.iter().filter(|placed| placed.n < beginning.n).collect();
    let (mut bootstrap, _) = Bootstrap::create(&Entry::parse(&before[0].entry).unwrap(), &writer.people).unwrap();
    for placed in &before[1..] {
        bootstrap.control(&Entry::parse(&placed.entry).unwrap(), &writer.people).unwrap();
    }
    let evidence: Vec<Entry<'_>> = beginning.evidence.iter().map(|bytes| Entry::parse(bytes).unwrap()).collect();
    let entry = Entry::parse(&beginning.entry).unwrap();
    let at = Head { n: beginning.before_n, h: *beginning.before_h };
    let (hashes, _) = beginning.entry_hashes.as_chunks::<32>();
    let mut arriving = bootstrap.checkpoint(&entry, &writer.user, &evidence, at, hashes, &writer.people).unwrap();
    let (pages, _) = beginning.page_hashes.as_chunks::<32>();
    arriving.page_hashes(pages).unwrap();
    for page in 0..pages.len() as u64 {
        let mut items = Vec::new();
        loop {
            let part = logs.checkpoint_page(me, vid, beginning.n, page, items.len() as u64, true).await.unwrap();
            for (item, payload) in part.items.iter().zip(&part.payloads) {
                assert!(PageItem::parse(item).unwrap().change.is_payload(payload));
            }
            items.extend(part.items);
            if !part.more {
                break;
            }
        }
        let bare = logs.checkpoint_page(me, vid, beginning.n, page, 0, false).await.unwrap();
        assert_eq!((&bare.items, bare.payloads.len(), bare.more), (&items, 0, false), "all of the page at once");
        let items: Vec<PageItem<'_>> = items.iter().map(|item| PageItem::parse(item).unwrap()).collect();
        arriving.page(&items).unwrap();
    }
    let trust = arriving.trust();
    (arriving.finish().unwrap(), trust)
}

async fn a_new_device_begins_from_a_checkpoint_and_ends_where_the_others_are(house: House) {
    let logs = &house.app.logs;
    let (ana, bob) = (house.person("ana@example.org").await, house.person("bob@example.org").await);
    let mut at_ana = Writer::create(&house, &ana).await;
    at_ana.people.insert(bob.user(), bob.log.clone());
    at_ana.publish(logs, at_ana.add(&bob, Role::Editor)).await;
    for first in 0..6 {
        let records: Vec<_> = (0..250).map(|number| (record(first * 250 + number), "text")).collect();
        at_ana.publish(logs, at_ana.write(&records)).await;
    }
    at_ana.publish(logs, at_ana.write(&[(record(3), "newer"), (record(1_400), "gone")])).await;
    let n = at_ana.publish(logs, at_ana.checkpoint(&[])).await;
    assert_eq!(
        logs.beginning(&at_ana.caller, at_ana.vault()).await.map(|_| ()).unwrap_err().to_string(),
        "no such checkpoint"
    );
    assert_eq!(logs.prepare_checkpoints().await.unwrap(), 1);
    assert_eq!(logs.prepare_checkpoints().await.unwrap(), 0);
    at_ana.publish(logs, at_ana.write(&[(record(4), "after")])).await;

    let mut at_bob = at_ana.join(&house, &bob, &[&ana, &bob]).await;
    assert_eq!(begin(&house, &at_bob).await.1, Trust::Unconfirmed);
    at_bob.checkpoint_ok = n;
    at_bob.publish(logs, at_bob.write(&[(record(2_000), "seen")])).await;
    at_ana.pull(logs).await;
    let (log, trust) = begin(&house, &at_ana).await;
    assert_eq!(trust, Trust::Own);
    assert_eq!(log.head().n, n - 1);
    let mut anew = Writer { log, ..at_ana.join(&house, &ana, &[&ana, &bob]).await };
    anew.pull(logs).await;
    assert_eq!(anew.log.head(), at_ana.log.head());
    assert_eq!(anew.log.live().leaves().collect::<Vec<_>>(), at_ana.log.live().leaves().collect::<Vec<_>>());
}

async fn a_false_checkpoint_does_not_come_in(house: House) {
    let logs = &house.app.logs;
    let ana = house.person("ana@example.org").await;
    let mut writer = Writer::create(&house, &ana).await;
    writer.publish(logs, writer.write(&[(record(1), "one"), (record(2), "two")])).await;
    let mut liar = Writer::create(&house, &ana).await;
    liar.log = writer.log.clone();
    let true_push = writer.checkpoint(&[]);
    let log::Body::Checkpoint(truth) = entry(&true_push.frame).body else { panic!("CHECKPOINT") };
    let root = log::Root { live: truth.root.live, pages: [6; 32] };
    let body = log::Checkpoint::write(truth.at, &root, None, truth.devices.iter()).unwrap();
    let lie = crate::testing::writer::push(Frame::write(&writer.entry(log::Kind::Checkpoint, &body), &[]));
    let refused = writer.push(logs, lie).await.unwrap_err();
    assert_eq!(rule(refused), log::Refusal::FalseCheckpoint("other changes are live"));
    let told = writer.push(logs, true_push.clone()).await.unwrap();
    assert_eq!(told.n, 3);
    assert_eq!(writer.push(logs, true_push).await.unwrap().n, 3);
}

async fn what_a_checkpoint_forgets_is_gone_and_its_pages_do_not_have_it(house: House) {
    let logs = &house.app.logs;
    let ana = house.person("ana@example.org").await;
    let mut writer = Writer::create(&house, &ana).await;
    writer.publish(logs, writer.write(&[(record(1), "one"), (record(2), "deleted")])).await;
    let n = writer.publish(logs, writer.checkpoint(&[record(2)])).await;
    logs.prepare_checkpoints().await.unwrap();
    let page = logs.checkpoint_page(&writer.caller, writer.vault(), n, 0, 0, true).await.unwrap();
    let records: Vec<_> = page.items.iter().map(|item| PageItem::parse(item).unwrap().change.record).collect();
    assert_eq!((records, page.more), (vec![record(1)], false));
    // It begins anew, as any record does.
    writer.publish(logs, writer.write(&[(record(2), "again")])).await;
}
