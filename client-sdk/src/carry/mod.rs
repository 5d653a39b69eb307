//! Vaults of one account written into another one's, on the same server or on another: how people move.
//!
//! Owns which vault becomes which, what of a record goes along, and what is counted as left. Nothing is taken away from
//! where it was, and no request is made: both accounts come into step as they always do.

pub(crate) mod write;

use crate::account::{Account, OWN_APP};
use crate::archive::RESERVED;
use crate::error::{Error, Result};
use crate::records::view;
use crate::store::vaults::{Shelf, Together};
use crate::sync::room::Room;
use crate::vault::{Role, Vault, VaultState, VaultSummary};
use selkie_protocol::id::{RecordId, VaultId};
use selkie_protocol::record::RecordBody;
use std::collections::BTreeSet;
use write::{BATCH, Load, put};

/// How many records are looked at in one go.
const PAGE: usize = 1_000;
/// Versions of several records travel together up to this much.
const BATCH_BYTES: usize = 4 << 20;

/// What became of the vaults of an account: see [`Account::carry_over`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CarriedOver {
    /// Those that were written into the other account's.
    pub vaults: Vec<CarriedVault>,
    /// Those of other people, in which this person is a member. Whoever owns one carries it over and lets the members
    /// in again; [`Vault::carry_over`] makes a copy of one's own.
    pub of_others: Vec<VaultId>,
    /// Those of which not even the name can be read here: their key is not here yet, or they are damaged.
    pub not_readable: Vec<VaultId>,
}

/// What became of one vault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarriedVault {
    /// The vault that was read.
    pub from: VaultId,
    /// The other account's vault that it was written into.
    pub to: VaultId,
    /// Records to which something was written there.
    pub records: u64,
    /// Records that said the same there already, or something newer.
    pub same: u64,
    /// Records that were left as they are there: they cannot be read there, or lie in another collection.
    pub kept: u64,
    /// Changes that cannot be read on this device, so that what they say did not go along.
    pub unreadable: u64,
    /// Records of which this device does not keep what they say: [`Vault::fetch_all_records`] brings them, and then
    /// this can be done again.
    pub elsewhere: u64,
}

impl Account {
    /// Writes all vaults that this person owns into vaults of another account, which may be one on another server: that
    /// is how to move. Records keep their ids, their stamps and their history as far as this device has it. Nothing is
    /// taken away from this account, and no request is made: sync this account before, so that everything is here, and
    /// the other before and after. Members are let in again by whoever owns a vault.
    ///
    /// Done twice it changes nothing; done again later, from this device or from another, what was written since goes
    /// along, and what is newer over there stands.
    ///
    /// ```no_run
    /// # async fn example(old: selkie_client::Account) -> selkie_client::Result<()> {
    /// use selkie_client::{Client, SignUp};
    /// let client = Client::builder("https://sync.new.example.org").store("journal.selkie").build()?;
    /// let new = client.sign_up("ana@example.org", "correct horse", SignUp::default()).await?.account;
    /// old.sync().await?;
    /// let carried = old.carry_over(&new).await?;
    /// new.sync().await?;
    /// println!("{} vaults are on the new server", carried.vaults.len());
    /// # Ok(()) }
    /// ```
    pub async fn carry_over(&self, to: &Account) -> Result<CarriedOver> {
        let mut carried = CarriedOver::default();
        let mut ours = Vec::new();
        for summary in self.vaults().await?.into_iter().filter(|summary| !summary.is_own) {
            match summary {
                VaultSummary { state: VaultState::Damaged(_), .. } => carried.not_readable.push(summary.id),
                VaultSummary { role: Some(Role::Owner), name: None, .. } => carried.not_readable.push(summary.id),
                VaultSummary { role: Some(Role::Owner), .. } => ours.push(summary),
                _ => carried.of_others.push(summary.id),
            }
        }
        // Where one has gone before it goes again, whatever others are called.
        let mut taken = BTreeSet::new();
        for summary in &ours {
            taken.extend(home_before(&summary.id, to).await?.map(|vault| vault.id()));
        }
        for summary in ours {
            let home = home_of(&summary, to, &taken).await?;
            taken.insert(home.id());
            if let Some(vault) = self.vault_by_id(summary.id).await? {
                carried.vaults.push(vault.write_into(&home).await?);
            }
        }
        Ok(carried)
    }
}

impl Vault {
    /// Writes this vault into one of another account, as [`Account::carry_over`] does with all that this person owns:
    /// into the one it went to before, else into the one of its name and app, which is made if there is none.
    pub async fn carry_over(&self, to: &Account) -> Result<CarriedVault> {
        let home = home_of(&self.summary().await?, to, &BTreeSet::new()).await?;
        self.write_into(&home).await
    }

    async fn write_into(&self, home: &Vault) -> Result<CarriedVault> {
        if self.me() == home.me() {
            return Err(Error::ApiMisuse("a vault is carried over into another account".into()));
        }
        if self.glance().await?.app == OWN_APP {
            return Err(Error::NotPossible("this is the account's own vault: every account has one".into()));
        }
        home.check_may_write().await?;
        let (there, into, now_ms) = (home.here().room, home.id(), home.account.context().now_ms());
        let carried = self.read(move |room, vault| over(room, vault, &there, &into, now_ms)).await?;
        tracing::info!(from = %carried.from, to = %carried.to, records = carried.records, "a vault was carried over");
        Ok(carried)
    }
}

/// Under this setting the other account keeps on all its devices which vault one of ours became.
fn setting(from: &VaultId) -> String {
    format!("selkie/carried/{from}")
}

