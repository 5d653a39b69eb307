//! What a file of evidence, or an exported log, proves to somebody who was not there.
//!
//! Owns the judgement. Pure: bytes in, findings out; it asks no server and needs no account. Nothing counts here
//! because the file says so. What is proven is signed by the server, whose key whoever judges may know from elsewhere;
//! what is only told is named apart.

use super::exhibit::{Evidence, Exhibit, LogExport, VERSION, VaultEvidence};
use super::stretch::Stretch;
use selkie_protocol::account_log::AccountLog;
use selkie_protocol::bytes::to_base64url;
use selkie_protocol::id::{UserId, VaultId};
use selkie_protocol::log::{Denied, Entry, Frame, Head, Refusal, SignedHead, VaultLog, chain};
use selkie_protocol::sign::PublicKey;
use selkie_protocol::vault::SignedHeadBytes;
use selkie_protocol::{Bytes, Face, Fixed};
use std::collections::BTreeMap;

/// Of several servers that share a database, and of one whose clock was set.
const CLOCKS_DIFFER_MS: u64 = 10 * 60 * 1000;

type People = BTreeMap<UserId, AccountLog>;

/// So many served entries are looked at: more than a server shows at once, and what somebody may make us read.
const MOST_SERVED: usize = 1024;

/// What the file is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subject {
    /// Evidence about an account; whose, if it is said.
    Account(Option<UserId>),
    /// Evidence about a vault.
    Vault(VaultId),
    /// The log of a vault.
    Log(VaultId),
}

/// Something that the signatures in a file prove, whoever made the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Proof {
    /// It signed two heads of one position that contradict each other.
    #[error("the server signed two different logs up to position {n}")]
    TwoHeads {
        /// The position.
        n: u64,
    },
    /// It showed a shorter log than it had signed.
    #[error("the server signed that the log reaches {known}, and later that it ends at {offered}")]
    Rollback {
        /// How far it had signed.
        known: u64,
        /// How far it showed.
        offered: u64,
    },
    /// It showed another log than it had signed.
    #[error("the server signed one log up to position {n}, and later signed another that contradicts it there")]
    Fork {
        /// Where the two part.
        n: u64,
    },
    /// It put an entry elsewhere than it had signed, or left it out.
    #[error("the server signed that an entry stands at {n}, and later signed a log in which {}", moved(.to))]
    Moved {
        /// Where it had said that the entry stands.
        n: u64,
        /// Where it stands now, if anywhere.
        to: Option<u64>,
    },
    /// It vouched for an entry that may not stand there.
    #[error("the server signed a log in which the entry at {n} may not stand: {why}")]
    BrokenRule {
        /// Where it stands.
        n: u64,
        /// Which rule it breaks.
        why: String,
    },
    /// It went on in a life that it had ended.
    #[error("the server signed in one life, then in another, and then in the first again")]
    TwoLives,
    /// That is not the server's doing alone: who has the identity key signed both.
    #[error("the key of this person signed two different entries of their account log at index {index}")]
    TwoAccountLogs {
        /// The entry at which the two part.
        index: u64,
    },
}

fn moved(to: &Option<u64>) -> String {
    match to {
        Some(to) => format!("it stands at {to}"),
        None => "another stands in its place".to_owned(),
    }
}

/// An exported log that is whole and right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SoundLog {
    /// How many entries it has.
    pub entries: u64,
    /// The chain value at the end: the digest that devices compare.
    pub h: [u8; 32],
    /// Up to where the server's signature vouches for it.
    pub signed_to: Option<u64>,
}

/// The outcome of [`judge`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What it is about.
    pub subject: Subject,
    /// What the server calls itself, by the word of whoever made the file.
    pub server_name: String,
    /// By the clock of the device that made the file.
    pub seen_at_ms: Option<u64>,
    /// What whoever made the file says; believe it as far as you believe them.
    pub claim: Option<String>,
    /// The key that the server's signatures were checked with.
    pub server_key: Option<[u8; 32]>,
    /// The key was given by whoever judges, not taken from the file: without that, a proof is against whoever has this
    /// key.
    pub key_was_given: bool,
    /// What is proven to anybody.
    pub proofs: Vec<Proof>,
    /// What is not proven, and why.
    pub remarks: Vec<String>,
    /// The log, if the file is one and it is whole and right.
    pub log: Option<SoundLog>,
}

