//! The notes app of docs/building-an-app.md: what it lists is this file, piece by piece.

#![allow(clippy::print_stdout, reason = "it is a program for a terminal")]

use selkie_client::{
    Client, ClientBuilder, Collection, CollectionShape, Error, Order, Result, SignIn, SignUp, Strategy,
};
use serde::{Deserialize, Serialize};
use std::io::Write as _;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Note {
    title: String,
    body: String,
}

fn app(client: ClientBuilder) -> ClientBuilder {
    let notes = CollectionShape::new("notes").conflicts(Strategy::TextMerge).search(["title", "body"]);
    client.app("org.example.notes").collection(notes)
}

async fn notes_of(client: &Client) -> Result<Collection<Note>> {
    Ok(client.vault("Notes").await?.collection("notes"))
}

/// Does what the words say, and returns what there is to show.
async fn run(client: &Client, words: &[&str], ask: impl Fn(&str) -> String) -> Result<String> {
    match words {
        ["add", title, body] => {
            let notes = notes_of(client).await?;
            notes.put(&Note { title: (*title).into(), body: (*body).into() }).await?;
            Ok("kept".into())
        }
        ["list", words @ ..] => {
            let notes = notes_of(client).await?;
            let mut asked = notes.query().order_by("title", Order::Ascending);
            if !words.is_empty() {
                asked = asked.search(words.join(" "));
            }
            let lines =
                asked.all().await?.into_iter().map(|found| format!("{}: {}", found.value.title, found.value.body));
            Ok(lines.collect::<Vec<_>>().join("\n"))
        }
        ["sign-up", name, invite @ ..] => {
            let invite = invite.first().map(|invite| (*invite).into());
            let options = SignUp { invite, device_name: "laptop".into(), ..SignUp::default() };
            let made = client.sign_up(name, &ask("Password"), options).await?;
            client.sync().await?;
            Ok(made.sheet.printable_text())
        }
        ["sign-in", name, secret_key] => {
            let options = SignIn { device_name: "phone".into(), ..SignIn::default() };
            let account = client.sign_in(name, &ask("Password"), Some(secret_key), options).await?.account;
            account.sync().await?;
            Ok(format!("signed in; compare on the other device: {}", account.state_code()))
        }
        ["sync"] => match client.sync().await {
            Ok(done) => Ok(format!("in step, {} vaults moved", done.vaults.len())),
            Err(error) if error.is_retryable() => Ok(format!("later: {error}")),
            Err(error) => Err(error),
        },
        _ => Err(Error::ApiMisuse("notes sign-up | sign-in | add | list | sync".into())),
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::var("NOTES_FOLDER").unwrap_or_else(|_| "notes-data".into());
    let client = app(Client::alone().store(folder)).open().await?;
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    if matches!(words.first(), Some(&"sign-up" | &"sign-in")) {
        client.use_server("http://127.0.0.1:8040").await?;
    }
    let ask = |what: &str| {
        print!("{what}: ");
        let mut typed = String::new();
        let read = std::io::stdout().flush().and_then(|()| std::io::stdin().read_line(&mut typed));
        read.map(|_| typed.trim_end().to_owned()).unwrap_or_default()
    };
    println!("{}", run(&client, &words, ask).await?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use selkie_client::testing::TestServer;

    #[tokio::test]
    async fn what_two_devices_wrote_into_one_note_is_all_there() -> Result<()> {
        let server = TestServer::for_app(app);
        let ana = server.person("ana");
        let (laptop, phone) = (ana.device("laptop").await?, ana.device("phone").await?);
        let notes = notes_of(&laptop.client()).await?;
        let id = notes.put(&Note { title: "Packing".into(), body: "tent, rope".into() }).await?;
        server.sync_all().await?;

        phone.cut();
        let on_phone = notes_of(&phone.client()).await?;
        on_phone.update(id, |note| note.body = "tent, long rope".into()).await?;
        notes.update(id, |note| note.body = "big tent, rope".into()).await?;
        phone.mend();
        server.sync_all().await?;

        let packed = Some("big tent, long rope".to_owned());
        assert_eq!(notes.get(id).await?.map(|note| note.body), packed);
        assert_eq!(on_phone.get(id).await?.map(|note| note.body), packed);
        Ok(())
    }
}

#[cfg(test)]
mod commands {
    use super::*;
    use selkie_client::testing::TestServer;

    #[tokio::test]
    async fn the_commands_work_on_two_devices() -> Result<()> {
        let server = TestServer::for_app(app);
        let (laptop, phone) = (server.client()?, server.client()?);
        let ask = |_: &str| "a long sentence of mine".to_owned();
        run(&laptop, &["add", "Packing", "tent, rope"], ask).await?;
        assert_eq!(run(&laptop, &["list"], ask).await?, "Packing: tent, rope", "nobody has an account yet");
        let sheet = run(&laptop, &["sign-up", "ana@example.org"], ask).await?;
        let secret_key = sheet.split_whitespace().find(|word| word.starts_with("S1-")).expect("it is on the sheet");
        run(&phone, &["sign-in", "ana@example.org", secret_key], ask).await?;
        assert_eq!(run(&phone, &["list"], ask).await?, "Packing: tent, rope");
        assert_eq!(run(&phone, &["list", "snow"], ask).await?, "");
        Ok(())
    }
}
