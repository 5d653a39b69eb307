//! One fresh database, gone when it is dropped. Knows nothing about what is put into it.

use crate::address::Address;
use crate::sql::{self, Connection, quoted};

/// A database of one test. Dropping it drops the database, with whoever is still connected.
#[derive(Debug)]
pub struct Database {
    name: String,
    maintenance: Address,
}

impl Database {
    pub(crate) fn new(name: String, maintenance: Address) -> Self {
        Database { name, maintenance }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The address for the superuser, who also owns the database.
    pub fn url(&self) -> String {
        self.maintenance.with_database(&self.name).url()
    }

    /// The address for another role, which must exist and be allowed to log in.
    pub fn url_as(&self, role: &str) -> String {
        self.maintenance.with_database(&self.name).with_role(role).url()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", quoted(&self.name));
        let dropped = sql::on_own_thread(|| Connection::open(&self.maintenance.url())?.run(&statement));
        if let Err(error) = dropped {
            // The cluster may have gone first, and the database with it. Another failure deserves to be seen.
            #[allow(clippy::print_stderr, reason = "a destructor has no other way to speak")]
            {
                eprintln!("could not drop {}: {}", self.name, error.in_full());
            }
        }
    }
}
