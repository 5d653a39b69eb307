//! A signed-in account: its keys, log, devices, password, second factor, end.

use super::error::ApiError;
use super::extract::{Door, Nothing};
use crate::auth::Caller;
use selkie_protocol::account::{
    Account, AddDevice, AuditPage, CompleteAccount, DeletionScheduled, Devices, Done, Keybag, LogPage, LogRestored,
    PasswordFinish, PasswordStart, PasswordStarted, RestoreLog, RevokeDevice, RotateRecoveryKey, Sessions, TotpConfirm,
    TotpConfirmed, TotpStarted,
};
use selkie_protocol::session::Tokens;

type Answer<T> = Result<T, ApiError>;

pub(super) async fn account(door: Door, caller: Caller, _: Nothing) -> Answer<Account> {
    Ok(door.auth().account(&caller).await?)
}

pub(super) async fn keybag(door: Door, caller: Caller, _: Nothing) -> Answer<Keybag> {
    Ok(door.auth().keybag(&caller).await?)
}

pub(super) async fn log(door: Door, caller: Caller, _: Nothing) -> Answer<LogPage> {
    let from = door.query("from")?.unwrap_or(0);
    Ok(door.auth().account_log(&caller, from).await?)
}

pub(super) async fn restore_log(door: Door, caller: Caller, message: RestoreLog) -> Answer<LogRestored> {
    Ok(door.auth().restore_log(&caller, None, message).await?)
}

pub(super) async fn restore_log_of(door: Door, caller: Caller, message: RestoreLog) -> Answer<LogRestored> {
    Ok(door.auth().restore_log(&caller, Some(door.path("uid")?), message).await?)
}

pub(super) async fn complete(door: Door, caller: Caller, message: CompleteAccount) -> Answer<Tokens> {
    Ok(door.auth().complete_account(&caller, message).await?)
}

pub(super) async fn devices(door: Door, caller: Caller, _: Nothing) -> Answer<Devices> {
    Ok(door.auth().devices(&caller).await?)
}

pub(super) async fn add_device(door: Door, caller: Caller, message: AddDevice) -> Answer<Tokens> {
    Ok(door.auth().add_device(&caller, message).await?)
}

pub(super) async fn revoke_device(door: Door, caller: Caller, message: RevokeDevice) -> Answer<Done> {
    door.auth().revoke_device(&caller, door.path("did")?, message).await?;
    Ok(Done {})
}

pub(super) async fn password_start(door: Door, caller: Caller, message: PasswordStart) -> Answer<PasswordStarted> {
    Ok(door.auth().password_start(&caller, message).await?)
}

pub(super) async fn password_finish(door: Door, caller: Caller, message: PasswordFinish) -> Answer<Done> {
    door.auth().password_finish(&caller, message).await?;
    Ok(Done {})
}

pub(super) async fn recovery_key(door: Door, caller: Caller, message: RotateRecoveryKey) -> Answer<Done> {
    door.auth().rotate_recovery_key(&caller, message).await?;
    Ok(Done {})
}

pub(super) async fn sessions(door: Door, caller: Caller, _: Nothing) -> Answer<Sessions> {
    Ok(door.auth().sessions(&caller).await?)
}

pub(super) async fn totp_start(door: Door, caller: Caller, _: Nothing) -> Answer<TotpStarted> {
    Ok(door.auth().totp_start(&caller).await?)
}

pub(super) async fn totp_confirm(door: Door, caller: Caller, message: TotpConfirm) -> Answer<TotpConfirmed> {
    Ok(door.auth().totp_confirm(&caller, message).await?)
}

pub(super) async fn totp_remove(door: Door, caller: Caller, _: Nothing) -> Answer<Done> {
    door.auth().totp_remove(&caller).await?;
    Ok(Done {})
}

pub(super) async fn audit(door: Door, caller: Caller, _: Nothing) -> Answer<AuditPage> {
    let before = door.query("before")?;
    Ok(door.auth().audit_page(&caller, before).await?)
}

pub(super) async fn delete(door: Door, caller: Caller, _: Nothing) -> Answer<DeletionScheduled> {
    Ok(door.auth().schedule_deletion(&caller).await?)
}

pub(super) async fn keep(door: Door, caller: Caller, _: Nothing) -> Answer<Done> {
    door.auth().cancel_deletion(&caller).await?;
    Ok(Done {})
}
