//! Finding records, bringing back what they said, and deciding conflicts. All of it works without a server.
//!
//! Owns the reading of conditions. Records of every version of an app are looked at, since this is no app.

use super::records::{content, first_words, object, record_id, table, version_in_short, version_object};
use crate::args::{ConflictsArgs, QueryArgs, ResolveArgs, RestoreArgs, SearchArgs, Side};
use crate::failure::Usage;
use crate::place::Place;
use crate::terminal::{Terminal, time};
use selkie_client::{
    ChangeId, Content, Fields, Filter, OpenConflict, Record, RecordVersion, Said, Stands, Value, field,
};
use serde_json::json;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// `selkie query VAULT COLLECTION --where ...`
pub(super) async fn query(place: &Place<'_>, terminal: Terminal, args: &QueryArgs) -> anyhow::Result<()> {
    let filter = all_of(&args.conditions)?;
    let mut found = found(place, &args.vault, &args.collection, |fields| filter.fits(fields)).await?;
    if args.count {
        terminal.answer(&found.len().to_string(), &json!({ "count": found.len() }));
        return Ok(());
    }
    if let Some(order) = &args.order {
        found.sort_by_key(|(_, fields)| fields.at(order).cloned().unwrap_or(Value::Null));
        if args.desc {
            found.reverse();
        }
    }
    let records = found.into_iter().map(|(record, _)| record).skip(args.offset);
    let records = records.take(args.limit.unwrap_or(usize::MAX));
    show(terminal, &records.collect::<Vec<_>>());
    Ok(())
}

/// `selkie search VAULT COLLECTION WORD...`
pub(super) async fn search(place: &Place<'_>, terminal: Terminal, args: &SearchArgs) -> anyhow::Result<()> {
    let words: Vec<String> = args.words.iter().map(|word| word.to_lowercase()).collect();
    let has_all = |fields: &Fields| {
        let mut text = String::new();
        fields.0.values().for_each(|value| gather(value, &mut text));
        let text = text.to_lowercase();
        words.iter().all(|word| text.contains(word.as_str()))
    };
    let found = found(place, &args.vault, &args.collection, has_all).await?;
    show(terminal, &found.into_iter().map(|(record, _)| record).collect::<Vec<_>>());
    Ok(())
}

fn gather(value: &Value, text: &mut String) {
    match value {
        Value::Text(part) => text.extend([part.as_str(), "\n"]),
        Value::List(list) => list.iter().for_each(|value| gather(value, text)),
        Value::Map(map) => map.values().for_each(|value| gather(value, text)),
        _ => {}
    }
}

async fn found(
    place: &Place<'_>,
    vault: &str,
    collection: &str,
    fits: impl Fn(&Fields) -> bool,
) -> anyhow::Result<Vec<(Record, Fields)>> {
    let records = place.vault(vault).await?.records(collection).await?.into_iter();
    let with_fields = records.filter_map(|record| {
        let content = Content::from_bytes(&record.data)?;
        Some((record, content.fields))
    });
    Ok(with_fields.filter(|(_, fields)| fits(fields)).collect())
}

fn show(terminal: Terminal, records: &[Record]) {
    terminal.answer(&table(records), &json!({ "records": records.iter().map(object).collect::<Vec<_>>() }));
}

/// `selkie restore VAULT ID CHANGE`
pub(super) async fn restore(place: &Place<'_>, terminal: Terminal, args: &RestoreArgs) -> anyhow::Result<()> {
    let vault = place.vault(&args.vault).await?;
    let id = record_id(&args.id)?;
    let change: ChangeId = args.change.parse().map_err(|_| Usage("not the id of a version".into()))?;
    let version = vault.history(id).await?.into_iter().find(|version| version.change == Some(change));
    let version = version.ok_or_else(|| Usage("the record has no such version here".into()))?;
    if version.deleted {
        return Err(Usage("that version deletes the record: selkie rm".into()).into());
    }
    vault.restore(id, change).await?;
    terminal.answer("It says that again.", &json!({ "id": id.to_string() }));
    Ok(())
}

