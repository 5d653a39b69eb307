//! Vaults of one account written into another one's, on the same server or on another: how people move.
//!
//! Owns which vault becomes which, what of a record goes along, and what is counted as left. Nothing is taken away from
//! where it was, and no request is made: both accounts come into step as they always do.

mod decide;

use crate::account::{Account, OWN_APP};
use crate::error::{Error, Result};
use crate::records::view;
use crate::store::vaults::{NewWrite, Shelf, Together};
use crate::sync::replica::read_state;
use crate::sync::room::Room;
use crate::sync::settle::Settle;
use crate::vault::{INFO_RECORD, Role, Vault, VaultState, VaultSummary};
use decide::Judge;
pub(crate) use decide::is_ahead;
use selkie_protocol::id::{RecordId, VaultId};
use selkie_protocol::record::RecordBody;
use std::collections::BTreeSet;
use std::sync::Arc;

/// How many records are looked at in one go.
const PAGE: usize = 1_000;
/// Records are written down together up to so many versions, or so much.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 4 << 20;
/// How often something is looked at again because somebody else was faster.
const TRIES: usize = 16;

/// What became of the vaults of an account: see [`Account::carry_over`].
#[derive(Debug, Default)]
pub struct CarriedOver {
    /// Those that this person owns, by their id here, and how it went; among them those that are damaged here, so that
    /// nobody can tell whose they are. One that does not go holds up no other.
    pub vaults: Vec<(VaultId, Result<CarriedVault>)>,
    /// Those of other people, in which this person is a member. Whoever owns one carries it over and lets the members
    /// in again; [`Vault::carry_over`] makes a copy of one's own.
    pub of_others: Vec<VaultId>,
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
    /// Records that said the same there already, or have gone on there.
    pub same: u64,
    /// Records that were left as they are there: they cannot be read there, or lie in another collection, or there is
    /// no room for what they say here.
    pub kept: u64,
    /// Records and changes that cannot be read on this device, so that what they say did not go along.
    pub unreadable: u64,
    /// Conflicts that nobody has decided: what stands for now went along, with the other side as its history.
    pub undecided: u64,
    /// Records of which this device does not keep what they say: [`Vault::fetch_all_records`] brings them, and then
    /// this can be done again.
    pub elsewhere: u64,
}

impl CarriedVault {
    /// Whether all that the vault says is in the other one now.
    pub fn is_whole(&self) -> bool {
        (self.kept, self.unreadable, self.undecided, self.elsewhere) == (0, 0, 0, 0)
    }
}

impl Account {
    /// Writes all vaults that this person owns into vaults of another account, which may be one on another server: that
    /// is how to move. Records keep their ids, their stamps and their history as far as this device has it. Nothing is
    /// taken away from this account, and no request is made: sync this account before, so that everything is here, and
    /// the other before and after. Members are let in again by whoever owns a vault. Where a person is still to decide
    /// a conflict, what was written last goes along as what the record says, and the other side as its history.
    ///
    /// Done twice it changes nothing; done again later, from this device or from another, what was written since goes
    /// along. Where a record has gone on over there as well, the collection's strategy decides, and what does not stand
    /// is in the record's history; it is not listed among the conflicts, which are those of one log.
    ///
    /// ```no_run
    /// # async fn example(old: selkie_client::Account) -> selkie_client::Result<()> {
    /// use selkie_client::{Client, SignUp};
    /// let client = Client::builder("https://sync.new.example.org").store("journal.selkie").build()?;
    /// let new = client.sign_up("ana@example.org", "correct horse", SignUp::default()).await?.account;
    /// old.sync().await?;
    /// for (vault, carried) in old.carry_over(&new).await?.vaults {
    ///     println!("{vault}: {} records went along", carried?.records);
    /// }
    /// new.sync().await?;
    /// # Ok(()) }
    /// ```
    pub async fn carry_over(&self, to: &Account) -> Result<CarriedOver> {
        must_be_another(self, to)?;
        let mut carried = CarriedOver::default();
        let mut taken = taken_by_vaults_of(self, to).await?;
        for summary in self.vaults().await?.into_iter().filter(|summary| !summary.is_own) {
            match (&summary.role, &summary.state) {
                (Some(Role::Owner), _) | (_, VaultState::Damaged(_)) => {
                    let outcome = self.carry_one(&summary, to, &mut taken).await;
                    carried.vaults.push((summary.id, outcome));
                }
                _ => carried.of_others.push(summary.id),
            }
        }
        Ok(carried)
    }

    async fn carry_one(
        &self,
        from: &VaultSummary,
        to: &Account,
        taken: &mut BTreeSet<VaultId>,
    ) -> Result<CarriedVault> {
        if let VaultState::Damaged(what) = &from.state {
            return Err(Error::damaged(what.clone()));
        }
        let gone = || Error::NotPossible("the vault was forgotten on this device meanwhile".into());
        let vault = self.vault_by_id(from.id).await?.ok_or_else(gone)?;
        let home = home_of(from, to, taken).await?;
        taken.insert(home.id());
        vault.write_into(&home).await
    }
}

