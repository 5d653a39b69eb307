//! Shows the configuration as it holds: every setting, its value and where it came from. Secrets are `set` or `unset`.
//!
//! Owns the walk over the structs. Knows no single setting: what the structs write out is what is shown.

use super::load::Origin;
use super::secret_file::SECRETS;
use super::{Config, DatabaseTarget};
use serde::Serialize;
use serde_json::Value;

/// One setting as it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Entry {
    pub key: String,
    /// As one would write it; nothing when it is not set.
    pub value: Option<String>,
    /// `default`, a file with its line, a variable, or the file that holds a secret.
    pub source: String,
    /// What follows from a setting that is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Config {
    /// Every setting, sorted by key.
    pub fn describe(&self) -> Vec<Entry> {
        let entry = |(key, value): (String, Value)| {
            let value = match value {
                Value::Null if SECRETS.contains(&key.as_str()) => Some("unset".to_owned()),
                Value::Null => None,
                Value::String(text) => Some(text),
                other => Some(other.to_string()),
            };
            let source = self.origin(&key).to_string();
            let note = if matches!(value.as_deref(), None | Some("unset")) { self.consequence(&key) } else { None };
            Entry { key, value, source, note }
        };
        let mut entries: Vec<_> = flatten(self).into_iter().map(entry).collect();
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        entries
    }

    /// Where a setting came from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    /// What holds when this setting is left out.
    fn consequence(&self, key: &str) -> Option<String> {
        match key {
            "server.server_name" => Some(self.server_name()),
            "server.public_url" => Some(self.public_url()),
            "server.workers" => Some("one for each core".into()),
            "database.url" => match self.database() {
                DatabaseTarget::Sqlite(path) => Some(format!("SQLite in {}", path.display())),
                DatabaseTarget::Postgres { .. } => None,
            },
            "database.pool_size" => Some(self.pool_size().to_string()),
            "blobs.dir" => Some(self.blob_dir().display().to_string()),
            "metrics.listen" => Some("no listener of its own".into()),
            _ => None,
        }
    }
}

/// Every leaf of the structs, with `null` where nothing is set.
pub(crate) fn flatten(config: &Config) -> Vec<(String, Value)> {
    fn descend(value: Value, prefix: &str, found: &mut Vec<(String, Value)>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
                    descend(value, &key, found);
                }
            }
            leaf => found.push((prefix.to_owned(), leaf)),
        }
    }
    let mut found = Vec::new();
    descend(serde_json::to_value(config).expect("settings have text keys and plain values"), "", &mut found);
    found
}
