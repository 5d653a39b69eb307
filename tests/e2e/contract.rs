//! Whether the server and its OpenAPI document say the same, asked by a program that has read the document and nothing
//! else: schemathesis, which makes up requests from it, in order and out of order, and holds every answer against it.
//!
//! It is not a part of this tree, so these are not among the usual tests: `./check contract` looks whether it is there.
//! It speaks JSON only. The other face is told by `bad_input` and by the decoders' tests in `protocol`.

use std::path::Path;
use std::process::{Command, Stdio};

use selkie_e2e::caller::Caller;
use selkie_e2e::device::Device;
use selkie_e2e::message::{Headers, header};
use selkie_e2e::network::Network;
use selkie_e2e::premises::Premises;
use selkie_e2e::program::ServerProcess;
use selkie_e2e::server::without_limits;
use selkie_protocol::Face;
use serde_json::{Value, json};

/// Not that an answer is long in coming, but that none comes.
const ANSWER_LIMIT: &str = "10";
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
/// What ends the session, or never ends by itself, would leave the rest of the walk before closed doors.
const ENDS_THE_WALK: &str = "^/v1/(events|auth/sign-out|account/delete)$";
const ENDS_THE_SESSION: &str = "^/v1/(auth/sign-out|account/delete)$";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs schemathesis: ./check contract"]
async fn the_server_does_what_its_document_says_whoever_asks() {
    let premises = Premises::embedded();
    let network = Network::new().await;
    let settings = format!("[registration]\npolicy = \"open\"\n{}", without_limits());
    let server = ServerProcess::start(&premises, &network, &settings, &[]).await;
    let url = format!("http://{}", server.address());
    let folder = tempfile::tempdir().unwrap();

    let stranger = Walk { url: &url, document: document(&url, &[]).await, folder: folder.path(), bearer: None };
    stranger.run(&["--phases", "fuzzing", "--max-examples", "5"]).await;

    // Somebody with keys, a device and a vault, so that there is something to be answered.
    let laptop = Device::new(&network.url(), "laptop");
    let (_, account) = laptop.makes_an_account("ana@example.org", "seven silver swans").await;
    let vault = account.create_vault("Journal", "org.example.journal").await.unwrap();
    account.sync().await.unwrap();
    let requests = network.exchanges().into_iter().rev().map(|exchange| exchange.request);
    let bearer = requests.filter_map(|request| header(&request.headers, "authorization")).next().unwrap();
    let signed_in = vec![("authorization".to_owned(), bearer.clone().into_bytes())];
    let ana: Value = Caller::new(&url, Face::Json).send("GET", "/v1/account", &signed_in, Vec::new()).await.read();
    let hers = [("vid", json!(vault.id().to_string())), ("uid", ana["uid"].clone())];
    let bearer = Some(format!("Authorization: {bearer}"));
    let known = Walk { url: &url, document: document(&url, &hers).await, folder: folder.path(), bearer };
    let before = answers_of(&server).len();
    known.run(&["--phases", "coverage,fuzzing", "--max-examples", "5", "--exclude-path-regex", ENDS_THE_WALK]).await;
    known.run(&["--phases", "fuzzing", "--max-examples", "5", "--include-path-regex", ENDS_THE_SESSION]).await;

    let answers = answers_of(&server).split_off(before);
    for route in ["/v1/account", "/v1/poll", "/v1/vaults/{vid}/log", "/v1/vaults/{vid}/head", "/v1/people/{uid}/log"] {
        assert!(answers.contains(&(route.to_owned(), 200)), "{route} was never answered: the walk saw closed doors");
    }
    assert!(answers.iter().any(|(route, status)| route == "/v1/auth/sign-out" && *status == 200), "it never left");
}

/// One walk of schemathesis through all that the document lists.
struct Walk<'a> {
    url: &'a str,
    document: Value,
    folder: &'a Path,
    bearer: Option<String>,
}

impl Walk<'_> {
    #[allow(clippy::print_stdout, reason = "how much was asked is a finding, not a condition")]
    async fn run(&self, more: &[&str]) {
        let document = self.folder.join("document.json");
        std::fs::write(&document, self.document.to_string()).unwrap();
        let mut command = Command::new("python3");
        command.args(["-m", "schemathesis.cli", "run"]).arg(&document).args(["--url", self.url, "--checks", CHECKS]);
        // The same requests every time; only values that it finds in answers may differ.
        command.args(["--generation-deterministic", "--continue-on-failure"]);
        command.args(["--warnings", "off", "--no-color", "--request-timeout", ANSWER_LIMIT]).args(more);
        command.args(self.bearer.iter().flat_map(|bearer| ["--header", bearer.as_str()]));
        // It leaves notes of its own beside where it is started.
        command.current_dir(self.folder).stdin(Stdio::null());
        let walk = tokio::task::spawn_blocking(move || command.output());
        let said = walk.await.unwrap().expect("python3 can be started");
        let text = String::from_utf8_lossy(&said.stdout);
        assert!(said.status.success(), "{text}{}", String::from_utf8_lossy(&said.stderr));
        let made_up = text.lines().find_map(|line| line.split_once(" generated, ")).expect("it says how many").0;
        let made_up = made_up.trim();
        println!("{made_up} requests made up, and every answer as it is described");
    }
}

/// The server's document without what schemathesis cannot speak, and with these in the place of any path's parameters.
async fn document(url: &str, known: &[(&str, Value)]) -> Value {
    let answer = Caller::new(url, Face::Json).send("GET", "/v1/openapi.json", &Headers::new(), Vec::new()).await;
    let mut document: Value = serde_json::from_slice(&answer.body).unwrap();
    adapt(&mut document, known);
    document
}

fn adapt(part: &mut Value, known: &[(&str, Value)]) {
    match part {
        Value::Object(members) => {
            if let Some(Value::Object(kinds)) = members.get_mut("content") {
                kinds.retain(|kind, _| !kind.ends_with("cbor"));
            }
            if members.get("in").is_some_and(|place| place == "path") {
                let value = known.iter().find(|(name, _)| members["name"] == *name);
                members.extend(value.map(|(_, value)| ("schema".to_owned(), json!({ "enum": [value] }))));
            }
            members.values_mut().for_each(|member| adapt(member, known));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| adapt(item, known)),
        _ => {}
    }
}

/// Which routes have answered what so far.
fn answers_of(server: &ServerProcess) -> Vec<(String, u64)> {
    let log = server.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter_map(|line| Some((line["route"].as_str()?.to_owned(), line["status"].as_u64()?))).collect()
}
