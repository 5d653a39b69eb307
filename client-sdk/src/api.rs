//! The server's routes as typed calls.
//!
//! Owns the paths, the encoding and the one place where refusals become [`Error`]s. It knows nothing of keys and
//! keeps nothing: who calls decides what an answer means.

use crate::error::{Error, Refusal, Result, SignInReason};
use crate::transport::{ByteStream, Method, Request, Response, Streamed, Transport};
use crate::untrusted::clean;
use selkie_protocol::id::{DeviceId, LinkChannel, UserId, VaultId};
use selkie_protocol::vault::{self, PollState};
use selkie_protocol::{ErrorBody, ErrorCode, Face, Private, account, link, session, version};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// A server, reached through some transport, once there is one. Which one can change while the app runs.
#[derive(Debug, Default)]
pub(crate) struct Api(RwLock<Option<Arc<dyn Transport>>>);

/// An access token, for calls that need one.
pub(crate) type Bearer<'a> = Option<&'a Private>;

/// Where two devices meet. The new one has no token that would name the tenant, so the address does.
#[derive(Clone, Debug)]
pub(crate) struct LinkPlace<'a> {
    pub(crate) channel: &'a LinkChannel,
    pub(crate) tenant: Option<String>,
}

/// Whether what records say is fetched with the log, or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    Now,
    Later,
}

/// How much of a log is wanted in one answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PageSize {
    pub(crate) entries: u32,
    pub(crate) bytes: u64,
    /// Without payloads of what is superseded.
    pub(crate) live_only: bool,
}

impl LinkPlace<'_> {
    fn path(self, what: &str) -> String {
        let path = format!("/v1/links/{}{what}", self.channel);
        match self.tenant {
            Some(tenant) => {
                let query =
                    url::form_urlencoded::Serializer::new(String::new()).append_pair("tenant", &tenant).finish();
                format!("{path}?{query}")
            }
            None => path,
        }
    }
}

impl Api {
    /// What is asked from now on goes this way.
    pub(crate) fn reach_through(&self, transport: Arc<dyn Transport>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(transport);
    }

