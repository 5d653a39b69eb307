//! A journal with a mood for every day.
//!
//! Shows a declared collection: a version of the app's own type, an index, searched fields, texts that are merged by
//! word. Run it with `cargo run -p selkie-client --example journal`.

#![allow(clippy::print_stdout, reason = "it is a program for a terminal")]

use selkie_client::testing::TestServer;
use selkie_client::{ClientBuilder, Collection, CollectionShape, Order, RecordId, Result, Strategy, field};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mood {
    Low,
    Calm,
    Bright,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    /// As in `2027-01-15`: days in this form stand in their order.
    day: String,
    mood: Mood,
    text: String,
}

/// What the app says of its client, once.
fn app(client: ClientBuilder) -> ClientBuilder {
    let entries = CollectionShape::new("entries").conflicts(Strategy::TextMerge);
    client.collection(entries.index(["mood", "day"]).index(["day"]).search(["text"]))
}

struct Journal(Collection<Entry>);

impl Journal {
    async fn write(&self, day: &str, mood: Mood, text: &str) -> Result<RecordId> {
        self.0.put(&Entry { day: day.into(), mood, text: text.into() }).await
    }

    async fn latest(&self, many: usize) -> Result<Vec<Entry>> {
        let latest = self.0.query().order_by("day", Order::Descending).limit(many).all().await?;
        Ok(latest.into_iter().map(|found| found.value).collect())
    }

    async fn days_with(&self, mood: &str) -> Result<Vec<String>> {
        let days = self.0.query().filter(field("mood").eq(mood)).order_by("day", Order::Ascending).all().await?;
        Ok(days.into_iter().map(|found| found.value.day).collect())
    }

    async fn about(&self, words: &str) -> Result<Vec<String>> {
        Ok(self.0.query().search(words).all().await?.into_iter().map(|found| found.value.day).collect())
    }

    /// How often each mood came in a month, as in `2027-01`.
    async fn month(&self, month: &str) -> Result<BTreeMap<Mood, usize>> {
        let mut moods = BTreeMap::new();
        for found in self.0.query().filter(field("day").starts_with(month)).all().await? {
            *moods.entry(found.value.mood).or_default() += 1;
        }
        Ok(moods)
    }
}

async fn story() -> Result<Journal> {
    let server = TestServer::for_app(app);
    let ana = server.person("ana");
    let (laptop, phone) = (ana.device("laptop").await?, ana.device("phone").await?);
    let vault = laptop.account().create_vault("Journal", "org.example.journal").await?;
    let journal = Journal(vault.collection("entries"));

    journal.write("2027-01-14", Mood::Low, "Rain all day.").await?;
    let today = journal.write("2027-01-15", Mood::Calm, "A walk by the lake in the morning.").await?;
    server.sync_all().await?;

    // The same day goes on on two devices, and neither hears of the other until the evening.
    phone.cut();
    let on_phone = Journal(phone.vault("Journal").await?.collection("entries"));
    on_phone.0.update(today, |entry| entry.mood = Mood::Bright).await?;
    on_phone.0.update(today, |entry| entry.text = entry.text.replace("walk", "long walk")).await?;
    journal.0.update(today, |entry| entry.text.push_str(" Soup with Cara.")).await?;
    phone.mend();
    server.sync_all().await?;
    Ok(journal)
}

#[tokio::main]
async fn main() -> Result<()> {
    let journal = story().await?;
    for Entry { day, mood, text } in journal.latest(20).await? {
        println!("{day}  {mood:?}: {text}");
    }
    println!("January: {:?}", journal.month("2027-01").await?);
    println!("bright days: {:?}; with soup: {:?}", journal.days_with("bright").await?, journal.about("soup").await?);
    Ok(())
}

#[tokio::test]
async fn what_was_written_on_both_devices_is_there() -> Result<()> {
    let journal = story().await?;
    let latest = journal.latest(1).await?.remove(0);
    assert_eq!(latest.text, "A long walk by the lake in the morning. Soup with Cara.");
    assert_eq!(journal.days_with("bright").await?, ["2027-01-15"]);
    assert_eq!(journal.days_with("calm").await?, Vec::<String>::new());
    assert_eq!(journal.about("lake so").await?, ["2027-01-15"]);
    assert_eq!(journal.month("2027-01").await?, BTreeMap::from([(Mood::Low, 1), (Mood::Bright, 1)]));
    Ok(())
}
