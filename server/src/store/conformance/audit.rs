//! The audit log, as its readers see it.

use super::*;
use crate::store::*;

on_both![
    entries_are_read_newest_first_in_pages_by_their_account,
    an_entry_keeps_all_its_parts,
    a_deleted_account_leaves_entries_that_name_nobody,
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
