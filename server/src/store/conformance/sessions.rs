//! Signing in and staying signed in.

use super::*;
use crate::store::*;

on_both![
    a_sign_in_under_way_is_taken_once_and_in_time,
    a_session_knows_all_that_a_request_asks,
    many_sessions_are_found_like_one,
    a_device_has_one_session_for_an_app,
    a_refresh_moves_a_session_on_once,
    a_session_that_is_over_cannot_be_refreshed,
    sessions_end_as_they_are_asked_to,
    a_session_id_is_used_once,
    a_credential_that_was_changed_opens_no_session,
];

async fn a_sign_in_under_way_is_taken_once_and_in_time(house: House) {
    let other = house.tenant("other", "home").await;
    let account = house.register(house.home, bare(1)).await.unwrap();
    for (n, account, purpose) in [
        (1, Some(account), LoginPurpose::Password),
        (2, None, LoginPurpose::SecondFactor),
        (3, Some(account), LoginPurpose::Recovery),
    ] {
        let state = LoginStateRow {
            login: login_id(n),
            account,
            purpose,
            sealed: vec![n as u8; 128],
            expires_at: NOW + MINUTE,
            attempts: n as i16,
        };
        house.put_login_state(house.home, state.clone()).await.unwrap();
        let twice = house.put_login_state(house.home, state.clone()).await;
        assert_eq!(refused(twice), Refused::IdTaken("sign-in"));
        assert!(house.take_login_state(other, login_id(n), NOW).await.unwrap().is_none());
        assert!(house.take_login_state(house.home, login_id(n), NOW + MINUTE).await.unwrap().is_none());
        let taken = house.take_login_state(house.home, login_id(n), NOW + MINUTE - 1).await.unwrap();
        assert!(taken == Some(state.clone()));
        assert!(house.take_login_state(house.home, login_id(n), NOW).await.unwrap().is_none());
        house.put_login_state(house.home, state).await.unwrap();
    }
    house.delete_account(house.home, account, audit("deleted")).await.unwrap();
    assert!(house.take_login_state(house.home, login_id(1), NOW).await.unwrap().is_none());
    assert!(house.take_login_state(house.home, login_id(2), NOW).await.unwrap().is_some());
}

async fn a_session_knows_all_that_a_request_asks(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let new = NewSession { app: Some("notes".into()), ..session(1, account, Some(device_id(1))) };
    house.open_session(house.home, new, audit("signed_in")).await.unwrap();
    let expected = SessionRow {
        session: session_id(1),
        account,
        account_uuid: registration(1).uuid,
        uid: Some(uid(1)),
        account_state: AccountState::Active,
        role: TenantRole::Member,
        tenant_suspended: false,
        limit_factor: 100,
        device: Some(device_id(1)),
        device_key: Some(device(1).public_key),
        device_revoked: false,
        scope: Scope::Full,
        app: Some("notes".into()),
        refresh_seed: bytes("seed", 1),
        refresh_generation: 0,
        rotated_at: NOW,
        auth_time: NOW,
        created_at: NOW,
        life: LIFE,
        ended_at: None,
    };
    assert!(house.session(house.home, session_id(1)).await.unwrap().unwrap() == expected);
    assert!(house.sessions(house.home, account, NOW).await.unwrap() == vec![expected]);
    assert_eq!(house.account(house.home, account).await.unwrap().last_seen, Some(to_the_hour(NOW)));
    assert_eq!(house.devices(house.home, account).await.unwrap()[0].last_seen, Some(to_the_hour(NOW)));

    let recovery = NewSession { scope: Scope::Recovery, ..session(2, account, None) };
    house.open_session(house.home, recovery, audit("recovering")).await.unwrap();
    let row = house.session(house.home, session_id(2)).await.unwrap().unwrap();
    assert_eq!((row.scope, row.device, row.device_key), (Scope::Recovery, None, None));
    house.set_account_suspended(house.home, account, true, audit("suspended")).await.unwrap();
    let row = house.session(house.home, session_id(2)).await.unwrap().unwrap();
    assert_eq!(row.account_state, AccountState::Suspended);

    assert!(house.session(house.home, session_id(9)).await.unwrap().is_none());
    let nobody = session(3, AccountNumber(77), None);
    assert_eq!(missing(house.open_session(house.home, nobody, audit("x")).await), "account");
    let strange = session(3, account, Some(device_id(9)));
    assert_eq!(missing(house.open_session(house.home, strange, audit("x")).await), "device");
    house.expect_whole_audit().await;
}

