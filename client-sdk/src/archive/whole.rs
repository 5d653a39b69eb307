//! An archive as a whole.
//!
//! Owns that its members are those the manifest names, that they have the checksums and the counts it says, and that
//! every line is a record. Knows nothing of vaults.

use super::ArchiveError;
use super::format::{
    CHECKSUMS, FORMAT, HISTORY, LONGEST_LINE, Line, MANIFEST, Manifest, RECORDS, RESERVED, UNREADABLE,
};
use super::format::{file_of, sum_line};
use super::sealed::In;
use super::zip::{Member, Unpacker};
use crate::error::{Error, Result};
use selkie_protocol::cipher::RecordKey;
use selkie_protocol::id::RecordId;
use selkie_protocol::record::{MAX_COLLECTION_LENGTH, RecordBody};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek};

/// The manifest and the checksums are read in one piece.
const LONGEST_DOCUMENT: u64 = 16 * 1024 * 1024;

pub(super) struct Archive<R> {
    members: Unpacker<R>,
    pub(super) manifest: Manifest,
}

impl<R: Read + Seek> Archive<R> {
    /// Opens an archive whose manifest fits its directory. What else is in it is not looked at yet.
    pub(super) fn open(from: R, passphrase: Option<&str>) -> Result<Self> {
        let mut members = Unpacker::open(In::new(from, passphrase)?)?;
        let bytes = document(&mut members, MANIFEST)?;
        let manifest = read(&bytes)?;
        let expected = members_of(&manifest).ok_or_else(|| damaged("its manifest contradicts itself"))?;
        if members.members.iter().map(|member| member.name.as_str()).ne(expected.iter().map(String::as_str)) {
            return Err(damaged("it has other members than its manifest says"));
        }
        Ok(Archive { members, manifest })
    }

    /// Reads all of it and checks every word.
    pub(super) fn check(&mut self) -> Result<()> {
        let mut sums = String::new();
        let collections = self.manifest.collections.clone();
        let files: BTreeMap<&str, _> = collections.iter().map(|one| (one.file.as_str(), one)).collect();
        let histories: BTreeMap<&str, _> =
            collections.iter().filter_map(|one| Some((one.history.as_deref()?, one))).collect();
        for member in self.members.members.clone() {
            if member.name == CHECKSUMS {
                continue;
            }
            let (collection, history) = (files.get(member.name.as_str()), histories.get(member.name.as_str()));
            let sha = if let Some(collection) = collection {
                self.counted(&member, collection.records, |line| record_of(line, &collection.name).map(drop))?
            } else if let Some(history) = history {
                self.counted(&member, history.versions, |line| body_of(line, &history.name).map(drop))?
            } else if member.name == UNREADABLE {
                self.counted(&member, self.manifest.unreadable, |_| Ok(()))?
            } else {
                self.members.read(&member, |_| Ok::<(), ArchiveError>(()))?
            };
            sums.push_str(&sum_line(&sha, &member.name));
        }
        if document(&mut self.members, CHECKSUMS)? != sums.as_bytes() {
            return Err(damaged("its checksums are those of another content"));
        }
        Ok(())
    }

    /// Goes through the records, collection by collection.
    pub(super) fn records(&mut self, mut each: impl FnMut(RecordId, RecordBody) -> Result<()>) -> Result<()> {
        for collection in self.manifest.collections.clone() {
            let member = member(&self.members, &collection.file)?;
            lines(&mut self.members, &member, |line| {
                let (id, body) = record_of(line, &collection.name)?;
                each(id, body)
            })?;
        }
        Ok(())
    }

    fn counted(&mut self, member: &Member, count: u64, each: impl Fn(&[u8]) -> Result<()>) -> Result<[u8; 32]> {
        let mut found = 0;
        let sha = lines(&mut self.members, member, |line| {
            found += 1;
            each(line)
        })?;
        if found != count {
            return Err(damaged(&format!("{:?} has {found} lines, where the manifest says {count}", member.name)));
        }
        Ok(sha)
    }
}

fn damaged(what: &str) -> Error {
    ArchiveError::damaged(what).into()
}

fn read(bytes: &[u8]) -> Result<Manifest> {
    /// All that is looked at of a manifest of another format.
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_slice(bytes).map_err(|_| damaged("its manifest is none"))?;
    if format > FORMAT {
        return Err(ArchiveError::Newer(format).into());
    }
    serde_json::from_slice(bytes).map_err(|_| damaged("its manifest is none"))
}

