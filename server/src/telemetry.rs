//! What the server tells its operator: log lines and metrics.
//!
//! Owns the form of a log line and the list of fields that may stand in one. Everything not on the list is dropped,
//! and so is the free text of other people's code, at every level: no login name, address, token or body can get into
//! a log by being forgotten. Knows nothing about what is logged.

use crate::config::{Log, LogFormat};
use crate::secrets::MasterKey;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::Value;
use std::error::Error;
use std::fmt;
use std::io::{IsTerminal as _, Write as _};
use std::sync::OnceLock;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer};
use uuid::Uuid;

/// The fields that may stand in a log line. To add one is a decision: can its value ever tell who somebody is, where
/// they are, or what they sent?
const ALLOWED: &[&str] = &[
    // of a request
    "request_id",
    "route",
    "method",
    "status",
    "ms",
    "bytes_in",
    "bytes_out",
    "code",
    "retry_after",
    "action",
    "who",
    // of whom: a salted hash, and the tenant's number
    "account",
    "tenant",
    // of ourselves
    "version",
    "listen",
    "public_url",
    "server_name",
    "backend",
    "database",
    "data_dir",
    "file",
    "key_source",
    "fingerprint",
    "incarnation",
    "schema",
    "migrations",
    "workers",
    "signal",
    "location",
    "job",
    "count",
    "kind",
    "connections",
    "reason",
    // the chain of an error, as `chain` writes it
    "error",
];

/// Targets whose message we wrote ourselves, as fixed text. Of all others only the place is told.
const OURS: &str = "selkie";

/// How the target ends that calls it an error when somebody hung up or sent what is no HTTP. That is the world's doing.
const BROKEN_OFF: &str = "http::h1::dispatcher";

/// Sends log lines to standard error, as configured. Once in a process.
pub fn init(log: &Log) -> Result<(), Box<dyn Error + Send + Sync>> {
    let terminal = std::io::stderr().is_terminal();
    let form = match log.format {
        LogFormat::Auto if !terminal => Form::Json,
        LogFormat::Json => Form::Json,
        LogFormat::Auto | LogFormat::Pretty => {
            Form::Pretty { colour: terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()) }
        }
    };
    let lines = Lines { form, make_writer: std::io::stderr };
    tracing_subscriber::registry().with(EnvFilter::try_new(&log.level)?).with(lines).try_init()?;
    Ok(())
}

/// A panic leaves its place in the log and nothing of its message, which may quote what somebody sent.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(location, "a bug: the server panicked");
    }));
}

/// The process's metrics, installed at the first call.
pub fn metrics() -> &'static PrometheusHandle {
    static METRICS: OnceLock<PrometheusHandle> = OnceLock::new();
    METRICS.get_or_init(|| {
        PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)
            .expect("there are buckets")
            .install_recorder()
            .expect("nobody else installs a recorder")
    })
}

/// Upper bounds of the histograms of time.
const SECONDS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// An account as it may appear in the log: the same for the same account, and of no use without the master key.
pub fn account_tag(key: &MasterKey, account: Uuid) -> String {
    let [a, b, c, d, e, f, ..] = key.log_mac(account.as_bytes());
    format!("{:012x}", u64::from_be_bytes([0, 0, a, b, c, d, e, f]))
}

/// An error with everything behind it, on one line.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl fmt::Display + 'a {
    struct Chain<'a>(&'a (dyn Error + 'static));
    impl fmt::Display for Chain<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            let mut said = self.0.to_string();
            f.write_str(&said)?;
            let mut next = self.0.source();
            while let Some(error) = next {
                // Many errors repeat their source in their own text.
                let text = error.to_string();
                if !said.contains(&text) {
                    write!(f, ": {text}")?;
                }
                said = text;
                next = error.source();
            }
            Ok(())
        }
    }
    Chain(error)
}

/// The layer that writes lines.
struct Lines<W> {
    form: Form,
    make_writer: W,
}

#[derive(Clone, Copy)]
enum Form {
    Json,
    Pretty { colour: bool },
}

