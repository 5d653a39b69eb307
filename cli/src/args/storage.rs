//! What can be typed about the disk.

use clap::{Args, Subcommand};

/// See what the vaults take on this device, let go of what is old, and mend what is damaged
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  selkie storage
  selkie storage prune --older-than 90
  selkie storage let-go Photos --older-than 365
  selkie storage check
  selkie storage repair")]
pub(crate) struct StorageArgs {
    #[command(subcommand)]
    pub(crate) command: Option<StorageCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum StorageCommand {
    /// Show what the vaults take; asks no server
    #[command(after_help = "Example:\n  selkie storage usage --json")]
    Usage,
    Prune(PruneArgs),
    LetGo(LetGoArgs),
    /// Read everything that is kept of vaults and see whether it is as it was written; asks no server, changes nothing
    #[command(after_help = "Example:\n  selkie storage check")]
    Check,
    /// Fetch once more what is damaged; what was not sent yet stays
    #[command(after_help = "Example:\n  selkie storage repair")]
    Repair,
}

/// Let go of what records said before, on this device; the server keeps it, and `selkie vault fetch` brings it back
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie storage prune --older-than 90")]
pub(crate) struct PruneArgs {
    /// What was written longer ago than so many days
    #[arg(long, value_name = "DAYS", default_value_t = 90)]
    pub(crate) older_than: u64,
}

/// Let go of what records say that were not written for long, on this device; the server keeps them, and `selkie vault
/// fetch` brings back those that are named, or all. Until then they are not found here
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  selkie storage let-go Photos --older-than 365
  selkie storage let-go Journal --collection entries --older-than 730")]
pub(crate) struct LetGoArgs {
    /// The vault's name or id
    #[arg(allow_hyphen_values = true)]
    pub(crate) vault: String,

    /// What was last written longer ago than so many days
    #[arg(long, value_name = "DAYS", default_value_t = 365)]
    pub(crate) older_than: u64,

    /// Of this collection only
    #[arg(long, value_name = "COLLECTION")]
    pub(crate) collection: Option<String>,
}
