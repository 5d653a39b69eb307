//! The account's own log, fetched and held against what this device has seen.
//!
//! Owns the pages and the alarm. What a page amounts to is decided in `trust`.

use super::Account;
use super::kept::Kept;
use crate::context::Context;
use crate::error::{Error, Misbehaviour, Result};
use crate::trust::{Evidence, grown};
use selkie_protocol::account_log::{MAX_ENTRIES, MAX_ENTRY_LENGTH};
use selkie_protocol::id::UserId;
use selkie_protocol::{Bytes, Private};

/// What one answer to "show me the log" may make this device keep in memory; no honest account comes near.
const LARGEST_LOG: usize = 16 << 20;

impl Context {
    /// Every entry from one index on, as the server shows them. Nothing is verified yet but that the pages fit
    /// together.
    pub(crate) async fn fetch_log(&self, bearer: &Private, from: u64) -> Result<Vec<Bytes>> {
        self.fetch_log_of(bearer, None, from).await
    }

    /// The same of somebody else's log.
    pub(crate) async fn fetch_log_of(&self, bearer: &Private, of: Option<&UserId>, from: u64) -> Result<Vec<Bytes>> {
        let mut entries = Vec::new();
        let mut weight = 0_usize;
        loop {
            let next = from + entries.len() as u64;
            let page = match of {
                Some(user) => self.api.log_of(bearer, user, next).await?,
                None => self.api.log(bearer, next).await?,
            };
            let contradiction = || Error::misbehaved(Misbehaviour::Contradiction);
            let too_long = page.entries.iter().any(|entry| entry.len() > MAX_ENTRY_LENGTH);
            let weighs: usize = page.entries.iter().map(|entry| entry.len()).sum();
            weight = weight.saturating_add(weighs);
            if page.from != next || page.length > MAX_ENTRIES || too_long || weight > LARGEST_LOG {
                return Err(contradiction());
            }
            let progress = !page.entries.is_empty();
            entries.extend(page.entries);
            let have = from + entries.len() as u64;
            if have >= page.length {
                return if have == page.length || entries.is_empty() { Ok(entries) } else { Err(contradiction()) };
            }
            if !progress {
                return Err(contradiction());
            }
        }
    }

    /// Our log with what the server shows beyond it, or the alarm.
    pub(crate) async fn grow(&self, kept: &Kept, bearer: &Private) -> Result<Kept> {
        let from = kept.log.head().index;
        let served = self.fetch_log(bearer, from).await?;
        let last = kept.entries.last().ok_or_else(|| Error::Corrupt("the account log".into()))?;
        match grown(&kept.log, last, &served) {
            Ok((log, new)) => {
                let mut kept = kept.clone();
                kept.log = log;
                kept.entries.extend(new);
                Ok(kept)
            }
            Err(kind) => {
                if self.another_life_explains(kind, kept).await?.is_some() {
                    return self.give_back_own(kept, bearer).await;
                }
                let evidence = Evidence::new(kind, self.now_ms(), &kept.server_name)
                    .ours(Some(&kept.log), &kept.entries)
                    .served(from, &served);
                Err(self.caught(kind, evidence).await)
            }
        }
    }
}

impl Account {
    /// Learns what other devices of the account have done.
    pub(crate) async fn sync_log(&self) -> Result<Kept> {
        let kept = self.kept();
        let context = self.context();
        let newer = self
            .call(|bearer| {
                let kept = &kept;
                async move { context.grow(kept, &bearer).await }
            })
            .await?;
        if newer.log.next_index() == kept.log.next_index() {
            return Ok(kept);
        }
        self.change(move |kept| kept.take_log(&newer.log, &newer.entries)).await
    }
}
