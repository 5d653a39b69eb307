//! An account on this device.
//!
//! Owns the handle that apps hold and what it has in memory. Each thing one can do with an account has its own module
//! beside this one.

mod background;
mod compare;
mod devices;
mod ending;
mod follow;
pub(crate) mod kept;
pub(crate) mod link;
mod log;
mod meant;
mod overview;
mod own_vault;
mod partial;
mod password;
mod recover;
mod recovery_key;
mod restored;
mod root;
mod second_factor;
mod session;
mod settings;
mod sheet;
mod sign_in;
mod sign_up;
mod status;
mod storage;
mod vaults;

pub use background::{Background, Switch};
pub use compare::{Compared, DeviceDigest, VaultComparison};
pub use devices::{Device, Devices};
pub use ending::{SignOut, SignedOut};
pub use follow::{Follow, News};
pub use link::{LinkInitiator, LinkInvitation, LinkRequester, NewDeviceLink};
pub use overview::{AuditEntry, Session, Standing};
pub use own_vault::KnownDevice;
pub(crate) use own_vault::OWN_APP;
pub use partial::{LeftOut, Unsent};
pub use recover::Recover;
pub use second_factor::TotpSecret;
pub use settings::Settings;
pub use sign_in::{SignIn, SignedIn};
pub use sign_up::{SignUp, SignedUp};
pub use status::{Blocked, BlockedPlace, Status, SyncState};
pub(crate) use status::{DISK_PAUSE, unreadable};
pub use storage::{Repair, StorageCheck, StorageUsage, VaultUsage};
pub use vaults::AccountSync;

use crate::context::Context;
use crate::error::{Error, Result, SignInReason};
use crate::store::Folder;
use kept::Kept;
use selkie_protocol::id::{DeviceId, UserId};
use selkie_protocol::name::LoginName;
use std::sync::{Arc, Mutex, PoisonError};

/// A signed-in account, or one that was and can be again. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Account(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) context: Arc<Context>,
    folder: Folder,
    login_name: LoginName,
    kept: Mutex<Kept>,
    /// One refresh at a time: whoever comes second finds the new token.
    refreshing: futures_util::lock::Mutex<()>,
    /// Set once the server has refused too often; until the next sign-in nothing more is asked of it.
    stopped: Mutex<Option<SignInReason>>,
    /// Opened when first needed.
    pub(crate) room: futures_util::lock::Mutex<Option<Arc<crate::sync::room::Room>>>,
}

impl Account {
    pub(crate) fn new(context: Arc<Context>, kept: Kept) -> Result<Self> {
        let login_name = LoginName::new(kept.login_name.as_str()).map_err(|_| Error::Corrupt("the name".into()))?;
        Ok(Account(Arc::new(Inner {
            context,
            folder: kept.folder(),
            login_name,
            kept: Mutex::new(kept),
            refreshing: futures_util::lock::Mutex::new(()),
            stopped: Mutex::new(None),
            room: futures_util::lock::Mutex::new(None),
        })))
    }

    /// Who this is, for life: a hash that nobody could choose.
    pub fn user_id(&self) -> UserId {
        self.kept().user()
    }

    /// The name they sign in with.
    pub fn login_name(&self) -> &str {
        self.0.login_name.as_str()
    }

    /// The server's address, as this device learned it.
    pub fn server_url(&self) -> String {
        self.kept().server_url
    }

    /// This device's id in the account.
    pub fn device_id(&self) -> DeviceId {
        self.kept().secrets.device.id()
    }

    /// Whether there is a session to work with, as far as this device knows.
    pub fn is_signed_in(&self) -> bool {
        self.kept().secrets.session.is_some()
    }

    /// Twelve digits that are the same on all devices which see the same state of the account.
    pub fn state_code(&self) -> String {
        selkie_protocol::cipher::state_code(&self.kept().log.head().hash)
    }

    /// A copy of what is kept; the secrets in it are shared, not copied.
    pub(crate) fn kept(&self) -> Kept {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes what is kept, on the disk first.
    async fn change(&self, change: impl FnOnce(&mut Kept) + Send + 'static) -> Result<Kept> {
        let (keeper, folder) = (self.0.context.keeper.clone(), self.0.folder.clone());
        let kept = self.0.context.edges.apart(move || keeper.change(&folder, change)).await??;
        let kept = kept.ok_or_else(|| Error::sign_in_again(SignInReason::SignedOut))?;
        *self.0.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept.clone();
        Ok(kept)
    }

    /// Reads what another program on this device may have changed.
    async fn reload(&self) -> Result<Kept> {
        let (keeper, folder) = (self.0.context.keeper.clone(), self.0.folder.clone());
        let kept = self.0.context.edges.apart(move || keeper.load(&folder)).await??;
        let kept = kept.ok_or_else(|| Error::sign_in_again(SignInReason::SignedOut))?;
        *self.0.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept.clone();
        Ok(kept)
    }

    /// Whether it stands for no account, but for what this device keeps by itself.
    pub(crate) fn is_alone(&self) -> bool {
        self.kept().phase == kept::Phase::Alone
    }

    /// Goes on at the address that was named, if its server is said to be there.
    pub(crate) async fn follow_its_server(&self) -> Result<()> {
        let place = self.context().place()?;
        let kept = self.kept();
        let moved = kept.server_url != place.url.as_str();
        if moved && place.accepted_name.as_deref() == Some(kept.server_name.as_str()) {
            self.change(move |kept| kept.server_url = place.url.as_str().to_owned()).await?;
        }
        Ok(())
    }

    pub(crate) fn context(&self) -> &Context {
        &self.0.context
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Account(***)")
    }
}
