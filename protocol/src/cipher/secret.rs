//! The material keys are made of: bytes that are wiped when dropped, show nothing and are never copied by accident.
//!
//! Owns where such bytes live (on the heap, so that moving a key leaves no copy behind) and where new ones come from.
//! Knows nothing of what they are for.

use std::fmt;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// `N` secret bytes.
#[derive(ZeroizeOnDrop)]
pub(super) struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// New ones, from the operating system.
    pub(super) fn generate() -> Self {
        let mut secret = Secret(Box::new([0; N]));
        fill_random(secret.0.as_mut_slice());
        secret
    }

    pub(super) fn from_slice(bytes: &[u8; N]) -> Self {
        let mut secret = Secret(Box::new([0; N]));
        secret.0.copy_from_slice(bytes);
        secret
    }

    pub(super) fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }

    /// A copy for whoever must write the secret down. It is wiped too.
    pub(super) fn to_bytes(&self) -> Zeroizing<[u8; N]> {
        Zeroizing::new(*self.0)
    }
}

impl<const N: usize> Zeroize for Secret<N> {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

impl<const N: usize> From<Zeroizing<[u8; N]>> for Secret<N> {
    fn from(bytes: Zeroizing<[u8; N]>) -> Self {
        Secret::from_slice(&bytes)
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Random bytes that need not stay secret, such as nonces.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill_random(&mut bytes);
    bytes
}

/// A name that nobody chose: for records, vaults and invitations.
pub fn random_id<const N: usize>() -> [u8; N] {
    random()
}

/// A system without randomness is no place to make keys: there is nothing to do but stop.
fn fill_random(bytes: &mut [u8]) {
    if let Err(error) = getrandom::fill(bytes) {
        panic!("the operating system gives no randomness, and without it no key can be made: {error}");
    }
}
