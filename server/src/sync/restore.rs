//! Putting back what a restored server has forgotten: entries it acknowledged, at their positions, and nothing else.
//!
//! Owns what is asked of such an offer. The server's own signature over the head at its end says that every entry was
//! here once; that each follows the one before is judged like any push, by who signed it and not by who brings it.

use super::Logs;
use super::author::Reader;
use super::desk::{Asks, What};
use super::ground::Tail;
use super::member;
use super::push::asks;
use super::refusal::{Refusal, Result};
use crate::auth::Caller;
use crate::limits::{Action, Key};
use selkie_protocol::id::VaultId;
use selkie_protocol::log::{self, Frame, SignedHead};
use selkie_protocol::vault::{RestoreTail, TailRestored};

/// Entries of one offer. A longer tail is offered in parts, each with the hashes of what follows up to the signed head.
const MAX_ENTRIES: usize = 4_096;
/// Hashes of what follows.
const MAX_REST: usize = 1 << 16;

impl Logs {
    /// `POST /v1/vaults/{vid}/restore-tail`
    pub async fn restore_tail(&self, caller: &Caller, vid: VaultId, request: RestoreTail) -> Result<TailRestored> {
        self.count(caller, Action::Restore, &[Key::Account(caller.account_uuid())])?;
        let reader = Reader::of(caller)?;
        if request.frames.is_empty() || request.frames.len() > MAX_ENTRIES {
            return Err(Refusal::invalid("frames", "1 to 4096 entries are offered at a time"));
        }
        let signed = SignedHead::parse(request.head.as_ref()).map_err(log::Refusal::Malformed)?;
        let office = &self.room.office;
        if signed.vault != vid || !signed.is_signed_by(&office.head_key.public()) {
            return Err(Refusal::RestoreRefused("this server did not sign that head"));
        }
        let at = self.room.place(reader.tenant, vid).await?;
        let known = office.look_up(at).await?;
        member(&known, reader)?;
        let rest = request.rest.unwrap_or_default();
        let (rest, odd) = rest.as_chunks::<32>();
        if !odd.is_empty() || rest.len() > MAX_REST {
            return Err(Refusal::invalid("rest", "up to 65536 hashes of 32 bytes lead on to the head"));
        }
        let frames = request.frames.into_iter().map(|frame| frame.0).collect();
        let tail = Tail { frames, rest: rest.to_vec(), signed: signed.head };
        if tail.first() == 0 {
            return Err(Refusal::RestoreRefused("there are more entries than positions"));
        }
        if tail.first() > known.head().n + 1 {
            return Err(Refusal::RestoreRefused("entries are missing before them"));
        }
        let mut all = Asks { chain: vec![tail.last()], ..Asks::default() };
        for bytes in &tail.frames {
            let frame = Frame::parse(bytes).map_err(log::Refusal::Malformed)?;
            let one = asks(&frame)?;
            all.records.extend(one.records);
            all.differences.extend(one.differences);
            all.chain.extend(one.chain);
            all.authors.extend(one.authors);
            all.people.extend(one.people);
        }
        let entries = tail.frames.len();
        let taken = self.desk.submit(at, vid, What::Tail(tail), all, None).await.map_err(as_restore)?;
        tracing::info!(count = entries, "a tail was offered and is here");
        Ok(TailRestored { head: taken.signed })
    }
}

/// Whatever rule an entry of a tail breaks, it is the offer that is refused.
fn as_restore(refusal: Refusal) -> Refusal {
    match refusal {
        Refusal::Rule(log::Refusal::NotAMember) => Refusal::RestoreRefused("an author was no member"),
        Refusal::Rule(_) => Refusal::RestoreRefused("an entry does not follow from the one before"),
        other => other,
    }
}
