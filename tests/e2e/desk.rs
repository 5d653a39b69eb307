//! A desk with a few devices on it, and the two programs as somebody uses them there.
//!
//! Owns the arguments that every call has, and how an end is judged.

use std::path::{Path, PathBuf};

use selkie_e2e::network::Network;
use selkie_e2e::program::{self, Speaking};
use serde_json::Value;

pub(crate) const ANA: &str = "ana@example.org";
const PASSWORD: &str = "seven silver swans sail";

/// Where somebody sits and types.
pub(crate) struct Desk {
    folder: tempfile::TempDir,
    config: PathBuf,
    /// A file with the password.
    pub(crate) password: String,
}

/// How a command ended.
pub(crate) struct Ended {
    what: String,
    output: std::process::Output,
}

impl Desk {
    pub(crate) fn new(config: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut desk = Desk { folder, config: config.to_owned(), password: String::new() };
        desk.password = desk.write("password", PASSWORD);
        desk
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_str().unwrap().to_owned()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, format!("{text}\n")).unwrap();
        path
    }

    /// Ana makes her account, on this device.
    pub(crate) async fn signs_up(&self, device: &str, network: &Network) {
        let sheet = self.path(&format!("sheet-{device}.txt"));
        let sign_up = [
            "sign-up",
            ANA,
            "--server",
            &network.url(),
            "--password-file",
            &self.password,
            "--device-name",
            device,
            "--sheet-file",
            &sheet,
            "--yes",
        ];
        self.selkie(device, &sign_up).await.succeeds();
    }

    /// Ana signs in on this device, with the sheet that was made on the other one.
    pub(crate) async fn signs_in(&self, device: &str, first: &str, network: &Network) {
        let sheet = std::fs::read_to_string(self.path(&format!("sheet-{first}.txt"))).unwrap();
        let secret_key = sheet.split_whitespace().find(|word| word.starts_with("S1-")).unwrap();
        let secret_key = self.write("secret-key", secret_key);
        let sign_in = [
            "sign-in",
            ANA,
            "--server",
            &network.url(),
            "--secret-key-file",
            &secret_key,
            "--device-name",
            device,
            "--password-file",
            &self.password,
        ];
        self.selkie(device, &sign_in).await.succeeds();
    }

    /// `selkie`, on one of the devices.
    pub(crate) async fn selkie(&self, device: &str, arguments: &[&str]) -> Ended {
        let data = self.path(device);
        self.run("selkie", [&["--json", "--data", &data], arguments].concat(), &[]).await
    }

    /// The same, as it speaks to a person.
    pub(crate) async fn in_words(&self, device: &str, arguments: &[&str]) -> Ended {
        let data = self.path(device);
        self.run("selkie", [&["--data", &data], arguments].concat(), &[]).await
    }

    /// The same, for a command that goes on until it is interrupted.
    pub(crate) fn selkie_that_goes_on(&self, device: &str, arguments: &[&str]) -> Speaking {
        let data = self.path(device);
        let arguments = [&["--json", "--data", &data], arguments].concat();
        let arguments: Vec<String> = arguments.iter().map(|text| (*text).to_owned()).collect();
        program::speak("selkie", &arguments, self.folder.path())
    }

    /// `selkie-server`, by its operator.
    pub(crate) async fn server(&self, arguments: &[&str]) -> Ended {
        self.server_with(arguments, &[]).await
    }

    pub(crate) async fn server_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
        let config = self.config.to_str().unwrap().to_owned();
        self.run("selkie-server", [&["--json", "--config", &config], arguments].concat(), variables).await
    }

    async fn run(&self, program: &'static str, arguments: Vec<&str>, variables: &[(&str, &str)]) -> Ended {
        let owned = |text: &&str| (*text).to_owned();
        let what = format!("{program} {}", arguments.join(" "));
        let arguments: Vec<String> = arguments.iter().map(owned).collect();
        let variables: Vec<(String, String)> =
            variables.iter().map(|(name, value)| (owned(name), owned(value))).collect();
        let folder = self.folder.path().to_owned();
        let run = tokio::task::spawn_blocking(move || program::run(program, &arguments, &variables, &folder));
        Ended { what, output: run.await.unwrap() }
    }
}

impl Ended {
    /// What it answered.
    pub(crate) fn succeeds(self) -> Value {
        let said = String::from_utf8_lossy(&self.output.stdout);
        let complained = String::from_utf8_lossy(&self.output.stderr);
        assert!(self.output.status.success(), "{}: {:?}\n{said}\n{complained}", self.what, self.output.status);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("{}: not JSON ({error}):\n{said}", self.what))
    }

    /// Everything that it said, when all went well.
    pub(crate) fn says(self) -> String {
        let [said, complained] = [&self.output.stdout, &self.output.stderr].map(|said| String::from_utf8_lossy(said));
        assert!(self.output.status.success(), "{}: {:?}\n{said}\n{complained}", self.what, self.output.status);
        format!("{said}{complained}")
    }

    pub(crate) fn fails_with(self, code: i32) {
        let complained = String::from_utf8_lossy(&self.output.stderr);
        assert_eq!(self.output.status.code(), Some(code), "{}\n{complained}", self.what);
        assert!(!complained.is_empty(), "{} said nothing", self.what);
        assert!(!complained.contains(PASSWORD));
    }
}
