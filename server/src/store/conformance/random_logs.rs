//! Random appends to two vaults, true and stale, with pruning in between: the store and the scribe agree about
//! everything that can be asked.

use super::scribe::{Scribe, Write, record};
use super::vaults::expect_live;
use super::*;
use crate::store::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use std::cell::Cell;

#[derive(Clone, Debug)]
enum Act {
    Data {
        vault: usize,
        entries: Vec<Vec<(u8, u64)>>,
    },
    Control {
        vault: usize,
    },
    /// A state that is kept now and then.
    Keep {
        vault: usize,
    },
    Checkpoint {
        vault: usize,
        forgets: Option<u64>,
    },
    /// Both at once; the second of them decided before the first act.
    Stale {
        vault: usize,
    },
    Prune {
        vault: usize,
        keep: Option<u64>,
    },
    Wait,
}

fn act() -> impl Strategy<Value = Act> {
    let vault = 0..2usize;
    let writes = prop::collection::vec((0..3u8, 0..5u64), 1..6);
    prop_oneof![
        6 => (vault.clone(), prop::collection::vec(writes, 1..4))
            .prop_map(|(vault, entries)| Act::Data { vault, entries }),
        1 => vault.clone().prop_map(|vault| Act::Control { vault }),
        1 => vault.clone().prop_map(|vault| Act::Keep { vault }),
        1 => (vault.clone(), prop::option::of(0..5u64))
            .prop_map(|(vault, forgets)| Act::Checkpoint { vault, forgets }),
        1 => vault.clone().prop_map(|vault| Act::Stale { vault }),
        2 => (vault, prop::option::of(1..30u64)).prop_map(|(vault, keep)| Act::Prune { vault, keep }),
        1 => Just(Act::Wait),
    ]
}

#[test]
fn random_logs_on_sqlite() {
    run(100, || Box::pin(House::on_sqlite()));
}

#[test]
fn random_logs_on_postgres() {
    run(60, || Box::pin(House::on_postgres()));
}

fn run(cases: u32, house: fn() -> futures_util::future::BoxFuture<'static, House>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let house = runtime.block_on(house());
    let case = Cell::new(0u64);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&prop::collection::vec(act(), 1..25), |acts| {
            case.set(case.get() + 1);
            runtime.block_on(play(&house, case.get(), &acts))
        })
        .unwrap();
    runtime.block_on(house.close());
}

async fn play(house: &House, case: u64, acts: &[Act]) -> std::result::Result<(), TestCaseError> {
    let tenant = house.tenant(&format!("logs-{case}"), "home").await;
    let mut scribes = Vec::new();
    for n in 1..=2 {
        let account = house.register(tenant, registration(n)).await.unwrap();
        scribes.push(Scribe::create(&*house.store, tenant, account, n).await);
    }
    let mut stale = scribes.clone();
    for act in acts {
        match act {
            Act::Data { vault, entries } => {
                let scribe = &mut scribes[*vault];
                let entries = entries.iter().map(|writes| scribe.data(&writes.iter().map(write).collect::<Vec<_>>()));
                let entries = entries.collect();
                scribe.appended(&*house.store, entries).await;
            }
            Act::Control { vault } => {
                scribes[*vault].joined(&*house.store, &[uid(1), uid(2)]).await;
            }
            Act::Keep { vault } => {
                let scribe = &mut scribes[*vault];
                let entry = scribe.heartbeat();
                let append = Append { state: Some(scribe.state()), ..scribe.append(vec![entry]) };
                prop_assert_eq!(house.append(vec![append]).await.unwrap(), [true]);
            }
            Act::Checkpoint { vault, forgets } => {
                let scribe = &mut scribes[*vault];
                let forgets: Vec<_> = forgets.iter().map(|n| record(*n)).collect();
                let entry = scribe.checkpoint(&forgets);
                scribe.appended(&*house.store, vec![entry]).await;
            }
            Act::Stale { vault } => {
                let old = &mut stale[*vault];
                let is_stale = old.head != scribes[*vault].head;
                old.now += 1;
                let entry = old.data(&[Write::Whole(1), Write::Delta(1)]);
                let late = old.append(vec![entry]);
                let other = &mut scribes[1 - *vault];
                let entry = other.data(&[Write::Whole(2)]);
                let timely = other.append(vec![entry]);
                prop_assert_eq!(house.append(vec![late, timely]).await.unwrap(), [!is_stale, true]);
                if !is_stale {
                    scribes[*vault] = stale[*vault].clone();
                }
            }
            Act::Prune { vault, keep } => {
                let scribe = &scribes[*vault];
                let keep: Vec<u64> = keep.iter().copied().collect();
                house.prune(scribe.at, scribe.now, keep.clone()).await.unwrap();
                for n in keep.into_iter().filter(|n| *n <= scribe.head.n && *n > pruned(scribe)) {
                    prop_assert_eq!(house.live_at(scribe.at, n, None, 1_000).await.unwrap(), scribe.live_at(n));
                }
            }
            Act::Wait => scribes.iter_mut().for_each(|scribe| scribe.now += 1_000),
        }
        if !matches!(act, Act::Stale { .. }) {
            continue;
        }
        stale = scribes.clone();
    }
    for scribe in &scribes {
        expect_live(house, scribe).await;
        let (hashes, n) = (house.entry_hashes(scribe.at, 1, u64::MAX).await.unwrap(), scribe.head.n);
        prop_assert!(hashes.iter().eq(scribe.entries.iter().map(|entry| &entry.hash)));
        prop_assert_eq!(house.chain_value(scribe.at, n).await.unwrap(), Some(scribe.head.h));
    }
    Ok(())
}

/// Up to where anything may have been dropped, which earlier prunings kept nothing of.
fn pruned(scribe: &Scribe) -> u64 {
    scribe.entries.iter().filter(|entry| entry.received_at < scribe.now).map(|entry| entry.head.n).max().unwrap_or(0)
}

fn write((kind, record): &(u8, u64)) -> Write {
    match kind {
        0 => Write::Whole(*record),
        1 => Write::Delta(*record),
        _ => Write::Beside(*record),
    }
}