impl Verdict {
    /// Whether the file shows what it is for: evidence proves something, a log is whole and right, and signed with the
    /// server's key where that was given.
    pub fn holds(&self) -> bool {
        match self.subject {
            Subject::Log(_) => {
                let vouched = self.log.is_some_and(|log| log.signed_to.is_some());
                self.log.is_some() && self.proofs.is_empty() && (vouched || !self.key_was_given)
            }
            _ => !self.proofs.is_empty(),
        }
    }
}

/// The bytes are no file of ours.
#[derive(Debug, thiserror::Error)]
#[error("this is neither evidence nor an exported log: {0}")]
pub struct NotAnExhibit(String);

/// Says what a file of evidence or an exported log proves. Use it wherever somebody is handed one: it needs no account,
/// no network, and believes nothing but signatures. `server_key` is the key that the server in question signs heads
/// with (`head_key` of its `/v1/capabilities`), if whoever judges knows it; else the one in the file is used, and the
/// verdict says so.
pub fn judge(file: &[u8], server_key: Option<[u8; 32]>) -> Result<Verdict, NotAnExhibit> {
    let exhibit: Exhibit = Face::Json.decode(file).map_err(|error| NotAnExhibit(error.what))?;
    let version = match &exhibit {
        Exhibit::AccountEvidence(evidence) => evidence.version(),
        Exhibit::VaultEvidence(evidence) => evidence.version,
        Exhibit::VaultLog(log) => log.version,
    };
    if version != VERSION {
        return Err(NotAnExhibit("it was written for a later version: update the app".into()));
    }
    Ok(match exhibit {
        Exhibit::AccountEvidence(evidence) => judge_account(&evidence),
        Exhibit::VaultEvidence(evidence) => judge_vault(&evidence, server_key),
        Exhibit::VaultLog(log) => judge_log(&log, server_key),
    })
}

fn verdict(subject: Subject, server_name: &str) -> Verdict {
    Verdict {
        subject,
        server_name: crate::untrusted::clean(server_name),
        seen_at_ms: None,
        claim: None,
        server_key: None,
        key_was_given: false,
        proofs: Vec::new(),
        remarks: Vec::new(),
        log: None,
    }
}

/// Account logs are signed by their people, not by the server: what it hides or replaces is its word against another's.
fn judge_account(evidence: &Evidence) -> Verdict {
    let mut verdict = verdict(Subject::Account(evidence.uid), &evidence.server_name);
    verdict.seen_at_ms = Some(evidence.seen_at_ms);
    verdict.claim = Some(evidence.kind.to_string());
    let replay = |entries: &[Bytes]| AccountLog::replay(entries.iter().map(|entry| &**entry));
    let from = usize::try_from(evidence.served_from).unwrap_or(usize::MAX).min(evidence.ours.len());
    let shown: Vec<Bytes> = evidence.ours[..from].iter().chain(&evidence.served).cloned().collect();
    match (replay(&evidence.ours), replay(&shown)) {
        (Ok(ours), Ok(theirs)) if ours.user() == theirs.user() => {
            let apart = evidence.ours.iter().zip(&shown).position(|(ours, theirs)| ours != theirs);
            if let Some(index) = apart {
                verdict.proofs.push(Proof::TwoAccountLogs { index: index as u64 });
            }
        }
        (Ok(_), Ok(_)) => verdict.remarks.push("the two account logs are of two people".into()),
        (Ok(_), Err(_)) => verdict.remarks.push("what was served is no account log of this person".into()),
        (Err(_), _) => verdict.remarks.push("there is no account log to hold what was served against".into()),
    }
    if verdict.proofs.is_empty() {
        verdict
            .remarks
            .push("a server does not sign which account log it shows: that is the word of this device".into());
    }
    verdict
}

