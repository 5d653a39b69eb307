//! Vaults: making, listing, reading their logs, verifying, who is in them, and coming into step with the server.
//!
//! Owns the tables. What is offline (everything but `sync`, `verify` and `debug`) asks no server.

use crate::args::{
    MemberAddArgs, MemberArgs, MemberRoleArgs, SyncArgs, VaultCreateArgs, VaultEvidenceArgs, VaultLogArgs,
    VaultNameArgs, VaultRenameArgs, VaultResetArgs,
};
use crate::failure::Usage;
use crate::place::{Owner, Place};
use crate::terminal::{Terminal, time};
use anyhow::Context as _;
use futures_util::StreamExt as _;
use selkie_client::{
    Account, AccountSync, CollectionReport, Error, LogEntry, Role, Status, SyncReport, SyncState, UserId, Vault,
    VaultState, VaultSummary,
};
use serde_json::{Value, json};
use std::pin::pin;

/// `selkie vault create NAME`
pub(super) async fn create(place: &Place<'_>, terminal: Terminal, args: &VaultCreateArgs) -> anyhow::Result<()> {
    let owner = place.owner().await?;
    let vault = owner.make(&args.name, &args.app).await?;
    let and_then = match owner {
        Owner::Account(_) => "It is here at once; `selkie sync` takes it to the server.",
        Owner::Device(_) => "It is on this device alone; `selkie sign-up` or `selkie sign-in` brings it along.",
    };
    let id = vault.id().to_string();
    terminal.answer(
        &format!("{id}  {}\n{and_then}", args.name),
        &json!({ "vault": id, "name": args.name, "app": args.app }),
    );
    Ok(())
}

/// `selkie vault rename VAULT NAME`
pub(super) async fn rename(place: &Place<'_>, terminal: Terminal, args: &VaultRenameArgs) -> anyhow::Result<()> {
    let vault = place.vault(&args.vault).await?;
    vault.rename(&args.name).await?;
    let id = vault.id().to_string();
    terminal.answer(&format!("{id}  {}", args.name), &json!({ "vault": id, "name": args.name }));
    Ok(())
}

pub(super) fn called(vault: &VaultSummary) -> &str {
    match &vault.name {
        Some(name) => name,
        None if vault.is_own => "(this account's own)",
        None => "(name closed)",
    }
}

/// `selkie vault list`
pub(super) async fn list(place: &Place<'_>, terminal: Terminal) -> anyhow::Result<()> {
    let owner = place.owner().await?;
    let vaults = owner.vaults().await?;
    let mut text = String::new();
    for vault in &vaults {
        let name = called(vault);
        let role = vault.role.map_or("none", role_word);
        text.push_str(&format!(
            "{}  {name:<24}  {role:<8}  {:>6} records  {:>4} waiting  {}\n",
            vault.id,
            vault.records,
            vault.pending,
            state(&vault.state)
        ));
    }
    let left_out = match &owner {
        Owner::Account(account) => account.left_out().await?,
        Owner::Device(_) => Vec::new(),
    };
    if vaults.is_empty() && left_out.is_empty() {
        text.push_str("No vaults here yet: selkie vault create NAME, or selkie sync\n");
    }
    for left in &left_out {
        let name = left.name.as_deref().unwrap_or("(never opened here)");
        text.push_str(&format!("{}  {name:<24}  not on this device: selkie vault fetch\n", left.id));
    }
    let left_out = left_out.iter().map(|left| json!({ "vault": left.id.to_string(), "name": left.name }));
    let object = json!({
        "vaults": vaults.iter().map(summary).collect::<Vec<_>>(),
        "left_out": left_out.collect::<Vec<_>>(),
    });
    terminal.answer(&text, &object);
    Ok(())
}

