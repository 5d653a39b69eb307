//! `selkie status` and `compare`: how far sync has come on this device, what would help where it has not, and how far
//! the others are.
//!
//! Owns the words for it. No server is asked.

use super::vault::called;
use crate::args::StatusArgs;
use crate::place::{Owner, Place};
use crate::terminal::{Terminal, time};
use anyhow::Context as _;
use futures_util::StreamExt as _;
use selkie_client::{Blocked, BlockedPlace, Compared, DeviceDigest, Status, SyncState, VaultComparison};
use serde_json::{Value, json};

pub(super) async fn run(place: &Place<'_>, terminal: Terminal, args: &StatusArgs) -> anyhow::Result<()> {
    let owner = place.owner().await?;
    if args.digests {
        return digests(&owner, terminal).await;
    }
    let Owner::Account(account) = owner else {
        return by_itself(&owner, terminal).await;
    };
    let status = account.status().next().await.context("there is no status")?;
    let mut text = format!(
        "state         {}\nwaiting       {} to be sent\nlast in step  {}\n",
        in_words(&status.state),
        status.pending,
        status.last_success_ms.map_or("never".into(), time),
    );
    if status.set_aside > 0 {
        text.push_str(&format!("set aside     {} that cannot be read here\n", status.set_aside));
    }
    if status.left_out > 0 {
        text.push_str(&format!("left out      {} vaults are not on this device\n", status.left_out));
    }
    for blocked in &status.blocked {
        text.push_str(&format!("\n{}: {}\n  {}\n", place_of(&blocked.what), blocked.reason, help(blocked)));
    }
    if status.more_blocked > 0 {
        text.push_str(&format!("\nand {} more\n", status.more_blocked));
    }
    terminal.answer(&text, &object(&status));
    Ok(())
}

/// Without an account there is nothing to come into step with.
async fn by_itself(owner: &Owner, terminal: Terminal) -> anyhow::Result<()> {
    let vaults = owner.vaults().await?;
    let pending: u64 = vaults.iter().map(|vault| vault.pending).sum();
    let text = format!(
        "state         by itself: nobody has signed up or in on this device\nkept          {pending} writes in {} vaults\n",
        vaults.len()
    );
    terminal.answer(&text, &json!({ "state": "alone", "pending": pending, "vaults": vaults.len() }));
    Ok(())
}

async fn digests(owner: &Owner, terminal: Terminal) -> anyhow::Result<()> {
    let (mut text, mut objects) = (String::new(), Vec::new());
    for summary in owner.vaults().await? {
        let Some(vault) = owner.find(&summary.id.to_string()).await? else { continue };
        let digest = vault.digest().await?;
        // What is not in the log is in no digest.
        let waiting = if summary.pending > 0 { format!("  ({} not sent yet)", summary.pending) } else { String::new() };
        text.push_str(&format!("{}  {:<24}  {digest}{waiting}\n", summary.id, called(&summary)));
        objects.push(json!({
            "vault": summary.id.to_string(),
            "name": summary.name,
            "digest": digest.to_string(),
            "n": digest.n,
            "pending": summary.pending,
        }));
    }
    terminal.answer(&text, &json!({ "vaults": objects }));
    Ok(())
}

/// `selkie compare`
pub(super) async fn compare(place: &Place<'_>, terminal: Terminal) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let (mut text, mut vaults) = (String::new(), Vec::new());
    for VaultComparison { vault, name, here, devices } in account.compare().await? {
        text.push_str(&format!("{vault}  {:<24}  {here}\n", name.as_deref().unwrap_or("(no name here)")));
        let mut list = Vec::new();
        for DeviceDigest { device, name, told_ms, digest, compared } in devices {
            let (word, says) = match compared {
                Compared::Same => ("same", "the same".to_owned()),
                Compared::Behind(by) => ("behind", format!("{by} behind")),
                Compared::Ahead(by) => ("ahead", format!("{by} ahead: selkie sync")),
                Compared::Different => ("different", "another history: selkie sync".to_owned()),
                _ => ("unknown", "cannot be told".to_owned()),
            };
            let called = if name.is_empty() { device.to_string() } else { name.clone() };
            text.push_str(&format!("    {called:<24}  {digest}  {says}  (told {})\n", time(told_ms)));
            list.push(json!({
                "device": device.to_string(),
                "name": name,
                "told_ms": told_ms,
                "digest": digest.to_string(),
                "compared": word,
            }));
        }
        let digest = here.to_string();
        vaults.push(json!({ "vault": vault.to_string(), "name": name, "digest": digest, "devices": list }));
    }
    terminal.answer(&text, &json!({ "vaults": vaults }));
    Ok(())
}

fn in_words(state: &SyncState) -> String {
    match state {
        SyncState::Alone => "by itself: nobody has signed up or in on this device".into(),
        SyncState::Offline => "the server cannot be reached".into(),
        SyncState::PutOff(reason) => reason.clone(),
        SyncState::Syncing { done, of, to_read: 0 } => format!("coming into step, {done} of {of} vaults"),
        SyncState::Syncing { done, of, to_read } => {
            format!("coming into step, {done} of {of} vaults, {to_read} to be read in the next")
        }
        SyncState::Pending(0) => "not in step yet: selkie sync".into(),
        SyncState::Pending(_) => "waiting for a sync: selkie sync".into(),
        SyncState::Synced { .. } => "in step".into(),
        SyncState::Blocked(reason) => format!("blocked: {reason}"),
        _ => "a state this version does not know".into(),
    }
}

fn word(state: &SyncState) -> &'static str {
    match state {
        SyncState::Alone => "alone",
        SyncState::Offline => "offline",
        SyncState::PutOff(_) => "put_off",
        SyncState::Syncing { .. } => "syncing",
        SyncState::Pending(_) => "pending",
        SyncState::Synced { .. } => "synced",
        SyncState::Blocked(_) => "blocked",
        _ => "unknown",
    }
}

fn place_of(what: &BlockedPlace) -> String {
    match what {
        BlockedPlace::Vault { id, name } => name.clone().unwrap_or_else(|| id.to_string()),
        BlockedPlace::Record { id, .. } => format!("record {id}"),
        _ => "everything".into(),
    }
}

/// In the words of this command, where it has a command for it.
fn help(blocked: &Blocked) -> String {
    match blocked.kind {
        "sign_in_again" => format!("{} selkie sign-in", blocked.unblock),
        _ => blocked.unblock.clone(),
    }
}

fn object(status: &Status) -> Value {
    let blocked = status.blocked.iter().map(|blocked| {
        let (vault, record) = match &blocked.what {
            BlockedPlace::Vault { id, .. } => (Some(id.to_string()), None),
            BlockedPlace::Record { vault, id } => (Some(vault.to_string()), Some(id.to_string())),
            _ => (None, None),
        };
        json!({
            "vault": vault,
            "record": record,
            "kind": blocked.kind,
            "reason": blocked.reason,
            "unblock": help(blocked),
        })
    });
    json!({
        "state": word(&status.state),
        "pending": status.pending,
        "set_aside": status.set_aside,
        "left_out": status.left_out,
        "last_success_ms": status.last_success_ms,
        "blocked": blocked.collect::<Vec<_>>(),
        "more_blocked": status.more_blocked,
    })
}
