//! Lays defaults, file and environment over each other, and says precisely what is wrong with each.
//!
//! Owns the reading of the file, and where each setting came from. Knows no single setting: names and types are those
//! of the structs, because each value is tried on the structs alone.

use super::{Config, check, environment, secret_file};
use serde::Deserialize as _;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// Where a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File {
        path: PathBuf,
        line: usize,
    },
    Environment(String),
    /// A file that holds this one secret, named by another setting.
    SecretFile(PathBuf),
}

/// Settings that are not defaults, by key (`server.listen`).
pub(crate) type Origins = BTreeMap<String, Origin>;

/// One thing wrong with the configuration: what, and where to correct it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub key: String,
    pub origin: Origin,
    pub message: String,
}

/// Everything wrong with the configuration, at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

pub(super) struct Setting {
    pub(super) value: Value,
    pub(super) origin: Origin,
}

pub(super) type Settings = BTreeMap<String, Setting>;

/// Reads defaults, then the file if one is named, then the environment; the later wins.
pub fn load(file: Option<&Path>, environment: impl Iterator<Item = (OsString, OsString)>) -> Result<Config, Problems> {
    let mut settings = Settings::new();
    let mut problems = Vec::new();
    if let Some(path) = file {
        read_file(path, &mut settings, &mut problems);
    }
    environment::read(environment, &mut settings, &mut problems);
    secret_file::read_all(&mut settings, &mut problems);

    let mut table = Table::new();
    let mut origins = Origins::new();
    for (key, Setting { value, origin }) in settings {
        insert(&mut table, &key, value);
        origins.insert(key, origin);
    }
    // Every value was tried alone, so the whole fits as well.
    let mut config = Config::deserialize(Value::Table(table)).expect("settings that fit one by one fit together");
    config.origins = origins;
    problems.extend(check::check(&config, &problems));
    if problems.is_empty() {
        return Ok(config);
    }
    // In the order in which one meets them: down the file, then the environment.
    problems.sort_by_key(|problem| match problem.origin {
        Origin::File { line, .. } => (0, line),
        _ => (1, 0),
    });
    Err(Problems(problems))
}

fn read_file(path: &Path, settings: &mut Settings, problems: &mut Vec<Problem>) {
    let about_file =
        |line, message| Problem { key: String::new(), origin: Origin::File { path: path.to_owned(), line }, message };
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return problems.push(about_file(0, format!("cannot be read: {error}"))),
    };
    let line_at = |offset: usize| text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1;
    let parsed = toml::de::DeTable::parse(&text).and_then(|spans| Ok((spans, toml::from_str::<Table>(&text)?)));
    let (spans, table) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => {
            // Only the message and the place: the full text would quote the line, and with it perhaps a password.
            let line = error.span().map_or(0, |span| line_at(span.start));
            return problems.push(about_file(line, format!("not valid TOML: {}", error.message())));
        }
    };
    let mut lines = BTreeMap::new();
    note_lines(spans.get_ref(), "", &line_at, &mut lines);
    for (key, value) in leaves(table) {
        let origin = Origin::File { path: path.to_owned(), line: lines.get(&key).copied().unwrap_or(0) };
        match fits(&key, &value) {
            Ok(()) => drop(settings.insert(key, Setting { value, origin })),
            Err(message) => problems.push(Problem { key, origin, message }),
        }
    }
}

fn note_lines(
    table: &toml::de::DeTable<'_>,
    prefix: &str,
    line_at: &impl Fn(usize) -> usize,
    lines: &mut BTreeMap<String, usize>,
) {
    for (name, value) in table {
        let key = join(prefix, name.get_ref());
        lines.insert(key.clone(), line_at(name.span().start));
        if let Some(inner) = value.get_ref().as_table() {
            note_lines(inner, &key, line_at, lines);
        }
    }
}

