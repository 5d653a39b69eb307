//! Keeps what belongs to no tenant: the server's identity, its sealed keys; and sweeps out what has expired.

use super::{Backend, Conn, Reach, tenants};
use crate::store::columns;
use crate::store::failure::{Failure, Outcome};
use crate::store::schema::{
    failures, invitations, links, login_state, opaque_setup, server_meta, sessions, signing_keys,
};
use crate::store::{FailureRow, Identity, Millis, NewTenant, Result, SealedKey, Server, Snapshot, Tenant};
use async_trait::async_trait;
use diesel::{ExpressionMethods as _, QueryDsl as _};
use diesel_async::RunQueryDsl as _;
use futures_util::FutureExt as _;
use selkie_protocol::id::Incarnation;
use std::path::Path;

/// Rows of one kind that a single step of a sweep removes: a step is one transaction, and nobody waits long for it.
const SWEEP_STEP: i64 = 500;

#[async_trait]
impl Server for Backend {
    async fn ping(&self) -> Result<()> {
        self.read(Reach::Server, (), |conn, ()| {
            async move {
                server_meta::table.select(server_meta::id).limit(1).load::<i16>(conn).await?;
                Ok(())
            }
            .boxed()
        })
        .await
    }

    async fn snapshot(&self) -> Result<Option<Snapshot>> {
        self.now().await
    }

    async fn initialise(&self, first: Identity, default_tenant: NewTenant) -> Result<Identity> {
        self.write(Reach::Server, (first, default_tenant), |conn, (first, tenant)| {
            initialise(conn, first, tenant).boxed()
        })
        .await
    }

    async fn opaque_setups(&self) -> Result<Vec<SealedKey>> {
        self.read(Reach::Server, (), |conn, ()| all_setups(conn).boxed()).await
    }

    async fn add_opaque_setup(&self, setup: SealedKey) -> Result<Vec<SealedKey>> {
        self.write(Reach::Server, setup, |conn, setup| {
            async move {
                diesel::insert_into(opaque_setup::table)
                    .values((
                        opaque_setup::id.eq(setup.id),
                        opaque_setup::sealed.eq(&setup.sealed),
                        opaque_setup::created_at.eq(setup.created_at),
                    ))
                    .on_conflict_do_nothing()
                    .execute(conn)
                    .await?;
                all_setups(conn).await
            }
            .boxed()
        })
        .await
    }

    async fn signing_keys(&self) -> Result<Vec<SealedKey>> {
        self.read(Reach::Server, (), |conn, ()| all_signing_keys(conn).boxed()).await
    }

    async fn add_signing_key(&self, key: SealedKey, forget_before: Millis) -> Result<Vec<SealedKey>> {
        self.write(Reach::Server, (key, forget_before), |conn, (key, forget_before)| {
            async move {
                diesel::insert_into(signing_keys::table)
                    .values((
                        signing_keys::id.eq(key.id),
                        signing_keys::sealed.eq(&key.sealed),
                        signing_keys::created_at.eq(key.created_at),
                    ))
                    .on_conflict_do_nothing()
                    .execute(conn)
                    .await?;
                diesel::delete(signing_keys::table.filter(signing_keys::created_at.lt(*forget_before)))
                    .execute(conn)
                    .await?;
                all_signing_keys(conn).await
            }
            .boxed()
        })
        .await
    }

    async fn sweep(&self, now: Millis, keep_ended_ms: i64) -> Result<u64> {
        let forget_before = now.saturating_sub(keep_ended_ms);
        let tenants = self.read(Reach::Server, (), |conn, ()| tenants::numbers(conn).boxed()).await?;
        let mut swept = 0;
        for tenant in tenants {
            loop {
                let step = self
                    .write(Reach::Tenant(tenant), (tenant, now, forget_before), |conn, args| {
                        sweep_step(conn, args).boxed()
                    })
                    .await?;
                swept += step.removed;
                if !step.more {
                    break;
                }
            }
        }
        Ok(swept)
    }

    async fn begin_another_life(&self, incarnation: Incarnation, now: Millis) -> Result<()> {
        self.write(Reach::Server, (incarnation, now), |conn, (incarnation, now)| {
            async move {
                let set = diesel::update(server_meta::table.find(1))
                    .set((server_meta::incarnation.eq(incarnation.0), server_meta::restored_at.eq(Some(*now))))
                    .execute(conn)
                    .await?;
                if set == 1 { Ok(()) } else { Err(Failure::not_found("identity")) }
            }
            .boxed()
        })
        .await
    }

    async fn copy_to(&self, file: &Path) -> Result<()> {
        self.copy(file).await
    }

    async fn close(&self) {
        self.shut().await;
    }
}

