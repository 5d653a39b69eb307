//! Where a PostgreSQL server is, and how its TLS is to be.
//!
//! Owns what a URL means. Knows nothing of connecting.

use super::OpenError;
use std::path::PathBuf;
use std::time::Duration;

/// How long a database may be silent on the line before the line counts as cut.
const SILENCE: Duration = Duration::from_secs(15);

/// A parsed URL. It holds the password, so it is never printed.
#[derive(Clone)]
pub(in crate::store) struct Address {
    pub(super) config: tokio_postgres::Config,
    pub(super) tls: Tls,
}

/// The words are PostgreSQL's own (`sslmode`), and mean what they mean there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tls {
    /// `disable`
    Never,
    /// `prefer`, and when nothing is said: encrypted if the server can, whoever it is.
    IfOffered,
    /// `require`: encrypted, whoever the server is.
    AnyCertificate,
    /// `verify-full`, and `verify-ca`, which is no different here: encrypted, and the certificate is right for the
    /// host. Trusted are the machine's roots, or those in the file of `sslrootcert` alone.
    Verified { roots: Option<PathBuf> },
}

impl Address {
    pub(in crate::store) fn parse(url: &str) -> Result<Self, OpenError> {
        let not = |why: &str| OpenError::Url(why.to_owned());
        let (base, query) = url.split_once('?').unwrap_or((url, ""));
        let (mut mode, mut roots, mut others) = (None, None, Vec::new());
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            match parameter.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value),
                Some(("sslrootcert", value)) => {
                    roots = Some(PathBuf::from(percent_decoded(value)));
                }
                _ => others.push(parameter),
            }
        }
        let tls = match (mode, roots) {
            (Some("verify-full" | "verify-ca"), roots) => Tls::Verified { roots },
            (_, Some(_)) => return Err(not("sslrootcert needs sslmode=verify-full")),
            (Some("disable"), None) => Tls::Never,
            (None | Some("prefer"), None) => Tls::IfOffered,
            (Some("require"), None) => Tls::AnyCertificate,
            (Some(_), None) => return Err(not("sslmode is one of disable, prefer, require, verify-full")),
        };
        let rest = if others.is_empty() { base.to_owned() } else { format!("{base}?{}", others.join("&")) };
        let mut config: tokio_postgres::Config =
            rest.parse().map_err(|_| not("it does not parse as postgres://user:password@host:port/database"))?;
        if config.get_hosts().is_empty() {
            return Err(not("it names no host"));
        }
        config.ssl_mode(match tls {
            Tls::Never => tokio_postgres::config::SslMode::Disable,
            Tls::IfOffered => tokio_postgres::config::SslMode::Prefer,
            Tls::AnyCertificate | Tls::Verified { .. } => tokio_postgres::config::SslMode::Require,
        });
        if config.get_application_name().is_none() {
            config.application_name("selkie-server");
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(Duration::from_secs(5));
        }
        // A database whose machine is gone says nothing, for hours by a system's defaults; a statement's own timeout is
        // the database's, and so no help then.
        if config.get_tcp_user_timeout().is_none() {
            config.tcp_user_timeout(SILENCE);
        }
        if config.get_keepalives_interval().is_none() {
            config.keepalives_idle(SILENCE).keepalives_interval(SILENCE / 3).keepalives_retries(3);
        }
        Ok(Address { config, tls })
    }
}

fn percent_decoded(value: &str) -> String {
    // A plus is a plus in a URL's path, but a space in the form encoding that this decodes.
    let form = format!("value={}", value.replace('+', "%2B"));
    url::form_urlencoded::parse(form.as_bytes()).map(|(_, value)| value.into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls(query: &str) -> Option<Tls> {
        Address::parse(&format!("postgres://ana:hunter2@db.example/selkie{query}")).ok().map(|address| address.tls)
    }

    #[test]
    fn sslmode_means_what_it_means_to_postgres() {
        assert_eq!(tls(""), Some(Tls::IfOffered));
        assert_eq!(tls("?sslmode=disable"), Some(Tls::Never));
        assert_eq!(tls("?connect_timeout=3&sslmode=require"), Some(Tls::AnyCertificate));
        assert_eq!(tls("?sslmode=verify-full"), Some(Tls::Verified { roots: None }));
        let roots = Some(PathBuf::from("/etc/ca dir/root.pem"));
        assert_eq!(tls("?sslmode=verify-ca&sslrootcert=%2Fetc%2Fca%20dir/root.pem"), Some(Tls::Verified { roots }));
    }

    #[test]
    fn what_would_weaken_tls_by_mistake_is_refused() {
        assert_eq!(tls("?sslmode=verify_full"), None);
        assert_eq!(tls("?sslrootcert=/etc/root.pem"), None);
        assert_eq!(tls("?sslmode=require&sslrootcert=/etc/root.pem"), None);
    }
}
