//! People and what they hold in their hands: a device with its own data folder, on which the SDK runs.
//!
//! Knows nothing about servers but their address.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use selkie_client::{
    Account, Client, ClientBuilder, EmergencySheet, KeyMode, Recover, SignIn, SignUp, SignedIn, TokioRuntime,
};
use tempfile::TempDir;

use crate::canary::Canaries;
use crate::clock::ManualClock;
use crate::disk::Disk;

/// One device. It derefs to its SDK client.
#[derive(Debug)]
pub struct Device {
    server_url: String,
    name: &'static str,
    tenant: Option<&'static str>,
    folder: Arc<TempDir>,
    clock: ManualClock,
    /// From how many entries on a vault is begun with a checkpoint, if not from the usual number.
    checkpoints_from: Option<u64>,
    app: App,
    /// Whose calls may fail, if it is not the usual store.
    disk: Option<Disk>,
    client: Client,
}

/// What an app says of its client.
type App = fn(ClientBuilder) -> ClientBuilder;

/// Somebody with an account, and what they wrote down.
#[derive(Clone, Debug)]
pub struct Person {
    pub login_name: String,
    pub password: String,
    pub sheet: EmergencySheet,
}

impl Device {
    pub fn new(server_url: &str, name: &'static str) -> Self {
        let folder = Arc::new(tempfile::tempdir().expect("there is room for temporary files"));
        let clock = ManualClock::at_present();
        let app: App = |client| client;
        let client = client(server_url, None, &folder, &clock, None, app, None);
        let server_url = server_url.to_owned();
        Device { server_url, name, tenant: None, folder, clock, checkpoints_from: None, app, disk: None, client }
    }

    /// Another program on the same device, with the same folder and the same app.
    pub fn another_program(&self) -> Self {
        let (server_url, folder, clock) = (self.server_url.clone(), self.folder.clone(), self.clock.clone());
        let mut program =
            Device { server_url, folder, clock, disk: self.disk.clone(), client: self.client.clone(), ..*self };
        program.restart();
        program
    }

    pub fn of_tenant(mut self, tenant: &'static str) -> Self {
        self.tenant = Some(tenant);
        self.restart();
        self
    }

    pub fn beginning_with_checkpoints_from(mut self, entries: u64) -> Self {
        self.checkpoints_from = Some(entries);
        self.restart();
        self
    }

    /// With an app on it that declares its collections so.
    pub fn with_app(mut self, app: App) -> Self {
        self.app = app;
        self.restart();
        self
    }

    /// With vaults on this disk, which lies in the device's folder.
    pub fn with_disk(mut self, disk: &Disk) -> Self {
        self.disk = Some(disk.clone());
        self.restart();
        self
    }

    /// As after the app was closed and opened again: nothing is left but the data folder.
    pub fn restart(&mut self) {
        let Device { server_url, tenant, folder, clock, checkpoints_from, app, disk, .. } = &*self;
        self.client = client(server_url, *tenant, folder, clock, *checkpoints_from, *app, disk.as_ref());
    }

    /// This device's own clock.
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(crate) fn share_folder(&self) -> Arc<TempDir> {
        self.folder.clone()
    }

    pub async fn makes_an_account(&self, login_name: &str, password: &str) -> (Person, Account) {
        self.makes_an_account_with(login_name, password, KeyMode::SecretKey, None)
            .await
            .expect("a sign-up that is in order")
    }

    pub async fn makes_an_account_with(
        &self,
        login_name: &str,
        password: &str,
        key_mode: KeyMode,
        invite: Option<&str>,
    ) -> selkie_client::Result<(Person, Account)> {
        let options = SignUp { invite: invite.map(Into::into), key_mode, device_name: self.name.to_owned() };
        let made = self.client.sign_up(login_name, password, options).await?;
        made.account.confirm_sheet(made.sheet.recovery_key()).await?;
        let person = Person { login_name: login_name.to_owned(), password: password.to_owned(), sheet: made.sheet };
        Ok((person, made.account))
    }

