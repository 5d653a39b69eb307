//! What can be typed about vaults, who is in them, and what a server did to them.

use clap::{Args, Subcommand};
use std::path::PathBuf;

/// Vaults: what is shared, and what is synced
#[derive(Debug, Args)]
#[command(after_help = "\
A vault is named by its name or its id. Making, listing and reading ask no server; `selkie sync` does.

Examples:
  selkie vault create \"Our journal\"
  selkie vault list
  selkie vault add \"Our journal\" USER-ID --role editor")]
pub(crate) struct VaultArgs {
    #[command(subcommand)]
    pub(crate) command: VaultCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VaultCommand {
    Create(VaultCreateArgs),
    /// List the vaults on this device, and how each is
    #[command(after_help = "Example:\n  selkie vault list --json")]
    List,
    /// Show how a vault is: its state, its digest to compare with other devices, what waits and why
    #[command(after_help = "Example:\n  selkie vault status Journal")]
    Status(VaultNameArgs),
    Log(VaultLogArgs),
    Evidence(VaultEvidenceArgs),
    /// Fetch a vault's whole log again, verify every entry, and open every record
    #[command(after_help = "Example:\n  selkie vault verify Journal")]
    Verify(VaultNameArgs),
    /// Write a checkpoint now, from which new devices can begin
    #[command(after_help = "Example:\n  selkie vault checkpoint Journal")]
    Checkpoint(VaultNameArgs),
    /// List who is in a vault
    #[command(after_help = "Example:\n  selkie vault members Journal")]
    Members(VaultNameArgs),
    Add(MemberAddArgs),
    Role(MemberRoleArgs),
    /// Remove somebody, and begin a new key that they do not have
    #[command(after_help = "Example:\n  selkie vault remove Journal USER-ID")]
    Remove(MemberArgs),
    /// Begin a new key
    #[command(after_help = "Example:\n  selkie vault rotate Journal")]
    Rotate(VaultNameArgs),
    Rename(VaultRenameArgs),
    Drop(VaultDropArgs),
    Fetch(VaultFetchArgs),
    LeaveNew(LeaveNewArgs),
    /// For an owner, when a restored server has lost entries and no device of anybody's could put them back: go on
    /// without them. What this device wrote itself is written again
    #[command(after_help = "Example:\n  selkie vault reset Journal")]
    Reset(VaultResetArgs),
    /// For everybody else, after an owner's reset: go on as the owner has decided. What this device wrote itself is
    /// written again; the rest of what was lost goes
    #[command(after_help = "Example:\n  selkie vault accept-reset Journal")]
    AcceptReset(VaultResetArgs),
}

/// Make a vault
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie vault create Journal --app org.example.journal")]
pub(crate) struct VaultCreateArgs {
    /// What to call it; nobody but its members can read that
    pub(crate) name: String,

    /// The app it belongs to
    #[arg(long, value_name = "APP", default_value = "org.selkie.cli")]
    pub(crate) app: String,
}

#[derive(Debug, Args)]
pub(crate) struct VaultNameArgs {
    /// The vault's name or id
    #[arg(allow_hyphen_values = true)]
    pub(crate) vault: String,
}

/// Call a vault something else, for all its members
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie vault rename Journal Diary")]
pub(crate) struct VaultRenameArgs {
    /// The vault's name or id
    #[arg(allow_hyphen_values = true)]
    pub(crate) vault: String,

    /// What to call it
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct VaultResetArgs {
    /// The vault's name or id
    #[arg(allow_hyphen_values = true)]
    pub(crate) vault: String,

    /// Do not ask whether this is meant
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Show what happened in a vault, entry by entry
#[derive(Debug, Args)]
#[command(after_help = "\
An exported log has every entry from the first on and nothing of what is in the records. Anybody can check it with
`selkie verify`, without an account.

Examples:
  selkie vault log Journal --from 100
  selkie vault log Journal --export journal-log.json")]
pub(crate) struct VaultLogArgs {
    /// The vault's name or id
    #[arg(allow_hyphen_values = true)]
    pub(crate) vault: String,

    /// The first entry to show
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) from: u64,

    /// Write the whole log to this file, for others to check
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    pub(crate) export: Option<PathBuf>,
}

/// Show what was kept when the server was caught at a vault
#[derive(Debug, Args)]
#[command(after_help = "\
Anybody can check an exported file with `selkie verify`, without an account.

Example:
  selkie vault evidence Journal --export evidence.json")]
pub(crate) struct VaultEvidenceArgs {
    /// The vault's name or id
    #[arg(allow_hyphen_values = true)]
    pub(crate) vault: String,

