//! The account as a whole: how it stands, where it is signed in, what happened to it, its end.
//!
//! Owns the words for it.

use super::with_password;
use crate::args::{AuditArgs, DeleteArgs, UnlockArgs};
use crate::place::Place;
use crate::terminal::{Terminal, time};
use selkie_client::{AccountState, DeviceId, TenantRole};
use serde_json::json;

/// `selkie whoami`
pub(super) async fn whoami(place: &Place<'_>, terminal: Terminal) -> anyhow::Result<()> {
    let (client, account) = place.account().await?;
    let state = if account.is_signed_in() { "signed in" } else { "signed out" };
    let at_rest = client.secrets_at_rest();
    let text = format!(
        "{} on {}\n{state}\nuser id    {}\ndevice id  {}\nstate code {}\nsecrets    {at_rest}",
        account.login_name(),
        account.server_url(),
        account.user_id(),
        account.device_id(),
        account.state_code(),
    );
    terminal.answer(
        &text,
        &json!({
            "login_name": account.login_name(),
            "server_url": account.server_url(),
            "signed_in": account.is_signed_in(),
            "user_id": account.user_id().to_string(),
            "device_id": account.device_id().to_string(),
            "state_code": account.state_code(),
            "secrets_at_rest": at_rest.to_string(),
        }),
    );
    Ok(())
}

/// `selkie account show`
pub(super) async fn show(place: &Place<'_>, terminal: Terminal) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let status = account.standing().await?;
    let state = match status.state {
        AccountState::Bare => "bare",
        AccountState::Active => "active",
        AccountState::Suspended => "suspended",
        AccountState::Deleting => "deleting",
    };
    let role = match status.role {
        TenantRole::Member => "member",
        TenantRole::Admin => "admin",
        TenantRole::Owner => "owner",
    };
    let factors = if status.second_factors.is_empty() { "none".to_owned() } else { status.second_factors.join(", ") };
    let mut text = format!(
        "{} on {}\n{role} of {}\nstate          {state}\nmade           {}\nsecond factor  {factors}\n",
        account.login_name(),
        account.server_url(),
        status.tenant,
        time(status.created_at_ms),
    );
    if let Some(at) = status.delete_after_ms {
        text.push_str(&format!("It will be gone after {} unless you keep it: selkie account keep\n", time(at)));
    }
    if status.keys_renewed {
        text.push_str("Its keys were renewed on another device: selkie account unlock\n");
    }
    terminal.answer(
        &text,
        &json!({
            "login_name": account.login_name(),
            "server_url": account.server_url(),
            "tenant": status.tenant,
            "role": role,
            "state": state,
            "created_at_ms": status.created_at_ms,
            "delete_after_ms": status.delete_after_ms,
            "second_factors": status.second_factors,
            "keys_renewed": status.keys_renewed,
        }),
    );
    Ok(())
}

/// `selkie account delete`
pub(super) async fn delete(place: &Place<'_>, terminal: Terminal, args: &DeleteArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    if !args.yes
        && !terminal.agrees(&format!(
            "Delete {} and everything in it? Vaults that others are in stay with them, and what was written there.",
            account.login_name()
        ))?
    {
        terminal.answer("Nothing was deleted.", &json!({ "deleting": false }));
        return Ok(());
    }
    let at = with_password(terminal, &args.password, "Password: ", async |proof| account.delete_account(proof).await)
        .await?;
    terminal.answer(
        &format!("The account will be gone after {}. Until then: selkie account keep", time(at)),
        &json!({ "deleting": true, "delete_after_ms": at }),
    );
    Ok(())
}

/// `selkie account keep`
pub(super) async fn keep(place: &Place<'_>, terminal: Terminal) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    account.keep_account().await?;
    terminal.answer("The account stays.", &json!({ "kept": true }));
    Ok(())
}

/// `selkie account unlock`
pub(super) async fn unlock(place: &Place<'_>, terminal: Terminal, args: &UnlockArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    with_password(terminal, &args.password, "Password: ", async |proof| account.unlock(proof).await).await?;
    terminal.answer("This device has the account's newest keys.", &json!({ "unlocked": true }));
    Ok(())
}

/// `selkie sessions`
pub(super) async fn sessions(place: &Place<'_>, terminal: Terminal) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let sessions = account.sessions().await?;
    let mut text = String::new();
    for session in &sessions {
        let which = if session.current { "this session" } else { "" };
        let device = session.device.map_or("no device".to_owned(), |device| device.to_string());
        let (made, used) = (time(session.created_at_ms), time(session.last_used_ms));
        text.push_str(&format!("{device:<22}  since {made}  last used {used}  {which}\n"));
    }
    let objects: Vec<serde_json::Value> = sessions
        .iter()
        .map(|session| {
            json!({
                "id": session.id.to_string(),
                "device_id": session.device.as_ref().map(DeviceId::to_string),
                "app": session.app,
                "created_at_ms": session.created_at_ms,
                "last_used_ms": session.last_used_ms,
                "current": session.current,
            })
        })
        .collect();
    terminal.answer(&text, &json!({ "sessions": objects }));
    Ok(())
}

/// `selkie audit`
pub(super) async fn audit(place: &Place<'_>, terminal: Terminal, args: &AuditArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let entries = account.audit(args.before).await?;
    let mut text = String::new();
    for entry in &entries {
        let detail = entry.detail.as_deref().unwrap_or_default();
        text.push_str(&format!("{:>6}  {}  {:<28} {detail}\n", entry.number, time(entry.at_ms), entry.action));
    }
    let objects: Vec<serde_json::Value> = entries
        .iter()
        .map(|entry| {
            json!({
                "number": entry.number,
                "at_ms": entry.at_ms,
                "action": entry.action,
                "device_id": entry.device.as_ref().map(DeviceId::to_string),
                "detail": entry.detail,
            })
        })
        .collect();
    terminal.answer(&text, &json!({ "entries": objects }));
    Ok(())
}
