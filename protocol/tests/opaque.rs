//! OPAQUE through the wall: bytes in, bytes out, the right password and nothing else.

use selkie_protocol::opaque::{
    KE1_LENGTH, KE2_LENGTH, KE3_LENGTH, LOGIN_STATE_LENGTH, LoginFinished, LoginStarted, LoginState, RECORD_LENGTH,
    REGISTRATION_REQUEST_LENGTH, REGISTRATION_RESPONSE_LENGTH, Refused, RegistrationStarted, SERVER_SETUP_LENGTH,
    ServerSetup, registration_record,
};
use std::sync::LazyLock;

const PASSWORD: &[u8] = b"selkie/v1\x1flocalhost\x1fana\x1fcorrect horse";
const ANA: &[u8] = &[1; 16];
const BOB: &[u8] = &[2; 16];

/// Stretching a password takes its time, so those who only read share one registration.
struct Registered {
    server: ServerSetup,
    record: [u8; RECORD_LENGTH],
    export_key: Vec<u8>,
}

static SHARED: LazyLock<Registered> = LazyLock::new(|| {
    let server = ServerSetup::generate();
    let (record, export_key) = register(&server, PASSWORD, ANA);
    Registered { server, record, export_key }
});

fn register(server: &ServerSetup, password: &[u8], credential: &[u8]) -> ([u8; RECORD_LENGTH], Vec<u8>) {
    let started = RegistrationStarted::new(password).unwrap();
    assert_eq!(started.request.len(), REGISTRATION_REQUEST_LENGTH);
    let response = server.registration_response(&started.request, credential).unwrap();
    let finished = started.finish(password, &response).unwrap();
    assert_eq!(finished.server_public_key, server.public_key());
    (registration_record(&finished.record).unwrap(), finished.export_key.as_bytes().to_vec())
}

/// A whole sign-in up to KE3, with what the server keeps meanwhile.
fn log_in(
    server: &ServerSetup,
    record: Option<&[u8]>,
    password: &[u8],
    credential: &[u8],
) -> (LoginState, Result<LoginFinished, Refused>) {
    let started = LoginStarted::new(password).unwrap();
    assert_eq!(started.ke1.len(), KE1_LENGTH);
    let (state, ke2) = server.login_response(record, &started.ke1, credential).unwrap();
    (state, started.finish(password, &ke2))
}

#[test]
fn the_right_password_signs_in_and_both_sides_share_a_key() {
    let Registered { server, record, export_key } = &*SHARED;
    let (state, finished) = log_in(server, Some(record), PASSWORD, ANA);
    let finished = finished.unwrap();
    let state = LoginState::from_bytes(state.as_bytes()).unwrap();
    assert_eq!(state.finish(&finished.ke3).unwrap().as_bytes(), finished.session_key.as_bytes());
    assert_eq!(finished.export_key.as_bytes(), export_key, "the same at every sign-in");
    assert_eq!(finished.server_public_key, server.public_key());
}

#[test]
fn a_setup_is_the_same_after_it_was_stored() {
    let Registered { server, record, .. } = &*SHARED;
    let stored = server.to_bytes();
    assert_eq!(stored.len(), SERVER_SETUP_LENGTH);
    let restored = ServerSetup::from_bytes(&stored).unwrap();
    assert_eq!(restored.public_key(), server.public_key());
    assert!(log_in(&restored, Some(record), PASSWORD, ANA).1.is_ok());
}

#[test]
fn a_wrong_password_an_unknown_name_and_another_server_look_alike() {
    let Registered { server, record, .. } = &*SHARED;
    let mistyped = b"selkie/v1\x1flocalhost\x1fana\x1fcorrect Horse";
    assert_eq!(log_in(server, Some(record), mistyped, ANA).1.unwrap_err(), Refused);
    assert_eq!(log_in(server, None, PASSWORD, ANA).1.unwrap_err(), Refused);
    assert_eq!(log_in(server, Some(record), PASSWORD, BOB).1.unwrap_err(), Refused);
    assert_eq!(log_in(&ServerSetup::generate(), Some(record), PASSWORD, ANA).1.unwrap_err(), Refused);
}

