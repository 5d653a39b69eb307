//! Attacks on what is written in a vault: rows 51 to 59.

use selkie_client::{Misbehaviour, Role};
use selkie_e2e::liar::with_payloads;
use selkie_e2e::network::Outcome;
use selkie_e2e::scribe::{Volume, must, record};
use selkie_protocol::bytes::Fixed;
use selkie_protocol::cipher::{DeviceKey, SigningKey};
use selkie_protocol::hash::Label;
use selkie_protocol::id::ChangeId;
use selkie_protocol::log::{Body, Checkpoint, Entry, Frame, HEADER_LENGTH, Kind, NewChange, signed, write_note};
use selkie_protocol::vault::{Beginning, CheckpointItems, LogFrames};

use super::cast::{Cast, Story, put, text};

const FORGED: &[Misbehaviour] = &[Misbehaviour::ForgedEntry];
const FALSE: &[Misbehaviour] = &[Misbehaviour::FalseCheckpoint];

#[tokio::test(flavor = "multi_thread")]
async fn mal_051_053_058_a_content_stands_where_its_author_put_it() {
    let cast = Cast::with_cas().await;
    // Two records in one entry, and one more after it: the payloads change places.
    for (what, swap) in [
        ("within an entry", (|first, second, third| ([second, first], third)) as Swap),
        ("between two entries", |first, second, third| ([third, second], first)),
        ("one twice", |first, second, third| ([first, first], second.min(third))),
    ] {
        let story = cast.story().await;
        story.phone.sync().await.unwrap();
        let known = usize::try_from(story.phone.digest().await.unwrap().n).unwrap();
        story.laptop.sync().await.unwrap();
        put(&story.laptop, story.first, "one").await;
        put(&story.laptop, story.second, "two").await;
        story.laptop.sync().await.unwrap();
        put(&story.laptop, story.first, "six").await;
        story.laptop.sync().await.unwrap();
        let lie = move |frames: &mut Vec<Vec<u8>>| {
            let (both, last) = (payloads(&frames[known]), payloads(&frames[known + 1]));
            let ([a, b], c) = swap(&both[0], &both[1], &last[0]);
            let changed = (with_payloads(&frames[known], &[a, b]), with_payloads(&frames[known + 1], &[c]));
            (frames[known], frames[known + 1]) = changed;
        };
        cast.phone_catches(&story, what, FORGED, lie).await;
    }
    // The content of another vault, and of the same record's earlier change.
    let other = cast.story().await;
    let foreign = frames_after(&cast, &other, other.known).await;
    let story = cast.story().await;
    let known = story.known;
    let lie = move |frames: &mut Vec<Vec<u8>>| {
        frames[known] = with_payloads(&frames[known], &[&payloads(&foreign[0])[0]]);
    };
    cast.phone_catches(&story, "of another vault", FORGED, lie).await;
    let story = cast.story().await;
    let known = story.known;
    let lie = move |frames: &mut Vec<Vec<u8>>| {
        frames[known + 2] = with_payloads(&frames[known + 2], &[&payloads(&frames[known + 1])[0]]);
    };
    cast.phone_catches(&story, "what the record said before", FORGED, lie).await;

    // What a change says it was made on top of is signed with it.
    let story = cast.story().await;
    let known = story.known;
    let lie = move |frames: &mut Vec<Vec<u8>>| {
        let deps = 4 + HEADER_LENGTH + 2 + 16 + 2;
        frames[known + 1][deps + 31] ^= 1;
    };
    cast.phone_catches(&story, "another change before it", FORGED, lie).await;

    // A member who signs it: on top of what was long superseded, or of nothing.
    for on_top in [false, true] {
        let (story, volume) = cast.story_with_cas(Role::Editor).await;
        let stale: Vec<ChangeId> = if on_top { vec![first_change(&volume, &story)] } else { Vec::new() };
        let payload = vec![0x5e; 104];
        let change = NewChange { record: story.first, full: true, deps: &stale, payload: &payload };
        let frame = volume.data(&cast.cas().first(), &change);
        assert!(cast.cas().first().push(&story.id, &frame).await.is_err(), "an honest server refuses it");
        let lie = move |frames: &mut Vec<Vec<u8>>| frames.push(frame.clone());
        cast.phone_catches(&story, "an older version as the newest", FORGED, lie).await;
    }

    // A member copies somebody's sealed content under their own name: it stands, and opens for nobody.
    let (story, volume) = cast.story_with_cas(Role::Editor).await;
    let stolen = payloads(&volume.frames[story.known])[0].clone();
    let change = NewChange { record: record(9), full: true, deps: &[], payload: &stolen };
    must(cast.cas().first().push(&story.id, &volume.data(&cast.cas().first(), &change)).await);
    story.phone.sync().await.unwrap();
    assert!(story.phone.get(record(9)).await.unwrap().is_none());
    assert_eq!(story.phone.status().await.unwrap().set_aside.len(), 1);
    assert_eq!(text(&story.phone, story.second).await.as_deref(), Some("bread"), "the content is where it was");
    cast.nothing_leaked(&[volume.epoch_key().to_bytes().as_slice()]);
}

