//! Who is in a vault, the keys sealed to them, and what stays of somebody who goes.

use super::scribe::{Scribe, Write, wrap};
use super::vaults::expect_log;
use super::*;
use crate::store::*;

on_both![
    members_are_those_of_the_newest_control_entry,
    keys_are_kept_by_epoch_and_generation,
    public_logs_are_found_by_their_names,
    a_vault_goes_with_the_last_who_is_in_it,
    the_log_of_somebody_who_left_stays_while_a_vault_needs_it,
    a_large_vault_is_emptied_step_by_step,
];

async fn members_are_those_of_the_newest_control_entry(house: House) {
    let ana = house.register(house.home, registration(1)).await.unwrap();
    let bo = house.register(house.home, registration(2)).await.unwrap();
    let mut scribe = Scribe::create(&*house.store, house.home, ana, 1).await;
    let other = Scribe::create(&*house.store, house.home, bo, 2).await;
    let (elsewhere, scribe_at) = (house.tenant("other", "home").await, scribe.at);
    let of = async |account| {
        let vaults = house.vaults_of(house.home, account).await.unwrap();
        let asked = vec![(elsewhere, account), (house.home, account), (house.home, AccountNumber(99))];
        assert_eq!(house.vaults_of_many(asked).await.unwrap(), [Vec::new(), vaults.clone(), Vec::new()]);
        vaults.into_iter().map(|row| row.vault).collect::<Vec<_>>()
    };
    assert_eq!(of(bo).await, [other.at.vault]);
    // Nobody here is called 77.
    scribe.joined(&*house.store, &[uid(1), uid(2), uid(77)]).await;
    assert_eq!(of(bo).await, [scribe.at.vault, other.at.vault]);
    let removal = async |account| house.removal_of(scribe_at, account).await.unwrap();
    assert_eq!((removal(ana).await, removal(AccountNumber(99)).await), (None, None));
    let end = scribe.removed(&*house.store, &[uid(2)], &[uid(1)]).await;
    assert_eq!(of(ana).await, []);
    assert_eq!((removal(ana).await, removal(bo).await), (Some(end), None));
    let elsewhere_at = Place { tenant: elsewhere, ..scribe_at };
    assert_eq!(house.removal_of(elsewhere_at, ana).await.unwrap(), None);
    scribe.writes(&*house.store, &[Write::Whole(1)]).await;
    assert_eq!(removal(ana).await, Some(end), "whatever is written after it");
    scribe.joined(&*house.store, &[uid(1), uid(2)]).await;
    assert_eq!((of(ana).await, removal(ana).await), (vec![scribe.at.vault], None));
    // Who was let in again by the same append has not gone.
    scribe.removed(&*house.store, &[uid(1), uid(2)], &[uid(1)]).await;
    assert_eq!((of(ana).await, removal(ana).await), (vec![scribe.at.vault], None));
    // Who came and went by the same append was never seen here.
    let cy = house.register(house.home, registration(3)).await.unwrap();
    let end = scribe.removed(&*house.store, &[uid(1), uid(2)], &[uid(3), uid(77)]).await;
    assert_eq!((of(cy).await, removal(cy).await), (vec![], Some(end)));
    scribe.joined(&*house.store, &[]).await;
    assert_eq!(of(bo).await, [other.at.vault]);
    expect_log(&house, &scribe).await;
}

async fn keys_are_kept_by_epoch_and_generation(house: House) {
    let ana = house.register(house.home, registration(1)).await.unwrap();
    let (new, scribe) = Scribe::begin(house.home, ana, 1);
    let vault = house.create_vault(house.home, NewVault { wraps: vec![wrap(1, 1, 1)], ..new.clone() }).await.unwrap();
    let at = Place { vault, ..scribe.at };
    house.add_wraps(at, vec![wrap(1, 2, 2), wrap(1, 2, 1)]).await.unwrap();
    assert_eq!(house.wraps(at, ana).await.unwrap(), [wrap(1, 1, 1), wrap(1, 2, 1), wrap(1, 2, 2)]);
    let replaced = WrapRow { sealed: vec![7; 99], ..wrap(1, 2, 1) };
    house.add_wraps(at, vec![replaced.clone()]).await.unwrap();
    assert_eq!(house.wraps(at, ana).await.unwrap()[1], replaced);
    assert_eq!(missing(house.add_wraps(at, vec![wrap(1, 9, 9), wrap(5, 1, 1)]).await), "member");
    assert_eq!(house.wraps(at, ana).await.unwrap().len(), 3, "all of it or nothing");
    assert_eq!(house.wraps(at, AccountNumber(9)).await.unwrap(), []);
    let elsewhere = house.tenant("other", "home").await;
    assert_eq!(house.wraps(Place { tenant: elsewhere, ..at }, ana).await.unwrap(), []);
    let strangers = NewVault { vid: selkie_protocol::id::VaultId([9; 32]), wraps: vec![wrap(5, 1, 1)], ..new };
    assert_eq!(missing(house.create_vault(house.home, strangers).await), "member");
}

