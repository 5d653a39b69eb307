//! The person, or the script, at the other end.
//!
//! Owns every word that is printed and every question that is asked. Answers go to standard output, everything else to
//! standard error. Knows nothing of accounts.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this module is the command's mouth")]

use crate::args::PasswordFrom;
use crate::failure::Usage;
use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressBarIter, ProgressStyle};
use selkie_client::Private;
use std::io::{BufRead as _, IsTerminal as _, Read, Write};
use std::path::Path;
use std::time::Duration;

/// How to speak.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    pub(crate) json: bool,
    /// Only what was asked for, and what went wrong.
    pub(crate) quiet: bool,
}

/// How far along something is that takes its time, drawn where somebody is watching, and gone when it is over.
pub(crate) struct Bar(ProgressBar);

const PLAIN: &str = "{spinner} {msg}";
const OF_BYTES: &str = "{spinner} {msg}  {bytes}";
const OF_THINGS: &str = "{spinner} {msg}  {bar:30} {human_pos} of {human_len}";

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

    /// What was done, for whoever wants to know that it went well.
    pub(crate) fn report(self, text: &str, json: &serde_json::Value) {
        if !self.quiet {
            self.answer(text, json);
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
            complain(text);
        }
    }

    /// A piece of advice, for whoever wants to hear more than what went wrong.
    pub(crate) fn hint(self, text: &str) {
        if !self.quiet {
            self.remark(text);
        }
    }

    /// What is going on, where somebody is watching.
    pub(crate) fn progress(self, text: &str) {
        if self.is_watched() {
            eprintln!("{text} ...");
        }
    }

    /// The same, for what goes on for so long that one wants to see how far it is.
    pub(crate) fn bar(self, text: &str) -> Bar {
        if !self.is_watched() {
            return Bar(ProgressBar::hidden());
        }
        let bar = ProgressBar::no_length().with_style(style(PLAIN)).with_message(text.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        Bar(bar)
    }

    pub(crate) fn is_watched(self) -> bool {
        !self.json && !self.quiet && std::io::stderr().is_terminal()
    }

    pub(crate) fn error(self, text: &str, json: &serde_json::Value) {
        if self.json {
            eprintln!("{json}");
        } else {
            complain(text);
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

impl Bar {
    /// Something is written of which nobody knows how long it will be.
    pub(crate) fn over_writing<W: Write>(&self, to: W) -> ProgressBarIter<W> {
        self.0.set_style(style(OF_BYTES));
        self.0.wrap_write(to)
    }

    /// Something is read, parts of it more than once.
    pub(crate) fn over_reading<R: Read>(&self, from: R) -> ProgressBarIter<R> {
        self.0.set_style(style(OF_BYTES));
        self.0.wrap_read(from)
    }

    /// So much is left of what is called so. The most that was ever left is the whole.
    pub(crate) fn left(&self, left: u64, text: String) {
        let before = if self.0.message() == text { self.0.length().unwrap_or_default() } else { 0 };
        self.0.set_message(text);
        let whole = before.max(left);
        if whole == 0 {
            self.0.set_style(style(PLAIN));
        } else {
            self.0.set_style(style(OF_THINGS));
            self.0.set_length(whole);
            self.0.set_position(whole - left);
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

fn style(template: &str) -> ProgressStyle {
    // The templates are ours, and a test tries them.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

/// On standard error. Servers and files have their say in it.
fn complain(text: &str) {
    if std::io::stderr().is_terminal() {
        eprintln!("{}", for_eyes(text));
    } else {
        eprintln!("{text}");
    }
}

fn say(bytes: &[u8]) {
    // A reader that went away (`| head`) has what it wanted, and `println!` would panic.
    let mut out = std::io::stdout().lock();
    let _gone = out.write_all(bytes).and_then(|()| out.flush());
}

/// What others wrote must not steer the terminal: colours, titles, and answers typed in the reader's name; nor turn
/// around what stands beside it.
fn for_eyes(text: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let steers = |c: char| c.is_control() && !matches!(c, '\n' | '\t') || turns(c);
    text.chars().map(|c| if steers(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
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

    /// A template that cannot be read would show nothing of what it is for.
    #[test]
    fn how_far_it_is_can_be_drawn() {
        for template in [PLAIN, OF_BYTES, OF_THINGS] {
            ProgressStyle::with_template(template).unwrap();
        }
        let bar = Bar(ProgressBar::hidden());
        for (left, at) in [(40, 0), (100, 0), (30, 70), (0, 100)] {
            bar.left(left, "Reading".into());
            assert_eq!(bar.0.position(), at);
        }
        bar.left(8, "Reading another".into());
        assert_eq!((bar.0.position(), bar.0.length()), (0, Some(8)));
    }

    #[test]
    fn what_others_wrote_does_not_steer_the_terminal() {
        assert_eq!(for_eyes("one\n\ttwo é 漢"), "one\n\ttwo é 漢");
        assert_eq!(for_eyes("a\u{202e}b\u{2066}c"), "a\u{fffd}b\u{fffd}c");
        assert_eq!(for_eyes("\u{1b}[2J\u{9b}31m\r\u{7}\u{7f}"), "\u{fffd}[2J\u{fffd}31m\u{fffd}\u{fffd}\u{fffd}");
    }

    #[test]
    fn only_the_line_end_is_taken_from_a_password() {
        assert_eq!(without_line_end(" a b \r\n".into()).unwrap().as_str(), " a b ");
        assert_eq!(without_line_end("x".into()).unwrap().as_str(), "x");
        assert!(without_line_end("\n".into()).is_err());
    }
}
