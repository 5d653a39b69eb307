//! What must hold between settings before a server may start with them.
//!
//! Owns the rules and their wording: each says what is wrong and what to do. Knows nothing about files and variables.

use super::load::{Origin, Problem};
use super::{BlobKind, Config, Secret};
use std::path::{Path, PathBuf};

/// Everything that does not hold. A rule is passed over when a setting it speaks of was refused already, since it
/// would judge a default that nobody chose.
pub(super) fn check(config: &Config, refused: &[Problem]) -> Vec<Problem> {
    let mut findings = Findings { config, refused, problems: Vec::new() };
    addresses(config, &mut findings);
    database(config, &mut findings);
    tls(config, &mut findings);
    blobs(config, &mut findings);
    cors(config, &mut findings);
    numbers(config, &mut findings);
    findings.problems
}

struct Findings<'a> {
    config: &'a Config,
    refused: &'a [Problem],
    problems: Vec<Problem>,
}

impl Findings<'_> {
    /// Notes a problem with the first of these keys; the others are what it depends on.
    fn add(&mut self, keys: &[&str], message: impl Into<String>) {
        if keys.iter().any(|key| self.refused.iter().any(|problem| problem.key.starts_with(key))) {
            return;
        }
        // What came from a secret's file is corrected where the file is named.
        let key = match self.config.origin(keys[0]) {
            Origin::SecretFile(_) => format!("{}_file", keys[0]),
            _ => keys[0].to_owned(),
        };
        self.problems.push(Problem { origin: self.config.origin(&key), key, message: message.into() });
    }
}

fn addresses(config: &Config, findings: &mut Findings<'_>) {
    let server = &config.server;
    let plain = config.tls.cert.is_none();
    if plain && !server.listen.ip().is_loopback() && server.trusted_proxies.is_empty() && !server.allow_plain_http {
        findings.add(
            &["server.listen", "tls", "server.trusted_proxies", "server.allow_plain_http"],
            "plain HTTP would leave this machine: set tls.cert and tls.key, or name the proxy that ends TLS in \
             server.trusted_proxies, or listen on 127.0.0.1 (server.allow_plain_http = true overrules this)",
        );
    }
    if let Some(text) = &server.public_url {
        let plain_shape = |url: &url::Url| {
            matches!(url.scheme(), "https" | "http")
                && url.host_str().is_some()
                && url.path() == "/"
                && url.query().is_none()
                && url.fragment().is_none()
                && url.username().is_empty()
                && url.password().is_none()
        };
        if !url::Url::parse(text).as_ref().is_ok_and(plain_shape) {
            findings.add(&["server.public_url"], "expected scheme and host only, such as \"https://sync.example.org\"");
        }
    }
    if let Some(name) = &server.server_name
        && (name.is_empty() || name.len() > 253 || name.chars().any(|c| c.is_control() || c.is_whitespace()))
    {
        findings.add(&["server.server_name"], "expected a name without spaces, such as \"sync.example.org\"");
    }
}

fn database(config: &Config, findings: &mut Findings<'_>) {
    let database = &config.database;
    if let Some(url) = &database.url {
        let keys = &["database.url", "database.url_file"];
        match kind_of_url(url.reveal()) {
            Err(message) => findings.add(keys, message),
            Ok(UrlKind::Sqlite(path)) => {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                if let Some(parent) = parent.filter(|parent| !parent.is_dir()) {
                    findings.add(
                        keys,
                        format!("the folder {} does not exist; create it, or correct the path", parent.display()),
                    );
                }
            }
            Ok(UrlKind::Postgres) => {}
        }
    }
    let postgres = database.url.as_ref().is_some_and(|url| matches!(kind_of_url(url.reveal()), Ok(UrlKind::Postgres)));
    if let (Some(url), Some(password)) = (&database.url, &database.password)
        && postgres
        && url_with_password(url, password).is_none()
    {
        findings
            .add(&["database.password", "database.url"], "a database.url without a host has no place for a password");
    }
    if database.password.is_some() && !postgres {
        findings.add(&["database.password", "database.url"], "only a postgres:// database.url takes a password");
    }
    if let Some(url) = &database.migration_url
        && (!postgres || !matches!(kind_of_url(url.reveal()), Ok(UrlKind::Postgres)))
    {
        findings.add(
            &["database.migration_url", "database.url"],
            "expected a postgres:// URL, beside a database.url that is one too",
        );
    }
    if let Some(file) = &database.ca_file {
        let says_tls = |url: &Secret| url.reveal().contains("sslmode=") || url.reveal().contains("sslrootcert=");
        if !file.is_file() {
            findings.add(&["database.ca_file"], "there is no such file");
        } else if !postgres {
            findings.add(&["database.ca_file", "database.url"], "only a postgres:// database.url has a certificate");
        } else if database.url.iter().chain(&database.migration_url).any(says_tls) {
            findings.add(
                &["database.ca_file", "database.url", "database.migration_url"],
                "it means sslmode=verify-full and sslrootcert, so the URL must not name these, too",
            );
        }
    }
    if database.pool_size == Some(0) {
        findings.add(&["database.pool_size"], "expected at least 1");
    }
}

