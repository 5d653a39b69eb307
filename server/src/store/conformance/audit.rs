//! The audit log, as its readers see it.

use super::*;
use crate::store::*;

on_both![
    entries_are_read_newest_first_in_pages_by_their_account,
    an_entry_keeps_all_its_parts,
    a_deleted_account_leaves_entries_that_name_nobody,
    failures_are_counted_and_listed_once_a_day,
    failures_are_forgotten_in_time,
    a_device_has_another_name_in_the_audit_log,
];

async fn entries_are_read_newest_first_in_pages_by_their_account(house: House) {
    let other = house.tenant("other", "home").await;
    let account = house.register(house.home, registration(1)).await.unwrap();
    let stranger = house.register(house.home, registration(2)).await.unwrap();
    for action in ["one", "two", "three"] {
        house.record(house.home, Some(account), audit(action)).await.unwrap();
        house.record(house.home, Some(stranger), audit("strange")).await.unwrap();
        house.record(house.home, None, audit("nobody")).await.unwrap();
    }
    let page = house.audit(house.home, account, i64::MAX, 3).await.unwrap();
    assert_eq!(page.iter().map(|row| row.action.as_str()).collect::<Vec<_>>(), ["three", "two", "one"]);
    let page = house.audit(house.home, account, page[2].number, 3).await.unwrap();
    assert_eq!(page.iter().map(|row| row.action.as_str()).collect::<Vec<_>>(), ["registered"]);
    assert_eq!(missing(house.audit(other, account, i64::MAX, 3).await), "account");
    assert_eq!(missing(house.record(other, Some(account), audit("x")).await), "account");
    assert_eq!(house.verify_audit(house.home).await.unwrap(), None);
    assert_eq!(house.verify_audit(other).await.unwrap(), None, "an empty log is whole");
}

async fn an_entry_keeps_all_its_parts(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let entry = NewAudit {
        at: NOW + 5,
        action: "device_revoked",
        device: Some(device_id(1)),
        detail: Some("by another device".into()),
    };
    house.record(house.home, Some(account), entry).await.unwrap();
    let [found] = &house.audit(house.home, account, i64::MAX, 1).await.unwrap()[..] else { panic!("one entry") };
    let expected = AuditRow {
        number: 2,
        at: NOW + 5,
        action: "device_revoked".into(),
        device: Some(device_id(1)),
        detail: Some("by another device".into()),
    };
    assert_eq!(*found, expected);
    house.expect_whole_audit().await;
}

async fn failures_are_counted_and_listed_once_a_day(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let at = |at| NewAudit { at, ..audit("sign_in_failed") };
    for n in 0..5 {
        house.count_failure(house.home, Some(account), FailureKind::SignIn, at(NOW + n)).await.unwrap();
        house.count_failure(house.home, None, FailureKind::SignIn, at(NOW + n)).await.unwrap();
    }
    house.count_failure(house.home, Some(account), FailureKind::Recovery, audit("recovery_failed")).await.unwrap();
    house.count_failure(house.home, Some(account), FailureKind::SignIn, at(NOW + DAY)).await.unwrap();
    let listed: Vec<String> =
        house.audit(house.home, account, i64::MAX, 99).await.unwrap().into_iter().map(|row| row.action).collect();
    assert_eq!(listed, ["sign_in_failed", "recovery_failed", "sign_in_failed", "registered"]);
    let day = FailureRow::day_of(NOW);
    let counted = house.failures(house.home, account).await.unwrap();
    let row = |kind, day, times| FailureRow { kind, day, times };
    let expected =
        [row(FailureKind::SignIn, day, 5), row(FailureKind::Recovery, day, 1), row(FailureKind::SignIn, day + 1, 1)];
    assert_eq!(counted, expected);
    let nobody = house.failures(house.home, AccountNumber(0)).await.unwrap();
    assert_eq!(nobody, [row(FailureKind::SignIn, day, 5)], "one row for all names that do not exist");
    // Nobody's failures left no entry: the next one comes right after those of the account.
    let next = house.audit(house.home, account, i64::MAX, 1).await.unwrap()[0].number + 1;
    house.record(house.home, Some(account), audit("next")).await.unwrap();
    assert_eq!(house.audit(house.home, account, i64::MAX, 1).await.unwrap()[0].number, next);
    let gone = house.count_failure(house.home, Some(AccountNumber(77)), FailureKind::SignIn, at(NOW)).await;
    assert_eq!(missing(gone), "account");
    house.expect_whole_audit().await;
}

async fn failures_are_forgotten_in_time(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    for at in [NOW, NOW + DAY] {
        let audit = NewAudit { at, ..audit("sign_in_failed") };
        house.count_failure(house.home, Some(account), FailureKind::SignIn, audit).await.unwrap();
    }
    house.sweep(NOW + 31 * DAY, 30 * DAY).await.unwrap();
    let left = house.failures(house.home, account).await.unwrap();
    assert_eq!(left.iter().map(|row| row.day).collect::<Vec<_>>(), [FailureRow::day_of(NOW + DAY)]);
}

/// The alias cannot be made without the account's secret uuid, which goes with the account.
async fn a_device_has_another_name_in_the_audit_log(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    for device in [device_id(1), device_id(2)] {
        let entry = NewAudit { device: Some(device), ..audit("seen") };
        house.record(house.home, Some(account), entry).await.unwrap();
    }
    let found: Vec<_> =
        house.audit(house.home, account, i64::MAX, 2).await.unwrap().into_iter().map(|row| row.device).collect();
    assert_eq!(found, [None, Some(device_id(1))], "its owner sees the device, if it is one of the account's");
    let kept = super::catalogue::devices_in_the_audit_log(&house).await;
    assert_eq!(kept.len(), 2);
    assert!(!kept.contains(&device_id(1).0.to_vec()));
}

async fn a_deleted_account_leaves_entries_that_name_nobody(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    house.delete_account(house.home, account, audit("deleted")).await.unwrap();
    assert_eq!(missing(house.audit(house.home, account, i64::MAX, 9).await), "account");
    // The one that comes after under the same name has a subject of its own and sees nothing of what was.
    let next = Registration { audit_subject: [9; 16], ..registration(1) };
    let next = house.register(house.home, next).await.unwrap();
    assert_eq!(house.audit(house.home, next, i64::MAX, 9).await.unwrap().len(), 1);
    house.expect_whole_audit().await;
}
