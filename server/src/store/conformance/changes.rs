//! What a change of an account does, part by part, and that it does all of it or nothing.

use super::*;
use crate::store::*;

on_both![
    entries_continue_the_log_they_were_made_for,
    a_change_with_everything_in_it_does_everything,
    a_change_that_is_refused_at_its_end_has_not_begun,
    a_bare_account_is_completed_once,
    a_new_password_and_the_keys_of_a_bare_account_do_not_cross,
    a_revoked_device_loses_its_sessions_and_its_key,
    a_device_is_added_once_and_within_the_limit,
    only_a_living_session_without_a_device_can_be_bound,
    another_accounts_things_cannot_be_changed,
];

async fn entries_continue_the_log_they_were_made_for(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let append = |log_length, position| AccountChange { log_length, entries: vec![entry(1, position)], ..change() };
    house.change_account(house.home, account, append(6, 6)).await.unwrap();
    for stale in [0, 5, 6, 8, u64::MAX] {
        let late = house.change_account(house.home, account, append(stale, 6)).await;
        assert_eq!(refused(late), Refused::LogMoved, "{stale}");
    }
    house.change_account(house.home, account, append(7, 7)).await.unwrap();
    let (entries, length) = house.account_log(house.home, account, 5, 9).await.unwrap();
    assert_eq!((entries, length), (vec![entry(1, 5), entry(1, 6), entry(1, 7)], 8));
    assert_eq!(house.account(house.home, account).await.unwrap().log_length, 8);
    house.change_account(house.home, account, AccountChange { log_length: 3, ..change() }).await.unwrap();
}

/// An account with two devices, a session without a device, a second factor and a link that waits for an answer.
async fn busy_account(house: &House) -> AccountNumber {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let second = AccountChange { add_device: Some(device(2)), ..change() };
    house.change_account(house.home, account, second).await.unwrap();
    for n in 1..=3 {
        let on = (n < 3).then(|| device_id(n));
        house.open_session(house.home, session(n, account, on), audit("signed_in")).await.unwrap();
    }
    let factor = house.begin_factor(house.home, account, FactorKind::Totp, vec![1], NOW).await.unwrap();
    house.confirm_factor(house.home, account, factor, 7, vec![[1; 32]], audit("totp_on")).await.unwrap();
    let link = NewLink { channel: channel(1), account, offer: vec![1], expires_at: NOW + MINUTE };
    house.open_link(house.home, link).await.unwrap();
    house.request_link(house.home, channel(1), vec![2], NOW).await.unwrap();
    account
}

fn everything() -> AccountChange {
    AccountChange {
        now: NOW + 1,
        log_length: 6,
        entries: vec![entry(1, 6)],
        identity: None,
        password_shown_at: NOW,
        add_device: Some(device(3)),
        revoke_device: Some(device_id(2)),
        labels: vec![(device_id(1), vec![9; 104])],
        keybag: Some(vec![8; 219]),
        credential: Some(credential(2)),
        recovery: Some((2, [7; 32])),
        bind_session: Some((session_id(3), device_id(3), LIFE)),
        end_sessions: Some(EndSessions::AllBut(session_id(3))),
        remove_factors: true,
        answer_link: Some((channel(1), vec![3], device_id(3))),
        max_devices: Some(2),
        audit: vec![audit("one"), audit("two")],
    }
}

