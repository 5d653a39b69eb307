//! Emergency sheets: shown or written once, then typed back.
//!
//! Owns how a sheet reaches a person and when the device forgets it.

use super::with_password;
use crate::args::{ConfirmArgs, RotateArgs, SheetTo};
use crate::failure::Usage;
use crate::place::Place;
use crate::terminal::Terminal;
use anyhow::Context as _;
use selkie_client::{Account, EmergencySheet};
use serde_json::json;
use std::io::Write as _;
use std::path::Path;

/// `selkie recovery-key rotate`
pub(super) async fn rotate(place: &Place<'_>, terminal: Terminal, args: &RotateArgs) -> anyhow::Result<()> {
    can_be_delivered(terminal, &args.sheet)?;
    let (_, account) = place.account().await?;
    let sheet =
        with_password(terminal, &args.password, "Password: ", async |proof| account.rotate_recovery_key(proof).await)
            .await?;
    deliver(terminal, &account, &sheet, &args.sheet).await?;
    terminal.answer("The recovery key was renewed; the old sheet is void.", &json!({ "rotated": true }));
    Ok(())
}

/// `selkie recovery-key confirm`
pub(super) async fn confirm(place: &Place<'_>, terminal: Terminal, args: &ConfirmArgs) -> anyhow::Result<()> {
    can_be_delivered(terminal, &args.sheet)?;
    let (_, account) = place.account().await?;
    match account.unconfirmed_sheet() {
        Some(sheet) => {
            deliver(terminal, &account, &sheet, &args.sheet).await?;
            terminal.answer("The sheet is confirmed.", &json!({ "confirmed": true }));
        }
        None => terminal.answer("No sheet waits to be confirmed.", &json!({ "confirmed": false })),
    }
    Ok(())
}

/// Before keys are made: is there a way to hand them over?
pub(super) fn can_be_delivered(terminal: Terminal, to: &SheetTo) -> anyhow::Result<()> {
    if let Some(file) = &to.sheet_file
        && file.exists()
    {
        return Err(Usage(format!("{} exists already; a sheet overwrites nothing", file.display())).into());
    }
    if to.sheet_file.is_none() && !terminal.somebody_is_there() {
        return Err(Usage("there is nobody to show the emergency sheet to: use --sheet-file".into()).into());
    }
    Ok(())
}

/// Shows the sheet or writes it, has the recovery key typed back where somebody can, and lets the device forget it.
pub(super) async fn deliver(
    terminal: Terminal,
    account: &Account,
    sheet: &EmergencySheet,
    to: &SheetTo,
) -> anyhow::Result<()> {
    match &to.sheet_file {
        Some(file) => {
            write_sheet(file, sheet)?;
            terminal.remark(&format!("The emergency sheet is in {}. Print it and delete the file.", file.display()));
        }
        None => {
            let line = "-".repeat(72);
            terminal.remark(&format!("\n{line}\n{}{line}\n", sheet.printable_text()));
            terminal.remark("This is shown once. Print it or copy it by hand before going on.\n");
        }
    }
    if to.yes || !terminal.somebody_is_there() {
        return Ok(account.sheet_is_safe().await?);
    }
    loop {
        let typed = terminal
            .line("Type the recovery key from your copy: ")
            .context("the sheet is not confirmed; `selkie recovery-key confirm` shows it again")?;
        match account.confirm_sheet(&typed).await {
            Ok(()) => return Ok(()),
            Err(error @ selkie_client::Error::WrongKey(_)) => terminal.remark(&format!("{error}. Once more.")),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Readable by its owner alone, and never over something that is there.
fn write_sheet(file: &Path, sheet: &EmergencySheet) -> anyhow::Result<()> {
    let is_page = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("html"));
    let text = if is_page { sheet.html() } else { sheet.printable_text() };
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let written =
        options.open(file).and_then(|mut open| open.write_all(text.as_bytes()).and_then(|()| open.sync_all()));
    written.with_context(|| {
        format!("the sheet could not be written to {}; `selkie recovery-key confirm` shows it again", file.display())
    })
}
