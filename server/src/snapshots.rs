//! Where the database is in its history, asked once for all who want to know at the same time.
//!
//! Owns nothing but the asking. Whoever remembers what was read compares: as long as the answer stays the same, nothing
//! has changed, whoever may have written.

use crate::store::{Result, Snapshot, Store};
use crate::together::Together;
use futures_util::FutureExt as _;
use std::sync::Arc;

pub(crate) struct Snapshots(Together<(), Option<Snapshot>>);

impl Snapshots {
    /// On the runtime of whoever opens it.
    pub(crate) fn open(store: Arc<dyn Store>) -> Self {
        Snapshots(Together::open(move |_| {
            let store = store.clone();
            async move { Ok(vec![store.snapshot().await?]) }.boxed()
        }))
    }

    /// Not before this was called.
    pub(crate) async fn now(&self) -> Result<Option<Snapshot>> {
        self.0.ask(()).await
    }
}
