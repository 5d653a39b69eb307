//! Every input that is kept, and damaged copies of all of them, through every target.

use selkie_test_fuzz::{Damage, TARGETS, Target, folder, inputs, seeds};
use std::panic::catch_unwind;

/// The tree has room for what is small.
const MOST_IN_THE_TREE: u64 = 300 * 1024;
/// Damaged copies of each target's inputs. `./check --long` has a fuzzer for more.
const COPIES: usize = 250;

/// Names the input, whose bytes are shown, so that it can be kept as a file.
fn must_hold(target: &Target, name: &str, input: &[u8]) {
    if catch_unwind(|| (target.run)(input)).is_err() {
        panic!("{}: broken by {name}: {input:?}", target.name);
    }
}

#[test]
fn nothing_that_is_kept_breaks_its_target() {
    for target in TARGETS {
        for (name, input) in inputs(target) {
            must_hold(target, &name, &input);
        }
        must_hold(target, "nothing", &[]);
    }
}

#[test]
fn no_damaged_copy_breaks_its_target() {
    for (target, number) in TARGETS.iter().zip(0..) {
        let inputs: Vec<Vec<u8>> = inputs(target).into_iter().map(|(_, input)| input).collect();
        let mut damage = Damage::new(number);
        for copy in 0..COPIES {
            must_hold(target, &format!("copy {copy}"), &damage.copy(&inputs));
        }
    }
}

#[test]
fn every_target_has_a_name_of_its_own_and_somewhere_to_begin() {
    let mut names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), TARGETS.len());
    for target in TARGETS {
        let one = seeds(target.name);
        assert!(!one.is_empty() && one == seeds(target.name), "{}", target.name);
    }
}

#[test]
fn the_corpus_is_small_and_every_folder_in_it_is_a_targets() {
    let root = folder(&TARGETS[0]).parent().expect("a folder of folders").to_owned();
    let kept: Vec<_> = TARGETS.iter().map(folder).collect();
    let mut size = 0;
    for one in std::fs::read_dir(root).expect("the corpus can be read") {
        let one = one.expect("the corpus can be read").path();
        assert!(kept.contains(&one), "{} is no target's", one.display());
        let files = std::fs::read_dir(&one).expect("the corpus can be read");
        size += files.map(|file| file.and_then(|file| file.metadata()).expect("a file").len()).sum::<u64>();
    }
    assert!(size <= MOST_IN_THE_TREE, "{size} bytes: keep what covers more than others, see CONTRIBUTING.md");
}
