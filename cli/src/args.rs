//! What can be typed.
//!
//! Owns the command line: names, help and examples. Knows nothing of what happens then. No password, key or code of a
//! second factor that counts is ever an argument that others on the machine could read from the process list, except
//! the six digits that are void in a minute.

mod storage;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
pub(crate) use storage::{LeaveNewArgs, PruneArgs, StorageArgs, StorageCommand, VaultDropArgs};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command was not understood, or there is nobody to ask
  3  sign in again
  4  the server cannot be reached, or asks to try later
  5  the server misbehaved, or is not what it should be
  6  refused

Passwords are asked for, or read from --password-file or --password-stdin; never from arguments or the environment.";

/// Accounts whose password and keys the server never sees.
#[derive(Debug, Parser)]
#[command(name = "selkie", version, about, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(crate) struct Cli {
    /// Where this device keeps its accounts [default: the user's data folder]
    #[arg(long, global = true, value_name = "DIR", env = "SELKIE_DATA")]
    pub(crate) data: Option<PathBuf>,

    /// Which account, if this device has several
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) account: Option<String>,

    /// Answer in JSON, for scripts
    #[arg(long, global = true)]
    pub(crate) json: bool,

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

/// Where a password comes from, if not from a prompt.
#[derive(Clone, Debug, Args)]
pub(crate) struct PasswordFrom {
    /// Read the password from the first line of this file
    #[arg(long, value_name = "FILE", conflicts_with = "password_stdin")]
    pub(crate) password_file: Option<PathBuf>,

    /// Read the password from the first line of standard input
    #[arg(long)]
    pub(crate) password_stdin: bool,

    /// A code of the second factor, for accounts that have one (asked for at a terminal)
    #[arg(long, value_name = "CODE")]
    pub(crate) code: Option<String>,

    /// Read the code of the second factor from the first line of this file: right for a recovery code, which is good
    /// for longer than six digits and should be no argument
    #[arg(long, value_name = "FILE", conflicts_with = "code")]
    pub(crate) code_file: Option<PathBuf>,
}

/// What becomes of an emergency sheet.
#[derive(Clone, Debug, Args)]
pub(crate) struct SheetTo {
    /// Write the emergency sheet to this file (a page to print if it ends in .html) instead of the screen
    #[arg(long, value_name = "FILE")]
    pub(crate) sheet_file: Option<PathBuf>,

    /// Do not have the recovery key typed back; needs --sheet-file
    #[arg(long, requires = "sheet_file")]
    pub(crate) yes: bool,
}

/// Make an account and sign this device in
#[derive(Debug, Args)]
#[command(after_help = "\
The emergency sheet is shown once: it holds the recovery key, which gets the account back, and the Secret Key, which is
needed with the password on a new device. It is to be printed or copied by hand, and the recovery key is typed back.

Example:
  selkie sign-up ana@example.org --server https://selkie.example.org --invite I1-ER9C-X01M-RJ3D-D66V-5DXC")]
pub(crate) struct SignUpArgs {
    /// The login name
    pub(crate) name: String,

    /// An invitation, where the server asks for one
    #[arg(long, value_name = "CODE")]
    pub(crate) invite: Option<String>,

    /// Go without a Secret Key: the password alone protects the account, and must be strong
    #[arg(long)]
    pub(crate) password_only: bool,

    /// What this device is called in the list of devices [default: the name of the machine]
    #[arg(long, value_name = "TEXT")]
    pub(crate) device_name: Option<String>,

    #[command(flatten)]
    pub(crate) password: PasswordFrom,

    #[command(flatten)]
    pub(crate) sheet: SheetTo,
}

/// Sign this device in
#[derive(Debug, Args)]
#[command(after_help = "\
A device that was signed in before needs the password. A new one needs the Secret Key too, or a link: run
`selkie device link` on a signed-in device and type its code here.

Examples:
  selkie sign-in ana@example.org --server https://selkie.example.org
  selkie sign-in --server https://selkie.example.org --link")]
pub(crate) struct SignInArgs {
    /// The login name; not needed with --link
    #[arg(required_unless_present_any = ["link", "link_file"])]
    pub(crate) name: Option<String>,

    /// Read the Secret Key from the first line of this file
    #[arg(long, value_name = "FILE")]
    pub(crate) secret_key_file: Option<PathBuf>,

    /// The account has no Secret Key: do not ask for one
    #[arg(long, conflicts_with = "secret_key_file")]
    pub(crate) password_only: bool,

    /// Sign in with the code another device shows, instead of a password. Best without a value: the code is then asked
    /// for, or read from standard input; others on this machine can read arguments
    #[arg(long, value_name = "CODE", num_args = 0..=1, conflicts_with_all = ["secret_key_file", "password_only"])]
    pub(crate) link: Option<Option<String>>,

