//! The root secret, for one operation.
//!
//! Owns the way from a password typed again to a root secret that may sign, and the session that comes with it. The
//! secret lives in the value returned here and nowhere else.

use super::Account;
use super::kept::{Kept, Life};
use super::restored::Given;
use crate::context::Context;
use crate::error::{Error, Misbehaviour, Result};
use crate::keys::OpenRoot;
use crate::password::{Credentials, Entered, PasswordProof};
use crate::trust::{Evidence, FirstCheck, Kek, Passed, Superseded};
use selkie_protocol::cipher::Keybag;
use selkie_protocol::name::LoginName;
use selkie_protocol::session::SignOutScope;
use selkie_protocol::{Bytes, Private};
use std::sync::Arc;

/// What a password typed again opens.
pub(super) struct Reentered {
    pub(super) open: OpenRoot,
    pub(super) keybag: Keybag,
    pub(super) bearer: Private,
    pub(super) kept: Kept,
    pub(super) superseded: Superseded,
}

/// What passed the first check.
pub(super) struct Checked {
    pub(super) open: OpenRoot,
    pub(super) keybag: Keybag,
    pub(super) entries: Vec<Bytes>,
    /// Which of the server's keys are earlier than those the account has had.
    pub(super) superseded: Superseded,
    /// The server is in a new life, in which this much is certain.
    pub(super) life: Option<Life>,
    /// The log goes on in another way than the one this device knew, and the person agrees.
    pub(super) parted: bool,
}

/// What is asked of a server that shows the keys of an account.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) kek: Kek<'a>,
    pub(super) server_name: &'a str,
    pub(super) login_name: &'a LoginName,
    /// What the sign-in said whose session this is.
    pub(super) claimed: Option<selkie_protocol::id::UserId>,
    pub(super) seen: Option<&'a Kept>,
    /// The person knows that the server was restored, and goes on with what it has.
    pub(super) accepts_loss: bool,
}

impl Context {
    /// Fetches keybag and log and makes the first check. Both are always fetched before either is looked at, so that
    /// what is asked says nothing about what was wrong.
    pub(super) async fn first_check(&self, bearer: &Private, asked: Asked<'_>) -> Result<Checked> {
        let Asked { kek, server_name, login_name, claimed, seen, accepts_loss } = asked;
        let keybag = self.api.keybag(bearer).await?.keybag;
        let mut entries = self.fetch_log(bearer, 0).await?;
        let seen_log = seen.map(|kept| &kept.log);
        let check = |entries: &[Bytes], seen, may_have_lost_after| {
            FirstCheck { keybag: &keybag, entries, kek, server_name, login_name, claimed, seen, may_have_lost_after }
                .pass()
        };
        let known_loss = seen.and_then(|kept| kept.life).and_then(|life| life.may_have_lost_after());
        let mut passed = check(&entries, seen_log, known_loss);
        let (mut life, mut parted) = (None, false);
        if let (Err(kind), Some(seen)) = (&passed, seen)
            && let Some(new) = self.another_life_explains(*kind, seen).await?
        {
            match self.give_back(bearer, None, &seen.entries, entries.clone()).await? {
                Given::Whole(whole) => entries = whole,
                Given::Parted { missing } | Given::Refused { missing } if !accepts_loss => {
                    return Err(Error::AccountBehind { missing });
                }
                Given::Parted { .. } | Given::Refused { .. } => parted = true,
                Given::OtherPerson => {}
            }
            let new = Life::after_a_restore(new);
            passed = check(&entries, seen_log.filter(|_| !parted), new.may_have_lost_after().filter(|_| !parted));
            life = Some(new);
        }
        match passed {
            Ok(Passed { open, keybag, superseded }) => Ok(Checked { open, keybag, entries, superseded, life, parted }),
            Err(kind) => {
                let ours = seen.map_or(&[][..], |kept| &kept.entries);
                let evidence = Evidence::new(kind, self.now_ms(), server_name).ours(seen_log, ours).served(0, &entries);
                Err(self.caught(kind, evidence).await)
            }
        }
    }

    /// Ends a session that another has replaced. If that fails it ends by itself before long.
    pub(super) async fn end_replaced(&self, bearer: &Private) {
        if let Err(error) = self.api.sign_out(bearer, SignOutScope::This).await {
            tracing::debug!(%error, "a replaced session was not ended");
        }
    }
}

impl Account {
    /// Signs in again with the password, makes the first check, and takes over the new session. Not with one that a
    /// restored server has taken out of its grave.
    pub(super) async fn reenter(&self, proof: &PasswordProof) -> Result<Reentered> {
        let reentered = self.reenter_to_renew(proof).await?;
        if reentered.superseded.any() { Err(Error::KeysSuperseded) } else { Ok(reentered) }
    }

    /// The same, for whoever makes new keys in place of those.
    pub(super) async fn reenter_to_renew(&self, proof: &PasswordProof) -> Result<Reentered> {
        let kept = self.reload().await?;
        let context = self.context();
        let credentials = Credentials {
            server_name: &kept.server_name,
            login_name: &self.0.login_name,
            password: proof.password.as_str(),
            secret_key: kept.secrets.secret_key.as_ref(),
        };
        let device = Some(kept.secrets.device.as_ref());
        let Entered { tokens, export_key } = context.enter(credentials, proof.second_factor.as_ref(), device).await?;
        if tokens.uid != Some(kept.user()) {
            return Err(Error::misbehaved(Misbehaviour::Contradiction));
        }
        let bearer = tokens.access_token.clone();
        let asked = Asked {
            kek: Kek::Password(&export_key),
            server_name: &kept.server_name,
            login_name: &self.0.login_name,
            claimed: tokens.uid,
            seen: Some(&kept),
            accepts_loss: false,
        };
        let checked = context.first_check(&bearer, asked).await?;
        let replaced = kept.secrets.session.as_ref().map(|session| session.access_token.clone());
        self.take_session(&tokens).await?;
        let (log, entries, master_key) =
            (checked.open.log.clone(), checked.entries.clone(), Arc::new(checked.open.master_key()));
        let (life, superseded) = (checked.life, checked.superseded);
        let kept = self
            .change(move |kept| {
                kept.take_log(&log, &entries);
                kept.live_on(life, superseded);
                kept.secrets.master_key = Some(master_key);
            })
            .await?;
        if let Some(replaced) = replaced {
            context.end_replaced(&replaced).await;
        }
        Ok(Reentered { open: checked.open, keybag: checked.keybag, bearer, kept, superseded })
    }

    /// Takes in entries that the server has just accepted after those of `grown`, the log as it was when they were
    /// made: what another device added meanwhile is part of it, and not yet on the disk.
    pub(super) async fn accepted(&self, open: &OpenRoot, grown: &Kept, entries: Vec<Bytes>) -> Result<Kept> {
        let (log, master_key) = (open.log.clone(), Arc::new(open.master_key()));
        let mut all = grown.entries.clone();
        all.extend(entries);
        self.change(move |kept| {
            if all.len() as u64 == log.next_index() {
                kept.take_log(&log, &all);
            }
            kept.secrets.master_key = Some(master_key);
        })
        .await
    }

    /// Fetches the new keys after another device has renewed them. Until then names of devices stay closed.
    pub async fn unlock(&self, proof: impl Into<PasswordProof>) -> Result<()> {
        self.reenter(&proof.into()).await.map(drop)
    }
}
