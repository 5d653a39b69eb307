//! How far sync has come, from before there is an account on.
//!
//! Owns whose status that is: this device's own, then the account's that was signed up or in here last. What a status
//! says is told in `account`.

use crate::account::{DISK_PAUSE, Status, unreadable};
use crate::client::Client;
use futures_util::future::{Either, select};
use futures_util::stream::{Stream, unfold};
use std::pin::pin;

impl Client {
    /// How far sync has come, as [`Account::status`](crate::Account::status) tells it of one account: of the one that
    /// was last signed up or in here, and before that, [`SyncState::Alone`](crate::SyncState::Alone) with what waits
    /// for one. An app that opens its client at its start shows this, whatever the person does later. No request is
    /// made, and it never ends.
    pub fn status(&self) -> impl Stream<Item = Status> + Send + Unpin + use<> {
        let watched = (self.clone(), None);
        Box::pin(unfold(watched, async |(client, mut shown): (Client, Option<Status>)| {
            let status = client.status_after(shown.take()).await;
            Some((status.clone(), (client, Some(status))))
        }))
    }

    /// The status, as soon as it is another.
    async fn status_after(&self, shown: Option<Status>) -> Status {
        let context = self.context();
        loop {
            let rung = context.turned.rung();
            let turned = pin!(context.turned.after(rung));
            let whose = match self.account_or_device().await {
                Ok(whose) => whose,
                Err(error) => {
                    let status = unreadable(&error);
                    if shown.as_ref() != Some(&status) {
                        return status;
                    }
                    let pause = context.edges.runtime.sleep(DISK_PAUSE);
                    select(turned, pin!(pause)).await;
                    continue;
                }
            };
            match whose {
                Some(account) => match select(pin!(account.status_after(shown.clone())), turned).await {
                    Either::Left((status, _)) => return status,
                    Either::Right(_) => {}
                },
                // Nothing was written yet.
                None if shown.as_ref() != Some(&Status::default()) => return Status::default(),
                None => turned.await,
            }
        }
    }
}
