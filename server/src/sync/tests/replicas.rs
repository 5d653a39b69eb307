//! Several servers on one database, and a server that was restored.

use super::{house, quiet, rule};
use crate::store::{NewAudit, cut_lines};
use crate::sync::{Hint, Listening, Refusal};
use crate::testing::writer::{Writer, record};
use crate::testing::{House, SOMEWHERE};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use selkie_protocol::Bytes;
use selkie_protocol::id::VaultId;
use selkie_protocol::log::{Frame, Role, SignedHead};
use selkie_protocol::session::{SignOut, SignOutScope};
use selkie_protocol::vault::{RestoreTail, SignedHeadBytes, VaultMoved};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Writers on two servers at once: every append names the head it was decided at, so whoever is second looks again.
#[tokio::test(flavor = "multi_thread")]
async fn two_servers_write_in_one_vault_and_no_number_is_missing() {
    let house = House::on_postgres(quiet).await;
    let beside = house.beside().await;
    let mut ana = house.person("ana@example.org").await;
    let mut reader = Writer::create(&house, &ana).await;
    let devices = reader.devices(&house, &mut ana, 12).await;
    let before = reader.log.head().n;
    let writing = devices.into_iter().enumerate().map(|(number, mut device)| {
        let logs = if number % 2 == 0 { house.app.logs.clone() } else { beside.app.logs.clone() };
        let others = if number % 2 == 0 { beside.app.logs.clone() } else { house.app.logs.clone() };
        tokio::spawn(async move {
            let mut places = Vec::new();
            for _ in 0..8 {
                let own = record(u16::try_from(number).unwrap());
                let n = device.publish(&logs, device.write(&[(own, "mine")])).await;
                let polled = others.poll(&device.caller, SOMEWHERE, None).await.unwrap().vaults.unwrap();
                assert!(polled[0].n >= n, "the other server knows of it, too");
                places.push(n);
            }
            places
        })
    });
    let places: BTreeSet<u64> = join_all(writing).await.into_iter().flat_map(Result::unwrap).collect();
    assert_eq!(places, (before + 1..=before + 12 * 8).collect());
    reader.pull(&house.app.logs).await;
}

/// Memory is warmed before every push: it must not outlive it, whether or not a hint comes.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_new_is_never_said_when_the_other_server_has_acknowledged_something() {
    let house = House::on_postgres(quiet).await;
    let beside = house.beside().await;
    let ana = house.person("ana@example.org").await;
    let mut writer = Writer::create(&house, &ana).await;
    let token = ana.tokens().access_token.as_str().to_owned();
    let over = Arc::new(AtomicBool::new(false));
    for line_is_cut in [false, true] {
        let cutting = line_is_cut.then(|| tokio::spawn(cut_lines(house.database_url(), over.clone())));
        for _ in 0..40 {
            let there = &beside.app.logs;
            let known = there.poll(&beside.auth().authenticate(&token).await.unwrap(), SOMEWHERE, None).await.unwrap();
            let state = Some(known.state);
            for _ in 0..2 {
                let caller = beside.auth().authenticate(&token).await.unwrap();
                let polled = there.poll_as_of(&caller, SOMEWHERE, state, caller.as_of()).await.unwrap();
                assert_eq!(polled.vaults, None);
            }
            let n = writer.publish(&house.app.logs, writer.write(&[(record(1), "new")])).await;
            let caller = beside.auth().authenticate(&token).await.unwrap();
            for as_of in [caller.as_of(), None] {
                let polled = there.poll_as_of(&caller, SOMEWHERE, state, as_of).await.unwrap();
                assert_eq!(polled.vaults.expect("something is new")[0].n, n);
            }
        }
        over.store(line_is_cut, Ordering::SeqCst);
        if let Some(cutting) = cutting {
            assert_ne!(cutting.await.unwrap(), 0, "nothing was cut");
        }
    }
}

