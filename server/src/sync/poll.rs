//! What is new in all vaults of an account, at the price of a look into memory.
//!
//! Owns the answer to a poll and its one rule: it is never older than the question. Where this process is the only one
//! that writes, memory is as new as what anybody was told. Where others write, too, memory is used if the database says
//! that nothing has changed in it; else it is read anew. Both are asked once for all who poll at the same time.

use super::author::Reader;
use super::heads::{Standing, listed};
use super::hub::is_shown;
use super::refusal::Result;
use super::{Logs, Room};
use crate::auth::Caller;
use crate::limits::{Action, Key};
use crate::secrets::{MasterKey, Purpose};
use crate::snapshots::Snapshots;
use crate::store::{AccountNumber, Snapshot, Store, Tenant, VaultRow};
use crate::together::Together;
use futures_util::FutureExt as _;
use selkie_protocol::vault::{PollState, Polled, PolledVault};
use std::net::IpAddr;
use std::sync::Arc;

impl Logs {
    /// `GET /v1/poll?known=state`
    pub async fn poll(&self, caller: &Caller, from: IpAddr, known: Option<PollState>) -> Result<Polled> {
        self.poll_as_of(caller, from, known, None).await
    }

    /// The same, for who knows where the database was after the poll had come: it is not asked that again.
    pub async fn poll_as_of(
        &self,
        caller: &Caller,
        from: IpAddr,
        known: Option<PollState>,
        as_of: Option<&Snapshot>,
    ) -> Result<Polled> {
        self.count(caller, Action::Poll, &[Key::Address(from), Key::Account(caller.account_uuid())])?;
        let vaults = self.standings(caller, as_of).await?;
        let state = self.poll_state(caller, &vaults);
        let moved = known != Some(state);
        metrics::counter!("selkie_polls_total", "moved" => if moved { "yes" } else { "no" }).increment(1);
        let polled = |(listed, n): Standing| PolledVault { vid: listed.vid, n, app: listed.app };
        let vaults = moved.then(|| vaults.into_iter().map(polled).collect());
        Ok(Polled { incarnation: self.room.office.incarnation, state, vaults })
    }

    /// The vaults that a session is shown, and where they stand: now, or when the database was asked for its snapshot.
    pub(super) async fn standings(&self, caller: &Caller, as_of: Option<&Snapshot>) -> Result<Vec<Standing>> {
        let reader = Reader::of(caller)?;
        let mut vaults = self.room.standings_of(reader, as_of).await?;
        vaults.retain(|(listed, _)| is_shown(caller.app(), &listed.app));
        Ok(vaults)
    }

    /// In the server's own words: a client can compare it and nothing else.
    fn poll_state(&self, caller: &Caller, vaults: &[Standing]) -> PollState {
        let mut said = Vec::with_capacity(32 + 40 * vaults.len());
        said.extend_from_slice(self.room.office.incarnation.as_bytes());
        said.extend_from_slice(&caller.account().0.to_be_bytes());
        for (listed, n) in vaults {
            said.extend_from_slice(listed.vid.as_bytes());
            said.extend_from_slice(&n.to_be_bytes());
        }
        self.poll_key.state(&said)
    }
}

impl Room {
    async fn standings_of(&self, reader: Reader, as_of: Option<&Snapshot>) -> Result<Vec<Standing>> {
        let Reader { tenant, account, .. } = reader;
        let asked = match (&self.census, as_of) {
            (Some(census), None) => census.snapshots.now().await?,
            _ => None,
        };
        let snapshot = as_of.or(asked.as_ref());
        let heads = &self.office.news.heads;
        // Where others write, memory is true of a snapshot or not at all.
        let moment = match (&self.census, snapshot) {
            (Some(_), None) => None,
            _ => match heads.of(snapshot, tenant, account) {
                Ok(vaults) => return Ok(vaults),
                Err(moment) => Some(moment),
            },
        };
        let rows = match &self.census {
            Some(census) => census.rows.ask((tenant, account)).await?,
            None => self.office.vaults.vaults_of(tenant, account).await?.into(),
        };
        if let Some(moment) = moment {
            heads.learn(tenant, account, &rows, moment);
        }
        Ok(rows.iter().map(|row| (listed(tenant, row), row.head.n)).collect())
    }
}

/// The store, asked once for all who poll at the same time.
pub(super) struct Census {
    snapshots: Snapshots,
    rows: Together<(Tenant, AccountNumber), Arc<[VaultRow]>>,
}

impl Census {
    /// On the runtime of whoever opens it.
    pub(super) fn open(store: Arc<dyn Store>) -> Self {
        let snapshots = Snapshots::open(store.clone());
        let rows = Together::open(move |accounts| {
            let store = store.clone();
            async move { Ok(store.vaults_of_many(accounts).await?.into_iter().map(Into::into).collect()) }.boxed()
        });
        Census { snapshots, rows }
    }
}

/// Makes the server's own words for what somebody has seen: under a key, so that nothing can be read off them.
pub struct PollKey(aws_lc_rs::hmac::Key);

impl PollKey {
    pub fn new(master: &MasterKey) -> Self {
        let key = master.derive(Purpose::PollState);
        PollKey(aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key.as_ref()))
    }

    fn state(&self, said: &[u8]) -> PollState {
        let tag = aws_lc_rs::hmac::sign(&self.0, said);
        let (state, _) = tag.as_ref().split_first_chunk::<16>().expect("SHA-256 has 32 bytes");
        PollState::from(*state)
    }
}
