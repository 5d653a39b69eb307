//! `cargo +nightly fuzz run page_item`; what it does is written in `tests/decoders/mod.rs`.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../tests/decoders/mod.rs"]
#[allow(dead_code, reason = "each target uses one of the decoders")]
mod decoders;

fuzz_target!(|bytes: &[u8]| decoders::page_item(bytes));
