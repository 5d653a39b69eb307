//! Export and import: a vault as one file.
//!
//! Owns which file is written and when it takes the place of the one before, and which vault an archive goes to.

use crate::args::{ExportArgs, ImportArgs};
use crate::failure::Usage;
use crate::place::{Owner, Place};
use crate::terminal::{Terminal, first_line_of};
use anyhow::Context as _;
use selkie_client::{
    Error, ExportOptions, FieldType, ImportReport, Manifest, Mapping, Private, Table, TableForm, Vault, read_manifest,
};
use serde_json::json;
use std::fs::File;
use std::path::{Path, PathBuf};

/// `selkie export VAULT --to FILE`
pub(super) async fn export(place: &Place<'_>, terminal: Terminal, args: &ExportArgs) -> anyhow::Result<()> {
    let passphrase = args.passphrase_file.as_deref().map(first_line_of).transpose()?;
    let vault = place.vault(&args.vault).await?;
    let sealed = passphrase.is_some();
    let draft = Draft::beside(&args.to)?;
    let bar = terminal.bar("Exporting");
    let options = ExportOptions { history: args.history, passphrase };
    let file = draft.create()?;
    let watched = bar.over_writing(file.try_clone().context("the file cannot be written")?);
    let (_, report) = vault.export(watched, options).await?;
    let bytes = draft.takes_its_place(file, &args.to)?;
    drop(bar);

    let shown = args.to.display().to_string();
    let mut text = format!("{shown} is written: {} records of {} collections", report.records, report.collections);
    if args.history {
        text.push_str(&format!(", {} versions", report.versions));
    }
    text.push('.');
    if report.unreadable > 0 {
        text.push_str(&format!(
            "\n{} could not be read here: unreadable.ndjson in the archive says which and why.",
            report.unreadable
        ));
    }
    if !sealed {
        terminal.hint("Whoever has the file can read it: --passphrase-file seals it.");
    }
    let json = json!({
        "file": shown,
        "bytes": bytes,
        "sealed": sealed,
        "collections": report.collections,
        "records": report.records,
        "versions": report.versions,
        "unreadable": report.unreadable,
    });
    match report.unreadable {
        0 => terminal.report(&text, &json),
        _ => terminal.answer(&text, &json),
    }
    // Whoever throws an older backup away because this one was made must hear of it.
    anyhow::ensure!(report.unreadable == 0, "the archive has not everything: what is missing is named in it");
    Ok(())
}

/// `selkie import FILE`
pub(super) async fn import(place: &Place<'_>, terminal: Terminal, args: &ImportArgs) -> anyhow::Result<()> {
    let open = || File::open(&args.file).with_context(|| format!("{} could not be opened", args.file.display()));
    let extension = args.file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let passphrase = args.passphrase_file.as_deref().map(first_line_of).transpose()?;
    let file = open()?;
    let owner = place.owner().await?;
    let (vault, report) = match TableForm::of_extension(extension) {
        Some(form) => {
            let (Some(into), Some(collection)) = (&args.into, args.collection.clone()) else {
                return Err(Usage("a table needs --into and --collection".into()).into());
            };
            let vault = owner.vault(into).await?;
            let mapping = mapping(&args.fields, args.only)?;
            let (id_field, overwrite) = (args.id_field.clone(), args.overwrite);
            let table = Table { form, collection, id_field, mapping, overwrite };
            let bar = terminal.bar("Importing");
            let report = vault.import_table(bar.over_reading(file), table).await?;
            (vault, report)
        }
        None if args.collection.is_some() => {
            let why = "an archive knows its collections; tables end in .csv, .json, .ndjson or .jsonl";
            return Err(Usage(why.into()).into());
        }
        None => {
            let passphrase = passphrase.as_ref().map(Private::as_str);
            let vault = match &args.into {
                Some(into) => owner.vault(into).await?,
                None => home_of(&owner, &read_manifest(file, passphrase)?).await?,
            };
            let bar = terminal.bar("Importing");
            let report = vault.import(bar.over_reading(open()?), passphrase).await?;
            (vault, report)
        }
    };
    say(terminal, &owner, &vault, &report);
    Ok(())
}

