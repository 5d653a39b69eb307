//! `selkie storage`, and what of vaults lies on this device: what they take, what may go, having it again, mending it.
//!
//! Owns the words for it.

use super::records::record_id;
use super::vault::find;
use crate::args::{LeaveNewArgs, LetGoArgs, PruneArgs, VaultDropArgs, VaultFetchArgs};
use crate::failure::{DoesNotHold, Usage as WrongUse};
use crate::place::{Owner, Place};
use crate::terminal::Terminal;
use selkie_client::store::vaults::Usage;
use selkie_client::{Fields, LeftOut, StorageCheck, Unsent, VaultCheck, VaultId, VaultUsage};
use serde_json::{Value, json};
use std::time::Duration;

const DAY: u64 = 24 * 3600;

/// `selkie storage usage`
pub(super) async fn usage(place: &Place<'_>, terminal: Terminal) -> anyhow::Result<()> {
    let storage = place.owner().await?.storage().await?;
    let mut text = format!(
        "{:<24}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}\n",
        "VAULT", "RECORDS", "HISTORY", "WAITING", "LOG", "INDEXES"
    );
    for vault in &storage.vaults {
        let Usage { records, history, pending, log, indexes, .. } = vault.usage;
        text.push_str(&format!("{:<24}", called(vault)));
        for bytes in [records, history, pending, log, indexes] {
            text.push_str(&format!("  {:>9}", size(bytes)));
        }
        text.push('\n');
    }
    text.push_str(&format!("on the disk: {}\n", size(storage.total)));
    let vaults: Vec<Value> = storage.vaults.iter().map(object).collect();
    terminal.answer(&text, &json!({ "vaults": vaults, "total": storage.total }));
    Ok(())
}

/// `selkie storage prune`
pub(super) async fn prune(place: &Place<'_>, terminal: Terminal, args: &PruneArgs) -> anyhow::Result<()> {
    let owner = place.owner().await?;
    let went = owner.prune_history(Duration::from_secs(args.older_than.saturating_mul(DAY))).await?;
    let elsewhere = match owner {
        Owner::Account(_) => " The server keeps them: selkie vault fetch brings them back.",
        Owner::Device(_) => " Nobody else has what this device keeps by itself, so it keeps its history, too.",
    };
    let text = format!("{} old versions went, {}.{elsewhere}", went.versions, size(went.history));
    terminal.answer(&text, &json!({ "versions": went.versions, "bytes": went.history }));
    Ok(())
}

/// `selkie storage let-go`
pub(super) async fn let_go(place: &Place<'_>, terminal: Terminal, args: &LetGoArgs) -> anyhow::Result<()> {
    let vault = place.vault(&args.vault).await?;
    let age = Duration::from_secs(args.older_than.saturating_mul(DAY));
    let gone = match &args.collection {
        Some(collection) => vault.collection::<Fields>(collection).let_go(age).await?,
        None => vault.let_go(age).await?,
    };
    let text = format!(
        "What {} records say was let go, {}. The server keeps them: selkie vault fetch {} --missing",
        gone.records,
        size(gone.bytes),
        args.vault
    );
    terminal.answer(&text, &json!({ "records": gone.records, "bytes": gone.bytes }));
    Ok(())
}

/// `selkie storage check`
pub(super) async fn check(place: &Place<'_>, terminal: Terminal) -> anyhow::Result<()> {
    let owner = place.owner().await?;
    terminal.progress("Reading everything");
    let check = owner.check_storage().await?;
    let opened: u64 = check.vaults.iter().map(|vault| vault.opened).sum();
    let mut text = in_words(&check);
    match check.is_sound() {
        true => text.push_str(&format!("{opened} versions of records are as they were written.\n")),
        false => text.push_str("Nothing was changed. To mend it: selkie storage repair\n"),
    }
    let vaults: Vec<Value> = check.vaults.iter().map(finding).collect();
    let object = json!({ "sound": check.is_sound(), "opened": opened, "damage": check.damage, "vaults": vaults });
    terminal.answer(&text, &object);
    match check.is_sound() {
        true => Ok(()),
        false => Err(DoesNotHold("what this device keeps of its vaults is damaged").into()),
    }
}

