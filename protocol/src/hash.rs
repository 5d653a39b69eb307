//! One hash, always under a label, so that no two things in the system can have the same digest by accident or malice.
//!
//! `H(x, m...) = SHA-256(u8(len L(x)) || L(x) || m...)` with `L(x) = "selkie/v1/" || x`.

use sha2::{Digest as _, Sha256};

/// What a hash, a signature or a key is for. Every use has its own; the full list is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(&'static str);

/// The prefix of every label.
pub const LABEL_PREFIX: &str = "selkie/v1/";

macro_rules! labels {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        impl Label {
            $($(#[$doc])* pub const $name: Label = Label($text);)*

            /// Every label there is; tests hold them apart.
            pub const ALL: &'static [Label] = &[$(Label::$name),*];
        }
    };
}

labels! {
    // The account log.
    USER_ID = "user-id";
    DEVICE_ID = "device-id";
    ACCOUNT_ENTRY = "account-entry";
    ACCOUNT_CHAIN = "account-chain";
    DEVICE_POP = "device-pop";
    LOGIN_NAME = "login-name";
    // The key hierarchy.
    IDENTITY_ROOT = "identity-root";
    AMK = "amk";
    USER_KEM = "user-kem";
    KEK_PASSWORD = "kek-password";
    KEK_RECOVERY = "kek-recovery";
    RECOVERY_AUTH = "recovery-auth";
    WRAP = "wrap";
    CODE_CHECK = "code-check";
    DEVICE_LABEL = "device-label";
    LOCAL = "local";
    // Signing in.
    TOKEN_WRAP = "token-wrap";
    REFRESH = "refresh";
    DEVICE_LOGIN = "device-login";
    DEVICE_CHALLENGE = "device-challenge";
    DEVICE_SESSION = "device-session";
    RECOVERY_LOGIN = "recovery-login";
    // Linking two devices.
    LINK_CHANNEL = "link-channel";
    LINK_KEY = "link-key";
    LINK_SESSION = "link-session";
    // The vault log.
    VAULT_ID = "vault-id";
    VAULT_ENTRY = "vault-entry";
    VAULT_ENTRY_SIG = "vault-entry-sig";
    VAULT_CHAIN = "vault-chain";
    CHANGE = "change";
    PAYLOAD = "ct";
    CHECKPOINT_PAGE = "ckpt-page";
    CHECKPOINT_PAGES = "ckpt-pages";
    CHECKPOINT_NOTE = "ckpt-note";
    HEAD = "head";
    // The keys of a vault.
    RECORD_KEY = "record-key";
    EPOCH_COMMIT = "epoch-commit";
    EPOCH_BACK = "epoch-back";
    EPOCH_WRAP = "epoch-wrap";
    // What a person compares.
    SAFETY_NUMBER = "safety-number";
    STATE_CODE = "state-code";
}

impl Label {
    /// The label as it enters hashes and keys, prefix included.
    pub fn full(self) -> String {
        format!("{LABEL_PREFIX}{}", self.0)
    }

    /// `u8(len L(x)) || L(x)`, the form in which a label starts every hash and every HKDF info.
    pub fn prefixed(self) -> Vec<u8> {
        let full = self.full();
        let mut bytes = Vec::with_capacity(1 + full.len());
        bytes.push(u8::try_from(full.len()).expect("labels are short: a test holds them to it"));
        bytes.extend_from_slice(full.as_bytes());
        bytes
    }
}

/// `H(label, parts...)`. Parts are concatenated: their lengths must be fixed by the layout that calls this.
pub fn hash(label: Label, parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    let length = u8::try_from(LABEL_PREFIX.len() + label.0.len()).expect("labels are short");
    hasher.update([length]);
    hasher.update(LABEL_PREFIX.as_bytes());
    hasher.update(label.0.as_bytes());
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// SHA-256 without a label: only for secrets that are stored as digests (tokens, invitation codes).
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_distinct_and_short() {
        let mut seen = std::collections::BTreeSet::new();
        for label in Label::ALL {
            assert!(label.full().len() < 64);
            assert!(seen.insert(label.full()), "{label:?} twice");
        }
    }

    #[test]
    fn the_label_is_part_of_the_hash() {
        assert_ne!(hash(Label::USER_ID, &[b"x"]), hash(Label::DEVICE_ID, &[b"x"]));
        assert_eq!(hash(Label::USER_ID, &[b"ab"]), hash(Label::USER_ID, &[b"a", b"b"]));
        let mut by_hand = Label::USER_ID.prefixed();
        by_hand.extend_from_slice(b"x");
        assert_eq!(hash(Label::USER_ID, &[b"x"]), sha256(&by_hand));
    }
}