fn tls(config: &Config, findings: &mut Findings<'_>) {
    match (&config.tls.cert, &config.tls.key) {
        (Some(_), None) => findings.add(&["tls.cert", "tls.key"], "tls.key is missing: a certificate needs its key"),
        (None, Some(_)) => findings.add(&["tls.key", "tls.cert"], "tls.cert is missing: a key needs its certificate"),
        _ => {}
    }
    for (key, path) in [("tls.cert", &config.tls.cert), ("tls.key", &config.tls.key)] {
        if path.as_ref().is_some_and(|path| !path.is_file()) {
            findings.add(&[key], "there is no such file");
        }
    }
}

fn blobs(config: &Config, findings: &mut Findings<'_>) {
    if config.blobs.kind != BlobKind::S3 {
        return;
    }
    if cfg!(not(feature = "s3")) {
        findings
            .add(&["blobs.kind"], "this server was built without S3; use \"files\", or build it with the feature s3");
    }
    let s3 = &config.blobs.s3;
    let missing = [
        ("blobs.s3.bucket", s3.bucket.is_none()),
        ("blobs.s3.access_key", s3.access_key.is_none()),
        ("blobs.s3.secret_key", s3.secret_key.is_none()),
    ];
    for (key, is_missing) in missing {
        if is_missing {
            findings.add(&[key, "blobs.kind"], "is missing, and blobs.kind = \"s3\" needs it");
        }
    }
    if let Some(endpoint) = &s3.endpoint
        && !url::Url::parse(endpoint).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
    {
        findings.add(&["blobs.s3.endpoint"], "expected a URL such as \"https://s3.example.org\"");
    }
}

fn cors(config: &Config, findings: &mut Findings<'_>) {
    for origin in &config.cors.origins {
        let says_itself = |url: &url::Url| url.origin().is_tuple() && url.origin().ascii_serialization() == *origin;
        let exact = !origin.contains('*') && url::Url::parse(origin).as_ref().is_ok_and(says_itself);
        if !exact {
            let hint = if origin.contains('*') { "a wildcard would let every page in; " } else { "" };
            findings.add(
                &["cors.origins"],
                format!(
                    "\"{origin}\": {hint}expected an exact origin such as \"https://app.example.org\", without a path"
                ),
            );
        }
    }
}

