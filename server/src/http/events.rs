//! Hints as server-sent events.
//!
//! Owns how a hint looks on the wire, the heartbeat, and the end of a stream with its session. What is hinted at is
//! decided in the room; nothing here is a fact.
//!
//! ```text
//! event: vault            data: VaultMoved, as JSON
//! event: resync           data: {}                      something may have been missed: poll
//! :                       a heartbeat
//! ```

use super::Rooms;
use super::error::ApiError;
use super::extract::Door;
use crate::auth::Caller;
use crate::sync::{Hint, Listening};
use actix_web::web::{Bytes, Data};
use actix_web::{HttpResponse, http::header};
use futures_util::Stream;
use futures_util::stream::unfold;
use selkie_protocol::Face;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

const CONTENT_TYPE: &str = "text/event-stream";
const HEARTBEAT_TEXT: &[u8] = b":\n\n";
const HEARTBEAT: Duration = Duration::from_secs(30);

pub(super) async fn events(door: Door, caller: Caller) -> Result<HttpResponse, ApiError> {
    let listening = door.logs().listen(&caller, door.from).await?;
    let rooms = door.rooms_handle();
    // A proxy that collects an answer before it passes it on would keep every hint for itself.
    let mut answer = HttpResponse::Ok();
    answer.content_type(CONTENT_TYPE).insert_header((header::HeaderName::from_static("x-accel-buffering"), "no"));
    Ok(answer.streaming(stream(rooms, caller, listening)))
}

fn stream(rooms: Data<Rooms>, caller: Caller, listening: Listening) -> impl Stream<Item = Result<Bytes, Infallible>> {
    let mut beats = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    unfold((rooms, caller, listening, beats), |(rooms, caller, mut listening, mut beats)| async move {
        let said = tokio::select! {
            hint = listening.next() => match hint? {
                Hint::LookAtSession if !rooms.auth.may_go_on(&caller).await.0 => return None,
                Hint::Resync => {
                    // A store that cannot be asked now is asked with the next beat.
                    let _asked_later = rooms.logs.look_again(&caller, &listening, None).await;
                    written(&Hint::Resync)
                }
                hint => written(&hint),
            },
            _ = beats.tick() => heartbeat(&rooms, &caller, &listening).await?,
        };
        Some((Ok(said), (rooms, caller, listening, beats)))
    })
}

/// `None` if the session is over. A store that cannot be asked says nothing about the session.
async fn heartbeat(rooms: &Rooms, caller: &Caller, listening: &Listening) -> Option<Bytes> {
    let (may_go_on, as_of) = rooms.auth.may_go_on(caller).await;
    if !may_go_on {
        return None;
    }
    match rooms.logs.look_again(caller, listening, as_of.as_ref()).await {
        Ok(true) => Some(written(&Hint::Resync)),
        Ok(false) | Err(_) => Some(Bytes::from_static(HEARTBEAT_TEXT)),
    }
}

fn written(hint: &Hint) -> Bytes {
    match hint {
        Hint::Moved(moved) => {
            let mut text = b"event: vault\ndata: ".to_vec();
            text.extend_from_slice(&Face::Json.encode(moved));
            text.extend_from_slice(b"\n\n");
            Bytes::from(text)
        }
        Hint::Resync => Bytes::from_static(b"event: resync\ndata: {}\n\n"),
        Hint::LookAtSession => Bytes::from_static(HEARTBEAT_TEXT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use selkie_protocol::id::VaultId;
    use selkie_protocol::vault::VaultMoved;

    #[test]
    fn a_hint_is_one_event() {
        let moved = Hint::Moved(VaultMoved { vid: VaultId([0; 32]), n: 7 });
        let vid = "A".repeat(43);
        let expected = format!("event: vault\ndata: {{\"vid\":\"{vid}\",\"n\":7}}\n\n");
        assert_eq!(written(&moved), expected);
        assert_eq!(written(&Hint::Resync), "event: resync\ndata: {}\n\n");
    }
}
