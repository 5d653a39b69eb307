//! An app that is killed in the middle of a sync with the real server, at the calls of its store: what it had written
//! is there, what it had sent is sent once, and the next sync goes on.

use selkie_client::{RecordId, Vault};
use selkie_e2e::disk::Disk;
use selkie_e2e::on_both_backends;
use selkie_e2e::round::{journal, step};
use selkie_e2e::server::TestServer;
use serde::{Deserialize, Serialize};

const ANA: &str = "ana@example.org";
const PASSWORD: &str = "seven silver swans sail";
const NOTES: &str = "notes";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Note {
    title: String,
    body: String,
}

fn note(title: &str) -> Note {
    Note { title: title.into(), body: String::new() }
}

/// How often something is in a note's history.
async fn said(vault: &Vault, id: RecordId, is_it: impl Fn(&Note) -> bool) -> usize {
    let history = vault.collection::<Note>(NOTES).history(id).await.unwrap();
    history.iter().filter(|version| version.value.as_ref().is_some_and(&is_it)).count()
}

on_both_backends! {
    async fn an_app_that_is_killed_at_the_calls_of_its_store_loses_nothing_and_sends_nothing_twice(backend: Backend) {
        let server = TestServer::start(backend).await;
        let disk = Disk::default();
        let mut device = server.device("laptop").with_disk(&disk);
        let (person, mut laptop) = device.makes_an_account(ANA, PASSWORD).await;
        let vault = laptop.create_vault("Journal", "org.example.notes").await.unwrap();
        let shared = vault.collection(NOTES).put(&note("first")).await.unwrap();
        drop(vault);
        step(&laptop).await;
        step(&laptop).await;
        let phone = server.device("phone").signs_in(&person).await.unwrap().account;
        step(&phone).await;
        step(&laptop).await;
        let on_phone = journal(&phone).await;

        // Each time both write, one of the notes is the same, and the laptop's sync comes further: to a call of its
        // store that is not carried out, or that is and nobody hears of it.
        let (mut written, mut moment, mut killed) = (Vec::new(), 0_u64, 0);
        loop {
            let of_phone = format!("phone {moment}");
            on_phone.collection(NOTES).put(&note(&of_phone)).await.unwrap();
            let body = of_phone.clone();
            on_phone.collection::<Note>(NOTES).update(shared, move |note| note.body = body.clone()).await.unwrap();
            step(&phone).await;
            let of_laptop = format!("laptop {moment}");
            let vault = journal(&laptop).await;
            let id = vault.collection(NOTES).put(&note(&of_laptop)).await.unwrap();
            let title = of_laptop.clone();
            vault.collection::<Note>(NOTES).update(shared, move |note| note.title = title.clone()).await.unwrap();
            written.push((id, of_laptop, of_phone));

            disk.kills_after(moment / 2, moment % 2 == 1);
            let outcome = laptop.sync().await;
            let was_killed = disk.has_killed();
            if !was_killed {
                assert!(outcome.unwrap().first_error().is_none(), "it has come to its end");
            }
            drop((vault, laptop));
            disk.is_sound();
            device.restart();
            laptop = device.account(ANA).await.unwrap().unwrap();
            step(&laptop).await;
            step(&phone).await;
            step(&laptop).await;
            let vault = journal(&laptop).await;
            assert_eq!(vault.digest().await.unwrap(), on_phone.digest().await.unwrap(), "killed at moment {moment}");
            assert_eq!(vault.status().await.unwrap().pending, 0, "killed at moment {moment}");
            if !was_killed {
                break;
            }
            killed += 1;
            moment += 1;
        }
        assert!(killed > 30, "it was killed at {killed} places only");

        let vault = journal(&laptop).await;
        for place in [&vault, &on_phone] {
            let (last, _, of_phone) = written.last().unwrap();
            assert_eq!(place.collection::<Note>(NOTES).query().count().await.unwrap(), 2 * written.len() + 1);
            assert!(place.collection::<Note>(NOTES).get(*last).await.unwrap().is_some());
            let now = place.collection::<Note>(NOTES).get(shared).await.unwrap().unwrap();
            assert_eq!(now.body, *of_phone, "both sides of every conflict are in what it says now");
            for (id, of_laptop, of_phone) in &written {
                assert_eq!(said(place, *id, |note| note.title == *of_laptop).await, 1, "{of_laptop} was sent once");
                assert!(said(place, shared, |note| note.title == *of_laptop).await > 0, "{of_laptop} is lost");
                assert!(said(place, shared, |note| note.body == *of_phone).await > 0, "{of_phone} is lost");
            }
        }
        assert!(laptop.check_storage().await.unwrap().is_sound());
    }
}
