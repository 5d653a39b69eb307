//! Where a server is.
//!
//! Owns what an address must be made of, whatever carries the bytes there, and the words for one that is none.

use url::Url;

/// Why an address is not one to send secrets to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// It is not the address of a server.
    #[error("this is not an address of a server: it looks like https://example.org")]
    NotAnAddress,
    /// Plain http goes only to this machine; use https.
    #[error("plain http goes only to this machine; use https")]
    PlainHttp,
    /// The certificates are not PEM.
    #[cfg(feature = "http")]
    #[error("the certificates are not PEM")]
    Certificate(#[source] reqwest::Error),
    /// There is no certificate in what should name those to trust.
    #[error("there is no certificate in it: nothing would be trusted, or everything")]
    NoCertificate,
    /// TLS could not be set up.
    #[cfg(feature = "http")]
    #[error("TLS could not be set up")]
    Setup(#[source] reqwest::Error),
}

/// An http(s) address with a host and nothing that does not belong: no user, no query, no fragment.
pub(crate) fn server_address(text: &str) -> Result<Url, HttpError> {
    let url = Url::parse(text.trim()).map_err(|_| HttpError::NotAnAddress)?;
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() || !plain || url.fragment().is_some() {
        return Err(HttpError::NotAnAddress);
    }
    Ok(url)
}
