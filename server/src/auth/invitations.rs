//! Invitations: who may make an account where not everybody may.
//!
//! A code is `I1-` and 100 random bits in Crockford's base 32. The server keeps its hash and shows the code once.

use super::{Auth, Refusal, Result};
use crate::edges::Edges;
use crate::store::{InvitationRow, NewInvitation, StoreError, Tenant, TenantRole};
use selkie_protocol::Private;
use selkie_protocol::hash::sha256;
use selkie_protocol::version::RegistrationPolicy;

const PREFIX: &str = "I1-";
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const CHARACTERS: usize = 20;

/// A new code, and the hash by which it is known again.
pub fn new_code(edges: &Edges) -> (Private, [u8; 32]) {
    let random: [u8; CHARACTERS] = edges.bytes();
    let characters: Vec<u8> = random.iter().map(|byte| ALPHABET[usize::from(byte % 32)]).collect();
    let groups: Vec<&str> =
        characters.chunks(4).map(|group| std::str::from_utf8(group).expect("the alphabet is ASCII")).collect();
    let code = format!("{PREFIX}{}", groups.join("-"));
    let hash = code_hash(&code).expect("a new code is a code");
    (code.into(), hash)
}

/// The hash of a code as somebody typed it: case, dashes and look-alikes do not matter.
pub fn code_hash(typed: &str) -> Option<[u8; 32]> {
    let typed = typed.trim().to_ascii_uppercase();
    let rest = typed.strip_prefix(PREFIX)?;
    let characters: String = rest
        .chars()
        .filter(|c| !matches!(c, '-' | ' '))
        .map(|c| match c {
            'O' => '0',
            'I' | 'L' => '1',
            other => other,
        })
        .collect();
    let valid = characters.len() == CHARACTERS && characters.bytes().all(|c| ALPHABET.contains(&c));
    valid.then(|| sha256(format!("{PREFIX}{characters}").as_bytes()))
}

impl Auth {
    /// Decides whether a registration may go on; returns the invitation it will use up.
    pub(super) async fn admit(&self, tenant: Tenant, code: Option<&Private>) -> Result<Option<[u8; 32]>> {
        match self.policy.registration {
            RegistrationPolicy::Closed => Err(Refusal::RegistrationClosed),
            RegistrationPolicy::Open if code.is_none() => Ok(None),
            RegistrationPolicy::Invite | RegistrationPolicy::Open => {
                let code = code.ok_or(Refusal::InvitationRequired)?;
                let hash = code_hash(code.as_str()).ok_or(Refusal::InvitationInvalid)?;
                self.usable(tenant, hash).await?;
                Ok(Some(hash))
            }
        }
    }

    /// Makes an invitation, for the operator to hand on.
    pub async fn invite(&self, tenant: Tenant, role: TenantRole, uses: i32, lifetime_ms: i64) -> Result<Private> {
        let (code, invitation) = self.new_invitation(role, uses, lifetime_ms);
        self.store.create_invitation(tenant, invitation, self.audit("invitation_created", None)).await?;
        Ok(code)
    }

    /// A code that makes its user the owner of a tenant of this server, while the server has no account at all. The
    /// one before is void: there is only ever one.
    pub async fn invite_first_owner(&self, tenant: Tenant, lifetime_ms: i64) -> Result<Option<Private>> {
        let (code, invitation) = self.new_invitation(TenantRole::Owner, 1, lifetime_ms);
        match self.store.replace_first_invitation(tenant, invitation).await {
            Ok(()) => Ok(Some(code)),
            Err(StoreError::NotFound(_)) => Ok(None),
            Err(failed) => Err(failed.into()),
        }
    }

    fn new_invitation(&self, role: TenantRole, uses: i32, lifetime_ms: i64) -> (Private, NewInvitation) {
        let (code, code_hash) = new_code(&self.edges);
        let created_at = self.edges.now_ms();
        let expires_at = created_at.saturating_add(lifetime_ms);
        (code, NewInvitation { code_hash, role, uses, expires_at, created_at })
    }

    async fn usable(&self, tenant: Tenant, hash: [u8; 32]) -> Result<InvitationRow> {
        let row = self.store.usable_invitation(tenant, hash, self.edges.now_ms()).await?;
        row.ok_or(Refusal::InvitationInvalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_known_again_however_it_is_typed() {
        let (code, hash) = new_code(&Edges::real());
        let code = code.as_str();
        assert_eq!(code.len(), 3 + 20 + 4, "{code}");
        assert_eq!(code_hash(code), Some(hash));
        assert_eq!(code_hash(&code.to_lowercase()), Some(hash));
        assert_eq!(code_hash(&format!("  {} ", code.replace('0', "o").replacen("I1", "i1", 1))), Some(hash));
        assert_eq!(code_hash(&format!("I1-{}", code[3..].replace('-', ""))), Some(hash));
    }

    #[test]
    fn what_is_not_a_code_is_told_without_asking_the_database() {
        for text in ["", "I1-", "R1-ABCD", "I1-ABCD", "I1-UUUU-UUUU-UUUU-UUUU-UUUU", "\u{1f}"] {
            assert_eq!(code_hash(text), None, "{text}");
        }
    }
}
