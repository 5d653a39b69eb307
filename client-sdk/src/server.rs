//! What a server says of itself, and whether to go on.
//!
//! Owns two pure decisions: is this our protocol, and under which name may passwords be used here. Knows nothing of
//! how the answer came.

use crate::error::{Error, Result};
use crate::transport::Transport;
use crate::untrusted::clean;
use selkie_protocol::opaque::KSF_PROFILE;
use selkie_protocol::version::{Capabilities, PROTOCOL_VERSION, RegistrationPolicy};
use std::sync::Arc;
use url::Url;

/// What a server says of itself before anybody signs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The software and its version, for people.
    pub software: String,
    /// The name accounts are bound to.
    pub server_name: String,
    /// Who may make an account.
    pub registration: RegistrationPolicy,
    /// The kinds of second factor it has, as `totp`.
    pub second_factors: Vec<String>,
}

/// Where a server is, for [`Client::use_server`](crate::Client::use_server). An address as text is one, too.
#[derive(Clone, Debug)]
#[must_use]
pub struct ServerAddress {
    pub(crate) url: String,
    pub(crate) tenant: Option<String>,
    pub(crate) accepted_name: Option<String>,
    pub(crate) transport: Option<Arc<dyn Transport>>,
}

impl ServerAddress {
    /// `https://example.org`, or plain http on this machine.
    pub fn new(url: impl Into<String>) -> Self {
        ServerAddress { url: url.into(), tenant: None, accepted_name: None, transport: None }
    }

    /// Which tenant of the server; the default one if this is not called.
    pub fn tenant(mut self, tenant: impl Into<String>) -> Self {
        self.tenant = Some(tenant.into());
        self
    }

    /// Lets the server have this name, though it is not the host of its address: after a move, or behind a proxy.
    pub fn accept_name(mut self, name: impl Into<String>) -> Self {
        self.accepted_name = Some(name.into());
        self
    }

    /// Another transport than the client's.
    pub fn transport(mut self, transport: Arc<dyn Transport>) -> Self {
        self.transport = Some(transport);
        self
    }
}

impl From<&str> for ServerAddress {
    fn from(url: &str) -> Self {
        ServerAddress::new(url)
    }
}

/// Longer than any host and port.
const LONGEST_NAME: usize = 300;

/// The one protocol there is, or nothing.
pub(crate) fn speaks_our_protocol(capabilities: &Capabilities) -> Result<()> {
    if capabilities.protocol == PROTOCOL_VERSION {
        return Ok(());
    }
    Err(Error::UnsupportedProtocol(format!(
        "it speaks version {}, and this app version {PROTOCOL_VERSION}",
        capabilities.protocol
    )))
}

/// The one way to stretch passwords. Checked before any password is touched, so a server can ask neither for less
/// work nor for all of the memory.
pub(crate) fn stretches_like_us(ksf_id: u8) -> Result<()> {
    if ksf_id == KSF_PROFILE {
        return Ok(());
    }
    Err(Error::UnsupportedProtocol(format!("it asks for password profile {ksf_id}, and there is only {KSF_PROFILE}")))
}

/// What decides which names are fine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expectation<'a> {
    pub(crate) url: &'a Url,
    /// The person or app said so.
    pub(crate) accepted: Option<&'a str>,
    /// The account was made under it.
    pub(crate) pinned: Option<&'a str>,
}

/// The name that enters the password. It binds a password to one server: whoever relays to another host announces
/// either their own name, and the sign-in fails there, or the real one, and the difference shows here.
pub(crate) fn name_for_passwords(announced: &str, expected: Expectation<'_>) -> Result<String> {
    let announced = announced.to_lowercase();
    let ours = match expected.pinned {
        Some(pinned) => pinned.to_lowercase(),
        None => host_and_port(expected.url),
    };
    let accepted = expected.accepted.is_some_and(|accepted| accepted.to_lowercase() == announced);
    let printable = announced.len() <= LONGEST_NAME && !announced.chars().any(char::is_control);
    if printable && !announced.is_empty() && (announced == ours || accepted) {
        return Ok(announced);
    }
    Err(Error::ServerNameDiffers { announced: clean(&announced), expected: ours })
}

/// `host[:port]` in lower case; the port only where it is not the usual one.
pub(crate) fn host_and_port(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default().to_lowercase();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decide(announced: &str, url: &str, accepted: Option<&str>, pinned: Option<&str>) -> Result<String> {
        let url = Url::parse(url).unwrap();
        name_for_passwords(announced, Expectation { url: &url, accepted, pinned })
    }

    #[test]
    fn the_host_we_talk_to_may_use_its_own_name() {
        assert_eq!(decide("Example.org", "https://example.org/", None, None).unwrap(), "example.org");
        assert_eq!(decide("127.0.0.1:8040", "http://127.0.0.1:8040", None, None).unwrap(), "127.0.0.1:8040");
        assert_eq!(decide("example.org", "https://example.org:443", None, None).unwrap(), "example.org");
    }

    #[test]
    fn another_name_is_refused_unless_somebody_said_so() {
        let error = decide("bank.example", "https://evil.example", None, None).unwrap_err();
        assert!(matches!(error, Error::ServerNameDiffers { announced, .. } if announced == "bank.example"));
        assert!(decide("old.example", "https://new.example", Some("old.example"), None).is_ok());
        assert!(decide("other.example", "https://new.example", Some("old.example"), None).is_err());
        assert!(decide("", "https://new.example", Some(""), None).is_err());
    }

    #[test]
    fn a_pinned_name_stays() {
        assert!(decide("old.example", "https://new.example", None, Some("old.example")).is_ok());
        assert!(decide("new.example", "https://new.example", None, Some("old.example")).is_err());
    }

    #[test]
    fn control_characters_do_not_reach_a_screen() {
        let error = decide("a\u{1b}[2J", "https://b", None, None).unwrap_err();
        assert!(!error.to_string().contains('\u{1b}'));
    }

    #[test]
    fn there_is_one_profile() {
        assert!(stretches_like_us(1).is_ok());
        for other in [0, 2, 255] {
            assert!(matches!(stretches_like_us(other), Err(Error::UnsupportedProtocol(_))));
        }
    }
}
