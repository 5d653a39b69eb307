//! `selkie completion`: what a shell needs to complete the others.

use crate::args::{Cli, CompletionArgs};
use crate::terminal::Terminal;
use clap::CommandFactory as _;
use serde_json::json;

pub(super) fn run(terminal: Terminal, args: &CompletionArgs) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "selkie", &mut script);
    let script = String::from_utf8(script)?;
    terminal.answer(&script, &json!({ "shell": args.shell.to_string(), "script": script }));
    Ok(())
}
