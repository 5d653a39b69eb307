//! Many at once: no number is lost, none is given twice, and nobody who asks is told less than was true.

use super::rule;
use crate::auth::Caller;
use crate::store::Place;
use crate::sync::Logs;
use crate::testing::writer::{Writer, create_frame, record};
use crate::testing::{House, SOMEWHERE};
use futures_util::FutureExt as _;
use futures_util::future::join_all;
use selkie_protocol::log::{self, Frame};
use selkie_protocol::vault::{CreateVault, PollState};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

on_both! {
    sixty_four_devices_write_in_one_vault_and_no_number_is_missing,
    a_poll_that_begins_after_a_push_was_answered_knows_of_it,
    a_checkpoint_finds_its_place_among_those_who_write,
    who_leaves_while_a_checkpoint_is_written_does_not_take_the_news_of_it_along,
    who_leaves_while_a_vault_is_made_does_not_take_the_news_of_it_along,
}

const DEVICES: usize = 64;
const PUSHES: usize = 6;

async fn sixty_four_devices_write_in_one_vault_and_no_number_is_missing(house: House) {
    let mut ana = house.person("ana@example.org").await;
    let mut reader = Writer::create(&house, &ana).await;
    let devices = reader.devices(&house, &mut ana, DEVICES).await;
    let before = reader.log.head().n;
    let writing = devices.into_iter().enumerate().map(|(number, mut device)| {
        let logs = house.app.logs.clone();
        tokio::spawn(async move {
            let mut places = Vec::new();
            for _ in 0..PUSHES {
                let own = record(u16::try_from(number).unwrap());
                places.push(device.publish(&logs, device.write(&[(own, "mine")])).await);
            }
            places
        })
    });
    let places: Vec<u64> = join_all(writing).await.into_iter().flat_map(Result::unwrap).collect();
    let all = (DEVICES * PUSHES) as u64;
    let distinct: BTreeSet<u64> = places.into_iter().collect();
    assert_eq!(distinct, (before + 1..=before + all).collect());
    reader.pull(&house.app.logs).await;
    assert_eq!(reader.log.head().n, before + all);
}

async fn a_poll_that_begins_after_a_push_was_answered_knows_of_it(house: House) {
    let mut ana = house.person("ana@example.org").await;
    let mut first = Writer::create(&house, &ana).await;
    let devices = first.devices(&house, &mut ana, 4).await;
    let writing = devices.into_iter().enumerate().map(|(number, mut device)| {
        let logs: Arc<_> = house.app.logs.clone();
        tokio::spawn(async move {
            let mut known = None;
            for _ in 0..25 {
                let n = device.publish(&logs, device.write(&[(record(number as u16), "mine")])).await;
                let polled = logs.poll(&device.caller, SOMEWHERE, known).await.unwrap();
                let vaults = polled.vaults.expect("this device's own push is new to it");
                assert!(vaults[0].n >= n);
                known = Some(polled.state);
            }
        })
    });
    join_all(writing).await.into_iter().for_each(|done| done.unwrap());
    let logs = &house.app.logs;
    let quiet = logs.poll(&first.caller, SOMEWHERE, None).await.unwrap().state;
    assert_eq!(logs.poll(&first.caller, SOMEWHERE, Some(quiet)).await.unwrap().vaults, None);
}

async fn a_checkpoint_finds_its_place_among_those_who_write(house: House) {
    let mut ana = house.person("ana@example.org").await;
    let mut first = Writer::create(&house, &ana).await;
    let devices = first.devices(&house, &mut ana, 4).await;
    let writing = devices.into_iter().enumerate().map(|(number, mut device)| {
        let logs = house.app.logs.clone();
        tokio::spawn(async move {
            for _ in 0..10 {
                device.publish(&logs, device.write(&[(record(number as u16), "mine")])).await;
            }
        })
    });
    let writing = join_all(writing);
    let logs = &house.app.logs;
    let checkpointing = async {
        // Whoever comes right after a pull is let through; the others wait meanwhile.
        for _ in 0..200 {
            first.pull(logs).await;
            match first.push(logs, first.checkpoint(&[])).await {
                Ok(pushed) => return pushed.n,
                Err(refused) => {
                    assert!(matches!(rule(refused), log::Refusal::BadSeen { .. } | log::Refusal::Fork { .. }))
                }
            }
        }
        panic!("never let through")
    };
    let (n, done) = tokio::join!(checkpointing, writing);
    done.into_iter().for_each(|done| done.unwrap());
    first.pull(logs).await;
    assert!(first.log.core().checkpoints().iter().any(|known| known.n == n));
}

async fn who_leaves_while_a_checkpoint_is_written_does_not_take_the_news_of_it_along(house: House) {
    let logs = &house.app.logs;
    let ana = house.person("ana@example.org").await;
    let mut writer = Writer::create(&house, &ana).await;
    let before = writer.publish(logs, writer.write(&[(record(1), "one")])).await;
    let known = logs.poll(&writer.caller, SOMEWHERE, None).await.unwrap().state;
    let row = house.app.store.vault(writer.caller.tenant(), writer.vault());
    let at = Place { tenant: writer.caller.tenant(), vault: row.await.unwrap().unwrap().vault };
    let stands = async || house.app.store.positions(vec![at]).await.unwrap()[0] > before;
    let mut push = Box::pin(writer.push(logs, writer.checkpoint(&[])));
    // Long pauses: it is on disk well before its caller would learn of it.
    while !stands().await && push.as_mut().now_or_never().is_none() {
        sleep(Duration::from_millis(50)).await;
    }
    drop(push);
    assert_eq!(told_after(logs, &writer.caller, known).await, before + 1);
}

async fn who_leaves_while_a_vault_is_made_does_not_take_the_news_of_it_along(house: House) {
    let logs = &house.app.logs;
    let ana = house.person("ana@example.org").await;
    let caller = house.caller(&ana).await;
    let known = logs.poll(&caller, SOMEWHERE, None).await.unwrap().state;
    let frame = create_frame(&ana, &ana.device, "org.example.notes", [7; 16]);
    let vid = Frame::parse(&frame).unwrap().entry.creates().unwrap();
    let stands = async || house.app.store.vault(caller.tenant(), vid).await.unwrap().is_some();
    let mut making = Box::pin(logs.create(&caller, CreateVault { frame: frame.into(), wraps: Vec::new() }));
    while !stands().await && making.as_mut().now_or_never().is_none() {
        sleep(Duration::from_millis(50)).await;
    }
    drop(making);
    assert_eq!(told_after(logs, &caller, known).await, 1);
}

/// Where the vault stands by the first poll that has news.
async fn told_after(logs: &Logs, caller: &Caller, known: PollState) -> u64 {
    for _ in 0..500 {
        if let Some(vaults) = logs.poll(caller, SOMEWHERE, Some(known)).await.unwrap().vaults {
            return vaults[0].n;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("it stands, and nobody is told");
}
