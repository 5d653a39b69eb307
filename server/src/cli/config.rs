//! `selkie-server config ...`

use super::{Context, Outcome, table};
use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Checks the configuration and shows every setting, its value and where it came from. Secrets are set or unset.
    Check,
}

pub(super) fn run(context: &Context, command: Command) -> Outcome {
    let Command::Check = command;
    let entries = context.load()?.describe();
    context.show(&entries, || {
        let row = |entry: &crate::config::Entry| {
            let note = entry.note.as_ref().map(|note| format!("({note})"));
            let value = entry.value.clone().or(note).unwrap_or_else(|| "-".to_owned());
            vec![entry.key.clone(), value, entry.source.clone()]
        };
        table(&["SETTING", "VALUE", "FROM"], &entries.iter().map(row).collect::<Vec<_>>())
    })
}
