//! The account's devices.
//!
//! Owns the table and the finding of a device by the beginning of its id.

use super::with_password;
use crate::args::RevokeArgs;
use crate::failure::Usage;
use crate::place::Place;
use crate::terminal::{Terminal, time};
use selkie_client::{Account, Device, DeviceId};
use serde_json::json;

/// `selkie devices`
pub(super) async fn list(place: &Place<'_>, terminal: Terminal) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let list = account.devices().await?;
    let mut text = String::new();
    for device in &list.devices {
        let name = device.name.as_deref().unwrap_or("(name closed)");
        let state = match (device.this_device, device.revoked) {
            (true, _) => "this device".to_owned(),
            (false, true) => "revoked".to_owned(),
            (false, false) => format!("last seen {}", device.last_seen_ms.map_or("never".to_owned(), time)),
        };
        text.push_str(&format!("{}  {name:<24}  {state}\n", device.id));
    }
    if list.keys_renewed {
        terminal.remark("The account's keys were renewed on another device: selkie account unlock");
    }
    let devices: Vec<serde_json::Value> = list.devices.iter().map(object).collect();
    terminal.answer(&text, &json!({ "devices": devices, "keys_renewed": list.keys_renewed }));
    Ok(())
}

/// `selkie devices revoke ID`
pub(super) async fn revoke(place: &Place<'_>, terminal: Terminal, args: &RevokeArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let device = find(&account, &args.id).await?;
    with_password(terminal, &args.password, "Password: ", async |proof| account.revoke(&device, proof).await).await?;
    terminal.answer("The device was sent away.", &json!({ "revoked": device.to_string() }));
    Ok(())
}

async fn find(account: &Account, id: &str) -> anyhow::Result<DeviceId> {
    if let Ok(device) = id.parse() {
        return Ok(device);
    }
    let devices = account.devices().await?.devices;
    let mut found = devices.iter().filter(|device| !id.is_empty() && device.id.to_string().starts_with(id));
    match (found.next(), found.next()) {
        (Some(device), None) => Ok(device.id),
        (None, _) => Err(Usage("the account has no device of this id".into()).into()),
        (Some(_), Some(_)) => Err(Usage("several devices have ids that begin so".into()).into()),
    }
}

pub(super) fn object(device: &Device) -> serde_json::Value {
    json!({
        "id": device.id.to_string(),
        "name": device.name,
        "this_device": device.this_device,
        "revoked": device.revoked,
        "added_at_ms": device.added_at_ms,
        "last_seen_ms": device.last_seen_ms,
    })
}
