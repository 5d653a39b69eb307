//! The layouts: what is written reads back, and nothing else reads at all.

use super::cast::{Cast, Device, Vault, delta, payload, record, rotate, whole};
use proptest::prelude::*;
use selkie_protocol::account_log::Pin;
use selkie_protocol::id::{ChangeId, DeviceId, InviteId, UserId};
use selkie_protocol::log::{
    App, Body, Checkpoint, Control, Data, DeviceHead, Entry, HEADER_LENGTH, Head, Kind, MAX_DEPS, MAX_PAYLOAD,
    Malformed, NewChange, PageItem, Policy, Role, Root, SIGNATURE_LENGTH,
};
use selkie_protocol::sign::PublicKey;

fn story() -> (Cast, Device, Vault) {
    let mut cast = Cast::default();
    let ana = cast.person(1);
    let vault = Vault::create(&cast, &ana);
    (cast, ana, vault)
}

fn every_kind(ana: &Device, vault: &Vault) -> Vec<Vec<u8>> {
    let deps = [ChangeId([1; 32]), ChangeId([2; 32])];
    let body = [payload(1), payload(2)];
    let changes = [whole(record(1), &[], &body[0]), delta(record(2), &deps, &body[1])];
    let mut all = vec![
        vault.entries[0].clone(),
        ana.data(&vault.log, &changes),
        ana.heartbeat(&vault.log),
        ana.checkpoint(&vault.log),
    ];
    all.extend(every_operation(vault).iter().map(|op| ana.control(&vault.log, op)));
    all
}

fn every_operation(vault: &Vault) -> Vec<Control> {
    let (user, anchor) = (UserId([5; 32]), Pin { index: 3, hash: [4; 32] });
    let invite = InviteId([6; 16]);
    vec![
        Control::AddMember { user, identity: PublicKey([7; 32]), anchor, role: Role::Editor, invite: None },
        Control::AddMember { user, identity: PublicKey([7; 32]), anchor, role: Role::Viewer, invite: Some(invite) },
        Control::SetRole { user, role: Role::Admin },
        rotate(&vault.log, &[]),
        Control::Anchor { user, anchor },
        Control::Policy(Policy { min_format: 1, flags: Policy::STRICT, recovery: Some(user) }),
        Control::Policy(Policy { min_format: 1, flags: 0, recovery: None }),
        Control::InviteOpen { invite, role: Role::Recovery, expires: 9 },
        Control::InviteClose { invite },
        Control::ResetTail { n: 1 },
    ]
}

#[test]
fn what_is_written_reads_back() {
    let (_, ana, vault) = story();
    for bytes in every_kind(&ana, &vault) {
        let entry = Entry::parse(&bytes).unwrap();
        let body = &bytes[HEADER_LENGTH..bytes.len() - SIGNATURE_LENGTH];
        assert_eq!(ana.sign(&entry.header, entry.kind(), body), bytes, "{:?}", entry.kind());
        assert!(entry.is_signed_by(&ana.key.public_key()));
    }
    for op in every_operation(&vault) {
        assert_eq!(Control::parse(&op.to_bytes()), Ok(op));
    }
}

#[test]
fn a_single_small_edit_costs_six_hundred_and_twenty_bytes() {
    let (_, ana, vault) = story();
    let sealed = vec![0; 248];
    let entry = ana.data(&vault.log, &[whole(record(1), &[ChangeId([1; 32])], &sealed)]);
    assert_eq!(entry.len() + sealed.len(), 620);
}

#[test]
fn an_entry_cut_anywhere_or_with_more_behind_it_is_not_an_entry() {
    let (_, ana, vault) = story();
    for bytes in every_kind(&ana, &vault) {
        for length in 0..bytes.len() {
            assert!(Entry::parse(&bytes[..length]).is_err(), "{length} of {}", bytes.len());
        }
        assert!(Entry::parse(&[bytes.as_slice(), &[0]].concat()).is_err());
    }
}

#[test]
fn there_is_one_version_one_suite_and_no_fifth_kind() {
    let (_, ana, vault) = story();
    let bytes = ana.heartbeat(&vault.log);
    let wrong: [(usize, &[u8]); 4] = [(0, &[0, 2, 255]), (1, &[0, 2, 255]), (2, &[0, 5, 255]), (3, &[1, 255])];
    for (at, values) in wrong {
        for value in values {
            let mut bytes = bytes.clone();
            bytes[at] = *value;
            assert!(Entry::parse(&bytes).is_err(), "byte {at} = {value}");
        }
    }
}

#[test]
fn a_heartbeat_says_nothing() {
    let (_, ana, vault) = story();
    let bytes = ana.sign(&ana.header(&vault.log), Kind::Heartbeat, &[0]);
    assert_eq!(Entry::parse(&bytes), Err(Malformed("a heartbeat has no body")));
}

