//! The room from outside: what members can do, what they are refused, and what a crowd does to each other.

/// Makes two tests of every story: one on SQLite, where a server is alone, one on PostgreSQL, where it may not be.
macro_rules! on_both {
    ($($story:ident,)*) => {
        mod on_sqlite {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $story() {
                super::$story(crate::sync::tests::house().await).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $story() {
                let house = crate::testing::House::on_postgres(crate::sync::tests::quiet).await;
                super::$story(house).await;
            })*
        }
    };
}

mod beginning;
mod crowd;
mod records;
mod refusals;
mod replicas;

use super::Refusal;
use crate::config::Config;
use crate::testing::House;
use crate::testing::writer::{Writer, record};
use selkie_protocol::log;
use selkie_protocol::log::SignedHead;

/// A house in which nobody is told to slow down.
async fn house() -> House {
    House::open_with(quiet).await
}

fn quiet(config: &mut Config) {
    let off = || "off".parse().unwrap();
    let limits = &mut config.limits;
    (limits.push_per_account, limits.pull_per_account, limits.poll_per_account) = (off(), off(), off());
    limits.checkpoint_per_account = off();
}

fn rule(refusal: Refusal) -> log::Refusal {
    match refusal {
        Refusal::Rule(rule) => rule,
        other => panic!("not a rule of the log: {other:?}"),
    }
}

on_both! {
    two_people_push_and_pull_and_hold_the_same_log,
    the_same_bytes_again_are_answered_as_the_first_time,
}

async fn two_people_push_and_pull_and_hold_the_same_log(house: House) {
    let logs = &house.app.logs;
    let (ana, bob) = (house.person("ana@example.org").await, house.person("bob@example.org").await);
    let mut at_ana = Writer::create(&house, &ana).await;
    at_ana.people.insert(bob.user(), bob.log.clone());
    at_ana.publish(logs, at_ana.write(&[(record(1), "a"), (record(2), "b")])).await;
    at_ana.publish(logs, at_ana.add(&bob, log::Role::Editor)).await;
    let mut at_bob = at_ana.join(&house, &bob, &[&ana, &bob]).await;
    assert_eq!(at_bob.log.head(), at_ana.log.head());

    let n = at_bob.publish(logs, at_bob.write(&[(record(2), "bob"), (record(3), "c")])).await;
    assert_eq!(n, 4);
    at_ana.pull(logs).await;
    assert_eq!(at_ana.log, at_bob.log);
    let head = logs.head(&at_ana.caller, at_ana.vault()).await.unwrap().head;
    let head = SignedHead::parse(head.as_ref()).unwrap();
    assert_eq!((head.head, head.vault), (at_ana.log.head(), at_ana.vault()));
    assert!(head.is_signed_by(&house.app.rooms(false).head_key.public()));
}

async fn the_same_bytes_again_are_answered_as_the_first_time(house: House) {
    let logs = &house.app.logs;
    let ana = house.person("ana@example.org").await;
    let mut writer = Writer::create(&house, &ana).await;
    let first = writer.write(&[(record(1), "one")]);
    for _ in 0..3 {
        assert_eq!(writer.push(logs, first.clone()).await.unwrap().n, 2);
    }
    writer.pull(logs).await;
    let other = writer.write(&[(record(2), "two")]);
    assert_eq!(writer.publish(logs, other).await, 3);
    assert_eq!(writer.push(logs, first.clone()).await.unwrap().n, 2, "long before its last one, too");

    let (one, two) = tokio::join!(
        writer.push(logs, writer.write(&[(record(3), "x")])),
        writer.push(logs, writer.write(&[(record(3), "x")]))
    );
    assert_eq!((one.unwrap().n, two.unwrap().n), (4, 4), "both at once");
    let under_a_used_number = writer.write(&[(record(3), "y")]);
    let refused = writer.push(logs, under_a_used_number).await.unwrap_err();
    assert!(matches!(
        rule(refused),
        log::Refusal::DeviceSequence { expected: 4, found: 3 } | log::Refusal::DeviceSequence { .. }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vault_that_is_made_twice_is_one_vault() {
    use crate::testing::writer::{APP, create_frame};
    use selkie_protocol::Bytes;
    use selkie_protocol::vault::CreateVault;
    let house = house().await;
    let ana = house.person("ana@example.org").await;
    let writer = Writer::create(&house, &ana).await;
    let frame = create_frame(&ana, &ana.device, APP, *b"0123456789abcdef");
    let again = CreateVault { frame: Bytes(frame), wraps: Vec::new() };
    assert_eq!(house.app.logs.create(&writer.caller, again).await.unwrap().n, 1);
    let polled = house.app.logs.poll(&writer.caller, crate::testing::SOMEWHERE, None).await.unwrap();
    assert_eq!(polled.vaults.unwrap().len(), 1);
}
