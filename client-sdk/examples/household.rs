//! A household of several people: expenses, food, workouts, vehicles and tasks in one shared vault.
//!
//! Shows sharing, and a strategy for each kind of thing: what is counted adds up, what must be agreed on is asked of a
//! person. Run it with `cargo run -p selkie-client --example household`.

#![allow(clippy::print_stdout, reason = "it is a program for a terminal")]

use selkie_client::testing::{Device, TestServer};
use selkie_client::{ClientBuilder, Collection, CollectionShape, Merge, Result, Role, Strategy, Vault, field};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Expense {
    what: String,
    paid_by: String,
    cents: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Food {
    name: String,
    left: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Workout {
    who: String,
    minutes: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Vehicle {
    name: String,
    km: i64,
    notes: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Task {
    title: String,
    who: Option<String>,
    done: bool,
}

fn app(client: ClientBuilder) -> ClientBuilder {
    client
        // A sum is right as a whole or not at all.
        .collection(CollectionShape::new("expenses").conflicts(Strategy::LastWriterWins).index(["paid_by"]))
        .collection(CollectionShape::new("food").field("left", Merge::Counter).index(["left"]))
        .collection(CollectionShape::new("workouts").index(["who"]))
        .collection(CollectionShape::new("vehicles").field("km", Merge::Counter).field("notes", Merge::Text))
        // Who does what is for people to agree on.
        .collection(CollectionShape::new("tasks").conflicts(Strategy::AskUser).index(["done", "who"]))
}

/// The vault as one person's app holds it.
struct Home {
    expenses: Collection<Expense>,
    food: Collection<Food>,
    workouts: Collection<Workout>,
    vehicles: Collection<Vehicle>,
    tasks: Collection<Task>,
}

impl Home {
    fn of(vault: &Vault) -> Home {
        Home {
            expenses: vault.collection("expenses"),
            food: vault.collection("food"),
            workouts: vault.collection("workouts"),
            vehicles: vault.collection("vehicles"),
            tasks: vault.collection("tasks"),
        }
    }

    /// What each has paid more than their share, in cents.
    async fn balance(&self, people: &[&str]) -> Result<BTreeMap<String, i64>> {
        let mut paid: BTreeMap<String, i64> = people.iter().map(|name| ((*name).to_owned(), 0)).collect();
        for found in self.expenses.query().all().await? {
            *paid.entry(found.value.paid_by).or_default() += found.value.cents;
        }
        let share = paid.values().sum::<i64>() / paid.len().max(1) as i64;
        Ok(paid.into_iter().map(|(name, cents)| (name, cents - share)).collect())
    }

    async fn to_buy(&self) -> Result<Vec<String>> {
        let low = self.food.query().filter(field("left").le(1)).all().await?;
        Ok(low.into_iter().map(|found| found.value.name).collect())
    }
}

async fn joined(device: &Device) -> Result<Home> {
    device.sync().await?;
    Ok(Home::of(&device.vault("Home").await?))
}

async fn story() -> Result<(Home, Home)> {
    let server = TestServer::for_app(app);
    let (ana, bob) = (server.person("ana").device("phone").await?, server.person("bob").device("tablet").await?);
    let vault = ana.account().create_vault("Home", "org.example.household").await?;
    let of_ana = Home::of(&vault);
    ana.sync().await?;
    // Bob tells Ana his id himself, on paper or by a code on his screen: it fixes his keys.
    vault.add_member(bob.account().user_id(), Role::Editor).await?;
    let of_bob = joined(&bob).await?;

    let eggs = of_ana.food.put(&Food { name: "eggs".into(), left: 6 }).await?;
    let car = of_ana.vehicles.put(&Vehicle { name: "car".into(), km: 81_000, notes: "tyres new".into() }).await?;
    let bins = of_ana.tasks.put(&Task { title: "bins".into(), who: None, done: false }).await?;
    server.sync_all().await?;

    // A weekend apart.
    bob.cut();
    of_bob.expenses.put(&Expense { what: "train".into(), paid_by: "bob".into(), cents: 2_000 }).await?;
    of_bob.food.update(eggs, |eggs| eggs.left -= 3).await?;
    of_bob.vehicles.update(car, |car| car.notes.push_str(", oil checked")).await?;
    of_bob.tasks.update(bins, |task| task.who = Some("bob".into())).await?;
    of_bob.workouts.put(&Workout { who: "bob".into(), minutes: 30 }).await?;
    of_ana.expenses.put(&Expense { what: "shopping".into(), paid_by: "ana".into(), cents: 5_000 }).await?;
    of_ana.food.update(eggs, |eggs| eggs.left -= 2).await?;
    of_ana.vehicles.update(car, |car| car.km += 120).await?;
    of_ana.tasks.update(bins, |task| task.who = Some("ana".into())).await?;
    of_ana.workouts.put(&Workout { who: "ana".into(), minutes: 45 }).await?;
    ana.sync().await?;
    bob.mend();
    server.sync_all().await?;
    Ok((of_ana, of_bob))
}

#[tokio::main]
async fn main() -> Result<()> {
    let (home, of_bob) = story().await?;
    println!("balance: {:?}", home.balance(&["ana", "bob"]).await?);
    println!("to buy: {:?}", home.to_buy().await?);
    for asked in of_bob.tasks.undecided().await? {
        println!("who does it? {:?} or {:?}", asked.mine, asked.theirs);
    }
    Ok(())
}

#[tokio::test]
async fn a_weekend_apart_adds_up() -> Result<()> {
    let (of_ana, of_bob) = story().await?;
    for home in [&of_ana, &of_bob] {
        let balance = home.balance(&["ana", "bob"]).await?;
        assert_eq!(balance, BTreeMap::from([("ana".to_owned(), 1_500), ("bob".to_owned(), -1_500)]));
        assert_eq!(home.to_buy().await?, ["eggs"], "one is left of six");
        let car = home.vehicles.query().first().await?.expect("it is still theirs").value;
        assert_eq!((car.km, car.notes.as_str()), (81_120, "tyres new, oil checked"));
        assert_eq!(home.workouts.query().count().await?, 2);
    }
    // Who takes out the bins is asked where the second of them was written, and only there.
    assert!(of_ana.tasks.undecided().await?.is_empty());
    let asked = of_bob.tasks.undecided().await?.remove(0);
    of_bob.tasks.decide(&asked, asked.theirs.as_ref()).await?;
    assert!(of_bob.tasks.undecided().await?.is_empty());
    let bins = of_bob.tasks.query().first().await?.map(|found| found.value);
    assert_eq!(bins.and_then(|task| task.who).as_deref(), Some("ana"));
    Ok(())
}