fn judge_vault(evidence: &VaultEvidence, given: Option<[u8; 32]>) -> Verdict {
    let mut verdict = verdict(Subject::Vault(evidence.vid), &evidence.server_name);
    verdict.seen_at_ms = Some(evidence.seen_at_ms);
    verdict.claim = Some(format!(
        "{}; expected: {}; found: {}",
        evidence.kind,
        crate::untrusted::clean(&evidence.expected),
        crate::untrusted::clean(&evidence.found)
    ));
    let heads = signed_heads(&mut verdict, &evidence.vid, &evidence.heads, evidence.head_key, given);
    let people = people(&mut verdict, &evidence.people);
    for (number, one) in heads.iter().enumerate() {
        for other in &heads[number + 1..] {
            if one.contradicts(other) {
                verdict.prove(contradiction(one, other));
            } else if given_up(one, other) {
                verdict.remark(
                    "one head is behind another that was signed before it, by no more than clocks differ".into(),
                );
            }
        }
    }
    if lived_on(&heads) {
        verdict.prove(Proof::TwoLives);
    }
    let served = &evidence.served[..evidence.served.len().min(MOST_SERVED)];
    if served.len() < evidence.served.len() {
        verdict.remark(format!("of the entries that were served, the first {MOST_SERVED} were looked at"));
    }
    let base = Head { n: evidence.base_n, h: *evidence.base_h };
    weigh(&mut verdict, &Stretch::along(base, &evidence.ours), &heads, evidence, Some(&people));
    let before = evidence.served_after.checked_sub(base.n).and_then(|before| usize::try_from(before).ok());
    if let Some(before) = before.filter(|before| *before <= evidence.ours.len())
        && !served.is_empty()
    {
        let shown = Stretch::along(base, evidence.ours[..before].iter().chain(served));
        weigh(&mut verdict, &shown, &heads, evidence, Some(&people));
    }
    for (step, frame) in served.iter().enumerate() {
        // An author who had seen everything before says what that was. If the server signed where it leads, then the
        // server says so, too: nothing else leads there.
        let entry = Frame::entry_bytes(frame).and_then(Entry::parse);
        let stands_at = evidence.served_after.checked_add(step as u64).and_then(|n| n.checked_add(1));
        let (Ok(entry), Some(n)) = (entry, stands_at) else { break };
        if entry.header.seen.n.checked_add(1) == Some(n) {
            weigh(&mut verdict, &Stretch::along(entry.header.seen, &served[step..]), &heads, evidence, None);
        }
    }
    if verdict.proofs.is_empty() && !heads.is_empty() {
        verdict.remark("no two things that the server has signed contradict each other".into());
    }
    verdict
}

/// What follows from a stretch, if the server has signed where it leads. Where `people` are given, the rules are asked
/// as well.
fn weigh(
    verdict: &mut Verdict,
    stretch: &Stretch<'_>,
    heads: &[SignedHead],
    evidence: &VaultEvidence,
    people: Option<&People>,
) {
    let vouching: Vec<&SignedHead> = heads.iter().filter(|head| stretch.at(head.head.n) == Some(head.head.h)).collect();
    for voucher in &vouching {
        // A server that was restored may honestly have another log after its backup.
        let same_life = heads.iter().filter(|head| head.incarnation == voucher.incarnation);
        for other in same_life.filter(|other| other.head.n < voucher.head.n) {
            let Some(value) = stretch.at(other.head.n).filter(|value| *value != other.head.h) else { continue };
            verdict.prove(moved_or_forked(stretch, other, &value, evidence));
        }
    }
    let Some(people) = people else { return };
    let vouched_to = vouching.iter().map(|head| head.head.n).max();
    let flaw = stretch.positions().find_map(|n| Some((n, stretch.flaw(n, &evidence.vid, people)?)));
    if let Some((n, flaw)) = flaw {
        find_fault(verdict, n, flaw.why, flaw.by_account_logs, vouched_to);
    }
    if stretch.unreadable {
        let n = stretch.end().n.saturating_add(1);
        verdict.remark(format!("what was shown for {n} cannot be read, and the server has not signed it"));
    }
}

