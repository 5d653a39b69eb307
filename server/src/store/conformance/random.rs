//! Random sequences of operations, told to the store and to the model: both must answer the same at every step and
//! be in the same state at the end.

use super::house::House;
use super::model::{Ask, Model, Told};
use super::people::*;
use crate::store::*;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

const CASES: u32 = 32;
const LONGEST: usize = 50;

#[test]
fn on_sqlite_the_store_does_what_the_model_does() {
    compare(House::on_sqlite());
}

#[test]
fn on_postgres_the_store_does_what_the_model_does() {
    compare(House::on_postgres());
}

/// Every case plays in a tenant of its own; the sequences are the same every time.
fn compare(house: impl Future<Output = House>) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let house = runtime.block_on(house);
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let case = std::cell::Cell::new(0);
    TestRunner::new_with_rng(config, rng)
        .run(&prop::collection::vec(ask(), 1..LONGEST), |asks| {
            case.set(case.get() + 1);
            let slug = format!("case-{}", case.get());
            runtime.block_on(play(&house, &slug, &asks))
        })
        .unwrap();
    runtime.block_on(house.close());
}

fn ask() -> impl Strategy<Value = Ask> {
    let (account, device, session, name) = (1..5i64, 0..5u64, 0..6u64, 0..5u64);
    let (invitation, login, link, factor) = (1..4i64, 0..3u64, 0..3u64, 1..5i64);
    let kind = || prop_oneof![Just(FactorKind::Totp), Just(FactorKind::Webauthn)];
    let maybe = |number: std::ops::Range<u64>| prop::option::of(number);
    // In groups, because a choice has at most ten ways.
    let accounts = prop_oneof![
        4 => (name, maybe(0..5), prop::option::weighted(0.3, invitation.clone()))
            .prop_map(|(name, identity, invitation)| Ask::Register { name, identity, invitation }),
        1 => (1..3i32).prop_map(|uses| Ask::Invite { uses }),
        1 => invitation.prop_map(|invitation| Ask::Revoke { invitation }),
        1 => (account.clone(), any::<bool>()).prop_map(|(account, suspended)| Ask::Suspend { account, suspended }),
        1 => (account.clone(), maybe(0..6)).prop_map(|(account, keep)| Ask::Schedule { account, keep }),
        1 => account.clone().prop_map(|account| Ask::Cancel { account }),
        1 => account.clone().prop_map(|account| Ask::Delete { account }),
    ];
    let changes = prop_oneof![
        3 => (account.clone(), 5..9u64, 1..3u64)
            .prop_map(|(account, log_length, entries)| Ask::Append { account, log_length, entries }),
        1 => (account.clone(), 0..5u64).prop_map(|(account, identity)| Ask::Complete { account, identity }),
        2 => (account.clone(), device.clone(), 1..5i64)
            .prop_map(|(account, device, limit)| Ask::AddDevice { account, device, limit }),
        1 => (account.clone(), device.clone()).prop_map(|(account, device)| Ask::RevokeDevice { account, device }),
    ];
    let sessions = prop_oneof![
        3 => (session.clone(), account.clone(), maybe(0..5))
            .prop_map(|(session, account, device)| Ask::Open { session, account, device }),
        3 => (session.clone(), 0..3u32).prop_map(|(session, generation)| Ask::Rotate { session, generation }),
        1 => (account.clone(), session, device.clone())
            .prop_map(|(account, session, device)| Ask::Bind { account, session, device }),
        1 => (account.clone(), maybe(0..6)).prop_map(|(account, but)| Ask::End { account, but }),
        1 => login.clone().prop_map(|login| Ask::PutLogin { login }),
        1 => login.prop_map(|login| Ask::TakeLogin { login }),
    ];
    let factors = prop_oneof![
        2 => (account.clone(), kind()).prop_map(|(account, kind)| Ask::Begin { account, kind }),
        2 => (account.clone(), factor.clone()).prop_map(|(account, factor)| Ask::Confirm { account, factor }),
        1 => (account.clone(), factor, 0..5i64)
            .prop_map(|(account, factor, step)| Ask::UseStep { account, factor, step }),
        1 => (account.clone(), 1..3u8).prop_map(|(account, code)| Ask::UseCode { account, code }),
        1 => account.clone().prop_map(|account| Ask::RemoveFactors { account }),
    ];
    let links = prop_oneof![
        (link.clone(), account.clone()).prop_map(|(link, account)| Ask::OpenLink { link, account }),
        link.clone().prop_map(|link| Ask::RequestLink { link }),
        (link.clone(), account, device).prop_map(|(link, account, device)| Ask::AnswerLink { link, account, device }),
        link.prop_map(|link| Ask::UseLink { link }),
    ];
    prop_oneof![
        5 => accounts,
        3 => changes,
        5 => sessions,
        3 => factors,
        2 => links,
        1 => (1..15i64).prop_map(|minutes| Ask::Wait { minutes }),
        1 => Just(Ask::Sweep),
    ]
}