    /// Write the newest piece to this file, for others to check
    #[arg(long, value_name = "FILE")]
    pub(crate) export: Option<PathBuf>,
}

/// Check what a file of evidence or an exported log proves; needs no account and no network
#[derive(Debug, Args)]
#[command(after_help = "\
Leaves with 0 if evidence proves something or a log is whole and right, with 1 if not, with 2 if it is no such file.

Examples:
  selkie verify evidence.json
  selkie verify journal-log.json --signed-by T9CZzNR9eJPf6ewkQUrNC5tUICMqrTDZHEW-M8vmXcQ")]
pub(crate) struct VerifyArgs {
    /// Evidence, or an exported log
    pub(crate) file: PathBuf,

    /// The key this server signs with (`head_key` of its /v1/capabilities), if you know it from elsewhere than the file
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    pub(crate) signed_by: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct MemberArgs {
    /// The vault's name or id
    #[arg(allow_hyphen_values = true)]
    pub(crate) vault: String,

    /// The person's user id: `selkie whoami` on their device shows it
    #[arg(allow_hyphen_values = true)]
    pub(crate) user: String,
}

/// Let somebody in
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie vault add Journal USER-ID --role viewer")]
pub(crate) struct MemberAddArgs {
    #[command(flatten)]
    pub(crate) member: MemberArgs,

    /// What they may do
    #[arg(long, value_name = "ROLE", default_value = "editor")]
    pub(crate) role: RoleName,
}

/// Change what somebody may do
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie vault role Journal USER-ID admin")]
pub(crate) struct MemberRoleArgs {
    #[command(flatten)]
    pub(crate) member: MemberArgs,

    /// What they may do from now on
    pub(crate) role: RoleName,
}

/// What a member may do.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum RoleName {
    /// Reads
    Viewer,
    /// Writes
    Editor,
    /// Adds and removes viewers and editors
    Admin,
    /// Everything
    Owner,
}

impl From<RoleName> for selkie_client::Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Viewer => selkie_client::Role::Viewer,
            RoleName::Editor => selkie_client::Role::Editor,
            RoleName::Admin => selkie_client::Role::Admin,
            RoleName::Owner => selkie_client::Role::Owner,
        }
    }
}

/// Drop a vault from this device; the server and other devices keep it, and syncs leave it alone
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie vault drop Photos")]
pub(crate) struct VaultDropArgs {
    /// The vault's name or id
    #[arg(allow_hyphen_values = true)]
    pub(crate) vault: String,

    /// Give up what was not sent yet
    #[arg(long)]
    pub(crate) force: bool,
}

/// Have a vault on this device again that was dropped or left out; of one that is here, have the old history again, or
/// what records say that were let go
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  selkie vault fetch Photos
  selkie vault fetch Photos --headers-first
  selkie vault fetch Photos -- RECORD-ID
  selkie vault fetch Photos --missing")]
pub(crate) struct VaultFetchArgs {
    /// The vault's name or id
    #[arg(allow_hyphen_values = true)]
    pub(crate) vault: String,

    /// Only what these records say. `--` goes before an id that begins with a hyphen
    #[arg(value_name = "RECORD")]
    pub(crate) records: Vec<String>,

    /// What any record says that is not here, and nothing else
    #[arg(long, conflicts_with = "records")]
    pub(crate) missing: bool,

    /// Of a vault that was left out: take what proves which records there are, and leave for later what they say
    #[arg(long, conflicts_with_all = ["records", "missing"])]
    pub(crate) headers_first: bool,
}

/// Leave vaults out that are new to this device, until they are asked for with `selkie vault fetch`
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  selkie vault leave-new\n  selkie vault leave-new --off")]
pub(crate) struct LeaveNewArgs {
    /// Fetch them again, as at first
    #[arg(long)]
    pub(crate) off: bool,
}
