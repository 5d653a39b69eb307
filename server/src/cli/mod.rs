//! The operator's commands. The only place of the server that prints.
//!
//! Owns the arguments, what is shown and the exit codes. What a command does is decided in the rooms it calls.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line speaks to whoever typed it")]

mod account;
mod backup;
mod config;
mod doctor;
mod healthcheck;
mod invitation;
mod migrate;
mod plan;
mod serve;
mod tenant;

use crate::app::{App, OpenError};
use crate::config::{Config, DatabaseTarget, Problems};
use crate::edges::Edges;
use crate::telemetry::chain;
use clap::{Parser, Subcommand};
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

/// The Selkie sync server: it orders and keeps what it cannot read.
///
/// Without a command it serves. Nothing needs to be configured: it then keeps SQLite and files in ./selkie-data and
/// listens on 127.0.0.1:8040.
#[derive(Debug, Parser)]
#[command(name = "selkie-server", version, after_help = EXIT_CODES)]
struct Arguments {
    /// The configuration file; config.example.toml explains every setting. SELKIE_SECTION__KEY variables overrule it.
    #[arg(long, short, global = true, env = "SELKIE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Answer in JSON, for scripts.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

const EXIT_CODES: &str = "Exit codes:\n  0  done\n  1  failed\n  2  the command line or the configuration is wrong\n  \
                          3  not ready: the database, the blob store or the server does not answer as it should";

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server (the default).
    Serve,
    /// Makes, lists, suspends and resumes tenants.
    #[command(subcommand)]
    Tenant(tenant::Command),
    /// Lists the plans a tenant can have.
    #[command(subcommand)]
    Plan(plan::Command),
    /// Invites, lists, suspends and resumes accounts.
    #[command(subcommand)]
    Account(account::Command),
    /// Lists and revokes invitations.
    #[command(subcommand)]
    Invitation(invitation::Command),
    /// Looks at everything the server needs and says what is wrong with it.
    Doctor,
    /// Brings the database to the schema of this server.
    Migrate(migrate::Arguments),
    /// Asks a running server whether it is ready.
    Healthcheck(healthcheck::Arguments),
    /// Makes and restores backups.
    #[command(subcommand)]
    Backup(backup::Command),
    /// Shows the configuration.
    #[command(subcommand)]
    Config(config::Command),
}

/// Why a command ended before it was done.
#[derive(Debug)]
pub(crate) enum Failure {
    Failed(anyhow::Error),
    Misconfigured(Problems),
    NotReady(anyhow::Error),
}

type Outcome = Result<(), Failure>;

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure::Failed(error.into())
    }
}

/// What every command is given.
struct Context {
    config_file: Option<PathBuf>,
    json: bool,
}

/// Runs the command that was typed.
pub async fn run() -> ExitCode {
    let arguments = Arguments::parse();
    crate::tls::install_provider();
    let context = Context { config_file: arguments.config, json: arguments.json };
    let outcome = match arguments.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(&context).await,
        Command::Tenant(command) => tenant::run(&context, command).await,
        Command::Plan(command) => plan::run(&context, command).await,
        Command::Account(command) => account::run(&context, command).await,
        Command::Invitation(command) => invitation::run(&context, command).await,
        Command::Doctor => doctor::run(&context).await,
        Command::Migrate(arguments) => migrate::run(&context, arguments).await,
        Command::Healthcheck(arguments) => healthcheck::run(&context, arguments).await,
        Command::Backup(command) => backup::run(&context, command).await,
        Command::Config(command) => config::run(&context, command),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => context.report(&failure),
    }
}

/// Says something to whoever listens. A reader that went away (`| head`) has what it wanted; `println!` would panic.
fn say(text: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    let _gone = writeln!(out, "{text}").and_then(|()| out.flush());
}

impl Context {
    fn load(&self) -> Result<Config, Failure> {
        Config::load(self.config_file.as_deref()).map_err(Failure::Misconfigured)
    }

    /// Opens the house that is there, without opening its door. Only `serve` and `migrate` build one or rebuild it: an
    /// operator in the wrong folder is told so, and not answered by a house made that moment.
    async fn open(&self) -> Result<App, Failure> {
        let mut config = self.load()?;
        if let DatabaseTarget::Sqlite(path) = config.database()
            && !path.exists()
        {
            return Err(Failure::NotReady(anyhow::anyhow!(
                "there is no database at {}: is this the right folder, or is --config missing? `selkie-server serve` \
                 and `selkie-server migrate` make one",
                path.display()
            )));
        }
        config.database.migrate_on_start = false;
        open(config).await
    }

    /// Shows a result: as JSON, or as the text that was made for people.
    fn show<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) -> Outcome {
        say(&if self.json { serde_json::to_string_pretty(value)? } else { text() });
        Ok(())
    }

    fn report(&self, failure: &Failure) -> ExitCode {
        let (code, kind, text) = match failure {
            Failure::Failed(error) => (1, "failed", chain(error.as_ref()).to_string()),
            Failure::Misconfigured(problems) => (2, "misconfigured", problems.to_string()),
            Failure::NotReady(error) => (3, "not_ready", chain(error.as_ref()).to_string()),
        };
        if self.json {
            eprintln!("{}", serde_json::json!({ "error": kind, "detail": text }));
        } else {
            eprintln!("selkie-server: {text}");
        }
        ExitCode::from(code)
    }
}

async fn open(config: Config) -> Result<App, Failure> {
    App::open(config, Edges::real()).await.map_err(|error| match error {
        OpenError::Database(_) | OpenError::Store(_) | OpenError::Blobs(_) => Failure::NotReady(error.into()),
        error => Failure::Failed(error.into()),
    })
}

/// A moment as people of all time zones read it.
fn moment(ms: i64) -> String {
    let days = ms.div_euclid(86_400_000);
    let (year, month, day) = civil(days);
    let minutes = ms.rem_euclid(86_400_000) / 60_000;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02} UTC", minutes / 60, minutes % 60)
}

/// Days since 1970 as a date of the Gregorian calendar: Howard Hinnant's `civil_from_days`.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// Columns as wide as what is in them.
fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([head[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let mut lines = vec![line(head.to_vec())];
    lines.extend(rows.iter().map(|row| line(row.iter().map(String::as_str).collect())));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent_and_explains_itself() {
        Arguments::command().debug_assert();
        let mut undocumented = Vec::new();
        let mut waiting = vec![Arguments::command()];
        while let Some(command) = waiting.pop() {
            if command.get_about().is_none() {
                undocumented.push(command.get_name().to_owned());
            }
            let silent = command.get_arguments().filter(|argument| argument.get_help().is_none());
            undocumented.extend(silent.map(|argument| format!("{} {}", command.get_name(), argument.get_id())));
            waiting.extend(command.get_subcommands().cloned());
        }
        assert_eq!(undocumented, Vec::<String>::new());
    }

    #[test]
    fn moments_are_told_in_utc() {
        assert_eq!(moment(0), "1970-01-01 00:00 UTC");
        assert_eq!(moment(951_782_400_000), "2000-02-29 00:00 UTC");
        assert_eq!(moment(1_795_255_748_000), "2026-11-21 10:09 UTC");
        assert_eq!(moment(-1), "1969-12-31 23:59 UTC");
    }

    #[test]
    fn a_table_lines_up() {
        let rows = vec![vec!["1".into(), "acme".into()], vec!["10".into(), "b".into()]];
        assert_eq!(table(&["id", "name"], &rows), "id  name\n1   acme\n10  b");
    }
}
