//! The person, or the script, at the other end.
//!
//! Owns every word that is printed and every question that is asked. Answers go to standard output, everything else to
//! standard error. Knows nothing of accounts.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this module is the command's mouth")]

use crate::args::PasswordFrom;
use crate::failure::Usage;
use anyhow::Context as _;
use selkie_client::Private;
use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::path::Path;

/// How to speak.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    pub(crate) json: bool,
}

impl Terminal {
    /// The answer: text for people, or one JSON object a line for scripts.
    pub(crate) fn answer(self, text: &str, json: &serde_json::Value) {
        let mut text = if self.json { json.to_string() } else { text.trim_end().to_owned() };
        if !text.is_empty() {
            if std::io::stdout().is_terminal() {
                text = for_eyes(&text);
            }
            say(format!("{text}\n").as_bytes());
        }
    }

    /// An answer that is what somebody once wrote: byte for byte for a file or another program.
    pub(crate) fn answer_bytes(self, bytes: &[u8], json: &serde_json::Value) {
        if self.json || std::io::stdout().is_terminal() {
            self.answer(&String::from_utf8_lossy(bytes), json);
        } else {
            say(bytes);
        }
    }

    /// A remark beside the answer; scripts do not hear it.
    pub(crate) fn remark(self, text: &str) {
        if !self.json {
            eprintln!("{text}");
        }
    }

    /// What is going on, where somebody is watching.
    pub(crate) fn progress(self, text: &str) {
        if !self.json && std::io::stderr().is_terminal() {
            eprintln!("{text} ...");
        }
    }

    pub(crate) fn error(self, text: &str, json: &serde_json::Value) {
        if self.json {
            eprintln!("{json}");
        } else {
            eprintln!("{text}");
        }
    }

    pub(crate) fn somebody_is_there(self) -> bool {
        std::io::stdin().is_terminal() && !self.json
    }

    /// The password of an account, from wherever it was said to come from.
    pub(crate) fn password(self, from: &PasswordFrom, prompt: &str) -> anyhow::Result<Private> {
        match given_password(from)? {
            Some(password) => Ok(password),
            None => self.secret(prompt, "--password-file or --password-stdin"),
        }
    }

    /// A password that is to be: asked for twice.
    pub(crate) fn new_password(self, given: Option<Private>, prompt: &str) -> anyhow::Result<Private> {
        if let Some(password) = given {
            return Ok(password);
        }
        loop {
            let first = self.secret(prompt, "--password-file or --password-stdin")?;
            if self.secret("The same again: ", "--password-file")? == first {
                return Ok(first);
            }
            self.remark("These were two different ones.");
        }
    }

    /// Something that must not appear on the screen.
    pub(crate) fn secret(self, prompt: &str, instead: &str) -> anyhow::Result<Private> {
        if !self.somebody_is_there() {
            return Err(Usage(format!("there is nobody to ask: use {instead}")).into());
        }
        Ok(Private::from(rpassword::prompt_password(prompt).context("the terminal could not be read")?))
    }

    /// Something that may.
    pub(crate) fn line(self, prompt: &str) -> anyhow::Result<String> {
        if !self.somebody_is_there() {
            return Err(Usage("there is nobody to ask".into()).into());
        }
        eprint!("{prompt}");
        std::io::stderr().flush()?;
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line)? == 0 {
            anyhow::bail!("the input ended before there was an answer");
        }
        Ok(line.trim().to_owned())
    }

    pub(crate) fn agrees(self, question: &str) -> anyhow::Result<bool> {
        Ok(matches!(self.line(&format!("{question} [y/N] "))?.to_lowercase().as_str(), "y" | "yes"))
    }
}

fn say(bytes: &[u8]) {
    // A reader that went away (`| head`) has what it wanted, and `println!` would panic.
    let mut out = std::io::stdout().lock();
    let _gone = out.write_all(bytes).and_then(|()| out.flush());
}

/// What others wrote must not steer the terminal: colours, titles, and answers typed in the reader's name.
fn for_eyes(text: &str) -> String {
    let shown = |c: char| if c.is_control() && !matches!(c, '\n' | '\t') { char::REPLACEMENT_CHARACTER } else { c };
    text.chars().map(shown).collect()
}

/// A password that needs no asking.
pub(crate) fn given_password(from: &PasswordFrom) -> anyhow::Result<Option<Private>> {
    match &from.password_file {
        Some(file) => first_line_of(file).map(Some),
        None if from.password_stdin => stdin_line().map(Some),
        None => Ok(None),
    }
}

/// A code of the second factor that needs no asking.
pub(crate) fn given_code(from: &PasswordFrom) -> anyhow::Result<Option<String>> {
    match &from.code_file {
        Some(file) => Ok(Some(first_line_of(file)?.as_str().trim().to_owned())),
        None => Ok(from.code.clone()),
    }
}

/// The next line of standard input.
pub(crate) fn stdin_line() -> anyhow::Result<Private> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).context("standard input could not be read")?;
    without_line_end(line)
}

pub(crate) fn first_line_of(file: &Path) -> anyhow::Result<Private> {
    let text = std::fs::read_to_string(file).with_context(|| format!("{} could not be read", file.display()))?;
    let text = Private::from(text);
    without_line_end(text.as_str().split_inclusive('\n').next().unwrap_or_default().to_owned())
}

fn without_line_end(line: String) -> anyhow::Result<Private> {
    let line = Private::from(line);
    let text = line.as_str().strip_suffix('\n').unwrap_or(line.as_str());
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() { Err(Usage("the first line is empty".into()).into()) } else { Ok(Private::from(text)) }
}

/// A date and time in UTC, as in `2026-11-21 10:30`.
pub(crate) fn time(unix_ms: u64) -> String {
    let minutes = unix_ms / 60_000;
    let (days, minute) = (minutes / 1440, minutes % 1440);
    // Days since 1970 to a civil date, by the well-known method of counting from March.
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    let year = yoe + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}", minute / 60, minute % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_calendar() {
        assert_eq!(time(0), "1970-01-01 00:00");
        assert_eq!(time(1_709_164_800_000), "2024-02-29 00:00");
        assert_eq!(time(1_795_257_000_000), "2026-11-21 10:30");
    }

    #[test]
    fn what_others_wrote_does_not_steer_the_terminal() {
        assert_eq!(for_eyes("one\n\ttwo é 漢"), "one\n\ttwo é 漢");
        assert_eq!(for_eyes("\u{1b}[2J\u{9b}31m\r\u{7}\u{7f}"), "\u{fffd}[2J\u{fffd}31m\u{fffd}\u{fffd}\u{fffd}");
    }

    #[test]
    fn only_the_line_end_is_taken_from_a_password() {
        assert_eq!(without_line_end(" a b \r\n".into()).unwrap().as_str(), " a b ");
        assert_eq!(without_line_end("x".into()).unwrap().as_str(), "x");
        assert!(without_line_end("\n".into()).is_err());
    }
}