async fn a_change_with_everything_in_it_does_everything(house: House) {
    let account = busy_account(&house).await;
    house.change_account(house.home, account, everything()).await.unwrap();

    assert_eq!(house.account_log(house.home, account, 6, 9).await.unwrap(), (vec![entry(1, 6)], 7));
    let devices = house.devices(house.home, account).await.unwrap();
    let of = |n| devices.iter().find(|row| row.device == device_id(n)).unwrap();
    assert_eq!(of(1).label, vec![9; 104]);
    assert_eq!(of(2).revoked_at, Some(NOW + 1));
    assert_eq!((of(3).public_key, of(3).last_seen), (device(3).public_key, Some(to_the_hour(NOW))));
    assert_eq!(house.keybag(house.home, account).await.unwrap(), vec![8; 219]);
    let login = house.login_account(house.home, &name(1)).await.unwrap().unwrap();
    assert_eq!(login.recovery, Some((2, [7; 32])));
    assert_eq!(login.record, credential(2).record);
    assert!(house.factors(house.home, account).await.unwrap().is_empty());
    assert!(!house.use_recovery_code(house.home, account, [1; 32], NOW).await.unwrap());
    let living = house.sessions(house.home, account, NOW + 1).await.unwrap();
    let [session] = &living[..] else { panic!("one session lives") };
    assert_eq!((session.session, session.device, session.life), (session_id(3), Some(device_id(3)), LIFE));
    let link = house.link(house.home, channel(1), NOW).await.unwrap().unwrap();
    assert_eq!((link.answer, link.device), (Some(vec![3]), Some(device_id(3))));
    let newest = house.audit(house.home, account, i64::MAX, 2).await.unwrap();
    assert_eq!(newest.iter().map(|row| row.action.as_str()).collect::<Vec<_>>(), ["two", "one"]);
    house.expect_whole_audit().await;
}

async fn a_change_that_is_refused_at_its_end_has_not_begun(house: House) {
    let account = busy_account(&house).await;
    let before = house.audit(house.home, account, i64::MAX, 100).await.unwrap();
    let elsewhere = AccountChange { answer_link: Some((channel(9), vec![3], device_id(3))), ..everything() };
    assert_eq!(refused(house.change_account(house.home, account, elsewhere).await), Refused::LinkState);

    assert_eq!(house.account_log(house.home, account, 0, 9).await.unwrap().1, 6);
    let devices = house.devices(house.home, account).await.unwrap();
    assert!(devices.len() == 2 && devices.iter().all(|row| row.revoked_at.is_none()));
    assert_eq!(house.keybag(house.home, account).await.unwrap(), identity(1).keybag);
    assert_eq!(house.sessions(house.home, account, NOW + 1).await.unwrap().len(), 3);
    assert!(!house.account(house.home, account).await.unwrap().second_factors.is_empty());
    assert_eq!(house.audit(house.home, account, i64::MAX, 100).await.unwrap(), before);
    house.expect_whole_audit().await;
}

async fn a_bare_account_is_completed_once(house: House) {
    let account = house.register(house.home, bare(1)).await.unwrap();
    house.open_session(house.home, session(1, account, None), audit("signed_in")).await.unwrap();
    let complete = |n| AccountChange {
        identity: Some(identity(n)),
        bind_session: Some((session_id(1), device_id(n), LIFE)),
        ..change()
    };
    let crowded = AccountChange { max_devices: Some(0), ..complete(1) };
    assert_eq!(refused(house.change_account(house.home, account, crowded).await), Refused::LimitReached("devices"));
    house.change_account(house.home, account, complete(1)).await.unwrap();
    let again = house.change_account(house.home, account, complete(2)).await;
    assert_eq!(refused(again), Refused::AlreadyComplete);
    let row = house.account(house.home, account).await.unwrap();
    assert_eq!((row.state, row.uid, row.log_length), (AccountState::Active, Some(uid(1)), 6));
    let session = house.session(house.home, session_id(1)).await.unwrap().unwrap();
    assert_eq!((session.device, session.device_key), (Some(device_id(1)), Some(device(1).public_key)));

    let other = house.register(house.home, bare(2)).await.unwrap();
    let copied = AccountChange { identity: Some(identity(1)), ..change() };
    assert_eq!(refused(house.change_account(house.home, other, copied).await), Refused::IdTaken("user id"));
}

async fn a_revoked_device_loses_its_sessions_and_its_key(house: House) {
    let account = busy_account(&house).await;
    let revoke = || AccountChange { revoke_device: Some(device_id(1)), ..change() };
    house.change_account(house.home, account, revoke()).await.unwrap();
    let session = house.session(house.home, session_id(1)).await.unwrap().unwrap();
    assert!(session.ended_at == Some(NOW) && session.device_revoked);
    assert_eq!(house.session(house.home, session_id(2)).await.unwrap().unwrap().ended_at, None);
    assert_eq!(house.device_key(house.home, account, device_id(1)).await.unwrap(), None);
    assert_eq!(house.account(house.home, account).await.unwrap().devices, 1);
    assert_eq!(missing(house.change_account(house.home, account, revoke()).await), "device");
    let again = crate::store::conformance::session(9, account, Some(device_id(1)));
    assert_eq!(missing(house.open_session(house.home, again, audit("x")).await), "device");
}

