//! What can be typed.
//!
//! Owns the command line: names, help and examples. Knows nothing of what happens then. No password, key or code of a
//! second factor that counts is ever an argument that others on the machine could read from the process list, except
//! the six digits that are void in a minute.

mod account;
mod archive;
mod doors;
mod records;
mod storage;
mod vault;

pub(crate) use self::{account::*, archive::*, doors::*, records::*, storage::*, vault::*};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed; or a backup or a move is not whole, or writes were lost
  2  the command was not understood, or there is nobody to ask
  3  sign in again
  4  the server cannot be reached, or asks to try later
  5  the server misbehaved, or is not what it should be
  6  refused

Passwords are asked for, or read from --password-file or --password-stdin; never from arguments or the environment.";

/// Records and accounts whose password, keys and content the server never sees.
///
/// On a device without an account, vaults and records work by themselves: create a vault, put, get, query, export.
/// Signing up or in brings them along into the account.
#[derive(Debug, Parser)]
#[command(name = "selkie", version, about, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Where this device keeps its accounts [default: the user's data folder]
    #[arg(long, global = true, value_name = "DIR", env = "SELKIE_DATA")]
    pub(crate) data: Option<PathBuf>,

    /// Which account, if this device has several
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) account: Option<String>,

    /// Of this collection, ask about conflicts instead of merging them: see `selkie conflicts`. May be repeated, or a
    /// list with commas
    #[arg(long, global = true, value_name = "COLLECTION", env = "SELKIE_ASK", value_delimiter = ',')]
    pub(crate) ask: Vec<String>,

    /// Answer in JSON, for scripts
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// Say nothing of a sync, an export or an import that went well, in JSON or in words: for jobs of cron
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,

    /// Say more on standard error; twice for still more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,

    #[command(flatten)]
    pub(crate) server: ServerArgs,

    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which server, and what is special about it.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The server's address, for a name this device does not know yet
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) server: Option<String>,

    /// The tenant of the server [default: the server's default tenant]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) tenant: Option<String>,

    /// Accept that the server calls itself this, though its address is another
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) server_name: Option<String>,

    /// Trust the certificates in this PEM file and no others
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) certificate: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    SignUp(SignUpArgs),
    SignIn(SignInArgs),
    Device(DeviceArgs),
    Devices(DevicesArgs),
    Password(PasswordArgs),
    RecoveryKey(RecoveryKeyArgs),
    Recover(RecoverArgs),
    /// Show where the account is signed in
    #[command(after_help = "Example:\n  selkie sessions --json")]
    Sessions,
    SecondFactor(SecondFactorArgs),
    /// Show what happened to the account
    #[command(after_help = "Example:\n  selkie audit")]
    Audit(AuditArgs),
    Vault(VaultArgs),
    Sync(SyncArgs),
    Status(StatusArgs),
    /// Show how far this person's other devices have come in each vault, beside this one; asks no server
    #[command(after_help = "\
Devices tell each other hourly how far they have come, so this is as of then. Two devices with the same digest of a vault
have the same history in it, change for change.

Example:
  selkie compare")]
    Compare,
    Storage(StorageArgs),
    Verify(VerifyArgs),
    Put(PutArgs),
    /// Show a record
    #[command(after_help = "Example:\n  selkie get Journal RECORD-ID")]
    Get(RecordArgs),
    Ls(RecordsArgs),
    Query(QueryArgs),
    Search(SearchArgs),
    Watch(WatchArgs),
    Rm(RemoveArgs),
    /// Show what a record said before
    #[command(after_help = "Example:\n  selkie history Journal RECORD-ID")]
    History(RecordArgs),
    Restore(RestoreArgs),
    Conflicts(ConflictsArgs),
    Resolve(ResolveArgs),
    Export(ExportArgs),
    Import(ImportArgs),
    MoveTo(MoveToArgs),
    Debug(DebugArgs),
    SignOut(SignOutArgs),
    Forget(ForgetArgs),
    Account(AccountArgs),
    /// Show whose account this device has, and how its secrets are kept; asks no server
    #[command(after_help = "Example:\n  selkie whoami")]
    Whoami,
    Completion(CompletionArgs),
}

