//! What can be typed about an account: its devices, its password and keys, its second factor, what happened to it.

use super::{PasswordFrom, SheetTo};
use clap::{Args, Subcommand};
use std::path::PathBuf;

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
