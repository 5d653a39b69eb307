//! What a member may do.
//!
//! Owns the roles and who may give which to whom. Knows nothing of who has one.

use super::reader::Malformed;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Reads.
    Viewer = 1,
    /// Writes, and may begin an epoch.
    Editor = 2,
    /// Adds and removes viewers and editors.
    Admin = 3,
    /// Everything.
    Owner = 4,
    /// Reads, so that an organisation can recover; never writes.
    Recovery = 9,
}

impl Role {
    pub(super) fn read(byte: u8) -> Result<Role, Malformed> {
        match byte {
            1 => Ok(Role::Viewer),
            2 => Ok(Role::Editor),
            3 => Ok(Role::Admin),
            4 => Ok(Role::Owner),
            9 => Ok(Role::Recovery),
            _ => Err(Malformed("unknown role")),
        }
    }

    pub fn may_write(self) -> bool {
        matches!(self, Role::Editor | Role::Admin | Role::Owner)
    }

    /// Whether a member of this role may give or take the other.
    pub fn may_govern(self, other: Role) -> bool {
        match self {
            Role::Owner => true,
            Role::Admin => matches!(other, Role::Viewer | Role::Editor),
            _ => false,
        }
    }
}