#[test]
fn create_follows_nothing() {
    let (cast, ana, vault) = story();
    let create = ana.create(&cast, 7);
    let entry = Entry::parse(&create).unwrap();
    let body = &create[HEADER_LENGTH..create.len() - SIGNATURE_LENGTH];
    let mut headers = vec![entry.header.clone(); 7];
    headers[0].vault = vault.log.core().vault();
    headers[1].seen.n = 1;
    headers[2].seen.h = [1; 32];
    headers[3].control = [1; 32];
    headers[4].epoch = 2;
    headers[5].checkpoint_ok = 1;
    (headers[6].dev_seq, headers[6].dev_prev) = (2, [1; 32]);
    for (at, header) in headers.iter().enumerate() {
        let bytes = ana.sign(header, Kind::Control, body);
        assert_eq!(Entry::parse(&bytes), Err(Malformed("CREATE follows nothing and begins epoch 1")), "{at}");
    }
}

#[test]
fn the_first_entry_of_a_device_and_only_that_follows_nothing() {
    let (_, ana, vault) = story();
    for (dev_seq, dev_prev) in [(0, [0; 32]), (1, [1; 32]), (2, [0; 32])] {
        let mut header = ana.header(&vault.log);
        (header.dev_seq, header.dev_prev) = (dev_seq, dev_prev);
        assert!(Entry::parse(&ana.sign(&header, Kind::Heartbeat, &[])).is_err(), "{dev_seq}");
    }
}

#[test]
fn a_checkpoint_and_a_reset_name_what_their_author_saw() {
    let (_, ana, vault) = story();
    let mut header = ana.header(&vault.log);
    header.seen.h[0] ^= 1;
    let body = vault.log.checkpoint(&[]).unwrap().0;
    assert!(Entry::parse(&ana.sign(&header, Kind::Checkpoint, &body)).is_err());
    let reset = Control::ResetTail { n: 0 }.to_bytes();
    assert!(Entry::parse(&ana.sign(&header, Kind::Control, &reset)).is_err());
}

#[test]
fn mal_059_counts_and_lengths_that_lie_are_refused_before_anything_is_reserved() {
    let (_, ana, vault) = story();
    let heartbeat = ana.heartbeat(&vault.log);
    for length in [1, 1 << 20, (1 << 20) + 1, u32::MAX] {
        let mut bytes = heartbeat.clone();
        bytes[216..220].copy_from_slice(&length.to_be_bytes());
        assert!(Entry::parse(&bytes).is_err(), "a body of {length}");
    }
    let body = payload(1);
    let good = Data::write(&[whole(record(1), &[], &body)]).unwrap();
    let bent = |at: usize, bytes: &[u8]| {
        let mut body = good.clone();
        body[at..at + bytes.len()].copy_from_slice(bytes);
        Data::parse(&body).map(|_| ())
    };
    for count in [0u16, 2, 256, 257, u16::MAX] {
        assert!(bent(0, &count.to_be_bytes()).is_err(), "{count} changes");
    }
    for flags in [2, 3, 128, 255] {
        assert!(bent(18, &[flags]).is_err(), "flags {flags}");
    }
    for deps in [1, 16, 17, 255] {
        assert!(bent(19, &[deps]).is_err(), "{deps} dependencies");
    }
    for length in [0, 1, 103, MAX_PAYLOAD as u32 + 1, u32::MAX] {
        assert!(bent(20, &length.to_be_bytes()).is_err(), "a payload of {length}");
    }
    let mut removal = rotate(&vault.log, &[]).to_bytes();
    for count in [1u16, 1024, 1025, u16::MAX] {
        removal[1..3].copy_from_slice(&count.to_be_bytes());
        assert!(Control::parse(&removal).is_err(), "{count} people");
    }
    let mut checkpoint = vault.log.checkpoint(&[]).unwrap().0;
    let at = checkpoint.len() - 56 - 2;
    for count in [0u16, 2, 16_384, 16_385, u16::MAX] {
        checkpoint[at..at + 2].copy_from_slice(&count.to_be_bytes());
        assert!(Checkpoint::parse(&checkpoint).is_err(), "{count} devices");
    }
}

#[test]
fn an_entry_carries_at_most_a_mebibyte_and_256_changes() {
    let longest = vec![0; MAX_PAYLOAD];
    let of = |count: u8, payload: &[u8]| {
        let changes: Vec<NewChange<'_>> = (0..count).map(|at| whole(record(at), &[], payload)).collect();
        Data::write(&changes)
    };
    assert!(of(4, &longest).is_ok());
    assert_eq!(of(5, &longest), Err(Malformed("the payloads of one entry are too long")));
    assert!(of(1, &vec![0; MAX_PAYLOAD + 1]).is_err());
    assert!(of(0, &longest).is_err());
    let small = payload(0);
    let many = vec![whole(record(0), &[], &small); 257];
    assert!(Data::write(&many[..256]).is_ok());
    assert!(Data::write(&many).is_err());
}

