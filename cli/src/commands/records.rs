//! Records of a vault: put, get, list, remove, history. All of it works without a server.
//!
//! Owns how a record looks at a terminal. JSON objects are taken as fields, anything else as it is.

use super::vault::stdin_bytes;
use crate::args::{PutArgs, RecordArgs, RecordsArgs, RemoveArgs};
use crate::failure::Usage;
use crate::place::Place;
use crate::terminal::{Terminal, time};
use anyhow::Context as _;
use selkie_client::{Content, Fields, Record, RecordId, RecordVersion};
use serde_json::{Value, json};

/// `selkie put VAULT COLLECTION [ID]`, the content from standard input if it is not given.
pub(super) async fn put(place: &Place<'_>, terminal: Terminal, args: &PutArgs) -> anyhow::Result<()> {
    let vault = place.vault(&args.vault).await?;
    let id = args.id.as_deref().map_or_else(|| Ok(vault.new_record_id()), record_id)?;
    let content = match (&args.content, &args.file) {
        (Some(content), _) => content.clone().into_bytes(),
        (None, Some(file)) => std::fs::read(file).with_context(|| format!("{} could not be read", file.display()))?,
        (None, None) => stdin_bytes()?,
    };
    if content.trim_ascii().is_empty() {
        // What fills a pipe may have failed, and an empty record would hide it.
        return Err(Usage("there is no content: nothing was written".into()).into());
    }
    match serde_json::from_slice::<Value>(&content) {
        Ok(Value::Object(object)) => {
            let fields = object.iter().map(|(name, value)| (name.clone(), selkie_client::Value::from_json(value)));
            vault.collection(&args.collection).put_as(id, &Fields(fields.collect())).await?;
        }
        _ => vault.put(&args.collection, id, &content).await?,
    }
    terminal.answer(&id.to_string(), &json!({ "id": id.to_string() }));
    Ok(())
}

/// `selkie get VAULT ID`
pub(super) async fn get(place: &Place<'_>, terminal: Terminal, args: &RecordArgs) -> anyhow::Result<()> {
    let vault = place.vault(&args.vault).await?;
    let record = vault.get(record_id(&args.id)?).await?;
    let record = record.ok_or_else(no_such_record)?;
    match as_json(&record.data) {
        Some(json) => terminal.answer(&json.to_string(), &object(&record)),
        None => terminal.answer_bytes(&record.data, &object(&record)),
    }
    Ok(())
}

/// `selkie ls VAULT [COLLECTION]`
pub(super) async fn list(place: &Place<'_>, terminal: Terminal, args: &RecordsArgs) -> anyhow::Result<()> {
    let vault = place.vault(&args.vault).await?;
    let Some(collection) = &args.collection else {
        let collections = vault.collections().await?;
        let text: String = collections.iter().map(|(name, records)| format!("{name}  {records}\n")).collect();
        let list = collections.iter().map(|(name, records)| json!({ "collection": name, "records": records }));
        terminal.answer(&text, &json!({ "collections": list.collect::<Vec<_>>() }));
        return Ok(());
    };
    let records = vault.records(collection).await?;
    terminal.answer(&table(&records), &json!({ "records": records.iter().map(object).collect::<Vec<_>>() }));
    Ok(())
}

/// Records for people, one a line.
pub(super) fn table(records: &[Record]) -> String {
    records.iter().map(|record| line(record) + "\n").collect()
}

/// One of them.
pub(super) fn line(record: &Record) -> String {
    let waiting = if record.pending { "  (not sent yet)" } else { "" };
    format!("{}  {}  {}{waiting}", record.id, time(record.written.ms), first_words(&record.data))
}

/// `selkie rm VAULT COLLECTION ID`
pub(super) async fn remove(place: &Place<'_>, terminal: Terminal, args: &RemoveArgs) -> anyhow::Result<()> {
    let vault = place.vault(&args.vault).await?;
    let id = record_id(&args.id)?;
    vault.get(id).await?.ok_or_else(no_such_record)?;
    vault.delete(&args.collection, id).await?;
    terminal.answer("It is gone here; its history stays.", &json!({ "id": id.to_string() }));
    Ok(())
}

/// `selkie history VAULT ID`
pub(super) async fn history(place: &Place<'_>, terminal: Terminal, args: &RecordArgs) -> anyhow::Result<()> {
    let versions = place.vault(&args.vault).await?.history(record_id(&args.id)?).await?;
    let mut text = String::new();
    for version in &versions {
        let what = version_in_short(version);
        let mark = match (version.current, version.lost_conflict) {
            (true, _) => "now      ",
            (false, true) => "set aside",
            (false, false) => "before   ",
        };
        let change = version.change.map_or("(not sent yet)".to_owned(), |change| change.to_string());
        text.push_str(&format!("{mark}  {}  {}  {change}  {what}\n", time(version.written.ms), version.device));
    }
    terminal.answer(&text, &json!({ "versions": versions.iter().map(version_object).collect::<Vec<_>>() }));
    Ok(())
}

pub(super) fn record_id(text: &str) -> anyhow::Result<RecordId> {
    text.parse().map_err(|_| Usage("not the id of a record".into()).into())
}

fn no_such_record() -> Usage {
    Usage("the vault has no such record".into())
}

/// The fields of a typed record, as JSON.
fn as_json(data: &[u8]) -> Option<Value> {
    Content::from_bytes(data).map(|content| selkie_client::Value::Map(content.fields.0).to_json())
}

/// One line of it.
pub(super) fn first_words(data: &[u8]) -> String {
    let json = as_json(data).map(|json| json.to_string());
    let text = json.map_or_else(|| String::from_utf8_lossy(data), Into::into);
    let line: String = text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(60).collect();
    if line.len() < text.trim_end().len() { format!("{line}...") } else { line }
}

pub(super) fn version_in_short(version: &RecordVersion) -> String {
    if version.deleted { "(deleted)".to_owned() } else { first_words(&version.data) }
}

/// JSON as such, other text as text, and what is neither in base64url.
pub(super) fn content(data: &[u8]) -> (&'static str, Value) {
    if let Some(json) = as_json(data) {
        return ("json", json);
    }
    match (serde_json::from_slice(data), std::str::from_utf8(data)) {
        (Ok(value), _) => ("json", value),
        (_, Ok(text)) => ("text", text.into()),
        _ => ("base64url", selkie_client::to_base64url(data).into()),
    }
}

pub(super) fn object(record: &Record) -> Value {
    let (form, content) = content(&record.data);
    json!({
        "id": record.id.to_string(),
        "collection": record.collection,
        "written_ms": record.written.ms,
        "pending": record.pending,
        "form": form,
        "content": content,
    })
}

pub(super) fn version_object(version: &RecordVersion) -> Value {
    let (form, content) = content(&version.data);
    json!({
        "n": version.n,
        "change": version.change.map(|change| change.to_string()),
        "collection": version.collection,
        "written_ms": version.written.ms,
        "author": version.author.to_string(),
        "device": version.device.to_string(),
        "deleted": version.deleted,
        "current": version.current,
        "lost_conflict": version.lost_conflict,
        "form": form,
        "content": content,
    })
}