/// An entry that may not stand where it is: a proof, if the server has signed that it stands there and nobody else's
/// word is needed to see it.
fn find_fault(verdict: &mut Verdict, n: u64, why: &str, by_account_logs: bool, vouched_to: Option<u64>) {
    if vouched_to.is_none_or(|to| to < n) {
        verdict
            .remark(format!("the entry shown for {n} may not stand there ({why}), and the server has not signed it"));
    } else if by_account_logs {
        verdict.remark(format!(
            "the entry signed for {n} may not stand there ({why}), if the account logs in the file are the only ones"
        ));
    } else {
        verdict.prove(Proof::BrokenRule { n, why: why.to_owned() });
    }
}

/// Whether a head of another life was signed between two of one life, by more than clocks differ.
fn lived_on(heads: &[SignedHead]) -> bool {
    let apart = |before: &SignedHead, after: &SignedHead| {
        before.incarnation != after.incarnation && before.unix_ms.saturating_add(CLOCKS_DIFFER_MS) < after.unix_ms
    };
    heads.iter().any(|between| {
        let befores = heads.iter().filter(|before| apart(before, between));
        let afters = || heads.iter().filter(|after| apart(between, after));
        befores.into_iter().any(|before| afters().any(|after| after.incarnation == before.incarnation))
    })
}

/// One was signed after the other and is behind it, by whatever time.
fn given_up(one: &SignedHead, other: &SignedHead) -> bool {
    let (before, after) = if one.unix_ms <= other.unix_ms { (one, other) } else { (other, one) };
    before.incarnation == after.incarnation && before.head.n > after.head.n
}

/// Two logs; and where the file has the entry that was acknowledged, what became of it.
fn moved_or_forked(stretch: &Stretch<'_>, promised: &SignedHead, value: &[u8; 32], evidence: &VaultEvidence) -> Proof {
    let n = promised.head.n;
    let fork = Proof::Fork { n };
    let Some(acknowledged) = evidence.acknowledged.as_ref().filter(|acknowledged| acknowledged.n == n) else {
        return fork;
    };
    let entry = Entry::parse(&acknowledged.entry);
    let before = n.checked_sub(1).and_then(|before| stretch.at(before));
    let (Ok(entry), Some(before)) = (entry, before) else { return fork };
    let hash = entry.hash();
    let was_there = chain(&before, n, &hash) == promised.head.h && promised.head.h != *value;
    if was_there { Proof::Moved { n, to: stretch.position_of(&hash) } } else { fork }
}

fn contradiction(one: &SignedHead, other: &SignedHead) -> Proof {
    if one.head.n == other.head.n {
        return Proof::TwoHeads { n: one.head.n };
    }
    let (known, offered) = (one.head.n.max(other.head.n), one.head.n.min(other.head.n));
    Proof::Rollback { known, offered }
}

fn judge_log(export: &LogExport, given: Option<[u8; 32]>) -> Verdict {
    let mut verdict = verdict(Subject::Log(export.vid), &export.server_name);
    let heads = signed_heads(&mut verdict, &export.vid, &export.heads, export.head_key, given);
    let people = people(&mut verdict, &export.people);
    let stretch = Stretch::along(Head { n: 0, h: export.vid.0 }, &export.frames);
    let vouching = heads.iter().filter(|head| stretch.at(head.head.n) == Some(head.head.h));
    let signed_to = vouching.map(|head| head.head.n).max();
    for head in &heads {
        match stretch.at(head.head.n) {
            Some(value) if value != head.head.h => {
                let elsewhere = heads.iter().any(|other| {
                    let same_life = other.incarnation == head.incarnation && other.head.n > head.head.n;
                    same_life && stretch.at(other.head.n) == Some(other.head.h)
                });
                if elsewhere {
                    verdict.prove(Proof::Fork { n: head.head.n });
                } else {
                    verdict.remark(format!("the server has signed another log up to {}", head.head.n));
                }
            }
            Some(_) => {}
            None => verdict.remark(format!("the server has signed a log up to {}; this one ends before", head.head.n)),
        }
    }
    match replay(&export.vid, &export.frames, &people) {
        Ok(log) => {
            let Head { n, h } = log.head();
            let whole = heads.iter().all(|head| head.head.n <= n && stretch.at(head.head.n) == Some(head.head.h));
            verdict.log = whole.then_some(SoundLog { entries: n, h, signed_to });
            if signed_to.is_none() {
                verdict.remark(
                    "nothing of the server's vouches for this log: it is right, and may not be the only one".into(),
                );
            }
        }
        // What is missing in the file is nobody's lie.
        Err((n, refusal @ Refusal::AccountLogNeeded { .. })) => verdict.remark(format!("entry {n}: {refusal}")),
        Err((n, refusal)) => {
            let by_account_logs = rests_on_account_logs(&refusal);
            find_fault(&mut verdict, n, &refusal.to_string(), by_account_logs, signed_to);
        }
    }
    verdict
}