/// Fields that passed the list, each once.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl<S, W> Layer<S> for Lines<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + 'static,
{
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        if metadata.target().ends_with(BROKEN_OFF) {
            return LevelFilter::current() >= LevelFilter::DEBUG;
        }
        is_ours(metadata) || *metadata.level() <= Level::WARN
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(of_span) = span.extensions().get::<Fields>() {
                for (name, value) in &of_span.0 {
                    if !fields.0.iter().any(|(known, _)| known == name) {
                        fields.0.push((name, value.clone()));
                    }
                }
            }
        }
        let metadata = event.metadata();
        let message = if is_ours(metadata) {
            let mut message = Message::default();
            event.record(&mut message);
            event.record(&mut fields);
            message.0
        } else {
            // `name` is fixed when the code is compiled: it names the file and the line.
            format!("(text withheld) {}", metadata.name())
        };
        let line = match self.form {
            Form::Json => json(metadata, &message, fields),
            Form::Pretty { colour } => pretty(metadata, &message, fields, colour).into_bytes(),
        };
        // A log that cannot be written has nowhere to say so.
        let _lost = self.make_writer.make_writer_for(metadata).write_all(&line);
    }
}

fn is_ours(metadata: &Metadata<'_>) -> bool {
    metadata.target().starts_with(OURS)
}

/// There is a line for every request, so it is written into one piece of memory.
fn json(metadata: &Metadata<'_>, message: &str, fields: Fields) -> Vec<u8> {
    const USUAL: usize = 384;
    let mut line = Vec::with_capacity(USUAL);
    let mut member = |begins: &[u8], name: &str, value: &dyn Fn(&mut Vec<u8>) -> serde_json::Result<()>| {
        // Names are written in the code, and need no escapes.
        line.extend_from_slice(begins);
        line.extend_from_slice(name.as_bytes());
        line.extend_from_slice(b"\":");
        value(&mut line).expect("memory takes everything, and every value has a form in JSON");
    };
    member(b"{\"", "time", &|line| serde_json::to_writer(line, &now()));
    member(b",\"", "level", &|line| serde_json::to_writer(line, metadata.level().as_str()));
    member(b",\"", "target", &|line| serde_json::to_writer(line, metadata.target()));
    member(b",\"", "message", &|line| serde_json::to_writer(line, message));
    for (name, value) in &fields.0 {
        member(b",\"", name, &|line| serde_json::to_writer(line, value));
    }
    line.extend_from_slice(b"}\n");
    line
}

fn pretty(metadata: &Metadata<'_>, message: &str, fields: Fields, colour: bool) -> String {
    let paint = |code: u8, text: &str| if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let level = match *metadata.level() {
        Level::ERROR => paint(31, "ERROR"),
        Level::WARN => paint(33, "WARN "),
        Level::INFO => paint(32, "INFO "),
        other => paint(34, &format!("{:5}", other.as_str())),
    };
    let time = now();
    let mut line = format!("{} {level} {}", paint(2, time.get(11..19).unwrap_or(&time)), harmless(message));
    for (name, value) in fields.0 {
        let shown = match value {
            Value::String(text) => harmless(&text),
            other => other.to_string(),
        };
        line = line + " " + &paint(2, &format!("{name}=")) + &shown;
    }
    line + "\n"
}

