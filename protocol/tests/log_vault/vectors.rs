//! The known answers in `tests/vectors/vault_log.json`: one log in which everything happens once, byte for byte. The
//! writing and comparing of such files is here for others too.
//!
//! Made here once, frozen there, and checked from outside by `check_vault.py`. A test that fails here means that logs
//! that exist can no longer be read. The file is written again only when `SELKIE_FREEZE_VECTORS` is set.

use super::cast::{Cast, Device, Vault, delta, payload, record, rotate, whole};
use selkie_protocol::account_log::Pin;
use selkie_protocol::id::InviteId;
use selkie_protocol::log::{
    Beside, Body, Change, Control, Entry, HEADER_LENGTH, Head, Header, Kind, NewChange, PageItem, Pages, Policy, Role,
    SIGNATURE_LENGTH, VaultLog, What,
};
use serde_json::{Value, json};
use std::path::Path;

pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares with what is frozen.
pub(crate) fn holds(name: &str, vectors: &Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    if std::env::var_os("SELKIE_FREEZE_VECTORS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, serde_json::to_string_pretty(vectors).unwrap() + "\n").unwrap();
    }
    let frozen: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert!(frozen == *vectors, "{name} is not what it was: {}", serde_json::to_string_pretty(vectors).unwrap());
}

/// A log in writing, told entry by entry.
struct Told {
    cast: Cast,
    vault: Vault,
    entries: Vec<Value>,
}

impl Told {
    fn does(&mut self, device: &Device, control: &Control) {
        self.push(device.control(&self.vault.log, control), &[], &[]);
    }

