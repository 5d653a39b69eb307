//! Hearing of what others write: by hints, by looking now and then, and across lines that break.

use super::lies::scene;
use super::{another_device, id, person, text};
use crate::fake::{Fake, Mishap};
use selkie_client::{Error, News};

fn moved(vault: &selkie_client::Vault, n: u64) -> String {
    format!("event: vault\ndata: {{\"vid\":\"{}\",\"n\":{n}}}\n\n", vault.id())
}

#[tokio::test]
async fn a_hint_says_where_to_look_and_our_own_writes_are_no_news() {
    let scene = scene().await;
    let account = &scene.ana.account;
    let mut follow = account.follow();
    assert_eq!(follow.next().await.unwrap(), News::LookAround, "whoever begins to listen may have missed something");
    account.sync().await.unwrap();
    let here = scene.laptop.digest().await.unwrap().n;
    scene.server.hint(&moved(&scene.laptop, here));
    scene.on_phone.put("notes", id(7), b"news").await.unwrap();
    scene.on_phone.sync().await.unwrap();
    scene.server.hint(&moved(&scene.laptop, here + 1));
    assert_eq!(follow.next().await.unwrap(), News::Moved(scene.laptop.id()), "and not the one we know");
    account.sync().await.unwrap();
    assert_eq!(text(&scene.laptop, 7).await.as_deref(), Some("news"));
    scene.server.hint(":\n\nevent: something-new\ndata: {}\n\n");
    assert_eq!(follow.next().await.unwrap(), News::LookAround);
}

#[tokio::test]
async fn a_line_that_broke_or_went_silent_is_opened_again() {
    let server = Fake::start();
    let ana = person(&server, "ana").await;
    let mut follow = ana.account.follow();
    follow.next().await.unwrap();
    assert_eq!(server.hang_up(), 1);
    assert_eq!(follow.next().await.unwrap(), News::LookAround);
    assert_eq!(server.hang_up(), 2);
    // Something that is no stream of events is given up like one that broke.
    follow.next().await.unwrap();
    server.hint(&"x".repeat(100_000));
    assert_eq!(follow.next().await.unwrap(), News::LookAround);
    // Not a word, not even a beat: the pauses of this test are short.
    assert_eq!(follow.next().await.unwrap(), News::LookAround);
    assert!(server.hang_up() >= 5);
}

#[tokio::test]
async fn where_there_are_no_hints_it_is_looked_now_and_then() {
    let server = Fake::start();
    let ana = person(&server, "ana").await;
    server.have_no_hints();
    let mut follow = ana.account.follow();
    for _ in 0..3 {
        assert_eq!(follow.next().await.unwrap(), News::LookAround);
    }
    server.end_sessions();
    assert!(matches!(follow.next().await, Err(Error::SignInAgain { .. })), "going on would be of no use");
}

#[tokio::test]
async fn a_round_waits_and_tries_again_and_looks_first_whether_it_was_taken() {
    let server = Fake::start();
    let ana = person(&server, "ana").await;
    let vault = ana.account.create_vault("Journal", super::APP).await.unwrap();
    vault.sync().await.unwrap();
    for (number, mishap) in [(1, Mishap::NotDelivered), (2, Mishap::AnswerLost)] {
        vault.put("notes", id(number), b"once").await.unwrap();
        server.next_request_to("/push", mishap);
        server.asked();
        let report = vault.sync().await.unwrap();
        assert_eq!((report.pushed, report.pending), (1, 0), "{mishap:?}");
        let asked = server.asked();
        let push = asked.iter().position(|path| path.ends_with("/push")).unwrap();
        assert!(asked[push + 1].contains("/log?after"), "{mishap:?}: {asked:?}");
        assert_eq!(vault.history(id(number)).await.unwrap().len(), 1);
    }
    // Five times is enough; the rest is for the next round.
    vault.put("notes", id(3), b"later").await.unwrap();
    for _ in 0..5 {
        server.next_request_to("/log?after", Mishap::NotDelivered);
    }
    assert!(matches!(vault.sync().await, Err(Error::Offline(_))));
    assert_eq!(vault.sync().await.unwrap().pushed, 1);
    // What comes back is no answer of ours: that is not asked for again.
    server.asked();
    server.next_request_to("/log?after", Mishap::AnswerGarbled);
    assert!(matches!(vault.sync().await, Err(Error::UnsupportedProtocol(_))));
    assert_eq!(server.asked().len(), 1);
    let phone = another_device(&server, "ana", &ana).await;
    assert!(phone.sync().await.unwrap().first_error().is_none());
}
