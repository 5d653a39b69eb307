//! A line of bytes between two who talk, whatever they speak: it can be slow, go silent, be cut in the middle of a
//! word, and lead nowhere.
//!
//! Owns the sockets and the weather on them. Knows nothing about messages: whoever wants to read along brings an ear.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::dice::Dice;

/// What happens to what is said. The default is fine weather.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// How long each piece is under way.
    pub delay: Duration,
    /// Of a thousand pieces, so many do not arrive, and nothing after them until the weather changes.
    pub lost: u64,
    /// Of a thousand pieces, so many arrive in part, and then the connection is over.
    pub cut: u64,
    /// Nobody gets through, and whoever talks is cut off.
    pub away: bool,
}

/// Gone, with all its connections, when it is dropped.
#[derive(Debug)]
pub struct Line {
    address: SocketAddr,
    state: Arc<State>,
    listener: tokio::task::JoinHandle<()>,
}

type Ear = Box<dyn Fn(&[u8]) + Send + Sync>;

struct State {
    end: Mutex<Option<SocketAddr>>,
    weather: watch::Sender<Weather>,
    dice: Mutex<Dice>,
    /// Hears each piece of what comes back.
    ear: Ear,
}

impl Line {
    /// It leads nowhere yet: a server wants to know its public name before it starts.
    pub async fn new(dice: Dice, ear: impl Fn(&[u8]) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback address has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let weather = watch::Sender::new(Weather::default());
        let state = State { end: Mutex::default(), weather, dice: Mutex::new(dice), ear: Box::new(ear) };
        let state = Arc::new(state);
        let listener = tokio::spawn(listen(listener, state.clone()));
        Line { address, state, listener }
    }

    pub async fn to(end: SocketAddr, dice: Dice) -> Self {
        let line = Line::new(dice, |_| {}).await;
        line.lead_to(end);
        line
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where it ends, for whoever connects from now on.
    pub fn lead_to(&self, end: SocketAddr) {
        *lock(&self.state.end) = Some(end);
    }

    pub fn set(&self, weather: Weather) {
        self.state.weather.send_replace(weather);
    }

    pub fn clear(&self) {
        self.set(Weather::default());
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("end", &self.end)
            .field("weather", &*self.weather.borrow())
            .finish_non_exhaustive()
    }
}

/// What becomes of one piece.
enum Fate {
    Arrives,
    ArrivesUpTo(usize),
    Lost,
}

impl State {
    fn now(&self) -> Weather {
        *self.weather.borrow()
    }

    fn fate(&self, weather: Weather, length: usize) -> Fate {
        let mut dice = lock(&self.dice);
        if weather.away {
            Fate::ArrivesUpTo(0)
        } else if dice.per_mille(weather.cut) {
            Fate::ArrivesUpTo(usize::try_from(dice.below(length as u64)).unwrap_or(0))
        } else if dice.per_mille(weather.lost) {
            Fate::Lost
        } else {
            Fate::Arrives
        }
    }
}

async fn listen(listener: TcpListener, state: Arc<State>) {
    // Aborting the listener ends the connections with it.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        let state = state.clone();
        connections.spawn(async move {
            // Either side may hang up at any time: that is what this is for.
            let _ = carry(socket, &state).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(near: TcpStream, state: &State) -> std::io::Result<()> {
    let end = *lock(&state.end);
    let Some(end) = end.filter(|_| !state.now().away) else { return Ok(()) };
    let far = TcpStream::connect(end).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (from_near, to_near) = near.into_split();
    let (from_far, to_far) = far.into_split();
    let mut weather = state.weather.subscribe();
    tokio::select! {
        there = pass_on(from_near, to_far, state, false) => there,
        back = pass_on(from_far, to_near, state, true) => back,
        () = async { let _gone = weather.wait_for(|weather| weather.away).await.is_ok(); } => Ok(()),
    }
}

/// Until somebody hangs up, or the line is cut.
async fn pass_on(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: &State,
    is_answer: bool,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let piece = &buffer[..length];
        let mut weather = state.weather.subscribe();
        let now = *weather.borrow_and_update();
        if !now.delay.is_zero() {
            tokio::time::sleep(now.delay).await;
        }
        match state.fate(now, length) {
            Fate::Arrives => {
                if is_answer {
                    (state.ear)(piece);
                }
                to.write_all(piece).await?;
            }
            Fate::ArrivesUpTo(part) => return to.write_all(&piece[..part]).await,
            Fate::Lost => {
                // Whoever waits for it waits until then.
                let _gone = weather.changed().await;
                return Ok(());
            }
        }
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