/// The members of such an archive, in their order.
fn members_of(manifest: &Manifest) -> Option<Vec<String>> {
    let (mut members, mut names) = (Vec::new(), BTreeSet::new());
    let (mut records, mut versions) = (0_u64, 0_u64);
    for collection in &manifest.collections {
        let name = &collection.name;
        let fits = !name.is_empty() && name.len() <= MAX_COLLECTION_LENGTH && !name.starts_with(RESERVED);
        if !fits || !names.insert(name) || collection.file != file_of(RECORDS, name) {
            return None;
        }
        records = records.checked_add(collection.records)?;
        versions = versions.checked_add(collection.versions)?;
        members.push(collection.file.clone());
        match &collection.history {
            Some(file) if *file == file_of(HISTORY, name) => members.push(file.clone()),
            None if collection.versions == 0 => {}
            _ => return None,
        }
    }
    if (records, versions) != (manifest.records, manifest.versions) || manifest.format != FORMAT {
        return None;
    }
    members.extend((manifest.unreadable > 0).then(|| UNREADABLE.to_owned()));
    members.extend([MANIFEST.to_owned(), CHECKSUMS.to_owned()]);
    Some(members)
}

fn member<R>(members: &Unpacker<R>, name: &str) -> Result<Member> {
    let found = members.members.iter().find(|member| member.name == name).cloned();
    found.ok_or_else(|| damaged(&format!("it has no {name}")))
}

fn document<R: Read + Seek>(members: &mut Unpacker<R>, name: &str) -> Result<Vec<u8>> {
    let member = member(members, name)?;
    if member.size > LONGEST_DOCUMENT {
        return Err(damaged(&format!("its {name} is too long")));
    }
    let mut bytes = Vec::new();
    members.read(&member, |piece| {
        bytes.extend_from_slice(piece);
        Ok::<(), ArchiveError>(())
    })?;
    Ok(bytes)
}

fn lines<R: Read + Seek>(
    members: &mut Unpacker<R>,
    member: &Member,
    mut each: impl FnMut(&[u8]) -> Result<()>,
) -> Result<[u8; 32]> {
    let mut begun = Vec::new();
    let sha = members.read(member, |mut piece| {
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            begun.extend_from_slice(&piece[..end]);
            each(&begun)?;
            begun.clear();
            piece = &piece[end + 1..];
        }
        begun.extend_from_slice(piece);
        if begun.len() > LONGEST_LINE { Err(damaged("a line of it is too long")) } else { Ok(()) }
    })?;
    if begun.is_empty() { Ok(sha) } else { Err(damaged("its last line is cut off")) }
}

fn body_of(line: &[u8], collection: &str) -> Result<(RecordId, RecordBody)> {
    let no_record = || damaged(&format!("a line of {collection:?} is no record"));
    let line: Line = serde_json::from_slice(line).map_err(|_| no_record())?;
    Ok((line.id, line.body(collection).ok_or_else(no_record)?))
}

/// One that can be written as it stands.
fn record_of(line: &[u8], collection: &str) -> Result<(RecordId, RecordBody)> {
    let (id, body) = body_of(line, collection)?;
    if body.deleted || !RecordKey::fits(body.to_bytes().len()) {
        return Err(damaged(&format!("a line of {collection:?} is no record that a vault takes")));
    }
    Ok((id, body))
}

#[cfg(test)]
mod tests {
    use super::super::format::CollectionMember;
    use super::super::sealed::Out;
    use super::super::zip::Packer;
    use super::*;
    use crate::records::content::{Content, Fields};
    use proptest::prelude::*;
    use selkie_protocol::id::VaultId;
    use selkie_protocol::record::Hlc;
    use std::io::Cursor;

    fn line(number: u8) -> String {
        let body = RecordBody::new("notes", Hlc { ms: 1, count: 0 }, b"x".to_vec());
        Line::of(RecordId([number; 16]), &body).to_text() + "\n"
    }

    fn manifest(records: u64) -> Manifest {
        let file = file_of(RECORDS, "notes");
        let notes = CollectionMember { name: "notes".into(), file, records, history: None, versions: 0 };
        let (vault, digest) = (VaultId([1; 32]), "1:x".to_owned());
        let (app, made_at_ms, versions, unreadable) = ("org.example.journal".to_owned(), 1, 0, 0);
        let (format, name, collections) = (FORMAT, None, vec![notes]);
        Manifest { format, vault, name, app, made_at_ms, digest, records, versions, unreadable, collections }
    }

    /// An archive with checksums that are right, whatever else is in it.
    fn made(members: &[(&str, &[u8])], manifest: &Manifest) -> Vec<u8> {
        made_with(members, &serde_json::to_vec(manifest).unwrap())
    }

    fn made_with(members: &[(&str, &[u8])], manifest: &[u8]) -> Vec<u8> {
        let mut packer = Packer::new(Out::new(Vec::new(), None).unwrap());
        let mut sums = String::new();
        for (name, content) in members.iter().chain([&(MANIFEST, manifest)]) {
            packer.begin((*name).to_owned()).unwrap();
            packer.write(content).unwrap();
            sums.push_str(&sum_line(&packer.end().unwrap(), name));
        }
        packer.begin(CHECKSUMS.to_owned()).unwrap();
        packer.write(sums.as_bytes()).unwrap();
        packer.end().unwrap();
        packer.finish().unwrap()
    }

    fn taken(archive: &[u8]) -> std::result::Result<u64, String> {
        let mut archive = Archive::open(Cursor::new(archive), None).map_err(|error| error.to_string())?;
        archive.check().map_err(|error| error.to_string())?;
        let mut records = 0;
        let count = |_, _| {
            records += 1;
            Ok(())
        };
        archive.records(count).map_err(|error| error.to_string())?;
        Ok(records)
    }

