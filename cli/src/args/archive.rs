//! What can be typed to take a vault out into a file, to bring one in, and to move to another server.

use clap::Args;
use std::path::PathBuf;

/// Write what this device has of a vault into one file, which other programs can read
///
/// The file is a ZIP archive, see docs/archive-format.md. It takes the place of the one before only when it is whole,
/// so this can be run from cron. What could not be read is named in it, and the command ends with 1. Asks no server:
/// run `selkie sync` before.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  selkie export Journal --to journal.zip
  selkie sync && selkie export Journal --to journal.zip.age --history --passphrase-file passphrase")]
pub(crate) struct ExportArgs {
    /// The vault's name or id
    #[arg(allow_hyphen_values = true)]
    pub(crate) vault: String,

    /// The file to write; one that is there is replaced
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,

    /// Every version that this device keeps, too
    #[arg(long)]
    pub(crate) history: bool,

    /// Seal the archive for the passphrase on the first line of this file; `age -d` opens it, too
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,
}

/// Bring in an archive of `selkie export`, or a table of another program
///
/// All of it is checked before anything is written. Records keep their ids, so a second import changes nothing; what
/// is newer here is kept. A file that ends in .csv, .json, .ndjson or .jsonl is a table: each row becomes a record
/// whose id is made from the row.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  selkie import journal.zip
  selkie import journal.zip.age --into Journal --passphrase-file passphrase
  selkie import notes.csv --into Journal --collection notes --id-field ID
  selkie import costs.csv --into Home --collection costs --id-field No --field Amount=cents:integer --field No=")]
pub(crate) struct ImportArgs {
    /// The file
    pub(crate) file: PathBuf,

    /// The vault's name or id [default: the one the archive was made of, else the one of its name, else a new one]
    #[arg(long, value_name = "VAULT", allow_hyphen_values = true)]
    pub(crate) into: Option<String>,

    /// Open the archive with the passphrase on the first line of this file
    #[arg(long, value_name = "FILE")]
    pub(crate) passphrase_file: Option<PathBuf>,

    /// The collection that the rows of a table go to
    #[arg(long, requires = "into")]
    pub(crate) collection: Option<String>,

    /// The field that tells the rows of a table apart [default: the whole row]
    #[arg(long, value_name = "FIELD", requires = "collection")]
    pub(crate) id_field: Option<String>,

    /// What becomes of a field of a table: NAME=NEW-NAME, NAME:TYPE or NAME=NEW-NAME:TYPE, where the type is text,
    /// integer, number, boolean or json; or NAME= to leave it out. May be repeated [default: fields come as they are]
    #[arg(long = "field", value_name = "RULE", requires = "collection")]
    pub(crate) fields: Vec<String>,

    /// Only the fields that are named with --field
    #[arg(long, requires = "fields")]
    pub(crate) only: bool,

    /// Write over records that say something else than their row, but not over those of a later version of the app
    /// [default: they are kept]
    #[arg(long, requires = "collection")]
    pub(crate) overwrite: bool,
}

/// Write the vaults that you own into an account on another server: how to move there
///
/// Sign up or in on the other server first, with the same --data. Both accounts are brought into step, records go along
/// with their ids and their history, and nothing is taken away from the old account: `selkie account delete` does that,
/// when all is well. Whoever shares a vault with you is let in again on the other server, by you. Done again, it takes
/// along what was written since. It ends with 1 if anything was left.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  selkie sign-up ana@example.org --server https://new.example.org
  selkie move-to https://new.example.org
  selkie move-to https://new.example.org Household --server https://old.example.org")]
pub(crate) struct MoveToArgs {
    /// The other server's address
    #[arg(value_name = "URL")]
    pub(crate) url: String,

    /// Only these vaults, by name or id; of a vault of somebody else, a copy of your own is made. `--` goes
    /// before an id that begins with a hyphen
    #[arg(value_name = "VAULT")]
    pub(crate) vaults: Vec<String>,

    /// Which account there, if this device has several
    #[arg(long, value_name = "NAME")]
    pub(crate) to_account: Option<String>,

    /// The tenant there, if this device has accounts in several
    #[arg(long, value_name = "NAME")]
    pub(crate) to_tenant: Option<String>,

    /// Trust the certificates in this PEM file, and no others, there
    #[arg(long, value_name = "FILE")]
    pub(crate) to_certificate: Option<PathBuf>,

    /// Read what this device has, without asking the old server: it is gone
    #[arg(long)]
    pub(crate) without_old: bool,
}
