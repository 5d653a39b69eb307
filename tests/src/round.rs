//! What nearly every story does again and again: one round of a device with the server, after which all is well.

use selkie_client::{Account, Vault};

/// Comes into step in every vault.
pub async fn step(account: &Account) {
    let outcome = account.sync().await.expect("the server is there");
    if let Some((vault, error)) = outcome.first_error() {
        panic!("{vault} did not come into step: {error:?}");
    }
}

/// The vault that most stories are about.
pub async fn journal(account: &Account) -> Vault {
    account.vault("Journal").await.unwrap().expect("the journal is here")
}
