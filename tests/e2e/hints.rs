//! Hearing of what others write from the real server, while the app runs.

use std::time::Duration;

use selkie_client::{Client, Follow, News, SignIn};
use selkie_e2e::on_both_backends;
use selkie_e2e::server::TestServer;

const ANA: &str = "ana@example.org";
const PASSWORD: &str = "seven silver swans sail";
const NOTES: &str = "notes";

async fn heard(follow: &mut Follow) -> News {
    let news = tokio::time::timeout(Duration::from_secs(30), follow.next()).await;
    news.expect("the server says something").expect("the session is good")
}

on_both_backends! {
    async fn who_listens_hears_at_once_where_somebody_wrote(backend: Backend) {
        let server = TestServer::start(backend).await;
        let (person, laptop) = server.device("laptop").makes_an_account(ANA, PASSWORD).await;
        let journal = laptop.create_vault("Journal", "org.example.notes").await.unwrap();
        laptop.sync().await.unwrap();
        // The line between the others keeps an answer until it is whole: this one is without a line.
        let direct = Client::builder(&format!("http://{}", server.address()));
        let direct = direct.in_memory().accept_server_name(server.network().name()).build().unwrap();
        let key = person.sheet.secret_key();
        let phone = direct.sign_in(ANA, PASSWORD, key, SignIn::default()).await.unwrap().account;
        phone.sync().await.unwrap();
        let on_phone = phone.vault("Journal").await.unwrap().unwrap();

        let mut follow = phone.follow();
        assert_eq!(heard(&mut follow).await, News::LookAround, "whoever begins to listen looks first");
        phone.sync().await.unwrap();
        let id = journal.new_record_id();
        journal.put(NOTES, id, b"news").await.unwrap();
        journal.sync().await.unwrap();
        while heard(&mut follow).await != News::Moved(journal.id()) {}
        phone.sync().await.unwrap();
        assert_eq!(on_phone.get(id).await.unwrap().unwrap().data, b"news");
    }
}