#[test]
fn dependencies_are_ascending_and_at_most_sixteen() {
    let ids: Vec<ChangeId> = (0..17).rev().map(|at| ChangeId([at; 32])).collect();
    let body = payload(0);
    let written = Data::write(&[delta(record(1), &ids[..MAX_DEPS], &body)]).unwrap();
    let deps: Vec<ChangeId> = Data::parse(&written).unwrap().changes().next().unwrap().deps.iter().collect();
    assert!(deps.is_sorted(), "whoever writes need not sort");
    assert!(Data::write(&[delta(record(1), &ids, &body)]).is_err());
    assert!(Data::write(&[delta(record(1), &[ids[0], ids[0]], &body)]).is_err(), "one twice");
    let mut swapped = written.clone();
    swapped[20..52].copy_from_slice(&written[52..84]);
    swapped[52..84].copy_from_slice(&written[20..52]);
    assert_eq!(Data::parse(&swapped), Err(Malformed("dependencies are not ascending")));
}

#[test]
fn people_to_remove_are_ascending_and_each_once() {
    let (one, two) = (UserId([1; 32]), UserId([2; 32]));
    let of = |removed: &[UserId]| {
        let Control::RemoveRotate(mut rotate) = rotate(&story().2.log, &[]) else { unreachable!() };
        rotate.removed = removed.to_vec();
        Control::parse(&Control::RemoveRotate(rotate).to_bytes())
    };
    assert!(of(&[one, two]).is_ok());
    assert!(of(&[two, one]).is_err());
    assert!(of(&[one, one]).is_err());
}

#[test]
fn devices_of_a_checkpoint_are_ascending_and_each_once() {
    let head = |byte: u8| DeviceHead { device: DeviceId([byte; 16]), dev_seq: 1, entry: [byte; 32] };
    let root = Root { live: 0, pages: [1; 32] };
    let at = Head { n: 1, h: [2; 32] };
    let body = Checkpoint::write(at, &root, None, [head(2), head(1)]).unwrap();
    assert!(Checkpoint::write(at, &root, None, [head(1), head(1)]).is_err());
    let (first, second) = (body.len() - 112, body.len() - 56);
    let swapped = [&body[..first], &body[second..], &body[first..second]].concat();
    assert_eq!(Checkpoint::parse(&swapped), Err(Malformed("devices are not ascending")));
}

#[test]
fn roles_operations_and_invitations_that_do_not_exist_do_not_parse() {
    for role in [0, 5, 8, 10, 255] {
        assert!(Control::parse(&[&[2][..], &[1; 32], &[role]].concat()).is_err(), "role {role}");
    }
    for op in 9..=255 {
        assert!(Control::parse(&[op]).is_err(), "operation {op}");
    }
    assert!(Control::parse(&[]).is_err());
    assert!(Control::parse(&[&[7][..], &[0; 16]].concat()).is_err(), "an invitation without an id");
}

#[test]
fn an_app_has_a_short_plain_name() {
    for name in ["a", "org.example.journal", "selkie", "x-1.y", &"a".repeat(64)] {
        assert!(App::new(name).is_ok(), "{name}");
    }
    for name in ["", "Org", "a b", "a/b", "ü", "a\0", &"a".repeat(65)] {
        assert!(App::new(name).is_err(), "{name}");
    }
}

#[test]
fn pages_have_1024_leaves_and_their_number_fits() {
    let body = |live: u64, pages: u32, size: u32| {
        let root = Root { live: 0, pages: [1; 32] };
        let mut body = Checkpoint::write(Head { n: 1, h: [2; 32] }, &root, None, []).unwrap();
        body[40..48].copy_from_slice(&live.to_be_bytes());
        body[48..52].copy_from_slice(&size.to_be_bytes());
        body[52..56].copy_from_slice(&pages.to_be_bytes());
        Checkpoint::parse(&body).map(|_| ())
    };
    assert!(body(0, 0, 1024).is_ok() && body(1024, 1, 1024).is_ok() && body(1025, 2, 1024).is_ok());
    for (live, pages, size) in [(0, 1, 1024), (1025, 1, 1024), (1, 1, 1023), (u64::MAX, u32::MAX, 1024)] {
        assert!(body(live, pages, size).is_err(), "{live} {pages} {size}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = Entry::parse(&bytes);
        let _ = Control::parse(&bytes);
        let _ = Data::parse(&bytes);
        let _ = Checkpoint::parse(&bytes);
        let _ = PageItem::parse(&bytes);
    }

    #[test]
    fn an_entry_with_some_bytes_bent_parses_as_itself_or_not_at_all(
        which in 0usize..14,
        bends in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (_, ana, vault) = story();
        let mut bytes = every_kind(&ana, &vault).swap_remove(which);
        for (at, value) in bends {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(entry) = Entry::parse(&bytes) {
            // One way to write a thing: what was read, written again, is what came.
            let body = match &entry.body {
                Body::Control(control) => control.to_bytes(),
                _ => bytes[HEADER_LENGTH..bytes.len() - SIGNATURE_LENGTH].to_vec(),
            };
            let written = entry.header.with_body(entry.kind(), &body);
            prop_assert_eq!(&written[..], &bytes[..bytes.len() - SIGNATURE_LENGTH]);
        }
    }
}