fn numbers(config: &Config, findings: &mut Findings<'_>) {
    let (server, http, sessions, database) = (&config.server, &config.http, &config.sessions, &config.database);
    let never_zero = [
        ("server.max_connections", server.max_connections == 0),
        ("server.max_connections_per_address", server.max_connections_per_address == 0),
        ("server.workers", server.workers == Some(0)),
        ("http.head_timeout", http.head_timeout.is_zero()),
        ("http.answer_timeout", http.answer_timeout.is_zero()),
        ("http.body_timeout", http.body_timeout.is_zero()),
        ("http.body_limit", http.body_limit.as_bytes() == 0),
        ("http.auth_body_limit", http.auth_body_limit.as_bytes() == 0),
        ("http.push_body_limit", http.push_body_limit.as_bytes() == 0),
        ("http.restore_body_limit", http.restore_body_limit.as_bytes() == 0),
        ("vaults.max_per_account", config.vaults.max_per_account == 0),
        ("vaults.page_entries", config.vaults.page_entries == 0),
        ("vaults.page_bytes", config.vaults.page_bytes.as_bytes() == 0),
        ("http.max_concurrent_requests", http.max_concurrent_requests == 0),
        ("tls.reload_interval", config.tls.reload_interval.is_zero()),
        ("tls.handshake_timeout", config.tls.handshake_timeout.is_zero()),
        ("database.acquire_timeout", database.acquire_timeout.is_zero()),
        ("database.statement_timeout", database.statement_timeout.is_zero()),
        ("blobs.s3.timeout", config.blobs.s3.timeout.is_zero()),
        ("sessions.access_token", sessions.access_token.is_zero()),
        ("sessions.idle", sessions.idle.is_zero()),
        ("sessions.without_device", sessions.without_device.is_zero()),
        ("sessions.recent_sign_in", sessions.recent_sign_in.is_zero()),
        ("sessions.login_state", sessions.login_state.is_zero()),
        ("sessions.challenge", sessions.challenge.is_zero()),
        ("sessions.signing_key_rotation", sessions.signing_key_rotation.is_zero()),
    ];
    for (key, is_zero) in never_zero {
        if is_zero {
            findings.add(&[key], "expected more than nothing");
        }
    }
    if sessions.absolute < sessions.idle {
        findings.add(&["sessions.absolute", "sessions.idle"], "expected at least sessions.idle");
    }
    if sessions.signing_key_rotation < sessions.access_token {
        findings.add(
            &["sessions.signing_key_rotation", "sessions.access_token"],
            "expected at least sessions.access_token: a token must not outlive two keys",
        );
    }
    if tracing_subscriber::EnvFilter::try_new(&config.log.level).is_err() {
        findings
            .add(&["log.level"], "expected a level such as \"info\", or a filter such as \"info,selkie_server=debug\"");
    }
    if config.metrics.token.as_ref().is_some_and(|token| token.reveal().len() < 16) {
        findings.add(&["metrics.token"], "expected at least 16 characters, since it can be guessed at");
    }
}

#[derive(Debug, PartialEq, Eq)]
enum UrlKind {
    Sqlite(PathBuf),
    Postgres,
}

/// Which database a URL names. Nothing is guessed: a mistyped URL must not become an empty SQLite file.
/// No message quotes the URL, because it may carry a password.
fn kind_of_url(url: &str) -> Result<UrlKind, String> {
    const EXPECTED: &str = "expected postgres://user@host/database, or sqlite:path/to/file.db";
    let Some((scheme, rest)) = url.split_once(':') else {
        return Err(format!(
            "has no scheme; {EXPECTED} (a bare path is not taken, so that a mistake makes no new file)"
        ));
    };
    match scheme {
        "postgres" | "postgresql" => match url::Url::parse(url) {
            Ok(parsed) if parsed.has_authority() && parsed.path().len() > 1 => Ok(UrlKind::Postgres),
            Ok(_) => Err(format!("names no host or no database; {EXPECTED}")),
            Err(_) => Err(format!("is not a valid URL; {EXPECTED}")),
        },
        "sqlite" => {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            match path {
                "" => Err(format!("names no file; {EXPECTED}")),
                ":memory:" => Err("a database in memory forgets everything; name a file".into()),
                _ if path.contains(['?', '#']) => Err("parameters are not taken; name the file only".into()),
                _ => Ok(UrlKind::Sqlite(PathBuf::from(path))),
            }
        }
        _ => Err(format!("is of no kind this server knows; {EXPECTED}")),
    }
}

/// The file that a `sqlite:` URL names.
pub(super) fn sqlite_path(url: &str) -> Option<PathBuf> {
    match kind_of_url(url) {
        Ok(UrlKind::Sqlite(path)) => Some(path),
        _ => None,
    }
}

/// The URL with a password that was given apart from it; nothing if the URL has no place for one.
pub(super) fn url_with_password(url: &Secret, password: &Secret) -> Option<Secret> {
    let mut parsed = url::Url::parse(url.reveal()).ok()?;
    parsed.set_password(Some(password.reveal())).ok()?;
    Some(Secret::new(parsed))
}

