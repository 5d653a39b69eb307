//! What the documents say about the sources is true of them.

use selkie_test_house::source;
use std::collections::{BTreeMap, BTreeSet};

/// Everything with tests in it.
const ROOMS: &[&str] = &["protocol", "server/src", "client-sdk", "cli", "tests"];

/// Rows about files, which come with files.
const WITH_FILES: &[u32] = &[63, 64, 65, 66, 67, 68, 69, 71];

#[test]
fn every_test_that_the_list_of_attacks_names_exists() {
    let named = named_in(&source::document("docs/attacks.md"));
    assert!(named.len() > 26, "the list names {} tests", named.len());
    let written: BTreeSet<String> = source::files(ROOMS)
        .iter()
        .flat_map(|(_, text)| {
            text.split("fn mal_").skip(1).map(|rest| format!("mal_{}", word(rest))).collect::<Vec<_>>()
        })
        .collect();
    let missing: Vec<&String> = named.difference(&written).collect();
    assert!(missing.is_empty(), "docs/attacks.md names tests that nobody wrote: {missing:?}");
}

#[test]
fn every_row_of_the_list_of_attacks_names_a_test_of_its_number() {
    let mut next = 1;
    for line in source::document("docs/attacks.md").lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let Some(number) = cells.get(1).and_then(|cell| cell.parse::<u32>().ok()) else { continue };
        while WITH_FILES.contains(&next) {
            next += 1;
        }
        assert_eq!(number, next, "the rows are in order and none is left out");
        let tests = named_in(cells[3]);
        assert!(!tests.is_empty(), "row {number} names no test");
        for test in tests {
            assert!(test.contains(&format!("_{number:03}_")), "row {number} names {test}");
        }
        next += 1;
    }
    assert!(next > 62, "the list ends before row {next}");
}

/// That the schema is the databases' own is held where they are: in the store's tests, by their catalogues.
#[test]
fn security_names_every_table_and_column_that_the_server_keeps_and_no_other() {
    let security = source::document("SECURITY.md");
    let mut told: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut table = "";
    for cells in security.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>()) {
        // A row that names no table goes on with the one before.
        if let [_, first, columns, _, _] = cells[..] {
            table = if first.is_empty() { table } else { first.trim_matches('`') };
            told.entry(table).or_default().extend(columns.split('`').skip(1).step_by(2));
        }
    }
    let schema: BTreeMap<_, _> = tables(&source::document("server/src/store/schema.rs")).into_iter().collect();
    let mut untold = Vec::new();
    for (table, columns) in &schema {
        if SERVERS_OWN.contains(&table.as_str()) {
            assert!(security.contains(&format!("`{table}`")), "SECURITY.md does not name {table}");
            continue;
        }
        let told = told.get(table.as_str()).cloned().unwrap_or_default();
        let known = |column: &str| IN_NEARLY_EVERY_TABLE.contains(&column) || told.contains(column);
        untold.extend(columns.iter().filter(|column| !known(column)).map(|column| format!("{table}.{column}")));
    }
    assert!(untold.is_empty(), "SECURITY.md does not say what the server learns from {untold:?}");
    let mut unreal = Vec::new();
    for (table, columns) in &told {
        let real = schema.get(*table).map(Vec::as_slice).unwrap_or_default();
        let known = |column: &str| real.iter().any(|real| real == column);
        unreal.extend(columns.iter().filter(|column| !known(column)).map(|column| format!("{table}.{column}")));
    }
    assert!(unreal.is_empty(), "SECURITY.md tells of {unreal:?}, which no database has");
}

/// What SECURITY.md says of them once for all.
const IN_NEARLY_EVERY_TABLE: &[&str] = &["tenant", "account"];

/// Tables that hold nothing of a tenant or a person.
const SERVERS_OWN: &[&str] = &["server_meta", "plans", "opaque_setup", "signing_keys"];

#[test]
fn every_listing_of_the_guide_is_a_piece_of_an_app_that_is_tested() {
    let guide = source::document("docs/building-an-app.md");
    let app = source::document("client-sdk/examples/notes.rs");
    let listings: Vec<&str> = guide.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(listings.len() > 5, "the guide lists {} pieces", listings.len());
    let strange: Vec<&&str> = listings.iter().filter(|listing| !app.contains(listing.trim_end())).collect();
    assert!(strange.is_empty(), "client-sdk/examples/notes.rs has not got this:\n{}", strange[0]);
    // Put together they are the whole program, but for what only our tests need.
    let listed: usize = listings.iter().map(|listing| listing.trim().lines().count()).sum();
    let program = app.split("mod commands").next().unwrap_or_default();
    let needed = program.lines().filter(|line| !line.is_empty() && !line.starts_with("//!")).count();
    assert!(listed + 5 > needed, "the guide leaves something out: {listed} lines of {needed}");
    let features = source::document("client-sdk/Cargo.toml");
    assert!(guide.contains("features = [\"testing\"]") && features.contains("\ntesting = "), "no feature `testing`");
}

/// The tables of Diesel's schema, each with its columns.
fn tables(schema: &str) -> Vec<(String, Vec<String>)> {
    let blocks = schema.split("diesel::table! {").skip(1);
    let tables: Vec<(String, Vec<String>)> = blocks
        .map(|block| {
            let name = word(block.trim_start()).to_owned();
            let columns = block.lines().filter_map(|line| line.split_once(" -> "));
            (name, columns.map(|(column, _)| column.trim().to_owned()).collect())
        })
        .collect();
    assert!(tables.len() > 15 && tables.iter().all(|(_, columns)| columns.len() > 2), "the schema is read wrongly");
    tables
}

fn named_in(text: &str) -> BTreeSet<String> {
    text.split("`mal_").skip(1).map(|rest| format!("mal_{}", word(rest))).filter(|name| name != "mal_").collect()
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}