/// Whoever was shown out at one server is not let in at the other, however warm its memory is.
#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_at_one_server_is_over_at_the_other() {
    let house = House::on_postgres(quiet).await;
    let beside = house.beside().await;
    let mut ana = house.person("ana@example.org").await;
    for _ in 0..10 {
        let token = ana.tokens().access_token.as_str().to_owned();
        for _ in 0..3 {
            beside.auth().authenticate(&token).await.unwrap();
        }
        let request = SignOut { which: SignOutScope::This };
        house.auth().sign_out(&house.caller(&ana).await, request).await.unwrap();
        let refused = beside.auth().authenticate(&token).await.unwrap_err();
        assert!(matches!(refused, crate::auth::Refusal::SessionEnded), "{refused:?}");
        ana.sign_in(&house).await;
    }
    let token = ana.tokens().access_token.as_str().to_owned();
    let caller = beside.auth().authenticate(&token).await.unwrap();
    let audit = NewAudit { at: 1, action: "suspended", device: None, detail: None };
    house.app.store.set_account_suspended(caller.tenant(), caller.account(), true, audit).await.unwrap();
    let refused = beside.auth().authenticate(&token).await.unwrap_err();
    assert!(matches!(refused, crate::auth::Refusal::AccountSuspended), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_at_one_server_is_told_of_a_push_at_the_other() {
    let house = House::on_postgres(quiet).await;
    let beside = house.beside().await;
    let ana = house.person("ana@example.org").await;
    let mut writer = Writer::create(&house, &ana).await;
    let vid = writer.vault();
    let mut there = beside.app.logs.listen(&beside.caller(&ana).await, SOMEWHERE).await.unwrap();
    // The lines come up some time after their servers: until then a push is not told, and the next one is.
    loop {
        let n = writer.publish(&house.app.logs, writer.write(&[(record(1), "new")])).await;
        match tokio::time::timeout(Duration::from_secs(1), hint_of(&mut there, vid, n)).await {
            Ok(()) => break,
            Err(_) => continue,
        }
    }
    let n = writer.publish(&house.app.logs, writer.write(&[(record(1), "newer")])).await;
    tokio::time::timeout(Duration::from_secs(20), hint_of(&mut there, vid, n)).await.expect("in time");
}

async fn hint_of(listening: &mut Listening, vid: VaultId, n: u64) {
    while listening.next().await.expect("it goes on") != Hint::Moved(VaultMoved { vid, n }) {}
}

/// Neither where the vault is, nor how often it moves.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_removed_at_one_server_is_told_nothing_more_at_the_other() {
    let house = House::on_postgres(quiet).await;
    let beside = house.beside().await;
    let (ana, bob) = (house.person("ana@example.org").await, house.person("bob@example.org").await);
    let mut at_ana = Writer::create(&house, &ana).await;
    at_ana.people.insert(bob.user(), bob.log.clone());
    let (vid, there) = (at_ana.vault(), &beside.app.logs);
    at_ana.publish(&house.app.logs, at_ana.add(&bob, Role::Editor)).await;
    let anas = beside.caller(&ana).await;
    let mut to_ana = there.listen(&anas, SOMEWHERE).await.unwrap();
    let mut to_bob = there.listen(&beside.caller(&bob).await, SOMEWHERE).await.unwrap();
    loop {
        let n = at_ana.publish(&house.app.logs, at_ana.write(&[(record(1), "new")])).await;
        if tokio::time::timeout(Duration::from_secs(1), hint_of(&mut to_bob, vid, n)).await.is_ok() {
            break;
        }
    }
    at_ana.publish(&house.app.logs, at_ana.remove(&[bob.user()])).await;
    let look = async |listening: &mut Listening| while listening.next().await.expect("it goes on") != Hint::Resync {};
    for listening in [&mut to_ana, &mut to_bob] {
        tokio::time::timeout(Duration::from_secs(20), look(listening)).await.expect("in time");
    }
    there.look_again(&anas, &to_ana, None).await.unwrap();
    for _ in 0..2 {
        let n = at_ana.publish(&house.app.logs, at_ana.write(&[(record(1), "none of Bob's business")])).await;
        tokio::time::timeout(Duration::from_secs(20), hint_of(&mut to_ana, vid, n)).await.expect("in time");
    }
    assert_eq!(to_bob.next().now_or_never(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_or_leaves_at_one_server_is_known_at_the_other() {
    let house = House::on_postgres(quiet).await;
    let beside = house.beside().await;
    let (ana, bob) = (house.person("ana@example.org").await, house.person("bob@example.org").await);
    let mut at_ana = Writer::create(&house, &ana).await;
    at_ana.people.insert(bob.user(), bob.log.clone());
    let caller = beside.caller(&bob).await;
    let there = &beside.app.logs;
    assert!(matches!(there.head(&caller, at_ana.vault()).await, Err(Refusal::NotFound(_))));
    at_ana.publish(&house.app.logs, at_ana.add(&bob, Role::Editor)).await;
    assert_eq!(there.poll(&caller, SOMEWHERE, None).await.unwrap().vaults.unwrap().len(), 1);
    let mut at_bob = at_ana.join(&beside, &bob, &[&ana, &bob]).await;
    at_bob.publish(there, at_bob.write(&[(record(1), "x")])).await;
    at_ana.pull(&house.app.logs).await;
    let end = at_ana.publish(&house.app.logs, at_ana.remove(&[bob.user()])).await;
    at_ana.publish(&house.app.logs, at_ana.write(&[(record(1), "y")])).await;
    let wanted = crate::sync::pull::Wanted::default();
    let shown = there.pull(&caller, SOMEWHERE, at_ana.vault(), wanted).await.unwrap();
    assert_eq!(shown.frames.len() as u64, end, "how it came to that, and nothing after it");
    assert_eq!(there.poll(&caller, SOMEWHERE, None).await.unwrap().vaults.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_dated_before_the_life_of_the_server_that_says_it() {
    let house = House::open().await;
    let (ana, bob) = (house.person("ana@example.org").await, house.person("bob@example.org").await);
    let mut at_ana = Writer::create(&house, &ana).await;
    at_ana.people.insert(bob.user(), bob.log.clone());
    at_ana.publish(&house.app.logs, at_ana.add(&bob, Role::Editor)).await;
    at_ana.publish(&house.app.logs, at_ana.remove(&[bob.user()])).await;
    house.clock.pass(60_000);
    let restored = house.restored().await;
    let head = restored.app.logs.head(&restored.caller(&bob).await, at_ana.vault()).await.unwrap().head;
    assert_eq!(SignedHead::parse(head.as_ref()).unwrap().unix_ms, house.app.edges.now_ms().unsigned_abs());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_hears_of_a_vault_that_was_made_while_it_listens() {
    let house = House::on_postgres(quiet).await;
    let ana = house.person("ana@example.org").await;
    let caller = house.caller(&ana).await;
    let mut here = house.app.logs.listen(&caller, SOMEWHERE).await.unwrap();
    let next = async |listening: &mut Listening| {
        tokio::time::timeout(Duration::from_secs(20), listening.next()).await.expect("something is said")
    };
    assert_eq!(next(&mut here).await, Some(Hint::Resync));
    let mut writer = Writer::create(&house, &ana).await;
    let vid = writer.vault();
    assert_eq!(next(&mut here).await, Some(Hint::Moved(VaultMoved { vid, n: 1 })));
    writer.publish(&house.app.logs, writer.write(&[(record(1), "a")])).await;
    assert_eq!(next(&mut here).await, Some(Hint::Moved(VaultMoved { vid, n: 2 })));
}

async fn frames(logs: &crate::sync::Logs, writer: &Writer, after: u64) -> (Vec<Bytes>, SignedHeadBytes) {
    let wanted = crate::sync::pull::Wanted { after, ..Default::default() };
    let page = logs.pull(&writer.caller, SOMEWHERE, writer.vault(), wanted).await.unwrap();
    (page.frames, page.head)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_server_takes_back_what_it_acknowledged_and_nothing_else() {
    let house = house().await;
    let (ana, bob) = (house.person("ana@example.org").await, house.person("bob@example.org").await);
    let mut at_ana = Writer::create(&house, &ana).await;
    at_ana.people.insert(bob.user(), bob.log.clone());
    at_ana.publish(&house.app.logs, at_ana.write(&[(record(1), "before")])).await;
    let restored = house.restored().await;
    let there = &restored.app.logs;

    let logs = &house.app.logs;
    at_ana.publish(logs, at_ana.add(&bob, Role::Editor)).await;
    let mut at_bob = at_ana.join(&house, &bob, &[&ana, &bob]).await;
    at_bob.publish(logs, at_bob.write(&[(record(1), "by bob"), (record(2), "new")])).await;
    at_ana.pull(logs).await;
    at_ana.publish(logs, at_ana.write(&[(record(2), "newer")])).await;
    let (tail, head) = frames(logs, &at_ana, 2).await;
    assert_eq!(tail.len(), 3);

    let (ahead, said) = frames(there, &at_ana, 5).await;
    let said = SignedHead::parse(said.as_ref()).unwrap();
    assert_eq!((ahead.len(), said.head.n), (0, 2), "it says that it is behind");
    assert_ne!(said.incarnation, SignedHead::parse(head.as_ref()).unwrap().incarnation);

    let vid = at_ana.vault();
    let offer = |frames: &[Bytes], head| {
        let request = RestoreTail { frames: frames.to_vec(), rest: None, head };
        there.restore_tail(&at_ana.caller, vid, request)
    };
    let refused = |outcome: Result<_, Refusal>| matches!(outcome, Err(Refusal::RestoreRefused(_)));
    assert!(refused(offer(&tail[1..], head).await.map(drop)), "a gap");
    assert!(refused(offer(&tail[..2], head).await.map(drop)), "not up to the head that was signed");
    let mut bent = head;
    bent.0[60] ^= 1;
    assert!(refused(offer(&tail, bent).await.map(drop)), "not signed");
    let mut other = tail.clone();
    other[1] = Bytes(Frame::parse(&tail[1]).unwrap().keeping(|index| index == 1));
    assert!(refused(offer(&other, head).await.map(drop)), "without the payload of a live change");
    let own = at_ana.write(&[(record(9), "never acknowledged")]);
    let mut longer = tail.clone();
    longer.push(own.frame);
    assert!(refused(offer(&longer, head).await.map(drop)), "more than was acknowledged");
    let stranger = restored.person("eve@example.org").await;
    let stranger = restored.caller(&stranger).await;
    let request = RestoreTail { frames: tail.clone(), rest: None, head };
    assert!(matches!(there.restore_tail(&stranger, vid, request).await, Err(Refusal::NotFound("vault"))));

    // In two parts: the first says by hashes what follows.
    let hash = |frame: &Bytes| Frame::parse(frame).unwrap().entry.hash();
    let part = |frames: &[Bytes], after: &[[u8; 32]]| {
        let request = RestoreTail { frames: frames.to_vec(), rest: Some(after.concat().into()), head };
        there.restore_tail(&at_ana.caller, vid, request)
    };
    let after: Vec<[u8; 32]> = tail[1..].iter().map(hash).collect();
    let swapped: Vec<[u8; 32]> = after.iter().rev().copied().collect();
    assert!(refused(part(&tail[..1], &swapped).await.map(drop)), "other entries follow");
    assert!(refused(part(&tail[..1], &after[..1]).await.map(drop)), "the head is further on");
    assert!(matches!(part(&tail[..1], &[[1; 32]; 70_000]).await, Err(Refusal::Invalid { .. })), "too many");
    let first = part(&tail[..1], &after).await.unwrap();
    assert_eq!(SignedHead::parse(first.head.as_ref()).unwrap().head.n, 3, "so far");

    let (one, two) = tokio::join!(offer(&tail, head), offer(&tail, head));
    for answer in [one, two] {
        assert_eq!(SignedHead::parse(answer.unwrap().head.as_ref()).unwrap().head, at_ana.log.head());
    }
    offer(&tail, head).await.unwrap();
    let (back, _) = frames(there, &at_ana, 2).await;
    assert_eq!(back, tail, "byte for byte");
    at_ana.publish(there, at_ana.write(&[(record(2), "life goes on")])).await;
    let stale = at_bob.write(&[(record(2), "mine")]);
    at_bob.caller = restored.caller(&bob).await;
    assert!(matches!(rule(at_bob.push(there, stale).await.unwrap_err()), selkie_protocol::log::Refusal::Conflict(_)));
}
