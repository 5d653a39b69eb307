//! `selkie verify`: what a file of evidence or an exported log proves.
//!
//! Owns the words for a verdict. It reads one file and nothing else: no account, no folder of data, no server.

use crate::args::VerifyArgs;
use crate::failure::{DoesNotHold, Usage};
use crate::terminal::{Terminal, time};
use anyhow::Context as _;
use selkie_client::{Proof, Subject, Verdict, from_base64url, judge, to_base64url};
use serde_json::{Value, json};

/// `selkie verify FILE`
pub(super) fn run(terminal: Terminal, args: &VerifyArgs) -> anyhow::Result<()> {
    let file = std::fs::read(&args.file).with_context(|| format!("{} could not be read", args.file.display()))?;
    let key = args.signed_by.as_deref().map(server_key).transpose()?;
    let verdict = judge(&file, key).map_err(|error| Usage(error.to_string()))?;
    terminal.answer(&in_words(&verdict), &object(&verdict));
    if verdict.holds() { Ok(()) } else { Err(DoesNotHold(what_is_missing(&verdict)).into()) }
}

fn server_key(text: &str) -> anyhow::Result<[u8; 32]> {
    let bytes = from_base64url(text).and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| Usage("the server's key is `head_key` of its /v1/capabilities, 43 characters".into()).into())
}

fn what_is_missing(verdict: &Verdict) -> &'static str {
    match verdict.subject {
        Subject::Log(_) => "this is not a log that is whole and right",
        _ => "this proves nothing to who was not there",
    }
}

fn in_words(verdict: &Verdict) -> String {
    let mut text = match &verdict.subject {
        Subject::Account(Some(user)) => format!("evidence about the account of {user}\n"),
        Subject::Vault(vault) => format!("evidence about the vault {vault}\n"),
        Subject::Log(vault) => format!("the log of the vault {vault}\n"),
        _ => "evidence about an account\n".to_owned(),
    };
    text.push_str(&format!("server     {}\n", verdict.server_name));
    if let Some(key) = &verdict.server_key {
        let whose = if verdict.key_was_given { "as it was given" } else { "as the file says: compare it" };
        text.push_str(&format!("its key    {} ({whose})\n", to_base64url(key)));
    }
    if let Some(seen) = verdict.seen_at_ms {
        text.push_str(&format!("kept       {}\n", time(seen)));
    }
    if let Some(claim) = &verdict.claim {
        text.push_str(&format!("it says    {claim}\n"));
    }
    for proof in &verdict.proofs {
        text.push_str(&format!("PROVEN     {proof}\n"));
    }
    if let Some(log) = &verdict.log {
        text.push_str(&format!("RIGHT      {} entries, every one by the rules, digest {}\n", log.entries, digest(log)));
        if let Some(to) = log.signed_to {
            text.push_str(&format!("SIGNED     by the server up to entry {to}\n"));
        }
    }
    for remark in &verdict.remarks {
        text.push_str(&format!("not proven {remark}\n"));
    }
    text
}

fn digest(log: &selkie_client::SoundLog) -> String {
    selkie_client::Digest { n: log.entries, h: log.h }.to_string()
}

fn object(verdict: &Verdict) -> Value {
    let (about, id) = match &verdict.subject {
        Subject::Vault(vault) => ("vault", Some(vault.to_string())),
        Subject::Log(vault) => ("log", Some(vault.to_string())),
        Subject::Account(user) => ("account", user.map(|user| user.to_string())),
        _ => ("unknown", None),
    };
    let proof = |proof: &Proof| json!({ "kind": word(proof), "message": proof.to_string() });
    json!({
        "holds": verdict.holds(),
        "about": about,
        "id": id,
        "server_name": verdict.server_name,
        "server_key": verdict.server_key.as_ref().map(|key| to_base64url(key)),
        "server_key_was_given": verdict.key_was_given,
        "seen_at_ms": verdict.seen_at_ms,
        "claim": verdict.claim,
        "proofs": verdict.proofs.iter().map(proof).collect::<Vec<_>>(),
        "log": verdict.log.as_ref().map(|log| json!({
            "entries": log.entries,
            "digest": digest(log),
            "signed_to": log.signed_to,
        })),
        "remarks": verdict.remarks,
    })
}

fn word(proof: &Proof) -> &'static str {
    match proof {
        Proof::TwoHeads { .. } => "two_heads",
        Proof::TwoLives => "two_lives",
        Proof::Rollback { .. } => "rollback",
        Proof::Fork { .. } => "fork",
        Proof::Moved { .. } => "moved",
        Proof::BrokenRule { .. } => "broken_rule",
        Proof::TwoAccountLogs { .. } => "two_account_logs",
        _ => "other",
    }
}