/// `selkie conflicts VAULT`
pub(super) async fn conflicts(place: &Place<'_>, terminal: Terminal, args: &ConflictsArgs) -> anyhow::Result<()> {
    let vault = place.vault(&args.vault).await?;
    let (mut text, mut list) = (String::new(), Vec::new());
    for conflict in vault.open_conflicts().await? {
        let OpenConflict { record, mine, theirs, at_ms, .. } = &conflict;
        text.push_str(&format!("{}  {record}  {}  to be decided: selkie resolve\n", time(*at_ms), mine.collection));
        text.push_str(&format!("    mine    {}\n    theirs  {}\n", in_short(mine), in_short(theirs)));
        let now = vault.get(*record).await?;
        if now.as_ref().map(|now| &now.data) != theirs.data.as_ref() {
            let says = now.as_ref().map_or_else(|| "(deleted)".to_owned(), |now| first_words(&now.data));
            text.push_str(&format!("    by now  {says}\n"));
        }
        list.push(json!({
            "record": record.to_string(),
            "at_ms": at_ms,
            "how": "asked",
            "open": true,
            "base": conflict.base.as_ref().map(said),
            "mine": said(mine),
            "theirs": said(theirs),
            "now": now.as_ref().map(object),
        }));
    }
    let settled = if args.open { Vec::new() } else { vault.conflicts().await? };
    let mut histories = HashMap::new();
    for conflict in settled.iter().filter(|conflict| !conflict.open) {
        let how = conflict.how.map_or("settled", selkie_client::Outcome::word);
        text.push_str(&format!("{}  {}  {how}\n", time(conflict.at_ms), conflict.record));
        // What was pruned from the history of this device is not shown.
        let versions: &Vec<RecordVersion> = match histories.entry(conflict.record) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(vault.history(conflict.record).await?),
        };
        let version = |change| versions.iter().find(|version| version.change == Some(change));
        for (word, change) in [("stands  ", conflict.won), ("set aside", conflict.lost)] {
            if let Some(version) = version(change) {
                text.push_str(&format!("    {word}  {}\n", version_in_short(version)));
            }
        }
        list.push(json!({
            "record": conflict.record.to_string(),
            "lost": conflict.lost.to_string(),
            "won": conflict.won.to_string(),
            "at_ms": conflict.at_ms,
            "how": how,
            "open": false,
            "stands": version(conflict.won).map(version_object),
            "set_aside": version(conflict.lost).map(version_object),
        }));
    }
    terminal.answer(&text, &json!({ "conflicts": list }));
    Ok(())
}

/// `selkie resolve VAULT ID mine|theirs`
pub(super) async fn resolve(place: &Place<'_>, terminal: Terminal, args: &ResolveArgs) -> anyhow::Result<()> {
    let vault = place.vault(&args.vault).await?;
    let id = record_id(&args.id)?;
    let asked = vault.open_conflicts().await?.into_iter().rfind(|conflict| conflict.record == id);
    let asked = asked.ok_or_else(|| Usage("nobody is asked about that record".into()))?;
    let stands = match args.which {
        Side::Mine => Stands::Mine,
        Side::Theirs => Stands::Theirs,
    };
    vault.decide(asked.id, stands).await?;
    let now = vault.get(id).await?;
    let says = now.as_ref().map_or_else(|| "(deleted)".to_owned(), |now| first_words(&now.data));
    let stands = now.as_ref().map(object);
    terminal.answer(&format!("It is decided: {says}"), &json!({ "id": id.to_string(), "stands": stands }));
    Ok(())
}

fn in_short(said: &Said) -> String {
    said.data.as_deref().map_or_else(|| "(deleted)".to_owned(), first_words)
}

fn said(said: &Said) -> serde_json::Value {
    let (form, content) = said.data.as_deref().map(content).unzip();
    json!({
        "collection": said.collection,
        "written_ms": said.written.ms,
        "deleted": said.data.is_none(),
        "form": form,
        "content": content,
    })
}

/// What all of these conditions hold for.
pub(super) fn all_of(conditions: &[String]) -> anyhow::Result<Filter> {
    let conditions = conditions.iter().map(|text| condition(text)).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(conditions.into_iter().fold(Filter::All, Filter::and))
}

/// `FIELD OPERATOR VALUE`, the value as JSON or else as text.
fn condition(text: &str) -> anyhow::Result<Filter> {
    let start = text.find(['!', '<', '>', '=', '~', '^']);
    let (name, rest) =
        start.map(|start| text.split_at(start)).filter(|(name, _)| !name.trim().is_empty()).ok_or_else(|| {
            Usage(format!("{text:?} is no condition: FIELD=VALUE, or != < <= > >= ~ ^ in the place of ="))
        })?;
    let operators = ["!=", "<=", ">=", "<", ">", "=", "~", "^"];
    let operator = operators.into_iter().find(|operator| rest.starts_with(operator));
    let operator = operator.ok_or_else(|| Usage(format!("{text:?} has no operator that is known")))?;
    let given = rest[operator.len()..].trim();
    let value = serde_json::from_str(given).map_or_else(|_| Value::from(given), |json| Value::from_json(&json));
    let name = field(name.trim());
    Ok(match operator {
        "!=" => name.ne(value),
        "<=" => name.le(value),
        ">=" => name.ge(value),
        "<" => name.lt(value),
        ">" => name.gt(value),
        "~" => name.contains(value),
        "^" => name.starts_with(given),
        _ => name.eq(value),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_are_read_as_they_are_meant() {
        let read = |text| condition(text).unwrap();
        assert_eq!(read("mood=calm"), field("mood").eq("calm"));
        assert_eq!(read("day >= 10"), field("day").ge(10));
        assert_eq!(read("day!=\"10\""), field("day").ne("10"));
        assert_eq!(read("tags~sea"), field("tags").contains("sea"));
        assert_eq!(read("address.city^Be"), field("address.city").starts_with("Be"));
        assert_eq!(read("a<1.5"), field("a").lt(1.5));
        assert!(condition("mood").is_err() && condition("=1").is_err() && condition("a!1").is_err());
    }
}
