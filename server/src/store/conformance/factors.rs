//! Second factors and the codes that stand in for them.

use super::*;
use crate::store::*;

on_both![
    a_factor_counts_once_it_is_confirmed,
    a_new_factor_takes_the_place_of_the_old_one,
    a_totp_step_is_used_once_and_never_backwards,
    a_recovery_code_is_used_once_and_by_its_owner,
    removed_factors_are_gone_with_their_codes,
];

async fn with_totp(house: &House, n: u64, codes: Vec<[u8; 32]>) -> (AccountNumber, i64) {
    let account = house.register(house.home, registration(n)).await.unwrap();
    let factor = house.begin_factor(house.home, account, FactorKind::Totp, vec![1], NOW).await.unwrap();
    house.confirm_factor(house.home, account, factor, 100, codes, audit("totp_on")).await.unwrap();
    (account, factor)
}

async fn a_factor_counts_once_it_is_confirmed(house: House) {
    let account = house.register(house.home, registration(1)).await.unwrap();
    let factor = house.begin_factor(house.home, account, FactorKind::Totp, vec![5], NOW).await.unwrap();
    let [waiting] = &house.factors(house.home, account).await.unwrap()[..] else { panic!("one factor") };
    assert!(*waiting == FactorRow { factor, kind: FactorKind::Totp, sealed: vec![5], confirmed: false, last_step: 0 });
    assert!(house.account(house.home, account).await.unwrap().second_factors.is_empty());
    assert!(!house.use_totp_step(house.home, account, factor, 7).await.unwrap());

    house.confirm_factor(house.home, account, factor, 6, vec![], audit("totp_on")).await.unwrap();
    let [confirmed] = &house.factors(house.home, account).await.unwrap()[..] else { panic!("one factor") };
    assert!(confirmed.confirmed && confirmed.last_step == 6);
    assert_eq!(house.account(house.home, account).await.unwrap().second_factors, vec![FactorKind::Totp]);
    let twice = house.confirm_factor(house.home, account, factor, 7, vec![], audit("x")).await;
    assert_eq!(missing(twice), "second factor");
    house.expect_whole_audit().await;
}

async fn a_new_factor_takes_the_place_of_the_old_one(house: House) {
    let (account, old) = with_totp(&house, 1, vec![[1; 32]]).await;
    let abandoned = house.begin_factor(house.home, account, FactorKind::Totp, vec![2], NOW).await.unwrap();
    let new = house.begin_factor(house.home, account, FactorKind::Totp, vec![3], NOW).await.unwrap();
    let key = house.begin_factor(house.home, account, FactorKind::Webauthn, vec![4], NOW).await.unwrap();
    let numbers =
        async || house.factors(house.home, account).await.unwrap().iter().map(|row| row.factor).collect::<Vec<_>>();
    assert_eq!(numbers().await, [old, new, key], "the old one counts until the new one is confirmed");
    let gone = house.confirm_factor(house.home, account, abandoned, 1, vec![], audit("x")).await;
    assert_eq!(missing(gone), "second factor");
    house.confirm_factor(house.home, account, new, 1, vec![[2; 32]], audit("totp_on")).await.unwrap();
    house.confirm_factor(house.home, account, key, 0, vec![[3; 32]], audit("webauthn_on")).await.unwrap();
    assert_eq!(numbers().await, [new, key]);
    let row = house.account(house.home, account).await.unwrap();
    assert_eq!(row.second_factors, vec![FactorKind::Totp, FactorKind::Webauthn]);
    for (code, left) in [([1; 32], false), ([2; 32], false), ([3; 32], true)] {
        assert_eq!(house.use_recovery_code(house.home, account, code, NOW).await.unwrap(), left);
    }
}

async fn a_totp_step_is_used_once_and_never_backwards(house: House) {
    let (account, factor) = with_totp(&house, 1, vec![]).await;
    let stranger = house.register(house.home, registration(2)).await.unwrap();
    for (step, fresh) in [(100, false), (99, false), (101, true), (101, false), (103, true), (102, false)] {
        assert_eq!(house.use_totp_step(house.home, account, factor, step).await.unwrap(), fresh, "{step}");
    }
    assert!(!house.use_totp_step(house.home, stranger, factor, 500).await.unwrap());
    assert!(!house.use_totp_step(house.home, account, factor + 1, 500).await.unwrap());
}

async fn a_recovery_code_is_used_once_and_by_its_owner(house: House) {
    let (account, _) = with_totp(&house, 1, vec![[1; 32], [2; 32]]).await;
    let (stranger, _) = with_totp(&house, 2, vec![[3; 32]]).await;
    assert!(!house.use_recovery_code(house.home, stranger, [1; 32], NOW).await.unwrap());
    assert!(house.use_recovery_code(house.home, account, [1; 32], NOW).await.unwrap());
    assert!(!house.use_recovery_code(house.home, account, [1; 32], NOW).await.unwrap());
    assert!(house.use_recovery_code(house.home, account, [2; 32], NOW).await.unwrap());
}

async fn removed_factors_are_gone_with_their_codes(house: House) {
    let (account, old) = with_totp(&house, 1, vec![[1; 32]]).await;
    house.begin_factor(house.home, account, FactorKind::Webauthn, vec![2], NOW).await.unwrap();
    house.remove_factors(house.home, account, audit("factors_removed")).await.unwrap();
    assert!(house.factors(house.home, account).await.unwrap().is_empty());
    assert!(!house.use_recovery_code(house.home, account, [1; 32], NOW).await.unwrap());
    let next = house.begin_factor(house.home, account, FactorKind::Totp, vec![3], NOW).await.unwrap();
    assert!(next > old, "numbers are never used twice");
    let nobody = AccountNumber(77);
    assert_eq!(missing(house.remove_factors(house.home, nobody, audit("x")).await), "account");
    let begun = house.begin_factor(house.home, nobody, FactorKind::Totp, vec![1], NOW).await;
    assert_eq!(missing(begun), "account");
    assert!(house.factors(house.home, nobody).await.unwrap().is_empty());
}
