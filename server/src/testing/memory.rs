//! Vaults that are remembered in memory only, in the plainest way there is.
//!
//! Owns a second reading of the store's contract, for tests of the rooms above it. People are looked up in the real
//! store.

use crate::store::*;
use async_trait::async_trait;
use selkie_protocol::id::{ChangeId, DeviceId, RecordId, UserId, VaultId};
use selkie_protocol::log::{Frame, Head};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::broadcast;

pub(crate) struct MemoryVaults {
    store: Arc<dyn Store>,
    vaults: Mutex<BTreeMap<Place, Vault>>,
    announcements: broadcast::Sender<Announcement>,
}

struct Vault {
    vid: VaultId,
    app: String,
    entries: Vec<NewEntry>,
    state: (u64, Vec<u8>),
    members: Vec<UserId>,
    wraps: Vec<WrapRow>,
    rows: Vec<Row>,
    checkpoints: Vec<CheckpointRow>,
}

struct Row {
    row: LiveRow,
    superseded_at: Option<u64>,
    no_head_from: Option<u64>,
}

impl MemoryVaults {
    pub(crate) fn new(store: Arc<dyn Store>) -> Self {
        let (announcements, _) = broadcast::channel(16);
        MemoryVaults { store, vaults: Mutex::default(), announcements }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<Place, Vault>> {
        self.vaults.lock().unwrap()
    }

    async fn user(&self, tenant: Tenant, account: AccountNumber) -> Result<Option<UserId>> {
        Ok(self.store.account(tenant, account).await?.uid)
    }

    async fn number(&self, tenant: Tenant, user: UserId) -> Result<Option<AccountNumber>> {
        let all = self.store.accounts(tenant, AccountNumber(0), 10_000).await?;
        Ok(all.into_iter().find(|row| row.uid == Some(user)).map(|row| row.account))
    }
}

impl Vault {
    fn head(&self) -> Head {
        self.entries.last().map_or(Head { n: 0, h: self.vid.0 }, |entry| entry.head)
    }

    fn row(&self, vault: VaultNumber) -> VaultRow {
        VaultRow { vault, vid: self.vid, app: self.app.clone(), head: self.head() }
    }

    fn take(&mut self, entry: NewEntry) {
        let n = entry.head.n;
        let same = |row: &Row, named: &(RecordId, ChangeId)| (row.row.record, row.row.change) == *named;
        for row in &mut self.rows {
            if entry.supersedes.iter().any(|named| same(row, named)) {
                row.superseded_at = Some(n);
            }
            if entry.no_longer_heads.iter().any(|named| same(row, named)) {
                row.no_head_from = Some(n);
            }
        }
        self.rows.retain(|row| !entry.forgets.contains(&row.row.record));
        for change in entry.adds.iter().filter(|change| change.live) {
            let NewChange { record, change, index, full, head, .. } = *change;
            let row = LiveRow { record, change, n, index, full, head: true };
            self.rows.push(Row { row, superseded_at: None, no_head_from: (!head).then_some(n) });
        }
        self.entries.push(entry);
    }

    /// As it was at a position.
    fn live(&self, n: u64) -> Vec<LiveRow> {
        let there = |row: &&Row| row.row.n <= n && row.superseded_at.is_none_or(|gone| gone > n);
        let shown = |row: &Row| LiveRow { head: row.no_head_from.is_none_or(|from| from > n), ..row.row };
        let mut live: Vec<LiveRow> = self.rows.iter().filter(there).map(shown).collect();
        live.sort_by_key(|row| (row.record, row.change));
        live
    }

    fn chain(&self, n: u64) -> Option<[u8; 32]> {
        if n == 0 { Some(self.vid.0) } else { self.entries.get(usize::try_from(n).unwrap() - 1).map(|e| e.head.h) }
    }

