//! Two devices side by side.

use crate::accounts::ana;
use crate::fake::Fake;
use selkie_client::{Error, LinkInvitation, WrongKey};

const PASSWORD: &str = "correct horse";

#[tokio::test]
async fn a_new_device_comes_in_by_the_code_on_the_old_ones_screen() {
    let server = Fake::start();
    let made = ana(&server.device()).await;
    let link = made.account.link_device().await.unwrap();
    assert!(link.qr().is_some());
    let scanned = LinkInvitation::parse(link.payload().as_str()).unwrap();
    assert_eq!(scanned.server_url.as_deref(), Some(crate::fake::URL));

    let phone = server.device();
    let joining = phone.link(scanned.code.as_str(), "phone").await.unwrap();
    assert_eq!(joining.login_name(), "ana@example.org");
    let asking = link.wait_for_request().await.unwrap();
    assert_eq!(asking.device_name(), "phone");
    assert_eq!(asking.fingerprint(), joining.fingerprint());
    assert!(matches!(asking.approve("wrong").await, Err(Error::WrongCredentials)));
    asking.approve(PASSWORD).await.unwrap();

    let account = joining.finish().await.unwrap();
    assert_eq!(account.user_id(), made.account.user_id());
    assert_eq!(account.state_code(), made.account.state_code());
    let names: Vec<_> =
        account.devices().await.unwrap().devices.into_iter().map(|device| device.name.unwrap()).collect();
    assert_eq!(names, ["phone", "laptop"]);

    // It has the Secret Key now: the password alone brings it back, and lets it bring in others.
    account.change_password(PASSWORD, "new words", true).await.unwrap();
    made.account.unlock("new words").await.unwrap();
}

#[tokio::test]
async fn both_sides_may_wait_for_each_other() {
    let server = Fake::start();
    let account = ana(&server.device()).await.account;
    let link = account.link_device().await.unwrap();
    let code = link.code().to_owned();
    let old = async {
        let asking = link.wait_for_request().await.unwrap();
        asking.approve(PASSWORD).await.unwrap();
    };
    let phone = server.device();
    let new = async { phone.link(&code, "phone").await.unwrap().finish().await.unwrap() };
    let ((), linked) = tokio::join!(old, new);
    assert_eq!(linked.user_id(), account.user_id());
}

#[tokio::test]
async fn a_code_nobody_waits_under_leads_nowhere() {
    let server = Fake::start();
    ana(&server.device()).await;
    let unknown = selkie_protocol::cipher::LinkSecret::generate().to_text();
    let error = server.device().link(&unknown, "phone").await.unwrap_err();
    assert!(matches!(error, Error::WrongKey(WrongKey::Link)));
    assert!(server.device().link("L1-mistyped", "phone").await.is_err());
}

#[tokio::test]
async fn waiting_ends_when_the_link_does() {
    let server = Fake::start();
    let account = ana(&server.device()).await.account;
    let link = account.link_device().await.unwrap();
    server.later(700_000);
    assert!(matches!(link.wait_for_request().await, Err(Error::WrongKey(WrongKey::Link))));
}