    fn transport(&self) -> Result<Arc<dyn Transport>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or(Error::NoServer)
    }

    /// The one answer in which unknown fields are let pass; see [`version::Capabilities`].
    pub(crate) async fn capabilities(&self) -> Result<version::Capabilities> {
        self.get("/v1/capabilities", None).await
    }

    pub(crate) async fn register_start(&self, body: &session::RegisterStart) -> Result<session::RegisterStarted> {
        self.post("/v1/auth/register/start", None, body).await
    }

    pub(crate) async fn register_finish(&self, body: &session::RegisterFinish) -> Result<session::Registered> {
        self.post("/v1/auth/register/finish", None, body).await
    }

    pub(crate) async fn challenge(&self) -> Result<session::Challenge> {
        self.post("/v1/auth/challenge", None, &account::Done {}).await
    }

    pub(crate) async fn login_start(&self, body: &session::LoginStart) -> Result<session::LoginStarted> {
        self.post("/v1/auth/login/start", None, body).await
    }

    pub(crate) async fn login_finish(&self, body: &session::LoginFinish) -> Result<session::LoginFinished> {
        self.post("/v1/auth/login/finish", None, body).await
    }

    pub(crate) async fn refresh(&self, body: &session::Refresh) -> Result<session::Tokens> {
        self.post("/v1/auth/refresh", None, body).await
    }

    pub(crate) async fn recover_start(&self, body: &session::RecoverStart) -> Result<session::RecoverStarted> {
        self.post("/v1/auth/recover/start", None, body).await
    }

    pub(crate) async fn recover_finish(&self, body: &session::RecoverFinish) -> Result<session::LoginFinished> {
        self.post("/v1/auth/recover/finish", None, body).await
    }

    pub(crate) async fn sign_out(&self, bearer: &Private, which: session::SignOutScope) -> Result<account::Done> {
        self.post("/v1/auth/sign-out", Some(bearer), &session::SignOut { which }).await
    }

    pub(crate) async fn account(&self, bearer: &Private) -> Result<account::Account> {
        self.get("/v1/account", Some(bearer)).await
    }

    pub(crate) async fn complete(&self, bearer: &Private, body: &account::CompleteAccount) -> Result<session::Tokens> {
        self.post("/v1/account/complete", Some(bearer), body).await
    }

    pub(crate) async fn keybag(&self, bearer: &Private) -> Result<account::Keybag> {
        self.get("/v1/account/keybag", Some(bearer)).await
    }

    pub(crate) async fn log(&self, bearer: &Private, from: u64) -> Result<account::LogPage> {
        self.get(&format!("/v1/account/log?from={from}"), Some(bearer)).await
    }

    pub(crate) async fn devices(&self, bearer: &Private) -> Result<account::Devices> {
        self.get("/v1/account/devices", Some(bearer)).await
    }

    pub(crate) async fn add_device(&self, bearer: &Private, body: &account::AddDevice) -> Result<session::Tokens> {
        self.post("/v1/account/devices", Some(bearer), body).await
    }

    pub(crate) async fn revoke_device(
        &self,
        bearer: &Private,
        device: &DeviceId,
        body: &account::RevokeDevice,
    ) -> Result<account::Done> {
        self.post(&format!("/v1/account/devices/{device}/revoke"), Some(bearer), body).await
    }

    pub(crate) async fn password_start(
        &self,
        bearer: &Private,
        body: &account::PasswordStart,
    ) -> Result<account::PasswordStarted> {
        self.post("/v1/account/password/start", Some(bearer), body).await
    }

    pub(crate) async fn password_finish(
        &self,
        bearer: &Private,
        body: &account::PasswordFinish,
    ) -> Result<account::Done> {
        self.post("/v1/account/password/finish", Some(bearer), body).await
    }

    pub(crate) async fn rotate_recovery_key(
        &self,
        bearer: &Private,
        body: &account::RotateRecoveryKey,
    ) -> Result<account::Done> {
        self.post("/v1/account/recovery-key", Some(bearer), body).await
    }

    pub(crate) async fn sessions(&self, bearer: &Private) -> Result<account::Sessions> {
        self.get("/v1/account/sessions", Some(bearer)).await
    }

    pub(crate) async fn totp_start(&self, bearer: &Private) -> Result<account::TotpStarted> {
        self.post("/v1/account/totp/start", Some(bearer), &account::Done {}).await
    }

    pub(crate) async fn totp_confirm(
        &self,
        bearer: &Private,
        body: &account::TotpConfirm,
    ) -> Result<account::TotpConfirmed> {
        self.post("/v1/account/totp/confirm", Some(bearer), body).await
    }

    pub(crate) async fn totp_remove(&self, bearer: &Private) -> Result<account::Done> {
        self.post("/v1/account/totp/remove", Some(bearer), &account::Done {}).await
    }

    pub(crate) async fn audit(&self, bearer: &Private, before: Option<u64>) -> Result<account::AuditPage> {
        let path = match before {
            Some(before) => format!("/v1/account/audit?before={before}"),
            None => "/v1/account/audit".to_owned(),
        };
        self.get(&path, Some(bearer)).await
    }

    pub(crate) async fn delete(&self, bearer: &Private) -> Result<account::DeletionScheduled> {
        self.post("/v1/account/delete", Some(bearer), &account::Done {}).await
    }

    pub(crate) async fn keep(&self, bearer: &Private) -> Result<account::Done> {
        self.post("/v1/account/keep", Some(bearer), &account::Done {}).await
    }

    pub(crate) async fn open_link(&self, bearer: &Private, body: &link::OpenLink) -> Result<link::LinkOpened> {
        self.post("/v1/links", Some(bearer), body).await
    }

    pub(crate) async fn link(&self, place: LinkPlace<'_>) -> Result<link::LinkState> {
        self.get(&place.path(""), None).await
    }

    pub(crate) async fn request_link(&self, place: LinkPlace<'_>, body: &link::LinkRequest) -> Result<account::Done> {
        self.post(&place.path("/request"), None, body).await
    }

    pub(crate) async fn answer_link(
        &self,
        bearer: &Private,
        channel: &LinkChannel,
        body: &link::LinkAnswer,
    ) -> Result<account::Done> {
        self.post(&format!("/v1/links/{channel}/answer"), Some(bearer), body).await
    }

    pub(crate) async fn link_session(&self, place: LinkPlace<'_>, body: &link::LinkSession) -> Result<session::Tokens> {
        self.post(&place.path("/session"), None, body).await
    }

    pub(crate) async fn create_vault(&self, bearer: &Private, body: &vault::CreateVault) -> Result<vault::Pushed> {
        self.post("/v1/vaults", Some(bearer), body).await
    }

    pub(crate) async fn push(&self, bearer: &Private, vault: &VaultId, body: &vault::Push) -> Result<vault::Pushed> {
        self.post(&format!("/v1/vaults/{vault}/push"), Some(bearer), body).await
    }

    /// What stands after a position. `most` bounds one answer: at least one entry comes, however long.
    pub(crate) async fn vault_log(
        &self,
        bearer: &Private,
        vault: &VaultId,
        after: u64,
        most: PageSize,
    ) -> Result<vault::LogFrames> {
        let PageSize { entries, bytes, live_only } = most;
        let payloads = if live_only { "&payloads=live" } else { "" };
        let query = format!("after={after}&max_entries={entries}&max_bytes={bytes}{payloads}");
        self.get(&format!("/v1/vaults/{vault}/log?{query}"), Some(bearer)).await
    }

    pub(crate) async fn vault_head(&self, bearer: &Private, vault: &VaultId) -> Result<vault::VaultHead> {
        self.get(&format!("/v1/vaults/{vault}/head"), Some(bearer)).await
    }

    pub(crate) async fn poll(&self, bearer: &Private, known: Option<&PollState>) -> Result<vault::Polled> {
        let path = match known {
            Some(known) => format!("/v1/poll?known={}", selkie_protocol::bytes::to_base64url(known.as_ref())),
            None => "/v1/poll".to_owned(),
        };
        self.get(&path, Some(bearer)).await
    }

    pub(crate) async fn wraps(&self, bearer: &Private, vault: &VaultId) -> Result<vault::Wraps> {
        self.get(&format!("/v1/vaults/{vault}/wraps"), Some(bearer)).await
    }

    pub(crate) async fn add_wraps(
        &self,
        bearer: &Private,
        vault: &VaultId,
        body: &vault::Wraps,
    ) -> Result<account::Done> {
        self.post(&format!("/v1/vaults/{vault}/wraps"), Some(bearer), body).await
    }

    pub(crate) async fn controls(&self, bearer: &Private, vault: &VaultId, after: u64) -> Result<vault::Controls> {
        self.get(&format!("/v1/vaults/{vault}/controls?after={after}"), Some(bearer)).await
    }

    pub(crate) async fn beginning(&self, bearer: &Private, vault: &VaultId) -> Result<vault::Beginning> {
        self.get(&format!("/v1/vaults/{vault}/checkpoint"), Some(bearer)).await
    }

    pub(crate) async fn checkpoint_page(
        &self,
        bearer: &Private,
        vault: &VaultId,
        n: u64,
        page: usize,
        from: usize,
        contents: Contents,
    ) -> Result<vault::CheckpointItems> {
        let payloads = if contents == Contents::Later { "&payloads=none" } else { "" };
        self.get(&format!("/v1/vaults/{vault}/checkpoint/{n}/pages/{page}?from={from}{payloads}"), Some(bearer)).await
    }

    pub(crate) async fn live_records(
        &self,
        bearer: &Private,
        vault: &VaultId,
        body: &vault::WantedRecords,
    ) -> Result<vault::LiveRecords> {
        self.post(&format!("/v1/vaults/{vault}/records"), Some(bearer), body).await
    }

    pub(crate) async fn restore_tail(
        &self,
        bearer: &Private,
        vault: &VaultId,
        body: &vault::RestoreTail,
    ) -> Result<vault::TailRestored> {
        self.post(&format!("/v1/vaults/{vault}/restore-tail"), Some(bearer), body).await
    }

    /// The server's hints; `None` where the transport has no streams.
    pub(crate) async fn events(&self, bearer: &Private) -> Result<Option<ByteStream>> {
        let bearer = Some(bearer.clone());
        let request = Request { method: Method::Get, path: "/v1/events".to_owned(), bearer, body: None };
        match self.transport()?.stream(request).await.map_err(Error::Offline)? {
            None => Ok(None),
            Some(Streamed::Stream(stream)) => Ok(Some(stream)),
            Some(Streamed::Answer(response)) => {
                read::<account::Done>(&response)?;
                Err(not_ours("it answered with something else than events"))
            }
        }
    }

    /// The account log of somebody else.
    pub(crate) async fn log_of(&self, bearer: &Private, user: &UserId, from: u64) -> Result<account::LogPage> {
        self.get(&format!("/v1/people/{user}/log?from={from}"), Some(bearer)).await
    }

    /// Puts back what a restored server has lost of the account log: of one's own, or of somebody else's.
    pub(crate) async fn restore_log(
        &self,
        bearer: &Private,
        whose: Option<&UserId>,
        body: &account::RestoreLog,
    ) -> Result<account::LogRestored> {
        let path = whose.map_or("/v1/account/log".to_owned(), |user| format!("/v1/people/{user}/log"));
        self.post(&path, Some(bearer), body).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, bearer: Bearer<'_>) -> Result<T> {
        self.exchange(Method::Get, path, bearer, None).await
    }

    async fn post<B: Serialize, T: DeserializeOwned>(&self, path: &str, bearer: Bearer<'_>, body: &B) -> Result<T> {
        self.exchange(Method::Post, path, bearer, Some(Face::Cbor.encode(body))).await
    }

    async fn exchange<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        bearer: Bearer<'_>,
        body: Option<Vec<u8>>,
    ) -> Result<T> {
        let request = Request { method, path: path.to_owned(), bearer: bearer.cloned(), body };
        let response = self.transport()?.send(request).await.map_err(Error::Offline)?;
        let route = path.split(['?']).next().unwrap_or_default();
        tracing::debug!(status = response.status, "answered");
        read(&response).inspect_err(|error| {
            if matches!(error, Error::UnsupportedProtocol(_)) {
                tracing::warn!(status = response.status, route_length = route.len(), "an answer was not understood");
            }
        })
    }
}

