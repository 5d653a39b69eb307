//! The test vectors of RFC 9807, appendix C.1, against the OPAQUE implementation behind the wall.
//!
//! The suite is ours but for the stretching, which the vectors leave out. opaque-ke takes its randomness from a caller,
//! so the vectors' nonces, seeds and blinds can be handed in; a blind is drawn as 64 bytes and reduced, so a vector's
//! 32 bytes are followed by zeros. What cannot be driven from outside: the intermediate values, which the library
//! computes but does not show, and the vectors over other groups, which this suite does not have. C.1.1 has no
//! identities, as ours; C.1.2 has them.

use opaque_ke::key_exchange::tripledh::TripleDh;
use opaque_ke::ksf::Identity;
use opaque_ke::{
    CipherSuite, ClientLogin, ClientLoginFinishParameters, ClientRegistration, ClientRegistrationFinishParameters,
    CredentialFinalization, CredentialRequest, CredentialResponse, Identifiers, RegistrationRequest,
    RegistrationResponse, RegistrationUpload, Ristretto255, ServerLogin, ServerLoginParameters, ServerRegistration,
    ServerSetup,
};
use rand08::{CryptoRng, Error, RngCore};
use serde_json::Value;

struct Suite;

impl CipherSuite for Suite {
    type OprfCs = Ristretto255;
    type KeyExchange = TripleDh<Ristretto255, sha2_010::Sha512>;
    type Ksf = Identity;
}

/// Gives out what it was given, and nothing twice.
struct Script(Vec<u8>);

impl Script {
    fn new(parts: &[&[u8]]) -> Self {
        Script(parts.concat())
    }

    fn is_over(&self) {
        assert!(self.0.is_empty(), "{} bytes of the script were not asked for", self.0.len());
    }
}

impl RngCore for Script {
    fn next_u32(&mut self) -> u32 {
        unimplemented!("opaque-ke asks for bytes")
    }

    fn next_u64(&mut self) -> u64 {
        unimplemented!("opaque-ke asks for bytes")
    }

    fn fill_bytes(&mut self, out: &mut [u8]) {
        let rest = self.0.split_off(out.len());
        out.copy_from_slice(&self.0);
        self.0 = rest;
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl CryptoRng for Script {}

struct Vector(Value);

impl Vector {
    fn get(&self, name: &str) -> Vec<u8> {
        self.find(name).unwrap_or_else(|| panic!("the vector has no {name}"))
    }

    fn find(&self, name: &str) -> Option<Vec<u8>> {
        let text = self.0.get(name)?.as_str()?;
        Some((0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect())
    }

    #[track_caller]
    fn is(&self, name: &str, bytes: &[u8]) {
        assert_eq!(self.get(name), bytes, "{name}");
    }
}

fn follow(vector: &Vector) {
    let v = |name: &str| vector.get(name);
    let (client, server) = (vector.find("client_identity"), vector.find("server_identity"));
    let identifiers = Identifiers { client: client.as_deref(), server: server.as_deref() };
    let (password, context, zeros) = (v("password"), v("context"), [0; 32]);
    let credential = v("credential_identifier");

    // The setup's last part stands for users who do not exist; any key will do.
    let setup = [v("oprf_seed"), v("server_private_key"), v("server_public_key")].concat();
    let setup = ServerSetup::<Suite>::deserialize(&setup).unwrap();
    vector.is("server_public_key", &setup.keypair().public().serialize());

    // Registration.
    let mut script = Script::new(&[&v("blind_registration"), &zeros]);
    let started = ClientRegistration::<Suite>::start(&mut script, &password).unwrap();
    script.is_over();
    vector.is("registration_request", &started.message.serialize());

    let request = RegistrationRequest::deserialize(&v("registration_request")).unwrap();
    let response = ServerRegistration::<Suite>::start(&setup, request, &credential).unwrap();
    vector.is("registration_response", &response.message.serialize());

    let response = RegistrationResponse::deserialize(&v("registration_response")).unwrap();
    let mut script = Script::new(&[&v("envelope_nonce")]);
    let parameters = ClientRegistrationFinishParameters { identifiers, ..Default::default() };
    let finished = started.state.finish(&mut script, &password, response, parameters).unwrap();
    script.is_over();
    vector.is("registration_upload", &finished.message.serialize());
    vector.is("export_key", &finished.export_key);

    // Sign-in.
    let mut script = Script::new(&[&v("blind_login"), &zeros, &v("client_keyshare_seed"), &v("client_nonce")]);
    let started = ClientLogin::<Suite>::start(&mut script, &password).unwrap();
    script.is_over();
    vector.is("KE1", &started.message.serialize());

    // The library always makes a dummy record first, from 64 bytes that are used for nothing else here.
    let mut script =
        Script::new(&[&zeros, &zeros, &v("masking_nonce"), &v("server_keyshare_seed"), &v("server_nonce")]);
    let record = ServerRegistration::finish(RegistrationUpload::deserialize(&v("registration_upload")).unwrap());
    let request = CredentialRequest::deserialize(&v("KE1")).unwrap();
    let server = || ServerLoginParameters { context: Some(&context), identifiers };
    let answered = ServerLogin::start(&mut script, &setup, Some(record), request, &credential, server()).unwrap();
    script.is_over();
    vector.is("KE2", &answered.message.serialize());

    let response = CredentialResponse::deserialize(&v("KE2")).unwrap();
    let parameters = ClientLoginFinishParameters { context: Some(&context), identifiers, ..Default::default() };
    let finished = started.state.finish(&mut Script::new(&[]), &password, response, parameters).unwrap();
    vector.is("KE3", &finished.message.serialize());
    vector.is("session_key", &finished.session_key);
    vector.is("export_key", &finished.export_key);

    let ke3 = CredentialFinalization::deserialize(&v("KE3")).unwrap();
    vector.is("session_key", &answered.state.finish(ke3, server()).unwrap().session_key);
}

#[test]
fn the_vectors_of_the_rfc_hold() {
    let vectors: Vec<Value> = serde_json::from_str(include_str!("vectors/opaque_rfc9807.json")).unwrap();
    assert_eq!(vectors.len(), 2);
    for vector in vectors {
        follow(&Vector(vector));
    }
}
