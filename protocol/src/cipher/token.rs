//! Tokens sealed under the session key of the sign-in they answer.
//!
//! Owns the opening of `sealed_tokens`: ChaCha20-Poly1305 under a key that is used once, hence with a nonce of zeros.
//! A middlebox that ends TLS and keeps bodies has the sealed tokens and no key to them.

use super::OpenError;
use crate::codec::Face;
use crate::hash::Label;
use crate::id::LoginId;
use crate::kdf::kdf;
use crate::opaque::SessionKey;
use crate::session::Tokens;
use chacha20poly1305::aead::{Aead as _, KeyInit as _};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use zeroize::Zeroizing;

/// Opens the tokens of a sign-in that this client just finished.
pub fn open(session_key: &SessionKey, login: &LoginId, sealed: &[u8]) -> Result<Tokens, OpenError> {
    let encoded =
        cipher(session_key, login).decrypt(&Nonce::from([0; 12]), sealed).map(Zeroizing::new).map_err(|_| OpenError)?;
    Face::Cbor.decode(&encoded).map_err(|_| OpenError)
}

/// What a server does, for those who stand in for one. Twice under one session key would be once too often.
pub fn seal(session_key: &SessionKey, login: &LoginId, tokens: &Tokens) -> Vec<u8> {
    let encoded = Zeroizing::new(Face::Cbor.encode(tokens));
    cipher(session_key, login)
        .encrypt(&Nonce::from([0; 12]), encoded.as_slice())
        .expect("tokens are far shorter than the cipher's limit")
}

fn cipher(session_key: &SessionKey, login: &LoginId) -> ChaCha20Poly1305 {
    let key = kdf::<32>(session_key.as_bytes(), b"", Label::TOKEN_WRAP, login.as_bytes());
    ChaCha20Poly1305::new((&*key).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::AccountState;
    use crate::id::SessionId;
    use crate::session::{RefreshTokenBytes, Scope};

    fn tokens() -> Tokens {
        Tokens {
            access_token: "header.claims.signature".into(),
            expires_in: 900,
            refresh_token: RefreshTokenBytes::from([7; 60]),
            session: SessionId([1; 16]),
            scope: Scope::Full,
            account: AccountState::Active,
            uid: None,
        }
    }

    #[test]
    fn only_the_sign_in_they_answer_opens_them() {
        let (key, login) = (SessionKey::for_tests([5; 64]), LoginId([2; 24]));
        let sealed = seal(&key, &login, &tokens());
        assert_eq!(open(&key, &login, &sealed).unwrap(), tokens());
        assert_eq!(open(&key, &LoginId([3; 24]), &sealed), Err(OpenError));
        assert_eq!(open(&SessionKey::for_tests([6; 64]), &login, &sealed), Err(OpenError));
    }

    #[test]
    fn bent_tokens_do_not_open() {
        let (key, login) = (SessionKey::for_tests([5; 64]), LoginId([2; 24]));
        let sealed = seal(&key, &login, &tokens());
        for at in 0..sealed.len() {
            let mut bent = sealed.clone();
            bent[at] ^= 1;
            assert_eq!(open(&key, &login, &bent), Err(OpenError), "byte {at}");
        }
        assert_eq!(open(&key, &login, &[]), Err(OpenError));
    }
}
