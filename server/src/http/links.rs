//! Linking two devices. The new one is not signed in yet, so it may name the tenant in the query.

use super::error::ApiError;
use super::extract::{Door, Nothing};
use crate::auth::Caller;
use selkie_protocol::account::Done;
use selkie_protocol::link::{LinkAnswer, LinkOpened, LinkRequest, LinkSession, LinkState, OpenLink};
use selkie_protocol::session::Tokens;

type Answer<T> = Result<T, ApiError>;

pub(super) async fn open(door: Door, caller: Caller, message: OpenLink) -> Answer<LinkOpened> {
    Ok(door.auth().open_link(&caller, message).await?)
}

pub(super) async fn state(door: Door, _: Nothing) -> Answer<LinkState> {
    let tenant: Option<String> = door.query("tenant")?;
    Ok(door.auth().link_state(door.from, tenant.as_deref(), door.path("channel")?).await?)
}

pub(super) async fn request(door: Door, message: LinkRequest) -> Answer<Done> {
    let tenant: Option<String> = door.query("tenant")?;
    door.auth().request_link(door.from, tenant.as_deref(), door.path("channel")?, message).await?;
    Ok(Done {})
}

pub(super) async fn answer(door: Door, caller: Caller, message: LinkAnswer) -> Answer<Done> {
    door.auth().answer_link(&caller, door.path("channel")?, message).await?;
    Ok(Done {})
}

pub(super) async fn session(door: Door, message: LinkSession) -> Answer<Tokens> {
    let tenant: Option<String> = door.query("tenant")?;
    Ok(door.auth().link_session(door.from, tenant.as_deref(), door.path("channel")?, message).await?)
}