async fn many_sessions_are_found_like_one(house: House) {
    let other = house.tenant("other", "home").await;
    let (with_keys, bare_one) =
        (house.register(house.home, registration(1)).await.unwrap(), house.register(other, bare(2)).await.unwrap());
    let app = NewSession { app: Some("notes".into()), ..session(1, with_keys, Some(device_id(1))) };
    house.open_session(house.home, app, audit("signed_in")).await.unwrap();
    house.open_session(other, session(2, bare_one, None), audit("signed_in")).await.unwrap();
    house.open_session(house.home, session(3, with_keys, None), audit("signed_in")).await.unwrap();
    let ended = EndSessions::One(session_id(3));
    house.end_sessions(house.home, with_keys, ended, NOW, audit("signed_out")).await.unwrap();
    let named = vec![
        (other, session_id(2)),
        (house.home, session_id(1)),
        (house.home, session_id(9)),
        (other, session_id(1)),
        (house.home, session_id(3)),
        (house.home, session_id(1)),
    ];
    let found = house.sessions_named(named.clone()).await.unwrap();
    assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false, false, true, true]);
    for ((tenant, id), found) in named.into_iter().zip(found) {
        assert!(found == house.session(tenant, id).await.unwrap(), "{id:?}");
    }
    assert!(house.sessions_named(Vec::new()).await.unwrap().is_empty());
}

async fn a_device_has_one_session_for_an_app(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let add = AccountChange { add_device: Some(device(2)), ..change() };
    house.change_account(house.home, account, add).await.unwrap();
    let cases = [(1, 1, None), (2, 1, Some("notes")), (3, 1, Some("photos")), (4, 2, None)];
    for (n, on, app) in cases {
        let new = NewSession { app: app.map(Into::into), ..session(n, account, Some(device_id(on))) };
        house.open_session(house.home, new, audit("signed_in")).await.unwrap();
    }
    house.open_session(house.home, session(5, account, None), audit("signed_in")).await.unwrap();
    assert_eq!(house.sessions(house.home, account, NOW).await.unwrap().len(), 5);
    for (n, app, replaced) in [(6, None, 1), (7, Some("notes"), 2)] {
        let new = NewSession { app: app.map(Into::into), ..session(n, account, Some(device_id(1))) };
        house.open_session(house.home, new, audit("signed_in")).await.unwrap();
        assert_eq!(house.session(house.home, session_id(replaced)).await.unwrap().unwrap().ended_at, Some(NOW));
        assert_eq!(house.sessions(house.home, account, NOW).await.unwrap().len(), 5);
    }
}

async fn a_refresh_moves_a_session_on_once(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let on = Some(device_id(1));
    house.open_session(house.home, session(1, account, on), audit("signed_in")).await.unwrap();
    let (later, idle) = (NOW + MINUTE, NOW + 8 * DAY);
    assert!(house.rotate_session(house.home, session_id(1), 0, later, idle).await.unwrap());
    assert!(!house.rotate_session(house.home, session_id(1), 0, later, idle).await.unwrap());
    assert!(!house.rotate_session(house.home, session_id(1), 2, later, idle).await.unwrap());
    let row = house.session(house.home, session_id(1)).await.unwrap().unwrap();
    assert_eq!((row.refresh_generation, row.rotated_at, row.auth_time), (1, later, NOW));
    assert_eq!(row.life, SessionLife { idle_expires_at: idle, ..LIFE });
    assert_eq!(house.devices(house.home, account).await.unwrap()[0].last_seen, Some(to_the_hour(later)));
    assert_eq!(house.account(house.home, account).await.unwrap().last_seen, Some(to_the_hour(later)));
    assert!(house.rotate_session(house.home, session_id(1), 1, later, idle).await.unwrap());
}

