//! Attacks on the order and the end of a log: rows 43 to 50 and 60.

use std::time::Duration;

use selkie_client::{Error, Misbehaviour};
use selkie_e2e::liar::{head_of, true_log, vault_in};
use selkie_e2e::message::Reply;
use selkie_e2e::network::Outcome;
use selkie_protocol::log::{Entry, Frame, Head, SignedHead};
use selkie_protocol::vault::{LogFrames, Push, Pushed};

use super::cast::{Cast, put, text};

const LOG: &str = "GET /v1/vaults/*/log";
const PUSH: &str = "POST /v1/vaults/*/push";
const BROKEN: &[Misbehaviour] = &[Misbehaviour::ForgedEntry, Misbehaviour::VaultFork];

#[tokio::test(flavor = "multi_thread")]
async fn mal_043_045_046_052_060_what_is_not_the_log_is_not_taken_for_it() {
    let cast = Cast::new().await;
    // What the phone has not seen yet is three entries, by Ana, by Bo who had seen hers, and by Ana who had seen his.
    for dropped in 0..2 {
        let story = cast.story().await;
        let at = story.known + dropped;
        cast.phone_catches(&story, &format!("without entry {at}"), BROKEN, move |frames| drop(frames.remove(at))).await;
    }
    for order in [[0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let story = cast.story().await;
        let known = story.known;
        let lie = move |frames: &mut Vec<Vec<u8>>| {
            let tail = frames.split_off(known);
            frames.extend(order.map(|at| tail[at].clone()));
        };
        cast.phone_catches(&story, &format!("in the order {order:?}"), BROKEN, lie).await;
    }
    for (again, at) in [(0, 1), (0, 3), (1, 2), (2, 3)] {
        let story = cast.story().await;
        let known = story.known;
        let lie = move |frames: &mut Vec<Vec<u8>>| frames.insert(known + at, frames[known + again].clone());
        cast.phone_catches(&story, &format!("entry {again} again at {at}"), BROKEN, lie).await;
    }
    // What the phone itself has taken long ago.
    let story = cast.story().await;
    let lie = |frames: &mut Vec<Vec<u8>>| frames.push(frames[1].clone());
    cast.phone_catches(&story, "the second entry once more", BROKEN, lie).await;

    // An entry of another vault by the same people, under this vault's heads.
    let (story, other) = (cast.story().await, cast.story().await);
    let foreign = frames_of(&cast, &other.phone).await;
    let lie = move |frames: &mut Vec<Vec<u8>>| frames.push(foreign.last().unwrap().clone());
    cast.phone_catches(&story, "an entry of another vault", BROKEN, lie).await;
    // And the other vault's page, whole and signed, in place of this one's.
    let (story, ours, theirs) = {
        let story = cast.story().await;
        let ids = (story.id.to_string(), other.id.to_string());
        (story, ids.0, ids.1)
    };
    cast.server.network().behave(move |mut request, server| {
        request.path = request.path.replace(&ours, &theirs);
        async move { server.answer(&request).await }
    });
    cast.catches(&story.phone, "the page of another vault", &[Misbehaviour::ForgedHead]).await;

    // Single bits, all over an entry and what is beside it.
    for place in [0_usize, 5, 8, 40, 72, 88, 128, 170, 199, 226, 300, 390] {
        let story = cast.story().await;
        let known = story.known;
        let lie = move |frames: &mut Vec<Vec<u8>>| frames[known][place] ^= 1 << (place % 8);
        cast.phone_catches(&story, &format!("a bit of byte {place}"), BROKEN, lie).await;
    }
    cast.nothing_leaked(&[]);
}

/// Nothing that is signed says that there is more; so it is another device that says it.
#[tokio::test(flavor = "multi_thread")]
async fn mal_044_a_frozen_log_is_caught_when_another_device_tells_of_it() {
    let cast = Cast::new().await;
    cast.laptop.sync().await.unwrap();
    let story = cast.story().await;
    let known = story.known;
    cast.liar.shows(story.id, move |frames| frames.truncate(known));
    story.phone.sync().await.unwrap();
    assert_eq!(text(&story.phone, story.first).await.as_deref(), Some("milk"), "frozen, and nobody can tell yet");
    // The laptop notes in the account's own vault, as it does every hour, how far it has seen. That vault is shown.
    cast.liar.stops();
    cast.laptop_device.clock().advance(Duration::from_secs(2 * 3600));
    for _ in 0..2 {
        cast.laptop.sync().await.unwrap();
    }
    cast.liar.shows(story.id, move |frames| frames.truncate(known));
    let _caught_or_told = cast.phone.sync().await;
    let caught = story.phone.sync().await;
    assert!(matches!(&caught, Err(Error::Quarantined(it)) if it.kind == Misbehaviour::VaultRollback), "{caught:?}");
    assert_eq!(story.phone.export_evidence().await.unwrap().len(), 1);
    assert_eq!(text(&story.phone, story.first).await.as_deref(), Some("milk"), "what is here stays readable");
    cast.nothing_leaked(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mal_047_no_earlier_end_is_believed_whatever_was_restarted() {
    let mut cast = Cast::new().await;
    let mut earlier = 1;
    loop {
        let story = cast.story().await;
        story.phone.sync().await.unwrap();
        let n = usize::try_from(story.phone.digest().await.unwrap().n).unwrap();
        if earlier == n {
            break;
        }
        let again = if earlier.is_multiple_of(2) { cast.restart_phone(story.id).await } else { story.phone };
        cast.liar.shows(story.id, move |frames| frames.truncate(earlier));
        cast.catches(&again, &format!("back to {earlier} of {n}"), &[Misbehaviour::VaultRollback]).await;
        // That it was set apart survives a restart as well.
        if earlier == 1 {
            let again = cast.restart_phone(story.id).await;
            assert!(matches!(again.sync().await, Err(Error::Quarantined(_))));
        }
        earlier += 1;
    }
    assert!(earlier > 5, "only {earlier} earlier ends were tried");
    cast.nothing_leaked(&[]);
}

/// The same past, two servers, one key; each device is led to one of them, and later to the other.
#[tokio::test(flavor = "multi_thread")]
async fn mal_048_devices_that_were_forked_cannot_be_joined_again() {
    for (on_laptop, on_phone, expected) in [
        (1, 1, &[Misbehaviour::TwoHeads, Misbehaviour::VaultFork][..]),
        (1, 3, &[Misbehaviour::VaultRollback, Misbehaviour::VaultFork]),
        (3, 1, &[Misbehaviour::VaultFork, Misbehaviour::ForgedEntry]),
    ] {
        let cast = Cast::new().await;
        let story = cast.story().await;
        story.phone.sync().await.unwrap();
        let (cast, other) = cast.split().await;
        for number in 0..on_laptop {
            put(&story.laptop, story.laptop.new_record_id(), &format!("in one world {number}")).await;
            story.laptop.sync().await.unwrap();
        }
        cast.server.network().lead_to(other.address());
        for number in 0..on_phone {
            put(&story.phone, story.phone.new_record_id(), &format!("in the other world {number}")).await;
            story.phone.sync().await.unwrap();
        }
        cast.server.network().lead_to(cast.server.address());
        cast.catches(&story.phone, &format!("{on_laptop} here, {on_phone} there"), expected).await;
        cast.nothing_leaked(&[]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mal_049_what_was_acknowledged_can_neither_be_lost_nor_moved() {
    let cast = Cast::new().await;
    // The push never reaches the log, and is answered as if it had.
    for (further, expected) in
        [(1, &[Misbehaviour::VaultRollback][..]), (2, &[Misbehaviour::VaultRollback, Misbehaviour::VaultFork])]
    {
        let story = cast.story().await;
        story.phone.sync().await.unwrap();
        acknowledge_without_keeping(&cast, further);
        put(&story.phone, story.second, "acknowledged").await;
        let first_answer = story.phone.sync().await;
        cast.liar.stops();
        if further == 1 {
            assert_eq!(first_answer.unwrap().pushed, 1, "the server's word is believed, and kept");
            cast.catches(&story.phone, "an entry that was acknowledged is gone", expected).await;
        } else {
            let Err(Error::Quarantined(caught)) = first_answer else { panic!("{first_answer:?}") };
            assert!(expected.contains(&caught.kind), "{caught:?}");
        }
    }
    // Another entry stands where it was said to stand.
    let story = cast.story().await;
    story.phone.sync().await.unwrap();
    acknowledge_without_keeping(&cast, 1);
    put(&story.phone, story.second, "acknowledged").await;
    story.phone.sync().await.unwrap();
    cast.liar.stops();
    story.bo.sync().await.unwrap();
    put(&story.bo, story.second, "instead").await;
    story.bo.sync().await.unwrap();
    let moved = &[Misbehaviour::VaultFork, Misbehaviour::TwoHeads];
    cast.catches(&story.phone, "another entry stands there", moved).await;
    cast.nothing_leaked(&[]);
}

/// Whoever gets the file can check it without us: two words of one server, and they cannot both be true.
#[tokio::test(flavor = "multi_thread")]
async fn mal_050_two_heads_for_one_position_are_kept_as_a_proof_for_others() {
    let cast = Cast::new().await;
    let story = cast.story().await;
    story.phone.sync().await.unwrap();
    let liar = cast.liar.clone();
    cast.server.network().tamper_with_reply(LOG, move |reply| {
        reply.rewrite(|page: &mut LogFrames| {
            let head = SignedHead::parse(page.head.as_ref()).unwrap();
            page.head = liar.sign(&head, head.vault, Head { n: head.head.n, h: [7; 32] });
        });
    });
    let head_key = cast.liar.key().public_key();
    let evidence = {
        cast.catches(&story.phone, "another head", &[Misbehaviour::TwoHeads]).await;
        story.phone.export_evidence().await.unwrap().remove(0)
    };
    let record: serde_json::Value = serde_json::from_slice(&evidence).unwrap();
    let pinned = selkie_protocol::bytes::from_base64url(record["head_key"].as_str().unwrap()).unwrap();
    assert_eq!(pinned, head_key.0);
    let heads: Vec<SignedHead> = record["heads"]
        .as_array()
        .unwrap()
        .iter()
        .map(|head| selkie_protocol::bytes::from_base64url(head.as_str().unwrap()).unwrap())
        .map(|bytes| SignedHead::parse(&bytes).unwrap())
        .collect();
    assert!(heads.iter().all(|head| head.is_signed_by(&head_key)));
    let proofs = heads.iter().enumerate().flat_map(|(at, one)| heads[at + 1..].iter().map(move |two| (one, two)));
    assert!(proofs.into_iter().any(|(one, two)| one.contradicts(two)), "{heads:?}");
    cast.nothing_leaked(&[]);
}

/// Answers pushes by itself, from a log that nobody else is shown.
fn acknowledge_without_keeping(cast: &Cast, further: u64) {
    let liar = cast.liar.clone();
    cast.server.network().behave(move |request, server| {
        let liar = liar.clone();
        async move {
            if !request.is(PUSH) {
                return server.answer(&request).await;
            }
            let vault = vault_in(&request.path).unwrap();
            let (mut frames, honest) = true_log(&server, &request, &vault).await;
            let push: Push = request.read();
            // Whatever stands before it is the server's secret.
            let entry = Entry::parse(Frame::entry_bytes(&push.frame).unwrap()).unwrap().hash();
            frames.push(push.frame.0.clone());
            let mut head = head_of(&vault, &frames);
            if further > 1 {
                let n = head.n + further - 1;
                head = Head { n, h: selkie_protocol::log::chain(&[9; 32], n, &entry) };
            }
            let pushed = Pushed { n: head.n, head: liar.sign(&honest, vault, head) };
            Outcome::Answer(Reply::forged(request.wants(), 200, &pushed))
        }
    });
}

async fn frames_of(cast: &Cast, vault: &selkie_client::Vault) -> Vec<Vec<u8>> {
    vault.sync().await.unwrap();
    let mut frames = Vec::new();
    for exchange in cast.server.network().calls(LOG) {
        if vault_in(&exchange.request.path) == Some(vault.id()) {
            let page: LogFrames = exchange.reply().read();
            frames.extend(page.frames.into_iter().map(|frame| frame.0));
        }
    }
    assert!(!frames.is_empty());
    frames
}