/// Every value of a table by its full key. An empty table is a leaf too, so that an unknown one is noticed.
pub(super) fn leaves(table: Table) -> Vec<(String, Value)> {
    fn descend(table: Table, prefix: &str, found: &mut Vec<(String, Value)>) {
        for (name, value) in table {
            let key = join(prefix, &name);
            match value {
                Value::Table(inner) if !inner.is_empty() => descend(inner, &key, found),
                value => found.push((key, value)),
            }
        }
    }
    let mut found = Vec::new();
    descend(table, "", &mut found);
    found
}

/// Whether the structs take this value at this place, tried with nothing else beside it.
pub(super) fn fits(key: &str, value: &Value) -> Result<(), String> {
    let mut table = Table::new();
    insert(&mut table, key, value.clone());
    match Config::deserialize(Value::Table(table)) {
        Ok(_) => Ok(()),
        Err(error) => Err(in_plain_words(key, error.message())),
    }
}

fn insert(table: &mut Table, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(table.insert(key.to_owned(), value)),
        Some((section, rest)) => {
            let inner = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            if let Value::Table(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// serde's refusal in the words of someone who writes configuration and not Rust.
fn in_plain_words(key: &str, message: &str) -> String {
    if message.starts_with("unknown field") {
        let near = known_keys().into_iter().map(|known| (environment::distance(key, &known), known)).min();
        return match near {
            Some((distance, known)) if distance <= 3 => format!("unknown setting; did you mean {known}?"),
            _ => message.replace("unknown field", "unknown setting"),
        };
    }
    if message.contains("socket address") {
        return "expected an address and a port such as \"127.0.0.1:8040\" or \"[::]:8040\"".into();
    }
    let words = [
        ("expected u16", "expected a whole number from 0 to 65535"),
        ("expected u32", "expected a whole number from 0 to 4294967295"),
        ("expected path string", "expected a path as a string"),
        ("expected a sequence", "expected a list such as [\"one\", \"two\"]"),
        ("expected a boolean", "expected true or false"),
        ("unknown variant", "unknown word"),
        ("expected struct", "expected a section of settings,"),
    ];
    words.iter().fold(message.to_owned(), |text, (rust, plain)| text.replace(rust, plain))
}

/// Every key there is, from the structs themselves.
pub(super) fn known_keys() -> Vec<String> {
    super::describe::flatten(&Config::default()).into_iter().map(|(key, _)| key).collect()
}

fn join(prefix: &str, name: &str) -> String {
    if prefix.is_empty() { name.to_owned() } else { format!("{prefix}.{name}") }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line: 0 } => write!(f, "{}", path.display()),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Environment(name) => f.write_str(name),
            Origin::SecretFile(path) => write!(f, "content of {}", path.display()),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration is not right:")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::secret_file::SECRETS;
    use super::*;
    use std::fs;

    /// A configuration file and an environment, and what the server makes of them.
    struct Case {
        folder: tempfile::TempDir,
        environment: Vec<(String, String)>,
        has_file: bool,
    }

    impl Case {
        fn new() -> Self {
            Case { folder: tempfile::tempdir().unwrap(), environment: Vec::new(), has_file: false }
        }

        fn file(mut self, text: &str) -> Self {
            fs::write(self.path("selkie.toml"), text).unwrap();
            self.has_file = true;
            self
        }

        fn variable(mut self, name: &str, value: &str) -> Self {
            self.environment.push((name.into(), value.into()));
            self
        }

        fn secret(self, name: &str, content: &str) -> Self {
            fs::write(self.path(name), content).unwrap();
            self.mode(name, 0o600)
        }

        fn mode(self, name: &str, mode: u32) -> Self {
            #[cfg(unix)]
            fs::set_permissions(self.path(name), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
            self
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn load(&self) -> Result<Config, Problems> {
            let file = self.path("selkie.toml");
            let environment = self.environment.iter().map(|(name, value)| (name.into(), value.into()));
            load(self.has_file.then_some(file.as_path()), environment)
        }

        /// The problems as they are told, with the folder's changing name left out.
        fn refusal(&self) -> String {
            let folder = format!("{}/", self.folder.path().display());
            self.load().expect_err("the configuration is refused").to_string().replace(&folder, "")
        }
    }

    fn value<'a>(entries: &'a [super::super::Entry], key: &str) -> (&'a str, &'a str) {
        let entry = entries.iter().find(|entry| entry.key == key).unwrap();
        (entry.value.as_deref().unwrap_or("-"), &entry.source)
    }

    #[test]
    fn nothing_configured_is_a_configuration() {
        let config = Case::new().load().unwrap();
        assert_eq!(config.server.listen.to_string(), "127.0.0.1:8040");
        assert_eq!(config.server_name(), "127.0.0.1:8040");
        assert_eq!(config.public_url(), "http://127.0.0.1:8040");
        let super::super::DatabaseTarget::Sqlite(path) = config.database() else { panic!("an embedded database") };
        assert_eq!(path, Path::new("./selkie-data/selkie.db"));
        assert!(config.describe().iter().all(|entry| entry.source == "default"));
    }

    #[test]
    fn the_environment_overrules_the_file_and_the_file_the_defaults() {
        let case = Case::new()
            .file("[server]\nworkers = 2\nmax_connections = 5\n\n[log]\nlevel = \"warn\"")
            .variable("SELKIE_SERVER__WORKERS", "7");
        let shown = case.load().unwrap().describe();
        let file = case.path("selkie.toml").display().to_string();
        assert_eq!(value(&shown, "server.workers"), ("7", "SELKIE_SERVER__WORKERS"));
        assert_eq!(value(&shown, "server.max_connections"), ("5", format!("{file}:3").as_str()));
        assert_eq!(value(&shown, "log.level"), ("warn", format!("{file}:6").as_str()));
        assert_eq!(value(&shown, "log.format"), ("auto", "default"));
    }

    #[test]
    fn a_variable_is_read_as_what_its_setting_is() {
        let config = Case::new()
            .variable("SELKIE_SERVER__ALLOW_PLAIN_HTTP", "true")
            .variable("SELKIE_SERVER__TRUSTED_PROXIES", "10.0.0.0/8, fd00::/8")
            .variable("SELKIE_CORS__ORIGINS", "[\"https://a.example\", \"https://b.example\"]")
            .variable("SELKIE_BLOBS__S3__BUCKET", "12345")
            .variable("SELKIE_LIMITS__SIGN_IN_PER_ADDRESS", "max 5/day")
            .variable("SELKIE_DATA__DIR", "true")
            .load()
            .unwrap();
        assert!(config.server.allow_plain_http);
        assert_eq!(config.server.trusted_proxies.len(), 2);
        assert_eq!(config.cors.origins, ["https://a.example", "https://b.example"]);
        assert_eq!(config.blobs.s3.bucket.as_deref(), Some("12345"), "a text that looks like a number stays a text");
        assert_eq!(config.limits.sign_in_per_address.to_string(), "max 5/day");
        assert_eq!(config.data.dir, Path::new("true"));
    }

    #[test]
    fn everything_wrong_is_told_at_once_with_its_place() {
        let case = Case::new()
            .file(
                "[server]\nlistn = \"0.0.0.0:1\"\nworkers = \"many\"\n\n[http]\nbody_limit = \"64KB\"\n\
                 [cors]\norigins = [\"*\"]\n[nonsense]\n[registration]\npolicy = \"everyone\"\n",
            )
            .variable("SELKIE_SESSIONS__IDLE", "soon")
            .variable("SELKIE_SESSIONS__NONSENSE", "1")
            .variable("SELKIE_LOG__LEVEL", "");
        insta::assert_snapshot!(case.refusal());
    }

    #[test]
    fn a_file_that_is_not_there_or_not_toml_is_refused() {
        let mut case = Case::new();
        case.has_file = true;
        assert!(case.refusal().contains("selkie.toml: cannot be read: "), "{}", case.refusal());
        let case = Case::new().file("[database]\nurl = \"postgres://u:hunter2@h/d\nx = 1\n");
        assert!(case.refusal().contains("selkie.toml:2: not valid TOML: "), "{}", case.refusal());
        assert!(!case.refusal().contains("hunter2"));
        let case = Case::new().file("[server]\nworkers = 99999999999999999999\n");
        assert!(case.refusal().contains("selkie.toml:2: "), "{}", case.refusal());
    }

    #[test]
    fn a_mistyped_database_never_becomes_a_new_file() {
        let urls =
            ["./selkie.db", "selkie.db", "/var/lib/selkie.db", "postgre://u@h/d", "mysql://u@h/d", "postgres://h"];
        for url in
            urls.into_iter().chain(["sqlite:", "sqlite::memory:", "sqlite:a.db?mode=ro", "sqlite:/no/such/folder/a.db"])
        {
            let refusal = Case::new().variable("SELKIE_DATABASE_URL", url).refusal();
            assert!(refusal.contains("SELKIE_DATABASE_URL: database.url: "), "{url}: {refusal}");
        }
        for name in ["SELKIE_DATABASE_URI", "SELKIE_DATABSE_URL", "SELKIE_DATABASE__URI", "SELKIE_DATABASEURL"] {
            let refusal = Case::new().variable(name, "postgres://u@h/d").refusal();
            assert!(refusal.contains("did you mean"), "{name}: {refusal}");
        }
        let one = Case::new().variable("SELKIE_DATABASE_URL", "postgres://u@h/one");
        let refusal = one.variable("SELKIE_DATABASE__URL", "postgres://u@h/two").refusal();
        assert!(refusal.contains("the same setting as SELKIE_DATABASE_URL"), "{refusal}");
        let refusal = Case::new().variable("SELKIE_DATABASE_URL", "").refusal();
        assert!(refusal.contains("set but empty"), "{refusal}");
    }

    #[test]
    fn variables_that_are_not_ours_are_let_be() {
        let names =
            ["SELKIE_SERVICE_HOST", "SELKIE_PORT_8040_TCP_ADDR", "SELKIE_PORT", "SELKIE_TEST_S3_ENDPOINT", "HOME"];
        let case = names.iter().fold(Case::new(), |case, name| case.variable(name, "x"));
        case.variable("SELKIE_CONFIG", "selkie.toml").load().unwrap();
    }

    #[test]
    fn a_secret_comes_from_its_file_without_the_last_newline() {
        let case = Case::new().secret("token", "a-token-of-sixteen\n");
        let token = case.path("token").display().to_string();
        let case = case.file(&format!("[metrics]\ntoken_file = \"{token}\""));
        let config = case.load().unwrap();
        assert_eq!(config.metrics.token.as_ref().unwrap().reveal(), "a-token-of-sixteen");
        assert_eq!(value(&config.describe(), "metrics.token"), ("set", format!("content of {token}").as_str()));
    }

    #[test]
    fn the_later_of_a_secret_and_its_file_wins_and_both_at_once_are_refused() {
        let case = Case::new().secret("url", "postgres://from-file@h/d\n");
        let url_file = case.path("url").display().to_string();
        let both = case.file(&format!("[database]\nurl = \"postgres://inline@h/d\"\nurl_file = \"{url_file}\""));
        assert!(both.refusal().contains("selkie.toml:3: database.url_file: database.url is set as well"));

        let inline =
            both.file("[database]\nurl = \"postgres://inline@h/d\"").variable("SELKIE_DATABASE_URL_FILE", &url_file);
        assert!(inline.load().unwrap().database.url.unwrap().reveal().contains("from-file"));

        let mut file = inline.file(&format!("[database]\nurl_file = \"{url_file}\""));
        file.environment.clear();
        let overruled = file.variable("SELKIE_DATABASE_URL", "postgres://from-variable@h/d");
        assert!(overruled.load().unwrap().database.url.unwrap().reveal().contains("from-variable"));
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_file_that_others_can_read_is_refused() {
        for mode in [0o640, 0o620, 0o604, 0o644, 0o622] {
            let case = Case::new().secret("key", "x").mode("key", mode);
            let key = case.path("key").display().to_string();
            let refusal = case.variable("SELKIE_MASTER_KEY_FILE", &key).refusal();
            assert!(refusal.contains("can be read by others") && refusal.contains("chmod 600"), "{refusal}");
        }
        for (name, content) in [("missing", None), ("empty", Some("\n"))] {
            let case = content.into_iter().fold(Case::new(), |case, content| case.secret(name, content));
            let path = case.path(name).display().to_string();
            let refusal = case.variable("SELKIE_MASTER_KEY_FILE", &path).refusal();
            assert!(refusal.contains("SELKIE_MASTER_KEY_FILE: master_key.key_file: "), "{refusal}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_configuration_or_refused(
            file in "(\\[(server|blobs|blobs.s3|limits|\"server.x\")\\]\n)?(listen|workers|kind|s3|dir|\"a.b\") = .{0,12}\n.*",
            name in "SELKIE_(SERVER|BLOBS|BLOBS__S3|DATA)__(LISTEN|WORKERS|S3|S3__BUCKET|DIR|_|)",
            text in "\\{\\}|\\{bucket = \"x\"\\}|\\[\\]|[0-9]{1,20}|.*",
        ) {
            let _either = Case::new().file(&file).variable(&name, &text).load();
        }
    }

    #[test]
    fn no_secret_is_shown_by_anything() {
        let canary = "canary-Zq7-hunter2";
        let mut case = Case::new()
            .variable("SELKIE_DATABASE_URL", &format!("postgres://u:{canary}@h/d"))
            .variable("SELKIE_DATABASE__PASSWORD", canary)
            .variable("SELKIE_DATABASE__MIGRATION_URL", &format!("postgres://m:{canary}@h/d"))
            .variable("SELKIE_MASTER_KEY", canary)
            .variable("SELKIE_BLOBS__S3__ACCESS_KEY", canary)
            .variable("SELKIE_BLOBS__S3__SECRET_KEY", canary)
            .variable("SELKIE_METRICS__TOKEN", canary);
        let config = case.load().unwrap();
        let shown = config.describe();
        assert!(SECRETS.iter().all(|key| value(&shown, key).0 == "set"));
        assert!(!format!("{config:?} {shown:?}").contains(canary));
        assert!(!serde_json::to_string(&(&config, &shown)).unwrap().contains(canary));
        for wrong in ["mysql://u:canary-Zq7-hunter2@h/d", "canary-Zq7-hunter2", "sqlite:/canary-Zq7-hunter2?x"] {
            case.environment[0].1 = wrong.into();
            assert!(!case.refusal().contains(canary), "{}", case.refusal());
        }
        let as_number = Case::new().file("[metrics]\ntoken = 4711471147114711");
        assert!(!as_number.refusal().contains("4711"), "{}", as_number.refusal());
    }

    #[test]
    fn a_password_apart_from_the_url_is_put_into_it() {
        let case = Case::new()
            .variable("SELKIE_DATABASE_URL", "postgres://selkie@db.example/selkie?sslmode=require")
            .variable("SELKIE_DATABASE__PASSWORD", "p@ss/word");
        let super::super::DatabaseTarget::Postgres { url, .. } = case.load().unwrap().database() else {
            panic!("PostgreSQL")
        };
        assert_eq!(url.reveal(), "postgres://selkie:p%40ss%2Fword@db.example/selkie?sslmode=require");
    }
}
