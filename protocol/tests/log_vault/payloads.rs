//! Changes with real keys: sealed, pushed, read, and moved about by a server that hopes that somebody opens them.

use super::cast::{Cast, Device, Vault, record};
use selkie_protocol::cipher::{EpochKey, FirstEpochKey, OpenError, RecordContext, RecordKey};
use selkie_protocol::id::{ChangeId, RecordId};
use selkie_protocol::log::{App, Create};
use selkie_protocol::log::{
    Beside, Body, Control, Data, Entry, Header, Kind, NewChange, PageItem, Refusal, RemoveRotate, Role, VaultLog,
    first_header,
};

/// A vault whose CREATE commits to a real key.
fn vault(cast: &Cast, owner: &Device, random: u8) -> (Vault, EpochKey) {
    let key = FirstEpochKey::generate();
    let create = Create {
        random: [random; 16],
        anchor: cast.anchor(owner.user),
        identity: cast.logs[&owner.user].identity(),
        commitment: key.commitment(),
        min_format: 1,
        flags: 0,
        app: App::new("org.example.journal").unwrap(),
    };
    let header = first_header(owner.user, owner.id(), 1);
    let bytes = owner.sign(&header, Kind::Control, &Control::Create(create).to_bytes());
    let (log, _) = VaultLog::create(&Entry::parse(&bytes).unwrap(), &cast.logs).unwrap();
    let key = key.of(log.core().vault());
    assert_eq!(log.core().governance().commitment(1), Some(&key.commitment()));
    (Vault { log, entries: vec![bytes], beside: vec![Vec::new()] }, key)
}

/// Seals and pushes whole records in one entry.
fn push(cast: &Cast, vault: &mut Vault, device: &Device, key: &RecordKey, records: &[(RecordId, &[u8])]) {
    let header = device.header(&vault.log);
    let deps: Vec<Vec<ChangeId>> = records.iter().map(|(record, _)| vault.heads(*record)).collect();
    let sealed: Vec<Vec<u8>> = records
        .iter()
        .zip(&deps)
        .enumerate()
        .map(|(index, ((record, data), deps))| {
            let context = RecordContext {
                user: device.user,
                device: device.id(),
                dev_seq: header.dev_seq,
                index: index as u16,
                record: *record,
                full: true,
                deps: deps.clone(),
            };
            key.seal(&context, data).unwrap()
        })
        .collect();
    let changes: Vec<NewChange<'_>> = records
        .iter()
        .zip(&deps)
        .zip(&sealed)
        .map(|(((record, _), deps), payload)| NewChange { record: *record, full: true, deps, payload })
        .collect();
    let bytes = device.sign(&header, Kind::Data, &Data::write(&changes).unwrap());
    let payloads: Vec<Option<&[u8]>> = sealed.iter().map(|payload| Some(payload.as_slice())).collect();
    vault.log.apply(&Entry::parse(&bytes).unwrap(), Beside::Payloads(&payloads), &cast.logs).unwrap();
    vault.entries.push(bytes);
    vault.beside.push(sealed);
}

/// Every change of a vault: where it stands and its payload.
fn changes(vault: &Vault) -> Vec<(RecordContext, u32, Vec<u8>)> {
    let mut all = Vec::new();
    for (bytes, payloads) in vault.entries.iter().zip(&vault.beside) {
        let entry = Entry::parse(bytes).unwrap();
        let Body::Data(data) = entry.body else { continue };
        for (change, payload) in data.changes().zip(payloads) {
            all.push((RecordContext::of(&entry.header, &change), entry.header.epoch, payload.clone()));
        }
    }
    all
}

fn next_epoch(cast: &Cast, vault: &mut Vault, device: &Device, key: &EpochKey, removed: &[&Device]) -> EpochKey {
    let next = EpochKey::generate(key.vault(), key.epoch() + 1);
    let mut removed: Vec<_> = removed.iter().map(|device| device.user).collect();
    removed.sort_unstable();
    let (epoch, commitment, back) = (next.epoch(), next.commitment(), next.link_back(key));
    let op = Control::RemoveRotate(Box::new(RemoveRotate { removed, epoch, commitment, back }));
    vault.does(cast, device, &op);
    next
}

