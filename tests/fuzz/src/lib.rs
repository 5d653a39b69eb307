//! Everything that reads bytes from outside, as targets for a fuzzer.
//!
//! Owns the list of targets, the beginnings from which a fuzzer finds its way, and the corpus. A target is a pure
//! function of its input: it must not panic, whatever comes, and takes no more time and memory than the input brings.
//! Where there is one way to write a thing, what was read must come out again as it went in. Where a checksum, a seal
//! or a signature would keep everything out, the target makes them itself, so that what lies behind is reached, too.
//!
//! | who runs it | with what |
//! |---|---|
//! | `cargo test` | the seeds and the corpus, and a few thousand damaged copies of them |
//! | `./check --long`, `./check fuzz` | libFuzzer, guided by what is covered; AddressSanitizer where it can be had |
//! | the program `fuzz` | one input again, or damaged copies for a while where there is no libFuzzer |

#![allow(clippy::missing_panics_doc, reason = "in a test a panic is the report")]

mod archive;
mod corpus;
mod damage;
mod evidence;
mod hints;
mod layouts;
mod merges;
mod offline;
mod records;
mod script;
mod seeds;
mod story;
mod table;
mod texts;

// The same functions that the protocol's own tests feed by chance.
#[path = "../../../protocol/tests/decoders/mod.rs"]
mod decoders;
#[path = "../../../protocol/tests/messages/mod.rs"]
mod messages;

pub use corpus::{folder, inputs};
pub use damage::Damage;
pub use seeds::of as seeds;

/// Something to be fuzzed.
pub struct Target {
    /// As on the command line, and as the folder of its corpus is called.
    pub name: &'static str,
    pub what: &'static str,
    pub run: fn(&[u8]),
}

const fn target(name: &'static str, what: &'static str, run: fn(&[u8])) -> Target {
    Target { name, what, run }
}

/// All of them. Whatever reads bytes from outside has its place here.
pub const TARGETS: &[Target] = &[
    target("messages", "every message of the API and between devices, in both faces", decoders::message),
    target("account-log", "entries of account logs, and the log they make", decoders::account_log),
    target("keybag", "keybags, bent by who cannot open them", records::keybag),
    target("codes", "recovery keys, Secret Keys and link codes, as somebody types them", decoders::code),
    target("links", "messages between two devices that link, sealed by hand", decoders::link),
    target("names", "login names, and byte strings as text", decoders::name),
    target("texts", "ids, link addresses, content types and cursors", texts::run),
    target("opaque", "the messages of OPAQUE", decoders::opaque),
    target("frames", "frames of a vault's log, with payloads beside them", decoders::frame),
    target(
        "layouts",
        "entries of a vault's log and what is in them: controls, changes, checkpoints, notes",
        layouts::run,
    ),
    target("pages", "items of a checkpoint's pages", decoders::page_item),
    target("heads", "heads that a server signed", decoders::signed_head),
    target("states", "a log's state, as it is written down", decoders::log_state),
    target("vault-log", "log::apply, frame by frame: bent, and signed again", decoders::vault_log),
    target("story", "log::apply, act by act: what members, strangers and liars may do to each other", story::run),
    target("evidence", "files of evidence and exported logs, as `selkie verify` judges them", evidence::run),
    target("hints", "the server's hints, as a stream of events", hints::run),
    target("records", "what is in a record: bodies, fields, values", records::content),
    target("seals", "sealed records, keys, tokens and names of devices, made by hand", records::seals),
    target("archive", "archives: bytes, and members with checksums that are right, sealed or not", archive::run),
    target("table", "tables of CSV, JSON and NDJSON, with mappings", table::run),
    target("merges", "three-way merges of texts", merges::texts),
    target("documents", "documents that merge by themselves", merges::documents),
];

/// The target of that name.
pub fn named(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
