//! Somebody with an account.
//!
//! Owns what a person knows, which is their password and Secret Key, and their devices.

use super::{Device, TestServer};
use crate::{Result, SignIn, SignUp};
use selkie_protocol::Private;
use std::sync::{Arc, Mutex, PoisonError};

const PASSWORD: &str = "correct horse battery staple";

/// Somebody with an account on a [`TestServer`], and devices. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Person(Arc<Parts>);

struct Parts {
    server: TestServer,
    name: String,
    devices: Mutex<Vec<Device>>,
    /// Known once the account is made; held meanwhile, so that it is made once.
    secret_key: futures_util::lock::Mutex<Option<Private>>,
}

impl Person {
    pub(super) fn new(server: TestServer, name: &str) -> Person {
        let secret_key = futures_util::lock::Mutex::new(None);
        Person(Arc::new(Parts { server, name: name.to_owned(), devices: Mutex::default(), secret_key }))
    }

    /// The name they sign in with.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Their password, for a test of the app's own sign-in or of what needs it again.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// A new device of theirs, signed in: on their first the account is made, on any other they sign in to it. It keeps
    /// everything in memory.
    pub async fn device(&self, name: &str) -> Result<Device> {
        let mut secret_key = self.0.secret_key.lock().await;
        let blank = Device::blank(&self.0.server)?;
        let (client, device_name) = (blank.client(), name.to_owned());
        let account = if let Some(key) = secret_key.as_ref() {
            let options = SignIn { device_name, ..SignIn::default() };
            client.sign_in(&self.0.name, PASSWORD, Some(key.as_str()), options).await?.account
        } else {
            let options = SignUp { device_name, ..SignUp::default() };
            let made = client.sign_up(&self.0.name, PASSWORD, options).await?;
            *secret_key = made.sheet.secret_key().map(Private::from);
            made.account
        };
        let device = blank.signed_in(name, account);
        self.0.devices.lock().unwrap_or_else(PoisonError::into_inner).push(device.clone());
        Ok(device)
    }

    /// All their devices, in the order in which they got them.
    pub fn devices(&self) -> Vec<Device> {
        self.0.devices.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl std::fmt::Debug for Person {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Person({})", self.0.name)
    }
}
