//! Finding records, and being told when what was found is another.

use super::two_devices;
use futures_util::{FutureExt as _, StreamExt as _};
use selkie_client::{ClientBuilder, Collection, CollectionShape, Cursor, Filter, Order, Value, Vault, field};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Entry {
    mood: String,
    day: i64,
    text: String,
}

fn entry(number: i64) -> Entry {
    let mood = ["calm", "angry", "glad"][number as usize % 3].to_owned();
    Entry { mood, day: (number * 7) % 31, text: format!("Entry number {number}, at the Sea") }
}

fn indexed(client: ClientBuilder) -> ClientBuilder {
    let shape = CollectionShape::new("entries").index(["mood", "day"]).index(["day"]).search(["text"]);
    client.collection(shape)
}

fn entries(vault: &Vault) -> Collection<Entry> {
    vault.collection("entries")
}

/// The same entries in a collection that has indexes and in one that has none.
async fn filled() -> (Vault, Collection<Entry>, Collection<Entry>) {
    let (_server, laptop, _phone) = two_devices(indexed).await;
    let (with, without) = (entries(&laptop), laptop.collection::<Entry>("plain"));
    let all: Vec<Entry> = (0..90).map(entry).collect();
    with.put_all(&all[..50]).await.unwrap();
    laptop.sync().await.unwrap();
    with.put_all(&all[50..]).await.unwrap();
    without.put_all(&all).await.unwrap();
    (laptop, with, without)
}

async fn days(collection: &Collection<Entry>, filter: Filter, order: Order) -> Vec<Entry> {
    let found = collection.query().filter(filter).order_by("day", order).all().await.unwrap();
    let mut found: Vec<Entry> = found.into_iter().map(|found| found.value).collect();
    // Of one day the order is that of their names, which are others in the other collection.
    found.sort_by_key(|entry| entry.text.clone());
    found.sort_by_key(|entry| if order == Order::Ascending { entry.day } else { -entry.day });
    found
}

#[tokio::test]
async fn an_index_changes_how_long_it_takes_and_nothing_else() {
    let (_laptop, with, without) = filled().await;
    let filters = [
        Filter::All,
        field("mood").eq("calm"),
        field("mood").eq("calm").and(field("day").ge(10)).and(field("day").lt(20)),
        field("mood").eq("calm").and(field("text").contains("number 1")),
        field("mood").starts_with("c").or(field("day").eq(3)),
        field("day").gt(25),
        field("day").le(3.0),
        field("day").gt(9).and(field("day").lt(5)),
        field("mood").is_in(["glad", "angry"]).and(field("day").eq(7)),
        field("mood").eq("calm").not(),
        field("mood").eq("nobody"),
        field("mood").starts_with("an"),
    ];
    for filter in filters {
        for order in [Order::Ascending, Order::Descending] {
            let found = days(&with, filter.clone(), order).await;
            assert_eq!(found, days(&without, filter.clone(), order).await, "{filter:?}");
            assert_eq!(with.query().filter(filter.clone()).count().await.unwrap(), found.len(), "{filter:?}");
            let expected = (0..90).map(entry).filter(|entry| filter.fits(&selkie_client::Fields::of(entry).unwrap()));
            assert_eq!(found.len(), expected.count(), "{filter:?}");
        }
    }
}

#[tokio::test]
async fn page_by_page_everything_is_shown_once_whatever_is_written_meanwhile() {
    let (_laptop, with, without) = filled().await;
    for (collection, order) in [(&with, Order::Ascending), (&with, Order::Descending), (&without, Order::Descending)] {
        let query = || collection.query().filter(field("mood").eq("glad")).order_by("day", order).limit(7);
        let whole = collection.query().filter(field("mood").eq("glad")).order_by("day", order).all().await.unwrap();
        let mut seen = Vec::new();
        let mut page = query().page().await.unwrap();
        let first = page.found[0].id;
        collection.delete(first).await.unwrap();
        loop {
            seen.extend(page.found);
            let Some(next) = page.next else { break };
            let next = Cursor::from_text(next.as_str());
            page = query().after(&next).unwrap().page().await.unwrap();
        }
        assert_eq!(seen, whole);
        collection.put_as(first, &whole[0].value).await.unwrap();
        let some = query().offset(3).limit(4).all().await.unwrap();
        assert_eq!(some, whole[3..7]);
        assert_eq!(query().first().await.unwrap().as_ref(), whole.first());
    }
    assert!(with.query().after(&Cursor::from_text("nonsense")).is_err());
}