    /// The same, with the code in the first line of this file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["secret_key_file", "password_only", "link"])]
    pub(crate) link_file: Option<PathBuf>,

    /// What this device is called in the list of devices [default: the name of the machine]
    #[arg(long, value_name = "TEXT")]
    pub(crate) device_name: Option<String>,

    #[command(flatten)]
    pub(crate) password: PasswordFrom,
}

/// Bring another device in
#[derive(Debug, Args)]
pub(crate) struct DeviceArgs {
    #[command(subcommand)]
    pub(crate) command: DeviceCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    Link(LinkArgs),
}

/// Show a code and a QR code with which another device signs in
#[derive(Debug, Args)]
#[command(after_help = "\
The other device runs `selkie sign-in --link` and is given the code. This one then shows what it is called and its fingerprint, and lets
it in when the password is typed.

Example:
  selkie device link")]
pub(crate) struct LinkArgs {
    /// Let in whichever device has the code, without asking
    #[arg(long)]
    pub(crate) yes: bool,

    #[command(flatten)]
    pub(crate) password: PasswordFrom,
}

/// Show the account's devices, or send one away
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  selkie devices\n  selkie devices revoke 3q2-7wAAAAAAAAAAAAAAAA")]
pub(crate) struct DevicesArgs {
    #[command(subcommand)]
    pub(crate) command: Option<DevicesCommand>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DevicesCommand {
    Revoke(RevokeArgs),
}

/// Send a device away for good, and renew the keys it knew
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie devices revoke 3q2-7wAAAAAAAAAAAAAAAA")]
pub(crate) struct RevokeArgs {
    /// The device's id, as `selkie devices` shows it; its beginning is enough
    #[arg(allow_hyphen_values = true)]
    pub(crate) id: String,

    #[command(flatten)]
    pub(crate) password: PasswordFrom,
}

/// Change the password
#[derive(Debug, Args)]
pub(crate) struct PasswordArgs {
    #[command(subcommand)]
    pub(crate) command: PasswordCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PasswordCommand {
    Change(PasswordChangeArgs),
}

/// Change the password; other devices then need the new one
#[derive(Debug, Args)]
#[command(after_help = "\
With --password-stdin the first line is the old password and the second the new one.

Example:
  selkie password change")]
pub(crate) struct PasswordChangeArgs {
    /// Leave the other devices signed in
    #[arg(long)]
    pub(crate) keep_other_sessions: bool,

    /// Read the new password from the first line of this file
    #[arg(long, value_name = "FILE", conflicts_with = "password_stdin")]
    pub(crate) new_password_file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) password: PasswordFrom,
}

/// Make a new recovery key
#[derive(Debug, Args)]
pub(crate) struct RecoveryKeyArgs {
    #[command(subcommand)]
    pub(crate) command: RecoveryKeyCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RecoveryKeyCommand {
    Rotate(RotateArgs),
    Confirm(ConfirmArgs),
}

/// Make a new recovery key and a new emergency sheet; the old sheet is void
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie recovery-key rotate")]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    pub(crate) password: PasswordFrom,

    #[command(flatten)]
    pub(crate) sheet: SheetTo,
}

/// Show a sheet that was made and not yet confirmed, and confirm it
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie recovery-key confirm")]
pub(crate) struct ConfirmArgs {
    #[command(flatten)]
    pub(crate) sheet: SheetTo,
}

/// Get an account back with the recovery key
#[derive(Debug, Args)]
#[command(after_help = "\
Sets a new password, makes a new Secret Key and a new recovery key, and ends every session. The old sheet is void.

Example:
  selkie recover ana@example.org --server https://selkie.example.org")]
pub(crate) struct RecoverArgs {
    /// The login name
    pub(crate) name: String,

    /// Read the recovery key from the first line of this file
    #[arg(long, value_name = "FILE")]
    pub(crate) recovery_key_file: Option<PathBuf>,

    /// Also forget the second factor
    #[arg(long)]
    pub(crate) remove_second_factor: bool,

    /// Go without a Secret Key from now on; the new password must be strong
    #[arg(long)]
    pub(crate) password_only: bool,

    /// What this device is called in the list of devices [default: the name of the machine]
    #[arg(long, value_name = "TEXT")]
    pub(crate) device_name: Option<String>,

    #[command(flatten)]
    pub(crate) password: PasswordFrom,

