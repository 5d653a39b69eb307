//! The devices of an account.
//!
//! Owns the list, which the signed log decides and the server only annotates, and the revoking of a device, which also
//! renews the keys it knew.

use super::Account;
use super::kept::Kept;
use super::root::Reentered;
use super::sign_in::MOST_CONFLICTS;
use crate::error::{Error, Misbehaviour, Result};
use crate::keys::OpenRoot;
use crate::password::PasswordProof;
use crate::trust::Evidence;
use selkie_protocol::account::{self, DeviceLabel, RevokeDevice};
use selkie_protocol::account_log::Payload;
use selkie_protocol::cipher::AccountMasterKey;
use selkie_protocol::id::DeviceId;
use selkie_protocol::{Bytes, ErrorCode};

/// One device, as the account's own log has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its id in the account.
    pub id: DeviceId,
    /// Missing where it cannot be opened with the keys this device has.
    pub name: Option<String>,
    /// It is the device that asks.
    pub this_device: bool,
    /// It was sent away, and stays in the list for the record.
    pub revoked: bool,
    /// In the server's words, as are the other times.
    pub added_at_ms: Option<u64>,
    /// When the server last heard of it, by the server's clock.
    pub last_seen_ms: Option<u64>,
}

/// The list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Devices {
    /// All that the account log names, revoked ones among them.
    pub devices: Vec<Device>,
    /// Another device has renewed the account's keys: names stay closed until [`Account::unlock`].
    pub keys_renewed: bool,
}

impl Account {
    /// Every device the account ever had, those in use first. A device the log does not know is an alarm, not a row.
    pub async fn devices(&self) -> Result<Devices> {
        let kept = self.sync_log().await?;
        let context = self.context();
        let mut listed = self.call(|bearer| async move { context.api.devices(&bearer).await }).await?.devices;
        let stranger = |kept: &Kept| listed.iter().any(|device| !kept.log.devices().any(|(did, _)| *did == device.did));
        // One may have been added between the two answers: look again before crying out.
        let kept = if stranger(&kept) { self.sync_log().await? } else { kept };
        if stranger(&kept) {
            let evidence = Evidence::new(Misbehaviour::UnknownDevice, context.now_ms(), &kept.server_name)
                .ours(Some(&kept.log), &kept.entries);
            return Err(context.caught(Misbehaviour::UnknownDevice, evidence).await);
        }
        let mut devices = annotated(&kept, &mut listed);
        // What a restored server has lost of their names, they have told each other.
        let has_no_name = |device: &Device| device.name.is_none() && !device.revoked;
        if devices.devices.iter().any(has_no_name) && !devices.keys_renewed {
            let known = self.known_devices().await.unwrap_or_else(|error| {
                tracing::info!(%error, "what devices have told of themselves cannot be read");
                Vec::new()
            });
            for known in known.into_iter().filter(|known| !known.name.is_empty()) {
                let device = devices.devices.iter_mut().find(|device| device.id == known.id);
                if let Some(device) = device.filter(|device| device.name.is_none()) {
                    device.name = Some(known.name);
                }
            }
        }
        Ok(devices)
    }

    /// Sends a device away for good and renews the keys it knew. Needs the password, so that a stolen device can do
    /// this to no other.
    pub async fn revoke(&self, device: &DeviceId, proof: impl Into<PasswordProof>) -> Result<()> {
        if *device == self.device_id() {
            return Err(Error::NotPossible("this device cannot revoke itself: sign out instead".into()));
        }
        let Reentered { mut open, bearer, mut kept, .. } = self.reenter(&proof.into()).await?;
        let context = self.context();
        for _ in 0..MOST_CONFLICTS {
            match open.log.devices().find(|(did, _)| *did == device) {
                None => return Err(Error::NotPossible("the account has no such device".into())),
                Some((_, known)) if known.revoked_at.is_some() => return Ok(()),
                Some(_) => {}
            }
            let listed = context.api.devices(&bearer).await?.devices;
            let (entries, labels) = revocation(&mut open, device, &listed, context.now_ms());
            let message = RevokeDevice { entries: entries.clone(), labels };
            match context.api.revoke_device(&bearer, device, &message).await {
                Ok(_) => {
                    self.accepted(&open, &kept, entries).await?;
                    tracing::info!("a device was revoked");
                    return Ok(());
                }
                Err(error) if error.code() == Some(ErrorCode::LogConflict) => {
                    kept = context.grow(&kept, &bearer).await?;
                    open.log = kept.log.clone();
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::RetryLater { after: None, why: "other devices are changing the account".into() })
    }
}

/// The two entries that send a device away, and the names of the others under the new key.
fn revocation(
    open: &mut OpenRoot,
    device: &DeviceId,
    listed: &[account::Device],
    now_ms: u64,
) -> (Vec<Bytes>, Vec<DeviceLabel>) {
    let user = open.log.user();
    let old = open.master_key();
    let new = open.root.master_key(&user, old.generation() + 1);
    let entries = vec![
        open.sign(now_ms, Payload::DeviceRevoke { device: *device }),
        open.sign(now_ms, crate::keys::kem(&new, &user)),
    ];
    let labels = listed
        .iter()
        .filter(|listed| open.log.active_device(&listed.did).is_some())
        .filter_map(|listed| {
            let name = old.open_label(&listed.did, &listed.label).ok()?;
            Some(DeviceLabel { did: listed.did, label: new.seal_label(&listed.did, &name) })
        })
        .collect();
    (entries, labels)
}

/// The log's devices with what the server says of them.
fn annotated(kept: &Kept, listed: &mut [account::Device]) -> Devices {
    let master_key = kept.secrets.master_key.as_deref();
    let newest = kept.log.kem().map(|(generation, _)| generation);
    let mut devices: Vec<Device> = kept
        .log
        .devices()
        .map(|(did, known)| {
            let row = listed.iter().find(|device| device.did == *did);
            Device {
                id: *did,
                name: row.and_then(|row| name_of(master_key?, row)),
                this_device: *did == kept.secrets.device.id(),
                revoked: known.revoked_at.is_some(),
                added_at_ms: row.map(|row| row.added_at_ms),
                last_seen_ms: row.and_then(|row| row.last_seen_ms),
            }
        })
        .collect();
    devices.sort_by_key(|device| (device.revoked, !device.this_device, device.added_at_ms, device.id));
    Devices { devices, keys_renewed: newest != master_key.map(AccountMasterKey::generation) }
}

/// Names come from the account's own devices, and are cleaned all the same: one of them may be somebody else's by now.
fn name_of(master_key: &AccountMasterKey, row: &account::Device) -> Option<String> {
    master_key.open_label(&row.did, &row.label).ok().map(|name| crate::untrusted::clean(&name))
}