#[test]
fn mal_051_a_payload_opens_at_its_own_place_and_nowhere_else() {
    let mut cast = Cast::default();
    let (ana, bob) = (cast.person(1), cast.person(2));
    let (mut one, first) = vault(&cast, &ana, 1);
    one.does(&cast, &ana, &cast.add(bob.user, Role::Editor));
    push(&cast, &mut one, &ana, &first.record_key(), &[(record(1), b"one"), (record(2), b"two")]);
    push(&cast, &mut one, &bob, &first.record_key(), &[(record(3), b"three")]);
    push(&cast, &mut one, &bob, &first.record_key(), &[(record(1), b"one again")]);
    let second = next_epoch(&cast, &mut one, &ana, &first, &[]);
    push(&cast, &mut one, &ana, &second.record_key(), &[(record(2), b"two again"), (record(4), b"four")]);
    let (mut two, other) = vault(&cast, &ana, 2);
    push(&cast, &mut two, &ana, &other.record_key(), &[(record(1), b"one"), (record(2), b"two")]);

    // Between records, entries, devices, epochs and vaults: every payload at every place, with every key there is.
    let keys = [first.record_key(), second.record_key(), other.record_key()];
    let places: Vec<_> = changes(&one).into_iter().chain(changes(&two)).enumerate().collect();
    assert_eq!(places.len(), 8);
    for (at, (context, _, _)) in &places {
        for (from, (_, epoch, payload)) in &places {
            for (number, key) in keys.iter().enumerate() {
                let its_key = match (*from >= 6, *epoch) {
                    (true, _) => 2,
                    (false, epoch) => epoch as usize - 1,
                };
                let opened = key.open(context, payload);
                assert_eq!(opened.is_ok(), at == from && number == its_key, "payload {from} at {at} by key {number}");
            }
        }
    }
    // And the log notices before anybody tries.
    let entry = Entry::parse(&one.entries[2]).unwrap();
    let swapped = [Some(one.beside[2][1].as_slice()), Some(one.beside[2][0].as_slice())];
    let mut log = Vault { ..one.clone() };
    let (fresh, _) = VaultLog::create(&Entry::parse(&one.entries[0]).unwrap(), &cast.logs).unwrap();
    log.log = fresh;
    log.push(&cast, one.entries[1].clone()).unwrap();
    let refused = log.log.apply(&entry, Beside::Payloads(&swapped), &cast.logs);
    assert_eq!(refused.unwrap_err(), Refusal::WrongPayload { index: 0 });
}

#[test]
fn mal_051_a_payload_on_a_page_opens_as_its_own_change_alone() {
    let mut cast = Cast::default();
    let (ana, bob) = (cast.person(1), cast.person(2));
    let (mut vault, first) = vault(&cast, &ana, 1);
    vault.does(&cast, &ana, &cast.add(bob.user, Role::Editor));
    push(&cast, &mut vault, &ana, &first.record_key(), &[(record(1), b"one"), (record(2), b"two")]);
    push(&cast, &mut vault, &bob, &first.record_key(), &[(record(3), b"three")]);
    let second = next_epoch(&cast, &mut vault, &ana, &first, &[]);
    push(&cast, &mut vault, &bob, &second.record_key(), &[(record(4), b"four")]);
    // A new device gets page items, whose author and epoch no hash vouches for; the payload does.
    let (mut items, mut payloads) = (Vec::new(), Vec::new());
    for (bytes, beside) in vault.entries.iter().zip(&vault.beside) {
        let entry = Entry::parse(bytes).unwrap();
        let Body::Data(data) = entry.body else { continue };
        let Header { user, device, dev_seq, epoch, .. } = entry.header;
        for (change, payload) in data.changes().zip(beside) {
            items.push(PageItem { user, device, dev_seq, epoch, head: true, change });
            payloads.push(payload);
        }
    }
    let key_of = |epoch| if epoch == 1 { first.record_key() } else { second.record_key() };
    let opens =
        |item: &PageItem<'_>, payload: &[u8]| key_of(item.epoch).open(&RecordContext::on_page(item), payload).is_ok();
    for (at, item) in items.iter().enumerate() {
        for (from, payload) in payloads.iter().enumerate() {
            assert_eq!(opens(item, payload), at == from, "payload {from} as item {at}");
        }
        let payload = payloads[at].as_slice();
        let by_another = if item.user == ana.user { &bob } else { &ana };
        let lies = [
            PageItem { user: by_another.user, ..item.clone() },
            PageItem { device: by_another.id(), ..item.clone() },
            PageItem { dev_seq: item.dev_seq + 1, ..item.clone() },
            PageItem { epoch: 3 - item.epoch, ..item.clone() },
        ];
        for lie in &lies {
            assert!(!opens(lie, payload), "item {at} as {lie:?}");
        }
        // Device, number and place are in the change's name besides, and so in the page.
        let name = vault.log.core().vault();
        assert_eq!(lies[0].leaf(&name), item.leaf(&name));
        assert_ne!(lies[1].leaf(&name), item.leaf(&name));
        assert_ne!(lies[2].leaf(&name), item.leaf(&name));
    }
}

#[test]
fn mal_052_every_bit_of_a_sealed_payload_matters() {
    let mut cast = Cast::default();
    let ana = cast.person(1);
    let (mut vault, first) = vault(&cast, &ana, 1);
    let before = vault.log.clone();
    push(&cast, &mut vault, &ana, &first.record_key(), &[(record(1), b"Seen at dusk: two seals on the rock.")]);
    let (context, _, payload) = changes(&vault).swap_remove(0);
    let entry = Entry::parse(vault.entries.last().unwrap()).unwrap();
    assert!(first.record_key().open(&context, &payload).is_ok());
    for bit in 0..payload.len() * 8 {
        let mut bent = payload.clone();
        bent[bit / 8] ^= 1 << (bit % 8);
        // The log notices by the hash, and so would the key alone.
        let refused = before.check(&entry, Beside::Payloads(&[Some(&bent)]), &cast.logs).map(|_| ());
        assert_eq!(refused, Err(Refusal::WrongPayload { index: 0 }), "bit {bit}");
        assert_eq!(first.record_key().open(&context, &bent), Err(OpenError), "bit {bit}");
    }
}