#[tokio::test]
async fn words_are_found_as_they_are_typed() {
    let (_laptop, with, without) = filled().await;
    let found = async |words: &str| with.query().search(words).count().await.unwrap();
    assert_eq!((found("sea").await, found("NUMBER 8").await, found("sea 88").await), (90, 11, 1));
    assert_eq!((found("ntry").await, found("number sea 7x").await, found("").await), (0, 0, 0));
    let both = with.query().search("number 1").filter(field("mood").eq("calm")).order_by("day", Order::Descending);
    let both = both.all().await.unwrap();
    assert!(both.iter().all(|found| found.value.mood == "calm") && both.is_sorted_by_key(|found| -found.value.day));
    assert_eq!(both.len(), 3, "12, 15 and 18");
    let misuse = without.query().search("sea").count().await.unwrap_err();
    assert_eq!(misuse.word(), "api_misuse");
}

#[tokio::test]
async fn what_was_changed_is_found_by_what_it_says_now() {
    let (laptop, with, _) = filled().await;
    let angry = || with.query().filter(field("mood").eq("angry"));
    let before = angry().count().await.unwrap();
    let one = angry().first().await.unwrap().unwrap();
    with.update(one.id, |entry| entry.mood = "calm".into()).await.unwrap();
    assert_eq!(angry().count().await.unwrap(), before - 1);
    with.undo(one.id).await.unwrap();
    assert_eq!(angry().count().await.unwrap(), before);
    with.delete(one.id).await.unwrap();
    assert_eq!(angry().count().await.unwrap(), before - 1);
    laptop.sync().await.unwrap();
    assert_eq!(angry().count().await.unwrap(), before - 1);
}

#[tokio::test]
async fn a_watched_query_tells_of_local_writes_and_of_others_and_of_nothing_else() {
    let (_server, laptop, phone) = two_devices(indexed).await;
    let (here, there) = (entries(&laptop), entries(&phone));
    let mut live = here.query().filter(field("mood").eq("calm")).order_by("day", Order::Ascending).limit(2).watch();
    assert_eq!(live.next().await.unwrap().unwrap(), []);
    assert!(live.next().now_or_never().is_none(), "nothing has changed");

    let first = here.put(&entry(3)).await.unwrap();
    let shown = live.next().await.unwrap().unwrap();
    assert_eq!(shown.iter().map(|found| found.id).collect::<Vec<_>>(), [first]);
    here.put(&entry(1)).await.unwrap();
    laptop.collection::<Entry>("others").put(&entry(3)).await.unwrap();
    assert!(live.next().now_or_never().is_none(), "an angry entry and another collection concern nobody");
    laptop.sync().await.unwrap();
    assert!(live.next().now_or_never().is_none(), "that it was sent changes nothing of what it says");

    phone.sync().await.unwrap();
    there.put(&entry(0)).await.unwrap();
    phone.sync().await.unwrap();
    laptop.sync().await.unwrap();
    let shown = live.next().await.unwrap().unwrap();
    assert_eq!(shown.iter().map(|found| found.value.day).collect::<Vec<_>>(), [0, 21]);
    here.delete(first).await.unwrap();
    assert_eq!(live.next().await.unwrap().unwrap().len(), 1);
    let waiting = tokio::spawn(async move { live.next().await.unwrap().unwrap().len() });
    tokio::task::yield_now().await;
    here.put(&entry(6)).await.unwrap();
    assert_eq!(waiting.await.unwrap(), 2, "who waits is woken");
}

