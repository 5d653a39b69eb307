//! What the signed-in device shows: a code to type, or a QR code to scan.
//!
//! Owns the form `selkie://link?server=...&code=L1-...`. Knows nothing of what the code opens.

use crate::error::{Error, Result, WrongKey};
use selkie_protocol::Private;
use selkie_protocol::cipher::LinkSecret;
use url::Url;

/// Read from another device's screen.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkInvitation {
    /// Missing where only the code was typed.
    pub server_url: Option<String>,
    /// The tenant of the server, if it is not the default one.
    pub tenant: Option<String>,
    /// `L1-...`
    pub code: Private,
    /// The name the server has for passwords, where it is not its host.
    pub server_name: Option<String>,
}

impl LinkInvitation {
    /// From what was scanned or typed, the whole address or the code alone.
    pub fn parse(text: &str) -> Result<Self> {
        let text = text.trim();
        if !text.to_ascii_lowercase().starts_with("selkie:") {
            let code = LinkSecret::parse(text)?.to_text();
            return Ok(LinkInvitation {
                server_url: None,
                tenant: None,
                code: code.as_str().into(),
                server_name: None,
            });
        }
        let url = Url::parse(text).map_err(|_| Error::WrongKey(WrongKey::Link))?;
        let value = |name| url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned());
        let code = LinkSecret::parse(&value("code").unwrap_or_default())?.to_text();
        Ok(LinkInvitation {
            server_url: value("server"),
            tenant: value("tenant"),
            code: code.as_str().into(),
            server_name: value("name"),
        })
    }

    /// For a QR code.
    pub fn to_uri(&self) -> Private {
        let mut url = Url::parse("selkie://link").expect("this is an address");
        for (name, value) in [
            ("server", self.server_url.as_deref()),
            ("tenant", self.tenant.as_deref()),
            ("name", self.server_name.as_deref()),
            ("code", Some(self.code.as_str())),
        ] {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(name, value);
            }
        }
        Private::from(url.as_str())
    }
}

impl std::fmt::Debug for LinkInvitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkInvitation(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_can_be_scanned_or_typed() {
        let code = LinkSecret::generate().to_text();
        let shown = LinkInvitation {
            server_url: Some("https://example.org/a?b".into()),
            tenant: Some("acme".into()),
            code: code.as_str().into(),
            server_name: Some("old.example".into()),
        };
        assert_eq!(LinkInvitation::parse(shown.to_uri().as_str()).unwrap(), shown);
        let typed = LinkInvitation::parse(&format!(" {} ", code.to_lowercase().replace('-', " "))).unwrap();
        assert_eq!((typed.code, typed.server_url), (shown.code, None));
    }

    #[test]
    fn what_is_not_a_link_is_refused() {
        for text in ["", "selkie://link", "selkie://link?code=L1-", "https://example.org", "S1-0000"] {
            assert!(matches!(LinkInvitation::parse(text), Err(Error::WrongKey(_))), "{text}");
        }
    }
}