/// `selkie storage repair`
pub(super) async fn repair(place: &Place<'_>, terminal: Terminal) -> anyhow::Result<()> {
    let owner = place.owner().await?;
    terminal.progress("Looking at everything");
    let repair = owner.repair().await?;
    let mut text = String::new();
    if repair.rebuilt {
        text.push_str("The file did not hold together, and was made anew. The old one is beside it.\n");
    }
    for vault in &repair.fetched {
        text.push_str(&format!("{vault}  was fetched once more\n"));
    }
    for vault in &repair.put_right {
        text.push_str(&format!("{vault}  was put right from what is here; no server has it\n"));
    }
    for vault in &repair.nameless {
        text.push_str(&format!("{vault}  lost its name: selkie vault rename {vault} NAME\n"));
    }
    for (vault, record) in &repair.lost_writes {
        text.push_str(&format!("{vault}  what was written last to record {record}, and not sent, is lost\n"));
    }
    for (vault, error) in &repair.failed {
        text.push_str(&format!("{vault}  {error}\n  {}\n", error.advice()));
    }
    if text.is_empty() {
        text.push_str("Everything is as it was written. Nothing was done.\n");
    }
    let ids = |vaults: &[VaultId]| vaults.iter().map(ToString::to_string).collect::<Vec<_>>();
    let lost = |(vault, record): &(_, _)| json!({ "vault": format!("{vault}"), "record": format!("{record}") });
    let failed =
        repair.failed.iter().map(|(vault, error)| json!({ "vault": vault.to_string(), "error": error.to_string() }));
    let object = json!({
        "rebuilt": repair.rebuilt,
        "fetched": ids(&repair.fetched),
        "put_right": ids(&repair.put_right),
        "nameless": ids(&repair.nameless),
        "lost_writes": repair.lost_writes.iter().map(|(vault, record)| lost(&(*vault, *record))).collect::<Vec<_>>(),
        "failed": failed.collect::<Vec<_>>(),
    });
    terminal.answer(&text, &object);
    match repair.failed.into_iter().next() {
        Some((_, error)) => Err(error.into()),
        None => nothing_lost(repair.lost_writes.is_empty()),
    }
}

/// What was written and is gone is told, and is no success.
fn nothing_lost(is_so: bool) -> anyhow::Result<()> {
    anyhow::ensure!(
        is_so,
        "what was written last to some records, and not sent, could not be read: they are named above"
    );
    Ok(())
}

/// `selkie vault drop VAULT`
pub(super) async fn leave_out(place: &Place<'_>, terminal: Terminal, args: &VaultDropArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let vault = find(&account, &args.vault).await?;
    vault.leave_out(if args.force { Unsent::GiveUp } else { Unsent::Keep }).await?;
    let text = format!("Nothing of it is on this device any more. To have it again: selkie vault fetch {}", args.vault);
    terminal.answer(&text, &json!({ "vault": vault.id().to_string() }));
    Ok(())
}

/// `selkie vault fetch VAULT`
pub(super) async fn fetch(place: &Place<'_>, terminal: Terminal, args: &VaultFetchArgs) -> anyhow::Result<()> {
    if args.missing || !args.records.is_empty() {
        return fetch_records(place, terminal, args).await;
    }
    let (_, account) = place.account().await?;
    let is_meant = |left: &LeftOut| left.id.to_string() == args.vault || left.name.as_deref() == Some(&*args.vault);
    let mut meant = account.left_out().await?;
    meant.retain(is_meant);
    terminal.progress("Fetching");
    let mut lost = Vec::new();
    let vault = match meant.as_slice() {
        [one] if args.headers_first => account.fetch_vault_headers_first(one.id).await?,
        [one] => account.fetch_vault(one.id).await?,
        [] if args.headers_first => {
            let why = "that vault is here already: selkie storage let-go makes room in it";
            return Err(WrongUse(why.into()).into());
        }
        [] => {
            let vault = find(&account, &args.vault).await?;
            lost = vault.fetch_again().await?;
            vault
        }
        _ => return Err(WrongUse("several vaults have that name: say which one by its id".into()).into()),
    };
    let mut named = String::new();
    for record in &lost {
        named.push_str(&format!("\nWhat was written last to record {record}, and not sent, could not be read."));
    }
    let lost: Vec<String> = lost.iter().map(ToString::to_string).collect();
    let status = match vault.status().await {
        Ok(status) => status,
        Err(error) => {
            // They are gone already, so nobody else could tell of them.
            if !lost.is_empty() {
                terminal.answer(named.trim_start(), &json!({ "vault": vault.id().to_string(), "lost_writes": lost }));
            }
            return Err(error.into());
        }
    };
    let mut text = format!("It is here, with {} records.\ndigest {}", status.records, status.digest);
    if status.elsewhere > 0 {
        text.push_str(&format!("\nWhat {} more say is not here: selkie vault fetch --missing", status.elsewhere));
    }
    text.push_str(&named);
    let object = json!({
        "vault": vault.id().to_string(),
        "records": status.records,
        "elsewhere": status.elsewhere,
        "lost_writes": lost,
        "digest": status.digest.to_string(),
    });
    terminal.answer(&text, &object);
    nothing_lost(lost.is_empty())
}

