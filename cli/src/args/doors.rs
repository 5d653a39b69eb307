//! What can be typed to come in and to go: signing up, in and out, recovering, forgetting.

use clap::Args;
use std::path::PathBuf;

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

    /// After a restore of the server: go on with what it has of the account, without what it lost and this device knows
    #[arg(long, conflicts_with_all = ["link", "link_file"])]
    pub(crate) accept_loss: bool,

    #[command(flatten)]
    pub(crate) password: PasswordFrom,
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
