//! What belongs to no tenant: identity, keys, the sweep, the end.

use super::*;
use crate::store::*;
use futures_util::future::join_all;
use selkie_protocol::id::Incarnation;

on_both![
    a_database_keeps_its_first_identity,
    keys_are_kept_once_and_oldest_first,
    old_signing_keys_are_forgotten,
    a_sweep_removes_what_has_expired_and_nothing_else,
    a_sweep_of_many_rows_takes_its_steps,
    a_closed_store_is_unavailable,
];

async fn a_database_keeps_its_first_identity(house: House) {
    house.ping().await.unwrap();
    let second = Identity {
        incarnation: Incarnation([9; 16]),
        master_key_fingerprint: vec![9; 8],
        created_at: NOW + 1,
        restored_at: None,
    };
    let kept = house.initialise(second, house::tenant("home", "home")).await.unwrap();
    let first = Identity {
        incarnation: Incarnation([1; 16]),
        master_key_fingerprint: vec![2; 8],
        created_at: NOW,
        restored_at: None,
    };
    assert_eq!(kept, first);
    assert_eq!(house.tenants().await.unwrap().len(), 1);
}

fn key(id: i32, created_at: Millis) -> SealedKey {
    SealedKey { id, sealed: vec![id as u8; 40], created_at }
}

async fn keys_are_kept_once_and_oldest_first(house: House) {
    let first = house.opaque_setups().await.unwrap();
    assert_eq!(first.len(), 1);
    house.add_opaque_setup(key(7, NOW + 5)).await.unwrap();
    let all = house.add_opaque_setup(key(3, NOW + 9)).await.unwrap();
    assert_eq!(all.iter().map(|key| key.id).collect::<Vec<_>>(), [1, 7, 3]);
    let late = SealedKey { sealed: vec![0; 40], ..key(7, NOW) };
    assert_eq!(house.add_opaque_setup(late).await.unwrap(), all, "whoever came first is kept");
    assert_eq!(house.opaque_setups().await.unwrap(), all);
}

async fn old_signing_keys_are_forgotten(house: House) {
    assert!(house.signing_keys().await.unwrap().is_empty());
    for n in 1..=3 {
        house.add_signing_key(key(n, NOW + i64::from(n)), 0).await.unwrap();
    }
    let late = SealedKey { sealed: vec![0; 40], ..key(3, NOW) };
    assert_eq!(house.add_signing_key(late, 0).await.unwrap().len(), 3);
    let left = house.add_signing_key(key(4, NOW + 4), NOW + 3).await.unwrap();
    assert_eq!(left, vec![key(3, NOW + 3), key(4, NOW + 4)]);
    assert_eq!(house.signing_keys().await.unwrap(), left);
}

fn sign_in(n: u64, expires_at: Millis) -> LoginStateRow {
    let login = login_id(n);
    LoginStateRow { login, account: None, purpose: LoginPurpose::Password, sealed: vec![1], expires_at, attempts: 0 }
}

async fn a_sweep_removes_what_has_expired_and_nothing_else(house: House) {
    let other = house.tenant("other", "home").await;
    for tenant in [house.home, other] {
        let account = house.register(tenant, registration(1)).await.unwrap();
        for n in 1..=3 {
            house.open_session(tenant, session(n, account, None), audit("signed_in")).await.unwrap();
        }
        let one = EndSessions::One(session_id(1));
        house.end_sessions(tenant, account, one, NOW, audit("signed_out")).await.unwrap();
        house.rotate_session(tenant, session_id(2), 0, NOW, NOW + 20 * DAY).await.unwrap();
        for (n, expires_at) in [(1, NOW + MINUTE), (2, NOW + 9 * DAY)] {
            house.put_login_state(tenant, sign_in(n, expires_at)).await.unwrap();
            let link = NewLink { channel: channel(n), account, offer: vec![1], expires_at };
            house.open_link(tenant, link).await.unwrap();
            let invitation = NewInvitation { expires_at, ..invitation(n, 1) };
            house.create_invitation(tenant, invitation, audit("invited")).await.unwrap();
        }
    }
    assert_eq!(house.sweep(NOW, DAY).await.unwrap(), 0);
    // In each tenant one sign-in, one link, one invitation.
    assert_eq!(house.sweep(NOW + MINUTE, DAY).await.unwrap(), 6);
    // And the session that ended a day ago.
    assert_eq!(house.sweep(NOW + DAY, DAY).await.unwrap(), 2);
    assert!(house.session(other, session_id(1)).await.unwrap().is_none());
    // Then the one that nobody used; the one that was used stays.
    assert_eq!(house.sweep(LIFE.idle_expires_at + DAY, DAY).await.unwrap(), 2);
    for tenant in [house.home, other] {
        assert!(house.session(tenant, session_id(3)).await.unwrap().is_none());
        assert!(house.session(tenant, session_id(2)).await.unwrap().is_some());
        assert!(house.take_login_state(tenant, login_id(2), NOW).await.unwrap().is_some());
        assert!(house.link(tenant, channel(2), NOW).await.unwrap().is_some());
        assert_eq!(house.invitations(tenant).await.unwrap().len(), 1);
    }
    house.expect_whole_audit().await;
}

async fn a_sweep_of_many_rows_takes_its_steps(house: House) {
    for result in join_all((0..501).map(|n| house.put_login_state(house.home, sign_in(n, NOW)))).await {
        result.unwrap();
    }
    assert_eq!(house.sweep(NOW, DAY).await.unwrap(), 501);
}

async fn a_closed_store_is_unavailable(house: House) {
    house.close().await;
    assert!(matches!(house.ping().await, Err(StoreError::Unavailable(_))));
    assert!(matches!(house.register(house.home, bare(1)).await, Err(StoreError::Unavailable(_))));
    house.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_file_is_whole_without_what_lay_beside_it() {
    for round in 0..40 {
        let house = House::on_sqlite().await;
        house.begin_another_life(Incarnation([7; 16]), NOW).await.unwrap();
        let reading = (0..4).map(|_| house.ping());
        futures_util::future::join_all(reading).await;
        house.close().await;
        let file = house.url.strip_prefix("sqlite:").unwrap();
        let beside = std::fs::metadata(format!("{file}-wal")).map_or(0, |log| log.len());
        assert_eq!(beside, 0, "round {round}");
    }
}
