//! A device with the app on it, and what happens to it: it writes, comes into step, is closed and opened again.
//!
//! Unlike the devices of the other stories it has the machine's clock and waits as long as it should. Whatever it is
//! told that it should not be is written down as a surprise.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use selkie_client::transport::TransportError;
use selkie_client::{
    Account, Background, Client, Digest, EmergencySheet, Error, RecordId, Result, Schedule, SignIn, SignUp, Vault,
    VaultId, VaultState,
};
use selkie_e2e::dice::Dice;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::app::{self, NOTES, Note, TALLIES, Tally};
use super::ledger::Ledger;

/// Between two things that a device does.
const PAUSE_MS: (u64, u64) = (800, 4_000);
/// So many of the newest notes are those that are written over: everybody meets everybody there.
const HOT: usize = 12;

/// Somebody with an account.
#[derive(Clone, Debug)]
pub(super) struct Person {
    pub(super) login_name: String,
    pub(super) password: String,
    pub(super) sheet: Option<EmergencySheet>,
}

/// What all devices share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) ledger: Ledger,
    surprises: Mutex<Vec<String>>,
}

#[derive(Debug)]
pub(super) struct Device {
    pub(super) number: u64,
    pub(super) person: Arc<Person>,
    shared: Arc<Shared>,
    url: String,
    folder: TempDir,
    dice: Dice,
    written: u64,
    open: Option<Open>,
}

/// The app while it runs.
#[derive(Debug)]
struct Open {
    account: Account,
    background: Option<Background>,
    _client: Client,
}

