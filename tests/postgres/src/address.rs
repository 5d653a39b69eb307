//! Where a server is: a URL taken apart just enough to name another database or another role in it.
//!
//! Knows nothing about connecting.

use crate::Error;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// `user` or `user:password`, still percent-encoded.
    user: String,
    host: String,
    database: String,
    /// Empty, or `?` and what follows.
    query: String,
}

impl Address {
    pub(crate) fn local(port: u16) -> Self {
        Address {
            user: "postgres".into(),
            host: format!("127.0.0.1:{port}"),
            database: "postgres".into(),
            query: String::new(),
        }
    }

    pub(crate) fn parse(url: &str) -> Result<Self, Error> {
        let not = || Error::NotAnAddress(without_password(url));
        let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://")).ok_or_else(not)?;
        let (rest, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
        let (authority, database) = rest.split_once('/').unwrap_or((rest, "postgres"));
        let (user, host) = authority.rsplit_once('@').ok_or_else(not)?;
        if user.is_empty() || host.is_empty() || database.is_empty() {
            return Err(not());
        }
        Ok(Address { user: user.into(), host: host.into(), database: database.into(), query: query.into() })
    }

    pub(crate) fn url(&self) -> String {
        let Address { user, host, database, query } = self;
        format!("postgres://{user}@{host}/{database}{query}")
    }

    pub(crate) fn with_database(&self, database: &str) -> Self {
        Address { database: database.into(), ..self.clone() }
    }

    pub(crate) fn with_role(&self, role: &str) -> Self {
        Address { user: role.into(), ..self.clone() }
    }
}

/// An error message may end in a build log; the password of somebody's server must not.
fn without_password(url: &str) -> String {
    match url.rsplit_once('@') {
        Some((_, rest)) => format!("***@{rest}"),
        None => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_all_its_parts() {
        let address = Address::parse("postgres://ana:s%40fe@db.example:5433/main?sslmode=require").unwrap();
        assert_eq!(address.url(), "postgres://ana:s%40fe@db.example:5433/main?sslmode=require");
        assert_eq!(address.with_database("other").url(), "postgres://ana:s%40fe@db.example:5433/other?sslmode=require");
        assert_eq!(address.with_role("bo").url(), "postgres://bo@db.example:5433/main?sslmode=require");
    }

    #[test]
    fn a_missing_database_is_the_maintenance_one() {
        assert_eq!(Address::parse("postgresql://ana@db").unwrap().url(), "postgres://ana@db/postgres");
    }

    #[test]
    fn what_is_not_an_address_is_refused_without_its_password() {
        for wrong in ["", "sqlite://x", "postgres://", "postgres://host/db", "postgres://@host/db", "postgres://u@/db"]
        {
            assert!(Address::parse(wrong).is_err(), "{wrong:?} was taken for an address");
        }
        let error = Address::parse("mysql://ana:hunter2@db/main").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }
}