async fn play(house: &House, slug: &str, asks: &[Ask]) -> std::result::Result<(), TestCaseError> {
    // A sweep goes through all tenants: nothing of an earlier case may be left for it.
    house.sweep(NOW + 1000 * DAY, 0).await.unwrap();
    let tenant = house.tenant(slug, "free").await;
    let mut model = Model::default();
    for (step, ask) in people_to_begin_with().iter().chain(asks).enumerate() {
        let now = model.now();
        let expected = model.ask(ask);
        let told = put(house, tenant, ask, now, step as u64).await;
        prop_assert_eq!(told, expected, "step {}: {:?}", step, ask);
    }
    same_state(house, tenant, &model).await
}

/// So that most of what is asked finds somebody.
fn people_to_begin_with() -> [Ask; 4] {
    [
        Ask::Register { name: 0, identity: Some(0), invitation: None },
        Ask::Register { name: 1, identity: None, invitation: None },
        Ask::Open { session: 0, account: 1, device: Some(0) },
        Ask::Open { session: 1, account: 2, device: None },
    ]
}

/// Asks the store what the model was asked.
async fn put(house: &House, tenant: Tenant, ask: &Ask, now: Millis, step: u64) -> Told {
    let number = AccountNumber;
    let changed = |account, change| async move {
        told(house.change_account(tenant, AccountNumber(account), AccountChange { now, ..change }).await, |()| {
            Told::Done
        })
    };
    let done = |()| Told::Done;
    let word = audit("asked");
    match ask.clone() {
        Ask::Invite { uses } => {
            let code_hash = bytes(&format!("code of {tenant:?}"), step);
            let new = NewInvitation { code_hash, expires_at: now + 10 * MINUTE, ..invitation(0, uses) };
            let made = house.create_invitation(tenant, new, word).await;
            told(made, |number| {
                CODES.with_borrow_mut(|codes| codes.insert((tenant, number), code_hash));
                Told::Number(number)
            })
        }
        Ask::Revoke { invitation } => told(house.revoke_invitation(tenant, invitation, word).await, done),
        Ask::Register { name: n, identity: keys, invitation } => {
            let code = |invitation| CODES.with_borrow(|codes| codes.get(&(tenant, invitation)).copied());
            let registration = Registration {
                login_name: name(n),
                uuid: uuid::Uuid::from_bytes(bytes("uuid", step)),
                audit_subject: bytes("subject", step),
                invitation: invitation.map(|invitation| code(invitation).unwrap_or_default()),
                identity: keys.map(identity),
                now,
                ..bare(n)
            };
            told(house.register(tenant, registration).await, |AccountNumber(number)| Told::Number(number))
        }
        Ask::Append { account, log_length, entries } => {
            let entries = (0..entries).map(|n| entry(step, n)).collect();
            changed(account, AccountChange { log_length, entries, ..change() }).await
        }
        Ask::Complete { account, identity: keys } => {
            changed(account, AccountChange { identity: Some(identity(keys)), password_shown_at: i64::MAX, ..change() })
                .await
        }
        Ask::AddDevice { account, device: n, limit } => {
            changed(account, AccountChange { add_device: Some(device(n)), max_devices: Some(limit), ..change() }).await
        }
        Ask::RevokeDevice { account, device } => {
            changed(account, AccountChange { revoke_device: Some(device_id(device)), ..change() }).await
        }
        Ask::Suspend { account, suspended } => {
            told(house.set_account_suspended(tenant, number(account), suspended, word).await, done)
        }
        Ask::Schedule { account, keep } => {
            let keep = keep.map(session_id);
            told(house.schedule_deletion(tenant, number(account), now + DAY, keep, now, word).await, done)
        }
        Ask::Cancel { account } => told(house.cancel_deletion(tenant, number(account), word).await, done),
        Ask::Delete { account } => told(house.delete_account(tenant, number(account), word).await, done),
        Ask::Open { session: n, account, device } => {
            let new = NewSession { now, ..session(n, number(account), device.map(device_id)) };
            told(house.open_session(tenant, new, word).await, |_| Told::Done)
        }
        Ask::Rotate { session, generation } => {
            let idle = now + 30 * MINUTE;
            told(house.rotate_session(tenant, session_id(session), generation, now, idle).await, Told::from)
        }
        Ask::Bind { account, session, device } => {
            let bind_session = Some((session_id(session), device_id(device), LIFE));
            changed(account, AccountChange { bind_session, ..change() }).await
        }
        Ask::End { account, but } => {
            let which = but.map_or(EndSessions::All, |but| EndSessions::AllBut(session_id(but)));
            let ended = house.end_sessions(tenant, number(account), which, now, word).await;
            told(ended, |ended| Told::Number(ended as i64))
        }
        Ask::PutLogin { login } => {
            let state = LoginStateRow {
                login: login_id(login),
                account: None,
                purpose: LoginPurpose::Password,
                sealed: vec![1],
                expires_at: now + 5 * MINUTE,
                attempts: 0,
            };
            told(house.put_login_state(tenant, state).await, done)
        }
        Ask::TakeLogin { login } => {
            told(house.take_login_state(tenant, login_id(login), now).await, |taken| taken.is_some().into())
        }
        Ask::Begin { account, kind } => {
            told(house.begin_factor(tenant, number(account), kind, vec![1], now).await, Told::Number)
        }
        Ask::Confirm { account, factor } => {
            let codes = Model::CODES.map(|code| [code; 32]).to_vec();
            told(house.confirm_factor(tenant, number(account), factor, 1, codes, word).await, done)
        }
        Ask::UseStep { account, factor, step } => {
            told(house.use_totp_step(tenant, number(account), factor, step).await, Told::from)
        }
        Ask::UseCode { account, code } => {
            told(house.use_recovery_code(tenant, number(account), [code; 32], now).await, Told::from)
        }
        Ask::RemoveFactors { account } => told(house.remove_factors(tenant, number(account), word).await, done),
        Ask::OpenLink { link, account } => {
            let new = NewLink {
                channel: channel(link),
                account: number(account),
                offer: vec![1],
                expires_at: now + 5 * MINUTE,
            };
            told(house.open_link(tenant, new).await, done)
        }
        Ask::RequestLink { link } => told(house.request_link(tenant, channel(link), vec![1], now).await, done),
        Ask::AnswerLink { link, account, device } => {
            let answer_link = Some((channel(link), vec![1], device_id(device)));
            changed(account, AccountChange { answer_link, ..change() }).await
        }
        Ask::UseLink { link } => told(house.use_link(tenant, channel(link), now).await, |used| used.is_some().into()),
        Ask::Sweep => told(house.sweep(now, 20 * MINUTE).await, |swept| Told::Number(swept as i64)),
        Ask::Wait { .. } => Told::Done,
    }
}