/// Come into step with the server in all vaults
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  selkie sync --json\n  selkie sync --follow")]
pub(crate) struct SyncArgs {
    /// Stay, and come into step whenever something moves; with --json, a line each time something was done
    #[arg(long)]
    pub(crate) follow: bool,
}

/// Show how far sync has come: what waits, why, and what would help; asks no server
#[derive(Debug, Args)]
#[command(after_help = "\
Two devices with the same digest of a vault have the same history in it, change for change.

Examples:
  selkie status
  selkie status --digests")]
pub(crate) struct StatusArgs {
    /// Show a digest for each vault instead, to be compared with other devices
    #[arg(long)]
    pub(crate) digests: bool,
}

/// Print a script with which a shell completes this command
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  selkie completion bash > ~/.local/share/bash-completion/completions/selkie
  selkie completion zsh > ~/.zfunc/_selkie
  selkie completion fish > ~/.config/fish/completions/selkie.fish")]
pub(crate) struct CompletionArgs {
    /// Which shell
    pub(crate) shell: clap_complete::Shell,
}

/// See entries as they travel
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie debug push Journal")]
pub(crate) struct DebugArgs {
    #[command(subcommand)]
    pub(crate) command: DebugCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DebugCommand {
    /// Come into step, and show the entries that went out
    #[command(after_help = "Example:\n  selkie debug push Journal")]
    Push(VaultNameArgs),
    /// Come into step, and show the entries that came in
    #[command(after_help = "Example:\n  selkie debug pull Journal")]
    Pull(VaultNameArgs),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_that_does_something_has_an_example() {
        fn visit(command: &clap::Command) {
            if command.get_subcommands().next().is_none() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("selkie "), "{} has no example", command.get_name());
            }
            command.get_subcommands().for_each(visit);
        }
        visit(&Cli::command());
    }

    /// One id in 64 begins with a hyphen.
    #[test]
    fn an_id_that_begins_with_a_hyphen_is_an_id() {
        for id in
            ["-1pYCJS_5MjEhRl4RK0oKA", "-v0Kd3bC0sYf2m4rQx9HwA", "--json5MjEhRl4RK0oKAa8", "-hVq8sYf2m4rQx9HwAd3bC"]
        {
            for command in [
                format!("get {id} {id} --json"),
                format!("put {id} notes {id} -v"),
                format!("rm --json {id} notes {id}"),
                format!("restore {id} {id} {id}"),
                format!("resolve {id} {id} mine"),
                format!("conflicts {id} --open"),
                format!("ls {id}"),
                format!("query {id} notes --where a=b"),
                format!("watch {id} notes --where a=b"),
                format!("vault log {id} --from 3"),
                format!("vault add {id} {id} --role viewer"),
                format!("vault role {id} {id} editor"),
                format!("vault remove {id} {id}"),
                format!("vault drop {id} --force"),
                format!("vault fetch {id}"),
                format!("vault fetch {id} --json -- {id} {id}"),
                format!("move-to https://example.org --json -- {id} {id}"),
                format!("debug push {id}"),
                format!("devices revoke {id}"),
                format!("verify evidence.json --signed-by {id}"),
            ] {
                let said = std::iter::once("selkie").chain(command.split(' '));
                Cli::try_parse_from(said).unwrap_or_else(|error| panic!("{command}: {error}"));
            }
        }
    }

    #[test]
    fn every_argument_that_can_be_an_id_may_begin_with_a_hyphen() {
        fn visit(command: &clap::Command) {
            for argument in command
                .get_arguments()
                .filter(|argument| ["vault", "id", "user", "change", "signed_by"].contains(&argument.get_id().as_str()))
            {
                assert!(argument.is_allow_hyphen_values_set(), "{} of {}", argument.get_id(), command.get_name());
            }
            command.get_subcommands().for_each(visit);
        }
        visit(&Cli::command());
    }

    #[test]
    fn no_password_can_be_an_argument() {
        fn visit(command: &clap::Command) {
            for argument in command.get_arguments() {
                let name = argument.get_id().as_str();
                let takes_a_secret = (name.contains("password") || name.contains("key"))
                    && argument.get_action().takes_values()
                    && !name.ends_with("_file");
                assert!(!takes_a_secret, "{name}");
            }
            command.get_subcommands().for_each(visit);
        }
        visit(&Cli::command());
    }
}