async fn a_session_that_is_over_cannot_be_refreshed(house: House) {
    let other = house.tenant("other", "home").await;
    let account = house.register(house.home, bare(1)).await.unwrap();
    for n in 1..=2 {
        house.open_session(house.home, session(n, account, None), audit("signed_in")).await.unwrap();
    }
    let idle = LIFE.idle_expires_at;
    let refresh = |tenant, n, now| house.rotate_session(tenant, session_id(n), 0, now, now + 60 * DAY);
    assert_eq!(refused(refresh(house.home, 1, idle).await), Refused::SessionEnded);
    assert_eq!(missing(refresh(house.home, 9, NOW).await), "session");
    assert_eq!(missing(refresh(other, 1, NOW).await), "session");
    assert!(refresh(house.home, 1, idle - 1).await.unwrap());
    assert!(house.rotate_session(house.home, session_id(1), 1, LIFE.expires_at - 1, i64::MAX).await.unwrap());
    let too_late = house.rotate_session(house.home, session_id(1), 2, LIFE.expires_at, i64::MAX).await;
    assert_eq!(refused(too_late), Refused::SessionEnded, "however much it is used, a session has an end");
    let one = EndSessions::One(session_id(2));
    house.end_sessions(house.home, account, one, NOW, audit("signed_out")).await.unwrap();
    assert_eq!(refused(refresh(house.home, 2, NOW).await), Refused::SessionEnded);
}

async fn sessions_end_as_they_are_asked_to(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let stranger = house.register(house.home, registration(2)).await.unwrap();
    house.open_session(house.home, session(9, stranger, None), audit("signed_in")).await.unwrap();
    for n in 1..=5 {
        let on = (n == 5).then(|| device_id(1));
        house.open_session(house.home, session(n, account, on), audit("signed_in")).await.unwrap();
    }
    let end = |which| house.end_sessions(house.home, account, which, NOW + 1, audit("signed_out"));
    let living = async || house.sessions(house.home, account, NOW + 1).await.unwrap().len();
    assert_eq!(end(EndSessions::One(session_id(9))).await.unwrap(), 0, "another's session is not ended");
    assert_eq!(end(EndSessions::One(session_id(1))).await.unwrap(), 1);
    assert_eq!(end(EndSessions::One(session_id(1))).await.unwrap(), 0, "once is enough");
    assert_eq!(end(EndSessions::OfDevice(device_id(1))).await.unwrap(), 1);
    assert_eq!(living().await, 3);
    assert_eq!(end(EndSessions::AllBut(session_id(2))).await.unwrap(), 2);
    assert_eq!(end(EndSessions::All).await.unwrap(), 1);
    assert_eq!(living().await, 0);
    let ended = house.session(house.home, session_id(1)).await.unwrap().unwrap();
    assert_eq!(ended.ended_at, Some(NOW + 1), "an ended session is still found");
    assert_eq!(house.sessions(house.home, stranger, NOW + 1).await.unwrap().len(), 1);
    let entries = house.audit(house.home, account, i64::MAX, 100).await.unwrap();
    let written = entries.iter().filter(|row| row.action == "signed_out").count();
    assert_eq!(written, 4, "what ended nothing is not written down");
    let nobody = house.end_sessions(house.home, AccountNumber(77), EndSessions::All, NOW, audit("x")).await;
    assert_eq!(missing(nobody), "account");
}

async fn a_session_id_is_used_once(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    house.open_session(house.home, session(1, account, None), audit("signed_in")).await.unwrap();
    let again = house.open_session(house.home, session(1, account, None), audit("signed_in")).await;
    assert_eq!(refused(again), Refused::IdTaken("session"));
}

async fn a_credential_that_was_changed_opens_no_session(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let version = async || house.login_account(house.home, &name(1)).await.unwrap().unwrap().credential_version;
    let with_new_password = AccountChange { credential: Some(credential(2)), ..change() };
    let with_new_recovery_key = AccountChange { recovery: Some((2, [7; 32])), ..change() };
    let mut n = 0;
    for change in [
        AccountChange { log_length: 6, entries: vec![entry(1, 6)], ..with_new_password },
        AccountChange { log_length: 7, entries: vec![entry(1, 7)], ..with_new_recovery_key },
    ] {
        let shown = Some(version().await);
        n += 1;
        let current = NewSession { credential_version: shown, ..session(n, account, None) };
        house.open_session(house.home, current, audit("signed_in")).await.unwrap();
        house.change_account(house.home, account, change).await.unwrap();
        let old = NewSession { credential_version: shown, ..session(n + 10, account, None) };
        assert_eq!(refused(house.open_session(house.home, old, audit("x")).await), Refused::CredentialChanged);
    }
    house.expect_whole_audit().await;
}
