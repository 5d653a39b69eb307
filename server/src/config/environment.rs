//! Settings from environment variables.
//!
//! Owns how a variable is named and how its text becomes a value, and notices a variable that is named almost right.
//! Knows no single setting.

use super::load::{Origin, Problem, Setting, Settings, fits, known_keys};
use std::ffi::OsString;
use toml::{Table, Value};

/// Variables with names of their own, because everybody expects them.
const SHORT_NAMES: [(&str, &str); 4] = [
    ("SELKIE_DATABASE_URL", "database.url"),
    ("SELKIE_DATABASE_URL_FILE", "database.url_file"),
    ("SELKIE_MASTER_KEY", "master_key.key"),
    ("SELKIE_MASTER_KEY_FILE", "master_key.key_file"),
];

/// Lays the variables over what is there; the later wins.
pub(super) fn read(
    environment: impl Iterator<Item = (OsString, OsString)>,
    settings: &mut Settings,
    problems: &mut Vec<Problem>,
) {
    for (name, value) in environment {
        let Some(name) = name.to_str().filter(|name| name.starts_with("SELKIE_")) else { continue };
        let Some(key) = key_of_variable(name) else {
            if let Some(meant) = likely_meant(name) {
                let origin = Origin::Environment(name.to_owned());
                let message = format!("no such variable; did you mean {meant}?");
                problems.push(Problem { key: String::new(), origin, message });
            }
            continue;
        };
        let origin = Origin::Environment(name.to_owned());
        let result = match settings.get(&key).map(|setting| &setting.origin) {
            Some(Origin::Environment(other)) => Err(format!("the same setting as {other}: keep one of the two")),
            _ => value_of_variable(&key, value.to_str()),
        };
        match result {
            Ok(value) => drop(settings.insert(key, Setting { value, origin })),
            Err(message) => problems.push(Problem { key, origin, message }),
        }
    }
}

/// `SELKIE_SECTION__KEY` and the few short names; anything else is not for the configuration.
fn key_of_variable(name: &str) -> Option<String> {
    if let Some((_, key)) = SHORT_NAMES.iter().find(|(short, _)| *short == name) {
        return Some((*key).to_owned());
    }
    let rest = name.strip_prefix("SELKIE_")?;
    if rest.starts_with("TEST_") || !rest.contains("__") {
        return None;
    }
    Some(rest.to_lowercase().replace("__", "."))
}

/// The variable that was probably meant: a mistyped `SELKIE_DATABASE_URL` must not start an empty database.
/// Variables that resemble none (Kubernetes sets `SELKIE_SERVICE_HOST` for a service called selkie) are let be.
fn likely_meant(name: &str) -> Option<String> {
    if name == "SELKIE_CONFIG" || name.starts_with("SELKIE_TEST_") {
        return None;
    }
    let long_names = known_keys().into_iter().map(|key| format!("SELKIE_{}", key.replace('.', "__").to_uppercase()));
    let short_names = SHORT_NAMES.iter().map(|(short, _)| (*short).to_owned());
    let known = short_names.chain(long_names).chain(["SELKIE_CONFIG".to_owned()]);
    let plain = |name: &str| name.replace("__", "_");
    known.map(|known| (distance(&plain(name), &plain(&known)), known)).filter(|(d, _)| *d <= 2).min().map(|(_, k)| k)
}

/// A variable is text, its setting may be a number, a truth value or a list: the first reading that fits is taken.
fn value_of_variable(key: &str, text: Option<&str>) -> Result<Value, String> {
    let text = text.ok_or("is not valid UTF-8")?;
    let as_text = Value::String(text.to_owned());
    let as_toml = toml::from_str::<Table>(&format!("value = {text}")).ok().and_then(|mut table| table.remove("value"));
    // A whole section in one variable would hide its settings, secrets among them, from everything below.
    let as_toml = as_toml.filter(|value| !value.is_table());
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    let as_list = Value::Array(items.map(|item| Value::String(item.to_owned())).collect());
    if text.is_empty() && fits(key, &as_list).is_err() {
        fits(key, &as_text).err().filter(|message| message.starts_with("unknown")).map_or(Ok(()), Err)?;
        return Err("is set but empty: give it a value, or remove the variable".into());
    }
    let mut refusals = Vec::new();
    for value in [Some(as_text), as_toml, Some(as_list)].into_iter().flatten() {
        match fits(key, &value) {
            Ok(()) => return Ok(value),
            Err(refusal) => refusals.push(refusal),
        }
    }
    // A reading of the right type, but with the wrong content, says more than one of the wrong type.
    let telling = refusals.iter().position(|refusal| !refusal.starts_with("invalid type")).unwrap_or(0);
    Err(refusals.swap_remove(telling))
}

/// Levenshtein's distance: how many letters to change, add or remove.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