#[tokio::test]
async fn a_window_further_down_moves_with_what_is_written_above_it() {
    let (_server, laptop, _phone) = two_devices(indexed).await;
    let notes = entries(&laptop);
    let ids = notes.put_all(&[0, 9, 18, 27].map(|day| Entry { day, ..entry(0) })).await.unwrap();
    let query = || notes.query().filter(field("mood").eq("calm")).order_by("day", Order::Ascending);
    let mut live = query().offset(1).limit(2).watch();
    let days = |shown: Vec<selkie_client::Found<Entry>>| shown.iter().map(|one| one.value.day).collect::<Vec<_>>();
    assert_eq!(days(live.next().await.unwrap().unwrap()), [9, 18]);
    notes.delete(ids[0]).await.unwrap();
    assert_eq!(days(live.next().await.unwrap().unwrap()), [18, 27], "it was not shown, and yet it counts");
    notes.update(ids[1], |entry| entry.mood = "angry".into()).await.unwrap();
    assert_eq!(days(live.next().await.unwrap().unwrap()), [27]);
}

#[tokio::test]
async fn a_list_on_the_screen_is_kept_by_differences_through_writes_and_syncs() {
    let (_server, laptop, phone) = two_devices(indexed).await;
    let (here, there) = (entries(&laptop), entries(&phone));
    let query = || here.query().filter(field("mood").eq("calm")).order_by("day", Order::Ascending);
    let first = here.put(&Entry { day: 5, ..entry(0) }).await.unwrap();
    let (mut list, mut changes) = (Vec::new(), query().changes());
    let begun = changes.next().await.unwrap().unwrap();
    assert_eq!(begun.added.iter().map(|one| (one.at, one.id)).collect::<Vec<_>>(), [(0, first)]);
    begun.apply(&mut list);
    laptop.sync().await.unwrap();
    phone.sync().await.unwrap();

    // What another device has done comes with one sync and is one difference.
    there.update(first, |entry| entry.day = 30).await.unwrap();
    let more = there.put_all(&[1, 9].map(|day| Entry { day, ..entry(0) })).await.unwrap();
    phone.sync().await.unwrap();
    laptop.sync().await.unwrap();
    let difference = changes.next().await.unwrap().unwrap();
    assert_eq!(difference.added.iter().map(|one| (one.at, one.id)).collect::<Vec<_>>(), [(0, more[0]), (1, more[1])]);
    assert_eq!(difference.changed.iter().map(|one| (one.at, one.value.day)).collect::<Vec<_>>(), [(2, 30)]);
    difference.apply(&mut list);
    assert_eq!(list, query().all().await.unwrap());

    here.update(more[0], |entry| entry.day = 31).await.unwrap();
    let difference = changes.next().await.unwrap().unwrap();
    let moved = difference.moved.iter().map(|one| (one.from, one.to, one.id)).collect::<Vec<_>>();
    assert_eq!((moved, difference.changed.len()), (vec![(0, 2, more[0])], 1), "it went to the end");
    difference.apply(&mut list);
    here.update(more[1], |entry| entry.mood = "angry".into()).await.unwrap();
    let difference = changes.next().await.unwrap().unwrap();
    assert_eq!(difference.removed.iter().map(|one| (one.at, one.id)).collect::<Vec<_>>(), [(0, more[1])]);
    difference.apply(&mut list);
    assert_eq!(list, query().all().await.unwrap());

    // What is of no type of this app is told, and what comes after it begins from the list as it is.
    let strange = serde_json::json!({ "mood": "calm", "day": "never", "text": "" });
    let strange = laptop.collection::<serde_json::Value>("entries").put(&strange).await.unwrap();
    assert_eq!(changes.next().await.unwrap().unwrap_err().word(), "not_possible");
    here.delete(strange).await.unwrap();
    here.put(&Entry { day: 2, ..entry(0) }).await.unwrap();
    // Both writes may be told as one, or the first alone as nothing.
    while list != query().all().await.unwrap() {
        changes.next().await.unwrap().unwrap().apply(&mut list);
    }
}

#[test]
fn a_filter_can_be_made_of_values_of_any_kind() {
    let filter = field("mood").eq(Value::from("calm"));
    assert_eq!(filter, field("mood").eq(String::from("calm")));
}
