//! What can be typed about the disk.

use clap::{Args, Subcommand};

/// See what the vaults take on this device, let go of what is old, and mend what is damaged
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  selkie storage
  selkie storage prune --older-than 90
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
