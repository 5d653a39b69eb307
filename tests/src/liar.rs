//! Whoever runs the server and lies about its vaults: has its key, shows whatever log they like, and signs for it.
//!
//! Owns the consistency of a lie: pages, heads and polls all tell the same one. Which lie it is comes from the test.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use selkie_protocol::cipher::SigningKey;
use selkie_protocol::hash::{Label, sha256};
use selkie_protocol::id::VaultId;
use selkie_protocol::log::{Entry, Frame, Head, SignedHead, chain};
use selkie_protocol::vault::{LogFrames, Polled, SignedHeadBytes, VaultHead};

use crate::message::{Reply, Request};
use crate::network::{Network, Outcome, Server};

/// The server's owner. Clones tell the same lies.
#[derive(Clone)]
pub struct Liar {
    network: Arc<Network>,
    key: Arc<SigningKey>,
    lies: Arc<Mutex<BTreeMap<VaultId, Lie>>>,
}

/// What becomes of a whole log, frame by frame, before it is shown.
type Lie = Arc<dyn Fn(&mut Vec<Vec<u8>>) + Send + Sync>;

impl Liar {
    pub(crate) fn new(network: Arc<Network>, key: SigningKey) -> Self {
        Liar { network, key: Arc::new(key), lies: Arc::default() }
    }

    /// From the next request on, everybody who asks for this vault is shown its log after this was done to it, with
    /// heads that fit and are signed.
    pub fn shows(&self, vault: VaultId, lie: impl Fn(&mut Vec<Vec<u8>>) + Send + Sync + 'static) {
        self.lies.lock().unwrap_or_else(PoisonError::into_inner).insert(vault, Arc::new(lie));
        let liar = self.clone();
        self.network.behave(move |request, server| {
            let liar = liar.clone();
            async move { liar.answer(request, server).await }
        });
    }

    /// Tells the truth again.
    pub fn stops(&self) {
        self.lies.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.network.behave_well();
    }

    /// The server's word for any head, in the life and at the time of another.
    pub fn sign(&self, like: &SignedHead, vault: VaultId, head: Head) -> SignedHeadBytes {
        let said = SignedHead::signed_bytes(&like.incarnation, &vault, &head, like.unix_ms);
        let signature = self.key.sign(Label::HEAD, &[&said]);
        let bytes = SignedHead { vault, head, signature, ..like.clone() }.to_bytes();
        SignedHeadBytes::try_from_slice(&bytes).expect("a signed head has one length")
    }

    /// The key itself, for what only a server can sign.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    async fn answer(&self, request: Request, server: Server) -> Outcome {
        if request.is("GET /v1/poll") {
            return Outcome::Answer(self.poll(&request, &server).await);
        }
        let vault = vault_in(&request.path);
        let lies = vault.and_then(|vault| Some((vault, self.lie_about(&vault)?)));
        let Some((vault, lie)) = lies else { return server.answer(&request).await };
        let (is_log, is_head) = (request.is("GET /v1/vaults/*/log"), request.is("GET /v1/vaults/*/head"));
        if !is_log && !is_head {
            return server.answer(&request).await;
        }
        let (mut frames, honest) = true_log(&server, &request, &vault).await;
        lie(&mut frames);
        let head = self.sign(&honest, vault, head_of(&vault, &frames));
        let face = request.wants();
        if is_head {
            return Outcome::Answer(Reply::forged(face, 200, &VaultHead { head }));
        }
        let after = asked(&request.path, "after").unwrap_or(0);
        let most = asked(&request.path, "max_entries").unwrap_or(usize::MAX);
        let page = frames.into_iter().skip(after).take(most);
        let page = LogFrames { frames: page.map(Into::into).collect(), head };
        Outcome::Answer(Reply::forged(face, 200, &page))
    }

    /// Everything is news, and ends where the lie ends.
    async fn poll(&self, request: &Request, server: &Server) -> Reply {
        let everything = Request { path: "/v1/poll".into(), ..request.clone() };
        let mut reply = server.reply(&everything).await;
        if !reply.is_success() {
            return reply;
        }
        let mut polled: Polled = reply.read();
        for vault in polled.vaults.iter_mut().flatten() {
            if let Some(lie) = self.lie_about(&vault.vid) {
                let (mut frames, _) = true_log(server, request, &vault.vid).await;
                lie(&mut frames);
                vault.n = frames.len() as u64;
            }
        }
        let numbers: Vec<u8> = polled.vaults.iter().flatten().flat_map(|vault| vault.n.to_be_bytes()).collect();
        let state = sha256(&[polled.state.as_ref(), &numbers].concat());
        polled.state = <[u8; 16]>::try_from(&state[..16]).expect("16 of 32").into();
        reply = Reply::forged(request.wants(), 200, &polled);
        reply
    }

    fn lie_about(&self, vault: &VaultId) -> Option<Lie> {
        self.lies.lock().unwrap_or_else(PoisonError::into_inner).get(vault).cloned()
    }
}

/// Where a log of these frames ends. What is no entry counts as one whose hash is that of nothing.
pub fn head_of(vault: &VaultId, frames: &[Vec<u8>]) -> Head {
    let mut head = Head { n: 0, h: vault.0 };
    for frame in frames {
        let n = head.n + 1;
        let entry = Frame::entry_bytes(frame).ok().and_then(|bytes| Entry::parse(bytes).ok());
        head = Head { n, h: chain(&head.h, n, &entry.map_or([0; 32], |entry| entry.hash())) };
    }
    head
}

/// A frame with another content beside its entry.
pub fn with_payloads(frame: &[u8], payloads: &[&[u8]]) -> Vec<u8> {
    Frame::write(Frame::entry_bytes(frame).expect("a frame"), &payloads.concat())
}

/// The whole log as the server has it, asked for in the name of whoever has just asked for something.
pub async fn true_log(server: &Server, like: &Request, vault: &VaultId) -> (Vec<Vec<u8>>, SignedHead) {
    let mut frames: Vec<Vec<u8>> = Vec::new();
    loop {
        let path = format!("/v1/vaults/{vault}/log?after={}", frames.len());
        let ask = Request { method: "GET".into(), path, headers: like.headers.clone(), body: Vec::new() };
        let page: LogFrames = server.reply(&ask).await.read();
        let head = SignedHead::parse(page.head.as_ref()).expect("a head the server signed");
        frames.extend(page.frames.into_iter().map(|frame| frame.0));
        if frames.len() as u64 >= head.head.n {
            return (frames, head);
        }
    }
}

/// The vault a request is about.
pub fn vault_in(path: &str) -> Option<VaultId> {
    path.strip_prefix("/v1/vaults/")?.split(['/', '?']).next()?.parse().ok()
}

fn asked(path: &str, name: &str) -> Option<usize> {
    let (_, query) = path.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

impl std::fmt::Debug for Liar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Liar(..)")
    }
}
