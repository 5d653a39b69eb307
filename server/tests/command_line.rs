//! The server as an operator meets it: what it prints, and with which code it ends.

use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// A server that runs until the test is over, however it ends.
struct Running {
    child: Child,
    greeting: String,
    port: u16,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        let _ended = self.child.kill();
        let _waited = self.child.wait();
    }
}

fn command(folder: &Path, listen: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selkie-server"));
    command.env_clear().env("SELKIE_SERVER__LISTEN", listen).current_dir(folder).args(arguments);
    command
}

fn run(folder: &Path, listen: &str, arguments: &[&str]) -> Output {
    command(folder, listen, arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Starts a server and waits for the last line of its greeting.
fn serve(folder: &Path) -> Running {
    let mut child = command(folder, "127.0.0.1:0", &[]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut greeting = String::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        greeting += &format!("{line}\n");
        if line.contains("sign-up") {
            break;
        }
    }
    let url = greeting.split("http://127.0.0.1:").nth(1).unwrap_or_else(|| panic!("{greeting}"));
    let port = url.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap();
    Running { child, greeting, port }
}

#[test]
fn nothing_configured_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let running = serve(folder.path());
    assert!(running.greeting.contains("./selkie-data/selkie.db"), "{}", running.greeting);
    assert!(running.greeting.contains("--invite I1-"), "{}", running.greeting);
    let listen = format!("127.0.0.1:{}", running.port);
    let health = run(folder.path(), &listen, &["healthcheck"]);
    assert_eq!(health.status.code(), Some(0), "{}", text(&health.stderr));
    let doctor = run(folder.path(), &listen, &["doctor", "--json"]);
    let findings: Vec<Value> = serde_json::from_slice(&doctor.stdout).unwrap();
    assert!(findings.iter().all(|finding| finding["fine"] == true), "{findings:?}");
    drop(running);
    assert_eq!(run(folder.path(), &listen, &["healthcheck"]).status.code(), Some(3));
}

#[test]
fn a_hangup_ends_nothing_and_a_request_to_end_is_obeyed_in_good_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut running = serve(folder.path());
    let listen = format!("127.0.0.1:{}", running.port);
    let process = rustix::process::Pid::from_child(&running.child);
    rustix::process::kill_process(process, rustix::process::Signal::HUP).unwrap();
    assert_eq!(run(folder.path(), &listen, &["healthcheck"]).status.code(), Some(0));
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    assert_eq!(running.child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_deployment_migrates_first_and_serves_then() {
    let folder = tempfile::tempdir().unwrap();
    let listen = "127.0.0.1:0";
    assert_eq!(run(folder.path(), listen, &["migrate", "--check"]).status.code(), Some(3));
    assert_eq!(run(folder.path(), listen, &["migrate"]).status.code(), Some(0));
    assert_eq!(run(folder.path(), listen, &["migrate", "--check"]).status.code(), Some(0));
    assert!(serve(folder.path()).greeting.contains("Selkie is ready."));
}

#[test]
fn tenants_and_invitations_are_made_shown_and_ended() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str]| run(folder.path(), "127.0.0.1:0", arguments);
    assert_eq!(run(&["migrate"]).status.code(), Some(0));
    assert_eq!(run(&["tenant", "create", "acme", "--name", "Acme"]).status.code(), Some(0));
    let twice = run(&["tenant", "create", "acme"]);
    assert_eq!((twice.status.code(), text(&twice.stderr)), (Some(1), "selkie-server: the name is taken\n"));
    let invite = run(&["account", "invite", "--tenant", "acme", "--json"]);
    let invite: Value = serde_json::from_slice(&invite.stdout).unwrap();
    assert!(invite["invite"].as_str().unwrap().starts_with("I1-"));
    let list = || -> Vec<Value> {
        serde_json::from_slice(&run(&["invitation", "list", "--tenant", "acme", "--json"]).stdout).unwrap()
    };
    let number = list()[0]["number"].to_string();
    assert_eq!(run(&["invitation", "revoke", &number, "--tenant", "acme"]).status.code(), Some(0));
    assert_eq!(list()[0]["revoked"], true);
    assert_eq!(run(&["tenant", "suspend", "acme"]).status.code(), Some(0));
    let tenants: Vec<Value> = serde_json::from_slice(&run(&["tenant", "list", "--json"]).stdout).unwrap();
    let suspended = |slug: &str| tenants.iter().find(|tenant| tenant["slug"] == slug).unwrap()["suspended"].clone();
    assert_eq!((suspended("acme"), suspended("home")), (true.into(), false.into()));
    assert_eq!(run(&["tenant", "suspend", "nobody"]).status.code(), Some(1));
}