    fn writes(&mut self, device: &Device, changes: &[NewChange<'_>]) {
        let payloads: Vec<Vec<u8>> = changes.iter().map(|change| change.payload.to_vec()).collect();
        self.push(device.data(&self.vault.log, changes), &payloads, &[]);
    }

    fn push(&mut self, bytes: Vec<u8>, payloads: &[Vec<u8>], note: &[u8]) {
        let entry = Entry::parse(&bytes).unwrap();
        let at_hand: Vec<Option<&[u8]>> = payloads.iter().map(|payload| Some(payload.as_slice())).collect();
        let beside = match &entry.body {
            Body::Data(_) => Beside::Payloads(&at_hand),
            Body::Checkpoint(_) if !note.is_empty() => Beside::Note(note),
            _ => Beside::Nothing,
        };
        let effects = self.vault.log.apply(&entry, beside, &self.cast.logs).unwrap();
        let ids = match &effects.what {
            What::Changed { changes, .. } => changes.iter().map(|change| hex(change.id.0)).collect(),
            _ => Vec::new(),
        };
        self.entries.push(json!({
            "n": effects.head.n,
            "header": header(&entry.header),
            "kind": entry.kind() as u8,
            "body": body(&entry, &bytes),
            "payloads": payloads.iter().map(hex).collect::<Vec<_>>(),
            "change_ids": ids,
            "note": hex(note),
            "entry": hex(&bytes),
            "entry_hash": hex(effects.entry),
            "h": hex(effects.head.h),
        }));
        self.vault.entries.push(bytes);
        self.vault.beside.push(payloads.to_vec());
    }
}

fn header(header: &Header) -> Value {
    json!({
        "vid": hex(header.vault.0), "uid": hex(header.user.0), "did": hex(header.device.0),
        "dev_seq": header.dev_seq, "dev_prev": hex(header.dev_prev),
        "seen_n": header.seen.n, "seen_h": hex(header.seen.h), "ctl_h": hex(header.control),
        "epoch": header.epoch, "ckpt_ok": header.checkpoint_ok, "unix_ms": header.unix_ms,
    })
}

fn pin(pin: &Pin) -> Value {
    json!({ "idx": pin.index, "hash": hex(pin.hash) })
}

fn body(entry: &Entry<'_>, bytes: &[u8]) -> Value {
    match &entry.body {
        Body::Control(control) => operation(control),
        Body::Data(data) => data.changes().map(|change| clear_header(&change)).collect(),
        Body::Checkpoint(checkpoint) => json!({
            "at_n": checkpoint.at.n, "at_h": hex(checkpoint.at.h), "live_count": checkpoint.root.live,
            "pages_root": hex(checkpoint.root.pages), "note_hash": hex(checkpoint.note.unwrap_or([0; 32])),
            "devices": checkpoint.devices.iter().map(|head| json!({
                "did": hex(head.device.0), "dev_seq": head.dev_seq, "entry_hash": hex(head.entry),
            })).collect::<Vec<_>>(),
        }),
        Body::Heartbeat => {
            assert_eq!(bytes.len(), HEADER_LENGTH + SIGNATURE_LENGTH);
            Value::Null
        }
    }
}

fn clear_header(change: &Change<'_>) -> Value {
    json!({
        "rid": hex(change.record.0), "full": change.full,
        "deps": change.deps.iter().map(|id| hex(id.0)).collect::<Vec<_>>(),
        "ct_len": change.payload_length, "ct_hash": hex(change.payload),
    })
}

fn operation(control: &Control) -> Value {
    match control {
        Control::Create(create) => json!({
            "op": 0, "random": hex(create.random), "anchor": pin(&create.anchor), "irk_pk": hex(create.identity.0),
            "commit": hex(create.commitment), "min_format": create.min_format, "policy": create.flags,
            "app": create.app.as_str(),
        }),
        Control::AddMember { user, identity, anchor, role, invite } => json!({
            "op": 1, "uid": hex(user.0), "irk_pk": hex(identity.0), "anchor": pin(anchor), "role": *role as u8,
            "invite_id": hex(invite.map_or([0; 16], |invite| invite.0)),
        }),
        Control::SetRole { user, role } => json!({ "op": 2, "uid": hex(user.0), "role": *role as u8 }),
        Control::RemoveRotate(rotate) => json!({
            "op": 3, "uids": rotate.removed.iter().map(|user| hex(user.0)).collect::<Vec<_>>(),
            "new_epoch": rotate.epoch, "commit": hex(rotate.commitment), "back": hex(rotate.back),
        }),
        Control::Anchor { user, anchor } => json!({ "op": 4, "uid": hex(user.0), "anchor": pin(anchor) }),
        Control::Policy(policy) => json!({
            "op": 5, "min_format": policy.min_format, "policy": policy.flags,
            "recovery": hex(policy.recovery.map_or([0; 32], |user| user.0)),
        }),
        Control::InviteOpen { invite, role, expires } => {
            json!({ "op": 6, "invite_id": hex(invite.0), "role": *role as u8, "expires": expires })
        }
        Control::InviteClose { invite } => json!({ "op": 7, "invite_id": hex(invite.0) }),
        Control::ResetTail { n } => json!({ "op": 8, "n": n }),
    }
}

/// Every operation, every kind of entry, every fate of a change.
fn tell() -> (Told, Value) {
    let mut cast = Cast::default();
    let [ana, bob, carol] = [1, 2, 3].map(|number| cast.person(number));
    let public = |device: &Device| json!({ "did": hex(device.id().0), "public_key": hex(device.key.public_key().0) });
    let devices = json!([public(&ana), public(&bob)]);
    let create = ana.create(&cast, 7);
    let entry = Entry::parse(&create).unwrap();
    let (log, effects) = VaultLog::create(&entry, &cast.logs).unwrap();
    let first = json!({
        "n": 1, "header": header(&entry.header), "kind": entry.kind() as u8, "body": body(&entry, &create),
        "payloads": [], "change_ids": [], "note": "", "entry": hex(&create), "entry_hash": hex(effects.entry),
        "h": hex(effects.head.h),
    });
    let vault = Vault { log, entries: vec![create], beside: vec![Vec::new()] };
    let mut told = Told { cast, vault, entries: vec![first] };

    let (used, unused) = (InviteId([0x1a; 16]), InviteId([0x1b; 16]));
    told.does(&ana, &Control::InviteOpen { invite: used, role: Role::Editor, expires: 1_800_000_000 });
    told.does(&ana, &Control::InviteOpen { invite: unused, role: Role::Viewer, expires: 1_800_000_000 });
    told.does(&ana, &Control::InviteClose { invite: unused });
    let Control::AddMember { user, identity, anchor, role, .. } = told.cast.add(bob.user, Role::Editor) else {
        unreachable!()
    };
    told.does(&ana, &Control::AddMember { user, identity, anchor, role, invite: Some(used) });
    told.does(&ana, &Control::Policy(Policy { min_format: 1, flags: Policy::STRICT, recovery: Some(carol.user) }));
    told.does(&ana, &told.cast.add(carol.user, Role::Recovery));
    told.does(&ana, &Control::SetRole { user: bob.user, role: Role::Admin });
    told.cast.device(bob.user, 20);
    told.does(&bob, &told.cast.move_anchor(bob.user));

    let bodies: Vec<Vec<u8>> = (0..8).map(payload).collect();
    told.writes(&ana, &[whole(record(1), &[], &bodies[0]), whole(record(2), &[], &bodies[1])]);
    let heads = told.vault.heads(record(1));
    let of_bob = bob.data(&told.vault.log, &[delta(record(1), &heads, &bodies[2])]);
    told.writes(&ana, &[delta(record(1), &heads, &bodies[3]), whole(record(3), &[], &bodies[4])]);
    told.push(of_bob, &[bodies[2].clone()], &[]);
    told.does(&ana, &rotate(&told.vault.log, &[&carol]));
    told.push(bob.heartbeat(&told.vault.log), &[], &[]);
    let heads = told.vault.heads(record(2));
    told.writes(&bob, &[whole(record(2), &heads, &bodies[5])]);
    let checkpoint = ana.checkpoint(&told.vault.log);
    told.push(checkpoint, &[], &[]);
    let header = Header { checkpoint_ok: told.vault.log.head().n, ..bob.header(&told.vault.log) };
    told.push(bob.sign(&header, Kind::Heartbeat, &[]), &[], &[]);
    let heads = told.vault.heads(record(1));
    told.writes(&bob, &[whole(record(1), &heads, &bodies[6])]);
    let (body, note) = told.vault.log.checkpoint(&[record(3)]).unwrap();
    let bytes = bob.sign(&bob.header(&told.vault.log), Kind::Checkpoint, &body);
    told.push(bytes, &[], &note.unwrap());
    told.does(&ana, &Control::ResetTail { n: told.vault.log.head().n });
    told.writes(&ana, &[delta(record(4), &[], &bodies[7])]);
    (told, devices)
}

/// The last live changes as pages carry them.
fn pages(told: &Told) -> Value {
    let vault = told.vault.log.core().vault();
    let live: Vec<_> = told.vault.log.live().leaves().collect();
    let mut items = Vec::new();
    for leaf in &live {
        for bytes in &told.vault.entries {
            let entry = Entry::parse(bytes).unwrap();
            let Body::Data(data) = &entry.body else { continue };
            let Header { user, device, dev_seq, epoch, .. } = entry.header;
            for change in data.changes().filter(|change| change.id(&vault, &device, dev_seq) == leaf.change) {
                let item = PageItem { user, device, dev_seq, epoch, head: leaf.head, change };
                assert_eq!(item.leaf(&vault), *leaf);
                items.push(hex(item.to_bytes()));
            }
        }
    }
    let mut pages = Pages::default();
    live.iter().for_each(|leaf| pages.push(leaf));
    let (hashes, root) = pages.finish();
    json!({ "items": items, "page_hashes": hex(hashes), "root": hex(root.pages) })
}

#[test]
fn the_log_in_which_everything_happens_is_what_it_was() {
    let (told, devices) = tell();
    let Head { n, h } = told.vault.log.head();
    assert_eq!(n as usize, told.entries.len());
    let vectors = json!({
        "devices": devices,
        "vid": hex(told.vault.log.core().vault().0),
        "entries": told.entries,
        "head": { "n": n, "h": hex(h) },
        "pages": pages(&told),
        "core": hex(told.vault.log.core().to_bytes()),
    });
    holds("vault_log.json", &vectors);
}
