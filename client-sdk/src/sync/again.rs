//! Reading a vault's log once more, from the first entry on.
//!
//! Owns the going through: to verify what is kept against what the server shows now, and to hand it on. Keeps nothing.

use super::driver::{Round, Step};
use super::heads::{authors_of, bare};
use crate::api::PageSize;
use crate::trust::{Alarm, Exhibit, LogExport, VERSION};
use selkie_protocol::Bytes;
use selkie_protocol::log::{Extends, Frame, People, Refusal, VaultLog};

const PAGE: PageSize = PageSize { entries: 1_000, bytes: 4 << 20, live_only: true };

impl Round<'_> {
    /// Verifies the whole log as the server shows it, and that ours is a part of it. Returns how many
    /// entries that were.
    pub(crate) async fn verify_again(&mut self) -> Step<u64> {
        self.read_again(|_| {}).await
    }

    /// The log up to our head as a file for others: from what is kept here, or, where that does not begin with the
    /// first entry, from what the server shows and was verified.
    pub(crate) async fn export_log(&mut self) -> Step<Vec<u8>> {
        self.load().await?;
        let (room, vault, ours) = (self.room.clone(), self.vault, self.replica()?.head().n);
        let kept = self.account.context().edges.apart(move || room.store.frames(&vault, 1, ours)).await??;
        let whole = kept.iter().map(|(n, _)| *n).eq(1..=ours);
        let mut frames: Vec<Bytes> = kept.iter().map(|(_, frame)| bare(frame)).collect();
        if !whole {
            frames.clear();
            self.read_again(|page| frames.extend(page.iter().map(|frame| bare(frame)))).await?;
            frames.truncate(usize::try_from(ours).unwrap_or(usize::MAX));
        }
        let export = LogExport {
            version: VERSION,
            server_name: self.account.kept().server_name,
            vid: self.vault,
            head_key: self.room.shared().head_key,
            heads: self.replica()?.state.reached.into_iter().collect(),
            people: authors_of(frames.iter(), &self.room.crowd()),
            frames,
        };
        Ok(Exhibit::VaultLog(export).to_bytes())
    }

    async fn read_again(&mut self, mut page_is_right: impl FnMut(&[Bytes])) -> Step<u64> {
        self.load().await?;
        let (context, vault) = (self.account.context(), self.vault);
        let mut log: Option<VaultLog> = None;
        let mut asked = None;
        loop {
            let after = log.as_ref().map_or(0, |log| log.head().n);
            let page =
                self.account.call(|bearer| async move { context.api.vault_log(&bearer, &vault, after, PAGE).await });
            let page = page.await?;
            let head = self.signed(&page.head).await?;
            if page.frames.is_empty() {
                break;
            }
            let crowd = self.room.crowd();
            let verify = move || {
                let (verified, outcome) = verify(log, &page.frames, &crowd.logs);
                let taken = verified.as_ref().map_or(0, |log| log.head().n).saturating_sub(after);
                let taken = usize::try_from(taken).unwrap_or(usize::MAX).min(page.frames.len());
                (verified, outcome, page.frames, taken)
            };
            let (verified, outcome, frames, taken) = context.edges.apart(verify).await?;
            log = verified;
            page_is_right(&frames[..taken]);
            match outcome {
                Ok(()) => {}
                Err(Refusal::AccountLogNeeded { user, index }) if asked != Some((user, index)) => {
                    self.learn_person(user).await?;
                    asked = Some((user, index));
                }
                Err(refusal) => return Err(Alarm::refused(head.head.n, &refusal).with_heads([head]).into()),
            }
        }
        let ours = self.replica()?.head();
        let log = log.filter(|log| log.core().vault() == vault);
        match log.as_ref().map(|log| log.compare(&ours)) {
            Some(Extends::Yes | Extends::Forgotten) => Ok(log.map_or(0, |log| log.head().n)),
            Some(Extends::Forked) => Err(Alarm::refused(ours.n, &Refusal::Fork { n: ours.n }).into()),
            Some(Extends::Shorter) | None => {
                let offered = log.map_or(0, |log| log.head().n);
                Err(Alarm::refused(ours.n, &Refusal::Rollback { known: ours.n, offered }).into())
            }
        }
    }
}

fn verify(
    mut log: Option<VaultLog>,
    frames: &[Bytes],
    people: &impl People,
) -> (Option<VaultLog>, Result<(), Refusal>) {
    for bytes in frames {
        let taken = Frame::parse(bytes).map_err(Refusal::from).and_then(|frame| match &mut log {
            Some(log) => log.apply(&frame.entry, frame.beside(), people).map(drop),
            None => VaultLog::create(&frame.entry, people).map(|(begun, _)| log = Some(begun)),
        });
        if let Err(refusal) = taken {
            return (log, Err(refusal));
        }
    }
    (log, Ok(()))
}
