//! Reading a vault's log once more, from the first entry on.
//!
//! Owns the going through: to verify what is kept against what the server shows now. Keeps nothing.

use super::driver::{Round, Step};
use crate::api::PageSize;
use crate::trust::Alarm;
use selkie_protocol::Bytes;
use selkie_protocol::log::{Extends, Frame, People, Refusal, VaultLog};

const PAGE: PageSize = PageSize { entries: 1_000, bytes: 4 << 20, live_only: true };

impl Round<'_> {
    /// Verifies the whole log as the server shows it, and that ours is a part of it. Returns how many
    /// entries that were.
    pub(crate) async fn verify_again(&mut self) -> Step<u64> {
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
            let verify = move || verify(log, &page.frames, &crowd.logs);
            let (verified, outcome) = context.edges.apart(verify).await?;
            log = verified;
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