#[test]
fn records_of_two_people_with_one_password_cannot_change_places() {
    let Registered { server, record, export_key } = &*SHARED;
    let (bobs, bobs_export_key) = register(server, PASSWORD, BOB);
    assert_ne!(&bobs_export_key, export_key);
    assert!(log_in(server, Some(&bobs), PASSWORD, ANA).1.is_err());
    assert!(log_in(server, Some(record), PASSWORD, BOB).1.is_err());
}

#[test]
fn the_server_refuses_a_last_message_that_is_not_of_this_sign_in() {
    let Registered { server, record, .. } = &*SHARED;
    let (state, finished) = log_in(server, Some(record), PASSWORD, ANA);
    let ke3 = finished.unwrap().ke3;
    let (other_state, _) = server.login_response(Some(record), &LoginStarted::new(PASSWORD).unwrap().ke1, ANA).unwrap();
    assert!(other_state.finish(&ke3).is_err());
    for at in 0..KE3_LENGTH {
        let mut bent = ke3.clone();
        bent[at] ^= 1;
        assert!(state.finish(&bent).is_err(), "byte {at}");
    }
    for wrong in [&ke3[..63], &[], &[ke3.as_slice(), &[0]].concat()] {
        assert!(state.finish(wrong).is_err());
    }
    assert!(state.finish(&ke3).is_ok());
}

#[test]
fn the_client_refuses_an_answer_bent_in_any_of_its_parts() {
    let Registered { server, record, .. } = &*SHARED;
    // One byte of each: evaluation, masking nonce, masked response (key, nonce, tag), server nonce, key share, MAC.
    for at in [3, 40, 70, 100, 150, 200, 230, 300] {
        let started = LoginStarted::new(PASSWORD).unwrap();
        let (_, mut ke2) = server.login_response(Some(record), &started.ke1, ANA).unwrap();
        ke2[at] ^= 1;
        assert_eq!(started.finish(PASSWORD, &ke2).unwrap_err(), Refused, "byte {at}");
    }
    for length in [0, 1, KE2_LENGTH - 1, KE2_LENGTH + 1] {
        let started = LoginStarted::new(PASSWORD).unwrap();
        let (_, ke2) = server.login_response(Some(record), &started.ke1, ANA).unwrap();
        let mut ke2 = ke2.to_vec();
        ke2.resize(length, 0);
        assert_eq!(started.finish(PASSWORD, &ke2).unwrap_err(), Refused, "{length} bytes");
    }
}

#[test]
fn an_answer_to_another_question_is_refused() {
    let Registered { server, record, .. } = &*SHARED;
    let (mine, another) = (LoginStarted::new(PASSWORD).unwrap(), LoginStarted::new(PASSWORD).unwrap());
    let (_, ke2) = server.login_response(Some(record), &another.ke1, ANA).unwrap();
    assert!(mine.finish(PASSWORD, &ke2).is_err());
}

/// Encodings that are no element of the group, or its neutral one.
fn bad_elements() -> Vec<[u8; 32]> {
    let mut odd = [0; 32];
    odd[0] = 1;
    // p, p + 2 and 2^255 - 1: not the smallest number for what they stand for.
    let mut p = [0xff; 32];
    (p[0], p[31]) = (0xed, 0x7f);
    let mut above = p;
    above[0] = 0xef;
    let mut highest = [0xff; 32];
    highest[31] = 0x7f;
    vec![[0; 32], odd, p, above, highest, [0xff; 32], [2; 32].map(|byte: u8| byte | 0x80)]
}

#[test]
fn the_server_takes_no_element_that_is_none() {
    let Registered { server, .. } = &*SHARED;
    let good = LoginStarted::new(PASSWORD).unwrap().ke1;
    for element in bad_elements() {
        assert!(server.registration_response(&element, ANA).is_err(), "{element:x?}");
        // The blinded element comes first, the key share last.
        for at in [0, KE1_LENGTH - 32] {
            let mut ke1 = good.clone();
            ke1[at..at + 32].copy_from_slice(&element);
            assert!(server.login_response(None, &ke1, ANA).is_err(), "{element:x?} at {at}");
        }
        let mut upload = SHARED.record;
        upload[..32].copy_from_slice(&element);
        assert!(registration_record(&upload).is_err(), "{element:x?} as the client's key");
    }
}

