//! A push, from the message to its place in the log.
//!
//! Owns what is looked at before it may wait for its group: cheap things first, and nothing that could be another's
//! fault. Whether it may stand is decided in `ground`, when it is known where it would.

use super::Logs;
use super::author::Author;
use super::desk::{Asks, What};
use super::ground::Push as GroundPush;
use super::refusal::{Refusal, Result};
use super::wraps::rows;
use crate::auth::Caller;
use crate::limits::{Action, Key};
use selkie_protocol::id::VaultId;
use selkie_protocol::log::{self, Beside, Body, Control, Frame};
use selkie_protocol::vault::{Push, Pushed};
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::timeout;

/// How long the others of a vault wait at most for a checkpoint to be counted: some millions of live changes.
const LONGEST_HOLD: Duration = Duration::from_secs(30);

impl Logs {
    /// `POST /v1/vaults/{vid}/push`
    pub async fn push(&self, caller: &Caller, from: IpAddr, vid: VaultId, request: Push) -> Result<Pushed> {
        self.count(caller, Action::Push, &[Key::Address(from), Key::Account(caller.account_uuid())])?;
        let author = Author::of(caller)?;
        let frame = Frame::parse(&request.frame).map_err(log::Refusal::Malformed)?;
        let header = &frame.entry.header;
        if header.vault != vid {
            return Err(log::Refusal::OtherVault.into());
        }
        if (header.user, header.device) != (author.user, author.device) {
            return Err(Refusal::Forbidden("an entry is pushed by the device that signed it"));
        }
        if !frame.is_whole() {
            return Err(Refusal::invalid("frame", "something that belongs beside the entry is missing"));
        }
        let asks = asks(&frame)?;
        let at = self.room.place(author.tenant, vid).await?;
        let push = |root| {
            let (frame, wraps) = (request.frame.0.clone(), rows(request.wraps.clone()));
            What::Push(GroundPush { author, frame, wraps, root })
        };
        let taken = match &frame.entry.body {
            Body::Checkpoint(checkpoint) => {
                self.count(caller, Action::Checkpoint, &[Key::Account(caller.account_uuid())])?;
                let _turn = self.room.counting.acquire().await.map_err(|_| Refusal::Overloaded)?;
                // It describes the position right before it. In a busy vault that is gone before it is counted, so
                // the others wait.
                let held = self.desk.hold(at).await?;
                let root = self.room.known_root(author, at, &frame, checkpoint);
                let root = timeout(LONGEST_HOLD, root).await.map_err(|_| Refusal::Overloaded)??;
                self.desk.submit_held(held, vid, push(root), asks).await?
            }
            Body::Data(_) => {
                let (office, bytes) = (&self.room.office, request.frame.len() as u64);
                let space = self.room.spaces.take(&*office.vaults, author.tenant, bytes, office.edges.now_ms()).await;
                let space = match space {
                    Ok(space) => Some(space),
                    // What came in before and is only asked about takes no room.
                    Err(Refusal::QuotaExceeded) if office.look_up(at).await?.is_past(header) => None,
                    Err(refusal) => return Err(refusal),
                };
                self.desk.submit(at, vid, push(None), asks, space).await?
            }
            _ => self.desk.submit(at, vid, push(None), asks, None).await?,
        };
        Ok(Pushed { n: taken.n, head: taken.signed })
    }
}

/// What must be known to judge an entry.
pub(super) fn asks(frame: &Frame<'_>) -> Result<Asks> {
    let header = &frame.entry.header;
    let mut asks = Asks { chain: vec![header.seen.n], authors: vec![header.user], ..Asks::default() };
    match (&frame.entry.body, frame.beside()) {
        (Body::Data(data), _) => {
            for change in data.changes() {
                if change.full {
                    asks.records.push(change.record);
                } else {
                    asks.differences.push((change.record, change.deps.iter().collect()));
                }
            }
        }
        (Body::Checkpoint(checkpoint), Beside::Note(note)) => {
            let hash = checkpoint.note.unwrap_or_default();
            let forgotten = log::read_note(note, &hash).map_err(log::Refusal::Malformed)?;
            asks.records.extend(forgotten);
        }
        (Body::Control(Control::AddMember { user, anchor, .. } | Control::Anchor { user, anchor }), _) => {
            asks.people.push((*user, anchor.index));
        }
        _ => {}
    }
    Ok(asks)
}