    fn after(&self, after: u64, limits: PageLimits, wanted: impl Fn(&NewEntry) -> bool) -> Vec<StoredFrame> {
        let (mut page, mut bytes) = (Vec::new(), 0);
        for entry in self.entries.iter().filter(|entry| entry.head.n > after && wanted(entry)) {
            bytes += entry.frame.len() as u64;
            if page.len() >= limits.entries as usize || (bytes > limits.bytes && !page.is_empty()) {
                break;
            }
            page.push(StoredFrame { n: entry.head.n, frame: entry.frame.clone() });
        }
        page
    }
}

#[async_trait]
impl Vaults for MemoryVaults {
    async fn create_vault(&self, tenant: Tenant, new: NewVault) -> Result<VaultNumber> {
        let creator = self.user(tenant, new.creator).await?.expect("vaults are made by people");
        let mut all = self.all();
        if all.values().any(|vault| vault.vid == new.vid) {
            return Err(Refused::IdTaken("vault").into());
        }
        let number = VaultNumber(i64::try_from(all.len()).unwrap() + 1);
        let mut vault = Vault {
            vid: new.vid,
            app: new.app,
            entries: Vec::new(),
            state: (1, new.state),
            members: vec![creator],
            wraps: new.wraps,
            rows: Vec::new(),
            checkpoints: Vec::new(),
        };
        vault.take(new.entry);
        all.insert(Place { tenant, vault: number }, vault);
        Ok(number)
    }

    async fn vault(&self, tenant: Tenant, vid: VaultId) -> Result<Option<VaultRow>> {
        let all = self.all();
        let found = all.iter().find(|(at, vault)| at.tenant == tenant && vault.vid == vid);
        Ok(found.map(|(at, vault)| vault.row(at.vault)))
    }

    async fn vaults_of(&self, tenant: Tenant, account: AccountNumber) -> Result<Vec<VaultRow>> {
        let Some(user) = self.user(tenant, account).await? else { return Ok(Vec::new()) };
        let all = self.all();
        let of_user = all.iter().filter(|(at, vault)| at.tenant == tenant && vault.members.contains(&user));
        Ok(of_user.map(|(at, vault)| vault.row(at.vault)).collect())
    }

    async fn positions(&self, vaults: Vec<Place>) -> Result<Vec<u64>> {
        let all = self.all();
        Ok(vaults.iter().map(|at| all.get(at).map_or(0, |vault| vault.head().n)).collect())
    }

    async fn bearings(&self, questions: Vec<Question>) -> Result<Vec<Option<Bearings>>> {
        let all = self.all();
        let answer = |question: Question| {
            let vault = all.get(&question.at)?;
            let head = vault.head();
            let since = vault.entries.iter().filter(|entry| entry.head.n > vault.state.0);
            let entries = since.map(|entry| Frame::entry_bytes(&entry.frame).unwrap().to_vec()).collect();
            let state = (question.known != Some(head.n)).then(|| (vault.state.1.clone(), entries));
            let asked = |row: &LiveRow| question.records.contains(&row.record);
            let live = vault.live(head.n).into_iter().filter(asked).collect();
            let chain = question.chain.iter().filter_map(|n| Some((*n, vault.chain(*n)?))).collect();
            Some(Bearings { head, state, live, chain })
        };
        Ok(questions.into_iter().map(answer).collect())
    }

    async fn append(&self, appends: Vec<Append>) -> Result<Vec<bool>> {
        let mut all = self.all();
        let taken = appends.into_iter().map(|append| {
            let Some(vault) = all.get_mut(&append.at).filter(|vault| vault.head() == append.before) else {
                return false;
            };
            append.entries.into_iter().for_each(|entry| vault.take(entry));
            if let Some(state) = append.state {
                vault.state = (vault.head().n, state);
            }
            if let Some(members) = append.members {
                vault.members = members;
            }
            vault.wraps.extend(append.wraps);
            true
        });
        Ok(taken.collect())
    }

    async fn entries_after(&self, at: Place, after: u64, limits: PageLimits) -> Result<(Vec<StoredFrame>, Head)> {
        let all = self.all();
        let vault = all.get(&at).ok_or(StoreError::NotFound("vault"))?;
        Ok((vault.after(after, limits, |_| true), vault.head()))
    }

    async fn controls_after(&self, at: Place, after: u64, limits: PageLimits) -> Result<Vec<StoredFrame>> {
        let all = self.all();
        let vault = all.get(&at).ok_or(StoreError::NotFound("vault"))?;
        Ok(vault.after(after, limits, |entry| entry.is_control))
    }

    async fn entry_hashes(&self, at: Place, from: u64, to: u64) -> Result<Vec<[u8; 32]>> {
        let all = self.all();
        let entries = &all.get(&at).ok_or(StoreError::NotFound("vault"))?.entries;
        Ok(entries.iter().filter(|entry| (from..=to).contains(&entry.head.n)).map(|entry| entry.hash).collect())
    }

