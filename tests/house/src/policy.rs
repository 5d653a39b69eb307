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
    pub exceptions: Vec<Exception>,
}

/// Licences that are allowed for one crate.
#[derive(Debug, Deserialize)]
pub struct Exception {
    pub allow: Vec<String>,
    #[serde(rename = "crate")]
    pub name: String,
}

impl Licences {
    /// What is allowed for a crate of that name.
    pub fn allowed_for(&self, name: &str) -> Vec<String> {
        let exceptions = self.exceptions.iter().filter(|exception| exception.name == name);
        self.allow.iter().chain(exceptions.flat_map(|exception| &exception.allow)).cloned().collect()
    }
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
