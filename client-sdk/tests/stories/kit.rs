//! The testing kit itself: what it promises to the tests of apps.

use crate::records::{Note, note};
use selkie_client::testing::{Device, TestServer};
use selkie_client::{Error, News, RecordState, SignUp, Vault};

async fn two_devices(server: &TestServer) -> (Device, Device, Vault, Vault) {
    let ana = server.person("ana");
    let (laptop, phone) = (ana.device("laptop").await.unwrap(), ana.device("phone").await.unwrap());
    let vault = laptop.account().create_vault("Journal", crate::vaults::APP).await.unwrap();
    server.sync_all().await.unwrap();
    let on_phone = phone.vault("Journal").await.unwrap();
    (laptop, phone, vault, on_phone)
}

#[tokio::test]
async fn a_device_that_is_cut_off_goes_on_alone_until_it_is_mended() {
    let server = TestServer::start();
    let (laptop, phone, vault, on_phone) = two_devices(&server).await;
    let notes = on_phone.collection::<Note>("notes");
    phone.cut();
    let id = notes.put(&note("in a tunnel")).await.unwrap();
    assert!(matches!(phone.sync().await, Err(Error::Offline(_))));
    assert_eq!(notes.state(id).await.unwrap(), RecordState::Pending);
    server.sync_all().await.unwrap();
    assert_eq!(vault.collection::<Note>("notes").get(id).await.unwrap(), None, "who is cut off is left alone");
    phone.mend();
    phone.sync().await.unwrap();
    laptop.sync().await.unwrap();
    assert_eq!(vault.collection::<Note>("notes").get(id).await.unwrap(), Some(note("in a tunnel")));
}

#[tokio::test]
async fn answers_that_get_lost_lead_to_nothing_being_done_twice() {
    let server = TestServer::start();
    let (_, phone, vault, on_phone) = two_devices(&server).await;
    let notes = on_phone.collection::<Note>("notes");
    for answers in 1..=6 {
        let id = notes.put(&note("once")).await.unwrap();
        phone.lose_answers(answers);
        while let Err(error) = phone.sync().await {
            assert!(error.is_retryable(), "{error:?}");
        }
        assert_eq!(notes.history(id).await.unwrap().len(), 1);
    }
    server.sync_all().await.unwrap();
    assert_eq!(vault.collection::<Note>("notes").query().count().await.unwrap(), 6);
}

#[tokio::test]
async fn what_is_held_up_arrives_when_it_is_let_go() {
    let server = TestServer::start();
    let (_, phone, vault, on_phone) = two_devices(&server).await;
    let id = on_phone.collection::<Note>("notes").put(&note("slow")).await.unwrap();
    phone.hold();
    let sync = {
        let phone = phone.clone();
        tokio::spawn(async move { phone.sync().await })
    };
    // Everybody else goes on, and hears nothing of it.
    vault.sync().await.unwrap();
    assert!(!sync.is_finished());
    phone.mend();
    sync.await.unwrap().unwrap();
    vault.sync().await.unwrap();
    assert_eq!(vault.collection::<Note>("notes").get(id).await.unwrap(), Some(note("slow")));
}

#[tokio::test]
async fn an_app_that_is_closed_and_opened_finds_what_was_kept() {
    let server = TestServer::start();
    let (_, phone, _, on_phone) = two_devices(&server).await;
    let id = on_phone.collection::<Note>("notes").put(&note("kept")).await.unwrap();
    phone.restart().await.unwrap();
    let again = phone.vault("Journal").await.unwrap();
    assert_eq!(again.collection::<Note>("notes").get(id).await.unwrap(), Some(note("kept")));
    phone.sync().await.unwrap();
    assert_eq!(again.collection::<Note>("notes").state(id).await.unwrap(), RecordState::Synced);
}

#[tokio::test]
async fn whoever_follows_hears_of_the_other_device_and_notices_a_cut() {
    let server = TestServer::start();
    let (laptop, phone, vault, on_phone) = two_devices(&server).await;
    let mut follow = laptop.account().follow();
    assert_eq!(follow.next().await.unwrap(), News::LookAround);
    on_phone.collection::<Note>("notes").put(&note("news")).await.unwrap();
    phone.sync().await.unwrap();
    assert_eq!(follow.next().await.unwrap(), News::Moved(vault.id()));
    laptop.cut();
    assert_eq!(follow.next().await.unwrap(), News::LookAround, "the line is gone");
    laptop.mend();
    assert_eq!(follow.next().await.unwrap(), News::LookAround, "and is opened again");
}

#[tokio::test]
async fn an_app_can_test_its_own_sign_up() {
    let server = TestServer::start();
    let made = server.client().unwrap().sign_up("dan", "a long sentence of mine", SignUp::default()).await.unwrap();
    made.account.confirm_sheet(made.sheet.recovery_key()).await.unwrap();
    let taken = server.person("dan").device("phone").await.unwrap_err();
    assert!(matches!(taken, Error::Refused(refusal) if refusal.code == selkie_client::ErrorCode::LoginNameTaken));
}
