//! What the protocol calls a reading of bytes has a place in the fuzzer.
//!
//! Owns the look for functions of those names that take bytes of any length. What reads under another name is for
//! whoever writes it to think of.

use selkie_test_house::source;

/// What functions that read bytes are called.
const READ: &[&str] = &["parse", "from_bytes", "decode", "open"];

#[test]
fn every_reader_of_the_protocol_is_named_by_a_target() {
    // The targets include what the protocol's own tests feed by chance.
    let lines = source::lines(&["tests/fuzz/src", "protocol/tests/decoders"]);
    let targets: String = lines.iter().filter_map(|line| line.text.split("//").next()).collect();
    let readers: Vec<String> =
        source::files(&["protocol/src"]).iter().flat_map(|(file, text)| readers(file, text)).collect();
    assert!(readers.len() > 15, "the sources are read wrongly: {readers:?}");
    let forgotten: Vec<&String> = readers.iter().filter(|reader| !targets.contains(reader.as_str())).collect();
    assert!(forgotten.is_empty(), "no target in tests/fuzz names {forgotten:?}");
}

/// Each as it is called: `Type::parse`, `module::open`; by the type alone where it is a method of a value.
fn readers(file: &str, text: &str) -> Vec<String> {
    let module = file.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs");
    let mut readers = Vec::new();
    for (at, before) in text.match_indices("pub fn ") {
        let rest = &text[at + before.len()..];
        let name = word(rest);
        let takes = rest.split("->").next().unwrap_or_default();
        if !READ.contains(&name) || !takes.contains("[u8]") {
            continue;
        }
        let is_free = text[..at].ends_with('\n');
        let owner = text[..at].rfind("\nimpl").map_or(module, |begin| owner(&text[begin + 1..]));
        readers.push(match (is_free, takes.contains("self")) {
            (true, _) => format!("{module}::{name}"),
            (false, true) => owner.to_owned(),
            (false, false) => format!("{owner}::{name}"),
        });
    }
    readers
}

/// Whose the functions of a block are that begins with `impl`.
fn owner(block: &str) -> &str {
    let head = block.split('{').next().unwrap_or_default().trim_start_matches("impl");
    let head = if head.starts_with('<') { head.split_once("> ").map_or(head, |(_, rest)| rest) } else { head };
    word(head.rsplit(" for ").next().unwrap_or_default().trim_start())
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    &text[..end]
}

#[test]
fn readers_are_found_wherever_they_stand() {
    let text = "
impl<'a> Entry<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<Entry<'a>, Malformed> {
    pub fn parse_all(bytes: &[u8]) {
impl From<u8> for Key {
    pub fn open(
        &self,
        sealed: &[u8],
    ) -> Vec<u8> {
    pub fn from_bytes(key: u8) -> [u8] {
pub fn open(sealed: &[u8]) -> Tokens {
";
    assert_eq!(readers("protocol/src/cipher/token.rs", text), ["Entry::parse", "Key", "token::open"]);
}
