//! What happens when several want the same thing at once: exactly one gets it.

use super::*;
use crate::store::*;
use futures_util::future::join_all;

on_both![
    of_two_registrations_of_one_name_one_wins,
    of_many_racers_one_uses_the_invitation,
    of_many_refreshes_one_moves_the_session,
    a_sign_in_under_way_is_taken_by_one,
    of_two_changes_on_one_log_one_wins,
    of_two_accounts_with_one_identity_one_wins,
    the_last_place_for_a_device_goes_to_one,
    the_last_place_in_a_plan_goes_to_one,
    a_recovery_code_is_used_by_one,
    many_writers_leave_a_whole_audit_log,
];

const RACERS: u64 = 8;
/// In the first round a connection is slow that has not seen the statements before; the race is in the later ones.
const ROUNDS: u64 = 5;

/// How many of them went well; the others must have failed with `expected`.
#[track_caller]
fn winners<T>(results: Vec<Result<T>>, expected: Refused) -> usize {
    let (won, lost): (Vec<_>, Vec<_>) = results.into_iter().partition(|result| result.is_ok());
    for result in lost {
        assert_eq!(refused(result), expected);
    }
    won.len()
}

async fn of_two_registrations_of_one_name_one_wins(house: House) {
    let racers = (0..RACERS).map(|n| {
        let registration = Registration { login_name: name(0), ..registration(n) };
        house.register(house.home, registration)
    });
    assert_eq!(winners(join_all(racers).await, Refused::LoginNameTaken), 1);
    assert_eq!(house.tenant_by_slug("home").await.unwrap().unwrap().accounts, 1);
    house.expect_whole_audit().await;
}

async fn of_many_racers_one_uses_the_invitation(house: House) {
    house.create_invitation(house.home, invitation(1, 1), audit("invited")).await.unwrap();
    let racers = (0..RACERS).map(|n| {
        let registration = Registration { invitation: Some(bytes("code", 1)), ..registration(n) };
        house.register(house.home, registration)
    });
    assert_eq!(winners(join_all(racers).await, Refused::InvitationInvalid), 1);
    assert_eq!(house.invitations(house.home).await.unwrap()[0].uses_left, 0);
}

async fn of_many_refreshes_one_moves_the_session(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let on = Some(device_id(1));
    house.open_session(house.home, session(1, account, on), audit("signed_in")).await.unwrap();
    for generation in 0..ROUNDS as u32 {
        let racers = (0..RACERS).map(|_| house.rotate_session(house.home, session_id(1), generation, NOW, NOW + DAY));
        let moved = join_all(racers).await.into_iter().filter(|moved| *moved.as_ref().unwrap()).count();
        assert_eq!(moved, 1);
        let row = house.session(house.home, session_id(1)).await.unwrap().unwrap();
        assert_eq!(row.refresh_generation, generation + 1);
    }
}

async fn a_sign_in_under_way_is_taken_by_one(house: House) {
    let state = LoginStateRow {
        login: login_id(1),
        account: None,
        purpose: LoginPurpose::Password,
        sealed: vec![1],
        expires_at: NOW + MINUTE,
        attempts: 0,
    };
    house.put_login_state(house.home, state).await.unwrap();
    let racers = (0..RACERS).map(|_| house.take_login_state(house.home, login_id(1), NOW));
    let taken = join_all(racers).await.into_iter().filter(|taken| taken.as_ref().unwrap().is_some()).count();
    assert_eq!(taken, 1);
}

async fn of_two_changes_on_one_log_one_wins(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let racers = (0..RACERS).map(|n| {
        let entries = vec![entry(n, 6), entry(n, 7)];
        house.change_account(house.home, account, AccountChange { log_length: 6, entries, ..change() })
    });
    assert_eq!(winners(join_all(racers).await, Refused::LogMoved), 1);
    assert_eq!(house.account_log(house.home, account, 0, 99).await.unwrap().1, 8);
}

async fn of_two_accounts_with_one_identity_one_wins(house: House) {
    let mut accounts = Vec::new();
    for n in 0..RACERS {
        accounts.push(house.register(house.home, bare(n)).await.unwrap());
    }
    let racers = accounts.iter().map(|account| {
        house.change_account(house.home, *account, AccountChange { identity: Some(identity(1)), ..change() })
    });
    assert_eq!(winners(join_all(racers).await, Refused::IdTaken("user id")), 1);
}

async fn the_last_place_in_a_plan_goes_to_one(house: House) {
    let tenant = house.tenant("small", "free").await;
    let limit = house.tenant_by_slug("small").await.unwrap().unwrap().max_accounts.unwrap() as u64;
    for n in 1..limit {
        house.register(tenant, bare(n)).await.unwrap();
    }
    let racers = (0..RACERS).map(|n| house.register(tenant, bare(100 + n)));
    assert_eq!(winners(join_all(racers).await, Refused::LimitReached("accounts")), 1);
}

async fn the_last_place_for_a_device_goes_to_one(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    for round in 1..=ROUNDS {
        let racers = (0..RACERS).map(|n| {
            let add_device = Some(device(100 * round + n));
            let change = AccountChange { add_device, max_devices: Some(2), ..change() };
            house.change_account(house.home, account, change)
        });
        assert_eq!(winners(join_all(racers).await, Refused::LimitReached("devices")), 1);
        let devices = house.devices(house.home, account).await.unwrap();
        let winner = devices.iter().find(|row| row.device != device_id(1) && row.revoked_at.is_none()).unwrap();
        let revoke = AccountChange { revoke_device: Some(winner.device), ..change() };
        house.change_account(house.home, account, revoke).await.unwrap();
    }
}

async fn a_recovery_code_is_used_by_one(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let factor = house.begin_factor(house.home, account, FactorKind::Totp, vec![1], NOW).await.unwrap();
    house.confirm_factor(house.home, account, factor, 1, vec![[1; 32]], audit("totp_on")).await.unwrap();
    let racers = (0..RACERS).map(|_| house.use_recovery_code(house.home, account, [1; 32], NOW));
    let used = join_all(racers).await.into_iter().filter(|used| *used.as_ref().unwrap()).count();
    assert_eq!(used, 1);
    let racers = (0..RACERS).map(|_| house.use_totp_step(house.home, account, factor, 9));
    let used = join_all(racers).await.into_iter().filter(|used| *used.as_ref().unwrap()).count();
    assert_eq!(used, 1);
}

async fn many_writers_leave_a_whole_audit_log(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let writers = (0..40).map(|n| house.record(house.home, (n % 2 == 0).then_some(account), audit("busy")));
    for result in join_all(writers).await {
        result.unwrap();
    }
    assert_eq!(house.audit(house.home, account, i64::MAX, 100).await.unwrap().len(), 21);
    house.expect_whole_audit().await;
}