    #[command(flatten)]
    pub(crate) sheet: SheetTo,
}

/// Turn an authenticator app on or off
#[derive(Debug, Args)]
pub(crate) struct SecondFactorArgs {
    #[command(subcommand)]
    pub(crate) command: SecondFactorCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum SecondFactorCommand {
    Enable(EnableArgs),
    Disable(DisableArgs),
    Confirm(ConfirmFactorArgs),
}

/// Set up an authenticator app, and show its recovery codes once
#[derive(Debug, Args)]
#[command(after_help = "\
Shows a QR code for the app, then asks for the code it shows. Without a terminal, confirm with
`selkie second-factor confirm CODE`.

Example:
  selkie second-factor enable")]
pub(crate) struct EnableArgs {
    #[command(flatten)]
    pub(crate) password: PasswordFrom,
}

/// Confirm an authenticator app that was set up before
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie second-factor confirm 123456")]
pub(crate) struct ConfirmFactorArgs {
    /// Six digits from the app
    pub(crate) confirm_code: String,
}

/// Do without the authenticator app again
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie second-factor disable")]
pub(crate) struct DisableArgs {
    #[command(flatten)]
    pub(crate) password: PasswordFrom,
}

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Only what is older than this entry
    #[arg(long, value_name = "NUMBER")]
    pub(crate) before: Option<u64>,
}

/// Sign this device out
#[derive(Debug, Args)]
#[command(after_help = "\
Without options the device stays one of the account's, and the next sign-in needs only the password.

Examples:
  selkie sign-out
  selkie sign-out --wipe
  selkie sign-out --everywhere")]
pub(crate) struct SignOutArgs {
    /// Forget everything about the account on this device
    #[arg(long)]
    pub(crate) wipe: bool,

    /// End the sessions of all devices
    #[arg(long)]
    pub(crate) everywhere: bool,
}

/// Remove an account from this device, even one that cannot be opened; the server is not asked
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie forget ana@example.org")]
pub(crate) struct ForgetArgs {
    /// The login name
    pub(crate) name: String,

    /// Do not ask whether this is meant
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Show the account, delete it, or keep it after all
#[derive(Debug, Args)]
pub(crate) struct AccountArgs {
    #[command(subcommand)]
    pub(crate) command: AccountCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AccountCommand {
    /// Show how the account stands
    #[command(after_help = "Example:\n  selkie account show")]
    Show,
    Delete(DeleteArgs),
    /// Keep an account that was to be deleted
    #[command(after_help = "Example:\n  selkie account keep")]
    Keep,
    Unlock(UnlockArgs),
}

/// Delete the account, after some days in which it can be kept
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie account delete")]
pub(crate) struct DeleteArgs {
    /// Do not ask whether this is meant
    #[arg(long)]
    pub(crate) yes: bool,

    #[command(flatten)]
    pub(crate) password: PasswordFrom,
}

/// Fetch the new keys after another device was revoked elsewhere
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie account unlock")]
pub(crate) struct UnlockArgs {
    #[command(flatten)]
    pub(crate) password: PasswordFrom,
}

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
    Drop(VaultDropArgs),
    /// Have a vault on this device again that was dropped or left out; of one that is here, have the old history again
    #[command(after_help = "Example:\n  selkie vault fetch Photos")]
    Fetch(VaultNameArgs),
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

/// Write a record; its content comes from standard input. A JSON object becomes fields that can be merged and asked
/// for; anything else is kept as it is
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  echo '{\"title\":\"Hello\"}' | selkie put Journal notes")]
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
}

/// Write what this device has of a vault into one file, which other programs can read
///
/// The file is a ZIP archive, see docs/archive-format.md. It takes the place of the one before only when it is whole,
/// so this can be run from cron. Asks no server: run `selkie sync` before.
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
  selkie import notes.csv --into Journal --collection notes --id-field ID")]
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

    /// Write over records that say something else than their row [default: they are kept]
    #[arg(long, requires = "collection")]
    pub(crate) overwrite: bool,
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

/// List the records of a collection
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie ls Journal notes --json")]
pub(crate) struct RecordsArgs {
    /// The vault's name or id
    #[arg(allow_hyphen_values = true)]
    pub(crate) vault: String,

    /// The collection
    pub(crate) collection: String,
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

/// Show the conflicts that this device has met, and how each went
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

/// Decide a conflict
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  selkie resolve Journal notes RECORD-ID mine")]
pub(crate) struct ResolveArgs {
    /// The vault's name or id
    #[arg(allow_hyphen_values = true)]
    pub(crate) vault: String,

    /// The collection
    pub(crate) collection: String,

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
    /// What was in the log
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
                format!("resolve {id} notes {id} mine"),
                format!("query {id} notes --where a=b"),
                format!("watch {id} notes --where a=b"),
                format!("vault log {id} --from 3"),
                format!("vault add {id} {id} --role viewer"),
                format!("vault role {id} {id} editor"),
                format!("vault remove {id} {id}"),
                format!("vault drop {id} --force"),
                format!("vault fetch {id}"),
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
