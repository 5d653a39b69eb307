//! What can be typed about records.

use clap::Args;
use std::path::PathBuf;

/// Write a record; its content comes from standard input. A JSON object becomes fields that can be merged and asked
/// for; anything else is kept as it is
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  echo '{\"title\":\"Hello\"}' | selkie put Journal notes\n  selkie put Journal notes --content '{\"title\":\"Hello\"}'"
)]
pub(crate) struct PutArgs {
    /// The vault's name or id
    #[arg(allow_hyphen_values = true)]
    pub(crate) vault: String,

    /// The collection, as in `notes`; nobody but the vault's members can read that
    pub(crate) collection: String,

    /// The record, to write it again [default: a new one]
    #[arg(allow_hyphen_values = true)]
    pub(crate) id: Option<String>,

    /// Take the content from this file instead
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// The content itself; other people on this computer may see it in the list of processes
    #[arg(long, value_name = "CONTENT", conflicts_with = "file", allow_hyphen_values = true)]
    pub(crate) content: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct RecordArgs {
    /// The vault's name or id
    #[arg(allow_hyphen_values = true)]
    pub(crate) vault: String,

    /// The record
    #[arg(allow_hyphen_values = true)]
    pub(crate) id: String,
}

/// List the records of a collection, or the collections of a vault
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie ls Journal\n  selkie ls Journal notes --json")]
pub(crate) struct RecordsArgs {
    /// The vault's name or id
    #[arg(allow_hyphen_values = true)]
    pub(crate) vault: String,

    /// The collection [default: say which there are]
    pub(crate) collection: Option<String>,
}

/// Find records by their fields
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie query Journal notes --where mood=calm --where 'day>=10' --order day --desc")]
pub(crate) struct QueryArgs {
    /// The vault's name or id
    #[arg(allow_hyphen_values = true)]
    pub(crate) vault: String,

    /// The collection
    pub(crate) collection: String,

    /// A condition, all of which must hold: FIELD=VALUE, or != < <= > >=, or ~ for "contains", or ^ for "begins with"
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) conditions: Vec<String>,

    /// Sort by this field
    #[arg(long, value_name = "FIELD")]
    pub(crate) order: Option<String>,

    /// The largest first
    #[arg(long, requires = "order")]
    pub(crate) desc: bool,

    /// At most so many
    #[arg(long, value_name = "N")]
    pub(crate) limit: Option<usize>,

    /// Leave out the first so many
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(crate) offset: usize,

    /// Only say how many there are
    #[arg(long)]
    pub(crate) count: bool,
}

/// Show the records of a collection, and then every change of them as it comes, until Ctrl-C
#[derive(Debug, Args)]
#[command(after_help = "\
It keeps this device in step while it runs. With --json, each difference is a line: `change` is `added`, `changed` or
`removed`; what was there at the beginning comes as `added`.

Example:
  selkie watch Journal notes --where mood=calm --json")]
pub(crate) struct WatchArgs {
    /// The vault's name or id
    #[arg(allow_hyphen_values = true)]
    pub(crate) vault: String,

    /// The collection
    pub(crate) collection: String,

    /// A condition, all of which must hold, as with `selkie query`
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) conditions: Vec<String>,
}

/// Find records that have all these words in some text of theirs
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie search Journal notes sea monday")]
pub(crate) struct SearchArgs {
    /// The vault's name or id
    #[arg(allow_hyphen_values = true)]
    pub(crate) vault: String,

    /// The collection
    pub(crate) collection: String,

    /// The words, in whatever case
    #[arg(required = true)]
    pub(crate) words: Vec<String>,
}

/// Make a record say again what it said in an earlier version
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie history Journal RECORD-ID\n  selkie restore Journal RECORD-ID CHANGE-ID")]
pub(crate) struct RestoreArgs {
    /// The vault's name or id
    #[arg(allow_hyphen_values = true)]
    pub(crate) vault: String,

    /// The record
    #[arg(allow_hyphen_values = true)]
    pub(crate) id: String,

    /// The version, as `selkie history` names it
    #[arg(allow_hyphen_values = true)]
    pub(crate) change: String,
}

/// Show the conflicts that this device has met: what each side says, and how it went
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie conflicts Journal --open")]
pub(crate) struct ConflictsArgs {
    /// The vault's name or id
    #[arg(allow_hyphen_values = true)]
    pub(crate) vault: String,

    /// Only those that a person is to decide
    #[arg(long)]
    pub(crate) open: bool,
}

/// Decide a conflict about which a person is asked, as whoever syncs with `--ask COLLECTION` is
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie conflicts Journal --open\n  selkie resolve Journal RECORD-ID mine")]
pub(crate) struct ResolveArgs {
    /// The vault's name or id
    #[arg(allow_hyphen_values = true)]
    pub(crate) vault: String,

    /// The record
    #[arg(allow_hyphen_values = true)]
    pub(crate) id: String,

    /// Which version stands from now on
    pub(crate) which: Side,
}

/// Whose version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Side {
    /// What this device had written
    Mine,
    /// What is in the log, with whatever was written since
    Theirs,
}

/// Delete a record
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie rm Journal notes RECORD-ID")]
pub(crate) struct RemoveArgs {
    /// The vault's name or id
    #[arg(allow_hyphen_values = true)]
    pub(crate) vault: String,

    /// The collection
    pub(crate) collection: String,

    /// The record
    #[arg(allow_hyphen_values = true)]
    pub(crate) id: String,
}
