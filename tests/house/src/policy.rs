//! `deny.toml`: what may be linked. Knows nothing about what is.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
pub struct Policy {
    pub licenses: Licences,
    pub bans: Bans,
}

#[derive(Debug, Deserialize)]
pub struct Licences {
    pub allow: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub struct Bans {
    pub deny: Vec<Ban>,
}

#[derive(Debug, Deserialize)]
pub struct Ban {
    #[serde(rename = "crate")]
    pub name: String,
    pub reason: String,
}

impl Policy {
    /// # Panics
    /// When the file is missing or does not say what it must.
    pub fn read() -> Self {
        let text = std::fs::read_to_string(crate::root().join("deny.toml")).expect("deny.toml can be read");
        toml::from_str(&text).expect("deny.toml has lists of licences and bans")
    }
}
