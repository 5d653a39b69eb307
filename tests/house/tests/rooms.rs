//! Who may say what where: the rules of ARCHITECTURE.md that a compiler does not see.

use selkie_test_house::source::{self, Line};

const PRODUCTS: &[&str] = &["protocol/src", "server/src", "client-sdk/src", "cli/src"];

#[test]
fn diesel_is_spoken_only_in_the_store() {
    assert_only_in(&["server/src"], &["server/src/store"], &["diesel", "diesel_async", "diesel_migrations"]);
}

#[test]
fn actix_is_spoken_only_where_http_is_translated_and_started() {
    let places = ["server/src/http", "server/src/app.rs", "server/src/lib.rs", "server/src/tls.rs"];
    assert_only_in(&["server/src"], &places, &["actix_web", "actix_http", "actix_rt"]);
}

#[test]
fn http_does_not_reach_past_the_middle_into_the_store() {
    assert_never(&["server/src/http"], &["crate::store", "diesel"]);
}

#[test]
fn the_deciding_rooms_know_nothing_of_http() {
    assert_never(
        &["server/src/auth", "server/src/blobs", "server/src/sync", "server/src/tenancy"],
        &["crate::http", "actix_web", "diesel"],
    );
}

#[test]
fn the_store_knows_no_other_room() {
    let rooms = ["http", "auth", "blobs", "sync", "tenancy", "limits", "jobs", "app", "cli"]
        .map(|room| format!("crate::{room}"));
    assert_never(&["server/src/store"], &rooms.each_ref().map(String::as_str));
}

#[test]
fn sql_lives_in_the_stores() {
    let statements = ["SELECT ", "INSERT INTO ", "DELETE FROM ", "CREATE TABLE ", "ALTER TABLE ", "DROP TABLE "];
    let stores = ["server/src/store", "client-sdk/src/store"];
    let speaks_sql = |line: &Line| statements.iter().any(|statement| code(line).contains(&format!("\"{statement}")));
    assert_none(lines_outside(PRODUCTS, &stores).filter(speaks_sql));
}

#[test]
fn the_ciphers_have_one_home() {
    let homes = ["protocol/src/cipher", "protocol/src/opaque.rs"];
    assert_only_in(PRODUCTS, &homes, &["chacha20poly1305", "hpke", "x_wing", "argon2", "scrypt", "opaque_ke"]);
}

#[test]
fn the_clock_and_the_dice_of_the_server_are_handed_in() {
    // `Instant` is allowed: it measures, it does not tell the time. A draft's file name must only differ from others.
    let homes =
        ["server/src/edges.rs", "server/src/cli", "server/src/blobs/files.rs", "server/src/blobs/conformance.rs"];
    assert_only_in(&["server/src"], &homes, &["SystemTime::now", "Utc::now", "getrandom", "rand::rng", "Uuid::new_v4"]);
}

#[test]
fn the_client_meets_the_world_at_its_edges_alone() {
    let client = &["client-sdk/src"];
    let (edges, http) = ("client-sdk/src/edges.rs", "client-sdk/src/transport");
    // The kit is an edge of its own: it brings a runtime for tests.
    assert_only_in(client, &[edges, http, "client-sdk/src/lib.rs", "client-sdk/src/testing"], &["tokio", "reqwest"]);
    assert_only_in(client, &[edges], &["SystemTime", "Instant"]);
    assert_only_in(client, &["client-sdk/src/store"], &["rusqlite", "std::thread", "std::fs"]);
}

#[test]
fn no_room_is_a_lumber_room() {
    let names = ["common", "util", "utils", "helper", "helpers", "misc"];
    let is_one =
        |(file, _): &(String, String)| file.trim_end_matches(".rs").split('/').any(|part| names.contains(&part));
    let found: Vec<String> = source::files(PRODUCTS).into_iter().filter(is_one).map(|(file, _)| file).collect();
    assert!(found.is_empty(), "name these after what they own: {found:?}");
}

#[test]
fn every_module_begins_by_saying_what_it_owns() {
    let all = source::files(&["protocol", "server", "client-sdk", "cli", "tests"]);
    let silent: Vec<&str> =
        all.iter().filter(|(_, text)| !text.starts_with("//!")).map(|(file, _)| file.as_str()).collect();
    assert!(silent.is_empty(), "without a word at the top: {silent:#?}");
}

#[test]
fn nothing_is_left_to_do_in_code() {
    let words = ["todo!", "unimplemented!", "dbg!", "FIXME", "XXX"];
    let is_left = |line: &Line| words.iter().any(|word| line.mentions(word));
    assert_none(lines_outside(PRODUCTS, &[]).filter(is_left));
}

#[test]
fn lines_are_short_enough_to_read() {
    let all = source::lines(&["protocol", "server", "client-sdk", "cli", "tests"]);
    // rustfmt sees to the code; a text in it may be as long as it is.
    let is_long = |line: &Line| line.text.chars().count() > 120 && line.text.trim_start().starts_with("//");
    assert_none(all.into_iter().filter(is_long));
}

/// A server that was started by hand in a folder of the source leaves its keys there.
#[test]
fn no_key_and_no_database_is_among_the_files() {
    let root = selkie_test_house::root();
    if !root.join(".git").exists() {
        // Whoever got the source without its history has no list, and nothing to add to it.
        return;
    }
    let listed = std::process::Command::new("git").args(["ls-files", "-z"]).current_dir(root).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).unwrap();
    let is_secret = |file: &&str| file.ends_with(".key") || file.ends_with(".db") || file.contains("selkie-data/");
    let found: Vec<&str> = listed.split('\0').filter(is_secret).collect();
    assert!(found.is_empty(), "these do not belong here: {found:?}");
}

fn assert_only_in(folders: &[&str], homes: &[&str], words: &[&str]) {
    assert_none(lines_outside(folders, homes).filter(|line| words.iter().any(|word| line.mentions(word))));
}

fn assert_never(folders: &[&str], words: &[&str]) {
    assert_only_in(folders, &[], words);
}

fn lines_outside(folders: &[&str], homes: &[&str]) -> impl Iterator<Item = Line> {
    let homes: Vec<String> = homes.iter().map(|home| (*home).to_owned()).collect();
    source::lines(folders)
        .into_iter()
        .filter(move |line| !line.is_in(&homes.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// The line without its comment.
fn code(line: &Line) -> &str {
    line.text.split("//").next().unwrap_or_default()
}

fn assert_none(lines: impl Iterator<Item = Line>) {
    let found: Vec<String> = lines.map(|line| line.to_string()).collect();
    assert!(found.is_empty(), "{} lines break this rule:\n{}", found.len(), found.join("\n"));
}