/// An answer of the expected type, or the error it amounts to. Never panics, whatever came.
fn read<T: DeserializeOwned>(response: &Response) -> Result<T> {
    let face = response.content_type.as_deref().and_then(Face::from_content_type);
    if (200..300).contains(&response.status) {
        let face = face.ok_or_else(|| not_ours("its answer is not CBOR"))?;
        return face.decode(&response.body).map_err(|error| not_ours(&error.what));
    }
    match face.and_then(|face| face.decode::<ErrorBody>(&response.body).ok()) {
        Some(body) => Err(refused(body, response.retry_after)),
        None => Err(without_body(response)),
    }
}

fn not_ours(what: &str) -> Error {
    Error::UnsupportedProtocol(clean(what))
}

/// A refusal in the server's words.
fn refused(body: ErrorBody, retry_after: Option<Duration>) -> Error {
    let after = body.retry_after.map(Duration::from_secs).or(retry_after);
    let refusal = Refusal {
        code: body.code,
        title: clean(&body.title),
        detail: body.detail.as_deref().map(clean).or_else(|| {
            let fields: Vec<String> = body.fields.iter().map(|f| format!("{}: {}", f.field, f.problem)).collect();
            (!fields.is_empty()).then(|| clean(&fields.join("; ")))
        }),
        advice: clean(&body.advice),
        request_id: clean(&body.request_id),
    };
    match body.code {
        ErrorCode::RateLimited | ErrorCode::Overloaded | ErrorCode::Unavailable | ErrorCode::RequestTimeout => {
            Error::RetryLater { after, why: refusal.to_string() }
        }
        ErrorCode::SessionEnded => Error::sign_in_again(SignInReason::SessionEnded),
        ErrorCode::DeviceRevoked => Error::sign_in_again(SignInReason::DeviceRevoked),
        ErrorCode::RecentSignInRequired => Error::sign_in_again(SignInReason::PasswordNeeded),
        ErrorCode::InvalidLogin => Error::WrongCredentials,
        ErrorCode::KeysSuperseded => Error::KeysSuperseded,
        ErrorCode::SecondFactorRequired => Error::SecondFactorNeeded { refused: false },
        ErrorCode::SecondFactorInvalid => Error::SecondFactorNeeded { refused: true },
        ErrorCode::LimitReached => Error::LimitReached(refusal),
        // `Unauthenticated` and `TokenExpired` stay refusals here: the session answers them with a refresh.
        _ => Error::Refused(refusal),
    }
}