/// `selkie vault status VAULT`
pub(super) async fn status(place: &Place<'_>, terminal: Terminal, args: &VaultNameArgs) -> anyhow::Result<()> {
    let vault = place.vault(&args.vault).await?;
    let status = vault.status().await?;
    let mut text = format!(
        "state      {}\ndigest     {}\nepoch      {}\nrecords    {}\nwaiting    {}",
        state(&status.state),
        status.digest,
        status.epoch,
        status.records,
        status.pending
    );
    if status.elsewhere > 0 {
        text.push_str(&format!("\nelsewhere  {} records: selkie vault fetch --missing", status.elsewhere));
    }
    for reason in &status.set_aside {
        text.push_str(&format!("\nset aside  {reason}"));
    }
    terminal.answer(
        &text,
        &json!({
            "vault": vault.id().to_string(),
            "state": state(&status.state),
            "digest": status.digest.to_string(),
            "n": status.digest.n,
            "epoch": status.epoch,
            "records": status.records,
            "pending": status.pending,
            "elsewhere": status.elsewhere,
            "set_aside": status.set_aside,
            "in_flight": status.in_flight,
            "last_checkpoint": status.last_checkpoint,
        }),
    );
    Ok(())
}

/// `selkie vault log VAULT`
pub(super) async fn log(place: &Place<'_>, terminal: Terminal, args: &VaultLogArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let vault = find(&account, &args.vault).await?;
    let Some(file) = &args.export else {
        show(terminal, &vault.log(args.from).await?);
        return Ok(());
    };
    export(terminal, file, &vault.export_log().await?)
}

/// `selkie vault evidence VAULT`
pub(super) async fn evidence(place: &Place<'_>, terminal: Terminal, args: &VaultEvidenceArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let vault = find(&account, &args.vault).await?;
    let files = vault.export_evidence().await?;
    if let Some(file) = &args.export {
        let newest = files.last().ok_or_else(|| Usage("nothing was kept: the server was not caught at it".into()))?;
        return export(terminal, file, newest);
    }
    let (mut text, mut objects) = (String::new(), Vec::new());
    for file in &files {
        let verdict = selkie_client::judge(file, None)?;
        let claim = verdict.claim.clone().unwrap_or_default();
        let standing = if verdict.holds() { "proven" } else { "not proven to others" };
        text.push_str(&format!("{}  {standing}  {claim}\n", verdict.seen_at_ms.map(time).unwrap_or_default()));
        objects.push(json!({ "seen_at_ms": verdict.seen_at_ms, "proven": verdict.holds(), "claim": claim }));
    }
    if files.is_empty() {
        text.push_str("Nothing was kept: the server was not caught at this vault.\n");
    }
    terminal.answer(&text, &json!({ "evidence": objects }));
    Ok(())
}

fn export(terminal: Terminal, file: &std::path::Path, bytes: &[u8]) -> anyhow::Result<()> {
    std::fs::write(file, bytes).with_context(|| format!("{} could not be written", file.display()))?;
    let shown = file.display().to_string();
    let text = format!("{shown} is written. Anybody can check it: selkie verify {shown}");
    terminal.answer(&text, &json!({ "file": shown, "bytes": bytes.len() }));
    Ok(())
}

/// `selkie vault verify VAULT`
pub(super) async fn verify(place: &Place<'_>, terminal: Terminal, args: &VaultNameArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let vault = find(&account, &args.vault).await?;
    terminal.progress("Verifying");
    let verified = vault.verify().await?;
    terminal.answer(
        &format!(
            "{} entries and {} records are as they were signed.\ndigest {}",
            verified.entries, verified.records, verified.digest
        ),
        &json!({
            "entries": verified.entries,
            "records": verified.records,
            "digest": verified.digest.to_string(),
        }),
    );
    Ok(())
}

/// `selkie vault checkpoint VAULT`
pub(super) async fn checkpoint(place: &Place<'_>, terminal: Terminal, args: &VaultNameArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let vault = find(&account, &args.vault).await?;
    vault.write_checkpoint().await?;
    let at = vault.status().await?.last_checkpoint;
    terminal.answer(&format!("A checkpoint stands at {at}."), &json!({ "checkpoint": at }));
    Ok(())
}

