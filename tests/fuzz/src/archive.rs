//! Archives of a vault.
//!
//! Owns the putting together of files whose checksums, counts and seals are right, whatever else is in them: who makes
//! an archive to harm can count, too. See docs/archive-format.md.

use crate::offline::{NOW_MS, now, vault};
use crate::script::Script;
use selkie_client::{ExportOptions, VaultId, read_manifest};
use selkie_protocol::cipher::{AGE_CHUNK, AGE_MAGIC, AgeKey};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::io::Cursor;

/// For [`PASSPHRASE`] with the least work there is, which is why it is written down and not made here.
const SEALED_HEADER: &str = "age-encryption.org/v1\n-> scrypt AgICAgICAgICAgICAgICAg 1
h8IXv8Ri8LJQwuj0gubM+GSh8jRU7yh22kYucijH5Bc
--- MWOnh1oG+fJd89n+zpna+WdD+8zjRx/xE5GN9PhVXQs\n";
const PASSPHRASE: &str = "swans";
/// More would take the fuzzer's time and memory for itself.
const MOST_WORK: u32 = 4;

/// The first byte says how the file comes to be.
pub(crate) fn run(bytes: &[u8]) {
    let mut script = Script(bytes);
    match script.byte() % 5 {
        0 => taken(script.0),
        1 => taken(&packed(&mut script)),
        2 => taken(&sealed(&packed(&mut script))),
        3 => taken(&sealed(script.0)),
        // The chunks as they come, behind a header that opens.
        _ => taken(&[&header(), script.0].concat()),
    }
}

fn taken(file: &[u8]) {
    if asks_for_work(file) {
        return;
    }
    let told = read_manifest(Cursor::new(file), Some(PASSPHRASE));
    let vault = vault();
    let bring_in = |file: &[u8]| now(vault.import(Cursor::new(file.to_vec()), Some(PASSPHRASE)));
    let Ok(report) = bring_in(file) else {
        let here = now(vault.collections()).expect("memory can be read");
        assert!(here.is_empty(), "something of an archive that was refused is here");
        return;
    };
    let manifest = told.expect("what was taken has a manifest");
    assert_eq!(manifest.records, report.new + report.same + report.updated + report.kept);
    let again = bring_in(file).expect("what was taken is taken again");
    assert_eq!((again.new, again.updated), (0, 0), "a second import changes nothing");
    let (exported, left) = now(vault.export(Vec::new(), ExportOptions::default())).expect("memory takes everything");
    assert_eq!((left.records, left.unreadable), (report.new, 0));
    let there = self::vault();
    let brought = now(there.import(Cursor::new(exported), None)).expect("our own archive");
    assert_eq!((brought.new, brought.updated, brought.kept), (report.new, 0, 0));
}

fn asks_for_work(file: &[u8]) -> bool {
    let stanza = file.strip_prefix(AGE_MAGIC).and_then(|rest| rest.split(|byte| *byte == b'\n').next());
    let work = stanza.and_then(|line| line.rsplit(|byte| *byte == b' ').next());
    let work = work.and_then(|work| std::str::from_utf8(work).ok()?.parse::<u32>().ok());
    work.is_some_and(|work| work > MOST_WORK)
}

/// The lines of a collection, its history, what could not be read; then what the manifest and the checksums say, if
/// not the truth.
fn packed(script: &mut Script<'_>) -> Vec<u8> {
    let [notes, history, unreadable] = [script.piece(), script.piece(), script.piece()];
    let (manifest, sums) = (script.piece(), script.piece());
    let mut members = vec![("collections/notes.ndjson", notes.to_vec())];
    let mut collection = json!({ "name": "notes", "file": members[0].0, "records": lines(notes) });
    if !history.is_empty() {
        members.push(("history/notes.ndjson", history.to_vec()));
        (collection["history"], collection["versions"]) = (members[1].0.into(), lines(history).into());
    }
    if !unreadable.is_empty() {
        members.push(("unreadable.ndjson", unreadable.to_vec()));
    }
    let truth = json!({
        "format": 1, "vault": VaultId([1; 32]), "name": null, "app": "org.example.journal", "made_at_ms": NOW_MS,
        "digest": "1:x", "records": lines(notes), "versions": lines(history), "unreadable": lines(unreadable),
        "collections": [collection],
    });
    let truth = serde_json::to_vec(&truth).expect("a manifest");
    members.push(("manifest.json", if manifest.is_empty() { truth } else { manifest.to_vec() }));
    let truth = members.iter().fold(String::new(), |mut sums, (name, content)| {
        for byte in Sha256::digest(content) {
            let _ = write!(sums, "{byte:02x}");
        }
        let _ = writeln!(sums, "  {name}");
        sums
    });
    members.push(("checksums.txt", if sums.is_empty() { truth.into_bytes() } else { sums.to_vec() }));
    zipped(&members)
}

fn lines(content: &[u8]) -> usize {
    content.iter().filter(|byte| **byte == b'\n').count()
}

/// Little-endian numbers of two, four and eight bytes, one after the other.
macro_rules! laid {
    ($($number:expr),* $(,)?) => { [$($number.to_le_bytes().as_slice()),*].concat() };
}

fn zipped(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, content) in members {
        let (at, crc) = (short(file.len()), crc32fast::hash(content));
        let (size, length) = (content.len() as u64, name.len() as u16);
        file.extend(laid!(0x0403_4b50_u32, 0x2d_u16, 0x0808_u16, 0_u16, 0_u16, 0x21_u16));
        file.extend(laid!(0_u32, u32::MAX, u32::MAX, length, 20_u16));
        file.extend_from_slice(name.as_bytes());
        file.extend(laid!(1_u16, 16_u16, 0_u64, 0_u64));
        file.extend_from_slice(content);
        file.extend(laid!(0x0807_4b50_u32, crc, size, size));
        directory.extend(laid!(0x0201_4b50_u32, 0x032d_u16, 0x2d_u16, 0x0808_u16, 0_u16, 0_u16, 0x21_u16, crc));
        directory.extend(laid!(short(content.len()), short(content.len()), length, 0_u16, 0_u16, 0_u16, 0_u16));
        directory.extend(laid!(0o100_600_u32 << 16, at));
        directory.extend_from_slice(name.as_bytes());
    }
    let (begins, size, count) = (short(file.len()), short(directory.len()), members.len() as u16);
    file.extend(directory);
    file.extend(laid!(0x0605_4b50_u32, 0_u16, 0_u16, count, count, size, begins, 0_u16));
    file
}

fn short(length: usize) -> u32 {
    u32::try_from(length).expect("an input is short")
}

fn header() -> Vec<u8> {
    [SEALED_HEADER.as_bytes(), &[3; 16]].concat()
}

fn sealed(plain: &[u8]) -> Vec<u8> {
    let mut file = header();
    let (_, key) = AgeKey::open(PASSPHRASE, &file).expect("the passphrase is right");
    let chunks: Vec<&[u8]> = if plain.is_empty() { vec![&[]] } else { plain.chunks(AGE_CHUNK).collect() };
    for (number, chunk) in (0..).zip(&chunks) {
        file.extend(key.seal_chunk(number, number + 1 == chunks.len() as u64, chunk));
    }
    file
}
