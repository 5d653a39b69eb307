//! Attacks on who is in a vault and on its keys: rows 27 and 31 to 42.
//!
//! Rows 28 to 30 are about invitations, which the SDK does not make yet: the rules have their tests in `protocol`.

use selkie_client::{Error, Misbehaviour, Role, VaultState};
use selkie_e2e::message::Reply;
use selkie_e2e::network::Outcome;
use selkie_e2e::scribe::{Author, Volume, must, record};
use selkie_protocol::ErrorCode;
use selkie_protocol::cipher::{EpochKey, RecordContext, SigningKey, hpke_seal};
use selkie_protocol::hash::Label;
use selkie_protocol::id::UserId;
use selkie_protocol::log::{Control, Frame, Kind, NewChange, Policy, RemoveRotate, Role as LogRole, signed};
use selkie_protocol::vault::{Push, Wrap, Wraps};

use super::cast::{APP, Cast, join, put, text, view};
use super::times;

const FORGED: &[Misbehaviour] = &[Misbehaviour::ForgedEntry];
const WRAPS: &str = "GET /v1/vaults/*/wraps";
const PUSH: &str = "POST /v1/vaults/*/push";

#[tokio::test(flavor = "multi_thread")]
async fn mal_027_031_039_040_042_nobody_gains_a_right_that_was_not_given() {
    let cast = Cast::with_cas().await;
    let dan = Author::new(&cast.server.network().url(), "dan@example.org").await;
    let add = |user: UserId, log: &selkie_protocol::account_log::AccountLog, role| Control::AddMember {
        user,
        identity: log.identity(),
        anchor: log.head(),
        role,
        invite: None,
    };
    let ghost = |role| add(dan.user(), dan.log(), role);
    let (bo, cas) = (cast.bo.user_id(), cast.cas().user());
    let policy = |flags, recovery| Control::Policy(Policy { min_format: 1, flags, recovery });
    let set = |user, role| Control::SetRole { user, role };

    // What Cas signs as who she is, shown at the end of the true log.
    for (what, as_role, control) in [
        ("an editor adds somebody", Role::Editor, ghost(LogRole::Viewer)),
        ("a viewer adds somebody", Role::Viewer, ghost(LogRole::Viewer)),
        ("an admin adds an admin", Role::Admin, ghost(LogRole::Admin)),
        ("an admin adds a recovery identity that no policy names", Role::Admin, ghost(LogRole::Recovery)),
        ("an owner adds a recovery identity that no policy names", Role::Owner, ghost(LogRole::Recovery)),
        ("an admin raises somebody to admin", Role::Admin, set(bo, LogRole::Admin)),
        ("an editor raises herself", Role::Editor, set(cas, LogRole::Owner)),
        ("an admin raises herself", Role::Admin, set(cas, LogRole::Owner)),
        ("an admin makes a policy", Role::Admin, policy(0, Some(dan.user()))),
        (
            "an editor invites somebody",
            Role::Editor,
            Control::InviteOpen {
                invite: selkie_protocol::id::InviteId([7; 16]),
                role: LogRole::Viewer,
                expires: u64::MAX,
            },
        ),
        ("an admin gives up the tail", Role::Admin, Control::ResetTail { n: 8 }),
    ] {
        let (story, volume) = cast.story_with_cas(as_role).await;
        let frame = volume.control(&cast.cas().first(), &control);
        cast.phone_catches(&story, what, FORGED, move |frames| frames.push(frame.clone())).await;
    }

    // What nobody signed who may: the server's own key, no key, and Cas under Ana's name.
    let server_key = SigningKey::from_seed(&cast.liar.key().seed());
    for what in ["signed by the server", "signed by nobody", "signed by Cas for Ana"] {
        let (story, volume) = cast.story_with_cas(Role::Admin).await;
        let frame = in_anas_name(&cast, &volume, &ghost(LogRole::Viewer), what, &server_key);
        cast.phone_catches(&story, what, FORGED, move |frames| frames.push(frame.clone())).await;
    }

    // An owner may raise what the vault demands and not lower it again, nor may the server show an earlier demand.
    let (story, mut volume) = cast.story_with_cas(Role::Owner).await;
    let scribe = cast.cas().first();
    let raised = volume.control(&scribe, &policy(Policy::STRICT, None));
    must(scribe.push(&story.id, &raised).await);
    volume.catches_up(&scribe).await;
    let lowered = volume.control(&scribe, &policy(0, None));
    let refused = scribe.push(&story.id, &lowered).await.unwrap_err();
    assert_eq!(refused.body.code, ErrorCode::EntryRefused);
    let again = raised.clone();
    cast.phone_catches(&story, "a policy lowered", FORGED, move |frames| frames.push(lowered.clone())).await;
    let (story, _) = cast.story_with_cas(Role::Owner).await;
    let lie = move |frames: &mut Vec<Vec<u8>>| frames.push(again.clone());
    cast.phone_catches(&story, "a policy of another vault", FORGED, lie).await;

    // The last owner cannot go: not by mistake, and not by a lie.
    let alone = cast.laptop.create_vault("Alone", APP).await.unwrap();
    alone.sync().await.unwrap();
    let (before, asked) = (view(&alone).await, cast.server.network().calls(PUSH).len());
    let refused = alone.set_role(cast.laptop.user_id(), Role::Editor).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(view(&alone).await, before);
    assert_eq!(cast.server.network().calls(PUSH).len(), asked, "it was not even sent");
    let of_cas = vault_of_cas(&cast).await;
    let (stays, step_down) = (of_cas.log.head(), of_cas.control(&scribe, &set(cas, LogRole::Editor)));
    let shown = join(&cast.phone, of_cas.vault()).await;
    cast.liar.shows(of_cas.vault(), move |frames| frames.push(step_down.clone()));
    cast.catches(&shown, "the last owner steps down", FORGED).await;
    assert_eq!(shown.digest().await.unwrap().n, stays.n);
    cast.nothing_leaked(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mal_032_033_a_removal_can_neither_be_hidden_for_long_nor_undone() {
    let cast = Cast::with_cas().await;
    let scribe = cast.cas().first();
    let note = |volume: &Volume| note_of_cas(volume, cast.cas(), 1);

    // Ana removes Cas; the phone is not shown it, and Cas writes on as if she had not seen it either.
    let (story, volume) = cast.story_with_cas(Role::Editor).await;
    story.phone.sync().await.unwrap();
    let late = note(&volume);
    story.laptop.remove_member(cast.cas().user()).await.unwrap();
    put(&story.laptop, story.second, "after she left").await;
    story.laptop.sync().await.unwrap();
    let removed_at = volume.frames.len();
    let hidden = late.clone();
    let lie = move |frames: &mut Vec<Vec<u8>>| {
        frames.truncate(removed_at);
        frames.push(hidden.clone());
    };
    cast.liar.shows(story.id, lie);
    story.phone.sync().await.unwrap();
    assert_eq!(story.phone.members().await.unwrap().len(), 3, "a fork begins: the phone knows no better");
    // Nothing of what Ana wrote afterwards can be shown to the phone any more.
    cast.liar.stops();
    let expected = &[Misbehaviour::VaultFork, Misbehaviour::ForgedEntry];
    cast.catches(&story.phone, "the true log after a hidden removal", expected).await;
    // And whoever has seen the removal takes nothing of hers, however well it fits the rest.
    let (story, mut volume) = cast.story_with_cas(Role::Editor).await;
    story.phone.sync().await.unwrap();
    story.laptop.remove_member(cast.cas().user()).await.unwrap();
    let removal = tail_of(&cast, &story.laptop, volume.frames.len()).await;
    for frame in removal {
        volume.take(frame).unwrap();
    }
    let late = note(&volume);
    cast.phone_catches(&story, "a removed member writes on", FORGED, move |frames| frames.push(late.clone())).await;

    // Who has seen it is not shown the time before.
    for replaced in [false, true] {
        let (story, volume) = cast.story_with_cas(Role::Editor).await;
        let late = note(&volume);
        story.laptop.remove_member(cast.cas().user()).await.unwrap();
        story.phone.sync().await.unwrap();
        let members = story.phone.members().await.unwrap().len();
        assert_eq!(members, 2);
        let (before, expected) = (
            volume.frames.len(),
            match replaced {
                false => &[Misbehaviour::VaultRollback][..],
                true => &[Misbehaviour::VaultFork, Misbehaviour::TwoHeads],
            },
        );
        let lie = move |frames: &mut Vec<Vec<u8>>| {
            frames.truncate(before);
            if replaced {
                frames.push(late.clone());
            }
        };
        cast.phone_catches(&story, "the log without the removal", expected, lie).await;
        assert_eq!(story.phone.members().await.unwrap().len(), 2);
    }
    let pushed = scribe.push(&story.id, &note(&volume)).await;
    assert!(pushed.is_err(), "an honest server refuses it, too");
    cast.nothing_leaked(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mal_034_an_old_key_writes_nothing_that_is_read() {
    let cast = Cast::with_cas().await;
    let scribe = cast.cas().first();
    for epoch in [1, 3] {
        let (story, _) = cast.story_with_cas(Role::Editor).await;
        story.laptop.rotate().await.unwrap();
        let volume = cast.cas().joins(&story.id).await;
        let mut header = volume.next_header(&scribe);
        assert_eq!(header.epoch, 2);
        header.epoch = epoch;
        let payload = vec![0x5e; 104];
        let change = NewChange { record: record(1), full: true, deps: &[], payload: &payload };
        let frame = volume.data_under(&header, &scribe, &change);
        let refused = scribe.push(&story.id, &frame).await.unwrap_err();
        assert_eq!(refused.body.code, ErrorCode::StaleEpoch);
        let lie = move |frames: &mut Vec<Vec<u8>>| frames.push(frame.clone());
        cast.phone_catches(&story, &format!("written for epoch {epoch}"), FORGED, lie).await;
    }
    // The right number and the key of before: it stands in the log, and says nothing to anybody.
    let (story, old) = cast.story_with_cas(Role::Editor).await;
    story.laptop.rotate().await.unwrap();
    let now = cast.cas().joins(&story.id).await;
    let frame = sealed_note(&now, cast.cas(), 1, |context, content| old.key.seal(context, content).unwrap());
    must(scribe.push(&story.id, &frame).await);
    story.phone.sync().await.unwrap();
    assert_eq!(story.phone.status().await.unwrap().set_aside.len(), 1);
    assert!(story.phone.get(record(1)).await.unwrap().is_none(), "it is not read");
    assert_eq!(text(&story.phone, story.second).await.as_deref(), Some("bread"), "the rest is");
    cast.nothing_leaked(&[old.epoch_key().to_bytes().as_slice(), now.epoch_key().to_bytes().as_slice()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mal_035_a_key_for_somebody_else_or_for_elsewhere_does_not_open() {
    let cast = Cast::new().await;
    let bo = cast.bo.user_id();
    let mut stories = Vec::new();
    // Bo is in each vault, which has two epochs, and has not looked yet.
    for _ in 0..4 {
        let vault = cast.laptop.create_vault("Household", APP).await.unwrap();
        let id = vault.new_record_id();
        put(&vault, id, "milk").await;
        vault.sync().await.unwrap();
        vault.add_member(bo, Role::Editor).await.unwrap();
        vault.rotate().await.unwrap();
        put(&vault, id, "milk and honey").await;
        vault.sync().await.unwrap();
        stories.push((vault, id));
    }
    let sent = wraps_that_were_sent(&cast);
    let ids: Vec<_> = stories.iter().map(|(vault, _)| vault.id()).collect();
    let lies = ids.clone();
    cast.server.network().behave(move |request, server| {
        let (sent, ids) = (sent.clone(), lies.clone());
        async move {
            let mut outcome = server.answer(&request).await;
            let vault = selkie_e2e::liar::vault_in(&request.path);
            let place = vault.and_then(|vault| ids.iter().position(|id| *id == vault));
            if let (true, Some(place), Outcome::Answer(reply)) = (request.is(WRAPS), place, &mut outcome) {
                reply.rewrite(|wraps: &mut Wraps| bend(place, &mut wraps.wraps, &sent, bo));
            }
            outcome
        }
    });
    let synced = cast.bo.sync().await.unwrap();
    for (vault, id) in &stories {
        let (_, outcome) = synced.vaults.iter().find(|(synced, _)| *synced == vault.id()).unwrap();
        let error = outcome.as_ref().unwrap_err();
        let wrong = matches!(error, Error::ServerMisbehaved { kind: Misbehaviour::WrongVaultKey, evidence: Some(_) });
        assert!(wrong, "{error:?}");
        let of_bo = cast.bo.vault_by_id(vault.id()).await.unwrap().unwrap();
        assert_eq!(of_bo.status().await.unwrap().state, VaultState::NoKey);
        assert_eq!(text(&of_bo, *id).await, None, "nothing is read");
        assert_eq!(of_bo.export_evidence().await.unwrap().len(), 1);
    }
    // With the right ones everything is there: nothing was lost, and nothing is remembered against the vault.
    cast.server.network().behave_well();
    for (vault, id) in &stories {
        let of_bo = cast.bo.vault_by_id(vault.id()).await.unwrap().unwrap();
        of_bo.sync().await.unwrap();
        assert_eq!(text(&of_bo, *id).await.as_deref(), Some("milk and honey"));
    }
    cast.nothing_leaked(&[]);
}

/// Each vault is lied about in another way.
fn bend(place: usize, wraps: &mut Vec<Wrap>, sent: &[(selkie_protocol::id::VaultId, Wrap)], me: UserId) {
    let newest = wraps.iter().map(|wrap| wrap.epoch).max().unwrap();
    let first = sent.iter().find(|(_, wrap)| wrap.uid != me && wrap.epoch == newest).unwrap().1.clone();
    match place {
        // Somebody else's, under my name.
        0 => *wraps = vec![Wrap { uid: me, ..first }],
        // That of the epoch before.
        1 => {
            let older = wraps.iter().find(|wrap| wrap.epoch < newest).unwrap().clone();
            *wraps = vec![Wrap { epoch: newest, ..older }];
        }
        // Mine, of another vault.
        2 => {
            let mine: Vec<_> = wraps.iter().map(|wrap| wrap.sealed.as_ref().to_vec()).collect();
            let other = sent.iter().find(|(_, wrap)| {
                wrap.uid == me && wrap.epoch == newest && !mine.contains(&wrap.sealed.as_ref().to_vec())
            });
            *wraps = vec![other.unwrap().1.clone()];
        }
        // Bent.
        _ => wraps.iter_mut().for_each(|wrap| wrap.sealed.0[1130] ^= 1),
    }
}

/// Cas is an admin who makes the next key, and gives Bo another one than the rest.
#[tokio::test(flavor = "multi_thread")]
async fn mal_036_nobody_can_be_given_another_key_than_the_others() {
    let cast = Cast::with_cas().await;
    let scribe = cast.cas().first();
    for under_its_own_commitment in [true, false] {
        let (story, volume) = cast.story_with_cas(Role::Admin).await;
        let (key, other) = (EpochKey::generate(story.id, 2), EpochKey::generate(story.id, 2));
        let rotate = RemoveRotate {
            removed: Vec::new(),
            epoch: 2,
            commitment: key.commitment(),
            back: key.link_back(volume.epoch_key()),
        };
        let frame = volume.control(&scribe, &Control::RemoveRotate(Box::new(rotate)));
        let wrap = |user: UserId, key: &EpochKey, commitment: Option<[u8; 32]>| {
            let (generation, kem) = volume.person(&user).kem().unwrap();
            let sealed = match commitment {
                None => *key.seal_to(&user, generation, kem).unwrap(),
                // As a client of another make would, so that it opens where the log's commitment is expected.
                Some(commitment) => {
                    let numbers = [key.epoch().to_be_bytes(), generation.to_be_bytes()];
                    let aad = [&story.id.0[..], &numbers[0], &user.0, &numbers[1], &commitment];
                    let info = Label::EPOCH_WRAP.full();
                    hpke_seal(kem, info.as_bytes(), &aad.concat(), key.to_bytes().as_slice())
                        .unwrap()
                        .try_into()
                        .unwrap()
                }
            };
            Wrap { uid: user, epoch: 2, generation, sealed: sealed.into() }
        };
        let (ana, bo) = (cast.laptop.user_id(), cast.bo.user_id());
        let commitment = (!under_its_own_commitment).then(|| key.commitment());
        let wraps = vec![wrap(ana, &key, None), wrap(scribe.user, &key, None), wrap(bo, &other, commitment)];
        must(scribe.push_with(&story.id, &frame, wraps).await);
        story.laptop.sync().await.unwrap();
        put(&story.laptop, story.second, "with the new key").await;
        story.laptop.sync().await.unwrap();
        let caught = story.bo.sync().await;
        let wrong = matches!(&caught, Err(Error::ServerMisbehaved { kind: Misbehaviour::WrongVaultKey, .. }));
        assert!(wrong, "{caught:?}");
        assert_eq!(story.bo.status().await.unwrap().state, VaultState::NoKey);
        assert_eq!(
            text(&story.bo, story.second).await.as_deref(),
            Some("bread"),
            "what came under the new key is not read"
        );
        // He writes nothing under a key of hers alone, and it waits.
        put(&story.bo, story.second, "from Bo").await;
        let _told_again = story.bo.sync().await;
        assert_eq!(story.bo.status().await.unwrap().pending, 1);
    }
    cast.nothing_leaked(&[]);
}

/// Bo comes when there are two epochs, and is given the key of the second: the first is behind a link that Cas made.
#[tokio::test(flavor = "multi_thread")]
async fn mal_037_a_link_to_an_earlier_key_leads_there_or_nowhere() {
    let cast = Cast::with_cas().await;
    let scribe = cast.cas().first();
    let elsewhere = cast.story_with_cas(Role::Editor).await.1;
    for foreign in [false, true] {
        let (story, _) = cast.story_with_cas(Role::Editor).await;
        story.laptop.remove_member(cast.bo.user_id()).await.unwrap();
        put(&story.laptop, story.second, "while Bo was away").await;
        story.laptop.sync().await.unwrap();
        let volume = cast.cas().joins(&story.id).await;
        let next = volume.epoch_key().epoch() + 1;
        let key = EpochKey::generate(story.id, next);
        let back = if foreign {
            EpochKey::generate(elsewhere.vault(), next).link_back(elsewhere.epoch_key())
        } else {
            let mut back = key.link_back(volume.epoch_key());
            back[80] ^= 1;
            back
        };
        let rotate = RemoveRotate { removed: Vec::new(), epoch: next, commitment: key.commitment(), back };
        let frame = volume.control(&scribe, &Control::RemoveRotate(Box::new(rotate)));
        let (generation, kem) = volume.person(&cast.laptop.user_id()).kem().unwrap();
        let sealed = *key.seal_to(&cast.laptop.user_id(), generation, kem).unwrap();
        let wraps = vec![Wrap { uid: cast.laptop.user_id(), epoch: next, generation, sealed: sealed.into() }];
        must(scribe.push_with(&story.id, &frame, wraps).await);
        story.laptop.sync().await.unwrap();
        let id = story.laptop.new_record_id();
        put(&story.laptop, id, "since Bo is back").await;
        story.laptop.add_member(cast.bo.user_id(), Role::Editor).await.unwrap();
        story.laptop.sync().await.unwrap();
        // A new tablet: what Bo had before is not there to help.
        let tablet = cast.server.device("new tablet").signs_in(&cast.bo_person).await.unwrap().account;
        let _others_may_be_set_apart = tablet.sync().await.unwrap();
        let of_bo = tablet.vault_by_id(story.id).await.unwrap().unwrap();
        assert_eq!(text(&of_bo, id).await.as_deref(), Some("since Bo is back"));
        // The bent link leads to the key of while Bo was away, not to the first, which he was given himself.
        assert_eq!(text(&of_bo, story.second).await.as_deref(), Some("bread"), "what is behind the link is not read");
        assert_eq!(of_bo.status().await.unwrap().set_aside.len(), 1);
        // On the wire it is signed: the server alone cannot bend it.
        let (story, volume) = cast.story_with_cas(Role::Editor).await;
        story.laptop.rotate().await.unwrap();
        let at = volume.frames.len();
        let lie = move |frames: &mut Vec<Vec<u8>>| {
            let end = frames[at].len();
            frames[at][end - 80] ^= 1;
        };
        cast.phone_catches(&story, "a bent link", FORGED, lie).await;
    }
    cast.nothing_leaked(&[]);
}

/// Nothing the server says makes a client take a new key, or take one from the server.
#[tokio::test(flavor = "multi_thread")]
async fn mal_038_no_word_of_the_server_makes_a_new_key() {
    let cast = Cast::new().await;
    let story = cast.story().await;
    story.phone.sync().await.unwrap();
    cast.server.network().forget();
    for code in [ErrorCode::StaleEpoch, ErrorCode::StaleControl, ErrorCode::RecordConflict, ErrorCode::BadSeen] {
        cast.server.network().behave(move |request, server| async move {
            if request.is(PUSH) {
                return Outcome::Answer(Reply::refusal(request.wants(), 409, code));
            }
            server.answer(&request).await
        });
        put(&story.phone, story.second, "from the phone").await;
        let _refused = story.phone.sync().await;
        let epoch = story.phone.status().await.unwrap().epoch;
        assert_eq!(epoch, 1, "{code:?}");
    }
    cast.server.network().behave_well();
    let controls = cast.server.network().calls(PUSH).into_iter().filter(|exchange| {
        let push: Push = exchange.request.read();
        let entry = selkie_protocol::log::Entry::parse(Frame::entry_bytes(&push.frame).unwrap()).unwrap().kind();
        entry == Kind::Control
    });
    assert_eq!(controls.count(), 0, "only records were pushed");
    // Two rotations, answered with the very same words, begin two keys.
    let mut commitments = std::collections::BTreeSet::new();
    for round in 0..times(4, 32) {
        story.phone.rotate().await.unwrap();
        assert_eq!(story.phone.status().await.unwrap().epoch, u32::try_from(round).unwrap() + 2);
    }
    for exchange in cast.server.network().calls(PUSH) {
        let push: Push = exchange.request.read();
        let entry = selkie_protocol::log::Entry::parse(Frame::entry_bytes(&push.frame).unwrap()).unwrap();
        if let selkie_protocol::log::Body::Control(Control::RemoveRotate(rotate)) = entry.body {
            commitments.insert(rotate.commitment);
        }
    }
    assert_eq!(commitments.len(), times(4, 32));
    cast.nothing_leaked(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mal_041_of_two_operations_made_at_once_one_stands_and_the_other_is_made_again() {
    let cast = Cast::with_cas().await;
    // An honest server: both get what they asked for, one after the other.
    let (story, _) = cast.story_with_cas(Role::Viewer).await;
    story.laptop.set_role(cast.bo.user_id(), Role::Owner).await.unwrap();
    story.bo.sync().await.unwrap();
    let (bo, cas) = (cast.bo.user_id(), cast.cas().user());
    let (by_ana, by_bo) = tokio::join!(story.laptop.set_role(cas, Role::Admin), story.bo.rotate());
    by_ana.unwrap();
    by_bo.unwrap();
    for vault in [&story.laptop, &story.bo, &story.phone] {
        vault.sync().await.unwrap();
    }
    assert_eq!(story.laptop.digest().await.unwrap(), story.bo.digest().await.unwrap());
    assert_eq!(story.laptop.status().await.unwrap().epoch, 2);
    let members = story.phone.members().await.unwrap();
    assert!(members.iter().any(|member| member.user == cas && member.role == Role::Admin), "{members:?}");
    assert!(members.iter().any(|member| member.user == bo && member.role == Role::Owner), "{members:?}");

    // A server that shows both as if neither had to give way.
    let (story, volume) = cast.story_with_cas(Role::Owner).await;
    let frame = volume.control(&cast.cas().first(), &Control::SetRole { user: bo, role: LogRole::Admin });
    story.laptop.rotate().await.unwrap();
    cast.phone_catches(&story, "both stand", FORGED, move |frames| frames.push(frame.clone())).await;
    cast.nothing_leaked(&[]);
}

/// A vault that Cas made and Ana is in.
async fn vault_of_cas(cast: &Cast) -> Volume {
    let mut volume = cast.cas().make_vault().await;
    let scribe = cast.cas().first();
    let ana = cast.laptop.user_id();
    let page: selkie_protocol::account::LogPage = must(scribe.get(&format!("/v1/people/{ana}/log?from=0")).await);
    let log = selkie_protocol::account_log::AccountLog::replay(page.entries.iter().map(|entry| &**entry)).unwrap();
    volume.admit_person(&scribe, &log, LogRole::Editor).await;
    volume
}

/// An entry that the server does not get: made at the end of what Cas has seen.
fn note_of_cas(volume: &Volume, cas: &Author, number: u64) -> Vec<u8> {
    sealed_note(volume, cas, number, |context, content| volume.key.seal(context, content).unwrap())
}

fn sealed_note(volume: &Volume, cas: &Author, number: u64, seal: impl Fn(&RecordContext, &[u8]) -> Vec<u8>) -> Vec<u8> {
    let (scribe, header) = (cas.first(), volume.next_header(&cas.first()));
    let context = RecordContext {
        user: header.user,
        device: header.device,
        dev_seq: header.dev_seq,
        index: 0,
        record: record(number),
        full: true,
        deps: Vec::new(),
    };
    let body = selkie_protocol::record::RecordBody::new("notes", Default::default(), b"by Cas".to_vec());
    let payload = seal(&context, &body.to_bytes());
    volume.data(&scribe, &NewChange { record: record(number), full: true, deps: &[], payload: &payload })
}

/// What stands after a position, as a device of Ana's is shown it.
async fn tail_of(cast: &Cast, vault: &selkie_client::Vault, after: usize) -> Vec<Vec<u8>> {
    vault.sync().await.unwrap();
    let last = cast.server.network().calls("GET /v1/vaults/*/log").pop().unwrap().request;
    let (frames, _) = selkie_e2e::liar::true_log(&cast.server.network().server(), &last, &vault.id()).await;
    frames[after..].to_vec()
}

/// Every key that was ever given to the server, sealed.
fn wraps_that_were_sent(cast: &Cast) -> Vec<(selkie_protocol::id::VaultId, Wrap)> {
    let mut wraps = Vec::new();
    for exchange in cast.server.network().calls(PUSH) {
        let vault = selkie_e2e::liar::vault_in(&exchange.request.path).unwrap();
        wraps.extend(exchange.request.read::<Push>().wraps.into_iter().map(|wrap| (vault, wrap)));
    }
    wraps
}

/// In Ana's name, after everything that is known, signed by somebody else.
fn in_anas_name(cast: &Cast, volume: &Volume, control: &Control, what: &str, server: &SigningKey) -> Vec<u8> {
    let (ana, device) = (cast.laptop.user_id(), cast.laptop.device_id());
    let header = volume.log.core().next_header(ana, device, 0, 1_700_000_000_000);
    let unsigned = header.with_body(Kind::Control, &control.to_bytes());
    let signature = match what {
        "signed by the server" => server.sign(Label::VAULT_ENTRY_SIG, &[&unsigned]),
        "signed by nobody" => selkie_protocol::sign::Signature([0; 64]),
        _ => {
            let entry = cast.cas().first().sign(&header, Kind::Control, &control.to_bytes());
            selkie_protocol::sign::Signature(entry[entry.len() - 64..].try_into().unwrap())
        }
    };
    Frame::write(&signed(unsigned, &signature), &[])
}
