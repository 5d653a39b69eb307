//! Moving to another server.
//!
//! Owns the order: the old account comes into step, then the new one, then records are carried over, then the new
//! account comes into step once more. Whatever is cut off is done again and ends the same.

use super::vault::watched;
use crate::args::MoveToArgs;
use crate::failure::Usage;
use crate::place::Place;
use crate::terminal::Terminal;
use anyhow::Context as _;
use selkie_client::{Account, CarriedOver, CarriedVault, Vault, VaultId};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// `selkie move-to URL [VAULT]...`
pub(super) async fn move_to(place: &Place<'_>, terminal: Terminal, args: &MoveToArgs) -> anyhow::Result<()> {
    let (from, to) = place.two_accounts(args).await?;
    let mut named = Vec::new();
    for name in &args.vaults {
        let vault = from.vault(name).await?;
        named.push(vault.ok_or_else(|| Usage(format!("this device has no vault {name:?} of the account that moves")))?);
    }
    if !args.without_old {
        let only: BTreeSet<VaultId> = named.iter().map(Vault::id).collect();
        let step = in_step(&from, terminal, |vault| only.is_empty() || only.contains(vault)).await;
        step.context("the old server (--without-old reads what this device has, without asking it)")?;
    }
    in_step(&to, terminal, |_| true).await.context("the new server")?;

    let mut carried = CarriedOver::default();
    for vault in &named {
        carried.vaults.push((vault.id(), vault.carry_over(&to).await));
    }
    if named.is_empty() {
        carried = from.carry_over(&to).await?;
    }
    let sent = in_step(&to, terminal, |_| true).await;
    let whole = say(terminal, &from, &args.url, &carried).await?;
    sent.context("what went along is on this device, and waits for the new server")?;
    anyhow::ensure!(whole, "not everything went along: what was left is said above, and is where it was");
    Ok(())
}

/// The vaults that matter are: what is not here cannot go along.
async fn in_step(account: &Account, terminal: Terminal, matters: impl Fn(&VaultId) -> bool) -> anyhow::Result<()> {
    for (vault, done) in watched(account, terminal).await?.vaults {
        if matters(&vault) {
            done.with_context(|| format!("the vault {vault}"))?;
        }
    }
    Ok(())
}

/// Says whether all went along that is this person's.
async fn say(terminal: Terminal, from: &Account, url: &str, carried: &CarriedOver) -> anyhow::Result<bool> {
    let names = from.vaults().await?;
    let name = |id: &VaultId| {
        let name = names.iter().find(|vault| vault.id == *id).and_then(|vault| vault.name.clone());
        name.unwrap_or_default()
    };
    let (mut text, mut objects, mut whole) = (String::new(), Vec::new(), true);
    for (id, outcome) in &carried.vaults {
        match outcome {
            Ok(vault) => {
                whole &= vault.is_whole();
                text.push_str(&format!("{id}  {:<24}  {}\n", name(id), in_words(vault)));
                objects.push(object_of(vault));
            }
            Err(error) => {
                whole = false;
                text.push_str(&format!("{id}  {:<24}  was left: {error}\n", name(id)));
                objects.push(json!({ "from": id.to_string(), "error": error.to_string() }));
            }
        }
    }
    for id in &carried.of_others {
        text.push_str(&format!("{id}  {:<24}  is somebody else's: name it to make a copy of your own\n", name(id)));
    }
    text.push_str(&format!("With --server {url} it is used from here on. On the old server all is as it was."));
    let of_others: Vec<String> = carried.of_others.iter().map(ToString::to_string).collect();
    let json = json!({ "vaults": objects, "of_others": of_others });
    match whole && of_others.is_empty() {
        true => terminal.report(&text, &json),
        false => terminal.answer(&text, &json),
    }
    Ok(whole)
}

fn in_words(vault: &CarriedVault) -> String {
    let mut text = format!("{} records, {} there already", vault.records, vault.same);
    for (count, why) in [
        (vault.kept, "left as they are there"),
        (vault.unreadable, "cannot be read on this device"),
        (vault.undecided, "conflicts that nobody has decided: `selkie conflicts`"),
        (vault.elsewhere, "not kept on this device: `selkie vault fetch VAULT --missing`, then again"),
    ] {
        if count > 0 {
            text.push_str(&format!(", {count} {why}"));
        }
    }
    text
}

fn object_of(vault: &CarriedVault) -> Value {
    json!({
        "from": vault.from.to_string(),
        "to": vault.to.to_string(),
        "records": vault.records,
        "same": vault.same,
        "kept": vault.kept,
        "unreadable": vault.unreadable,
        "undecided": vault.undecided,
        "elsewhere": vault.elsewhere,
    })
}