    const NOTES: &str = "collections/notes.ndjson";

    #[test]
    fn an_archive_that_is_what_it_says_is_taken() {
        let lines = line(1) + &line(2);
        assert_eq!(taken(&made(&[(NOTES, lines.as_bytes())], &manifest(2))), Ok(2));
    }

    #[test]
    fn an_archive_that_was_made_to_harm_is_refused_though_its_checksums_are_right() {
        let one = line(1);
        let one = one.as_bytes();
        let (cut, long) = (&one[..one.len() - 1], vec![b'x'; LONGEST_LINE + 70_000]);
        let mut elsewhere = manifest(1);
        elsewhere.collections[0].file = "../../etc/cron.d/notes".into();
        let mut own = manifest(1);
        (own.collections[0].name, own.collections[0].file) = ("selkie.vault".into(), file_of(RECORDS, "selkie.vault"));
        let own_file = own.collections[0].file.clone();
        let mut twice = manifest(1);
        twice.collections.push(twice.collections[0].clone());
        twice.records = 2;
        let later = Manifest { format: 2, ..manifest(1) };
        for (what, members, manifest) in [
            ("a count that is not kept", vec![(NOTES, one)], manifest(2)),
            ("a member too many", vec![(NOTES, one), ("../../etc/passwd", b"x")], manifest(1)),
            ("a member that leads elsewhere", vec![("../../etc/cron.d/notes", one)], elsewhere),
            ("a member twice", vec![(NOTES, one), (NOTES, one)], twice),
            ("the SDK's own collection", vec![(own_file.as_str(), one)], own),
            ("no line at all", vec![(NOTES, b"{}\n")], manifest(1)),
            ("half a line", vec![(NOTES, cut)], manifest(1)),
            ("an endless line", vec![(NOTES, &long)], manifest(1)),
            ("a later format", vec![(NOTES, one)], later),
        ] {
            assert!(taken(&made(&members, &manifest)).is_err(), "{what}");
        }
        assert!(taken(&[]).is_err() && taken(b"PK\x03\x04").is_err());
    }

    /// What means something to who reads lines of JSON.
    const MEANINGFUL: [&[u8]; 10] =
        [b"\n", b"\"", b"{", b"]", b"null", b"1e999", b"\\ud800", b"18446744073709551616", b"-1", b"\xff"];

    /// At a place, so many bytes are taken out and this is put in.
    type Damage = (usize, usize, usize);

    fn damaged(bytes: &[u8], by: &[Damage]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for (at, out, word) in by {
            let at = at % (bytes.len() + 1);
            let word = MEANINGFUL.get(*word).copied().unwrap_or_default();
            bytes.splice(at..(at + out).min(bytes.len()), word.iter().copied());
        }
        bytes
    }

    fn some_damage() -> impl Strategy<Value = Vec<Damage>> {
        proptest::collection::vec((any::<usize>(), 0..6_usize, 0..2 * MEANINGFUL.len()), 0..3)
    }

    proptest! {
        /// Its checksums are right: whoever changed it can count, too.
        #[test]
        fn an_archive_changed_by_somebody_who_can_count_is_whole_or_refused(
            notes in some_damage(), history in some_damage(), about in some_damage(),
        ) {
            const PAST: &str = "history/notes.ndjson";
            let fields = serde_json::json!({ "title": "a\n\u{1}", "n": [1, -1, 0.1, null, {}] });
            let fields = Content::new(2, Fields::of(&fields).unwrap()).to_bytes().unwrap();
            let said = [fields.as_slice(), b"text", b"\xff\x00"].map(<[u8]>::to_vec);
            let lines = said.into_iter().zip(1..).map(|(said, number)| {
                let body = RecordBody::new("notes", Hlc { ms: 9, count: 1 }, said);
                Line::of(RecordId([number; 16]), &body).to_text() + "\n"
            });
            let lines = lines.collect::<String>().into_bytes();
            let mut manifest = manifest(3);
            manifest.versions = 3;
            manifest.collections[0].history = Some(PAST.to_owned());
            manifest.collections[0].versions = 3;
            let manifest = serde_json::to_vec(&manifest).unwrap();
            let archive = made_with(
                &[(NOTES, &damaged(&lines, &notes)), (PAST, &damaged(&lines, &history))], &damaged(&manifest, &about),
            );
            let mut archive = match Archive::open(Cursor::new(&archive), None) {
                Ok(archive) => archive,
                Err(_) if [&notes, &history, &about].iter().any(|damage| !damage.is_empty()) => return Ok(()),
                Err(error) => panic!("nothing was changed: {error}"),
            };
            if archive.check().is_ok() {
                let mut records = 0;
                archive.records(|_, _| {
                    records += 1;
                    Ok(())
                }).unwrap();
                assert_eq!(records, archive.manifest.records, "what was checked is what is brought in");
            }
        }
    }
}
