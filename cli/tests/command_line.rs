//! The command as a script meets it: exit codes, JSON, help, and no word of a secret.
//!
//! What the commands do with a real server is told in the workspace's own `tests`.

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn selkie(data: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_selkie"));
    command.env_remove("SELKIE_DATA").arg("--data").arg(data).args(arguments).stdin(Stdio::null());
    command.output().unwrap()
}

fn error(output: &Output) -> serde_json::Value {
    let object: serde_json::Value = serde_json::from_slice(&output.stderr).unwrap();
    object["error"].clone()
}

/// A port where nobody listens: taken for a moment, then given back.
fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn help_tells_the_exit_codes_and_every_command_helps() {
    let data = tempfile::tempdir().unwrap();
    let help = selkie(data.path(), &["--help"]);
    assert_eq!(help.status.code(), Some(0));
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(text.contains("Exit codes:") && text.contains("never from arguments"));
    for command in [&["sign-up"][..], &["device", "link"], &["devices", "revoke"], &["account", "delete"]] {
        let output = selkie(data.path(), &[command, &["--help"]].concat());
        assert!(String::from_utf8(output.stdout).unwrap().contains("Example"), "{command:?}");
    }
}

#[test]
fn what_is_not_understood_ends_with_two() {
    let data = tempfile::tempdir().unwrap();
    for arguments in [&["no-such-command"][..], &["sign-up"], &["whoami"], &["sign-in", "ana"], &["devices"]] {
        assert_eq!(selkie(data.path(), arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn nobody_to_ask_is_said_before_anything_is_done() {
    let data = tempfile::tempdir().unwrap();
    let (server, sheet) = (nobody(), data.path().join("sheet.txt"));
    let sheet = sheet.to_str().unwrap();
    let without_a_password =
        selkie(data.path(), &["sign-up", "ana", "--server", &server, "--sheet-file", sheet, "--yes"]);
    assert_eq!(without_a_password.status.code(), Some(2));
    let without_a_sheet = selkie(data.path(), &["sign-up", "ana", "--server", &server, "--password-stdin"]);
    assert_eq!(without_a_sheet.status.code(), Some(2));
    assert!(String::from_utf8(without_a_sheet.stderr).unwrap().contains("--sheet-file"));
    assert!(!Path::new(sheet).exists());
}

#[test]
fn a_server_that_is_not_there_ends_with_four_and_says_so_in_json() {
    let data = tempfile::tempdir().unwrap();
    let password = data.path().join("password");
    std::fs::write(&password, "correct horse\n").unwrap();
    let from = ["--password-file", password.to_str().unwrap()];
    let output = selkie(data.path(), &[&["--json", "sign-in", "ana", "--server", &nobody()][..], &from].concat());
    assert_eq!(output.status.code(), Some(4));
    let error = error(&output);
    assert_eq!((error["kind"].as_str(), error["exit_code"].as_u64()), (Some("offline"), Some(4)));
    assert!(!String::from_utf8(output.stderr).unwrap().contains("correct horse"));
    assert!(output.stdout.is_empty());
}

#[test]
fn secrets_do_not_go_over_plain_http() {
    let data = tempfile::tempdir().unwrap();
    let output = selkie(data.path(), &["--json", "sign-in", "ana", "--server", "http://example.org"]);
    assert_eq!((output.status.code(), error(&output)["kind"].as_str()), (Some(2), Some("bad_address")));
}

#[test]
fn a_sheet_overwrites_nothing() {
    let data = tempfile::tempdir().unwrap();
    let sheet = data.path().join("sheet.txt");
    std::fs::write(&sheet, "something of mine").unwrap();
    let to = ["--sheet-file", sheet.to_str().unwrap(), "--yes"];
    let output = selkie(data.path(), &[&["sign-up", "ana", "--server", &nobody()][..], &to].concat());
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(std::fs::read_to_string(sheet).unwrap(), "something of mine");
}

#[test]
fn a_link_code_needs_not_be_an_argument() {
    let data = tempfile::tempdir().unwrap();
    let code = data.path().join("code");
    std::fs::write(&code, "L1-0000\n").unwrap();
    let server = nobody();
    let from_a_file = ["--link-file", code.to_str().unwrap()];
    let output = selkie(data.path(), &[&["--json", "sign-in", "--server", &server][..], &from_a_file].concat());
    assert_eq!((output.status.code(), error(&output)["kind"].as_str()), (Some(6), Some("wrong_key")));
    // Without a value and without a terminal the code is read, and here there is nothing to read.
    let output = selkie(data.path(), &["--json", "sign-in", "--server", &server, "--link"]);
    assert_eq!((output.status.code(), error(&output)["kind"].as_str()), (Some(2), Some("usage")));
}

#[test]
fn forgetting_is_asked_for_or_said_twice() {
    let data = tempfile::tempdir().unwrap();
    let server = nobody();
    assert_eq!(selkie(data.path(), &["forget", "ana", "--server", &server]).status.code(), Some(2));
    let output = selkie(data.path(), &["--json", "forget", "ana", "--server", &server, "--yes"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()["forgotten"], false);
}

#[test]
fn a_file_is_verified_without_an_account_and_says_by_its_code_whether_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let nothing_here = folder.path().join("no-such-folder");
    let file = folder.path().join("file.json");
    let verify = |text: &str| {
        std::fs::write(&file, text).unwrap();
        selkie(&nothing_here, &["--json", "verify", file.to_str().unwrap()])
    };
    assert_eq!(verify("{}").status.code(), Some(2), "not a file of ours");
    let id = "A".repeat(43);
    let empty = format!(
        r#"{{"selkie":"vault-evidence","version":1,"kind":"two_heads","seen_at_ms":1,"server_name":"x","vid":"{id}",
        "expected":"a","found":"b","head_key":"{id}","heads":[],"base_n":0,"base_h":"{id}","ours":[],"served_after":0,
        "served":[],"acknowledged":null,"people":[]}}"#
    );
    let output = verify(&empty);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&said["holds"], &said["about"], &said["proofs"]),
        (&false.into(), &"vault".into(), &serde_json::json!([]))
    );
    assert!(error(&output)["message"].as_str().unwrap().contains("proves nothing"));
    let text = selkie(&nothing_here, &["verify", file.to_str().unwrap()]);
    assert!(String::from_utf8(text.stdout).unwrap().contains("not proven"));
    assert!(!nothing_here.exists());
}

