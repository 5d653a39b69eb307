//! An older state brought up to date by entries that were checked before: what a server does after a restart.

use super::cast::{Cast, Device, Vault, delta, payload, record, rotate, whole};
use selkie_protocol::id::VaultId;
use selkie_protocol::log::{
    Beside, Body, Core, Denied, Entry, Head, Header, KEPT_CHECKPOINTS, Kind, Refusal, Role, VaultLog,
};

/// Ana and Bob do everything that is not CONTROL, after some that is; more checkpoints than are remembered, some of
/// them confirmed.
fn story() -> (Cast, Device, Device, Vault) {
    let mut cast = Cast::default();
    let (ana, bob) = (cast.person(1), cast.person(2));
    let mut vault = Vault::create(&cast, &ana);
    vault.does(&cast, &ana, &cast.add(bob.user, Role::Editor));
    vault.does(&cast, &ana, &rotate(&vault.log, &[]));
    for round in 0..=KEPT_CHECKPOINTS {
        vault.writes(&cast, &ana, record(1), u8::try_from(round).unwrap());
        let late = bob.data(&vault.log, &[delta(record(1), &vault.heads(record(1)), &payload(9))]);
        vault.takes(&cast, ana.checkpoint(&vault.log));
        vault.takes(&cast, late);
        if round % 2 == 0 {
            let newest = vault.log.core().checkpoints().last().unwrap().n;
            let header = Header { checkpoint_ok: newest, ..bob.header(&vault.log) };
            vault.takes(&cast, bob.sign(&header, Kind::Heartbeat, &[]));
        }
        vault.writes(&cast, &bob, record(2), u8::try_from(round).unwrap());
    }
    (cast, ana, bob, vault)
}

/// Takes a log entry by entry, as it was checked, and follows it with a state that is kept at CONTROL entries only.
pub(crate) fn follows_everywhere(cast: &Cast, entries: &[Vec<u8>]) {
    let (mut log, _) = VaultLog::create(&Entry::parse(&entries[0]).unwrap(), &cast.logs).unwrap();
    let mut followed = log.core().clone();
    for bytes in &entries[1..] {
        let entry = Entry::parse(bytes).unwrap();
        let before = followed.clone();
        let result = followed.follow(&entry);
        log.apply(&entry, Beside::Nothing, &cast.logs).unwrap();
        if let Body::Control(_) = entry.body {
            assert!(matches!(result, Err(Refusal::Malformed(_))), "{result:?}");
            assert_eq!(followed, before);
            followed = Core::from_bytes(&log.core().to_bytes()).unwrap();
        } else {
            result.unwrap();
        }
        assert_eq!(followed, *log.core());
    }
}

#[test]
fn a_state_that_followed_is_the_state_that_checked_everything() {
    let (cast, _, _, vault) = story();
    assert_eq!(vault.log.core().checkpoints().len(), KEPT_CHECKPOINTS);
    assert!(vault.log.core().checkpoints().iter().any(|known| known.confirmed_by.is_some()));
    follows_everywhere(&cast, &vault.entries);
}

/// Offers an entry to be followed; a refusal leaves the state as it was.
#[track_caller]
fn refuses(core: &Core, bytes: &[u8], reason: Refusal) {
    let mut followed = core.clone();
    assert_eq!(followed.follow(&Entry::parse(bytes).unwrap()), Err(reason));
    assert_eq!(followed, *core);
}

#[test]
fn what_decides_over_people_is_not_followed() {
    let (_, ana, _, vault) = story();
    let rotation = ana.control(&vault.log, &rotate(&vault.log, &[]));
    let mut core = vault.log.core().clone();
    assert!(matches!(core.follow(&Entry::parse(&rotation).unwrap()), Err(Refusal::Malformed(_))));
    assert_eq!(core, *vault.log.core());
}

#[test]
fn an_entry_that_does_not_come_next_is_not_followed() {
    let (cast, ana, bob, vault) = story();
    let core = vault.log.core();
    let bent = |device: &Device, bend: &dyn Fn(&mut Header)| {
        let mut header = device.header(&vault.log);
        bend(&mut header);
        device.sign(&header, Kind::Heartbeat, &[])
    };
    // Ana's chain: her own number, and what it follows.
    let expected = core.device(&ana.id()).unwrap().dev_seq + 1;
    for found in [expected - 1, expected + 1, u64::MAX] {
        refuses(core, &bent(&ana, &|it| it.dev_seq = found), Refusal::DeviceSequence { expected, found });
    }
    refuses(core, &bent(&ana, &|it| it.dev_prev[0] ^= 1), Refusal::DevicePrevious);
    refuses(core, vault.entries.last().unwrap(), Refusal::Repeated { n: core.head().n });

    // The log's own: its name, its head, its members.
    let Head { n, h } = core.head();
    refuses(core, &bent(&bob, &|it| it.vault = VaultId([1; 32])), Refusal::OtherVault);
    refuses(core, &bent(&bob, &|it| it.seen.n = n + 1), Refusal::BadSeen { seen: n + 1, n: n + 1 });
    let elsewhere = Head { n, h: h.map(|byte| !byte) };
    refuses(core, &bent(&bob, &|it| it.seen = elsewhere), Refusal::Fork { n });
    refuses(core, &bent(&bob, &|it| it.control[0] ^= 1), Refusal::StaleControl);
    let nothing_there = Refusal::NotAllowed(Denied::NoSuchCheckpoint);
    refuses(core, &bent(&bob, &|it| it.checkpoint_ok = n), nothing_there);

    // Each of them followed alone, in its place, is.
    let fine = bob.data(&vault.log, &[whole(record(7), &[], &payload(7))]);
    let (mut followed, mut log) = (core.clone(), vault.log.clone());
    followed.follow(&Entry::parse(&fine).unwrap()).unwrap();
    log.apply(&Entry::parse(&fine).unwrap(), Beside::Nothing, &cast.logs).unwrap();
    assert_eq!(followed, *log.core());
}
