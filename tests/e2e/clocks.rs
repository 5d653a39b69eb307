//! Devices whose clocks are ten years off, ahead and behind: what they write meets and stays, and who is right is not
//! beaten for ever by who was wrong.

use selkie_client::{ClientBuilder, CollectionShape, Merge, RecordId, Strategy, Vault};
use selkie_e2e::device::Device;
use selkie_e2e::on_both_backends;
use selkie_e2e::round::{journal, step};
use selkie_e2e::server::TestServer;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

const ANA: &str = "ana@example.org";
const PASSWORD: &str = "seven silver swans sail";
const APP: &str = "org.example.notes";
const TEN_YEARS_MS: i64 = 10 * 365 * 86_400_000;
/// Longer than a token is good for.
const TWO_HOURS: Duration = Duration::from_secs(2 * 3_600);
const COLLECTIONS: [&str; 6] = ["mine", "theirs", "last", "fields", "texts", "asked"];

fn app(client: ClientBuilder) -> ClientBuilder {
    let strategies = [
        Strategy::LocalWins,
        Strategy::RemoteWins,
        Strategy::LastWriterWins,
        Strategy::FieldMerge,
        Strategy::TextMerge,
        Strategy::AskUser,
    ];
    COLLECTIONS.into_iter().zip(strategies).fold(client, |client, (name, strategy)| {
        client.collection(CollectionShape::new(name).conflicts(strategy).field("likes", Merge::Counter))
    })
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Note {
    title: String,
    likes: i64,
}

fn titled(title: &str) -> Note {
    Note { title: title.into(), likes: 0 }
}

async fn retitle(vault: &Vault, (collection, id): (&str, RecordId), title: &str) {
    let title = title.to_owned();
    let change = move |note: &mut Note| (note.title, note.likes) = (title.clone(), note.likes + 1);
    assert!(vault.collection::<Note>(collection).update(id, change).await.unwrap());
}

async fn title(vault: &Vault, (collection, id): (&str, RecordId)) -> Option<String> {
    Some(vault.collection::<Note>(collection).get(id).await.unwrap()?.title)
}

/// One note in each collection.
async fn a_note_of_each(vault: &Vault) -> Vec<(&'static str, RecordId)> {
    let mut notes = Vec::new();
    for name in COLLECTIONS {
        notes.push((name, vault.collection::<Note>(name).put(&titled("first")).await.unwrap()));
    }
    notes
}

on_both_backends! {
    async fn devices_that_are_twenty_years_apart_come_together_and_nothing_is_lost(backend: Backend) {
        let server = TestServer::start(backend).await;
        let devices: [Device; 3] = ["laptop", "phone", "tablet"].map(|name| server.device(name).with_app(app));
        let [ahead, behind, right] = &devices;
        ahead.clock().shift(TEN_YEARS_MS);
        behind.clock().shift(-TEN_YEARS_MS);
        let (person, laptop) = ahead.makes_an_account(ANA, PASSWORD).await;
        let vault = laptop.create_vault("Journal", APP).await.unwrap();
        let notes = a_note_of_each(&vault).await;
        step(&laptop).await;
        // By password and by link: neither depends on what the others' clocks show.
        let phone = behind.signs_in(&person).await.unwrap().account;
        step(&phone).await;
        let tablet = right.is_linked_by(&laptop, PASSWORD).await.unwrap();
        step(&tablet).await;
        let accounts = [&laptop, &phone, &tablet];

        let mut written = BTreeSet::new();
        for round in 0..3_usize {
            for (account, name) in accounts.into_iter().zip(["laptop", "phone", "tablet"]) {
                let vault = journal(account).await;
                for (number, note) in notes.iter().enumerate() {
                    let said = format!("{name}-{round}-{number}");
                    retitle(&vault, *note, &said).await;
                    written.insert((number, said));
                }
            }
            // Every token has ended meanwhile, whatever a device takes the time to be.
            server.clock().advance(TWO_HOURS);
            devices.iter().for_each(|device| device.clock().advance(TWO_HOURS));
            for turn in 0..6 {
                step(accounts[(round + turn) % 3]).await;
            }
        }

        let mut shown = Vec::new();
        for account in accounts {
            let vault = journal(account).await;
            let (mut now, mut ever) = (Vec::new(), BTreeSet::new());
            for (number, (collection, id)) in notes.iter().enumerate() {
                let of_collection = vault.collection::<Note>(collection);
                now.push(of_collection.get(*id).await.unwrap().unwrap());
                let history = of_collection.history(*id).await.unwrap().into_iter();
                ever.extend(history.filter_map(|version| Some((number, version.value?.title))));
            }
            assert!(written.is_subset(&ever), "lost: {:?}", written.difference(&ever).collect::<Vec<_>>());
            for merged in [3, 4] {
                assert_eq!(now[merged].likes, 9, "{}: all three have counted", COLLECTIONS[merged]);
            }
            let status = vault.status().await.unwrap();
            assert_eq!((status.pending, status.set_aside.len()), (0, 0));
            shown.push((vault.digest().await.unwrap(), now));
        }
        assert!(shown.windows(2).all(|two| two[0] == two[1]), "{shown:?}");

        // Whoever is asked decides, on a device of whatever year, and the last word stands.
        let (mut decided, mut last) = (0, None);
        for account in accounts {
            step(account).await;
            let asked = journal(account).await.collection::<Note>("asked");
            for one in asked.undecided().await.unwrap() {
                asked.decide(&one, one.mine.as_ref()).await.unwrap();
                last = title(&journal(account).await, notes[5]).await;
                decided += 1;
            }
            assert!(asked.undecided().await.unwrap().is_empty());
            step(account).await;
        }
        assert!(decided >= 2, "whoever met another was asked: {decided}");
        for account in accounts {
            step(account).await;
            assert_eq!(journal(account).await.digest().await.unwrap(), journal(&laptop).await.digest().await.unwrap());
            assert_eq!(title(&journal(account).await, notes[5]).await, last);
        }
    }

    async fn a_clock_that_was_ten_years_ahead_does_not_win_for_ever(backend: Backend) {
        let server = TestServer::start(backend).await;
        let devices: [Device; 2] = ["laptop", "phone"].map(|name| server.device(name).with_app(app));
        let (person, laptop) = devices[0].makes_an_account(ANA, PASSWORD).await;
        let here = laptop.create_vault("Journal", APP).await.unwrap();
        let notes = a_note_of_each(&here).await;
        step(&laptop).await;
        step(&laptop).await;
        let phone = devices[1].signs_in(&person).await.unwrap().account;
        step(&phone).await;
        let there = journal(&phone).await;

        // Somebody sets the laptop's clock, and it writes over everything.
        devices[0].clock().shift(TEN_YEARS_MS);
        for note in &notes {
            retitle(&here, *note, "from the future").await;
        }
        laptop.settings().put("org.example/theme", b"from the future").await.unwrap();
        step(&laptop).await;
        step(&phone).await;

        // The phone has seen that and knows better: whatever the strategy, and though its clock shows ten years less.
        for note in &notes {
            assert_eq!(title(&there, *note).await.as_deref(), Some("from the future"));
            retitle(&there, *note, "honest").await;
        }
        phone.settings().put("org.example/theme", b"honest").await.unwrap();
        step(&phone).await;
        step(&laptop).await;
        for note in &notes {
            assert_eq!(title(&here, *note).await.as_deref(), Some("honest"), "{}", note.0);
        }
        assert_eq!(laptop.settings().get("org.example/theme").await.unwrap().as_deref(), Some(&b"honest"[..]));
        assert_eq!(here.conflicts().await.unwrap().len(), 0);

        // The clock is set right: the session goes on, and so does everything else.
        devices[0].clock().shift(-TEN_YEARS_MS);
        server.clock().advance(TWO_HOURS);
        devices.iter().for_each(|device| device.clock().advance(TWO_HOURS));
        for (round, (writer, reader)) in [(&laptop, &phone), (&phone, &laptop)].into_iter().enumerate() {
            let said = format!("later {round}");
            for note in &notes {
                retitle(&journal(writer).await, *note, &said).await;
            }
            step(writer).await;
            step(reader).await;
            for note in &notes {
                assert_eq!(title(&journal(reader).await, *note).await.as_ref(), Some(&said), "{}", note.0);
            }
        }

        // Both at once: all is settled as ever, and nothing that is written then is lost.
        for (account, said) in [(&laptop, "laptop at once"), (&phone, "phone at once")] {
            for note in &notes {
                retitle(&journal(account).await, *note, said).await;
            }
        }
        for account in [&laptop, &phone, &laptop] {
            step(account).await;
        }
        assert_eq!(here.digest().await.unwrap(), there.digest().await.unwrap());
        for (collection, id) in &notes {
            let versions = here.collection::<Note>(collection).history(*id).await.unwrap();
            let ever: BTreeSet<String> = versions.into_iter().filter_map(|one| Some(one.value?.title)).collect();
            for said in ["from the future", "honest", "laptop at once", "phone at once"] {
                assert!(ever.contains(said), "{collection}: {said} is lost: {ever:?}");
            }
        }

        // A record can be deleted, too, and one that the wrong clock never touched is of the present.
        let (last, id) = notes[2];
        there.collection::<Note>(last).delete(id).await.unwrap();
        let fresh = here.collection::<Note>(last).put(&titled("fresh")).await.unwrap();
        for account in [&phone, &laptop, &phone] {
            step(account).await;
        }
        assert_eq!(title(&here, (last, id)).await, None);
        let now_ms = u64::try_from(devices[0].clock().now_ms()).unwrap();
        assert_eq!(there.get(fresh).await.unwrap().unwrap().written.ms, now_ms);
        assert_eq!(here.digest().await.unwrap(), there.digest().await.unwrap());
    }
}
