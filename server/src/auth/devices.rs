//! The devices of an account: adding one, taking one away, and what the server can say of them.
//!
//! A device is what the account's log says it is; the server keeps a copy it can look up, and never one of its own
//! making.

use super::account::{append, kind};
use super::sessions::Caller;
use super::{Auth, Refusal, Result, plain};
use crate::store::{AccountChange, NewDevice};
use selkie_protocol::Bytes;
use selkie_protocol::account::{AddDevice, Device, DeviceLabel, Devices, RevokeDevice};
use selkie_protocol::account_log::{AccountLog, Payload};
use selkie_protocol::id::DeviceId;
use selkie_protocol::session::{DEVICE_LABEL_LENGTH, DeviceLabelBytes, Tokens};

/// Devices an account may have at a time where its tenant's plan says nothing.
pub const MAX_DEVICES: u32 = 64;

impl Auth {
    /// `GET /v1/account/devices`
    pub async fn devices(&self, caller: &Caller) -> Result<Devices> {
        caller.must_be_full()?;
        let rows = self.store.devices(caller.tenant, caller.account).await?;
        let mut devices = Vec::with_capacity(rows.len());
        for row in rows {
            let label: DeviceLabelBytes = match <[u8; DEVICE_LABEL_LENGTH]>::try_from(row.label) {
                Ok(label) => label.into(),
                Err(_) => return Err(Refusal::broken("a device's label is damaged")),
            };
            devices.push(Device {
                did: row.device,
                label,
                added_at_ms: row.added_at.unsigned_abs(),
                last_seen_ms: row.last_seen.map(i64::unsigned_abs),
                revoked_at_ms: row.revoked_at.map(i64::unsigned_abs),
            });
        }
        Ok(Devices { devices })
    }

    /// `POST /v1/account/devices`: certifies the device that asks, and binds this session to it.
    pub async fn add_device(&self, caller: &Caller, request: AddDevice) -> Result<Tokens> {
        self.may_change_keys(caller)?;
        if caller.device.is_some() {
            return Err(Refusal::Conflict("this session has a device already"));
        }
        let mut change = self.certified(caller, request.entry, &request.label).await?;
        let device = change.add_device.as_ref().expect("certified adds a device");
        self.verify_session_asked_for(caller, &device.public_key, &request.signature.0)?;
        let device = device.device;
        change.bind_session = Some((caller.session, device, self.life(true, change.now)));
        change.audit = vec![self.audit("device_added", Some(device))];
        self.store.change_account(caller.tenant, caller.account, change).await?;
        self.session_tokens(caller.tenant, caller.session).await
    }

    /// `POST /v1/account/devices/{did}/revoke`: the device loses its sessions at once, and the keys of what comes.
    pub async fn revoke_device(&self, caller: &Caller, device: DeviceId, request: RevokeDevice) -> Result<()> {
        self.may_change_keys(caller)?;
        let mut log = self.verified_log(caller).await?;
        let log_length = log.next_index();
        let payloads = append(&mut log, &request.entries, &[kind::DEVICE_REVOKE, kind::USER_KEM])?;
        if payloads.first() != Some(&Payload::DeviceRevoke { device }) {
            return Err(Refusal::LogEntryRefused("the entry revokes another device".into()));
        }
        let change = AccountChange {
            now: self.edges.now_ms(),
            log_length,
            entries: plain(&request.entries),
            revoke_device: Some(device),
            labels: labels_of(&log, &request.labels)?,
            audit: vec![self.audit("device_revoked", Some(device))],
            ..AccountChange::default()
        };
        Ok(self.store.change_account(caller.tenant, caller.account, change).await?)
    }

    /// The change that a DEVICE_ADD makes, if the log takes it.
    pub(super) async fn certified(
        &self,
        caller: &Caller,
        entry: Bytes,
        label: &DeviceLabelBytes,
    ) -> Result<AccountChange> {
        let mut log = self.verified_log(caller).await?;
        let log_length = log.next_index();
        let payloads = append(&mut log, std::slice::from_ref(&entry), &[kind::DEVICE_ADD])?;
        let Some(Payload::DeviceAdd { device, key, .. }) = payloads.first() else {
            return Err(Refusal::LogEntryRefused("not the addition of a device".into()));
        };
        let now = self.edges.now_ms();
        let max_devices = self.tenant_row(caller).await?.max_devices.unwrap_or(i64::from(MAX_DEVICES));
        Ok(AccountChange {
            now,
            log_length,
            entries: vec![entry.0],
            add_device: Some(NewDevice {
                device: *device,
                public_key: *key.as_bytes(),
                label: label.to_vec(),
                added_at: now,
            }),
            max_devices: Some(max_devices),
            ..AccountChange::default()
        })
    }
}

/// Labels may be given to devices that are there, each at most once.
fn labels_of(log: &AccountLog, labels: &[DeviceLabel]) -> Result<Vec<(DeviceId, Vec<u8>)>> {
    let mut seen = std::collections::BTreeSet::new();
    for label in labels {
        if log.active_device(&label.did).is_none() || !seen.insert(label.did) {
            return Err(Refusal::invalid("labels", "a device that is not there, or twice the same"));
        }
    }
    Ok(labels.iter().map(|label| (label.did, label.label.to_vec())).collect())
}
