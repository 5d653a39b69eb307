//! Where the corpus lies.
//!
//! Owns its folder. In it are inputs that a fuzzer found worth keeping, a folder for each target; the seeds are made
//! anew each time (see `seeds`), so that they are never those of an older layout.

use crate::Target;
use std::path::{Path, PathBuf};

/// What is kept of a target's finds.
pub fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// The seeds of a target and what is kept, each with a name to tell it by, in the same order every time.
pub fn inputs(target: &Target) -> Vec<(String, Vec<u8>)> {
    let seeds = crate::seeds(target.name).into_iter().zip(1..);
    let seeds = seeds.map(|(seed, number)| (format!("{} seed {number}", target.name), seed));
    let files = std::fs::read_dir(folder(target)).into_iter().flatten();
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("the corpus can be read").path()).collect();
    paths.sort();
    let kept = paths.into_iter().map(|path| {
        let input = std::fs::read(&path).expect("the corpus can be read");
        (path.display().to_string(), input)
    });
    seeds.chain(kept).collect()
}
