//! A live change as a new device receives it: without its entry, but with everything its payload is bound to.
//!
//! Owns the layout. The change's id is the hash of what is carried here, and the id is in the checkpoint; author and
//! epoch are not, but the payload opens under no others.
//!
//! ```text
//! item := uid 32 | did 16 | dev_seq u64 | index u16 | epoch u32 | head u8 | clear header of the change
//! ```

use super::checkpoint::Leaf;
use super::data::Change;
use super::reader::{Malformed, Reader};
use crate::id::{DeviceId, UserId, VaultId};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageItem<'a> {
    pub user: UserId,
    pub device: DeviceId,
    pub dev_seq: u64,
    pub epoch: u32,
    pub head: bool,
    pub change: Change<'a>,
}

impl<'a> PageItem<'a> {
    pub fn parse(bytes: &'a [u8]) -> Result<PageItem<'a>, Malformed> {
        let mut reader = Reader::new(bytes);
        let (user, device, dev_seq) = (UserId(reader.array()?), DeviceId(reader.array()?), reader.u64()?);
        let (index, epoch) = (reader.u16()?, reader.u32()?);
        let head = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed("a change is a head or it is not")),
        };
        Ok(PageItem { user, device, dev_seq, epoch, head, change: Change::parse(reader.rest(), index)? })
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(63 + self.change.as_bytes().len());
        out.extend_from_slice(self.user.as_bytes());
        out.extend_from_slice(self.device.as_bytes());
        out.extend_from_slice(&self.dev_seq.to_be_bytes());
        out.extend_from_slice(&self.change.index.to_be_bytes());
        out.extend_from_slice(&self.epoch.to_be_bytes());
        out.push(u8::from(self.head));
        out.extend_from_slice(self.change.as_bytes());
        out
    }

    pub fn leaf(&self, vault: &VaultId) -> Leaf {
        Leaf {
            record: self.change.record,
            change: self.change.id(vault, &self.device, self.dev_seq),
            payload: self.change.payload,
            head: self.head,
        }
    }
}