/// The URL with the certificates to trust; nothing if it does not parse.
pub(super) fn url_trusting(url: &Secret, certificates: &Path) -> Option<Secret> {
    let mut parsed = url::Url::parse(url.reveal()).ok()?;
    let path: String = url::form_urlencoded::byte_serialize(certificates.to_str()?.as_bytes()).collect();
    // A space is a plus in forms only.
    let trust = format!("sslmode=verify-full&sslrootcert={}", path.replace('+', "%20"));
    let query = parsed.query().filter(|query| !query.is_empty()).map(|query| format!("{query}&{trust}"));
    parsed.set_query(Some(&query.unwrap_or(trust)));
    Some(Secret::new(parsed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load::load;

    /// What is said of these variables, or nothing.
    fn refusal(variables: &[(&str, &str)]) -> Option<String> {
        let variables = variables.iter().map(|(name, value)| (format!("SELKIE_{name}").into(), (*value).into()));
        load(None, variables).err().map(|problems| problems.to_string())
    }

    fn refused(variables: &[(&str, &str)], because: &str) {
        let refusal = refusal(variables).unwrap_or_else(|| panic!("{variables:?} is refused"));
        assert!(refusal.contains(because), "{refusal}");
        assert_eq!(refusal.lines().count(), 2, "one mistake is one problem: {refusal}");
    }

    fn taken(variables: &[(&str, &str)]) {
        assert_eq!(refusal(variables), None, "{variables:?}");
    }

    #[test]
    fn plain_http_stays_on_this_machine_unless_somebody_answers_for_it() {
        refused(&[("SERVER__LISTEN", "0.0.0.0:8040")], "plain HTTP would leave this machine");
        refused(&[("SERVER__LISTEN", "[::]:8040")], "plain HTTP would leave this machine");
        taken(&[("SERVER__LISTEN", "127.0.0.2:8040")]);
        taken(&[("SERVER__LISTEN", "[::1]:8040")]);
        taken(&[("SERVER__LISTEN", "0.0.0.0:8040"), ("SERVER__TRUSTED_PROXIES", "10.0.0.0/8")]);
        taken(&[("SERVER__LISTEN", "0.0.0.0:8040"), ("SERVER__ALLOW_PLAIN_HTTP", "true")]);
    }

    #[test]
    fn a_rule_about_a_setting_that_was_refused_is_passed_over() {
        refused(
            &[("SERVER__LISTEN", "0.0.0.0:8040"), ("SERVER__TRUSTED_PROXIES", "10.0.0.1/8")],
            "did you mean \"10.0.0.0/8\"?",
        );
        refused(&[("SERVER__LISTEN", "0.0.0.0:8040"), ("SERVER__ALLOW_PLAIN_HTTP", "yes")], "expected true or false");
    }

    #[test]
    fn origins_are_exact() {
        taken(&[("CORS__ORIGINS", "https://app.example.org,http://localhost:5173,https://app.example.org:8443")]);
        for origin in
            ["*", "https://*.example.org", "https://app.example.org/", "app.example.org", "null", "HTTPS://A.ORG"]
        {
            refused(&[("CORS__ORIGINS", origin)], "expected an exact origin");
        }
    }

    #[test]
    fn an_s3_store_is_named_completely() {
        let whole = [
            ("BLOBS__KIND", "s3"),
            ("BLOBS__S3__BUCKET", "selkie"),
            ("BLOBS__S3__ACCESS_KEY", "a"),
            ("BLOBS__S3__SECRET_KEY", "s"),
            ("BLOBS__S3__ENDPOINT", "https://s3.example.org"),
        ];
        taken(&whole);
        for missing in 1..4 {
            let mut part = whole.to_vec();
            part.remove(missing);
            refused(&part, "is missing");
        }
        let mut bad_endpoint = whole;
        bad_endpoint[4].1 = "s3.example.org";
        refused(&bad_endpoint, "expected a URL");
    }

    #[test]
    fn a_certificate_and_its_key_come_together_and_exist() {
        let this = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        refused(&[("TLS__CERT", this)], "tls.key is missing");
        refused(&[("TLS__KEY", this)], "tls.cert is missing");
        refused(&[("TLS__KEY", this), ("TLS__CERT", "/no/such/file")], "there is no such file");
        taken(&[("TLS__KEY", this), ("TLS__CERT", this), ("SERVER__LISTEN", "0.0.0.0:8040")]);
    }

    #[test]
    fn numbers_make_sense_together() {
        refused(&[("SESSIONS__IDLE", "400d")], "expected at least sessions.idle");
        refused(&[("SESSIONS__SIGNING_KEY_ROTATION", "1m")], "expected at least sessions.access_token");
        refused(&[("HTTP__BODY_TIMEOUT", "0s")], "expected more than nothing");
        refused(&[("METRICS__TOKEN", "short")], "at least 16 characters");
        refused(&[("LOG__LEVEL", "selkie=loud")], "expected a level");
        refused(&[("SERVER__PUBLIC_URL", "https://sync.example.org/path")], "scheme and host only");
        refused(&[("SERVER__SERVER_NAME", "two words")], "a name without spaces");
        refused(&[("DATABASE__PASSWORD", "x")], "only a postgres://");
        refused(&[("DATABASE__MIGRATION_URL", "postgres://a@b/c")], "beside a database.url");
    }

    #[test]
    fn certificates_for_the_database_mean_that_it_must_show_the_right_one() {
        let this = "Cargo.toml";
        let url = ("DATABASE__URL", "postgres://a@b/c?connect_timeout=3");
        refused(&[("DATABASE__CA_FILE", this)], "only a postgres://");
        refused(&[url, ("DATABASE__CA_FILE", "/no/such/file")], "there is no such file");
        let twice = ("DATABASE__URL", "postgres://a@b/c?sslmode=require");
        refused(&[twice, ("DATABASE__CA_FILE", this)], "the URL must not name these, too");
        let variables = [url, ("DATABASE__CA_FILE", this), ("DATABASE__MIGRATION_URL", "postgres://o@b/c")];
        let variables = variables.map(|(name, value)| (format!("SELKIE_{name}").into(), value.into()));
        let super::super::DatabaseTarget::Postgres { url, migration_url } =
            load(None, variables.into_iter()).unwrap().database()
        else {
            panic!("a postgres:// URL is PostgreSQL")
        };
        let trust = "sslmode=verify-full&sslrootcert=Cargo.toml";
        assert_eq!(url.reveal(), format!("postgres://a@b/c?connect_timeout=3&{trust}"));
        assert_eq!(migration_url.unwrap().reveal(), format!("postgres://o@b/c?{trust}"));
        crate::store::check_url(url.reveal()).unwrap();
    }

    #[test]
    fn a_server_is_named_after_where_it_is_reached() {
        let name = |variables: &[(&str, &str)]| {
            let variables = variables.iter().map(|(name, value)| (format!("SELKIE_{name}").into(), (*value).into()));
            load(None, variables).unwrap().server_name()
        };
        assert_eq!(name(&[("SERVER__PUBLIC_URL", "https://sync.example.org")]), "sync.example.org");
        assert_eq!(name(&[("SERVER__PUBLIC_URL", "https://sync.example.org:8443/")]), "sync.example.org:8443");
        let both = [("SERVER__PUBLIC_URL", "https://a.example"), ("SERVER__SERVER_NAME", "b.example")];
        assert_eq!(name(&both), "b.example");
    }

    #[test]
    fn a_database_url_says_which_kind_it_is() {
        let sqlite = |path: &str| Ok(UrlKind::Sqlite(PathBuf::from(path)));
        assert_eq!(kind_of_url("sqlite:selkie.db"), sqlite("selkie.db"));
        assert_eq!(kind_of_url("sqlite:/var/lib/selkie.db"), sqlite("/var/lib/selkie.db"));
        assert_eq!(kind_of_url("sqlite:///var/lib/selkie.db"), sqlite("/var/lib/selkie.db"));
        assert_eq!(kind_of_url("postgres://selkie@localhost/selkie"), Ok(UrlKind::Postgres));
        assert_eq!(kind_of_url("postgresql://selkie@localhost:5432/selkie?sslmode=require"), Ok(UrlKind::Postgres));
    }
}
