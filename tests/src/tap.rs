//! A line between the server and PostgreSQL that counts what the server says, and can be cut before or after a word.
//!
//! Knows nothing about PostgreSQL: a word is what arrives in one piece.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Clones are the same line.
#[derive(Clone, Debug)]
pub struct Tap {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    words: Mutex<Words>,
    cut: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Words {
    heard: u64,
    /// Cut at this word, and whether the database still hears it.
    cut_at: Option<(u64, bool)>,
    is_cut: bool,
}

impl Tap {
    pub async fn before(database: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback address has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let state = Arc::new(State { words: Mutex::default(), cut: watch::Sender::new(false) });
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((server, _)) = listener.accept().await {
                let state = shared.clone();
                tokio::spawn(async move {
                    // Either side may hang up at any time: that is what this is for.
                    let _ = connect(server, database, state).await;
                });
            }
        });
        Tap { address, state }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many words the server has said.
    pub fn heard(&self) -> u64 {
        self.words().heard
    }

    pub fn let_everything_through(&self) {
        *self.words() = Words { heard: self.heard(), ..Words::default() };
        self.state.cut.send_replace(false);
    }

    /// Cuts the line when the server has said `count` more words and says the next; returns when that has happened.
    /// `after` lets the database hear that one, too.
    pub async fn cut_at(&self, count: u64, after: bool) {
        {
            let mut words = self.words();
            words.cut_at = Some((words.heard + count, after));
        }
        let mut cut = self.state.cut.subscribe();
        cut.wait_for(|cut| *cut).await.expect("the line outlives whoever waits for it");
    }

    fn words(&self) -> std::sync::MutexGuard<'_, Words> {
        self.state.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn connect(server: TcpStream, database: SocketAddr, state: Arc<State>) -> std::io::Result<()> {
    let database = TcpStream::connect(database).await?;
    let (mut from_server, mut to_server) = server.into_split();
    let (mut from_database, mut to_database) = database.into_split();
    let back = tokio::spawn(async move { tokio::io::copy(&mut from_database, &mut to_server).await });
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = from_server.read(&mut buffer).await?;
        if length == 0 {
            break;
        }
        let (pass, cut) = state.hear();
        if pass {
            to_database.write_all(&buffer[..length]).await?;
        }
        if cut {
            state.cut.send_replace(true);
        }
    }
    drop(to_database);
    back.abort();
    Ok(())
}

impl State {
    /// Counts a word; says whether it goes on to the database, and whether this is where the line is cut.
    fn hear(&self) -> (bool, bool) {
        let mut words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.is_cut {
            return (false, false);
        }
        let this = words.heard;
        words.heard += 1;
        match words.cut_at {
            Some((at, after)) if this >= at => {
                words.is_cut = true;
                (after, true)
            }
            _ => (true, false),
        }
    }
}
