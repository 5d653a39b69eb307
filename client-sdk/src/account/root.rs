//! The root secret, for one operation.
//!
//! Owns the way from a password typed again to a root secret that may sign, and the session that comes with it. The
//! secret lives in the value returned here and nowhere else.

use super::Account;
use super::kept::Kept;
use crate::context::Context;
use crate::error::{Error, Misbehaviour, Result};
use crate::keys::OpenRoot;
use crate::password::{Credentials, Entered, PasswordProof};
use crate::trust::{Evidence, FirstCheck, Kek};
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
}

/// What passed the first check.
pub(super) struct Checked {
    pub(super) open: OpenRoot,
    pub(super) keybag: Keybag,
    pub(super) entries: Vec<Bytes>,
}

impl Context {
    /// Fetches keybag and log and makes the first check. Both are always fetched before either is looked at, so that
    /// what is asked says nothing about what was wrong.
    pub(super) async fn first_check(
        &self,
        bearer: &Private,
        kek: Kek<'_>,
        server_name: &str,
        login_name: &LoginName,
        claimed: Option<selkie_protocol::id::UserId>,
        seen: Option<&Kept>,
    ) -> Result<Checked> {
        let keybag = self.api.keybag(bearer).await?.keybag;
        let entries = self.fetch_log(bearer, 0).await?;
        let check = FirstCheck {
            keybag: &keybag,
            entries: &entries,
            kek,
            server_name,
            login_name,
            claimed,
            seen: seen.map(|kept| &kept.log),
        };
        match check.pass() {
            Ok((open, keybag)) => Ok(Checked { open, keybag, entries }),
            Err(kind) => {
                let ours = seen.map_or(&[][..], |kept| &kept.entries);
                let evidence = Evidence::new(kind, self.now_ms(), server_name)
                    .ours(seen.map(|kept| &kept.log), ours)
                    .served(0, &entries);
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
    /// Signs in again with the password, makes the first check, and takes over the new session.
    pub(super) async fn reenter(&self, proof: &PasswordProof) -> Result<Reentered> {
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
        let kek = Kek::Password(&export_key);
        let seen = Some(&kept);
        let checked =
            context.first_check(&bearer, kek, &kept.server_name, &self.0.login_name, tokens.uid, seen).await?;
        let replaced = kept.secrets.session.as_ref().map(|session| session.access_token.clone());
        self.take_session(&tokens).await?;
        let (log, entries, master_key) =
            (checked.open.log.clone(), checked.entries.clone(), Arc::new(checked.open.master_key()));
        let kept = self
            .change(move |kept| {
                kept.take_log(&log, &entries);
                kept.secrets.master_key = Some(master_key);
            })
            .await?;
        if let Some(replaced) = replaced {
            context.end_replaced(&replaced).await;
        }
        Ok(Reentered { open: checked.open, keybag: checked.keybag, bearer, kept })
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