#[test]
fn a_wrong_word_is_told_from_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(folder.path(), "127.0.0.1:0", &["tenant", "nonsense"]).status.code(), Some(2));
    let wrong = run(folder.path(), "not an address", &["config", "check"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(text(&wrong.stderr).contains("SELKIE_SERVER__LISTEN"), "{}", text(&wrong.stderr));
    assert_eq!(run(folder.path(), "127.0.0.1:0", &["config", "check"]).status.code(), Some(0));
}

#[test]
fn an_operator_in_the_wrong_folder_makes_nothing_there() {
    let folder = tempfile::tempdir().unwrap();
    for command in [["tenant", "list"], ["account", "list"], ["invitation", "list"], ["tenant", "create"]] {
        let mut command = command.to_vec();
        if command[1] == "create" {
            command.push("acme");
        }
        let told = run(folder.path(), "127.0.0.1:0", &command);
        assert_eq!(told.status.code(), Some(3), "{command:?}");
        assert!(text(&told.stderr).contains("there is no database at"), "{}", text(&told.stderr));
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_invitation_to_a_closed_house_says_so() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(run(folder.path(), "127.0.0.1:0", &["migrate"]).status.code(), Some(0));
    let invite = |policy| {
        let mut command = command(folder.path(), "127.0.0.1:0", &["account", "invite"]);
        text(&command.env("SELKIE_REGISTRATION__POLICY", policy).output().unwrap().stdout).to_owned()
    };
    assert!(invite("closed").contains("registration is closed"));
    assert!(!invite("invite").contains("closed"));
}

#[test]
fn a_backup_is_made_beside_a_running_server_and_restored_into_an_empty_folder_only() {
    let folder = tempfile::tempdir().unwrap();
    let running = serve(folder.path());
    let nowhere = "127.0.0.1:0";
    let made = run(folder.path(), nowhere, &["backup", "create", "saved"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    assert!(text(&made.stdout).contains("The master key is not in it"), "{}", text(&made.stdout));
    assert!(!folder.path().join("saved/master.key").exists());
    let again = run(folder.path(), nowhere, &["backup", "create", "saved"]);
    assert_eq!(again.status.code(), Some(1), "never over another");
    drop(running);

    let over = run(folder.path(), nowhere, &["backup", "restore", "saved"]);
    assert!(text(&over.stderr).contains("is there already"), "{}", text(&over.stderr));
    let elsewhere = tempfile::tempdir().unwrap();
    let saved = folder.path().join("saved");
    let restore = ["backup", "restore", saved.to_str().unwrap()];
    let without_key = run(elsewhere.path(), nowhere, &restore);
    assert!(text(&without_key.stderr).contains("master key"), "{}", text(&without_key.stderr));
    std::fs::create_dir(elsewhere.path().join("selkie-data")).unwrap();
    let key = "selkie-data/master.key";
    std::fs::copy(folder.path().join(key), elsewhere.path().join(key)).unwrap();
    let restored = run(elsewhere.path(), nowhere, &restore);
    assert!(restored.status.success(), "{}", text(&restored.stderr));
    let again = serve(elsewhere.path());
    assert!(again.greeting.contains("Selkie is ready"));

    let mut bent = std::fs::read(saved.join("selkie.db")).unwrap();
    bent[5_000] ^= 1;
    std::fs::write(saved.join("selkie.db"), bent).unwrap();
    let third = tempfile::tempdir().unwrap();
    let damaged = run(third.path(), nowhere, &restore);
    assert!(text(&damaged.stderr).contains("is not what it was"), "{}", text(&damaged.stderr));
}
