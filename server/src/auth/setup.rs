//! The server's OPAQUE secrets: made once, sealed under the master key, never changed under an account.
//!
//! Each credential names the setup it was made under. New registrations use the newest one.

use super::{Auth, Refusal, Result};
use crate::edges::Edges;
use crate::secrets::{MasterKey, Purpose};
use crate::store::{SealedKey, Store};
use selkie_protocol::hash::sha256;
use selkie_protocol::opaque::ServerSetup;
use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

/// The setups this server knows, by their ids.
pub(super) struct Setups(RwLock<BTreeMap<i32, Arc<ServerSetup>>>);

impl Setups {
    pub(super) async fn open(store: &dyn Store, edges: &Edges, master: &MasterKey) -> Result<Self> {
        let mut rows = store.opaque_setups().await?;
        if rows.is_empty() {
            let first = 1i32;
            let sealed =
                master.seal(Purpose::OpaqueSetup, &[&first.to_be_bytes()], &ServerSetup::generate().to_bytes());
            rows = store.add_opaque_setup(SealedKey { id: first, sealed, created_at: edges.now_ms() }).await?;
        }
        let setups = opened(&rows, master)?;
        for (id, setup) in &setups {
            let digest = sha256(&setup.public_key());
            let fingerprint = selkie_protocol::bytes::to_base64url(&digest[..9]);
            tracing::info!(count = id, fingerprint, "OPAQUE setup");
        }
        Ok(Setups(RwLock::new(setups)))
    }

    fn known(&self, id: i32) -> Option<Arc<ServerSetup>> {
        self.0.read().expect("no holder of this lock panics").get(&id).cloned()
    }

    /// The one for new registrations, and for names that do not exist.
    pub(super) fn newest(&self) -> (i32, Arc<ServerSetup>) {
        let setups = self.0.read().expect("no holder of this lock panics");
        let (id, setup) = setups.last_key_value().expect("a server makes a setup before it opens");
        (*id, Arc::clone(setup))
    }
}

impl Auth {
    /// The setup a credential was made under. Another server of the deployment may have made it a moment ago.
    pub(super) async fn setup(&self, id: i32) -> Result<Arc<ServerSetup>> {
        if let Some(setup) = self.setups.known(id) {
            return Ok(setup);
        }
        let fresh = opened(&self.store.opaque_setups().await?, &self.master)?;
        *self.setups.0.write().expect("no holder of this lock panics") = fresh;
        self.setups.known(id).ok_or_else(|| Refusal::broken("a credential names an OPAQUE setup that is not there"))
    }
}

fn opened(rows: &[SealedKey], master: &MasterKey) -> Result<BTreeMap<i32, Arc<ServerSetup>>> {
    let mut setups = BTreeMap::new();
    for row in rows {
        let bytes = master.open(Purpose::OpaqueSetup, &[&row.id.to_be_bytes()], &row.sealed)?;
        let setup = ServerSetup::from_bytes(&bytes).map_err(|_| Refusal::broken("an OPAQUE setup is damaged"))?;
        setups.insert(row.id, Arc::new(setup));
    }
    if setups.is_empty() { Err(Refusal::broken("the database lost its OPAQUE setups")) } else { Ok(setups) }
}
