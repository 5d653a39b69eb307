//! What may be linked into what, and under which licences.

use selkie_test_house::licence;
use selkie_test_house::policy::Policy;
use selkie_test_house::source;
use selkie_test_house::tree::{self, Linked};

#[test]
fn the_protocol_needs_no_runtime_and_does_no_io() {
    assert_links_none_of("selkie-protocol", &["tokio", "diesel", "actix-web", "reqwest", "hyper", "mio", "socket2"]);
}

#[test]
fn the_server_links_no_content_cipher() {
    let ciphers = ["chacha20poly1305", "aead-stream", "hpke", "x-wing", "ml-kem", "argon2", "scrypt"];
    assert_links_none_of("selkie-server", &ciphers);
}

/// What compresses lets the length of a secret be guessed from beside it.
#[test]
fn mal_070_nothing_that_compresses_is_linked() {
    let compressors = ["flate2", "miniz_oxide", "zstd", "brotli", "lz4", "lz4_flex", "snap", "async-compression"];
    for product in ["selkie-protocol", "selkie-client", "selkie-cli", "selkie-server"] {
        assert_links_none_of(product, &compressors);
    }
}

#[test]
fn the_server_and_the_client_never_see_each_other() {
    assert_links_none_of("selkie-server", &["selkie-client", "selkie-cli"]);
    assert_links_none_of("selkie-client", &["selkie-server", "diesel", "actix-web"]);
    assert_links_none_of("selkie-cli", &["selkie-server", "diesel", "actix-web"]);
    assert_links_none_of("selkie-protocol", &["selkie-server", "selkie-client"]);
}

#[test]
fn the_client_does_link_the_ciphers() {
    // The other side of the rule above: it would prove nothing if these crates had merely changed their names.
    let linked = tree::of("selkie-client");
    for cipher in ["chacha20poly1305", "hpke", "x-wing", "argon2"] {
        assert!(linked.iter().any(|package| package.name == cipher), "selkie-client does not link {cipher}");
    }
}

/// It would be linked into every program of the workspace that is built beside it, and brings a `main` of its own.
#[test]
fn the_fuzzer_is_built_only_where_it_is_asked_for() {
    let fuzzer = |package: &Linked| package.name == "libfuzzer-sys";
    assert!(!tree::of_products().iter().any(fuzzer), "libfuzzer-sys is linked by default");
    assert!(tree::of_everything().iter().any(fuzzer), "and nothing asks for it any more");
}

#[test]
fn the_testing_kit_is_in_nothing_that_is_shipped() {
    for manifest in ["client-sdk/Cargo.toml", "cli/Cargo.toml", "server/Cargo.toml", "protocol/Cargo.toml"] {
        let text = source::document(manifest);
        let shipped = text.split("[dev-dependencies]").next().unwrap_or_default();
        assert!(!shipped.contains("\"testing\""), "{manifest} asks for the feature `testing` outside of its tests");
    }
}

#[test]
fn nothing_that_is_banned_is_linked() {
    let linked = tree::of_products();
    let bans = Policy::read().bans.deny;
    let found: Vec<String> = bans
        .iter()
        .filter(|ban| linked.iter().any(|package| package.name == ban.name))
        .map(|ban| format!("{}: {}", ban.name, ban.reason))
        .collect();
    assert!(found.is_empty(), "banned, and yet linked (cargo tree -i NAME says by whom):\n{}", found.join("\n"));
}

#[test]
fn every_licence_is_one_we_allow() {
    let licences = Policy::read().licenses;
    let verdict = |package: &Linked| licence::is_allowed(&package.licence, &licences.allowed_for(&package.name));
    let complaint = |package: &Linked| match verdict(package) {
        Ok(true) => None,
        Ok(false) => Some(format!("{} {}: {}", package.name, package.version, package.licence)),
        Err(part) => {
            Some(format!("{} {}: cannot read {part:?} in {:?}", package.name, package.version, package.licence))
        }
    };
    let complaints: Vec<String> = tree::of_everything().iter().filter_map(complaint).collect();
    assert!(complaints.is_empty(), "not allowed by deny.toml:\n{}", complaints.join("\n"));
}

fn assert_links_none_of(package: &str, unwanted: &[&str]) {
    let found: Vec<String> = tree::of(package)
        .into_iter()
        .map(|linked| linked.name)
        .filter(|name| unwanted.contains(&name.as_str()))
        .collect();
    assert!(found.is_empty(), "{package} links {found:?}; `cargo tree -p {package} -i NAME` says by whom");
}
