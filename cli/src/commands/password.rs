//! Changing the password.
//!
//! Owns where the two passwords come from.

use super::{proof, with_code};
use crate::args::PasswordChangeArgs;
use crate::place::Place;
use crate::terminal::{Terminal, first_line_of, stdin_line};
use serde_json::json;

/// `selkie password change`
pub(super) async fn change(place: &Place<'_>, terminal: Terminal, args: &PasswordChangeArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let old = terminal.password(&args.password, "Present password: ")?;
    let given = match &args.new_password_file {
        Some(file) => Some(first_line_of(file)?),
        None if args.password.password_stdin => Some(stdin_line()?),
        None => None,
    };
    let new = terminal.new_password(given, "New password: ")?;
    terminal.progress("Changing the password");
    with_code(terminal, &args.password, async |code| {
        account.change_password(proof(&old, code), new.as_str(), args.keep_other_sessions).await
    })
    .await?;
    if account.unconfirmed_sheet().is_some() {
        terminal.remark("A sheet waits to be confirmed: selkie recovery-key confirm");
    }
    terminal.answer("The password was changed.", &json!({ "changed": true }));
    Ok(())
}
