//! Projects, weekly goals and todos, and an agent that says how well it goes.
//!
//! Shows live queries: the agent watches what is open and writes a score into the vault, from which every device reads
//! it. It runs on one device and knows nothing of sync. Run it with `cargo run -p selkie-client --example goals`.

#![allow(clippy::print_stdout, reason = "it is a program for a terminal")]

use futures_util::StreamExt;
use selkie_client::testing::TestServer;
use selkie_client::{
    ClientBuilder, Collection, CollectionShape, Merge, RecordId, Result, Strategy, Transaction, Vault, field,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Project {
    title: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Goal {
    project: RecordId,
    /// As in `2027-W03`.
    week: String,
    title: String,
    /// How many hours it is to take, and how many it took: added to on any device.
    planned: i64,
    spent: i64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Todo {
    goal: RecordId,
    title: String,
    /// As in `2027-01-15`.
    due: String,
    done: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Health {
    score: u32,
    advice: String,
}

/// There is one score, so it has one name.
const HEALTH: RecordId = RecordId([1; 16]);

fn app(client: ClientBuilder) -> ClientBuilder {
    client
        .collection(CollectionShape::new("goals").field("spent", Merge::Counter).index(["week"]))
        .collection(CollectionShape::new("todos").index(["done", "due"]))
        // It is computed from the rest: the latest is right.
        .collection(CollectionShape::new("health").conflicts(Strategy::LastWriterWins))
}

struct Goals {
    vault: Vault,
    projects: Collection<Project>,
    goals: Collection<Goal>,
    todos: Collection<Todo>,
    health: Collection<Health>,
}

impl Goals {
    fn of(vault: Vault) -> Goals {
        let (projects, goals) = (vault.collection("projects"), vault.collection("goals"));
        let (todos, health) = (vault.collection("todos"), vault.collection("health"));
        Goals { vault, projects, goals, todos, health }
    }

    /// A project, this week's goal and what it takes: all of it or nothing.
    async fn plan(&self, project: &str, week: &str, goal: &str, todos: &[(&str, &str)]) -> Result<RecordId> {
        let mut plan: Transaction = self.vault.transaction();
        let project = plan.put(&self.projects, &Project { title: project.into() })?;
        let goal = Goal { project, week: week.into(), title: goal.into(), planned: 5, spent: 0 };
        let goal = plan.put(&self.goals, &goal)?;
        for (title, due) in todos {
            plan.put(&self.todos, &Todo { goal, title: (*title).into(), due: (*due).into(), done: false })?;
        }
        plan.commit().await?;
        Ok(goal)
    }

    async fn finish(&self, title: &str, hours: i64) -> Result<()> {
        let Some(todo) = self.todos.query().filter(field("title").eq(title)).first().await? else { return Ok(()) };
        let mut done = self.vault.transaction();
        done.update(&self.todos, todo.id, |todo| todo.done = true);
        done.update(&self.goals, todo.value.goal, move |goal| goal.spent += hours);
        done.commit().await
    }

    /// The agent: says how well it goes, now and whenever that changes, for as many changes as it is asked to.
    async fn watch_health(&self, today: &str, changes: usize) -> Result<()> {
        let mut overdue = self.todos.query().filter(field("done").eq(false).and(field("due").lt(today))).watch();
        for _ in 0..changes {
            let Some(overdue) = overdue.next().await else { return Ok(()) };
            let (late, all) = (overdue?, self.todos.query().count().await?);
            let score = 100 - u32::try_from(late.len() * 100 / all.max(1)).unwrap_or(100);
            let advice = match late.first() {
                Some(todo) => format!("begin with {:?}", todo.value.title),
                None => "go outside".to_owned(),
            };
            self.health.put_as(HEALTH, &Health { score, advice }).await?;
        }
        Ok(())
    }
}

async fn story() -> Result<(Vec<Health>, Goal)> {
    let server = TestServer::for_app(app);
    let ana = server.person("ana");
    let (laptop, phone) = (ana.device("laptop").await?, ana.device("phone").await?);
    let on_laptop = Goals::of(laptop.account().create_vault("Goals", "org.example.goals").await?);
    let todos = [("Sand the boat", "2027-01-12"), ("Buy varnish", "2027-01-13"), ("Launch it", "2027-03-01")];
    let goal = on_laptop.plan("The boat", "2027-W03", "A dry hull", &todos).await?;
    server.sync_all().await?;
    let on_phone = Goals::of(phone.vault("Goals").await?);

    // The agent looks once, and once more when something that is late was done: on the other device.
    let mut said = Vec::new();
    on_laptop.watch_health("2027-01-15", 1).await?;
    said.extend(on_laptop.health.get(HEALTH).await?);
    on_phone.finish("Sand the boat", 3).await?;
    on_laptop.finish("Buy varnish", 1).await?;
    server.sync_all().await?;
    on_laptop.watch_health("2027-01-15", 1).await?;
    server.sync_all().await?;
    said.extend(on_phone.health.get(HEALTH).await?);
    let goal = on_phone.goals.get(goal).await?.into_iter().next();
    Ok((said, goal.expect("it was planned")))
}

#[tokio::main]
async fn main() -> Result<()> {
    let (said, goal) = story().await?;
    for Health { score, advice } in said {
        println!("health {score}: {advice}");
    }
    println!("{}: {} of {} hours", goal.title, goal.spent, goal.planned);
    Ok(())
}

#[tokio::test]
async fn the_score_follows_what_is_done_anywhere() -> Result<()> {
    let (said, goal) = story().await?;
    let health = |score, advice: &str| Health { score, advice: advice.into() };
    assert_eq!(said[0].score, 34);
    assert_eq!(said[1], health(100, "go outside"));
    assert_eq!(goal.spent, 4, "both devices' hours count");
    Ok(())
}

#[tokio::test]
async fn the_agent_is_woken_by_a_sync() -> Result<()> {
    let server = TestServer::for_app(app);
    let ana = server.person("ana");
    let (laptop, phone) = (ana.device("laptop").await?, ana.device("phone").await?);
    let on_laptop = Goals::of(laptop.account().create_vault("Goals", "org.example.goals").await?);
    on_laptop.plan("The boat", "2027-W03", "A dry hull", &[("Sand it", "2027-01-12")]).await?;
    server.sync_all().await?;
    let on_phone = Goals::of(phone.vault("Goals").await?);
    let meanwhile = async {
        // Not before the agent has said something for the first time.
        let mut said = on_laptop.health.query().watch();
        while said.next().await.transpose()?.is_some_and(|said| said.is_empty()) {}
        on_phone.finish("Sand it", 3).await?;
        phone.sync().await?;
        laptop.sync().await
    };
    let (watched, done) = tokio::join!(on_laptop.watch_health("2027-01-15", 2), meanwhile);
    watched.and(done)?;
    assert_eq!(on_laptop.health.get(HEALTH).await?.map(|health| health.score), Some(100));
    Ok(())
}
