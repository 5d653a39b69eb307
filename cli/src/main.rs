//! `selkie`: what a person or a cron job does with the SDK.
//!
//! Owns reading the command line, running the command and leaving with a code that means something. It is thin: what
//! accounts are and how they are kept is the SDK's.

mod args;
mod commands;
mod failure;
mod place;
mod terminal;

use args::Cli;
use clap::Parser as _;
use std::process::ExitCode;
use terminal::Terminal;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    start_tracing(cli.verbose);
    let terminal = Terminal { json: cli.json, quiet: cli.quiet };
    match commands::run(&cli, terminal).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal.error(&failure::sentence(&error), &failure::object(&error));
            ExitCode::from(failure::exit_code(&error))
        }
    }
}

/// On standard error, so that answers stay clean.
fn start_tracing(verbose: u8) {
    let level = match verbose {
        0 => tracing::Level::ERROR,
        1 => tracing::Level::INFO,
        _ => tracing::Level::DEBUG,
    };
    let filter =
        tracing_subscriber::filter::Targets::new().with_target("selkie_client", level).with_target("selkie", level);
    use tracing_subscriber::layer::SubscriberExt as _;
    use tracing_subscriber::util::SubscriberInitExt as _;
    let writer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).without_time();
    tracing_subscriber::registry().with(writer).with(filter).init();
}