    async fn chain_value(&self, at: Place, n: u64) -> Result<Option<[u8; 32]>> {
        Ok(self.all().get(&at).and_then(|vault| vault.chain(n)))
    }

    async fn entry_of(
        &self,
        at: Place,
        device: DeviceId,
        dev_seq: u64,
        lookback: u64,
    ) -> Result<Option<(u64, [u8; 32])>> {
        let all = self.all();
        let vault = all.get(&at).ok_or(StoreError::NotFound("vault"))?;
        let near = vault.entries.iter().rev().take(usize::try_from(lookback).unwrap());
        let found = near.into_iter().find(|entry| entry.device == device && entry.dev_seq == dev_seq);
        Ok(found.map(|entry| (entry.head.n, entry.hash)))
    }

    async fn wraps(&self, at: Place, account: AccountNumber) -> Result<Vec<WrapRow>> {
        let Some(user) = self.user(at.tenant, account).await? else { return Ok(Vec::new()) };
        let all = self.all();
        let vault = all.get(&at).ok_or(StoreError::NotFound("vault"))?;
        Ok(vault.wraps.iter().filter(|wrap| wrap.user == user).cloned().collect())
    }

    async fn add_wraps(&self, at: Place, wraps: Vec<WrapRow>) -> Result<()> {
        self.all().get_mut(&at).ok_or(StoreError::NotFound("vault"))?.wraps.extend(wraps);
        Ok(())
    }

    async fn log_of_user(
        &self,
        tenant: Tenant,
        user: UserId,
        from: u64,
        limit: u32,
    ) -> Result<Option<(Vec<Vec<u8>>, u64)>> {
        let Some(account) = self.number(tenant, user).await? else { return Ok(None) };
        Ok(Some(self.store.account_log(tenant, account, from, limit).await?))
    }

    async fn live_at(
        &self,
        at: Place,
        n: u64,
        after: Option<(RecordId, ChangeId)>,
        limit: u32,
    ) -> Result<Vec<LiveRow>> {
        let all = self.all();
        let live = all.get(&at).ok_or(StoreError::NotFound("vault"))?.live(n);
        let later = |row: &LiveRow| after.is_none_or(|after| (row.record, row.change) > after);
        Ok(live.into_iter().filter(later).take(limit as usize).collect())
    }

    async fn add_checkpoint(&self, at: Place, checkpoint: CheckpointRow, keep: u32) -> Result<Vec<u64>> {
        let mut all = self.all();
        let known = &mut all.get_mut(&at).ok_or(StoreError::NotFound("vault"))?.checkpoints;
        known.insert(0, checkpoint);
        let gone = known.split_off(known.len().min(keep as usize));
        Ok(gone.into_iter().map(|row| row.n).collect())
    }

    async fn checkpoints(&self, at: Place) -> Result<Vec<CheckpointRow>> {
        Ok(self.all().get(&at).ok_or(StoreError::NotFound("vault"))?.checkpoints.clone())
    }

    async fn checkpoints_to_prepare(&self, limit: u32) -> Result<Vec<(Place, u64)>> {
        let all = self.all();
        let newest = |vault: &Vault| vault.entries.iter().rev().find(|entry| entry.is_checkpoint).map(|e| e.head.n);
        let waiting = all.iter().filter_map(|(at, vault)| Some((*at, newest(vault)?, vault)));
        let waiting = waiting.filter(|(_, n, vault)| vault.checkpoints.iter().all(|row| row.n != *n));
        Ok(waiting.map(|(at, n, _)| (at, n)).take(limit as usize).collect())
    }

    async fn prune(&self, _: Place, _: Millis, _: Vec<u64>) -> Result<(u64, bool)> {
        Ok((0, false))
    }

    async fn vaults_to_prune(&self, _: Millis, _: Option<Place>, _: u32) -> Result<Vec<Place>> {
        Ok(Vec::new())
    }

    async fn space(&self, _: Tenant) -> Result<(u64, Option<u64>)> {
        Ok((0, None))
    }

    async fn announce(&self, _: Vec<(Place, u64)>) -> Result<()> {
        Ok(())
    }

    fn announcements(&self) -> broadcast::Receiver<Announcement> {
        self.announcements.subscribe()
    }
}