/// `selkie vault members VAULT`
pub(super) async fn members(place: &Place<'_>, terminal: Terminal, args: &VaultNameArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let members = find(&account, &args.vault).await?.members().await?;
    let mut text = String::new();
    for member in &members {
        let me = if member.is_me { "  (you)" } else { "" };
        text.push_str(&format!("{}  {}{me}\n", member.user, role_word(member.role)));
    }
    let object = |member: &selkie_client::Member| json!({ "user": member.user.to_string(), "role": role_word(member.role), "is_me": member.is_me });
    terminal.answer(&text, &json!({ "members": members.iter().map(object).collect::<Vec<_>>() }));
    Ok(())
}

/// `selkie vault add VAULT USER`
pub(super) async fn add(place: &Place<'_>, terminal: Terminal, args: &MemberAddArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let user = user(&args.member.user)?;
    let role = args.role.into();
    find(&account, &args.member.vault).await?.add_member(user, role).await?;
    done(terminal, &format!("They are in as {}.", role_word(role)), user);
    Ok(())
}

/// `selkie vault role VAULT USER ROLE`
pub(super) async fn set_role(place: &Place<'_>, terminal: Terminal, args: &MemberRoleArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let user = user(&args.member.user)?;
    let role = args.role.into();
    find(&account, &args.member.vault).await?.set_role(user, role).await?;
    done(terminal, &format!("They are {} now.", role_word(role)), user);
    Ok(())
}

/// `selkie vault remove VAULT USER`
pub(super) async fn remove(place: &Place<'_>, terminal: Terminal, args: &MemberArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let user = user(&args.user)?;
    find(&account, &args.vault).await?.remove_member(user).await?;
    done(terminal, "They are out, and what is written from now on is under a new key.", user);
    Ok(())
}

/// `selkie vault rotate VAULT`
pub(super) async fn rotate(place: &Place<'_>, terminal: Terminal, args: &VaultNameArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let vault = find(&account, &args.vault).await?;
    vault.rotate().await?;
    let epoch = vault.status().await?.epoch;
    terminal.answer(&format!("Epoch {epoch} has begun."), &json!({ "epoch": epoch }));
    Ok(())
}

