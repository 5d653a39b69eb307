//! Frames: an entry and what travels beside it, on their way from the pusher to the store and on to the readers.

use super::cast::{Cast, Device, Vault, payload, record, whole};
use super::vectors::{hex, holds};
use selkie_protocol::id::RecordId;
use selkie_protocol::log::{
    Beside, Body, Data, Entry, Frame, Kind, MAX_FRAME_LENGTH, MAX_NOTE, MAX_PAYLOAD, Malformed, NewChange, Refusal,
    VaultLog, write_note,
};
use serde_json::json;

fn story() -> (Cast, Device, Vault) {
    let mut cast = Cast::default();
    let ana = cast.person(1);
    let vault = Vault::create(&cast, &ana);
    (cast, ana, vault)
}

/// Ana writes so many records in one entry, with payloads of different lengths.
fn writes(ana: &Device, log: &VaultLog, count: u8) -> (Vec<u8>, Vec<Vec<u8>>) {
    let payloads: Vec<Vec<u8>> = (0..count).map(|number| vec![number; 104 + usize::from(number)]).collect();
    let changes: Vec<NewChange<'_>> =
        (0..count).zip(&payloads).map(|(number, payload)| whole(record(number), &[], payload)).collect();
    (ana.data(log, &changes), payloads)
}

/// Ana leaves out a deleted record for good.
fn forgets(ana: &Device, log: &VaultLog, records: &[RecordId]) -> (Vec<u8>, Vec<u8>) {
    let (body, note) = log.checkpoint(records).unwrap();
    (ana.sign(&ana.header(log), Kind::Checkpoint, &body), note.unwrap())
}

#[test]
fn frames_are_what_they_were() {
    let (cast, ana, mut vault) = story();
    let (entry, payloads) = writes(&ana, &vault.log, 11);
    let whole = Frame::write(&entry, &payloads.concat());
    let frame = Frame::parse(&whole).unwrap();
    let some = |there: &[u16]| {
        let bytes = frame.keeping(|index| there.contains(&index));
        json!({ "there": there, "frame": hex(bytes) })
    };
    let frames = [some(&(0..11).collect::<Vec<_>>()), some(&[0, 3, 8, 10]), some(&[9]), some(&[])];
    let data =
        json!({ "entry": hex(&entry), "payloads": payloads.iter().map(hex).collect::<Vec<_>>(), "frames": frames });
    vault.takes(&cast, entry);
    let (entry, note) = forgets(&ana, &vault.log, &[record(4), record(5)]);
    let checkpoint = json!({ "entry": hex(&entry), "note": hex(&note), "frame": hex(Frame::write(&entry, &note)) });
    let heartbeat = ana.heartbeat(&vault.log);
    let heartbeat = json!({ "entry": hex(&heartbeat), "frame": hex(Frame::write(&heartbeat, &[])) });
    holds("vault_frames.json", &json!({ "data": data, "checkpoint": checkpoint, "heartbeat": heartbeat }));
}

#[test]
fn a_frame_is_all_that_a_reader_needs() {
    let (cast, ana, mut vault) = story();
    let (entry, payloads) = writes(&ana, &vault.log, 3);
    let mut reader = vault.log.clone();
    let pushed = Frame::write(&entry, &payloads.concat());
    let read = Frame::parse(&pushed).unwrap();
    assert!(read.is_whole());
    reader.apply(&read.entry, read.beside(), &cast.logs).unwrap();
    vault.takes(&cast, entry);
    let (entry, note) = forgets(&ana, &vault.log, &[record(2)]);
    let pushed = Frame::write(&entry, &note);
    let read = Frame::parse(&pushed).unwrap();
    assert!(read.is_whole());
    reader.apply(&read.entry, read.beside(), &cast.logs).unwrap();
    assert_eq!(reader.live().count(), 2);
    // Pruning never takes the note: the checkpoint could not be checked without it.
    assert_eq!(read.keeping(|_| false), pushed);
    let without = Frame::write(&entry, &[]);
    assert!(!Frame::parse(&without).unwrap().is_whole());
}

#[test]
fn what_is_beside_an_entry_must_fit_it() {
    let (cast, ana, mut vault) = story();
    let refused = |entry: &[u8], beside: &[u8]| Frame::parse(&Frame::write(entry, beside)).is_err();
    let (data, payloads) = writes(&ana, &vault.log, 2);
    assert!(refused(&data, &payloads[0]), "one payload of two");
    assert!(refused(&data, &[payloads.concat(), vec![0]].concat()), "something after them");
    assert!(refused(&vault.entries[0], &[0]), "beside CREATE");
    assert!(refused(&ana.heartbeat(&vault.log), &[0]), "beside a heartbeat");
    let whole = ana.checkpoint(&vault.log);
    assert!(refused(&whole, &[0; 16]), "a note that nobody named");
    vault.takes(&cast, data);
    let (entry, note) = forgets(&ana, &vault.log, &[record(1)]);
    assert!(!refused(&entry, &note));
    let empty = [&Frame::write(&entry, &[])[..4 + entry.len()], &[1]].concat();
    assert_eq!(Frame::parse(&empty).map(|_| ()), Err(Malformed("an empty note")));
}