async fn public_logs_are_found_by_their_names(house: House) {
    let ana = house.register(house.home, registration(1)).await.unwrap();
    let all: Vec<Vec<u8>> = (0..6).map(|position| entry(1, position)).collect();
    assert_eq!(house.log_of_user(house.home, uid(1), 0, 99).await.unwrap(), Some((all.clone(), 6)));
    assert_eq!(house.log_of_user(house.home, uid(1), 2, 3).await.unwrap(), Some((all[2..5].to_vec(), 6)));
    assert_eq!(house.log_of_user(house.home, uid(1), 9, 3).await.unwrap(), Some((Vec::new(), 6)));
    assert_eq!(house.log_of_user(house.home, uid(2), 0, 3).await.unwrap(), None);
    let other = house.tenant("other", "home").await;
    assert_eq!(house.log_of_user(other, uid(1), 0, 3).await.unwrap(), None);
    assert_eq!(house.account_of_user(house.home, uid(1)).await.unwrap(), Some(ana));
    assert_eq!(house.account_of_user(house.home, uid(2)).await.unwrap(), None);
    assert_eq!(house.account_of_user(other, uid(1)).await.unwrap(), None);
}

async fn a_vault_goes_with_the_last_who_is_in_it(house: House) {
    let ana = house.register(house.home, registration(1)).await.unwrap();
    let bo = house.register(house.home, registration(2)).await.unwrap();
    let mut alone = Scribe::create(&*house.store, house.home, ana, 1).await;
    let mut shared = Scribe::create(&*house.store, house.home, ana, 2).await;
    alone.writes(&*house.store, &[Write::Whole(1)]).await;
    shared.writes(&*house.store, &[Write::Whole(1), Write::Whole(2)]).await;
    shared.joined(&*house.store, &[uid(1), uid(2)]).await;
    let empty = house.vaults_left_empty_by(house.home, ana).await.unwrap();
    assert_eq!(empty.iter().map(|row| row.vid).collect::<Vec<_>>(), [alone.vid]);
    assert_eq!(house.vaults_left_empty_by(house.home, bo).await.unwrap(), []);

    house.delete_account(house.home, ana, audit("deleted")).await.unwrap();
    assert!(house.vault(house.home, alone.vid).await.unwrap().is_none());
    assert_eq!(house.positions(vec![alone.at, shared.at]).await.unwrap(), [0, 3]);
    assert!(house.bearings(vec![alone.question()]).await.unwrap()[0].is_none());
    assert_eq!(house.live_at(alone.at, 99, None, 10).await.unwrap(), []);
    expect_log(&house, &shared).await;
    assert_eq!(house.vaults_left_empty_by(house.home, bo).await.unwrap()[0].vid, shared.vid);
    // Who made it no longer counts it; whoever comes next has room for their own.
    house.delete_account(house.home, bo, audit("deleted")).await.unwrap();
    assert_eq!(house.space(house.home).await.unwrap(), (0, None));
}

async fn the_log_of_somebody_who_left_stays_while_a_vault_needs_it(house: House) {
    let mut accounts = Vec::new();
    for n in 1..=3 {
        accounts.push(house.register(house.home, registration(n)).await.unwrap());
    }
    let mut first = Scribe::create(&*house.store, house.home, accounts[0], 1).await;
    let mut second = Scribe::create(&*house.store, house.home, accounts[2], 2).await;
    first.joined(&*house.store, &[uid(1), uid(2)]).await;
    second.joined(&*house.store, &[uid(2), uid(3)]).await;
    // Removed before the account went: what they wrote stays, too.
    second.joined(&*house.store, &[uid(3)]).await;
    let log = house.log_of_user(house.home, uid(2), 0, 99).await.unwrap();
    house.delete_account(house.home, accounts[1], audit("deleted")).await.unwrap();
    assert!(house.login_account(house.home, &name(2)).await.unwrap().is_none());
    assert_eq!(house.log_of_user(house.home, uid(2), 0, 99).await.unwrap(), log);
    assert_eq!(house.log_of_user(house.home, uid(2), 4, 1).await.unwrap(), Some((vec![entry(2, 4)], 6)));
    house.delete_account(house.home, accounts[0], audit("deleted")).await.unwrap();
    assert_eq!(house.log_of_user(house.home, uid(2), 0, 99).await.unwrap(), log, "the second vault needs it");
    assert_eq!(house.log_of_user(house.home, uid(1), 0, 99).await.unwrap(), None, "nobody else was in the first");
    house.delete_account(house.home, accounts[2], audit("deleted")).await.unwrap();
    assert_eq!(house.log_of_user(house.home, uid(2), 0, 99).await.unwrap(), None);
}

async fn a_large_vault_is_emptied_step_by_step(house: House) {
    let ana = house.register(house.home, registration(1)).await.unwrap();
    let mut scribe = Scribe::create(&*house.store, house.home, ana, 1).await;
    for batch in 0..12 {
        let writes: Vec<Write> = (0..200).map(|n| Write::Whole(200 * batch + n)).collect();
        scribe.writes(&*house.store, &writes).await;
    }
    let mut steps = 0;
    while house.empty_vaults_left_by(house.home, ana).await.unwrap() {
        steps += 1;
    }
    assert!(steps >= 2, "{steps} steps");
    assert_eq!(house.live_at(scribe.at, 99, None, 10).await.unwrap(), []);
    house.delete_account(house.home, ana, audit("deleted")).await.unwrap();
    assert!(house.vault(house.home, scribe.vid).await.unwrap().is_none());
}
