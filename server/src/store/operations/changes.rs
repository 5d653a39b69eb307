//! Changes accounts: one decided change, part by part, all or nothing.
//!
//! The account stays locked from the first line to the last, so that what was decided above on what it read is either
//! still true here or refused.

use super::{Conn, accounts as account_rows, audit, factors, links, sessions};
use crate::store::columns;
use crate::store::failure::{Failure, Outcome};
use crate::store::schema::{account_log, accounts, credentials, devices, keybag, login_state};
use crate::store::{
    AccountChange, AccountNumber, EndSessions, Millis, NewCredential, NewDevice, NewIdentity, Refused, Tenant,
};
use diesel::{ExpressionMethods as _, QueryDsl as _};
use diesel_async::RunQueryDsl as _;
use selkie_protocol::id::DeviceId;

pub(super) async fn change(
    conn: &mut Conn,
    tenant: Tenant,
    account: AccountNumber,
    change: &AccountChange,
) -> Outcome<()> {
    let AccountChange {
        now,
        log_length,
        entries,
        identity,
        password_shown_at,
        add_device,
        revoke_device,
        labels,
        keybag,
        credential,
        recovery,
        bind_session,
        end_sessions,
        remove_factors,
        answer_link,
        max_devices,
        audit,
    } = change;
    let (now, before) = (*now, account_rows::lock(conn, tenant, account).await?);

    if let Some(identity) = identity {
        if before.has_keys {
            return Err(Refused::AlreadyComplete.into());
        }
        let changed_at: Millis =
            credentials::table.find((tenant.0, account.0)).select(credentials::updated_at).first(conn).await?;
        if changed_at > *password_shown_at {
            return Err(Refused::CredentialChanged.into());
        }
        give_keys(conn, tenant, account, identity, now).await?;
    } else if !entries.is_empty() {
        if before.log_length != columns::position(*log_length) {
            return Err(Refused::LogMoved.into());
        }
        append_entries(conn, tenant, account, before.log_length, entries).await?;
    }
    if credential.is_some() && entries.is_empty() && before.has_keys {
        // It was bare when this was decided: the keybag would stay under the old password.
        return Err(Refused::LogMoved.into());
    }
    if let Some(device) = revoke_device {
        revoke(conn, tenant, account, *device, now).await?;
    }
    if let Some(device) = add_device {
        insert_device(conn, tenant, account, device).await?;
    }
    if add_device.is_some() || identity.is_some() {
        keep_to_limit(conn, tenant, account, *max_devices).await?;
    }
    for (device, label) in labels {
        relabel(conn, tenant, account, *device, label).await?;
    }
    if let Some(keybag) = keybag {
        put_keybag(conn, tenant, account, keybag, now).await?;
    }
    if let Some(credential) = credential {
        set_credential(conn, tenant, account, credential, now).await?;
    }
    if let Some((generation, key)) = recovery {
        set_recovery(conn, tenant, account, *generation, key, now).await?;
    }
    if credential.is_some() || recovery.is_some() {
        void_sign_ins_under_way(conn, tenant, account).await?;
    }
    if let Some((session, device, life)) = bind_session {
        sessions::bind(conn, tenant, account, *session, *device, *life, now).await?;
    }
    if let Some(which) = end_sessions {
        sessions::end(conn, tenant, account, *which, now).await?;
    }
    if *remove_factors {
        factors::remove_all(conn, tenant, account).await?;
    }
    if let Some((channel, answer, device)) = answer_link {
        links::answer(conn, tenant, account, *channel, answer, *device, now).await?;
    }
    for audit in audit {
        audit::append_about(conn, tenant, account, audit).await?;
    }
    Ok(())
}

/// The log, keybag, first device and recovery key of an account that has none of them.
pub(super) async fn give_keys(
    conn: &mut Conn,
    tenant: Tenant,
    account: AccountNumber,
    identity: &NewIdentity,
    now: Millis,
) -> Outcome<()> {
    let NewIdentity { uid, entries, keybag, device, recovery: (generation, key) } = identity;
    let taken: i64 = accounts::table
        .filter(accounts::tenant.eq(tenant.0))
        .filter(accounts::uid.eq(uid.as_bytes()))
        .count()
        .get_result(conn)
        .await?;
    if taken > 0 {
        return Err(Refused::IdTaken("user id").into());
    }
    diesel::update(accounts::table.find((tenant.0, account.0)))
        .set(accounts::uid.eq(uid.as_bytes()))
        .execute(conn)
        .await?;
    append_entries(conn, tenant, account, 0, entries).await?;
    put_keybag(conn, tenant, account, keybag, now).await?;
    insert_device(conn, tenant, account, device).await?;
    set_recovery(conn, tenant, account, *generation, key, now).await
}

