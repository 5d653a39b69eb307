//! Vaults: made, written by several devices and people, and still the same for all of them.

mod converge;
mod follows;
mod forks;
mod lies;
mod lives;
mod own;
mod proofs;
mod removed;
mod restored;

use crate::fake::Fake;
use selkie_client::{Account, RecordId, SignIn, SignUp, SignedUp, Vault};
use std::sync::Arc;

pub(crate) const PASSWORD: &str = "correct horse";
pub(crate) const APP: &str = "org.example.journal";

pub(crate) async fn person(server: &Arc<Fake>, name: &str) -> SignedUp {
    let options = SignUp { device_name: "laptop".into(), ..SignUp::default() };
    server.device().sign_up(name, PASSWORD, options).await.unwrap()
}

/// Another device of the same person.
pub(crate) async fn another_device(server: &Arc<Fake>, name: &str, first: &SignedUp) -> Account {
    let options = SignIn { device_name: "phone".into(), ..SignIn::default() };
    server.device().sign_in(name, PASSWORD, first.sheet.secret_key(), options).await.unwrap().account
}

pub(crate) fn id(number: u8) -> RecordId {
    RecordId([number; 16])
}

pub(crate) async fn same(vaults: &[&Vault]) {
    let first = vaults[0].digest().await.unwrap();
    for vault in vaults {
        assert_eq!(vault.digest().await.unwrap(), first);
    }
}

pub(crate) async fn text(vault: &Vault, number: u8) -> Option<String> {
    vault.get(id(number)).await.unwrap().map(|record| String::from_utf8(record.data).unwrap())
}