/// `selkie vault fetch VAULT RECORD...`
async fn fetch_records(place: &Place<'_>, terminal: Terminal, args: &VaultFetchArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let vault = find(&account, &args.vault).await?;
    let records = args.records.iter().map(|text| record_id(text)).collect::<anyhow::Result<Vec<_>>>()?;
    terminal.progress("Fetching");
    let fetched = match args.missing {
        true => vault.fetch_all_records().await?,
        false => vault.fetch_records(&records).await?,
    };
    let left = vault.status().await?.elsewhere;
    let text = format!("{fetched} records were fetched; {left} are not here.");
    terminal.answer(&text, &json!({ "vault": vault.id().to_string(), "fetched": fetched, "elsewhere": left }));
    Ok(())
}

/// `selkie vault leave-new`
pub(super) async fn leave_new(place: &Place<'_>, terminal: Terminal, args: &LeaveNewArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    account.leave_new_vaults_out(!args.off).await?;
    let text = match args.off {
        true => "Vaults that are new to this device are fetched.",
        false => "Vaults that are new to this device are left out: selkie vault list shows them.",
    };
    terminal.answer(text, &json!({ "leave_new": !args.off }));
    Ok(())
}

fn called(vault: &VaultUsage) -> String {
    vault.name.clone().unwrap_or_else(|| vault.id.to_string()[..12].to_owned())
}

fn object(vault: &VaultUsage) -> Value {
    let Usage { records, history, pending, log, indexes, versions } = vault.usage;
    json!({
        "vault": vault.id.to_string(),
        "name": vault.name,
        "records": records,
        "history": history,
        "pending": pending,
        "log": log,
        "indexes": indexes,
        "versions": versions,
    })
}

fn in_words(check: &StorageCheck) -> String {
    let mut text = String::new();
    check.damage.iter().for_each(|line| text.push_str(&format!("the file: {line}\n")));
    for vault in check.vaults.iter().filter(|vault| !vault.is_sound()) {
        let VaultCheck { id, damaged, missing, unreadable_writes, log, .. } = vault;
        for (records, what) in
            [(damaged, "damaged"), (missing, "missing"), (unreadable_writes, "not sent and unreadable")]
        {
            if !records.is_empty() {
                text.push_str(&format!("{id}  {} records {what}\n", records.len()));
            }
        }
        if let Some(why) = log {
            text.push_str(&format!("{id}  {why}\n"));
        }
    }
    text
}

fn finding(vault: &VaultCheck) -> Value {
    let list = |records: &std::collections::BTreeSet<selkie_client::RecordId>| {
        records.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    json!({
        "vault": vault.id.to_string(),
        "sound": vault.is_sound(),
        "opened": vault.opened,
        "damaged": list(&vault.damaged),
        "missing": list(&vault.missing),
        "unreadable_writes": list(&vault.unreadable_writes),
        "log": vault.log,
    })
}

/// As people say it.
fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{bytes} B"),
        10_240..10_485_760 => format!("{} KiB", bytes / 1_024),
        _ => format!("{} MiB", bytes / 1_048_576),
    }
}