impl Vault {
    /// Writes this vault into one of another account, as [`Account::carry_over`] does with all that this person owns:
    /// into the one it went to before, else into one of its name and app that is this person's alone and in which no
    /// other vault went, else into a new one.
    pub async fn carry_over(&self, to: &Account) -> Result<CarriedVault> {
        let account = self.here().account;
        must_be_another(&account, to)?;
        if self.glance().await?.app == OWN_APP {
            return Err(Error::NotPossible("this is the account's own vault: every account has one".into()));
        }
        let mut taken = taken_by_vaults_of(&account, to).await?;
        account.carry_one(&self.summary().await?, to, &mut taken).await
    }

    async fn write_into(&self, home: &Vault) -> Result<CarriedVault> {
        home.check_may_write().await?;
        let here = home.here();
        let (there, into) = (here.room, home.id());
        let context = here.account.context();
        let (settle, now_ms) = (context.sync.settle.clone(), context.now_ms());
        let carried = self.read(move |room, vault| over(room, vault, &there, &into, &settle, now_ms)).await?;
        tracing::info!(from = %carried.from, to = %carried.to, records = carried.records, "a vault was carried over");
        Ok(carried)
    }
}

fn must_be_another(from: &Account, to: &Account) -> Result<()> {
    match from.user_id() == to.user_id() {
        true => Err(Error::ApiMisuse("vaults are carried over into another account".into())),
        false => Ok(()),
    }
}

/// Under this setting the other account keeps on all its devices which vault one of ours became.
fn setting(from: &VaultId) -> String {
    format!("selkie/carried/{from}")
}

async fn became(from: &VaultId, to: &Account) -> Result<Option<VaultId>> {
    let said = to.settings().get(&setting(from)).await?;
    Ok(said.and_then(|bytes| Some(VaultId(bytes.try_into().ok()?))))
}

/// Where vaults of this account have gone before: what is said of one is not mixed with what is said of another.
async fn taken_by_vaults_of(account: &Account, to: &Account) -> Result<BTreeSet<VaultId>> {
    let mut taken = BTreeSet::new();
    for summary in account.vaults().await? {
        taken.extend(became(&summary.id, to).await?);
    }
    Ok(taken)
}

/// Two vaults of one name stay two, and nobody else reads what was not shared with them.
async fn home_of(from: &VaultSummary, to: &Account, taken: &BTreeSet<VaultId>) -> Result<Vault> {
    if let Some(id) = became(&from.id, to).await? {
        let home = to.vault_by_id(id).await?;
        let not_here = "the vault it went into before is not on this device: sync the other account first";
        return home.ok_or_else(|| Error::NotPossible(not_here.into()));
    }
    let Some(name) = from.name.clone() else {
        return Err(Error::NotPossible("not even the vault's name can be read here yet: sync it first".into()));
    };
    let of_this_name = to.vaults().await?.into_iter().find(|summary| {
        let is_mine_alone = summary.role == Some(Role::Owner) && summary.members == 1;
        is_mine_alone && !taken.contains(&summary.id) && summary.app == from.app && summary.name.as_ref() == Some(&name)
    });
    let home = match of_this_name {
        Some(summary) => to.vault_by_id(summary.id).await?,
        None => None,
    };
    let home = match home {
        Some(home) => home,
        None => to.create_vault(&name, &from.app).await?,
    };
    to.settings().put(&setting(&from.id), home.id().as_bytes()).await?;
    Ok(home)
}

/// Blocks on the disk.
fn over(
    from: &Room,
    vault: &VaultId,
    to: &Room,
    into: &VaultId,
    settle: &Arc<dyn Settle>,
    now_ms: u64,
) -> Result<CarriedVault> {
    let mut carrying = Carrying {
        from,
        to,
        judge: Judge { settle: settle.as_ref(), now_ms },
        unread_there: to.store.aside(into)?.into_iter().map(|aside| aside.record).collect(),
        waiting: Vec::new(),
        versions: 0,
        bytes: 0,
        met: BTreeSet::new(),
        carried: CarriedVault {
            from: *vault,
            to: *into,
            records: 0,
            same: 0,
            kept: 0,
            unreadable: 0,
            undecided: 0,
            elsewhere: 0,
        },
    };
    for shelf in from.store.shelves(vault)? {
        carrying.shelf(&shelf)?;
    }
    carrying.finish()
}

/// What a record said here, oldest first, and in the end what it says.
type Chain = Vec<RecordBody>;

