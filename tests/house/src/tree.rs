//! What cargo would link, asked of cargo itself. Knows nothing about what it should.
//!
//! `cargo tree` and not `cargo metadata`: the latter also lists what is only an unused option in the lock file. And one
//! package at a time where it matters: a whole workspace unifies features and would hide a mistake.

use std::process::Command;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Linked {
    pub name: String,
    pub version: String,
    pub licence: String,
}

/// What ends up in or helps to build `package`, tests left out.
pub fn of(package: &str) -> Vec<Linked> {
    cargo_tree(&["--package", package, "--edges", "normal,build"])
}

/// Every package that any member needs, tests included, whatever features are turned on.
pub fn of_everything() -> Vec<Linked> {
    cargo_tree(&["--workspace", "--all-features", "--edges", "normal,build,dev"])
}

/// Every package that any member is built from, tests left out.
pub fn of_products() -> Vec<Linked> {
    cargo_tree(&["--workspace", "--edges", "normal,build"])
}

fn cargo_tree(arguments: &[&str]) -> Vec<Linked> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--prefix", "none", "--format", "{p}|{l}"])
        .args(arguments)
        .current_dir(crate::root())
        .output()
        .expect("cargo can be run");
    assert!(output.status.success(), "cargo tree {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("cargo writes UTF-8");
    let mut linked: Vec<Linked> = text.lines().filter_map(parse).collect();
    linked.sort();
    linked.dedup();
    assert!(!linked.is_empty(), "cargo tree {arguments:?} said nothing");
    linked
}

/// `name v1.2.3 (perhaps a path)|MIT OR Apache-2.0`, perhaps with a `(*)` for what was shown before.
fn parse(line: &str) -> Option<Linked> {
    let (package, licence) = line.split_once('|')?;
    let mut words = package.split_whitespace();
    let (name, version) = (words.next()?, words.next()?.trim_start_matches('v'));
    let licence = licence.trim_end_matches("(*)").trim();
    Some(Linked { name: name.into(), version: version.into(), licence: licence.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_gives_name_version_and_licence() {
        let expected = Linked { name: "a".into(), version: "1.2.3".into(), licence: "MIT OR ISC".into() };
        assert_eq!(parse("a v1.2.3|MIT OR ISC").as_ref(), Some(&expected));
        assert_eq!(parse("a v1.2.3 (/some/path)|MIT OR ISC (*)").as_ref(), Some(&expected));
        assert_eq!(parse("a v1.2.3 (proc-macro)|").unwrap().licence, "");
        assert_eq!(parse(""), None);
    }
}