#[test]
fn the_server_takes_messages_of_their_length_only() {
    let Registered { server, record, .. } = &*SHARED;
    let ke1 = LoginStarted::new(PASSWORD).unwrap().ke1;
    let request = RegistrationStarted::new(PASSWORD).unwrap().request;
    for (cut, drawn) in [(&ke1[..95], [ke1.as_slice(), &[0]].concat()), (&[], vec![0; 1 << 20])] {
        assert!(server.login_response(Some(record), cut, ANA).is_err());
        assert!(server.login_response(Some(record), &drawn, ANA).is_err());
    }
    assert!(server.registration_response(&request[..31], ANA).is_err());
    assert!(server.registration_response(&[request.as_slice(), &[0]].concat(), ANA).is_err());
    assert!(registration_record(&record[..191]).is_err());
    assert!(registration_record(&[record.as_slice(), &[0]].concat()).is_err());
    assert!(server.login_response(Some(&record[..191]), &ke1, ANA).is_err(), "a damaged record");
    assert!(server.login_response(Some(&[record.as_slice(), &[0]].concat()), &ke1, ANA).is_err());
    assert!(ServerSetup::from_bytes(&server.to_bytes()[..127]).is_err());
    assert!(ServerSetup::from_bytes(&[server.to_bytes().as_slice(), &[0]].concat()).is_err());
    assert!(ServerSetup::from_bytes(&[]).is_err());
    assert!(LoginState::from_bytes(&[0; LOGIN_STATE_LENGTH + 1]).is_err());
}

#[test]
fn the_client_takes_no_element_that_is_none_and_not_its_own_back() {
    let Registered { server, record, .. } = &*SHARED;
    for element in bad_elements() {
        let started = RegistrationStarted::new(PASSWORD).unwrap();
        let mut response = server.registration_response(&started.request, ANA).unwrap();
        response[..32].copy_from_slice(&element);
        assert!(started.finish(PASSWORD, &response).is_err(), "{element:x?}");

        let started = LoginStarted::new(PASSWORD).unwrap();
        let (_, mut ke2) = server.login_response(Some(record), &started.ke1, ANA).unwrap();
        ke2[..32].copy_from_slice(&element);
        assert!(started.finish(PASSWORD, &ke2).is_err(), "{element:x?}");
    }

    let started = RegistrationStarted::new(PASSWORD).unwrap();
    let mut response = server.registration_response(&started.request, ANA).unwrap();
    response[..32].copy_from_slice(&started.request);
    assert!(started.finish(PASSWORD, &response).is_err(), "its own question is no answer to a registration");

    let started = LoginStarted::new(PASSWORD).unwrap();
    let (_, mut ke2) = server.login_response(Some(record), &started.ke1, ANA).unwrap();
    ke2[..32].copy_from_slice(&started.ke1[..32]);
    assert!(started.finish(PASSWORD, &ke2).is_err(), "its own question is no answer to a sign-in");

    let started = RegistrationStarted::new(PASSWORD).unwrap();
    assert!(started.finish(PASSWORD, &[0; REGISTRATION_RESPONSE_LENGTH + 1]).is_err());
}

#[test]
fn one_oprf_key_for_everybody_saves_no_guessing() {
    // A malicious server may answer all its users under one credential id. The names are in what is stretched.
    let Registered { server, .. } = &*SHARED;
    let (_, anas) = register(server, b"selkie/v1\x1flocalhost\x1fana\x1fcorrect horse", ANA);
    let (_, bobs) = register(server, b"selkie/v1\x1flocalhost\x1fbob\x1fcorrect horse", ANA);
    assert_ne!(anas, bobs);
}

#[test]
fn no_secret_shows_itself() {
    let Registered { server, record, .. } = &*SHARED;
    let (state, finished) = log_in(server, Some(record), PASSWORD, ANA);
    let finished = finished.unwrap();
    for shown in [
        format!("{server:?}"),
        format!("{state:?}"),
        format!("{:?}", finished.session_key),
        format!("{:?}", finished.export_key),
        format!("{:?}", LoginStarted::new(PASSWORD).unwrap()),
        format!("{:?}", RegistrationStarted::new(PASSWORD).unwrap()),
    ] {
        assert!(shown.ends_with("(***)"), "{shown}");
    }
}