/// On the way from one vault to the other.
struct Carrying<'a> {
    from: &'a Room,
    to: &'a Room,
    judge: Judge<'a>,
    /// A later version of the app may have written what cannot be read there: nothing is written over it.
    unread_there: BTreeSet<RecordId>,
    /// What goes next, and about how much that is.
    waiting: Vec<(RecordId, Chain)>,
    versions: usize,
    bytes: usize,
    /// A record lies on two shelves where people disagree of which collection it is.
    met: BTreeSet<RecordId>,
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
                if record == INFO_RECORD || !self.met.insert(record) {
                    continue;
                }
                let Some(chain) = self.chain(&record)? else { continue };
                self.versions += chain.len();
                self.bytes += chain.iter().map(|body| body.data.0.len()).sum::<usize>();
                self.waiting.push((record, chain));
                if self.versions >= BATCH || self.bytes >= BATCH_BYTES {
                    self.put()?;
                }
            }
        }
    }

    /// Of one moment: what is pushed or pulled meanwhile would be in none of the answers, or in the wrong order.
    fn chain(&mut self, record: &RecordId) -> Result<Option<Chain>> {
        let (room, vault) = (self.from, self.carried.from);
        for _ in 0..TRIES {
            let seen = room.store.stamp(&vault)?;
            let versions = room.store.versions(&vault, record)?;
            let pending = room.store.pending_of(&vault, record)?;
            let last = view::read(room, &vault, record);
            if room.store.stamp(&vault)? != seen {
                continue;
            }
            let last = match last {
                Ok(Some(last)) => last,
                // There is a count of its own for what is elsewhere.
                Ok(None) | Err(Error::NotHere { .. }) => return Ok(None),
                Err(Error::Damaged { .. }) => {
                    self.carried.unreadable += 1;
                    return Ok(None);
                }
                Err(error) => return Err(error),
            };
            let in_the_log = versions.into_iter().filter(|version| Some(version.change) != last.change);
            let sealed =
                in_the_log.map(|version| version.sealed).chain(pending.into_iter().map(|pending| pending.sealed));
            let mut chain = Vec::new();
            for sealed in sealed {
                match view::open(room, &vault, record, &sealed) {
                    Ok(body) => chain.push(body),
                    Err(_) => self.carried.unreadable += 1,
                }
            }
            if chain.last() != Some(&*last.body) {
                chain.push(RecordBody::clone(&last.body));
            }
            return Ok(Some(chain));
        }
        Err(view::busy())
    }

    fn put(&mut self) -> Result<()> {
        let (waiting, into) = (std::mem::take(&mut self.waiting), self.carried.to);
        (self.versions, self.bytes) = (0, 0);
        for _ in 0..TRIES {
            let seen = self.to.store.stamp(&into)?;
            let (mut writes, mut records, mut kept) = (Vec::new(), 0, 0);
            for (record, chain) in &waiting {
                match self.writes(record, chain)? {
                    Some(of_record) if of_record.is_empty() => {}
                    Some(of_record) => {
                        records += 1;
                        writes.extend(of_record);
                    }
                    None => kept += 1,
                }
            }
            if !writes.is_empty() {
                if self.to.store.write_down(&into, Some(seen), &writes, Together::EachAlone)?.is_none() {
                    continue;
                }
                self.to.wrote(&into);
            }
            self.carried.records += records;
            self.carried.kept += kept;
            self.carried.same += waiting.len() as u64 - records - kept;
            return Ok(());
        }
        Err(view::busy())
    }

    /// `None`: it is left as it is there.
    fn writes(&self, record: &RecordId, chain: &[RecordBody]) -> Result<Option<Vec<NewWrite>>> {
        let (to, into) = (self.to, &self.carried.to);
        if self.unread_there.contains(record) {
            return Ok(None);
        }
        let there = match view::read(to, into, record) {
            Ok(there) => there.map(|seen| seen.body),
            Err(Error::Damaged { .. } | Error::NotHere { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let moves = |theirs: &RecordBody| {
            !theirs.deleted && chain.last().is_some_and(|last| last.collection != theirs.collection)
        };
        if there.as_deref().is_some_and(moves) {
            return Ok(None);
        }
        let history = || {
            let versions = to.store.versions(into, record)?.into_iter().map(|version| version.sealed);
            let pending = to.store.pending_of(into, record)?.into_iter().map(|pending| pending.sealed);
            // One that is damaged is not the one that is sought.
            Ok(versions.chain(pending).filter_map(|sealed| view::open(to, into, record, &sealed).ok()).collect())
        };
        let bodies = self.judge.writes(chain, there.as_deref(), history)?;
        let sealed = bodies.iter().map(|body| view::sealed(to, into, *record, body)).collect::<Result<Vec<_>>>();
        match sealed {
            Err(Error::ApiMisuse(_) | Error::NotPossible(_)) => Ok(None),
            sealed => sealed.map(Some),
        }
    }

    fn finish(mut self) -> Result<CarriedVault> {
        self.put()?;
        self.to.store.flush()?;
        let (store, vault) = (&self.from.store, &self.carried.from);
        let counts = store.counts(vault)?;
        let mut not_come = 0;
        if let Some(outline) = store.outline(vault)? {
            not_come = read_state(vault, &outline.state, &self.from.at_rest)?.0.missing.len() as u64;
        }
        self.carried.unreadable += counts.aside + not_come;
        self.carried.elsewhere = counts.elsewhere;
        self.carried.undecided = store.settlements(vault)?.iter().filter(|one| one.asked.is_some()).count() as u64;
        Ok(self.carried)
    }
}