/// `NAME=NEW-NAME:TYPE`, with one or both of what follows the name; `NAME=` leaves the field out.
fn mapping(rules: &[String], only: bool) -> anyhow::Result<Mapping> {
    let mut mapping = Mapping::default();
    for rule in rules {
        let unclear = || {
            Usage(format!(
                "{rule:?} is no rule: NAME=NEW-NAME, NAME:TYPE, NAME=NEW-NAME:TYPE or NAME=; types are text, integer, number, boolean, json"
            ))
        };
        // A name may have a colon in it, a type may not.
        let (rest, kind) = match rule.rsplit_once(':').map(|(rest, word)| (rest, FieldType::of_word(word))) {
            Some((rest, Some(kind))) => (rest, Some(kind)),
            _ => (rule.as_str(), None),
        };
        let (from, to) = rest.split_once('=').unwrap_or((rest, rest));
        mapping = match kind {
            _ if from.is_empty() || kind.is_none() && !rest.contains('=') => return Err(unclear().into()),
            Some(_) if to.is_empty() => return Err(unclear().into()),
            // Rather than a field that is called so.
            None if to.contains(':') => return Err(unclear().into()),
            Some(kind) => mapping.typed(from, to, kind),
            None if to.is_empty() => mapping.leave_out(from),
            None => mapping.field(from, to),
        };
    }
    Ok(if only { mapping.only_named() } else { mapping })
}

/// Where an archive belongs: the vault it was made of, else the one that is called so, else a new one.
async fn home_of(owner: &Owner, manifest: &Manifest) -> anyhow::Result<Vault> {
    if let Some(vault) = owner.find(&manifest.vault.to_string()).await? {
        return Ok(vault);
    }
    let name = manifest.name.as_deref();
    let name = name.ok_or_else(|| Usage("the archive does not say what its vault was called: give --into".into()))?;
    let app = |summary: &selkie_client::VaultSummary| summary.app == manifest.app;
    match owner.find(name).await? {
        Some(vault) if app(&vault.summary().await?) => Ok(vault),
        Some(_) => {
            Err(Usage(format!("the vault {name:?} here is of another app: give --into, if that is right")).into())
        }
        None => Ok(owner.make(name, &manifest.app).await?),
    }
}

fn say(terminal: Terminal, owner: &Owner, vault: &Vault, report: &ImportReport) {
    let mut text = format!("{} new, {} updated, {} the same already", report.new, report.updated, report.same);
    if report.kept > 0 {
        text.push_str(&format!(", {} kept as they are here", report.kept));
    }
    text.push('.');
    for id in report.kept_records.iter().take(10) {
        text.push_str(&format!("\nkept  {id}"));
    }
    if report.kept > 10 {
        text.push_str("\n(--json lists more)");
    }
    if let Some(digest) = report.digest {
        let digest = &selkie_client::to_base64url(&digest)[..12];
        text.push_str(&format!("\n{} records of the table are here, digest {digest}.", report.rows));
    }
    if report.unreadable > 0 {
        text.push_str(&format!("\n{} could not be read where the archive was made.", report.unreadable));
    }
    if report.new + report.updated > 0 {
        text.push_str(match owner {
            Owner::Account(_) => "\nThey are here; `selkie sync` takes them to the server.",
            Owner::Device(_) => "\nThey are on this device alone, until somebody signs up or in.",
        });
    }
    let json = json!({
        "vault": vault.id().to_string(),
        "new": report.new,
        "updated": report.updated,
        "same": report.same,
        "kept": report.kept,
        "unreadable": report.unreadable,
        "rows": report.rows,
        "digest": report.digest.map(|digest| selkie_client::to_base64url(&digest)),
        "kept_records": report.kept_records.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    match report.kept + report.unreadable {
        0 => terminal.report(&text, &json),
        _ => terminal.answer(&text, &json),
    }
}

/// A file that is being written; it is removed if it does not become the one that was asked for.
struct Draft(PathBuf);

impl Draft {
    /// In the same folder, so that it can take the other's place at once. Two exports at one time have two drafts.
    fn beside(file: &Path) -> anyhow::Result<Draft> {
        let name = file.file_name().ok_or_else(|| Usage(format!("{} is no name of a file", file.display())))?;
        let mut draft = std::ffi::OsString::from(".");
        draft.push(name);
        draft.push(format!(".{}.part", std::process::id()));
        Ok(Draft(file.with_file_name(draft)))
    }

    /// Readable by its owner alone.
    fn create(&self) -> Result<File, Error> {
        // Of a process of the same number that was killed.
        let _none = std::fs::remove_file(&self.0);
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(options.open(&self.0).map_err(selkie_client::ArchiveError::Writing)?)
    }

    /// Returns when the file is on the disk, whole; how long it is.
    fn takes_its_place(self, draft: File, file: &Path) -> Result<u64, Error> {
        let bytes = || {
            draft.sync_all()?;
            let bytes = draft.metadata()?.len();
            std::fs::rename(&self.0, file)?;
            // The name itself must be on the disk, too. Windows cannot open a folder like this and does not need it.
            #[cfg(unix)]
            if let Some(folder) = file.parent() {
                let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
                File::open(folder)?.sync_all()?;
            }
            Ok(bytes)
        };
        Ok(bytes().map_err(selkie_client::ArchiveError::Writing)?)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // After it took its place there is nothing under this name any more.
        let _gone = std::fs::remove_file(&self.0);
    }
}