#[test]
fn a_shell_completes_the_commands_without_an_account() {
    let folder = tempfile::tempdir().unwrap();
    let nothing_here = folder.path().join("no-such-folder");
    for shell in ["bash", "zsh", "fish"] {
        let output = selkie(&nothing_here, &["completion", shell]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("sign-up") && script.contains("watch") && script.contains("digests"), "{shell}");
    }
    assert_eq!(selkie(&nothing_here, &["completion", "cmd.exe"]).status.code(), Some(2));
    assert!(!nothing_here.exists());
}

/// On a device by itself: nothing here needs a server.
#[test]
fn bytes_leave_as_they_came_and_a_vault_changes_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let (data, file) = (folder.path().join("data"), folder.path().join("photo"));
    let bytes = b"\xff\xd8 \x1b[31m no text \r\n\n";
    std::fs::write(&file, bytes).unwrap();
    let done = |arguments: &[&str]| {
        let output = selkie(&data, arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    let made = done(&["--json", "vault", "create", "Journal"]);
    let vault = serde_json::from_slice::<serde_json::Value>(&made).unwrap()["vault"].as_str().unwrap().to_owned();
    let id = String::from_utf8(done(&["put", "Journal", "photos", "--file", file.to_str().unwrap()])).unwrap();
    assert_eq!(done(&["get", "Journal", id.trim()]), bytes);
    done(&["vault", "rename", &vault, "Diary"]);
    assert_eq!(done(&["get", "Diary", id.trim()]), bytes);
    assert_eq!(selkie(&data, &["get", "Journal", id.trim()]).status.code(), Some(2));
}
