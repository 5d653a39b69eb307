//! The authenticator app.
//!
//! Owns what is shown once: its secret, then its recovery codes.

use super::with_password;
use crate::args::{ConfirmFactorArgs, DisableArgs, EnableArgs};
use crate::place::Place;
use crate::terminal::Terminal;
use selkie_client::{Error, Private};
use serde_json::json;

/// `selkie second-factor enable`
pub(super) async fn enable(place: &Place<'_>, terminal: Terminal, args: &EnableArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let secret =
        with_password(terminal, &args.password, "Password: ", async |proof| account.enable_totp(proof).await).await?;
    let mut text = secret.qr().unwrap_or_default();
    text.push_str(&format!("\nOr type this into the authenticator app: {}\n", secret.secret.as_str()));
    terminal.answer(&text, &json!({ "secret": secret.secret.as_str(), "uri": secret.uri.as_str() }));
    if !terminal.somebody_is_there() {
        return Ok(());
    }
    loop {
        let code = terminal.line("The code it shows now: ")?;
        match account.confirm_totp(&code).await {
            Ok(codes) => {
                show_codes(terminal, &codes);
                return Ok(());
            }
            Err(error @ Error::SecondFactorNeeded { .. }) => terminal.remark(&format!("{error}. Once more.")),
            Err(error) => return Err(error.into()),
        }
    }
}

/// `selkie second-factor confirm CODE`
pub(super) async fn confirm(place: &Place<'_>, terminal: Terminal, args: &ConfirmFactorArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    show_codes(terminal, &account.confirm_totp(&args.confirm_code).await?);
    Ok(())
}

/// `selkie second-factor disable`
pub(super) async fn disable(place: &Place<'_>, terminal: Terminal, args: &DisableArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    with_password(terminal, &args.password, "Password: ", async |proof| account.disable_totp(proof).await).await?;
    terminal.answer("The account has no second factor any more.", &json!({ "disabled": true }));
    Ok(())
}

fn show_codes(terminal: Terminal, codes: &[Private]) {
    let codes: Vec<&str> = codes.iter().map(Private::as_str).collect();
    terminal.answer(
        &format!(
            "The second factor is on. These codes sign in without the app, each once; they are shown now and never \
             again:\n  {}",
            codes.join("\n  ")
        ),
        &json!({ "enabled": true, "recovery_codes": codes }),
    );
}
