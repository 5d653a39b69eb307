//! `fuzz`: the targets, their seeds, and inputs again.
//!
//! `fuzz list`; `fuzz seeds TARGET FOLDER` writes the seeds as files; `fuzz replay TARGET FILE...` shows what becomes
//! of inputs; `fuzz try TARGET SECONDS` feeds damaged copies of the corpus, where there is no libFuzzer.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool speaks to a person")]

use selkie_test_fuzz::{Damage, TARGETS, Target, inputs, named, seeds};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["list"] => {
            TARGETS.iter().for_each(|target| println!("{:<12} {}", target.name, target.what));
            ExitCode::SUCCESS
        }
        [what, target, ref rest @ ..] => match (named(target), what, rest) {
            (None, ..) => refuse(&format!("there is no target {target:?}: `fuzz list` names them")),
            (Some(target), "seeds", [folder]) => write_seeds(target, Path::new(folder)),
            (Some(target), "replay", files) => replay(target, files),
            (Some(target), "try", [seconds]) => match seconds.parse() {
                Ok(seconds) => attempt(target, Duration::from_secs(seconds)),
                Err(_) => refuse("for how many seconds?"),
            },
            _ => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    refuse("usage: fuzz list | seeds TARGET FOLDER | replay TARGET FILE... | try TARGET SECONDS")
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("fuzz: {why}");
    ExitCode::from(2)
}

fn write_seeds(target: &Target, folder: &Path) -> ExitCode {
    let written = std::fs::create_dir_all(folder).and_then(|()| {
        let mut numbered = seeds(target.name).into_iter().zip(1..);
        numbered.try_for_each(|(seed, number)| std::fs::write(folder.join(format!("seed-{number}")), seed))
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&format!("{}: {error}", folder.display())),
    }
}

/// Ends with a panic where an input breaks something: that is what whoever replays wants to see.
fn replay(target: &Target, files: &[&str]) -> ExitCode {
    for file in files {
        let Ok(input) = std::fs::read(file) else { return refuse(&format!("{file} cannot be read")) };
        let begun = Instant::now();
        (target.run)(&input);
        println!("{file}: fine, in {} ms", begun.elapsed().as_millis());
    }
    ExitCode::SUCCESS
}

fn attempt(target: &Target, time: Duration) -> ExitCode {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64);
    println!("{}: damaged copies, from the seed {seed}", target.name);
    let inputs: Vec<Vec<u8>> = inputs(target).into_iter().map(|(_, input)| input).collect();
    let (mut damage, begun, mut count) = (Damage::new(seed), Instant::now(), 0_u64);
    while begun.elapsed() < time {
        let input = damage.copy(&inputs);
        if std::panic::catch_unwind(|| (target.run)(&input)).is_err() {
            let file = std::env::temp_dir().join(format!("{}-{seed}-{count}", target.name));
            let kept = std::fs::write(&file, &input).map_or("which could not be written".to_owned(), |()| {
                format!("fuzz replay {} {}", target.name, file.display())
            });
            eprintln!("{}: broken by an input: {kept}", target.name);
            return ExitCode::FAILURE;
        }
        count += 1;
    }
    println!("{}: {count} inputs, and nothing broke", target.name);
    ExitCode::SUCCESS
}
