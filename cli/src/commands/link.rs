//! Linking, on both sides.
//!
//! Owns what each screen shows while the two devices find each other.

use super::{proof, with_code};
use crate::args::{LinkArgs, SignInArgs};
use crate::failure::Usage;
use crate::place::{Place, device_name};
use crate::terminal::{Terminal, first_line_of, given_password, stdin_line};
use selkie_client::{Error, LinkInvitation, Private};
use serde_json::json;

/// `selkie device link`, on the signed-in device.
pub(super) async fn invite(place: &Place<'_>, terminal: Terminal, args: &LinkArgs) -> anyhow::Result<()> {
    if !args.yes && !terminal.somebody_is_there() {
        return Err(Usage("there is nobody to ask whether the device may come in: use --yes".into()).into());
    }
    let (_, account) = place.account().await?;
    let given = given_password(&args.password)?;
    let link = account.link_device().await?;
    let mut text = String::new();
    if let Some(qr) = link.qr() {
        text.push_str(&format!("{qr}\n"));
    }
    text.push_str(&format!(
        "On the new device:  selkie sign-in --server {} --link\nand give it the code {}\nIt is good for {} seconds.\n",
        account.server_url(),
        link.code(),
        link.expires_in().as_secs()
    ));
    let (code, uri) = (link.code().to_owned(), link.payload());
    terminal.answer(
        &text,
        &json!({ "event": "code", "code": code, "uri": uri.as_str(), "expires_in": link.expires_in().as_secs() }),
    );
    terminal.progress("Waiting for the new device");
    let requester = link.wait_for_request().await?;
    let (name, fingerprint) = (requester.device_name(), requester.fingerprint());
    let question = format!("{name:?} asks to be let in. Its fingerprint is {fingerprint}.");
    terminal.answer(&question, &json!({ "event": "request", "device_name": name, "fingerprint": fingerprint }));
    if !args.yes && !terminal.agrees("Does the new device show the same, and may it come in?")? {
        terminal.answer("It was not let in.", &json!({ "event": "declined" }));
        return Ok(());
    }
    loop {
        let password = match &given {
            Some(password) => password.clone(),
            None => terminal.secret("Password: ", "--password-file or --password-stdin")?,
        };
        match with_code(terminal, &args.password, async |code| requester.approve(proof(&password, code)).await).await {
            Ok(()) => break,
            Err(error) if given.is_none() && is_wrong_password(&error) => terminal.remark(&format!("{error}.")),
            Err(error) => return Err(error),
        }
    }
    terminal.answer("The device is signed in.", &json!({ "event": "linked" }));
    Ok(())
}

/// The code lets whoever has it ask to be let in, so the usual way is to type it here and not as an argument.
fn code(terminal: Terminal, args: &SignInArgs) -> anyhow::Result<Private> {
    match (&args.link, &args.link_file) {
        (_, Some(file)) => first_line_of(file),
        (Some(Some(code)), None) => Ok(Private::from(code.as_str())),
        _ if terminal.somebody_is_there() => Ok(Private::from(terminal.line("Code on the other device: ")?)),
        _ => stdin_line(),
    }
}

fn is_wrong_password(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(Error::WrongCredentials))
}

/// `selkie sign-in --link`, on the new device.
pub(super) async fn join(place: &Place<'_>, terminal: Terminal, args: &SignInArgs) -> anyhow::Result<()> {
    let invitation = LinkInvitation::parse(code(terminal, args)?.as_str())?;
    let client = place.client_for_link(&invitation)?;
    let by_itself = client.keeps_by_itself().await?;
    let link = client.link(invitation.code.as_str(), &device_name(args.device_name.as_deref())).await?;
    let (name, fingerprint) = (link.login_name().to_owned(), link.fingerprint());
    terminal.answer(
        &format!("Joining the account of {name}. This device's fingerprint is {fingerprint}."),
        &json!({ "event": "joining", "login_name": name, "fingerprint": fingerprint }),
    );
    terminal.progress("Waiting for the other device to agree");
    let account = link.finish().await?;
    if by_itself {
        super::doors::say_what_came_along(&client, terminal).await?;
    }
    terminal.answer(
        &format!("{} is signed in on this device.", account.login_name()),
        &json!({
            "event": "linked",
            "login_name": account.login_name(),
            "user_id": account.user_id().to_string(),
            "device_id": account.device_id().to_string(),
            "state_code": account.state_code(),
        }),
    );
    Ok(())
}
