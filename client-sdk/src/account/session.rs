//! The session: an access token for each call, renewed before it ends, by one call at a time.
//!
//! Owns when a token is renewed, when a refusal is believed and when to stop asking. A server that answers everything
//! with 401 gets a handful of requests and then none: it cannot make the app ask for the password again and again.

use super::Account;
use super::kept::{Kept, KeptSession, Phase};
use crate::error::{Error, Result, SignInReason};
use crate::transport::TransportError;
use futures_util::future::{Either, select};
use selkie_protocol::hash::{Label, sha256};
use selkie_protocol::session::{DeviceProof, REFRESH_PURPOSE, Refresh, Tokens};
use selkie_protocol::{ErrorCode, Private};
use std::pin::pin;
use std::sync::PoisonError;
use std::time::Duration;

/// A token this close to its end is renewed first.
const MARGIN_MS: u64 = 30_000;
/// Shorter than the transport's own patience, so that a renewal whose answer got lost is repeated while somebody is
/// still waiting. The server knows a repetition by the device's signature, however late it comes.
const LONGEST_EXCHANGE: Duration = Duration::from_secs(15);
/// How often a call is repeated with a new token before the server is no longer believed.
const MOST_REFRESHES: u32 = 2;

/// What a refused call means.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// Not about the session at all.
    Other,
    RenewAndRepeat,
    /// Another program on this device has renewed the session meanwhile.
    RepeatWithTheirs,
    Over(SignInReason),
}

/// Decides, from what was refused and what is known, and from nothing else.
fn judge(error: &Error, refreshes: u32, theirs_is_newer: bool) -> Verdict {
    match error {
        Error::SignInAgain { reason: reason @ (SignInReason::SessionEnded | SignInReason::DeviceRevoked) } => {
            if theirs_is_newer && refreshes == 0 {
                Verdict::RepeatWithTheirs
            } else {
                Verdict::Over(*reason)
            }
        }
        Error::Refused(refusal) if matches!(refusal.code, ErrorCode::Unauthenticated | ErrorCode::TokenExpired) => {
            if refreshes < MOST_REFRESHES {
                Verdict::RenewAndRepeat
            } else {
                Verdict::Over(SignInReason::ServerKeepsRefusing)
            }
        }
        _ => Verdict::Other,
    }
}