async fn a_device_is_added_once_and_within_the_limit(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let add = |n| AccountChange { add_device: Some(device(n)), max_devices: Some(2), ..change() };
    assert_eq!(refused(house.change_account(house.home, account, add(1)).await), Refused::IdTaken("device"));
    house.change_account(house.home, account, add(2)).await.unwrap();
    assert_eq!(refused(house.change_account(house.home, account, add(3)).await), Refused::LimitReached("devices"));
    let swap = AccountChange { revoke_device: Some(device_id(1)), ..add(3) };
    house.change_account(house.home, account, swap).await.unwrap();
    assert_eq!(house.account(house.home, account).await.unwrap().devices, 2);
    assert_eq!(house.devices(house.home, account).await.unwrap().len(), 3);
}

async fn only_a_living_session_without_a_device_can_be_bound(house: House) {
    let account = busy_account(&house).await;
    let bind = |n, now| AccountChange { now, bind_session: Some((session_id(n), device_id(1), LIFE)), ..change() };
    assert_eq!(refused(house.change_account(house.home, account, bind(2, NOW)).await), Refused::SessionEnded);
    assert_eq!(refused(house.change_account(house.home, account, bind(77, NOW)).await), Refused::SessionEnded);
    let late = house.change_account(house.home, account, bind(3, LIFE.over_at())).await;
    assert_eq!(refused(late), Refused::SessionEnded);
    house.change_account(house.home, account, bind(3, NOW)).await.unwrap();
    assert_eq!(refused(house.change_account(house.home, account, bind(3, NOW)).await), Refused::SessionEnded);
}

async fn another_accounts_things_cannot_be_changed(house: House) {
    let account = busy_account(&house).await;
    let stranger = house.register(house.home, registration(5)).await.unwrap();
    let try_it = |change| house.change_account(house.home, stranger, change);
    assert_eq!(missing(try_it(AccountChange { revoke_device: Some(device_id(1)), ..change() }).await), "device");
    let label = AccountChange { labels: vec![(device_id(1), vec![0; 104])], ..change() };
    assert_eq!(missing(try_it(label).await), "device");
    let bind = AccountChange { bind_session: Some((session_id(3), device_id(5), LIFE)), ..change() };
    assert_eq!(refused(try_it(bind).await), Refused::SessionEnded);
    let answer = AccountChange { answer_link: Some((channel(1), vec![3], device_id(5))), ..change() };
    assert_eq!(refused(try_it(answer).await), Refused::LinkState);
    try_it(AccountChange { end_sessions: Some(EndSessions::All), ..change() }).await.unwrap();
    try_it(AccountChange { end_sessions: Some(EndSessions::One(session_id(1))), ..change() }).await.unwrap();
    assert_eq!(house.sessions(house.home, account, NOW).await.unwrap().len(), 3);
}

async fn a_new_password_and_the_keys_of_a_bare_account_do_not_cross(house: House) {
    let account = house.register(house.home, bare(1)).await.unwrap();
    let new_password = |now| AccountChange { now, credential: Some(credential(1)), ..change() };
    let complete = |shown| AccountChange { identity: Some(identity(1)), password_shown_at: shown, ..change() };
    house.change_account(house.home, account, new_password(NOW + 1)).await.unwrap();
    let old = house.change_account(house.home, account, complete(NOW)).await;
    assert_eq!(refused(old), Refused::CredentialChanged, "its keybag is under the password before");
    house.change_account(house.home, account, complete(NOW + 1)).await.unwrap();
    let bare_still = house.change_account(house.home, account, new_password(NOW + 2)).await;
    assert_eq!(refused(bare_still), Refused::LogMoved, "its keybag would stay under the password before");
}