thread_local! {
    /// Which code belongs to which invitation: the store keeps none, and the model needs none.
    static CODES: std::cell::RefCell<std::collections::HashMap<(Tenant, i64), [u8; 32]>> = Default::default();
}

fn told<T>(result: Result<T>, done: impl FnOnce(T) -> Told) -> Told {
    match result {
        Ok(value) => done(value),
        Err(StoreError::NotFound(what)) => Told::Missing(what),
        Err(StoreError::Refused(refused)) => Told::Refused(refused),
        Err(other) => panic!("no sequence of requests may lead to this: {other:?}"),
    }
}

async fn same_state(house: &House, tenant: Tenant, model: &Model) -> std::result::Result<(), TestCaseError> {
    let invitations = house.invitations(tenant).await.unwrap();
    let found: Vec<_> =
        invitations.iter().map(|row| (row.invitation, row.uses_left, row.revoked_at.is_some())).collect();
    let expected: Vec<_> = model.invitations.iter().map(|(n, i)| (*n, i.uses, i.revoked)).collect();
    prop_assert_eq!(found, expected);

    let accounts = house.accounts(tenant, AccountNumber(0), 100).await.unwrap();
    prop_assert_eq!(accounts.len(), model.accounts.len());
    for (row, (number, account)) in accounts.iter().zip(&model.accounts) {
        prop_assert_eq!(row.account, AccountNumber(*number));
        prop_assert_eq!(&row.login_name, &name(account.name));
        prop_assert_eq!(row.uid, account.identity.map(uid));
        prop_assert_eq!(row.log_length, account.log_length);
        prop_assert_eq!(row.last_seen, account.last_seen);
        let state = match account {
            account if account.suspended => AccountState::Suspended,
            account if account.deleting => AccountState::Deleting,
            account if account.identity.is_none() => AccountState::Bare,
            _ => AccountState::Active,
        };
        prop_assert_eq!(row.state, state);
        let (entries, length) = house.account_log(tenant, row.account, 0, 1000).await.unwrap();
        prop_assert_eq!((entries.len() as u64, length), (account.log_length, account.log_length));

        let mut devices: Vec<_> = house
            .devices(tenant, row.account)
            .await
            .unwrap()
            .iter()
            .map(|d| (d.device, d.revoked_at.is_some()))
            .collect();
        devices.sort();
        let mut expected: Vec<_> = account.devices.iter().map(|(n, revoked)| (device_id(*n), *revoked)).collect();
        expected.sort();
        prop_assert_eq!(devices, expected);

        let factors = house.factors(tenant, row.account).await.unwrap();
        let found: Vec<_> = factors.iter().map(|f| (f.factor, f.kind, f.confirmed, f.last_step)).collect();
        let expected: Vec<_> = account.factors.iter().map(|(n, f)| (*n, f.kind, f.confirmed, f.step)).collect();
        prop_assert_eq!(found, expected);

        let mut living: Vec<_> = house.sessions(tenant, row.account, model.now()).await.unwrap();
        living.sort_by_key(|session| session.session);
        let mut expected: Vec<_> = model.living_sessions(*number).into_iter().map(session_id).collect();
        expected.sort();
        prop_assert_eq!(living.iter().map(|session| session.session).collect::<Vec<_>>(), expected);
    }
    for (n, session) in &model.sessions {
        let row = house.session(tenant, session_id(*n)).await.unwrap().unwrap();
        let found = (row.account.0, row.device, row.refresh_generation, row.ended_at);
        prop_assert_eq!(found, (session.account, session.device.map(device_id), session.generation, session.ended));
    }
    prop_assert_eq!(house.verify_audit(tenant).await.unwrap(), None);
    let row = house.tenants().await.unwrap().into_iter().find(|row| row.tenant == tenant).unwrap();
    prop_assert_eq!(row.accounts as usize, model.accounts.len());
    prop_assert_eq!(row.max_accounts, Some(Model::MAX_ACCOUNTS as i64));
    Ok(())
}
