//! Holds `config.example.toml` to the structs: what the file explains is what there is.

use super::{Config, load};
use std::collections::BTreeSet;
use std::path::Path;
use toml::Table;

const EXAMPLE: &str = include_str!("../../../config.example.toml");

/// The file with its settings brought to life: the defaults, and on demand the examples of what has no default.
fn uncommented(with_examples: bool) -> Table {
    let alive = |line: &str| {
        let hashes = line.len() - line.trim_start_matches('#').len();
        let setting = line[hashes..].strip_prefix(' ').filter(|rest| is_setting(rest));
        match (hashes, setting) {
            (1, Some(setting)) => setting.to_owned(),
            (2, Some(setting)) if with_examples => setting.to_owned(),
            _ => line.to_owned(),
        }
    };
    toml::from_str(&EXAMPLE.lines().map(alive).collect::<Vec<_>>().join("\n")).unwrap()
}

fn is_setting(text: &str) -> bool {
    let word = |name: &str| name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
    text.split_once(" = ").is_some_and(|(name, _)| word(name))
}

#[test]
fn the_example_shows_every_setting_and_no_other() {
    let shown: BTreeSet<_> = load::leaves(uncommented(true)).into_iter().map(|(key, _)| key).collect();
    let known: BTreeSet<_> = load::known_keys().into_iter().collect();
    assert_eq!(shown.difference(&known).collect::<Vec<_>>(), [""; 0], "shown, but there is no such setting");
    assert_eq!(known.difference(&shown).collect::<Vec<_>>(), [""; 0], "there is such a setting, but it is not shown");
}

#[test]
fn the_defaults_of_the_example_are_the_defaults() {
    let shown = uncommented(false);
    let mut real = Table::try_from(Config::default()).unwrap();
    // A section without any default appears in the file, and is nothing in the structs.
    real.entry("master_key").or_insert(Table::new().into());
    assert_eq!(shown, real);
}

#[test]
fn every_example_is_one_that_the_server_takes() {
    for (key, value) in load::leaves(uncommented(true)) {
        load::fits(&key, &value).unwrap_or_else(|refusal| panic!("{key}: {refusal}"));
    }
}

#[test]
fn the_example_as_it_stands_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("selkie.toml");
    std::fs::write(&path, EXAMPLE).unwrap();
    let config = load::load(Some(&path), std::iter::empty()).unwrap();
    let without_file = load::load(None, std::iter::empty()).unwrap();
    assert_eq!(config.describe(), without_file.describe());
}

/// A setting that nothing reads is a promise nobody keeps. Those of `[limits]` are read as one table, and what
/// `allow_plain_http` allows is decided by its check.
#[test]
fn every_setting_is_read_by_something_other_than_its_check() {
    let sources = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src"));
    let mut code = String::new();
    let mut waiting = vec![sources.to_owned()];
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.parent() != Some(&*sources.join("config")) || path.ends_with("mod.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            code += text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        }
    }
    let is_read = |name: &str| {
        let field = format!(".{name}");
        let mut places = code.match_indices(&field).map(|(at, found)| &code[at + found.len()..]);
        places.any(|after| !after.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    };
    let unread: Vec<String> = load::known_keys()
        .into_iter()
        .filter(|key| {
            !key.starts_with("limits.") && key != "server.allow_plain_http" && !key.ends_with("_file")
                || key.ends_with(".ca_file")
        })
        .filter(|key| !is_read(key.rsplit('.').next().unwrap_or_default()))
        .collect();
    assert_eq!(unread, [""; 0]);
}
