//! The server's hints, as they come over a line that stays open.
//!
//! Owns the other end of that line: a transport that says the input, in pieces, and then hangs up.

use crate::offline::{Here, now};
use crate::script::Script;
use async_trait::async_trait;
use futures_util::stream::iter;
use selkie_client::testing::TestServer;
use selkie_client::transport::{Request, Response, Streamed, Transport, TransportError};
use selkie_client::{Account, News, ServerAddress, SignUp};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

/// Somebody signed in, whose server has been replaced since.
struct Listener {
    account: Account,
    line: Arc<Line>,
}

static LISTENER: LazyLock<Listener> = LazyLock::new(|| {
    let server = TestServer::for_app(|client| client.runtime(Arc::new(Here)));
    let client = server.client().expect("nothing is missing");
    let made = now(client.sign_up("ana", "correct horse battery staple", SignUp::default())).expect("a new name");
    let line = Arc::new(Line::default());
    let address = ServerAddress::new("https://home.example/").transport(line.clone());
    now(client.use_server(address)).expect("the same server elsewhere");
    Listener { account: made.account, line }
});

/// How the stream is cut into pieces, and the stream.
pub(crate) fn run(bytes: &[u8]) {
    let mut script = Script(bytes);
    let cut = 1 + script.below(255);
    let said = script.0.chunks(cut).map(<[u8]>::to_vec).collect::<Vec<_>>();
    LISTENER.line.say(said);
    let mut follow = LISTENER.account.follow();
    let mut heard = 0;
    // It is opened again when all was said.
    while LISTENER.line.opened() < 2 {
        let news = now(follow.next()).expect("no hint ends the listening");
        assert!(matches!(news, News::Moved(_) | News::LookAround));
        heard += 1;
        assert!(heard <= script.0.len() + 2, "a server keeps its listeners busy");
    }
}

#[derive(Debug, Default)]
struct Line(Mutex<(usize, Vec<Vec<u8>>)>);

impl Line {
    fn say(&self, said: Vec<Vec<u8>>) {
        *self.lock() = (0, said);
    }

    fn opened(&self) -> usize {
        self.lock().0
    }

    fn lock(&self) -> MutexGuard<'_, (usize, Vec<Vec<u8>>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Transport for Line {
    async fn send(&self, _: Request) -> Result<Response, TransportError> {
        Err(TransportError::TimedOut)
    }

    async fn stream(&self, _: Request) -> Result<Option<Streamed>, TransportError> {
        let mut line = self.lock();
        line.0 += 1;
        let said = std::mem::take(&mut line.1);
        Ok(Some(Streamed::Stream(Box::pin(iter(said.into_iter().map(Ok))))))
    }
}