impl Shared {
    pub(super) fn surprise(&self, what: String) {
        self.surprises.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    pub(super) fn surprises(&self) -> Vec<String> {
        self.surprises.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a device may be told while there is trouble: that nothing came through, or that the server asks to be left
/// alone for a while. Anything else would send a person away, to a password or to a repair, for no reason.
fn is_expected(error: &Error) -> bool {
    !matches!(error, Error::Offline(TransportError::TooLarge)) && error.is_retryable()
}

impl Device {
    pub(super) fn new(number: u64, person: &Arc<Person>, shared: &Arc<Shared>, url: &str, seed: u64) -> Self {
        Device {
            number,
            person: person.clone(),
            shared: shared.clone(),
            url: url.to_owned(),
            folder: tempfile::tempdir().expect("there is room for temporary files"),
            dice: Dice::of(seed, 1000 + number),
            written: 0,
            open: None,
        }
    }

    fn client(&self) -> Client {
        let client = app::on(Client::builder(&self.url)).store(self.folder.path()).build();
        client.expect("the address of the test server is one")
    }

    pub(super) async fn signs_up(&mut self) -> EmergencySheet {
        let client = self.client();
        let options = SignUp { device_name: self.name(), ..SignUp::default() };
        let made = client.sign_up(&self.person.login_name, &self.person.password, options).await;
        let made = made.expect("a sign-up that is in order");
        made.account.confirm_sheet(made.sheet.recovery_key()).await.expect("the sheet is at hand");
        self.open = Some(Open { account: made.account, background: None, _client: client });
        made.sheet
    }

    /// Until it works.
    pub(super) async fn signs_in(&mut self) {
        let client = self.client();
        let secret_key = self.person.sheet.as_ref().and_then(|sheet| sheet.secret_key());
        let account = loop {
            let options = SignIn { device_name: self.name(), ..SignIn::default() };
            match client.sign_in(&self.person.login_name, &self.person.password, secret_key, options).await {
                Ok(signed_in) => break signed_in.account,
                Err(error) => self.judge("signing in", &error),
            }
            sleep(Duration::from_millis(500)).await;
        };
        self.open = Some(Open { account, background: None, _client: client });
    }

    fn name(&self) -> String {
        format!("device {}", self.number)
    }

    pub(super) fn account(&self) -> &Account {
        &self.open.as_ref().expect("it is open").account
    }

    /// The app ends, in the middle of whatever it does. What it wrote is in its folder.
    pub(super) async fn close(&mut self) {
        if let Some(Open { background: Some(background), .. }) = self.open.take() {
            background.stop().await;
        }
    }

    pub(super) async fn open(&mut self) {
        let client = self.client();
        match client.account(&self.person.login_name).await {
            Ok(Some(account)) => self.open = Some(Open { account, background: None, _client: client }),
            other => panic!("device {} does not find its account: {other:?}", self.number),
        }
    }

    /// Every third one leaves it to the background when to come into step.
    fn goes_by_itself(&mut self) {
        if self.number.is_multiple_of(3)
            && let Some(open) = &mut self.open
        {
            open.background = Some(open.account.sync_in_background(Schedule::default()));
        }
    }

    /// Does one thing after the other until it is over.
    pub(super) async fn live(mut self, mut over: watch::Receiver<bool>) -> Self {
        self.goes_by_itself();
        loop {
            let pause = Duration::from_millis(self.dice.between(PAUSE_MS.0, PAUSE_MS.1));
            if timeout(pause, over.wait_for(|over| *over)).await.is_ok() {
                return self;
            }
            match self.dice.below(20) {
                0 => {
                    self.close().await;
                    self.open().await;
                    self.goes_by_itself();
                }
                1 => {
                    // Whoever closes the app does not wait for it.
                    let broken_off = Duration::from_millis(self.dice.between(1, 300));
                    let _broken_off = timeout(broken_off, self.account().sync()).await;
                    self.close().await;
                    self.open().await;
                    self.goes_by_itself();
                }
                2..10 => self.writes().await,
                _ => tokio::select! {
                    _worked = self.syncs() => {}
                    _ = over.wait_for(|over| *over) => return self,
                },
            }
            self.looks_for_alarms().await;
        }
    }

    /// One round. Whether all of it worked.
    pub(super) async fn syncs(&self) -> bool {
        let open = self.open.as_ref().expect("it is open");
        let outcome = match &open.background {
            Some(background) => background.sync_now().await,
            None => open.account.sync().await,
        };
        match outcome {
            Ok(outcome) => {
                for error in outcome.vaults.iter().filter_map(|(_, outcome)| outcome.as_ref().err()) {
                    self.judge("coming into step", error);
                }
                outcome.first_error().is_none()
            }
            Err(error) => {
                self.judge("coming into step", &error);
                false
            }
        }
    }

    fn judge(&self, doing: &str, error: &Error) {
        if !is_expected(error) {
            self.shared.surprise(format!("device {} of {}, {doing}: {error:?}", self.number, self.person.login_name));
        }
    }

    /// What the background was told is in the status.
    async fn looks_for_alarms(&self) {
        let status = self.account().status().next().await.expect("it never ends");
        for blocked in status.blocked {
            self.shared.surprise(format!("device {} is blocked: {blocked:?}", self.number));
        }
    }

    async fn writes(&mut self) {
        if let Err(error) = self.write().await {
            // A store that is not full takes whatever may be written.
            self.shared.surprise(format!("device {}, writing: {error:?}", self.number));
        }
    }

    async fn write(&mut self) -> Result<()> {
        let mut vaults = Vec::new();
        for vault in self.vaults().await? {
            if may_write(&vault).await? {
                vaults.push(vault);
            }
        }
        let Some(vault) = self.dice.pick(&vaults) else { return Ok(()) };
        let (notes, tallies) = (vault.collection::<Note>(NOTES), vault.collection::<Tally>(TALLIES));
        let (shared, id) = (self.shared.clone(), vault.id());
        let ledger = &shared.ledger;
        let hot = ledger.newest_notes(&id, HOT);
        let note = self.dice.pick(&hot).copied();
        let tally = self.dice.pick(&ledger.tallies(&id)).copied();
        match (self.dice.below(10), note, tally) {
            (0..3, Some(note), _) => {
                let new = self.note();
                let words = new.words.clone();
                if notes.update(note, move |note| *note = new.clone()).await? {
                    ledger.noted(id, note, words);
                }
            }
            (3, Some(note), _) if notes.get(note).await?.is_some() => {
                notes.delete(note).await?;
                ledger.deleted(id, note, self.account().device_id());
            }
            (4..6, _, Some(tally)) => {
                if tallies.update(tally, |tally| tally.count += 1).await? {
                    ledger.counted(id, tally, 1);
                }
            }
            (6..8, Some(old), Some(tally)) if tallies.get(tally).await?.is_some() => {
                let (first, second) = (self.note(), self.note());
                let mut transaction = vault.transaction();
                let new = transaction.put(&notes, &first)?;
                transaction.put_as(&notes, old, &second)?;
                transaction.update(&tallies, tally, |tally| tally.count += 1);
                transaction.commit().await?;
                ledger.noted(id, new, first.words);
                ledger.noted(id, old, second.words);
                ledger.counted(id, tally, 1);
            }
            _ => {
                let note = self.note();
                let record = notes.put(&note).await?;
                ledger.noted(id, record, note.words);
            }
        }
        Ok(())
    }

    /// Nobody has written that before.
    fn note(&mut self) -> Note {
        self.written += 1;
        let padding = usize::try_from(self.dice.below(600)).expect("it is short");
        Note { words: format!("{}-{}", self.number, self.written), padding: "~".repeat(padding) }
    }

    /// Those of the app.
    pub(super) async fn vaults(&self) -> Result<Vec<Vault>> {
        let mut vaults = Vec::new();
        for summary in self.account().vaults().await?.into_iter().filter(|summary| !summary.is_own) {
            vaults.extend(self.account().vault_by_id(summary.id).await?);
        }
        Ok(vaults)
    }

    /// How all vaults are here, those of the SDK among them; and what is not in order yet.
    pub(super) async fn standing(&self) -> (BTreeMap<VaultId, Digest>, Vec<String>) {
        let (mut digests, mut not_yet) = (BTreeMap::new(), Vec::new());
        for summary in self.account().vaults().await.expect("the store can be read") {
            let vault = self.account().vault_by_id(summary.id).await.expect("the store can be read");
            let status = vault.expect("it was there").status().await.expect("the store can be read");
            let is_well = status.state == VaultState::Ready && status.pending == 0 && status.set_aside.is_empty();
            if !is_well {
                not_yet.push(format!("device {}, {:?}: {status:?}", self.number, summary.name));
            }
            digests.insert(summary.id, status.digest);
        }
        (digests, not_yet)
    }

    /// What every record of a vault says here.
    pub(super) async fn reads(&self, vault: &VaultId) -> BTreeMap<RecordId, Vec<u8>> {
        let vault = self.account().vault_by_id(*vault).await.expect("the store can be read").expect("it is here");
        let mut all = BTreeMap::new();
        for collection in [NOTES, TALLIES] {
            let records = vault.records(collection).await.expect("every record can be read");
            all.extend(records.into_iter().map(|record| (record.id, record.data)));
        }
        all
    }
}

async fn may_write(vault: &Vault) -> Result<bool> {
    let me = vault.members().await?.into_iter().find(|member| member.is_me);
    Ok(me.is_some_and(|me| !matches!(me.role, selkie_client::Role::Viewer | selkie_client::Role::Recovery)))
}
