//! The targets under libFuzzer: `SELKIE_FUZZ_TARGET=story fuzz-guided [OPTION]... FOLDER...`, with libFuzzer's own
//! options and folders.
//!
//! A panic that somebody catches is none: what other people's code stumbles over is caught where it is called. So the
//! hook that libFuzzer's crate sets, which aborts at once, is replaced by one that only says where; whatever comes out
//! of a target aborts.
#![no_main]
#![allow(unsafe_code, reason = "the names that libFuzzer looks for are exported by the macro")]
#![allow(clippy::print_stderr, reason = "libFuzzer speaks to a person, too")]

use selkie_test_fuzz::{Target, named};
use std::panic::{self, PanicHookInfo, catch_unwind};
use std::sync::{LazyLock, Mutex, PoisonError};

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("SELKIE_FUZZ_TARGET").unwrap_or_default();
    named(&name).unwrap_or_else(|| {
        eprintln!("SELKIE_FUZZ_TARGET names no target: {name:?}");
        std::process::exit(2)
    })
});

static LAST_PANIC: Mutex<String> = Mutex::new(String::new());

libfuzzer_sys::fuzz_target!(
    init: {
        LazyLock::force(&TARGET);
        panic::set_hook(Box::new(|info: &PanicHookInfo<'_>| {
            *LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner) = info.to_string();
        }));
    },
    |bytes: &[u8]| -> () {
        if catch_unwind(|| (TARGET.run)(bytes)).is_err() {
            eprintln!("{}", LAST_PANIC.lock().unwrap_or_else(PoisonError::into_inner));
            std::process::abort();
        }
    }
);
