//! Vaults: making them, writing in them, reading them.

use super::error::ApiError;
use super::extract::{Door, Nothing};
use crate::auth::Caller;
use crate::sync::pull::Wanted;
use selkie_protocol::account::{Done, LogPage};
use selkie_protocol::bytes::from_base64url;
use selkie_protocol::vault::{
    Beginning, CheckpointItems, Controls, CreateVault, LiveRecords, LogFrames, PollState, Polled, Push, Pushed,
    RestoreTail, TailRestored, VaultHead, WantedRecords, Wraps,
};
use std::str::FromStr;

type Answer<T> = Result<T, ApiError>;

/// Which payloads a pull brings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Payloads {
    All,
    Live,
}

impl FromStr for Payloads {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "all" => Ok(Payloads::All),
            "live" => Ok(Payloads::Live),
            _ => Err(()),
        }
    }
}

/// Whether a page of a checkpoint brings what its changes say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Contents {
    All,
    None,
}

impl FromStr for Contents {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "all" => Ok(Contents::All),
            "none" => Ok(Contents::None),
            _ => Err(()),
        }
    }
}

/// A poll's state as it stands in an address.
struct Known(PollState);

impl FromStr for Known {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let bytes = from_base64url(text).ok_or(())?;
        Ok(Known(PollState::from(<[u8; _]>::try_from(bytes).map_err(|_| ())?)))
    }
}

pub(super) async fn create(door: Door, caller: Caller, message: CreateVault) -> Answer<Pushed> {
    Ok(door.logs().create(&caller, message).await?)
}

pub(super) async fn push(door: Door, caller: Caller, message: Push) -> Answer<Pushed> {
    Ok(door.logs().push(&caller, door.from, door.path("vid")?, message).await?)
}

pub(super) async fn log(door: Door, caller: Caller, _: Nothing) -> Answer<LogFrames> {
    let wanted = Wanted {
        after: door.query("after")?.unwrap_or(0),
        max_entries: door.query("max_entries")?,
        max_bytes: door.query("max_bytes")?,
        live_only: door.query("payloads")? == Some(Payloads::Live),
    };
    Ok(door.logs().pull(&caller, door.from, door.path("vid")?, wanted).await?)
}

pub(super) async fn head(door: Door, caller: Caller, _: Nothing) -> Answer<VaultHead> {
    Ok(door.logs().head(&caller, door.path("vid")?).await?)
}

pub(super) async fn poll(door: Door, caller: Caller, _: Nothing) -> Answer<Polled> {
    let known = door.query("known")?.map(|Known(state)| state);
    Ok(door.logs().poll_as_of(&caller, door.from, known, caller.as_of()).await?)
}

pub(super) async fn wraps(door: Door, caller: Caller, _: Nothing) -> Answer<Wraps> {
    Ok(door.logs().wraps(&caller, door.path("vid")?).await?)
}

pub(super) async fn add_wraps(door: Door, caller: Caller, message: Wraps) -> Answer<Done> {
    door.logs().add_wraps(&caller, door.from, door.path("vid")?, message).await?;
    Ok(Done {})
}

pub(super) async fn controls(door: Door, caller: Caller, _: Nothing) -> Answer<Controls> {
    let after = door.query("after")?.unwrap_or(0);
    Ok(door.logs().controls(&caller, door.path("vid")?, after).await?)
}

pub(super) async fn beginning(door: Door, caller: Caller, _: Nothing) -> Answer<Beginning> {
    Ok(door.logs().beginning(&caller, door.path("vid")?).await?)
}

pub(super) async fn checkpoint_page(door: Door, caller: Caller, _: Nothing) -> Answer<CheckpointItems> {
    let (vid, n, page) = (door.path("vid")?, door.path("n")?, door.path("page")?);
    let from = door.query("from")?.unwrap_or(0);
    let payloads = door.query("payloads")? != Some(Contents::None);
    Ok(door.logs().checkpoint_page(&caller, vid, n, page, from, payloads).await?)
}

pub(super) async fn records(door: Door, caller: Caller, message: WantedRecords) -> Answer<LiveRecords> {
    Ok(door.logs().records(&caller, door.from, door.path("vid")?, message).await?)
}

pub(super) async fn restore_tail(door: Door, caller: Caller, message: RestoreTail) -> Answer<TailRestored> {
    Ok(door.logs().restore_tail(&caller, door.path("vid")?, message).await?)
}

pub(super) async fn person(door: Door, caller: Caller, _: Nothing) -> Answer<LogPage> {
    let from = door.query("from")?.unwrap_or(0);
    Ok(door.logs().person(&caller, door.path("uid")?, from).await?)
}
