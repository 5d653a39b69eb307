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
use selkie_client::{Account, CarriedOver, Error};
use serde_json::json;

/// `selkie move-to URL [VAULT]...`
pub(super) async fn move_to(place: &Place<'_>, terminal: Terminal, args: &MoveToArgs) -> anyhow::Result<()> {
    let (_, from) = place.account().await?;
    let to = place.account_at(&args.url, args.to_account.as_deref()).await.context("on the other server")?;
    if from.user_id() == to.user_id() {
        let why = "both are the same account: say with --server or --account which one moves";
        return Err(Usage(why.into()).into());
    }
    if !args.without_old {
        let in_step = in_step(&from, terminal).await;
        in_step.context("the old server (--without-old reads what this device has, without asking it)")?;
    }
    in_step(&to, terminal).await.context("the new server")?;

    let mut carried = CarriedOver::default();
    for name in &args.vaults {
        let vault = from.vault(name).await?;
        let vault = vault.ok_or_else(|| Usage(format!("this device has no vault {name:?} of the old account")))?;
        carried.vaults.push(vault.carry_over(&to).await?);
    }
    if args.vaults.is_empty() {
        carried = from.carry_over(&to).await?;
    }
    in_step(&to, terminal).await.context("all of it is on this device, and waits for the new server")?;
    say(terminal, &to, &args.url, &carried).await
}

/// Every vault is: what is not here cannot go along.
async fn in_step(account: &Account, terminal: Terminal) -> Result<(), Error> {
    let outcome = watched(account, terminal).await?;
    outcome.vaults.into_iter().try_for_each(|(_, done)| done.map(drop))
}

async fn say(terminal: Terminal, to: &Account, url: &str, carried: &CarriedOver) -> anyhow::Result<()> {
    let (mut text, mut objects, mut all_went) = (String::new(), Vec::new(), true);
    for vault in &carried.vaults {
        let name = match to.vault_by_id(vault.to).await? {
            Some(vault) => vault.name().await?.unwrap_or_default(),
            None => String::new(),
        };
        text.push_str(&format!("{}  {name:<24}  {} records, {} there already", vault.to, vault.records, vault.same));
        for (count, why) in [
            (vault.kept, "left as they are there"),
            (vault.unreadable, "cannot be read on this device"),
            (vault.elsewhere, "not kept on this device: `selkie vault fetch VAULT --missing`, and again"),
        ] {
            if count > 0 {
                all_went = false;
                text.push_str(&format!(", {count} {why}"));
            }
        }
        text.push('\n');
        objects.push(json!({
            "from": vault.from.to_string(),
            "to": vault.to.to_string(),
            "records": vault.records,
            "same": vault.same,
            "kept": vault.kept,
            "unreadable": vault.unreadable,
            "elsewhere": vault.elsewhere,
        }));
    }
    let others = [(&carried.of_others, "is somebody else's"), (&carried.not_readable, "cannot be read here")];
    for (vaults, why) in others {
        for vault in vaults {
            all_went = false;
            text.push_str(&format!("{vault}  was left: it {why}\n"));
        }
    }
    text.push_str(&format!("Use --server {url} from here on. On the old server everything is as it was."));
    let ids = |vaults: &[selkie_client::VaultId]| vaults.iter().map(ToString::to_string).collect::<Vec<_>>();
    let json = json!({
        "vaults": objects,
        "of_others": ids(&carried.of_others),
        "not_readable": ids(&carried.not_readable),
    });
    match all_went {
        true => terminal.report(&text, &json),
        false => terminal.answer(&text, &json),
    }
    Ok(())
}