async fn append_entries(
    conn: &mut Conn,
    tenant: Tenant,
    account: AccountNumber,
    length: i64,
    entries: &[Vec<u8>],
) -> Outcome<()> {
    for (position, entry) in (length..).zip(entries) {
        diesel::insert_into(account_log::table)
            .values((
                account_log::tenant.eq(tenant.0),
                account_log::account.eq(account.0),
                account_log::position.eq(position),
                account_log::entry.eq(entry),
            ))
            .execute(conn)
            .await?;
    }
    diesel::update(accounts::table.find((tenant.0, account.0)))
        .set(accounts::log_length.eq(length + entries.len() as i64))
        .execute(conn)
        .await?;
    Ok(())
}

async fn insert_device(conn: &mut Conn, tenant: Tenant, account: AccountNumber, device: &NewDevice) -> Outcome<()> {
    let added = diesel::insert_into(devices::table)
        .values((
            devices::tenant.eq(tenant.0),
            devices::account.eq(account.0),
            devices::device.eq(device.device.as_bytes()),
            devices::public_key.eq(device.public_key),
            devices::label.eq(&device.label),
            devices::added_at.eq(device.added_at),
        ))
        .on_conflict((devices::tenant, devices::account, devices::device))
        .do_nothing()
        .execute(conn)
        .await?;
    if added == 0 { Err(Refused::IdTaken("device").into()) } else { Ok(()) }
}

async fn keep_to_limit(
    conn: &mut Conn,
    tenant: Tenant,
    account: AccountNumber,
    max_devices: Option<i64>,
) -> Outcome<()> {
    let Some(limit) = max_devices else { return Ok(()) };
    let devices: i64 = devices::table
        .filter(devices::tenant.eq(tenant.0))
        .filter(devices::account.eq(account.0))
        .filter(devices::revoked_at.is_null())
        .count()
        .get_result(conn)
        .await?;
    if devices > limit { Err(Refused::LimitReached("devices").into()) } else { Ok(()) }
}

async fn revoke(conn: &mut Conn, tenant: Tenant, account: AccountNumber, device: DeviceId, now: Millis) -> Outcome<()> {
    let revoked = diesel::update(devices::table.find((tenant.0, account.0, device.0)))
        .filter(devices::revoked_at.is_null())
        .set(devices::revoked_at.eq(now))
        .execute(conn)
        .await?;
    if revoked == 0 {
        return Err(Failure::not_found("device"));
    }
    sessions::end(conn, tenant, account, EndSessions::OfDevice(device), now).await?;
    Ok(())
}

async fn relabel(
    conn: &mut Conn,
    tenant: Tenant,
    account: AccountNumber,
    device: DeviceId,
    label: &[u8],
) -> Outcome<()> {
    let labelled = diesel::update(devices::table.find((tenant.0, account.0, device.0)))
        .set(devices::label.eq(label))
        .execute(conn)
        .await?;
    if labelled == 0 { Err(Failure::not_found("device")) } else { Ok(()) }
}

async fn put_keybag(conn: &mut Conn, tenant: Tenant, account: AccountNumber, bytes: &[u8], now: Millis) -> Outcome<()> {
    diesel::insert_into(keybag::table)
        .values((
            keybag::tenant.eq(tenant.0),
            keybag::account.eq(account.0),
            keybag::sealed.eq(bytes),
            keybag::updated_at.eq(now),
        ))
        .on_conflict((keybag::tenant, keybag::account))
        .do_update()
        .set((keybag::sealed.eq(bytes), keybag::updated_at.eq(now)))
        .execute(conn)
        .await?;
    Ok(())
}

async fn set_credential(
    conn: &mut Conn,
    tenant: Tenant,
    account: AccountNumber,
    credential: &NewCredential,
    now: Millis,
) -> Outcome<()> {
    diesel::update(credentials::table.find((tenant.0, account.0)))
        .set((
            credentials::setup_id.eq(credential.setup_id),
            credentials::ksf_id.eq(credential.ksf_id),
            credentials::record.eq(&credential.record),
            credentials::password_generation.eq(i64::from(credential.password_generation)),
            credentials::updated_at.eq(now),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

async fn set_recovery(
    conn: &mut Conn,
    tenant: Tenant,
    account: AccountNumber,
    generation: u32,
    key: &[u8; 32],
    now: Millis,
) -> Outcome<()> {
    diesel::update(credentials::table.find((tenant.0, account.0)))
        .set((
            credentials::recovery_generation.eq(i64::from(generation)),
            credentials::recovery_key.eq(key),
            credentials::updated_at.eq(now),
        ))
        .execute(conn)
        .await?;
    Ok(())
}

/// Who began to sign in with what was shown before must not come in after. Those whose second step is running have
/// taken their row already: they are told by the version, when they open their session.
async fn void_sign_ins_under_way(conn: &mut Conn, tenant: Tenant, account: AccountNumber) -> Outcome<()> {
    diesel::update(credentials::table.find((tenant.0, account.0)))
        .set(credentials::version.eq(credentials::version + 1))
        .execute(conn)
        .await?;
    diesel::delete(login_state::table.filter(login_state::tenant.eq(tenant.0)))
        .filter(login_state::account.eq(account.0))
        .execute(conn)
        .await?;
    Ok(())
}
