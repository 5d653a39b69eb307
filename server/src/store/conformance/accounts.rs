//! How accounts come to be, are read, suspended and end.

use super::*;
use crate::store::*;

on_both![
    a_registration_keeps_everything_it_was_given,
    a_bare_account_has_a_password_and_nothing_else,
    a_login_name_is_taken_once_and_free_again_after_the_account,
    the_same_name_may_live_in_two_tenants,
    a_registration_that_fails_leaves_nothing,
    an_identity_belongs_to_one_account,
    a_plan_limits_accounts_exactly,
    accounts_are_listed_in_pages,
    a_suspended_account_is_what_it_was_when_it_comes_back,
    a_deletion_waits_can_be_taken_back_and_then_leaves_nothing,
    what_is_not_there_is_not_found,
];

async fn a_registration_keeps_everything_it_was_given(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let login = house.login_account(house.home, &name(1)).await.unwrap().unwrap();
    let expected = LoginAccount {
        credential_version: 1,
        account,
        uuid: registration(1).uuid,
        uid: Some(uid(1)),
        setup_id: 1,
        record: credential(1).record,
        recovery: Some((1, bytes("recovery", 1))),
    };
    assert!(login == expected);
    let row = house.account(house.home, account).await.unwrap();
    let expected = AccountRow {
        account,
        uuid: registration(1).uuid,
        login_name: name(1),
        uid: Some(uid(1)),
        state: AccountState::Active,
        role: TenantRole::Member,
        created_at: NOW,
        delete_after: None,
        log_length: 6,
        second_factors: vec![],
        devices: 1,
        last_seen: None,
    };
    assert!(row == expected);
    assert_eq!(house.keybag(house.home, account).await.unwrap(), identity(1).keybag);
    assert_eq!(house.account_log(house.home, account, 0, 100).await.unwrap(), (identity(1).entries, 6));
    assert_eq!(house.account_log(house.home, account, 4, 1).await.unwrap(), (vec![entry(1, 4)], 6));
    assert_eq!(house.account_log(house.home, account, u64::MAX, 9).await.unwrap(), (vec![], 6));
    let [found] = &house.devices(house.home, account).await.unwrap()[..] else { panic!("one device") };
    let NewDevice { device: id, public_key, label, added_at } = device(1);
    assert!(*found == DeviceRow { device: id, public_key, label, added_at, last_seen: None, revoked_at: None });
    assert_eq!(house.device_key(house.home, account, id).await.unwrap(), Some(public_key));
    let [entry] = &house.audit(house.home, account, i64::MAX, 10).await.unwrap()[..] else { panic!("one entry") };
    assert_eq!(entry.action, "registered");
    house.expect_whole_audit().await;
}

async fn a_bare_account_has_a_password_and_nothing_else(house: House) {
    let account = house.register(house.home, bare(1)).await.unwrap();
    let login = house.login_account(house.home, &name(1)).await.unwrap().unwrap();
    assert_eq!(house.account(house.home, account).await.unwrap().state, AccountState::Bare);
    assert!(login.uid.is_none() && login.recovery.is_none());
    assert_eq!(missing(house.keybag(house.home, account).await), "keybag");
    assert_eq!(house.account_log(house.home, account, 0, 9).await.unwrap(), (vec![], 0));
    assert!(house.devices(house.home, account).await.unwrap().is_empty());
}

async fn a_login_name_is_taken_once_and_free_again_after_the_account(house: House) {
    let first = house.register(house.home, registration(1)).await.unwrap();
    let again = Registration { login_name: name(1), ..registration(2) };
    assert_eq!(refused(house.register(house.home, again.clone()).await), Refused::LoginNameTaken);
    house.delete_account(house.home, first, audit("deleted")).await.unwrap();
    let second = house.register(house.home, again).await.unwrap();
    assert!(second > first, "numbers are never used twice");
}

async fn the_same_name_may_live_in_two_tenants(house: House) {
    let other = house.tenant("other", "home").await;
    let here = house.register(house.home, registration(1)).await.unwrap();
    let there = house.register(other, registration(1)).await.unwrap();
    house.delete_account(house.home, here, audit("deleted")).await.unwrap();
    assert!(house.login_account(house.home, &name(1)).await.unwrap().is_none());
    assert_eq!(house.login_account(other, &name(1)).await.unwrap().unwrap().account, there);
}

async fn a_registration_that_fails_leaves_nothing(house: House) {
    house.create_invitation(house.home, invitation(1, 1), audit("invited")).await.unwrap();
    house.register(house.home, registration(1)).await.unwrap();
    let invited = Registration { invitation: Some(bytes("code", 1)), ..registration(2) };
    let taken = Registration { login_name: name(1), ..invited.clone() };
    assert_eq!(refused(house.register(house.home, taken).await), Refused::LoginNameTaken);
    let [left] = &house.invitations(house.home).await.unwrap()[..] else { panic!("one invitation") };
    assert_eq!(left.uses_left, 1);
    assert_eq!(house.tenant_by_slug("home").await.unwrap().unwrap().accounts, 1);
    house.register(house.home, invited).await.unwrap();
    house.expect_whole_audit().await;
}

async fn an_identity_belongs_to_one_account(house: House) {
    house.register(house.home, registration(1)).await.unwrap();
    let thief = Registration { identity: Some(identity(1)), ..bare(2) };
    assert_eq!(refused(house.register(house.home, thief).await), Refused::IdTaken("user id"));
    assert!(house.login_account(house.home, &name(2)).await.unwrap().is_none());
}