/// A refusal by something that is not our server: a proxy, or another program at this address.
fn without_body(response: &Response) -> Error {
    match response.status {
        // A server that has waited too long for a request answers 408 before it knows what was asked.
        408 | 425 | 429 | 502..=504 => Error::RetryLater {
            after: response.retry_after,
            why: format!("the answer was {}, without a word more", response.status),
        },
        status => not_ours(&format!("it answered {status} without saying why")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, face: Option<Face>, body: Vec<u8>) -> Response {
        let content_type = face.map(|face| face.content_type().to_owned());
        Response { status, content_type, retry_after: None, body }
    }

    #[test]
    fn an_answer_with_more_fields_than_we_know_is_not_understood() {
        let body = br#"{"challenge":"AAAA","expires_in":1,"use_legacy_login":true}"#.to_vec();
        let error = read::<session::Challenge>(&response(200, Some(Face::Json), body)).unwrap_err();
        assert!(matches!(error, Error::UnsupportedProtocol(_)));
    }

    #[test]
    fn a_page_of_somebody_else_is_not_an_answer() {
        for status in [200, 302, 404, 500] {
            let error = read::<account::Done>(&response(status, None, b"<html>".to_vec())).unwrap_err();
            assert!(matches!(error, Error::UnsupportedProtocol(_)), "{status}");
        }
        for status in [408, 425, 429, 502, 503, 504] {
            let error = read::<account::Done>(&response(status, None, Vec::new())).unwrap_err();
            assert!(matches!(error, Error::RetryLater { .. }), "{status}");
        }
    }

    #[test]
    fn every_refusal_says_whose_move_it_is() {
        for &code in ErrorCode::ALL {
            let mut body = ErrorBody::new(code, 400, "r1");
            body.retry_after = Some(9);
            let error = read::<account::Done>(&response(400, Some(Face::Cbor), Face::Cbor.encode(&body))).unwrap_err();
            let expected = match code {
                ErrorCode::RateLimited | ErrorCode::Overloaded | ErrorCode::Unavailable | ErrorCode::RequestTimeout => {
                    matches!(error, Error::RetryLater { after: Some(after), .. } if after.as_secs() == 9)
                }
                ErrorCode::SessionEnded | ErrorCode::DeviceRevoked | ErrorCode::RecentSignInRequired => {
                    matches!(error, Error::SignInAgain { .. })
                }
                ErrorCode::InvalidLogin => matches!(error, Error::WrongCredentials),
                ErrorCode::KeysSuperseded => matches!(error, Error::KeysSuperseded),
                ErrorCode::SecondFactorRequired | ErrorCode::SecondFactorInvalid => {
                    matches!(error, Error::SecondFactorNeeded { .. })
                }
                ErrorCode::LimitReached => matches!(error, Error::LimitReached(_)),
                _ => error.code() == Some(code),
            };
            assert!(expected, "{code:?} became {error:?}");
            assert!(!error.advice().is_empty());
        }
    }

    #[test]
    fn a_refusal_cannot_drive_the_terminal() {
        let mut body = ErrorBody::new(ErrorCode::Forbidden, 403, "\u{1b}]0;evil\u{7}");
        body.title = "\u{1b}[2J".repeat(1000);
        let error = refused(body, None);
        assert!(!format!("{error} {error:?} {}", error.advice()).contains('\u{1b}'));
        assert!(error.to_string().chars().count() < 400);
    }
}
