//! Whether a server that has been through trouble has behaved: what it logged, what it told, what it took.
//!
//! Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::plan::Trouble;

/// When there was trouble, with its aftermath. Times are as in the log, which sort as text.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) trouble: Trouble,
    pub(super) from: String,
    pub(super) until: String,
}

/// What a server takes at a calm moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) process: u32,
    /// Since the scene was set.
    pub(super) at: Duration,
    pub(super) pss_mib: f64,
    pub(super) files: usize,
}

/// What the server may complain of, and of what trouble that speaks. Whatever else is logged as a warning or an error
/// is a surprise, at any time; and these are, at any other.
const EXPECTED: &[(&str, &[Trouble])] = &[
    ("the server failed", OF_STORAGE),
    ("will be tried again", OF_STORAGE),
    ("a group of pushes failed: each is tried by itself", OF_DATABASE),
    ("a connection to the database ended", OF_DATABASE),
    ("the line to the other servers on this database is down", OF_DATABASE),
    ("other servers were not told that vaults moved", OF_DATABASE),
    ("a transaction was not committed", &[Trouble::DiskFull]),
];
const OF_DATABASE: &[Trouble] = &[Trouble::DatabaseKilled, Trouble::DiskFull, Trouble::CutOff];
const OF_STORAGE: &[Trouble] = &[Trouble::DatabaseKilled, Trouble::DiskFull, Trouble::CutOff, Trouble::BlobsAway];

/// The lines of a log that no trouble explains.
pub(super) fn surprises(log: &str, windows: &[Window]) -> Vec<String> {
    let is_explained = |line: &str| {
        let Ok(line) = serde_json::from_str::<Value>(line) else { return false };
        let word = |name: &str| line[name].as_str().unwrap_or_default();
        if !["WARN", "ERROR"].contains(&word("level")) {
            return true;
        }
        let expected = EXPECTED.iter().find(|(message, _)| *message == word("message"));
        let in_time = |window: &&Window| window.from.as_str() <= word("time") && word("time") <= window.until.as_str();
        expected.is_some_and(|(_, of)| windows.iter().filter(in_time).any(|window| of.contains(&window.trouble)))
    };
    log.lines().filter(|line| !is_explained(line)).map(str::to_owned).collect()
}

/// How often the server complained, and of what.
pub(super) fn complaints(log: &str) -> BTreeMap<String, usize> {
    let mut complaints = BTreeMap::new();
    for line in log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        if line["level"] != "INFO" {
            let [level, message, code] = ["level", "message", "code"].map(|word| line[word].as_str().unwrap_or("-"));
            *complaints.entry(format!("{level} {message} {code}")).or_default() += 1;
        }
    }
    complaints
}

/// Those of the requests that the log knows nothing of.
pub(super) fn unknown<'a>(requests: &'a [String], log: &str) -> Vec<&'a String> {
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let known: BTreeSet<String> = lines.filter_map(|line| Some(line["request_id"].as_str()?.to_owned())).collect();
    requests.iter().filter(|request| !known.contains(*request)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = concat!(
        r#"{"time":"2026-01-01T00:00:05Z","level":"ERROR","message":"the server failed","request_id":"r-1"}"#,
        "\n",
        r#"{"time":"2026-01-01T00:00:06Z","level":"INFO","message":"request done","request_id":"r-2"}"#,
        "\n",
    );

    fn during(trouble: Trouble, from: &str, until: &str) -> Vec<Window> {
        vec![Window { trouble, from: from.to_owned(), until: until.to_owned() }]
    }

    #[test]
    fn an_error_is_explained_by_its_own_trouble_at_its_own_time_only() {
        let (before, after) = ("2026-01-01T00:00:04Z", "2026-01-01T00:00:07Z");
        assert_eq!(surprises(LOG, &during(Trouble::DatabaseKilled, before, after)).len(), 0);
        assert_eq!(surprises(LOG, &during(Trouble::Unreachable, before, after)).len(), 1);
        assert_eq!(surprises(LOG, &during(Trouble::DatabaseKilled, after, after)).len(), 1);
        let panicked = LOG.replace("the server failed", "a bug: the server panicked");
        assert_eq!(surprises(&panicked, &during(Trouble::DatabaseKilled, before, after)).len(), 1);
        assert_eq!(surprises("thread 'main' panicked", &during(Trouble::DatabaseKilled, before, after)).len(), 1);
    }

    #[test]
    fn a_request_that_is_not_in_the_log_is_missed() {
        let requests = ["r-1", "r-2", "r-3"].map(str::to_owned);
        assert_eq!(unknown(&requests, LOG), [&requests[2]]);
    }
}
