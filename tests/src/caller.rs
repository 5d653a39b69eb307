//! A client of another make: plain HTTP, JSON or CBOR, OPAQUE and nothing of the SDK.
//!
//! Owns what can be said to a server without our key hierarchy, right or wrong. Knows nothing about what is a fair
//! answer: it hands every one back.

use selkie_protocol::bytes::Fixed;
use selkie_protocol::name::{LoginName, password_input};
use selkie_protocol::session::{
    LoginFinish, LoginFinished, LoginStart, LoginStarted, RegisterFinish, RegisterStart, RegisterStarted, Registered,
    Tokens,
};
use selkie_protocol::{ErrorBody, Face, Private, opaque};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message::{Headers, Reply};

/// Speaks to one server in one face.
#[derive(Clone, Debug)]
pub struct Caller {
    url: String,
    face: Face,
    http: reqwest::Client,
}

/// The server said no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub status: u16,
    pub body: ErrorBody,
}

pub type Answer<T> = Result<T, Box<Refused>>;

impl Caller {
    pub fn new(url: &str, face: Face) -> Self {
        let http = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let http = http.build().expect("an HTTP client needs nothing from its surroundings");
        Caller { url: url.to_owned(), face, http }
    }

    /// Sends exactly these bytes.
    pub async fn send(&self, method: &str, path: &str, headers: &Headers, body: Vec<u8>) -> Reply {
        self.try_send(method, path, headers, body).await.expect("the server answers")
    }

    /// Sends exactly these bytes to a server that may be gone before it has answered.
    pub async fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &Headers,
        body: Vec<u8>,
    ) -> Result<Reply, reqwest::Error> {
        let method = method.parse().expect("a method");
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        for (name, value) in headers {
            request = request.header(name, value.as_slice());
        }
        let answer = request.body(body).send().await?;
        let status = answer.status().as_u16();
        let headers = answer.headers().iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec()));
        let headers = headers.collect();
        let body = answer.bytes().await?.to_vec();
        Ok(Reply { status, headers, body })
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str, bearer: Option<&Tokens>) -> Answer<T> {
        open(self.send("GET", path, &self.headers(bearer), Vec::new()).await)
    }

    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        bearer: Option<&Tokens>,
        message: &impl Serialize,
    ) -> Answer<T> {
        open(self.send("POST", path, &self.headers(bearer), self.face.encode(message)).await)
    }

    /// What comes with every request: the face, and who asks.
    pub fn headers(&self, bearer: Option<&Tokens>) -> Headers {
        let kind = self.face.content_type().as_bytes().to_vec();
        let mut headers = vec![("content-type".to_owned(), kind.clone()), ("accept".to_owned(), kind)];
        if let Some(tokens) = bearer {
            let value = format!("Bearer {}", tokens.access_token.as_str());
            headers.push(("authorization".to_owned(), value.into_bytes()));
        }
        headers
    }

    /// Makes an account without keys.
    pub async fn register(&self, name: &str, password: &str, invite: Option<&str>) -> Answer<Registered> {
        // The server's name is not known before the first answer, and enters the password: ask for it first.
        let server_name = self.server_name().await;
        let input = input(&server_name, name, password);
        let started = opaque::RegistrationStarted::new(&input).expect("the suite takes any password");
        let answer: RegisterStarted = self
            .post(
                "/v1/auth/register/start",
                None,
                &RegisterStart {
                    tenant: None,
                    login_name: name.into(),
                    invite: invite.map(Private::from),
                    request: fixed(&started.request),
                },
            )
            .await?;
        let response = answer.response;
        let finished = stretch(move || started.finish(&input, response.as_ref())).await.expect("an honest response");
        let message = RegisterFinish { reg_token: answer.reg_token, record: fixed(&finished.record), account: None };
        self.post("/v1/auth/register/finish", None, &message).await
    }

    /// Signs in. `Err(None)` is a password that the answer of the server does not fit.
    pub async fn sign_in(&self, name: &str, password: &str) -> Result<Tokens, Option<Box<Refused>>> {
        self.sign_in_with(name, password, None).await
    }

    pub async fn sign_in_with(
        &self,
        name: &str,
        password: &str,
        second_factor: Option<&str>,
    ) -> Result<Tokens, Option<Box<Refused>>> {
        let message = self.prove(name, password, second_factor).await?;
        let finished: LoginFinished = self.post("/v1/auth/login/finish", None, &message).await.map_err(Some)?;
        Ok(finished.tokens.expect("tokens in clear were asked for"))
    }

    /// The first half of a sign-in, and the message that would finish it.
    pub async fn prove(
        &self,
        name: &str,
        password: &str,
        second_factor: Option<&str>,
    ) -> Result<LoginFinish, Option<Box<Refused>>> {
        let input = input(&self.server_name().await, name, password);
        let started = opaque::LoginStarted::new(&input).expect("the suite takes any password");
        let start = LoginStart { tenant: None, login_name: name.into(), ke1: fixed(&started.ke1), device: None };
        let answer: LoginStarted = self.post("/v1/auth/login/start", None, &start).await.map_err(Some)?;
        let ke2 = answer.ke2;
        let finished = stretch(move || started.finish(&input, ke2.as_ref())).await.map_err(|_| None)?;
        Ok(LoginFinish {
            login_id: answer.login_id,
            ke3: fixed(&finished.ke3),
            second_factor: second_factor.map(Private::from),
            device: None,
            app: None,
            seal: 0,
        })
    }

    pub(crate) async fn server_name(&self) -> String {
        let capabilities: Answer<selkie_protocol::version::Capabilities> = self.get("/v1/capabilities", None).await;
        capabilities.expect("a server says what it is").server_name
    }
}

/// What goes into OPAQUE for an account without a Secret Key.
pub(crate) fn input(server_name: &str, name: &str, password: &str) -> Vec<u8> {
    let name = LoginName::new(name).expect("a login name");
    password_input(server_name, &name, password, None).expect("no separator in it").to_vec()
}

pub(crate) async fn stretch<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(job).await.expect("the suite does not panic")
}

pub(crate) fn fixed<const N: usize>(bytes: &[u8]) -> Fixed<N> {
    Fixed(bytes.try_into().expect("the suite writes its own lengths"))
}

pub(crate) fn open<T: DeserializeOwned>(reply: Reply) -> Answer<T> {
    if reply.is_success() {
        Ok(reply.read())
    } else {
        Err(Box::new(Refused { status: reply.status, body: reply.read() }))
    }
}