async fn home_before(from: &VaultId, to: &Account) -> Result<Option<Vault>> {
    let said = to.settings().get(&setting(from)).await?;
    let Some(id) = said.and_then(|bytes| Some(VaultId(bytes.try_into().ok()?))) else { return Ok(None) };
    let Some(vault) = to.vault_by_id(id).await? else { return Ok(None) };
    Ok(vault.check_may_write().await.is_ok().then_some(vault))
}

/// `taken`: what other vaults have become. Two of one name stay two.
async fn home_of(from: &VaultSummary, to: &Account, taken: &BTreeSet<VaultId>) -> Result<Vault> {
    if let Some(home) = home_before(&from.id, to).await? {
        return Ok(home);
    }
    let Some(name) = from.name.clone() else {
        return Err(Error::NotPossible("not even the vault's name can be read here yet: sync it first".into()));
    };
    let of_this_name = to.vault_of(&name, &from.app).await?;
    let home = match taken.contains(&of_this_name.id()) {
        true => to.create_vault(&name, &from.app).await?,
        false => of_this_name,
    };
    to.settings().put(&setting(&from.id), home.id().as_bytes()).await?;
    Ok(home)
}

/// Blocks on the disk.
fn over(from: &Room, vault: &VaultId, to: &Room, into: &VaultId, now_ms: u64) -> Result<CarriedVault> {
    let carried = CarriedVault { from: *vault, to: *into, records: 0, same: 0, kept: 0, unreadable: 0, elsewhere: 0 };
    let (loads, met, touched) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    let mut carrying = Carrying { from, to, now_ms, loads, bytes: 0, met, touched, offered: 0, carried };
    for shelf in from.store.shelves(vault)? {
        carrying.shelf(&shelf)?;
    }
    carrying.finish()
}

/// On the way from one vault to the other.
struct Carrying<'a> {
    from: &'a Room,
    to: &'a Room,
    now_ms: u64,
    /// What goes next, and how much of the memory it takes, about.
    loads: Vec<Load>,
    bytes: usize,
    /// A record lies on two shelves where people disagree of which collection it is.
    met: BTreeSet<RecordId>,
    touched: BTreeSet<RecordId>,
    /// Records that were read here and may be written to there.
    offered: u64,
    carried: CarriedVault,
}

impl Carrying<'_> {
    fn shelf(&mut self, shelf: &Shelf) -> Result<()> {
        let mut after = None;
        loop {
            let page = self.from.store.page(&self.carried.from, shelf, after, PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(*last);
            for record in page {
                if self.met.insert(record) {
                    self.record(record)?;
                }
            }
        }
    }

    fn record(&mut self, record: RecordId) -> Result<()> {
        let vault = self.carried.from;
        let last = match view::read(self.from, &vault, &record) {
            Ok(Some(seen)) => seen,
            // It was there a moment ago, or its own line of `elsewhere` tells of it.
            Ok(None) | Err(Error::NotHere { .. }) => return Ok(()),
            Err(Error::Damaged { .. }) => {
                self.carried.unreadable += 1;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if last.body.collection.starts_with(RESERVED) {
            return Ok(());
        }
        if !self.may_be_written(&record, &last.body)? {
            self.carried.kept += 1;
            return Ok(());
        }
        let mut bodies = Vec::new();
        let versions = self.from.store.versions(&vault, &record)?;
        let in_the_log = versions.into_iter().filter(|version| Some(version.change) != last.change);
        let pending = self.from.store.pending_of(&vault, &record)?;
        for sealed in in_the_log.map(|version| version.sealed).chain(pending.into_iter().map(|pending| pending.sealed))
        {
            match view::open(self.from, &vault, &record, &sealed) {
                Ok(body) => bodies.push(body),
                Err(_) => self.carried.unreadable += 1,
            }
        }
        if bodies.last() == Some(&*last.body) {
            bodies.pop();
        }
        self.offered += 1;
        let of_before = bodies.into_iter().map(|body| Load { record, body, last: false });
        let now = Load { record, body: RecordBody::clone(&last.body), last: true };
        for load in of_before.chain([now]) {
            self.bytes += load.body.data.0.len();
            self.loads.push(load);
        }
        if self.loads.len() < BATCH && self.bytes < BATCH_BYTES { Ok(()) } else { self.put() }
    }

    /// What cannot be read there, or not here, is not written over; and a record stays in its collection.
    fn may_be_written(&self, record: &RecordId, body: &RecordBody) -> Result<bool> {
        match view::read(self.to, &self.carried.to, record) {
            Ok(seen) => Ok(seen.is_none_or(|theirs| theirs.body.deleted || theirs.body.collection == body.collection)),
            Err(Error::Damaged { .. } | Error::NotHere { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn put(&mut self) -> Result<()> {
        let (loads, into) = (std::mem::take(&mut self.loads), self.carried.to);
        self.bytes = 0;
        put(self.to, &into, &loads, Together::EachAlone, self.now_ms, &mut self.touched)
    }

    fn finish(mut self) -> Result<CarriedVault> {
        self.put()?;
        self.to.store.flush()?;
        if !self.touched.is_empty() {
            self.to.wrote(&self.carried.to);
        }
        self.carried.unreadable += self.from.store.aside(&self.carried.from)?.len() as u64;
        self.carried.elsewhere = self.from.store.elsewhere(&self.carried.from)?.len() as u64;
        self.carried.records = self.touched.len() as u64;
        self.carried.same = self.offered - self.carried.records;
        Ok(self.carried)
    }
}
