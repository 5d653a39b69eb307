//! What is new in all vaults of an account, at the price of a look into memory.
//!
//! Owns the answer to a poll and its one rule: it is never older than the question. Where this process is the only one
//! that writes, memory is as new as what anybody was told. Where others write, too, the store is asked: once for all
//! who ask at the same time, and whoever comes while it is being asked waits for the next time.

use super::author::Reader;
use super::heads::{Standing, listed};
use super::hub::is_shown;
use super::refusal::{Refusal, Result};
use super::{Logs, Room};
use crate::auth::Caller;
use crate::limits::{Action, Key};
use crate::secrets::{MasterKey, Purpose};
use crate::store::{AccountNumber, Tenant, VaultRow, Vaults};
use futures_util::future::join_all;
use selkie_protocol::vault::{PollState, Polled, PolledVault};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// How many accounts are asked about at once.
const AT_ONCE: usize = 64;

type Account = (Tenant, AccountNumber);
type Rows = Result<Arc<[VaultRow]>>;

impl Logs {
    /// `GET /v1/poll?known=state`
    pub async fn poll(&self, caller: &Caller, from: IpAddr, known: Option<PollState>) -> Result<Polled> {
        self.count(caller, Action::Poll, &[Key::Address(from), Key::Account(caller.account_uuid())])?;
        let vaults = self.standings(caller).await?;
        let state = self.poll_state(caller, &vaults);
        let moved = known != Some(state);
        metrics::counter!("selkie_polls_total", "moved" => if moved { "yes" } else { "no" }).increment(1);
        let polled = |(listed, n): Standing| PolledVault { vid: listed.vid, n, app: listed.app };
        let vaults = moved.then(|| vaults.into_iter().map(polled).collect());
        Ok(Polled { incarnation: self.room.office.incarnation, state, vaults })
    }

    /// The vaults that a session is shown, and where they stand.
    pub(super) async fn standings(&self, caller: &Caller) -> Result<Vec<Standing>> {
        let reader = Reader::of(caller)?;
        let mut vaults = self.room.standings_of(reader).await?;
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
    async fn standings_of(&self, reader: Reader) -> Result<Vec<Standing>> {
        let Reader { tenant, account, .. } = reader;
        let rows = match (&self.office.news.heads, &self.census) {
            (Some(heads), _) => {
                if let Some(vaults) = heads.of(tenant, account) {
                    return Ok(vaults);
                }
                let moment = heads.moment();
                let rows = self.office.vaults.vaults_of(tenant, account).await?;
                heads.learn(tenant, account, &rows, moment);
                rows.into()
            }
            (None, Some(census)) => census.vaults_of((tenant, account)).await?,
            (None, None) => self.office.vaults.vaults_of(tenant, account).await?.into(),
        };
        Ok(rows.iter().map(|row| (listed(tenant, row), row.head.n)).collect())
    }
}

/// Asks the store for everybody who asks at the same time.
pub(super) struct Census(mpsc::UnboundedSender<(Account, oneshot::Sender<Rows>)>);

impl Census {
    pub(super) fn open(vaults: Arc<dyn Vaults>) -> Self {
        let (questions, waiting) = mpsc::unbounded_channel();
        tokio::spawn(take(vaults, waiting));
        Census(questions)
    }

    async fn vaults_of(&self, account: Account) -> Rows {
        let (answer, answered) = oneshot::channel();
        self.0.send((account, answer)).map_err(|_| Refusal::Overloaded)?;
        answered.await.map_err(|_| Refusal::Overloaded)?
    }
}

async fn take(vaults: Arc<dyn Vaults>, mut waiting: mpsc::UnboundedReceiver<(Account, oneshot::Sender<Rows>)>) {
    let mut round = Vec::new();
    while waiting.recv_many(&mut round, AT_ONCE).await > 0 {
        let mut askers: HashMap<Account, Vec<oneshot::Sender<Rows>>> = HashMap::new();
        for (account, answer) in round.drain(..) {
            askers.entry(account).or_default().push(answer);
        }
        join_all(askers.into_iter().map(|(account, answers)| {
            let vaults = vaults.clone();
            async move {
                let rows = vaults.vaults_of(account.0, account.1).await;
                let rows: Rows = rows.map(Into::into).map_err(Refusal::from);
                for answer in answers {
                    let copy = rows.as_ref().map(Arc::clone).map_err(Refusal::shared);
                    // Whoever went away has no use for it.
                    let _gone = answer.send(copy);
                }
            }
        }))
        .await;
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