#[test]
fn mal_053_an_older_version_is_not_passed_off_as_the_newest() {
    let mut cast = Cast::default();
    let ana = cast.person(1);
    let (mut vault, first) = vault(&cast, &ana, 1);
    let key = first.record_key();
    push(&cast, &mut vault, &ana, &key, &[(record(1), b"the old word")]);
    let older = vault.log.clone();
    push(&cast, &mut vault, &ana, &key, &[(record(1), b"the new word")]);
    let [(_, _, old), (place, _, new)] = changes(&vault).try_into().unwrap();
    // The old payload under the new change: the hash is another, and it would not open there.
    let entry = Entry::parse(vault.entries.last().unwrap()).unwrap();
    let refused = older.check(&entry, Beside::Payloads(&[Some(&old)]), &cast.logs).map(|_| ());
    assert_eq!(refused, Err(Refusal::WrongPayload { index: 0 }));
    assert_eq!(key.open(&place, &old), Err(OpenError));
    assert_eq!(&**key.open(&place, &new).unwrap(), b"the new word");
    // The old entry once more, after the new one.
    let again = Entry::parse(&vault.entries[1]).unwrap();
    let refused = vault.log.check(&again, Beside::Payloads(&[Some(&old)]), &cast.logs).map(|_| ());
    assert_eq!(refused, Err(Refusal::DeviceSequence { expected: 4, found: 2 }));
}

#[test]
fn a_new_member_reads_back_to_the_beginning_and_a_removed_one_no_further() {
    let mut cast = Cast::default();
    let (ana, bob) = (cast.person(1), cast.person(2));
    let (mut vault, first) = vault(&cast, &ana, 1);
    push(&cast, &mut vault, &ana, &first.record_key(), &[(record(1), b"old")]);
    let second = next_epoch(&cast, &mut vault, &ana, &first, &[]);
    let third = next_epoch(&cast, &mut vault, &ana, &second, &[]);
    vault.does(&cast, &ana, &cast.add(bob.user, Role::Viewer));

    // Bob is given the newest key and walks the links that the log carries.
    let kem = bob.master(1).user_kem(&bob.user);
    let sealed = third.seal_to(&bob.user, 1, &kem.public_key()).unwrap();
    let governance = vault.log.core().governance();
    let commitment = |epoch| governance.commitment(epoch).unwrap();
    let name = vault.log.core().vault();
    let mut key = EpochKey::open(name, 3, &bob.user, &kem, sealed.as_slice(), commitment(3)).unwrap();
    for bytes in vault.entries.iter().rev() {
        if let Body::Control(Control::RemoveRotate(rotate)) = Entry::parse(bytes).unwrap().body {
            key = key.previous(&rotate.back, commitment(key.epoch() - 1)).unwrap();
        }
    }
    let (context, epoch, payload) = changes(&vault).swap_remove(0);
    assert_eq!((epoch, key.epoch()), (1, 1));
    assert_eq!(&**key.record_key().open(&context, &payload).unwrap(), b"old");

    // Ana removes Bob; what is written then is not for him.
    let fourth = next_epoch(&cast, &mut vault, &ana, &third, &[&bob]);
    push(&cast, &mut vault, &ana, &fourth.record_key(), &[(record(2), b"new")]);
    let (context, _, payload) = changes(&vault).swap_remove(1);
    assert_eq!(third.record_key().open(&context, &payload), Err(OpenError));
}

#[test]
fn mal_038_a_new_key_comes_from_nothing_anybody_else_knows() {
    let mut cast = Cast::default();
    let ana = cast.person(1);
    let (vault, first) = vault(&cast, &ana, 1);
    let name = vault.log.core().vault();
    let (one, two) = (EpochKey::generate(name, 2), EpochKey::generate(name, 2));
    assert_ne!(one.to_bytes(), two.to_bytes());
    assert_ne!(one.to_bytes(), first.to_bytes());
}

#[test]
fn mal_034_the_right_epoch_with_an_old_key_is_not_read() {
    let mut cast = Cast::default();
    let ana = cast.person(1);
    let (mut vault, first) = vault(&cast, &ana, 1);
    let second = next_epoch(&cast, &mut vault, &ana, &first, &[]);
    push(&cast, &mut vault, &ana, &first.record_key(), &[(record(1), b"for the wrong eyes")]);
    let (context, epoch, payload) = changes(&vault).swap_remove(0);
    assert_eq!(epoch, 2);
    assert_eq!(second.record_key().open(&context, &payload), Err(OpenError));
}
