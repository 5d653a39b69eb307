//! A memory for one person: what they told it, how sure it is, and what comes to mind when they ask.
//!
//! Shows a search of the app's own beside the SDK's queries: tags and confidence are asked of the store, likeness is
//! computed on the device from a vector in each record. Nobody else ever sees either. Run it with
//! `cargo run -p selkie-client --example memory`.

#![allow(clippy::print_stdout, reason = "it is a program for a terminal")]

use selkie_client::testing::TestServer;
use selkie_client::{ClientBuilder, Collection, CollectionShape, Filter, Found, Merge, RecordId, Result, field};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Memory {
    text: String,
    tags: Vec<String>,
    /// From 0, a rumour, to 1.
    confidence: f64,
    /// How often it was of use, on whatever device.
    recalled: i64,
    /// Where it lies among the others. An app with a model of its own puts that model's vectors here.
    place: Vec<f64>,
}

fn app(client: ClientBuilder) -> ClientBuilder {
    let memories = CollectionShape::new("memories").index(["confidence"]);
    client.collection(memories.field("tags", Merge::Set).field("recalled", Merge::Counter))
}

const DIMENSIONS: usize = 256;

/// A place from which the same words are not far: each piece of three letters points in a direction of its own.
fn place_of(text: &str) -> Vec<f64> {
    let letters: Vec<char> = format!("  {}  ", text.to_lowercase()).chars().collect();
    let mut place = vec![0.0_f64; DIMENSIONS];
    for piece in letters.windows(3) {
        let hash =
            piece.iter().fold(2_166_136_261_u32, |hash, letter| (hash ^ u32::from(*letter)).wrapping_mul(16_777_619));
        place[hash as usize % DIMENSIONS] += 1.0;
    }
    let length = place.iter().map(|along| along * along).sum::<f64>().sqrt();
    place.iter().map(|along| along / length).collect()
}

/// 1 for the same place, 0 for nothing in common.
fn likeness(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

struct Memories(Collection<Memory>);

impl Memories {
    async fn remember(&self, text: &str, tags: &[&str], confidence: f64) -> Result<RecordId> {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        self.0.put(&Memory { text: text.into(), tags, confidence, recalled: 0, place: place_of(text) }).await
    }

    /// What comes to mind first of what it is sure enough of, and remembers that it did.
    async fn recall(&self, about: &str, tag: Option<&str>, at_least: f64) -> Result<Option<Memory>> {
        let tagged = tag.map_or(Filter::All, |tag| field("tags").contains(tag));
        let known = self.0.query().filter(field("confidence").ge(at_least)).filter(tagged).all().await?;
        let place = place_of(about);
        let near = |found: &Found<Memory>| likeness(&place, &found.value.place);
        let Some(nearest) = known.into_iter().max_by(|one, other| near(one).total_cmp(&near(other))) else {
            return Ok(None);
        };
        self.0.update(nearest.id, |memory| memory.recalled += 1).await?;
        Ok(Some(nearest.value))
    }

    /// Forgets what it is not sure of and never needed. Its history brings it back for a while.
    async fn tidy(&self, below: f64) -> Result<usize> {
        let idle = field("confidence").lt(below).and(field("recalled").eq(0));
        let idle = self.0.query().filter(idle).all().await?;
        for memory in &idle {
            self.0.delete(memory.id).await?;
        }
        Ok(idle.len())
    }
}

async fn story() -> Result<(Memories, RecordId)> {
    let server = TestServer::for_app(app);
    let ana = server.person("ana");
    let (laptop, phone) = (ana.device("laptop").await?, ana.device("phone").await?);
    let vault = laptop.account().create_vault("Memory", "org.example.memory").await?;
    let memories = Memories(vault.collection("memories"));
    let bike = memories.remember("The key of the bicycle is in the blue bowl", &["home"], 0.9).await?;
    memories.remember("Cara likes books about birds", &["people", "gifts"], 0.7).await?;
    memories.remember("Bob may be moving to Bern", &["people"], 0.2).await?;
    server.sync_all().await?;

    // Each device is asked, and each adds what it knows; both count.
    let on_phone = Memories(phone.vault("Memory").await?.collection("memories"));
    on_phone.recall("where is the bicycle key?", None, 0.5).await?;
    on_phone.0.update(bike, |memory| memory.tags.push("bicycle".into())).await?;
    memories.recall("bicycle key", Some("home"), 0.5).await?;
    memories.0.update(bike, |memory| memory.tags.push("keys".into())).await?;
    memories.tidy(0.3).await?;
    server.sync_all().await?;
    server.sync_all().await?;
    Ok((memories, bike))
}

#[tokio::main]
async fn main() -> Result<()> {
    let (memories, _) = story().await?;
    for question in ["what could I give to Cara?", "where is the key?"] {
        let answer = memories.recall(question, None, 0.5).await?;
        println!("{question} {}", answer.map_or("I do not know.".into(), |memory| memory.text));
    }
    Ok(())
}

#[tokio::test]
async fn what_is_like_the_question_comes_to_mind() -> Result<()> {
    let (memories, bike) = story().await?;
    let gift = memories.recall("a gift: which books does Cara like?", None, 0.5).await?;
    assert_eq!(gift.map(|memory| memory.text).as_deref(), Some("Cara likes books about birds"));
    let key = memories.0.get(bike).await?.expect("it is sure of that");
    assert_eq!(key.recalled, 2, "once on each device");
    let mut tags = key.tags;
    tags.sort();
    assert_eq!(tags, ["bicycle", "home", "keys"]);
    assert_eq!(memories.recall("Bern", None, 0.0).await?.map(|memory| memory.confidence < 0.3), Some(false));
    assert_eq!(memories.recall("anything", Some("people"), 0.8).await?, None);
    Ok(())
}
