//! The store's contract as tests: every story runs on both databases.
//!
//! Owns the houses the stories play in and the people who live there. Knows nothing of SQL, but for `catalogue`,
//! `isolation` and `durability`, which look behind the traits on purpose.

mod accounts;
pub(super) mod announcing;
mod audit;
mod catalogue;
mod changes;
mod durability;
mod factors;
mod house;
mod isolation;
mod links;
mod log_races;
mod measures;
mod migrations;
mod model;
mod people;
mod pruning;
mod races;
mod random;
mod random_logs;
mod scribe;
mod server;
mod sessions;
mod tenants;
mod trouble;
mod vault_people;
mod vaults;

use house::House;
use people::*;

/// Runs each of these stories, `async fn story(house: House)`, on SQLite and on PostgreSQL. One that is forgotten here
/// is dead code, of which the compiler complains.
macro_rules! on_both {
    ($($story:ident),+ $(,)?) => {
        mod on_sqlite {
            $(#[tokio::test]
            async fn $story() {
                super::$story(super::House::on_sqlite().await).await;
            })+
        }
        mod on_postgres {
            $(#[tokio::test]
            async fn $story() {
                super::$story(super::House::on_postgres().await).await;
            })+
        }
    };
}
use on_both;
