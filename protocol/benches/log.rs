//! How long a reader takes to verify a log, and what sealing costs beside the bare cipher:
//! `cargo bench -p selkie-protocol --features seal --bench log`.
//!
//! The same 100,000 changes in entries of 256 and, a tenth of them, in entries of one. Times are of this thread's
//! processor, as the kernel counts it, so other programs on the machine do not matter; the best of three runs is shown.
#![allow(clippy::print_stdout, reason = "a bench prints what it measured")]

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload as Plain};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use selkie_protocol::account_log::{AccountLog, Body as AccountBody, Payload};
use selkie_protocol::cipher::{DeviceKey, EpochKey, FirstEpochKey, RecordContext, SigningKey};
use selkie_protocol::hash::Label;
use selkie_protocol::id::{ChangeId, RecordId, UserId, VaultId};
use selkie_protocol::log::{
    App, Beside, Body, Control, Create, Data, Entry, Kind, NewChange, Snapshot, VaultLog, first_header, signed,
};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

const CHANGES: usize = 100_000;
/// What an app keeps in a record.
const CONTENT: usize = 200;

/// The kernel brings its count of a running thread up to date at every tick. What is shorter cannot be told from
/// nothing.
const GRAIN: Duration = Duration::from_millis(4);

type People = BTreeMap<UserId, AccountLog>;

/// A log in writing, and everything to write more of it.
struct Written {
    people: People,
    user: UserId,
    device: DeviceKey,
    key: EpochKey,
    log: VaultLog,
    entries: Vec<(Vec<u8>, Vec<Vec<u8>>)>,
}

fn main() {
    let batches = written(CHANGES, 256, CHANGES);
    report("100,000 new records in entries of 256", &batches);
    let edits = written(CHANGES, 256, 1_000);
    report("100,000 edits of 1,000 records in entries of 256", &edits);
    let singles = written(CHANGES / 10, 1, CHANGES);
    report("10,000 new records in entries of 1", &singles);
    report_seals();
}

/// Records of 300 bytes, one after the other; and the same bytes through the cipher alone, each with its own nonce and
/// the same bound to it, which is the least that can be.
fn report_seals() {
    const RECORD: [u8; 300] = [0x5e; 300];
    let key = FirstEpochKey::generate().of(VaultId([3; 32]));
    let key = key.record_key();
    let contexts: Vec<RecordContext> = (0..CHANGES).map(context).collect();
    let sealed: Vec<Vec<u8>> = contexts.iter().map(|context| key.seal(context, &RECORD).expect("short")).collect();
    let cipher = XChaCha20Poly1305::new(&[4; 32].into());
    let under = vec![0x5e; sealed[0].len() - 24 - 16];
    let nonce = |number: usize| {
        let mut nonce = [0; 24];
        nonce[..8].copy_from_slice(&number.to_le_bytes());
        XNonce::from(nonce)
    };
    let bound = [7; 114];
    let plain = || Plain { msg: &under, aad: &bound };
    let bare: Vec<Vec<u8>> = (0..CHANGES).map(|at| cipher.encrypt(&nonce(at), plain()).expect("short")).collect();
    println!("100,000 records of {} bytes, {} when sealed", RECORD.len(), sealed[0].len());
    let compare = |what: &str, (ours, clock): (Duration, &str), (bare, _): (Duration, &str)| {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / CHANGES as f64;
        let share = 100.0 * bare.as_secs_f64() / ours.as_secs_f64();
        println!(
            "  {what:<44} {:>7.2} us ({clock}); the cipher alone {:.2} us: {share:.0} % of its rate",
            each(ours),
            each(bare)
        );
    };
    let ours = best(|| contexts.iter().map(|context| key.seal(context, &RECORD).expect("short").len()).sum::<usize>());
    compare(
        "seal",
        ours,
        best(|| (0..CHANGES).map(|at| cipher.encrypt(&nonce(at), plain()).expect("short").len()).sum::<usize>()),
    );
    let ours = best(|| {
        let opened =
            contexts.iter().zip(&sealed).map(|(context, sealed)| key.open(context, sealed).expect("it opens").len());
        opened.sum::<usize>()
    });
    let opens = |(at, sealed): (usize, &Vec<u8>)| {
        cipher.decrypt(&nonce(at), Plain { msg: sealed, aad: &bound }).expect("it opens").len()
    };
    compare("open", ours, best(|| bare.iter().enumerate().map(opens).sum::<usize>()));
}

