//! A server that was restored from a backup, honestly or not: rows 61 and 62.

use selkie_client::{Error, Misbehaviour, Role};
use selkie_e2e::liar::{head_of, true_log};
use selkie_e2e::scribe::must;
use selkie_protocol::ErrorCode;
use selkie_protocol::log::{Kind, SignedHead};
use selkie_protocol::vault::{LogFrames, RestoreTail, TailRestored};

use super::cast::{Cast, Story, put, text, view};

const LOG: &str = "GET /v1/vaults/*/log";

/// Three devices put back between them what none of them was asked for.
#[tokio::test(flavor = "multi_thread")]
async fn mal_061_an_honest_restore_heals_byte_for_byte() {
    let cast = Cast::new().await;
    let story = cast.story().await;
    let (cast, backup) = cast.backup().await;
    for number in 0..4 {
        for vault in [&story.laptop, &story.bo, &story.phone] {
            vault.sync().await.unwrap();
            put(vault, vault.new_record_id(), &format!("since the backup {number}")).await;
            vault.sync().await.unwrap();
        }
    }
    for vault in [&story.laptop, &story.bo, &story.phone] {
        vault.sync().await.unwrap();
    }
    let before = whole_log(&cast, &story).await;
    let digest = story.laptop.digest().await.unwrap();

    let cast = cast.restored(backup).await;
    let restored: u64 = {
        let mut restored = 0;
        for vault in [&story.phone, &story.bo, &story.laptop] {
            restored += vault.sync().await.unwrap().restored;
        }
        restored
    };
    assert_eq!(restored, 12, "each entry was put back once");
    for vault in [&story.laptop, &story.bo, &story.phone] {
        assert_eq!(vault.digest().await.unwrap(), digest);
    }
    assert!(whole_log(&cast, &story).await == before, "another log than before");
    put(&story.bo, story.second, "life goes on").await;
    story.bo.sync().await.unwrap();
    story.phone.sync().await.unwrap();
    assert_eq!(text(&story.phone, story.second).await.as_deref(), Some("life goes on"));
    cast.nothing_leaked(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mal_061_a_step_back_that_is_no_restore_is_a_lie() {
    // Without a new life of the server.
    let cast = Cast::new().await;
    let story = cast.story().await;
    story.phone.sync().await.unwrap();
    let (cast, backup) = cast.backup().await;
    put(&story.phone, story.second, "since the backup").await;
    story.phone.sync().await.unwrap();
    let cast = cast.replaced(backup).await;
    cast.catches(&story.phone, "a step back", &[Misbehaviour::VaultRollback]).await;

    // With one it can be an honest restore, after which somebody else wrote first. What was lost has no place to go
    // back to then: the device says how much it is, believes nothing of what stands there now, and keeps what it had.
    let story = cast.story().await;
    story.phone.sync().await.unwrap();
    let (cast, backup) = cast.backup().await;
    put(&story.phone, story.second, "since the backup").await;
    story.phone.sync().await.unwrap();
    let cast = cast.restored(backup).await;
    story.bo.sync().await.unwrap();
    put(&story.bo, story.second, "instead").await;
    story.bo.sync().await.unwrap();
    let before = view(&story.phone).await;
    for _ in 0..2 {
        let told = story.phone.sync().await;
        assert!(matches!(told, Err(Error::ServerBehind { missing: 1 })), "{told:?}");
        assert_eq!(view(&story.phone).await, before);
    }
    assert_eq!(text(&story.phone, story.second).await.as_deref(), Some("since the backup"));
    cast.nothing_leaked(&[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn mal_062_nothing_comes_in_by_the_door_for_lost_entries_but_what_was_lost() {
    let cast = Cast::with_cas().await;
    let (story, known) = cast.story_with_cas(Role::Editor).await;
    let scribe = cast.cas().first();
    let (cast, backup) = cast.backup().await;
    let mut volume = known.clone();
    let mut pen = volume.pen(&scribe);
    for number in 0..3 {
        let written = pen.write(&[selkie_e2e::scribe::Line::new(selkie_e2e::scribe::record(number), b"by Cas")]);
        must(pen.push(&written).await);
    }
    volume.catches_up(&scribe).await;
    let page: LogFrames = must(scribe.log_after(&story.id, 0, 500).await);
    let signed = SignedHead::parse(page.head.as_ref()).unwrap();
    let tail: Vec<Vec<u8>> = volume.frames[known.frames.len()..].to_vec();
    assert_eq!(tail.len(), 3);

    let cast = cast.restored(backup).await;
    let bent = |at: usize, place: usize| {
        let mut tail = tail.clone();
        tail[at][place] ^= 1;
        tail
    };
    let inserted = {
        let header = known.next_header(&scribe);
        let frame = selkie_protocol::log::Frame::write(&scribe.sign(&header, Kind::Heartbeat, &[]), &[]);
        [vec![frame], tail.clone()].concat()
    };
    let other_key = selkie_protocol::cipher::SigningKey::generate();
    let forged = {
        let head = head_of(&story.id, &[known.frames.clone(), inserted.clone()].concat());
        let said = SignedHead::signed_bytes(&signed.incarnation, &story.id, &head, signed.unix_ms);
        let signature = other_key.sign(selkie_protocol::hash::Label::HEAD, &[&said]);
        SignedHead { head, signature, ..signed.clone() }
    };
    let attempts: Vec<(&str, Vec<Vec<u8>>, SignedHead)> = vec![
        ("one is missing", tail[1..].to_vec(), signed.clone()),
        ("the last is missing", tail[..2].to_vec(), signed.clone()),
        ("in another order", tail.iter().rev().cloned().collect(), signed.clone()),
        ("a bit of an entry", bent(1, 240), signed.clone()),
        (
            "a bit of a content",
            {
                let end = tail[2].len() - 1;
                bent(2, end)
            },
            signed.clone(),
        ),
        ("one is inserted", inserted.clone(), signed.clone()),
        ("one is inserted, and the head is of another's making", inserted, forged),
        ("one is repeated", vec![tail[0].clone(), tail[0].clone(), tail[1].clone()], signed.clone()),
        ("nothing at all", Vec::new(), signed.clone()),
    ];
    for (what, frames, head) in attempts {
        let refused = put_back(&scribe, &story, frames, &head).await.unwrap_err();
        let codes = [ErrorCode::RestoreRefused, ErrorCode::EntryRefused, ErrorCode::InvalidField];
        assert!(codes.contains(&refused.body.code), "{what}: {refused:?}");
        let now: LogFrames = must(scribe.log_after(&story.id, 0, 500).await);
        assert_eq!(now.frames.len(), known.frames.len(), "{what}: something came in");
    }
    // The very same entries are welcome, and end where they ended.
    let restored = must(put_back(&scribe, &story, tail, &signed).await);
    let head = SignedHead::parse(restored.head.as_ref()).unwrap();
    assert_eq!(head.head, volume.log.head());
    story.phone.sync().await.unwrap();
    cast.nothing_leaked(&[]);
}

async fn put_back(
    scribe: &selkie_e2e::scribe::Scribe,
    story: &Story,
    frames: Vec<Vec<u8>>,
    head: &SignedHead,
) -> selkie_e2e::caller::Answer<TailRestored> {
    let head = selkie_protocol::vault::SignedHeadBytes::try_from_slice(&head.to_bytes()).unwrap();
    let message = RestoreTail { frames: frames.into_iter().map(Into::into).collect(), rest: None, head };
    scribe.post(&format!("/v1/vaults/{}/restore-tail", story.id), &message).await
}

/// The vault's log, byte for byte, as a member is shown it.
async fn whole_log(cast: &Cast, story: &Story) -> Vec<Vec<u8>> {
    story.laptop.sync().await.unwrap();
    let last = cast.server.network().calls(LOG).pop().unwrap().request;
    true_log(&cast.server.network().server(), &last, &story.id).await.0
}