async fn initialise(conn: &mut Conn, first: &Identity, tenant: &NewTenant) -> Outcome<Identity> {
    diesel::insert_into(server_meta::table)
        .values((
            server_meta::id.eq(1),
            server_meta::incarnation.eq(first.incarnation.0),
            server_meta::master_key_fingerprint.eq(&first.master_key_fingerprint),
            server_meta::created_at.eq(first.created_at),
        ))
        .on_conflict_do_nothing()
        .execute(conn)
        .await?;
    tenants::insert(conn, tenant).await?;
    type Row = (Vec<u8>, Vec<u8>, i64, Option<i64>);
    let (incarnation, master_key_fingerprint, created_at, restored_at): Row = server_meta::table
        .find(1)
        .select((
            server_meta::incarnation,
            server_meta::master_key_fingerprint,
            server_meta::created_at,
            server_meta::restored_at,
        ))
        .first(conn)
        .await?;
    let incarnation = Incarnation(columns::fixed(incarnation, "incarnation")?);
    Ok(Identity { incarnation, master_key_fingerprint, created_at, restored_at })
}

async fn all_setups(conn: &mut Conn) -> Outcome<Vec<SealedKey>> {
    let rows: Vec<(i32, Vec<u8>, i64)> =
        opaque_setup::table.order((opaque_setup::created_at, opaque_setup::id)).load(conn).await?;
    Ok(rows.into_iter().map(|(id, sealed, created_at)| SealedKey { id, sealed, created_at }).collect())
}

async fn all_signing_keys(conn: &mut Conn) -> Outcome<Vec<SealedKey>> {
    let rows: Vec<(i32, Vec<u8>, i64)> =
        signing_keys::table.order((signing_keys::created_at, signing_keys::id)).load(conn).await?;
    Ok(rows.into_iter().map(|(id, sealed, created_at)| SealedKey { id, sealed, created_at }).collect())
}

struct Step {
    removed: u64,
    more: bool,
}

/// Removes what has expired in one tenant, at most [`SWEEP_STEP`] rows of each kind. The rows are looked up first: a
/// DELETE with a limit is not something both databases have.
async fn sweep_step(conn: &mut Conn, (tenant, now, forget_before): &(Tenant, Millis, Millis)) -> Outcome<Step> {
    let mut step = Step { removed: 0, more: false };

    let logins: Vec<Vec<u8>> = login_state::table
        .filter(login_state::tenant.eq(tenant.0))
        .filter(login_state::expires_at.le(now))
        .select(login_state::login)
        .limit(SWEEP_STEP)
        .load(conn)
        .await?;
    step.count(
        logins.len(),
        diesel::delete(login_state::table.filter(login_state::tenant.eq(tenant.0)))
            .filter(login_state::login.eq_any(&logins))
            .execute(conn)
            .await?,
    );

    let channels: Vec<Vec<u8>> = links::table
        .filter(links::tenant.eq(tenant.0))
        .filter(links::expires_at.le(now))
        .select(links::channel)
        .limit(SWEEP_STEP)
        .load(conn)
        .await?;
    step.count(
        channels.len(),
        diesel::delete(links::table.filter(links::tenant.eq(tenant.0)))
            .filter(links::channel.eq_any(&channels))
            .execute(conn)
            .await?,
    );

    let over: Vec<Vec<u8>> = sessions::table
        .filter(sessions::tenant.eq(tenant.0))
        .filter(sessions::over_at.le(forget_before))
        .select(sessions::session)
        .limit(SWEEP_STEP)
        .load(conn)
        .await?;
    step.count(
        over.len(),
        diesel::delete(sessions::table.filter(sessions::tenant.eq(tenant.0)))
            .filter(sessions::session.eq_any(&over))
            .execute(conn)
            .await?,
    );

    let day = FailureRow::day_of(*forget_before);
    let counted = failures::table
        .filter(failures::tenant.eq(tenant.0))
        .filter(failures::day.lt(day))
        .order(failures::day)
        .select((failures::account, failures::kind, failures::day))
        .limit(SWEEP_STEP)
        .load::<(i64, i16, i64)>(conn)
        .await?;
    // Old days go whole: what is found tells which, and a day of one tenant is a bounded thing.
    if let Some(newest) = counted.iter().map(|(_, _, day)| *day).max() {
        step.count(
            counted.len(),
            diesel::delete(failures::table.filter(failures::tenant.eq(tenant.0)))
                .filter(failures::day.le(newest))
                .execute(conn)
                .await?,
        );
    }

    let dead: Vec<i64> = invitations::table
        .filter(invitations::tenant.eq(tenant.0))
        .filter(invitations::expires_at.le(now))
        .select(invitations::invitation)
        .limit(SWEEP_STEP)
        .load(conn)
        .await?;
    step.count(
        dead.len(),
        diesel::delete(invitations::table.filter(invitations::tenant.eq(tenant.0)))
            .filter(invitations::invitation.eq_any(&dead))
            .execute(conn)
            .await?,
    );
    Ok(step)
}

impl Step {
    fn count(&mut self, found: usize, removed: usize) {
        self.removed += removed as u64;
        self.more |= found as i64 == SWEEP_STEP;
    }
}
