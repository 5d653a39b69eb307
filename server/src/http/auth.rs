//! The doors: registration, sign-in, refresh, recovery, sign-out.

use super::error::ApiError;
use super::extract::{Door, Nothing};
use crate::auth::Caller;
use selkie_protocol::account::Done;
use selkie_protocol::session::{
    Challenge, LoginFinish, LoginFinished, LoginStart, LoginStarted, RecoverFinish, RecoverStart, RecoverStarted,
    Refresh, RegisterFinish, RegisterStart, RegisterStarted, Registered, SignOut, Tokens,
};

type Answer<T> = Result<T, ApiError>;

pub(super) async fn register_start(door: Door, message: RegisterStart) -> Answer<RegisterStarted> {
    Ok(door.auth().register_start(door.from, message).await?)
}

pub(super) async fn register_finish(door: Door, message: RegisterFinish) -> Answer<Registered> {
    Ok(door.auth().register_finish(message).await?)
}

pub(super) async fn challenge(door: Door, _: Nothing) -> Answer<Challenge> {
    Ok(door.auth().challenge(door.from)?)
}

pub(super) async fn login_start(door: Door, message: LoginStart) -> Answer<LoginStarted> {
    Ok(door.auth().login_start(door.from, message).await?)
}

pub(super) async fn login_finish(door: Door, message: LoginFinish) -> Answer<LoginFinished> {
    Ok(door.auth().login_finish(message).await?)
}

pub(super) async fn refresh(door: Door, message: Refresh) -> Answer<Tokens> {
    Ok(door.auth().refresh(door.from, message).await?)
}

pub(super) async fn recover_start(door: Door, message: RecoverStart) -> Answer<RecoverStarted> {
    Ok(door.auth().recover_start(door.from, message).await?)
}

pub(super) async fn recover_finish(door: Door, message: RecoverFinish) -> Answer<LoginFinished> {
    Ok(door.auth().recover_finish(message).await?)
}

pub(super) async fn sign_out(door: Door, caller: Caller, message: SignOut) -> Answer<Done> {
    door.auth().sign_out(&caller, message).await?;
    Ok(Done {})
}