/// `selkie vault reset VAULT`
pub(super) async fn reset(place: &Place<'_>, terminal: Terminal, args: &VaultResetArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let vault = find(&account, &args.vault).await?;
    // Whoever agrees must know to what: how much is lost is seen now, not when this device was last in step.
    match vault.sync().await {
        Ok(_) | Err(Error::ServerBehind { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let missing = match vault.status().await?.state {
        VaultState::ServerBehind { missing } => missing,
        // Somebody else's device may lack what this one never had.
        _ => 0,
    };
    let question = format!(
        "The server has lost {missing} entries that this device has. A device that has what is lost, and comes before \
         anybody else writes, puts it back by itself. Go on without, for everybody?"
    );
    if !args.yes && !terminal.agrees(&question)? {
        return unchanged(terminal);
    }
    vault.reset_tail().await?;
    went_on(terminal, &vault, missing).await
}

/// `selkie vault accept-reset VAULT`
pub(super) async fn accept_reset(place: &Place<'_>, terminal: Terminal, args: &VaultResetArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let vault = find(&account, &args.vault).await?;
    let VaultState::TailReset { lost } = vault.status().await?.state else {
        let why = "no owner has reset this vault, as far as this device knows: selkie sync asks";
        return Err(Usage(why.into()).into());
    };
    let question = format!("An owner goes on without the last {lost} entries, which this device has. Go with them?");
    if !args.yes && !terminal.agrees(&question)? {
        return unchanged(terminal);
    }
    vault.accept_reset().await?;
    went_on(terminal, &vault, lost).await
}

fn unchanged(terminal: Terminal) -> anyhow::Result<()> {
    terminal.answer("Everything is as it was.", &json!({ "reset": false }));
    Ok(())
}

async fn went_on(terminal: Terminal, vault: &Vault, lost: u64) -> anyhow::Result<()> {
    let waiting = vault.status().await?.pending;
    let text =
        format!("It goes on without {lost} entries. {waiting} writes of this device are to be sent again: selkie sync");
    terminal.answer(&text, &json!({ "reset": true, "lost": lost, "pending": waiting }));
    Ok(())
}

/// `selkie sync`, once or for as long as it runs
pub(super) async fn sync(place: &Place<'_>, terminal: Terminal, args: &SyncArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    if !args.follow {
        let outcome = watched(&account, terminal).await?;
        return say_what_was_done(&account, terminal, outcome, true).await;
    }
    let mut follow = account.follow();
    loop {
        match watched(&account, terminal).await {
            Ok(outcome) => {
                // One vault that is set apart, or waits, keeps nobody from following the others.
                if let Err(error) = say_what_was_done(&account, terminal, outcome, false).await {
                    terminal.remark(&error.to_string());
                }
            }
            Err(error) if error.is_retryable() => terminal.remark(&error.to_string()),
            Err(error) => return Err(error.into()),
        }
        follow.next().await?;
    }
}

/// Comes into step, and shows how far it is.
pub(super) async fn watched(account: &Account, terminal: Terminal) -> Result<AccountSync, Error> {
    if !terminal.is_watched() {
        return account.sync().await;
    }
    let bar = terminal.bar("Coming into step");
    let (mut status, mut sync) = (account.status(), pin!(account.sync()));
    loop {
        tokio::select! {
            outcome = &mut sync => return outcome,
            now = status.next() => {
                if let Some(Status { state: SyncState::Syncing { done, of, to_read }, .. }) = now {
                    bar.left(to_read, format!("Coming into step, {done} of {of} vaults"));
                }
            }
        }
    }
}

async fn say_what_was_done(
    account: &Account,
    terminal: Terminal,
    outcome: AccountSync,
    even_nothing: bool,
) -> anyhow::Result<()> {
    let (mut text, mut objects, mut failure, mut all_well) = (String::new(), Vec::new(), None, true);
    let summaries = account.vaults().await?;
    let name = |id| summaries.iter().find(|vault| vault.id == id).map_or("", called);
    for (vault, done) in outcome.vaults {
        match done {
            Ok(report) => {
                text.push_str(&format!("{vault}  {:<24}  {}\n", name(vault), in_words(&report)));
                text.push_str(&by_collection(&report));
                all_well &= report.set_aside == 0 && report.waiting == 0 && report.given_up == 0 && report.pending == 0;
                objects.push(object_of(&vault.to_string(), &report));
            }
            Err(error) => {
                text.push_str(&format!("{vault}  {:<24}  {error}\n", name(vault)));
                objects.push(json!({ "vault": vault.to_string(), "error": error.to_string() }));
                failure.get_or_insert(error);
            }
        }
    }
    if text.is_empty() && !even_nothing {
        return Ok(());
    }
    if text.is_empty() {
        text.push_str("Nothing was to be done.\n");
    }
    let json = json!({ "vaults": objects });
    match all_well && failure.is_none() {
        true => terminal.report(&text, &json),
        false => terminal.answer(&text, &json),
    }
    failure.map_or(Ok(()), |error| Err(error.into()))
}

/// `selkie debug push VAULT` and `selkie debug pull VAULT`: comes into step and shows the entries that travelled, out
/// or in.
pub(super) async fn travel(
    place: &Place<'_>,
    terminal: Terminal,
    args: &VaultNameArgs,
    outwards: bool,
) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let vault = find(&account, &args.vault).await?;
    // A vault that the server has not heard of travels whole.
    let before = match vault.status().await? {
        status if status.state == VaultState::New => 0,
        status => status.digest.n,
    };
    vault.sync().await?;
    let own = account.device_id();
    let mut entries = vault.log(before + 1).await?;
    entries.retain(|entry| (entry.device == own) == outwards);
    show(terminal, &entries);
    Ok(())
}

pub(super) async fn find(account: &Account, name: &str) -> anyhow::Result<Vault> {
    let vault = account.vault(name).await?;
    vault.ok_or_else(|| Usage(format!("this device has no vault {name:?}: selkie vault list, or selkie sync")).into())
}

fn show(terminal: Terminal, entries: &[LogEntry]) {
    let mut text = String::new();
    for entry in entries {
        text.push_str(&format!(
            "{:>6}  {}  {}  {:>7} B  {}\n",
            entry.n,
            time(entry.unix_ms),
            entry.device,
            entry.bytes,
            entry.what
        ));
    }
    let object = |entry: &LogEntry| {
        json!({
            "n": entry.n,
            "author": entry.author.to_string(),
            "device": entry.device.to_string(),
            "unix_ms": entry.unix_ms,
            "epoch": entry.epoch,
            "bytes": entry.bytes,
            "what": entry.what,
        })
    };
    terminal.answer(&text, &json!({ "entries": entries.iter().map(object).collect::<Vec<_>>() }));
}

fn in_words(report: &SyncReport) -> String {
    let mut words = vec![format!("{} sent", report.pushed), format!("{} taken", report.pulled)];
    for (count, what) in [
        (report.conflicts as u64, "conflicts settled"),
        (report.set_aside, "set aside"),
        (report.waiting as u64, "waiting for what cannot be read"),
        (report.pending, "still to be sent"),
        (report.restored, "put back on the server"),
        (report.given_up, "lost by a restored server"),
    ] {
        if count > 0 {
            words.push(format!("{count} {what}"));
        }
    }
    words.join(", ")
}

/// A line for each collection in which something was done.
fn by_collection(report: &SyncReport) -> String {
    let mut text = String::new();
    for (name, counted) in &report.collections {
        text.push_str(&format!("    {name:<24}  {} sent, {} taken", counted.pushed, counted.pulled));
        for (count, what) in [(counted.conflicts, "conflicts settled"), (counted.failures, "that could not be sent")] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        text.push('\n');
    }
    text
}

fn object_of(vault: &str, report: &SyncReport) -> Value {
    let collection = |(name, counted): (&String, &CollectionReport)| {
        let counts = json!({
            "pushed": counted.pushed,
            "pulled": counted.pulled,
            "conflicts": counted.conflicts,
            "failures": counted.failures,
        });
        (name.clone(), counts)
    };
    json!({
        "vault": vault,
        "pushed": report.pushed,
        "pulled": report.pulled,
        "conflicts": report.conflicts,
        "set_aside": report.set_aside,
        "waiting": report.waiting,
        "pending": report.pending,
        "restored": report.restored,
        "given_up": report.given_up,
        "collections": report.collections.iter().map(collection).collect::<serde_json::Map<_, _>>(),
    })
}

fn summary(vault: &VaultSummary) -> Value {
    json!({
        "vault": vault.id.to_string(),
        "name": vault.name,
        "app": vault.app,
        "role": vault.role.map(role_word),
        "members": vault.members,
        "records": vault.records,
        "pending": vault.pending,
        "state": state(&vault.state),
    })
}

fn state(state: &VaultState) -> String {
    match state {
        VaultState::New => "not on the server yet".into(),
        VaultState::Ready => "ready".into(),
        VaultState::NoKey => "waiting for its key".into(),
        VaultState::NotAMember => "you were removed".into(),
        VaultState::Quarantined(quarantine) => format!("set apart: {}", quarantine.kind),
        VaultState::ServerBehind { missing } => format!("the server has lost the last {missing} entries"),
        VaultState::TailReset { lost } => format!("an owner goes on without the last {lost} entries"),
        VaultState::Damaged(what) => format!("damaged: {what}: selkie storage repair"),
        _ => "in a state this version does not know".into(),
    }
}

fn role_word(role: Role) -> &'static str {
    match role {
        Role::Viewer => "viewer",
        Role::Editor => "editor",
        Role::Admin => "admin",
        Role::Owner => "owner",
        Role::Recovery => "recovery",
    }
}

fn user(text: &str) -> anyhow::Result<UserId> {
    text.parse()
        .map_err(|_| Usage("a person is named by their user id: see `selkie whoami` on their device".into()).into())
}

fn done(terminal: Terminal, text: &str, user: UserId) {
    terminal.answer(text, &json!({ "user": user.to_string() }));
}

/// Standard input, whole.
pub(super) fn stdin_bytes() -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).context("standard input could not be read")?;
    Ok(bytes)
}