    /// With the password and, where there is one, the Secret Key.
    pub async fn signs_in(&self, person: &Person) -> selkie_client::Result<SignedIn> {
        self.signs_in_with_code(person, None).await
    }

    pub async fn signs_in_with_code(&self, person: &Person, code: Option<&str>) -> selkie_client::Result<SignedIn> {
        let options =
            SignIn { second_factor: code.map(Into::into), device_name: self.name.to_owned(), ..SignIn::default() };
        self.client.sign_in(&person.login_name, &person.password, person.sheet.secret_key(), options).await
    }

    /// With the recovery key: a new password, and a new sheet.
    pub async fn recovers(&self, person: &Person, new_password: &str) -> selkie_client::Result<(Person, SignedIn)> {
        let options = Recover { device_name: self.name.to_owned(), remove_second_factors: true, ..Recover::default() };
        let recovery_key = person.sheet.recovery_key();
        let mut signed_in = self.client.recover(&person.login_name, recovery_key, new_password, options).await?;
        let sheet = signed_in.sheet.take().expect("a recovery makes a new sheet");
        signed_in.account.confirm_sheet(sheet.recovery_key()).await?;
        Ok((Person { password: new_password.to_owned(), sheet, ..person.clone() }, signed_in))
    }

    /// By link from a device that is signed in, whose owner says yes.
    pub async fn is_linked_by(&self, from: &Account, password: &str) -> selkie_client::Result<Account> {
        let initiator = from.link_device().await?;
        let code = initiator.code().to_owned();
        let newcomer = self.client.link(&code, self.name).await?;
        let request = initiator.wait_for_request().await?;
        assert_eq!(request.fingerprint(), newcomer.fingerprint());
        request.approve(password).await?;
        newcomer.finish().await
    }
}

impl Deref for Device {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

impl Person {
    /// Everything that only this person may know.
    pub fn secrets(&self) -> Canaries {
        let canaries = Canaries::default()
            .text("the password", &self.password)
            .text("the recovery key", self.sheet.recovery_key())
            .text("the recovery key without dashes", &self.sheet.recovery_key().replace('-', ""));
        match self.sheet.secret_key() {
            Some(key) => {
                canaries.text("the Secret Key", key).text("the Secret Key without dashes", &key.replace('-', ""))
            }
            None => canaries,
        }
    }
}

fn client(
    server_url: &str,
    tenant: Option<&str>,
    folder: &TempDir,
    clock: &ManualClock,
    checkpoints_from: Option<u64>,
    app: App,
    disk: Option<&Disk>,
) -> Client {
    let builder = Client::builder(server_url);
    let builder = match checkpoints_from {
        Some(entries) => builder.begin_with_checkpoint_from(entries),
        None => builder,
    };
    let builder = match tenant {
        Some(tenant) => builder.tenant(tenant),
        None => builder,
    };
    let builder = match disk {
        Some(disk) => builder.vault_stores(disk.in_folder(folder.path())),
        None => builder,
    };
    app(builder)
        .store(folder.path())
        .clock(Arc::new(clock.clone()))
        .runtime(Arc::new(Hasty))
        .build()
        .expect("the address of the test server is one")
}

/// Waits less than it is asked to where it looks again and again: what is waited for in tests is a step away. How long
/// an answer may take is not shortened: on a busy machine that would cut off honest ones.
#[derive(Clone, Copy, Debug)]
struct Hasty;

/// What the SDK waits for longer than this is an answer.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl selkie_client::Runtime for Hasty {
    fn run_apart(&self, job: Box<dyn FnOnce() + Send>) {
        TokioRuntime.run_apart(job);
    }

    fn spawn(&self, task: selkie_client::Task) {
        TokioRuntime.spawn(task);
    }

    fn sleep<'a, 'b>(&'a self, duration: Duration) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + 'b>>
    where
        'a: 'b,
    {
        let looks_again = duration < LONGEST_PAUSE;
        Box::pin(tokio::time::sleep(if looks_again { duration.min(Duration::from_millis(10)) } else { duration }))
    }
}

impl selkie_client::Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        u64::try_from(ManualClock::now_ms(self)).unwrap_or(0)
    }
}