/// Without control characters, which a terminal would obey and a reader take for a new line.
fn harmless(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn now() -> String {
    let mut text = String::new();
    // Fails only if the clock is before 1970; then there is no time to tell.
    let _unknown = SystemTime.format_time(&mut Writer::new(&mut text));
    text
}

impl Fields {
    fn keep(&mut self, field: &Field, value: impl FnOnce() -> Value) {
        if !ALLOWED.contains(&field.name()) {
            return;
        }
        match self.0.iter_mut().find(|(name, _)| *name == field.name()) {
            Some((_, known)) => *known = value(),
            None => self.0.push((field.name(), value())),
        }
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.keep(field, || format!("{value:?}").into());
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.keep(field, || value.into());
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.keep(field, || value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.keep(field, || value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.keep(field, || value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.keep(field, || value.into());
    }
}

/// The text of an event of ours.
#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edges::Edges;
    use std::io;
    use std::sync::{Arc, Mutex};
    use tracing::{debug, error, info, info_span, trace, warn};

    const CANARY: &str = "canary-ana@example.org-203.0.113.7";

    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Everything that is written while `story` runs, at the most talkative level.
    fn written(form: Form, story: impl FnOnce()) -> String {
        let paper = Paper::default();
        let pen = paper.clone();
        let lines = Lines { form, make_writer: move || pen.clone() };
        let subscriber = tracing_subscriber::registry().with(EnvFilter::new("trace")).with(lines);
        tracing::subscriber::with_default(subscriber, story);
        let bytes = paper.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    /// Logs a canary in every way there is, and lines that shall come out.
    fn a_careless_story() {
        let span = info_span!("request", request_id = "r-1", login_name = CANARY, status = tracing::field::Empty);
        let _in_request = span.enter();
        span.record("status", 200);
        span.record("login_name", CANARY);
        info!(route = "/v1/auth/login", ms = 1.5, bytes_in = 7u64, address = CANARY, "request done");
        warn!(token = %CANARY, "a warning");
        error!(body = ?CANARY.as_bytes(), headers = ?[CANARY], "an error");
        debug!(password = CANARY, query = CANARY);
        trace!(name = CANARY, peer = CANARY, user = CANARY);
        // What a library of others might say.
        error!(target: "tokio_postgres::connection", "could not bind {CANARY}");
        warn!(target: "rustls", error = CANARY, status = CANARY, "{CANARY}");
        info!(target: "hyper::client", "connecting to {CANARY}");
        debug!(target: "aws_config", error = CANARY, "{CANARY}");
    }

    #[test]
    fn nothing_comes_out_that_is_not_on_the_list() {
        for form in [Form::Json, Form::Pretty { colour: true }, Form::Pretty { colour: false }] {
            let text = written(form, a_careless_story);
            assert!(!text.contains("canary") && !text.contains("203.0.113.7"), "{text}");
            for expected in ["request done", "/v1/auth/login", "a warning", "an error", "r-1"] {
                assert!(text.contains(expected), "{expected} is missing in {text}");
            }
        }
    }

    #[test]
    fn a_line_of_json_carries_the_fields_of_its_request() {
        let text = written(Form::Json, a_careless_story);
        let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "request done");
        assert_eq!(line["request_id"], "r-1");
        assert_eq!((&line["status"], &line["ms"], &line["bytes_in"]), (&200.into(), &1.5.into(), &7.into()));
        assert!(line["time"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn of_other_peoples_code_only_warnings_are_told_and_only_from_where() {
        let text = written(Form::Json, a_careless_story);
        let others: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .filter(|line: &Value| !line["target"].as_str().unwrap().starts_with(OURS))
            .collect();
        let targets: Vec<_> = others.iter().map(|line| line["target"].as_str().unwrap()).collect();
        assert_eq!(targets, ["tokio_postgres::connection", "rustls"]);
        assert!(others[0]["message"].as_str().unwrap().starts_with("(text withheld) event "));
        assert_eq!(others[1].get("error"), None);
        assert_eq!(others[1]["status"], 200, "the status of our own request, not theirs");
    }

    #[test]
    fn a_line_stays_one_line() {
        for form in [Form::Json, Form::Pretty { colour: false }] {
            let text = written(form, || error!(error = "first\nsecond\x1b[2J", "stays"));
            assert_eq!(text.lines().count(), 1, "{text:?}");
            assert!(!text.contains('\x1b'), "{text:?}");
        }
    }

    #[test]
    fn a_chain_tells_every_cause_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("the database cannot be opened")]
        struct Outer(#[source] Repeats);
        #[derive(Debug, thiserror::Error)]
        #[error("selkie.db: {0}")]
        struct Repeats(#[source] io::Error);
        let error = Outer(Repeats(io::Error::other("disk full")));
        assert_eq!(chain(&error).to_string(), "the database cannot be opened: selkie.db: disk full");
    }

    #[test]
    fn an_account_has_one_tag_under_one_key() {
        let key = |byte| MasterKey::new([byte; 32], Edges::real().dice);
        let account = Uuid::from_u128(7);
        assert_eq!(account_tag(&key(1), account), account_tag(&key(1), account));
        assert_ne!(account_tag(&key(1), account), account_tag(&key(2), account));
        assert_ne!(account_tag(&key(1), account), account_tag(&key(1), Uuid::from_u128(8)));
        assert_eq!(account_tag(&key(1), account).len(), 12);
    }

    #[test]
    fn metrics_are_installed_once_and_rendered() {
        let handle = metrics();
        ::metrics::histogram!("selkie_test_seconds").record(0.003);
        assert!(metrics().render().contains("selkie_test_seconds_bucket{le=\"0.005\"} 1"), "{}", handle.render());
    }

    /// The list is for fields; the message beside them is ours as long as nothing is woven into it.
    #[test]
    fn no_message_of_ours_weaves_a_value_into_its_text() {
        let mut woven = Vec::new();
        let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
        let mut calls = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
                for level in ["trace!(", "debug!(", "info!(", "warn!(", "error!("] {
                    for (start, _) in code.match_indices(level) {
                        let call = &code[start..code[start..].find(");").map_or(code.len(), |end| start + end)];
                        let strings = call.split('"').skip(1).step_by(2);
                        calls += 1;
                        if strings.into_iter().any(|string| string.contains('{')) {
                            woven.push(format!("{}: {call}", path.display()));
                        }
                    }
                }
            }
        }
        assert_eq!(woven, [""; 0]);
        assert!(calls > 0, "there are calls to look at");
    }
}