/// Whether another log of the same account could have made the entry a good one.
fn rests_on_account_logs(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::AccountForked { .. }
            | Refusal::NotCertified
            | Refusal::Forged
            | Refusal::NotAllowed(Denied::WrongIdentity | Denied::Anchor)
    )
}

/// The whole log by the rules that everybody runs, or the first entry that breaks one.
fn replay(vault: &VaultId, frames: &[Bytes], people: &People) -> Result<VaultLog, (u64, Refusal)> {
    let mut log: Option<VaultLog> = None;
    for (bytes, n) in frames.iter().zip(1..) {
        let taken = Frame::parse(bytes).map_err(Refusal::from).and_then(|frame| match &mut log {
            Some(log) => log.apply(&frame.entry, frame.beside(), people).map(drop),
            None => {
                let (begun, _) = VaultLog::create(&frame.entry, people)?;
                if begun.core().vault() != *vault {
                    return Err(Refusal::OtherVault);
                }
                log = Some(begun);
                Ok(())
            }
        });
        taken.map_err(|refusal| (n, refusal))?;
    }
    log.ok_or((1, Refusal::NotCreate))
}

/// The heads that the server signed: under the key that is known, or the one the file names.
fn signed_heads(
    verdict: &mut Verdict,
    vault: &VaultId,
    heads: &[SignedHeadBytes],
    in_file: Option<Fixed<32>>,
    given: Option<[u8; 32]>,
) -> Vec<SignedHead> {
    verdict.key_was_given = given.is_some();
    verdict.server_key = given.or(in_file.map(|key| *key));
    let Some(key) = verdict.server_key else {
        verdict.remarks.push("no key of the server is known".into());
        return Vec::new();
    };
    if let Some(named) = in_file.filter(|named| **named != key) {
        verdict.remarks.push(format!("the file names another key of the server: {}", to_base64url(&*named)));
    }
    let parsed = heads.iter().filter_map(|bytes| SignedHead::parse(bytes.as_ref()).ok());
    let good: Vec<SignedHead> =
        parsed.filter(|head| head.vault == *vault && head.is_signed_by(&PublicKey(key))).collect();
    if good.len() < heads.len() {
        let bad = heads.len() - good.len();
        verdict
            .remarks
            .push(format!("{bad} of {} heads are not signed by that key, or not of this vault", heads.len()));
    }
    if good.is_empty() {
        verdict.remarks.push("the server has signed nothing of what is in the file".into());
    }
    good
}

fn people(verdict: &mut Verdict, logs: &[Vec<Bytes>]) -> People {
    let mut people = People::new();
    for entries in logs {
        match AccountLog::replay(entries.iter().map(|entry| &**entry)) {
            Ok(log) => {
                people.insert(log.user(), log);
            }
            Err(_) => verdict.remarks.push("an account log in the file is not what its owner signed".into()),
        }
    }
    people
}

impl Verdict {
    fn prove(&mut self, proof: Proof) {
        let says_less =
            |known: &Proof| matches!((known, &proof), (Proof::Moved { n, .. }, Proof::Fork { n: at }) if n == at);
        if !self.proofs.contains(&proof) && !self.proofs.iter().any(says_less) {
            self.proofs.push(proof);
        }
    }

    fn remark(&mut self, remark: String) {
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }
}
