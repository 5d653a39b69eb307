//! Signing up, in and out, and coming back with the recovery key.
//!
//! Owns the questions each asks and the words each answers with.

use super::sheet::{can_be_delivered, deliver};
use super::with_code;
use crate::args::{ForgetArgs, RecoverArgs, SignInArgs, SignOutArgs, SignUpArgs};
use crate::place::{Place, device_name};
use crate::terminal::{Terminal, first_line_of, given_password, time};
use selkie_client::{Client, Error, KeyMode, Private, Recover, SignIn, SignOut, SignUp, SignedIn};
use serde_json::json;

/// `selkie sign-up NAME`
pub(super) async fn sign_up(place: &Place<'_>, terminal: Terminal, args: &SignUpArgs) -> anyhow::Result<()> {
    can_be_delivered(terminal, &args.sheet)?;
    let client = place.client_for(&args.name)?;
    let by_itself = client.keeps_by_itself().await?;
    let password = terminal.new_password(given_password(&args.password)?, "New password: ")?;
    let key_mode = key_mode(args.password_only);
    if args.password_only {
        terminal.remark("Without a Secret Key, whoever owns the server could try to guess the password.");
    }
    let options = SignUp {
        invite: args.invite.as_deref().map(Private::from),
        key_mode,
        device_name: device_name(args.device_name.as_deref()),
    };
    terminal.progress("Making the account");
    let made = client.sign_up(&args.name, password.as_str(), options).await?;
    if by_itself {
        say_what_came_along(&client, terminal).await?;
    }
    deliver(terminal, &made.account, &made.sheet, &args.sheet).await?;
    terminal.answer(
        &format!("{} is signed in on this device.", made.account.login_name()),
        &json!({
            "login_name": made.account.login_name(),
            "user_id": made.account.user_id().to_string(),
            "device_id": made.account.device_id().to_string(),
        }),
    );
    Ok(())
}

/// `selkie sign-in NAME`
pub(super) async fn sign_in(place: &Place<'_>, terminal: Terminal, args: &SignInArgs) -> anyhow::Result<()> {
    let name = args.name.as_deref().unwrap_or_default();
    let client = place.client_for(name)?;
    let by_itself = client.keeps_by_itself().await?;
    let known = client.knows(name).await?;
    let password = terminal.password(&args.password, "Password: ")?;
    let secret_key = match &args.secret_key_file {
        Some(file) => Some(first_line_of(file)?),
        None if known || args.password_only || !terminal.somebody_is_there() => None,
        None => type_secret_key(terminal)?,
    };
    let may_have_another = known && secret_key.is_none() && !args.password_only;
    let device_name = device_name(args.device_name.as_deref());
    terminal.progress("Signing in");
    let enter = async |secret_key: Option<&Private>| {
        with_code(terminal, &args.password, async |code| {
            let options = SignIn {
                second_factor: code.map(Private::from),
                device_name: device_name.clone(),
                accept_loss: args.accept_loss,
            };
            client.sign_in(name, password.as_str(), secret_key.map(Private::as_str), options).await
        })
        .await
    };
    let signed_in = match enter(secret_key.as_ref()).await {
        // After a recovery elsewhere the account has another Secret Key than this device.
        Err(error) if may_have_another && is_wrong(&error) && terminal.somebody_is_there() => {
            terminal
                .remark(&format!("{error}. If the account was recovered elsewhere, its Secret Key is another one."));
            match type_secret_key(terminal)? {
                Some(typed) => enter(Some(&typed)).await?,
                None => return Err(error),
            }
        }
        entered => entered?,
    };
    if by_itself {
        say_what_came_along(&client, terminal).await?;
    }
    report(terminal, &signed_in);
    Ok(())
}

/// Where that is now which this device had kept by itself.
pub(super) async fn say_what_came_along(client: &Client, terminal: Terminal) -> anyhow::Result<()> {
    terminal.remark(match client.attached().await? {
        Some(_) => "What this device had kept by itself is in the account now.",
        None => "What this device had kept by itself comes along with the next selkie sync.",
    });
    Ok(())
}

