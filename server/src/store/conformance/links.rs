//! Two devices that meet.

use super::*;
use crate::store::*;

on_both![
    a_link_goes_from_offer_to_request_to_answer_and_is_used_up,
    a_link_takes_every_step_once,
    a_link_that_expired_is_not_there,
];

async fn offer(house: &House) -> AccountNumber {
    let account = house.register(house.home, registration(1)).await.unwrap();
    house.open_link(house.home, link(account)).await.unwrap();
    account
}

fn link(account: AccountNumber) -> NewLink {
    NewLink { channel: channel(1), account, offer: vec![1], expires_at: NOW + MINUTE }
}

fn answer(now: Millis) -> AccountChange {
    AccountChange {
        now,
        add_device: Some(device(2)),
        answer_link: Some((channel(1), vec![3], device_id(2))),
        ..change()
    }
}

async fn a_link_goes_from_offer_to_request_to_answer_and_is_used_up(house: House) {
    let account = offer(&house).await;
    let mut expected = LinkRow { account, offer: vec![1], request: None, answer: None, device: None };
    assert!(house.link(house.home, channel(1), NOW).await.unwrap() == Some(expected.clone()));
    house.request_link(house.home, channel(1), vec![2], NOW).await.unwrap();
    expected.request = Some(vec![2]);
    assert!(house.link(house.home, channel(1), NOW).await.unwrap() == Some(expected.clone()));
    assert_eq!(house.use_link(house.home, channel(1), NOW).await.unwrap(), None);
    house.change_account(house.home, account, answer(NOW)).await.unwrap();
    (expected.answer, expected.device) = (Some(vec![3]), Some(device_id(2)));
    assert!(house.link(house.home, channel(1), NOW).await.unwrap() == Some(expected));
    assert_eq!(house.use_link(house.home, channel(1), NOW).await.unwrap(), Some((account, device_id(2))));
    assert_eq!(house.use_link(house.home, channel(1), NOW).await.unwrap(), None);
    assert!(house.link(house.home, channel(1), NOW).await.unwrap().is_none());
}

async fn a_link_takes_every_step_once(house: House) {
    let account = offer(&house).await;
    assert_eq!(refused(house.open_link(house.home, link(account)).await), Refused::LinkState);
    let early = house.change_account(house.home, account, answer(NOW)).await;
    assert_eq!(refused(early), Refused::LinkState, "nobody has asked yet");
    house.request_link(house.home, channel(1), vec![2], NOW).await.unwrap();
    let second = house.request_link(house.home, channel(1), vec![9], NOW).await;
    assert_eq!(refused(second), Refused::LinkState);
    house.change_account(house.home, account, answer(NOW)).await.unwrap();
    let again = AccountChange { answer_link: Some((channel(1), vec![9], device_id(1))), ..change() };
    assert_eq!(refused(house.change_account(house.home, account, again).await), Refused::LinkState);
    let link = house.link(house.home, channel(1), NOW).await.unwrap().unwrap();
    assert_eq!((link.request, link.answer), (Some(vec![2]), Some(vec![3])));
}

async fn a_link_that_expired_is_not_there(house: House) {
    let other = house.tenant("other", "home").await;
    let account = offer(&house).await;
    let late = NOW + MINUTE;
    assert!(house.link(house.home, channel(1), late).await.unwrap().is_none());
    assert_eq!(missing(house.request_link(house.home, channel(1), vec![2], late).await), "link");
    assert_eq!(missing(house.request_link(house.home, channel(9), vec![2], NOW).await), "link");
    assert!(house.link(other, channel(1), NOW).await.unwrap().is_none());
    assert_eq!(missing(house.request_link(other, channel(1), vec![2], NOW).await), "link");
    house.request_link(house.home, channel(1), vec![2], NOW).await.unwrap();
    let too_late = house.change_account(house.home, account, answer(late)).await;
    assert_eq!(refused(too_late), Refused::LinkState);
    house.change_account(house.home, account, answer(NOW)).await.unwrap();
    assert_eq!(house.use_link(house.home, channel(1), late).await.unwrap(), None);
    assert_eq!(house.use_link(other, channel(1), NOW).await.unwrap(), None);
    let nobody = NewLink { channel: channel(2), ..link(AccountNumber(77)) };
    assert_eq!(missing(house.open_link(house.home, nobody).await), "account");
}
