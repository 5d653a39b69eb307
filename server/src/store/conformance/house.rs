//! A fresh database of either kind with one tenant, its store open.

use super::people::{NOW, audit};
use crate::store::{Identity, NewTenant, Options, SealedKey, Store, Tenant, migrate, open};
use futures_util::future::join_all;
use selkie_protocol::hash::sha256;
use selkie_protocol::id::Incarnation;
use selkie_test_postgres::{Cluster, Database};
use std::ops::Deref;
use std::sync::Arc;
use tokio::runtime::Handle;

pub(super) struct House {
    pub(super) store: Arc<dyn Store>,
    pub(super) url: String,
    /// The default tenant.
    pub(super) home: Tenant,
    _ground: Ground,
}

/// What goes when the house goes.
#[allow(dead_code, reason = "held for their drop")]
enum Ground {
    Folder(tempfile::TempDir),
    Database(Database),
}

impl House {
    pub(super) async fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("selkie.db").display());
        migrate(&url).await.unwrap();
        House::furnish(url, Ground::Folder(folder)).await
    }

    pub(super) async fn on_postgres() -> Self {
        let database = tokio::task::spawn_blocking(migrated_database).await.unwrap();
        House::furnish(database.url(), Ground::Database(database)).await
    }

    async fn furnish(url: String, ground: Ground) -> Self {
        let store = open(&url, Options { connections: 4, ..Options::default() }, Handle::current()).await.unwrap();
        // All connections are there before the first race: making one takes longer than most races.
        join_all((0..8).map(|_| store.ping())).await;
        let identity = Identity {
            incarnation: Incarnation([1; 16]),
            master_key_fingerprint: vec![2; 8],
            created_at: NOW,
            restored_at: None,
        };
        store.initialise(identity, tenant("home", "home")).await.unwrap();
        store.add_opaque_setup(SealedKey { id: 1, sealed: vec![3; 80], created_at: NOW }).await.unwrap();
        let home = store.tenant_by_slug("home").await.unwrap().unwrap().tenant;
        House { store, url, home, _ground: ground }
    }

    pub(super) async fn tenant(&self, slug: &str, plan: &str) -> Tenant {
        self.create_tenant(tenant(slug, plan)).await.unwrap().tenant
    }

    /// A chain of audit entries that is whole: asked at the end of stories in which much happens.
    pub(super) async fn expect_whole_audit(&self) {
        self.record(self.home, None, audit("checked")).await.unwrap();
        assert_eq!(self.verify_audit(self.home).await.unwrap(), None);
    }
}

impl Deref for House {
    type Target = Arc<dyn Store>;
    fn deref(&self) -> &Arc<dyn Store> {
        &self.store
    }
}

pub(super) fn tenant(slug: &str, plan: &str) -> NewTenant {
    NewTenant { slug: slug.into(), name: slug.to_uppercase(), plan: plan.into(), created_at: NOW }
}

/// A copy of a database that was migrated once for all tests.
pub(super) fn migrated_database() -> Database {
    const SCHEMA: &[&str] = &[
        include_str!("../../../../migrations/postgres/00000000000001_accounts/up.sql"),
        include_str!("../../../../migrations/postgres/00000000000002_vaults/up.sql"),
        include_str!("../../../../migrations/postgres/00000000000003_plans/up.sql"),
        include_str!("../../../../migrations/postgres/00000000000004_restored/up.sql"),
        include_str!("../../../../migrations/postgres/00000000000005_removed/up.sql"),
    ];
    let digest: String = sha256(SCHEMA.concat().as_bytes())[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let cluster = Cluster::shared();
    let template = cluster.template(&format!("selkie_store_{digest}"), |url| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(migrate(url)).map(drop)
    });
    cluster.database(Some(&template))
}