/// `selkie recover NAME`
pub(super) async fn recover(place: &Place<'_>, terminal: Terminal, args: &RecoverArgs) -> anyhow::Result<()> {
    can_be_delivered(terminal, &args.sheet)?;
    let client = place.client_for(&args.name)?;
    let recovery_key = match &args.recovery_key_file {
        Some(file) => first_line_of(file)?,
        None => terminal.secret("Recovery key: ", "--recovery-key-file")?,
    };
    let password = terminal.new_password(given_password(&args.password)?, "New password: ")?;
    let device_name = device_name(args.device_name.as_deref());
    terminal.progress("Recovering the account");
    let recovered = with_code(terminal, &args.password, async |code| {
        let options = Recover {
            key_mode: key_mode(args.password_only),
            remove_second_factors: args.remove_second_factor,
            second_factor: code.map(Private::from),
            device_name: device_name.clone(),
        };
        client.recover(&args.name, recovery_key.as_str(), password.as_str(), options).await
    })
    .await?;
    if let Some(sheet) = &recovered.sheet {
        deliver(terminal, &recovered.account, sheet, &args.sheet).await?;
    }
    report(terminal, &recovered);
    Ok(())
}

/// `selkie sign-out`
pub(super) async fn sign_out(place: &Place<'_>, terminal: Terminal, args: &SignOutArgs) -> anyhow::Result<()> {
    let (_, account) = place.account().await?;
    let mut server_told = true;
    if args.everywhere {
        account.sign_out_everywhere().await?;
    }
    if args.wipe || !args.everywhere {
        let how = if args.wipe { SignOut::Wipe } else { SignOut::Keep };
        server_told = account.sign_out(how).await?.server_told;
    }
    if !server_told {
        terminal.remark("The server could not be told; the session there ends by itself.");
    }
    let text = match (args.wipe, args.everywhere) {
        (true, _) => "Signed out; nothing of the account is left on this device.",
        (false, true) => "All devices are signed out.",
        (false, false) => "Signed out.",
    };
    terminal.answer(text, &json!({ "signed_out": true, "server_told": server_told, "wiped": args.wipe }));
    Ok(())
}

/// `selkie forget NAME`
pub(super) async fn forget(place: &Place<'_>, terminal: Terminal, args: &ForgetArgs) -> anyhow::Result<()> {
    let client = place.client_for(&args.name)?;
    let question = format!("Remove {} and its keys from this device?", args.name);
    if !args.yes && !terminal.agrees(&question)? {
        terminal.answer("Nothing was removed.", &json!({ "forgotten": false }));
        return Ok(());
    }
    let forgotten = client.forget(&args.name).await?;
    let text = if forgotten { "Nothing of the account is left on this device." } else { "There was no such account." };
    terminal.answer(text, &json!({ "forgotten": forgotten }));
    Ok(())
}

fn type_secret_key(terminal: Terminal) -> anyhow::Result<Option<Private>> {
    let typed = terminal.secret("Secret Key (empty if the account has none): ", "--secret-key-file")?;
    Ok((!typed.as_str().trim().is_empty()).then_some(typed))
}

fn is_wrong(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::WrongCredentials))
}

fn report(terminal: Terminal, signed_in: &SignedIn) {
    let account = &signed_in.account;
    let mut text = format!("{} is signed in on this device.\n", account.login_name());
    text.push_str(&format!("State code: {} (the same on your other devices)\n", signed_in.state_code));
    for device in signed_in.devices.iter().filter(|device| !device.this_device && !device.revoked) {
        let seen = device.last_seen_ms.map_or("never".to_owned(), time);
        text.push_str(&format!("  {} last seen {seen}\n", device.name.as_deref().unwrap_or("a device")));
    }
    if signed_in.completed {
        text.push_str("The server had no keys of this account; they were made on this device now.\n");
    }
    let unconfirmed = account.unconfirmed_sheet().is_some();
    if unconfirmed {
        text.push_str("An emergency sheet waits to be confirmed: selkie recovery-key confirm\n");
    }
    if signed_in.keys_superseded {
        text.push_str("The server was restored and has an earlier password of this account: selkie password change\n");
    }
    let devices: Vec<serde_json::Value> = signed_in.devices.iter().map(super::devices::object).collect();
    terminal.answer(
        &text,
        &json!({
            "login_name": account.login_name(),
            "user_id": account.user_id().to_string(),
            "device_id": account.device_id().to_string(),
            "new_device": signed_in.new_device,
            "completed": signed_in.completed,
            "state_code": signed_in.state_code,
            "devices": devices,
            "unconfirmed_sheet": unconfirmed,
            "keys_superseded": signed_in.keys_superseded,
        }),
    );
}

fn key_mode(password_only: bool) -> KeyMode {
    if password_only { KeyMode::PasswordOnly } else { KeyMode::SecretKey }
}