fn context(number: usize) -> RecordContext {
    RecordContext {
        user: UserId([1; 32]),
        device: DeviceKey::from_seed(&[2; 32]).id(),
        dev_seq: 1,
        index: u16::try_from(number % 256).expect("below 256"),
        record: record(number),
        full: true,
        deps: Vec::new(),
    }
}

fn written(changes: usize, batch: usize, records: usize) -> Written {
    let mut written = Written::begin();
    for start in (0..changes).step_by(batch) {
        let numbers: Vec<usize> = (start..changes.min(start + batch)).map(|at| at % records).collect();
        written.push(&numbers);
    }
    written
}

impl Written {
    fn begin() -> Written {
        let identity = SigningKey::from_seed(&[1; 32]);
        let genesis = Payload::Genesis { identity: identity.public_key(), random: [1; 16] };
        let body = AccountBody { user: UserId([0; 32]), index: 0, previous: [0; 32], unix_ms: 1, payload: genesis };
        let sign = |body: AccountBody| {
            let signature = identity.sign(Label::ACCOUNT_ENTRY, &[&body.to_bytes()]);
            body.signed(signature)
        };
        let mut account = AccountLog::begin(&sign(body)).expect("a genesis");
        let (user, device) = (account.user(), DeviceKey::from_seed(&[2; 32]));
        account.append(&sign(account.next(2, device.device_add(&user)))).expect("a device");
        let key = FirstEpochKey::generate();
        let create = Create {
            random: [7; 16],
            anchor: account.head(),
            identity: identity.public_key(),
            commitment: key.commitment(),
            min_format: 1,
            flags: 0,
            app: App::new("org.example.journal").expect("a plain name"),
        };
        let header = first_header(user, device.id(), 1);
        let unsigned = header.with_body(Kind::Control, &Control::Create(create).to_bytes());
        let signature = device.sign(Label::VAULT_ENTRY_SIG, &[&unsigned]);
        let bytes = signed(unsigned, &signature);
        let people = BTreeMap::from([(user, account)]);
        let (log, _) = VaultLog::create(&Entry::parse(&bytes).expect("an entry"), &people).expect("a vault");
        let key = key.of(log.core().vault());
        Written { people, user, device, key, log, entries: vec![(bytes, Vec::new())] }
    }

    fn push(&mut self, records: &[usize]) {
        let header = self.log.core().next_header(self.user, self.device.id(), 0, 1);
        let key = self.key.record_key();
        let plans: Vec<(RecordId, Vec<ChangeId>)> = records
            .iter()
            .map(|number| {
                let record = record(*number);
                (record, self.log.live().record(&record).map(|live| live.heads()).unwrap_or_default())
            })
            .collect();
        let payloads: Vec<Vec<u8>> = plans
            .iter()
            .enumerate()
            .map(|(index, (record, deps))| {
                let context = RecordContext {
                    user: self.user,
                    device: self.device.id(),
                    dev_seq: header.dev_seq,
                    index: u16::try_from(index).expect("at most 256"),
                    record: *record,
                    full: true,
                    deps: deps.clone(),
                };
                key.seal(&context, &[0x5e; CONTENT]).expect("short")
            })
            .collect();
        let changes: Vec<NewChange<'_>> = plans
            .iter()
            .zip(&payloads)
            .map(|((record, deps), payload)| NewChange { record: *record, full: true, deps, payload })
            .collect();
        let unsigned = header.with_body(Kind::Data, &Data::write(&changes).expect("at most 256"));
        let signature = self.device.sign(Label::VAULT_ENTRY_SIG, &[&unsigned]);
        let bytes = signed(unsigned, &signature);
        let entry = Entry::parse(&bytes).expect("an entry");
        self.log.apply(&entry, Beside::Nothing, &self.people).expect("the next entry");
        self.entries.push((bytes, payloads));
    }