#[test]
fn mal_052_every_bit_of_a_frame_matters() {
    let (cast, ana, mut vault) = story();
    let (entry, payloads) = writes(&ana, &vault.log, 2);
    let data = Frame::write(&entry, &payloads.concat());
    let mut after = vault.clone();
    after.takes(&cast, entry);
    let (entry, note) = forgets(&ana, &after.log, &[record(1)]);
    let checkpoint = Frame::write(&entry, &note);
    for (log, frame) in [(&mut vault.log, data), (&mut after.log, checkpoint)] {
        let before = log.clone();
        for bit in 0..frame.len() * 8 {
            let mut bent = frame.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            let taken = Frame::parse(&bent)
                .map_err(Refusal::from)
                .and_then(|read| log.apply(&read.entry, read.beside(), &cast.logs));
            assert!(taken.is_err(), "bit {bit} of {}", frame.len() * 8);
            assert!(*log == before, "bit {bit} changed the log");
        }
    }
}

#[test]
fn mal_054_whichever_live_payload_a_server_prunes_it_is_missed() {
    let (cast, ana, mut vault) = story();
    let (first, payloads) = writes(&ana, &vault.log, 5);
    let mut frames = vec![Frame::write(&first, &payloads.concat())];
    vault.takes(&cast, first);
    // Two of the five are written again, so their first payloads may go.
    let heads: Vec<_> = [1, 3].map(|number| vault.heads(record(number))).to_vec();
    let again = payload(9);
    let bytes = ana.data(&vault.log, &[whole(record(1), &heads[0], &again), whole(record(3), &heads[1], &again)]);
    frames.push(Frame::write(&bytes, &[again.as_slice(), &again].concat()));
    vault.takes(&cast, bytes);

    // A reader keeps what came, and looks at the end whether anything that is live did not.
    let read = |pruned: &[(usize, u16)]| {
        let (mut log, _) = VaultLog::create(&Entry::parse(&vault.entries[0]).unwrap(), &cast.logs).unwrap();
        let mut at_hand = Vec::new();
        for (at, bytes) in frames.iter().enumerate() {
            let bytes = Frame::parse(bytes).unwrap().keeping(|index| !pruned.contains(&(at, index)));
            let frame = Frame::parse(&bytes).unwrap();
            let header = &frame.entry.header;
            let Body::Data(data) = &frame.entry.body else { unreachable!() };
            for change in data.changes().filter(|change| frame.payload(change.index).is_some()) {
                at_hand.push(change.id(&header.vault, &header.device, header.dev_seq));
            }
            log.apply(&frame.entry, frame.beside(), &cast.logs).unwrap();
        }
        log.check_payloads(|_, id| at_hand.contains(id))
    };
    assert_eq!(read(&[(0, 1), (0, 3)]), Ok(()), "superseded");
    for live in [(0, 0), (0, 2), (0, 4), (1, 0), (1, 1)] {
        let missing = read(&[live, (0, 1)]).unwrap_err();
        assert!(matches!(&missing, Refusal::Withheld(changes) if changes.len() == 1), "{live:?}: {missing:?}");
    }
}

#[test]
fn mal_059_lengths_in_frames_that_lie_are_refused() {
    let (cast, ana, mut vault) = story();
    let (entry, payloads) = writes(&ana, &vault.log, 2);
    let frame = Frame::write(&entry, &payloads.concat());
    for length in [0, 1, entry.len() as u32 - 1, entry.len() as u32 + 1, u32::MAX] {
        let mut bent = frame.clone();
        bent[..4].copy_from_slice(&length.to_be_bytes());
        assert!(Frame::parse(&bent).is_err(), "an entry of {length}");
        if length as usize > frame.len() {
            assert!(Frame::entry_bytes(&bent).is_err());
        }
    }
    assert!(Frame::parse(&[]).is_err() && Frame::entry_bytes(&[0, 0, 0]).is_err());
    assert_eq!(Frame::parse(&vec![0; MAX_FRAME_LENGTH + 1]).map(|_| ()), Err(Malformed("the frame is too long")));

    // The longest payloads there may be are taken; the longest note is, and no longer one.
    let longest = vec![7; MAX_PAYLOAD];
    let four: Vec<NewChange<'_>> = (0..4).map(|number| whole(record(number), &[], &longest)).collect();
    let bytes = Frame::write(&ana.data(&vault.log, &four), &longest.repeat(4));
    assert!(Frame::parse(&bytes).unwrap().is_whole());
    vault.takes(&cast, entry);
    let (entry, _) = forgets(&ana, &vault.log, &[record(1)]);
    assert!(Frame::parse(&Frame::write(&entry, &vec![0; MAX_NOTE])).is_ok());
    assert!(Frame::parse(&Frame::write(&entry, &vec![0; MAX_NOTE + 1])).is_err());
    let many: Vec<RecordId> = (0..=MAX_NOTE as u32 / 16)
        .map(|number| RecordId(std::array::from_fn(|at| number.to_be_bytes().get(at).copied().unwrap_or(0))))
        .collect();
    let (note, hash) = write_note(&many);
    assert_eq!(note.len(), MAX_NOTE + 16);
    assert!(selkie_protocol::log::read_note(&note, &hash).is_err());
    assert!(vault.log.checkpoint(&many).is_err());
}

#[test]
fn a_data_entry_reads_the_same_from_its_frame() {
    let (_, ana, vault) = story();
    let (entry, payloads) = writes(&ana, &vault.log, 9);
    let bytes = Frame::write(&entry, &payloads.concat());
    assert_eq!(Frame::entry_bytes(&bytes), Ok(entry.as_slice()));
    let frame = Frame::parse(&bytes).unwrap();
    assert!(matches!(frame.beside(), Beside::Payloads(there) if there.len() == 9));
    let Body::Data(data) = frame.entry.body else { unreachable!() };
    let sum = |data: &Data<'_>| data.changes().map(|change| change.payload_length as usize).sum::<usize>();
    assert_eq!(sum(&data), payloads.concat().len());
    assert_eq!(frame.payload(9), None);
}