impl Account {
    /// Makes a call with a token that is good, or learns why there is none.
    pub(crate) async fn call<T, F: Future<Output = Result<T>>>(&self, call: impl Fn(Private) -> F) -> Result<T> {
        self.not_stopped()?;
        let kept = self.kept();
        if kept.phase == Phase::Alone {
            return Err(Error::NoAccount);
        }
        self.context().reaches_the_server_of(&kept)?;
        let mut session = self.usable_session().await?;
        let mut refreshes = 0;
        loop {
            let error = match call(session.access_token.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let present = self.reload().await?.secrets.session;
            let theirs_is_newer = present.as_ref().is_some_and(|present| present.session != session.session);
            match judge(&error, refreshes, theirs_is_newer) {
                Verdict::Other => return Err(error),
                Verdict::RepeatWithTheirs => {
                    refreshes += 1;
                    session = self.usable_session().await?;
                }
                Verdict::RenewAndRepeat => {
                    refreshes += 1;
                    session = self.renew(&session).await?;
                }
                Verdict::Over(reason) => return Err(self.over(reason).await),
            }
        }
    }

    /// Takes the session of a sign-in that has passed its checks.
    pub(super) async fn take_session(&self, tokens: &Tokens) -> Result<Kept> {
        let session = KeptSession::new(tokens, self.context().now_ms());
        let kept = self
            .change(move |kept| {
                kept.secrets.session = Some(session);
                kept.phase = Phase::SignedIn;
                kept.ended = None;
            })
            .await?;
        *self.0.stopped.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(kept)
    }

    async fn usable_session(&self) -> Result<KeptSession> {
        let kept = self.kept();
        let Some(session) = kept.secrets.session else {
            return Err(Error::sign_in_again(kept.ended.unwrap_or(SignInReason::SignedOut)));
        };
        if session.good_until_ms > self.context().now_ms().saturating_add(MARGIN_MS) {
            return Ok(session);
        }
        self.renew(&session).await
    }

    /// Exchanges the refresh token, unless somebody else has just done so: another call of ours, or another program
    /// with the same folder. Two exchanges of one token would look like a theft and end the session.
    async fn renew(&self, used: &KeptSession) -> Result<KeptSession> {
        let _ours = self.0.refreshing.lock().await;
        let (store, folder) = (self.0.context.keeper.store.clone(), self.0.folder.clone());
        let theirs = self.context().edges.apart(move || store.lock(&folder)).await??;
        let kept = self.reload().await?;
        let Some(session) = kept.secrets.session.clone() else {
            return Err(Error::sign_in_again(kept.ended.unwrap_or(SignInReason::SignedOut)));
        };
        if session != *used {
            return Ok(session);
        }
        let answer = self.exchange(&kept, &session).await;
        let tokens = match answer {
            Ok(tokens) => tokens,
            Err(error) => {
                drop(theirs);
                return Err(self.renewal_failed(error).await);
            }
        };
        let renewed = KeptSession::new(&tokens, self.context().now_ms());
        let mut changed = kept;
        changed.secrets.session = Some(renewed.clone());
        self.context().save_locked(&changed).await?;
        *self.0.kept.lock().unwrap_or_else(PoisonError::into_inner) = changed;
        tracing::debug!("the session was renewed");
        drop(theirs);
        Ok(renewed)
    }

    /// A token whose answer was lost may be shown again for some seconds; later it looks stolen. So nobody waits long
    /// for the answer, and the second attempt follows at once.
    async fn exchange(&self, kept: &Kept, session: &KeptSession) -> Result<Tokens> {
        match self.exchange_soon(kept, session).await {
            Err(Error::Offline(error)) => {
                tracing::debug!(%error, "the renewal of the session is tried once more");
                self.exchange_soon(kept, session).await
            }
            answer => answer,
        }
    }

    async fn exchange_soon(&self, kept: &Kept, session: &KeptSession) -> Result<Tokens> {
        let exchange = pin!(self.exchange_once(kept, session));
        let patience = self.context().edges.runtime.patience(LONGEST_EXCHANGE);
        match select(exchange, patience).await {
            Either::Left((answer, _)) => answer,
            Either::Right(_) => Err(Error::Offline(TransportError::TimedOut)),
        }
    }

    async fn exchange_once(&self, kept: &Kept, session: &KeptSession) -> Result<Tokens> {
        let refresh_token = session.refresh_token()?;
        let challenge = self.context().api.challenge().await?.challenge;
        let device = &kept.secrets.device;
        let parts: [&[u8]; 3] = [&challenge, &sha256(refresh_token.as_ref()), REFRESH_PURPOSE];
        let signature = device.sign(Label::REFRESH, &parts).0.into();
        let proof = DeviceProof { did: device.id(), challenge, signature };
        self.context().api.refresh(&Refresh { refresh_token, device: Some(proof) }).await
    }

    async fn renewal_failed(&self, error: Error) -> Error {
        match error {
            Error::SignInAgain { reason } => self.over(reason).await,
            Error::Refused(refusal) if matches!(refusal.code, ErrorCode::Unauthenticated | ErrorCode::TokenExpired) => {
                self.over(SignInReason::SessionEnded).await
            }
            other => other,
        }
    }

    /// The session is over. What the server says of that is remembered, so that the app can say it too.
    async fn over(&self, reason: SignInReason) -> Error {
        *self.0.stopped.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason);
        // A server that merely refuses everything has not said that the session ended: after a restart it is asked
        // again.
        if reason != SignInReason::ServerKeepsRefusing {
            let forget = self
                .change(move |kept| {
                    kept.secrets.session = None;
                    kept.phase = Phase::SignedOut;
                    kept.ended = Some(reason);
                })
                .await;
            if let Err(error) = forget {
                tracing::warn!(%error, "the end of the session could not be written down");
            }
        }
        Error::sign_in_again(reason)
    }

    pub(super) fn not_stopped(&self) -> Result<()> {
        match *self.0.stopped.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(reason) => Err(Error::sign_in_again(reason)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Refusal;

    fn refused(code: ErrorCode) -> Error {
        let text = String::new;
        Error::Refused(Refusal { code, title: text(), detail: None, advice: text(), request_id: text() })
    }

    #[test]
    fn an_expired_token_is_renewed_twice_and_no_more() {
        let expired = refused(ErrorCode::TokenExpired);
        assert_eq!(judge(&expired, 0, false), Verdict::RenewAndRepeat);
        assert_eq!(judge(&expired, 1, false), Verdict::RenewAndRepeat);
        assert_eq!(judge(&expired, 2, false), Verdict::Over(SignInReason::ServerKeepsRefusing));
    }

    #[test]
    fn an_ended_session_is_over_unless_another_program_has_a_newer_one() {
        let ended = Error::sign_in_again(SignInReason::SessionEnded);
        assert_eq!(judge(&ended, 0, false), Verdict::Over(SignInReason::SessionEnded));
        assert_eq!(judge(&ended, 0, true), Verdict::RepeatWithTheirs);
        assert_eq!(judge(&ended, 1, true), Verdict::Over(SignInReason::SessionEnded));
    }

    #[test]
    fn a_refusal_that_is_not_about_the_session_leaves_it_alone() {
        assert_eq!(judge(&refused(ErrorCode::Forbidden), 0, true), Verdict::Other);
        assert_eq!(judge(&Error::WrongCredentials, 0, true), Verdict::Other);
        assert_eq!(judge(&Error::sign_in_again(SignInReason::PasswordNeeded), 0, true), Verdict::Other);
    }
}