    fn verify(&self, with_payloads: bool) -> VaultLog {
        let create = Entry::parse(&self.entries[0].0).expect("an entry");
        let (mut log, _) = VaultLog::create(&create, &self.people).expect("a vault");
        for (bytes, payloads) in &self.entries[1..] {
            let entry = Entry::parse(bytes).expect("an entry");
            let payloads: Vec<Option<&[u8]>> = payloads.iter().map(|payload| Some(payload.as_slice())).collect();
            let beside = if with_payloads { Beside::Payloads(&payloads) } else { Beside::Nothing };
            log.apply(&entry, beside, &self.people).expect("the next entry");
        }
        assert_eq!(log.head(), self.log.head());
        log
    }

    fn open(&self) {
        let key = self.key.record_key();
        for (bytes, payloads) in &self.entries[1..] {
            let entry = Entry::parse(bytes).expect("an entry");
            let Body::Data(data) = entry.body else { continue };
            for (change, payload) in data.changes().zip(payloads) {
                let context = RecordContext::of(&entry.header, &change);
                assert_eq!(key.open(&context, payload).expect("it opens").len(), CONTENT);
            }
        }
    }
}

/// Spread over the whole range, as random ids are.
fn record(number: usize) -> RecordId {
    let digest = selkie_protocol::hash::sha256(&number.to_be_bytes());
    RecordId(digest[..16].try_into().expect("16 of 32"))
}

fn report(what: &str, written: &Written) {
    println!("{what}: {} entries", written.entries.len());
    let changes = written.entries.iter().map(|(_, payloads)| payloads.len()).sum::<usize>();
    let each = |time: Duration| time.as_secs_f64() * 1e6 / changes as f64;
    let line = |what: &str, (time, clock): (Duration, &str)| {
        if time < GRAIN {
            println!("  {what:<44} less than {} ms", GRAIN.as_millis());
            return;
        }
        println!("  {what:<44} {:>7.1} ms  {:>7.2} us a change ({clock})", time.as_secs_f64() * 1e3, each(time));
    };
    line("verify, without payloads", best(|| written.verify(false)));
    line("verify, with payloads", best(|| written.verify(true)));
    line("open the payloads", best(|| written.open()));
    let log = &written.log;
    line("the root of a checkpoint", best(|| log.live().root_without(&[])));
    line("write a snapshot", best(|| log.snapshot()));
    let snapshot: Snapshot = log.snapshot();
    line("resume from it", best(|| VaultLog::resume(&snapshot)));
    let (core, trail, live) = (snapshot.core.len(), snapshot.trail.len(), snapshot.live.len());
    println!("  a snapshot: core {core} B, trail {trail} B, live changes {live} B");
}

fn best<T>(mut run: impl FnMut() -> T) -> (Duration, &'static str) {
    (0..3).map(|_| timed(&mut run)).min_by_key(|(time, _)| *time).expect("three runs")
}

fn timed<T>(run: &mut impl FnMut() -> T) -> (Duration, &'static str) {
    let (clock, processor) = (Instant::now(), processor_time());
    std::hint::black_box(run());
    match (processor, processor_time()) {
        (Some(before), Some(after)) => (after - before, "processor"),
        _ => (clock.elapsed(), "clock"),
    }
}

/// What the kernel has counted for this thread, where it tells (Linux).
fn processor_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(Duration::from_nanos(text.split_whitespace().next()?.parse().ok()?))
}