async fn a_plan_limits_accounts_exactly(house: House) {
    let tenant = house.tenant("small", "free").await;
    let limit = house.tenant_by_slug("small").await.unwrap().unwrap().max_accounts.unwrap();
    for n in 0..limit as u64 {
        house.register(tenant, bare(n)).await.unwrap();
    }
    assert_eq!(refused(house.register(tenant, bare(99)).await), Refused::LimitReached("accounts"));
    let someone = house.login_account(tenant, &name(0)).await.unwrap().unwrap().account;
    house.delete_account(tenant, someone, audit("deleted")).await.unwrap();
    house.register(tenant, bare(99)).await.unwrap();
}

async fn accounts_are_listed_in_pages(house: House) {
    let mut made = Vec::new();
    for n in 0..5 {
        made.push(house.register(house.home, registration(n)).await.unwrap());
    }
    let (mut seen, mut after) = (Vec::new(), AccountNumber(0));
    loop {
        let page = house.accounts(house.home, after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = last.account;
        assert!(page.len() <= 2 && page.iter().all(|row| row.devices == 1));
        seen.extend(page.iter().map(|row| row.account));
    }
    assert_eq!(seen, made);
}

async fn a_suspended_account_is_what_it_was_when_it_comes_back(house: House) {
    let bare = house.register(house.home, bare(1)).await.unwrap();
    let whole = house.register(house.home, registration(2)).await.unwrap();
    for (account, state) in [(bare, AccountState::Bare), (whole, AccountState::Active)] {
        house.set_account_suspended(house.home, account, true, audit("suspended")).await.unwrap();
        assert_eq!(house.account(house.home, account).await.unwrap().state, AccountState::Suspended);
        house.set_account_suspended(house.home, account, false, audit("unsuspended")).await.unwrap();
        assert_eq!(house.account(house.home, account).await.unwrap().state, state);
    }
    house.expect_whole_audit().await;
}

async fn a_deletion_waits_can_be_taken_back_and_then_leaves_nothing(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    for n in 1..=2 {
        house.open_session(house.home, session(n, account, None), audit("signed_in")).await.unwrap();
    }
    let when = NOW + 7 * DAY;
    let keep = Some(session_id(1));
    house.schedule_deletion(house.home, account, when, keep, NOW, audit("deletion_scheduled")).await.unwrap();
    let row = house.account(house.home, account).await.unwrap();
    assert_eq!((row.state, row.delete_after), (AccountState::Deleting, Some(when)));
    let kept = house.sessions(house.home, account, NOW).await.unwrap();
    assert!(kept.len() == 1 && kept[0].session == session_id(1));
    assert_eq!(house.due_deletions(house.home, when - 1, 10).await.unwrap(), vec![]);
    assert_eq!(house.due_deletions(house.home, when, 10).await.unwrap(), vec![account]);
    assert_eq!(house.due_deletions(house.home, when, 0).await.unwrap(), vec![]);

    let too_late = NewAudit { at: when, ..audit("deletion_cancelled") };
    assert_eq!(refused(house.cancel_deletion(house.home, account, too_late).await), Refused::NotToBeDeleted);
    house.cancel_deletion(house.home, account, audit("deletion_cancelled")).await.unwrap();
    let again = house.cancel_deletion(house.home, account, audit("deletion_cancelled")).await;
    assert_eq!(refused(again), Refused::NotToBeDeleted);
    assert_eq!(house.account(house.home, account).await.unwrap().state, AccountState::Active);
    assert_eq!(house.due_deletions(house.home, when, 10).await.unwrap(), vec![]);

    house.schedule_deletion(house.home, account, when, None, NOW, audit("deletion_scheduled")).await.unwrap();
    assert!(house.sessions(house.home, account, NOW).await.unwrap().is_empty());
    house.delete_account(house.home, account, audit("deleted")).await.unwrap();
    assert_eq!(missing(house.account(house.home, account).await), "account");
    assert!(house.session(house.home, session_id(1)).await.unwrap().is_none());
    assert_eq!(house.tenant_by_slug("home").await.unwrap().unwrap().accounts, 0);
    house.expect_whole_audit().await;
}

async fn what_is_not_there_is_not_found(house: House) {
    let nobody = AccountNumber(77);
    assert!(house.login_account(house.home, "nobody").await.unwrap().is_none());
    house.register(house.home, registration(1)).await.unwrap();
    assert!(house.login_account(house.home, "nobody").await.unwrap().is_none());
    assert_eq!(missing(house.account(house.home, nobody).await), "account");
    assert_eq!(missing(house.account_log(house.home, nobody, 0, 1).await), "account");
    assert_eq!(missing(house.keybag(house.home, nobody).await), "keybag");
    assert_eq!(missing(house.change_account(house.home, nobody, change()).await), "account");
    assert_eq!(missing(house.set_account_suspended(house.home, nobody, true, audit("x")).await), "account");
    assert_eq!(missing(house.schedule_deletion(house.home, nobody, 0, None, 0, audit("x")).await), "account");
    assert_eq!(missing(house.cancel_deletion(house.home, nobody, audit("x")).await), "account");
    assert_eq!(missing(house.delete_account(house.home, nobody, audit("x")).await), "account");
    assert_eq!(missing(house.register(Tenant(77), registration(2)).await), "tenant");
    assert_eq!(house.device_key(house.home, nobody, device_id(1)).await.unwrap(), None);
    assert!(house.devices(house.home, nobody).await.unwrap().is_empty());
    house.expect_whole_audit().await;
}
