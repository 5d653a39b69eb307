//! The table: what may be done how often, by whom.
//!
//! Owns the names of actions and the defaults; each line is a setting under `[limits]`. Knows nothing about buckets.

use super::Quotas;
use serde::{Deserialize, Serialize};

/// By what somebody is told apart. The order is the order in which limits are asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Who {
    Address,
    Tenant,
    Device,
    Account,
    LoginName,
}

macro_rules! rules {
    ($($setting:ident: $action:ident, $who:ident, $default:literal;)*) => {
        /// Every limit, by the name of its setting.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Rules {
            $(pub $setting: Quotas,)*
        }

        impl Default for Rules {
            fn default() -> Self {
                Rules { $($setting: $default.parse().expect("the table is tested"),)* }
            }
        }

        impl Rules {
            /// The table, in the order in which limits are asked.
            pub(super) fn table(&self) -> Vec<(Action, Who, &Quotas)> {
                let mut table = vec![$((Action::$action, Who::$who, &self.$setting),)*];
                table.sort_by_key(|(_, who, _)| *who);
                table
            }
        }
    };
}

/// Something that is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Any request at all.
    Request,
    /// The first step of a sign-in, with or without an account behind the name.
    SignIn,
    /// The first step of a sign-up, with or without an invitation.
    SignUp,
    /// The first step of a recovery.
    Recover,
    /// A code of the authenticator app, or a recovery code in its place.
    SecondFactor,
    /// A new access token for a refresh token.
    Refresh,
    /// A challenge for a device to sign.
    Challenge,
    /// Meeting another device to link it.
    Link,
    /// Changing the password or the keys, or deleting the account.
    ChangeCredentials,
    /// One entry into a vault's log, or keys beside it.
    Push,
    /// A checkpoint, for which everything that is live is counted.
    Checkpoint,
    /// A part of a log.
    Pull,
    /// What is new in all vaults.
    Poll,
    /// Waiting for hints.
    Listen,
    /// Entries that a restored server has lost.
    Restore,
}

rules! {
    request_per_address:             Request,           Address,   "1200/min burst 600";
    request_per_account:             Request,           Account,   "1200/min burst 600";
    request_per_tenant:              Request,           Tenant,    "off";
    sign_in_per_address:             SignIn,            Address,   "30/min";
    sign_in_per_device:              SignIn,            Device,    "2/min burst 10, max 100/day";
    sign_in_per_login_name:          SignIn,            LoginName, "2/min burst 10, max 100/day";
    sign_up_per_address:             SignUp,            Address,   "30/hour burst 10";
    sign_up_per_tenant:              SignUp,            Tenant,    "1000/hour burst 200";
    recover_per_address:             Recover,           Address,   "10/min";
    recover_per_login_name:          Recover,           LoginName, "off";
    second_factor_per_account:       SecondFactor,      Account,   "2/min burst 5, max 50/day";
    refresh_per_address:             Refresh,           Address,   "120/min";
    refresh_per_device:              Refresh,           Device,    "10/min burst 20";
    challenge_per_address:           Challenge,         Address,   "120/min";
    link_per_address:                Link,              Address,   "60/min";
    link_per_account:                Link,              Account,   "30/min";
    change_credentials_per_account:  ChangeCredentials, Account,   "10/min, max 100/day";
    push_per_account:                Push,              Account,   "600/min";
    push_per_address:                Push,              Address,   "off";
    checkpoint_per_account:          Checkpoint,        Account,   "6/min, max 100/day";
    pull_per_account:                Pull,              Account,   "600/min";
    pull_per_address:                Pull,              Address,   "off";
    poll_per_account:                Poll,              Account,   "300/min";
    poll_per_address:                Poll,              Address,   "off";
    listen_per_account:              Listen,            Account,   "30/min";
    listen_per_address:              Listen,            Address,   "120/min";
    restore_per_account:             Restore,           Account,   "60/min";
}

impl Action {
    pub fn word(self) -> &'static str {
        match self {
            Action::Request => "request",
            Action::SignIn => "sign_in",
            Action::SignUp => "sign_up",
            Action::Recover => "recover",
            Action::SecondFactor => "second_factor",
            Action::Refresh => "refresh",
            Action::Challenge => "challenge",
            Action::Link => "link",
            Action::ChangeCredentials => "change_credentials",
            Action::Push => "push",
            Action::Checkpoint => "checkpoint",
            Action::Pull => "pull",
            Action::Poll => "poll",
            Action::Listen => "listen",
            Action::Restore => "restore",
        }
    }
}

impl Who {
    pub fn word(self) -> &'static str {
        match self {
            Who::Address => "address",
            Who::Tenant => "tenant",
            Who::Device => "device",
            Who::Account => "account",
            Who::LoginName => "login_name",
        }
    }

    /// Addresses and login names are counted before anybody knows which plan they belong to.
    pub(super) fn depends_on_plan(self) -> bool {
        matches!(self, Who::Account | Who::Device | Who::Tenant)
    }
}