type Swap = for<'a> fn(&'a Vec<u8>, &'a Vec<u8>, &'a Vec<u8>) -> ([&'a Vec<u8>; 2], &'a Vec<u8>);

#[tokio::test(flavor = "multi_thread")]
async fn mal_054_whatever_is_live_must_be_shown() {
    let cast = Cast::new().await;
    // Of the three entries the phone has not seen, the second is superseded by the third.
    for pruned in [0, 2] {
        let story = cast.story().await;
        let at = story.known + pruned;
        let lie = move |frames: &mut Vec<Vec<u8>>| frames[at] = without_payloads(&frames[at]);
        cast.phone_catches(&story, &format!("without the content of {at}"), &[Misbehaviour::Withheld], lie).await;
    }
    let story = cast.story().await;
    let at = story.known + 1;
    cast.liar.shows(story.id, move |frames| frames[at] = without_payloads(&frames[at]));
    story.phone.sync().await.unwrap();
    assert_eq!(text(&story.phone, story.first).await.as_deref(), Some("milk, honey and tea"), "an honest server may");
    cast.liar.stops();
    cast.nothing_leaked(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mal_055_056_a_checkpoint_says_what_is_there() {
    let cast = Cast::with_cas().await;
    for what in &FALSE_CHECKPOINTS {
        let (story, volume) = cast.story_with_cas(Role::Editor).await;
        let frame = false_checkpoint(&volume, &cast, &story, what);
        // What was deleted, a server cannot know: that is for whoever can read it to judge.
        let stands = cast.cas().first().push(&story.id, &frame).await.is_ok();
        assert_eq!(stands, *what == NOT_DELETED, "{what}: an honest server");
        let lie = move |frames: &mut Vec<Vec<u8>>| {
            if !stands {
                frames.push(frame.clone());
            }
        };
        let expected = [FALSE[0], FORGED[0], Misbehaviour::VaultFork];
        cast.phone_catches(&story, what, &expected, lie).await;
    }
    let (story, volume) = cast.story_with_cas(Role::Viewer).await;
    let (body, _) = volume.log.checkpoint(&[]).unwrap();
    let scribe = cast.cas().first();
    let frame = Frame::write(&scribe.sign(&volume.next_header(&scribe), Kind::Checkpoint, &body), &[]);
    cast.phone_catches(&story, "a viewer's checkpoint", FORGED, move |frames| frames.push(frame.clone())).await;
    cast.nothing_leaked(&[]);
}

/// A server alone, and a device that begins with a checkpoint.
#[tokio::test(flavor = "multi_thread")]
async fn mal_055_a_device_that_begins_with_a_checkpoint_is_shown_that_one_or_nothing() {
    let cast = Cast::new().await;
    let mut stories = Vec::new();
    for _ in 0..BENT_BEGINNINGS.len() {
        let story = cast.story().await;
        story.laptop.write_checkpoint().await.unwrap();
        put(&story.laptop, story.second, "after the checkpoint").await;
        story.laptop.sync().await.unwrap();
        stories.push(story);
    }
    cast.server.prepare_checkpoints().await;
    let ids: Vec<_> = stories.iter().map(|story| story.id).collect();
    cast.server.network().behave(move |request, server| {
        let place = selkie_e2e::liar::vault_in(&request.path).and_then(|id| ids.iter().position(|one| *one == id));
        async move {
            let mut outcome = server.answer(&request).await;
            if let (Some(place), Outcome::Answer(reply)) = (place, &mut outcome)
                && reply.is_success()
            {
                let (bend_start, bend_page, _) = BENT_BEGINNINGS[place];
                if request.is("GET /v1/vaults/*/checkpoint") {
                    reply.rewrite(bend_start);
                } else if request.is("GET /v1/vaults/*/checkpoint/*/pages/*") {
                    reply.rewrite(bend_page);
                }
            }
            outcome
        }
    });
    let newcomer = cast.server.device("desk").beginning_with_checkpoints_from(3);
    let account = newcomer.signs_in(&cast.ana).await.unwrap().account;
    let outcome = account.sync().await.unwrap();
    for (story, (_, _, what)) in stories.iter().zip(BENT_BEGINNINGS) {
        let (_, of_this) = outcome.vaults.iter().find(|(id, _)| *id == story.id).unwrap();
        let here = account.vault_by_id(story.id).await.unwrap().unwrap();
        if *what == "the truth" {
            of_this.as_ref().unwrap();
            assert_eq!(text(&here, story.second).await.as_deref(), Some("after the checkpoint"));
            assert_eq!(here.status().await.unwrap().trust, selkie_client::KeptTrust::OwnCheckpoint);
            continue;
        }
        let error = of_this.as_ref().unwrap_err();
        assert!(matches!(error.word(), "quarantined" | "server_misbehaved"), "{what}: {error:?}");
        assert!(here.records("notes").await.unwrap().is_empty(), "{what}: something of it was believed");
        assert_eq!(here.export_evidence().await.unwrap().len(), 1, "{what}");
    }
    cast.nothing_leaked(&[]);
}

/// How the server bends the beginning, how it bends a page, and what that is called.
type Bent = (fn(&mut Beginning), fn(&mut CheckpointItems), &'static str);
const BENT_BEGINNINGS: &[Bent] = &[
    (|_| (), |_| (), "the truth"),
    (|start| start.entry.0[230] ^= 1, |_| (), "a bit of the checkpoint"),
    (|start| start.before_h = Fixed([7; 32]), |_| (), "another chain before it"),
    (|start| start.entry_hashes.0[5] ^= 1, |_| (), "another entry before it"),
    (|start| drop(start.entry_hashes.0.drain(..32)), |_| (), "an entry fewer before it"),
    (|start| start.page_hashes.0[0] ^= 1, |_| (), "another page"),
    (|_| (), |page| drop(page.items.pop()), "a change fewer than contents"),
    (
        |_| (),
        |page| {
            page.items.pop();
            page.payloads.pop();
        },
        "a change fewer",
    ),
    (|_| (), |page| page.items.reverse(), "in another order"),
    (|_| (), |page| page.payloads.reverse(), "contents in another order"),
    (|_| (), |page| page.payloads[0].0[30] ^= 1, "a bit of a content"),
    (|_| (), |page| page.items[0].0[70] ^= 1, "a bit of a change"),
];

const NOT_DELETED: &str = "a note of what was not deleted";
const FALSE_CHECKPOINTS: [&str; 8] = [
    "a record left out",
    "a record too many",
    "another content",
    "of an earlier position",
    "of another log",
    "a device forgotten",
    NOT_DELETED,
    "a note of nothing that is there",
];

/// A checkpoint that Cas signs and that is not right.
fn false_checkpoint(volume: &Volume, cast: &Cast, story: &Story, what: &str) -> Vec<u8> {
    let scribe = cast.cas().first();
    let (mut body, note) = volume.log.checkpoint(&[]).unwrap();
    assert!(note.is_none());
    let mut header = volume.next_header(&scribe);
    let mut beside = Vec::new();
    // at_n 8 | at_h 32 | live_count 8 | page_size 4 | page_count 4 | pages_root 32 | note_hash 32 | ndev 2 | devices
    match what {
        "a record left out" => body[47] -= 1,
        "a record too many" => body[47] += 1,
        "another content" => body[60] ^= 1,
        "of an earlier position" => {
            header.seen.n -= 1;
            header.seen.h = volume.log.trail().at(header.seen.n).unwrap();
            body[..8].copy_from_slice(&header.seen.n.to_be_bytes());
            body[8..40].copy_from_slice(&header.seen.h);
        }
        "of another log" => {
            header.seen.h[0] ^= 1;
            body[8..40].copy_from_slice(&header.seen.h);
        }
        "a device forgotten" => {
            let devices = u16::from_be_bytes([body[120], body[121]]);
            body[120..122].copy_from_slice(&(devices - 1).to_be_bytes());
            body.truncate(body.len() - 56);
        }
        _ => {
            let records = [if what == NOT_DELETED { story.second } else { record(77) }];
            let (bytes, hash) = write_note(&records);
            // Right in everything else: what is left is what is named in the root.
            let root = volume.log.live().root_without(&records);
            body[40..48].copy_from_slice(&root.live.to_be_bytes());
            body[56..88].copy_from_slice(&root.pages);
            body[88..120].copy_from_slice(&hash);
            beside = bytes;
        }
    }
    Checkpoint::parse(&body).expect("well formed, and false");
    Frame::write(&scribe.sign(&header, Kind::Checkpoint, &body), &beside)
}

#[tokio::test(flavor = "multi_thread")]
async fn mal_057_nothing_is_written_in_anybodys_name() {
    let cast = Cast::with_cas().await;
    let payload = vec![0x5e; 104];
    let change = || NewChange { record: record(1), full: true, deps: &[], payload: &payload };
    // By Bo, signed by whatever a server has.
    let keys = [SigningKey::from_seed(&cast.liar.key().seed()), SigningKey::generate()];
    for key in &keys {
        let (story, volume) = cast.story_with_cas(Role::Editor).await;
        let header = volume.log.core().next_header(cast.bo.user_id(), cast.bo.device_id(), 0, 5);
        let unsigned = header.with_body(Kind::Data, &selkie_protocol::log::Data::write(&[change()]).unwrap());
        let signature = key.sign(Label::VAULT_ENTRY_SIG, &[&unsigned]);
        let frame = Frame::write(&signed(unsigned, &signature), &payload);
        cast.phone_catches(&story, "by Bo", FORGED, move |frames| frames.push(frame.clone())).await;
    }
    // By a device that Bo never had; by Bo on Cas's device; by Cas, who only reads.
    for what in ["a device nobody certified", "her device, his name", "a viewer"] {
        let (story, volume) = cast.story_with_cas(Role::Viewer).await;
        let scribe = cast.cas().first();
        let mut header = volume.next_header(&scribe);
        if what != "a viewer" {
            header.user = cast.bo.user_id();
        }
        let frame = if what == "a device nobody certified" {
            let stranger = DeviceKey::generate();
            header.device = stranger.id();
            let unsigned = header.with_body(Kind::Data, &selkie_protocol::log::Data::write(&[change()]).unwrap());
            let signature = stranger.sign(Label::VAULT_ENTRY_SIG, &[&unsigned]);
            Frame::write(&signed(unsigned, &signature), &payload)
        } else {
            volume.data_under(&header, &scribe, &change())
        };
        cast.phone_catches(&story, what, FORGED, move |frames| frames.push(frame.clone())).await;
    }
    cast.nothing_leaked(&[]);
}

type Break = fn(&mut Vec<u8>);

/// Whatever comes instead of a log, the answer is a word and no fall.
#[tokio::test(flavor = "multi_thread")]
async fn mal_059_lengths_that_lie_end_in_a_word() {
    let cast = Cast::with_cas().await;
    let broken: [(&str, Break); 8] = [
        ("nothing", |frame| frame.clear()),
        ("a length and no more", |frame| frame.truncate(4)),
        ("a length of four thousand million", |frame| frame[..4].copy_from_slice(&[0xff; 4])),
        ("a length of nothing", |frame| frame[..4].copy_from_slice(&[0; 4])),
        ("half of it", |frame| frame.truncate(frame.len() / 2)),
        ("a body of four thousand million", |frame| frame[4 + 216..4 + 220].copy_from_slice(&[0xff; 4])),
        ("more changes than are there", |frame| frame[4 + 220..4 + 222].copy_from_slice(&[0xff; 2])),
        ("an unknown mark beside it", |frame| {
            let length = u32::from_be_bytes(frame[..4].try_into().unwrap()) as usize;
            frame[4 + length] = 9;
        }),
    ];
    for (what, breaks) in broken {
        let story = cast.story().await;
        let known = story.known;
        cast.phone_catches(&story, what, FORGED, move |frames| breaks(&mut frames[known])).await;
    }
    // Messages that promise more than they have.
    let story = cast.story().await;
    for body in [
        &[0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..],
        &[0x5b, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0],
        &[0x9f; 4000],
        &[0xd8; 4000],
        &[],
        &[0xbf, 0x66],
    ] {
        let body = body.to_vec();
        cast.server.network().behave(move |request, server| {
            let body = body.clone();
            async move {
                let mut outcome = server.answer(&request).await;
                if let (true, Outcome::Answer(reply)) = (request.is("GET /v1/vaults/*/log"), &mut outcome) {
                    reply.body = body;
                }
                outcome
            }
        });
        let answer = story.phone.sync().await;
        assert_eq!(answer.as_ref().unwrap_err().word(), "unsupported_protocol", "{answer:?}");
    }
    // A page that promises more and has nothing, for ever.
    cast.server.network().tamper_with_reply("GET /v1/vaults/*/log", |reply| {
        reply.rewrite(|page: &mut LogFrames| page.frames.clear());
    });
    let rollback = &[Misbehaviour::VaultRollback];
    cast.catches(&story.phone, "an empty page before the end", rollback).await;
    cast.server.network().behave_well();
    // A member who seals nonsense disturbs nobody but the reader of that record.
    let (story, volume) = cast.story_with_cas(Role::Editor).await;
    let payload = vec![0; 104];
    let change = NewChange { record: record(1), full: true, deps: &[], payload: &payload };
    must(cast.cas().first().push(&story.id, &volume.data(&cast.cas().first(), &change)).await);
    story.phone.sync().await.unwrap();
    assert_eq!(story.phone.status().await.unwrap().set_aside.len(), 1);
    cast.nothing_leaked(&[]);
}

fn payloads(frame: &[u8]) -> Vec<Vec<u8>> {
    let frame = Frame::parse(frame).unwrap();
    (0..).map_while(|index| frame.payload(index).map(<[u8]>::to_vec)).collect()
}

fn without_payloads(frame: &[u8]) -> Vec<u8> {
    Frame::parse(frame).unwrap().keeping(|_| false)
}

/// The change that was the record's first.
fn first_change(volume: &Volume, story: &Story) -> ChangeId {
    let entries = volume.frames.iter().map(|frame| Entry::parse(Frame::entry_bytes(frame).unwrap()).unwrap());
    for entry in entries {
        if let Body::Data(data) = &entry.body
            && let Some(change) = data.changes().find(|change| change.record == story.first)
        {
            return change.id(&story.id, &entry.header.device, entry.header.dev_seq);
        }
    }
    panic!("nobody wrote it")
}

async fn frames_after(cast: &Cast, story: &Story, after: usize) -> Vec<Vec<u8>> {
    story.phone.sync().await.unwrap();
    let last = cast.server.network().calls("GET /v1/vaults/*/log").pop().unwrap().request;
    let (frames, _) = selkie_e2e::liar::true_log(&cast.server.network().server(), &last, &story.id).await;
    frames[after..].to_vec()
}
