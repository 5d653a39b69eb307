//! A signed-in device brings in another.

use crate::auth::Refusal;
use crate::testing::{House, SOMEWHERE};
use selkie_protocol::cipher::{DeviceKey, LinkSecret};
use selkie_protocol::hash::Label;
use selkie_protocol::link::{LinkAnswer, LinkRequest, LinkSession, MAX_LINK_MESSAGE, OpenLink};

#[tokio::test(flavor = "multi_thread")]
async fn the_new_device_comes_in_once_and_must_show_the_password_for_what_matters() {
    let house = House::open().await;
    let auth = house.auth();
    let mut ana = house.person("ana").await;
    let user = ana.user();
    let caller = house.caller(&ana).await;
    let secret = LinkSecret::generate();
    let channel = secret.channel();
    let telephone = DeviceKey::generate();

    let nothing = auth.link_state(SOMEWHERE, None, channel).await;
    assert!(matches!(nothing, Err(Refusal::LinkExpired)));
    auth.open_link(&caller, OpenLink { channel, offer: vec![1; 100].into() }).await.unwrap();
    let request = LinkRequest { request: vec![2; 100].into() };
    auth.request_link(SOMEWHERE, None, channel, request.clone()).await.unwrap();
    let late = auth.request_link(SOMEWHERE, Some("home"), channel, request).await;
    assert!(matches!(late, Err(Refusal::LinkExpired)), "only one device can ask");
    let state = auth.link_state(SOMEWHERE, None, channel).await.unwrap();
    assert_eq!((state.offer.0, state.request.unwrap().0, state.answer), (vec![1; 100], vec![2; 100], None));

    let session = |device: &DeviceKey| {
        let signature = device.sign(Label::LINK_SESSION, &[channel.as_bytes()]).0.into();
        LinkSession { signature, app: None }
    };
    let early = auth.link_session(SOMEWHERE, None, channel, session(&telephone)).await;
    assert!(matches!(early, Err(Refusal::LinkExpired)), "nobody has agreed yet");
    let entry = ana.sign_next(telephone.device_add(&user));
    let label = ana.root.master_key(&user, 1).seal_label(&telephone.id(), "telephone");
    let answer = LinkAnswer { answer: vec![3; 100].into(), entry, label };
    let eve = house.person("eve").await;
    let stranger = auth.answer_link(&house.caller(&eve).await, channel, answer.clone()).await;
    assert!(matches!(stranger, Err(Refusal::LinkExpired)));
    auth.answer_link(&caller, channel, answer).await.unwrap();

    let forged = auth.link_session(SOMEWHERE, None, channel, session(&eve.device)).await;
    assert!(matches!(forged, Err(Refusal::Invalid { field: "signature", .. })));
    let tokens = auth.link_session(SOMEWHERE, None, channel, session(&telephone)).await.unwrap();
    assert_eq!(tokens.uid, Some(user));
    let twice = auth.link_session(SOMEWHERE, None, channel, session(&telephone)).await;
    assert!(matches!(twice, Err(Refusal::LinkExpired)));
    let telephone = auth.authenticate(tokens.access_token.as_str()).await.unwrap();
    assert!(auth.account(&telephone).await.is_ok());
    assert!(matches!(auth.keybag(&telephone).await, Err(Refusal::RecentSignInRequired)), "it never showed a password");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_closes_after_ten_minutes_and_carries_little() {
    let house = House::open().await;
    let ana = house.person("ana").await;
    let caller = house.caller(&ana).await;
    let channel = LinkSecret::generate().channel();
    let heavy = OpenLink { channel, offer: vec![0; MAX_LINK_MESSAGE + 1].into() };
    let heavy = house.auth().open_link(&caller, heavy).await;
    assert!(matches!(heavy, Err(Refusal::Invalid { field: "offer", .. })));
    house.auth().open_link(&caller, OpenLink { channel, offer: vec![0; MAX_LINK_MESSAGE].into() }).await.unwrap();
    house.clock.pass(600_001);
    let late = house.auth().link_state(SOMEWHERE, None, channel).await;
    assert!(matches!(late, Err(Refusal::LinkExpired)));
}
