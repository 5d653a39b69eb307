//! Hearing of what others write, while the app runs.
//!
//! Owns the line to the server's hints: opening it, noticing that it went dead, opening it again; and looking now and
//! then where there is none. Brings nothing into step itself, and believes nothing it hears.

use super::Account;
use crate::error::{Error, Result};
use crate::sync::backoff::Backoff;
use crate::sync::hints::{Hints, Said};
use crate::transport::{ByteStream, TransportError};
use crate::vault::Vault;
use futures_util::StreamExt as _;
use futures_util::future::{Either, select};
use selkie_protocol::cipher::random_id;
use selkie_protocol::id::VaultId;
use std::pin::pin;
use std::time::Duration;

/// The server says something every 30 seconds, be it only that it is there. One beat may be late.
const SILENCE: Duration = Duration::from_secs(75);
/// How often to look where there are no hints.
const WITHOUT_HINTS: Duration = Duration::from_secs(60);

/// Why to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum News {
    /// Somebody may have written in this vault.
    Moved(VaultId),
    /// Something may have happened anywhere: the line was opened, or there is none.
    LookAround,
}

/// What the line to the hints has to say, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    News(News),
    /// The line is open: the server is there.
    Opened,
    /// There is no line, and it was waited.
    NoLine,
}

/// Waits for news: see [`Account::follow`].
pub struct Follow {
    account: Account,
    line: Option<Line>,
    backoff: Backoff,
}

struct Line {
    stream: ByteStream,
    hints: Hints,
}

impl Account {
    /// Tells when it is worth while to call [`Account::sync`], without asking all the time: use it in the loop of an
    /// app that runs in the foreground, or of a program that keeps a folder in step.
    ///
    /// ```no_run
    /// # async fn example(account: selkie_client::Account) -> selkie_client::Result<()> {
    /// let mut follow = account.follow();
    /// loop {
    ///     match account.sync().await {
    ///         Err(error) if !error.is_retryable() => return Err(error),
    ///         _ => follow.next().await?,
    ///     };
    /// }
    /// # }
    /// ```
    pub fn follow(&self) -> Follow {
        Follow { account: self.clone(), line: None, backoff: Backoff::without_end() }
    }
}

impl Follow {
    /// Returns when something may have happened, at once when the line is opened. Where the transport has no streams,
    /// or none can be had for now, it returns now and then, so that whoever looks each time misses nothing. It ends
    /// with an error only when going on is of no use: when the person must sign in again. Dropping the future loses
    /// nothing but hints; the next call opens the line again if need be.
    pub async fn next(&mut self) -> Result<News> {
        Ok(match self.hear().await? {
            Heard::News(news) => news,
            Heard::Opened | Heard::NoLine => News::LookAround,
        })
    }

    /// The same, for whoever wants to know why.
    pub(super) async fn hear(&mut self) -> Result<Heard> {
        loop {
            let Some(line) = self.line.take() else { return self.open().await };
            if let Some(news) = self.listen(line).await? {
                return Ok(Heard::News(news));
            }
        }
    }

    async fn open(&mut self) -> Result<Heard> {
        let context = self.account.context();
        match self.account.call(|bearer| async move { context.api.events(&bearer).await }).await {
            Ok(Some(stream)) => {
                self.line = Some(Line { stream, hints: Hints::default() });
                Ok(Heard::Opened)
            }
            Ok(None) => {
                context.edges.runtime.sleep(WITHOUT_HINTS).await;
                Ok(Heard::NoLine)
            }
            Err(error @ Error::SignInAgain { .. }) => Err(error),
            Err(error) => {
                let wait = self.backoff.after(&error, u32::from_be_bytes(random_id())).unwrap_or(WITHOUT_HINTS);
                tracing::debug!(%error, seconds = wait.as_secs(), "there are no hints for now");
                context.edges.runtime.sleep(wait).await;
                // Perhaps only the hints cannot be had.
                Ok(Heard::NoLine)
            }
        }
    }

    async fn listen(&mut self, mut line: Line) -> Result<Option<News>> {
        loop {
            while let Some(said) = line.hints.next() {
                // Whatever it says, the line is good.
                self.backoff.came_further();
                let news = match said {
                    Said::Beat => None,
                    Said::LookAround => Some(News::LookAround),
                    Said::Moved(moved) if is_known(&self.account, &moved.vid, moved.n).await? => None,
                    Said::Moved(moved) => Some(News::Moved(moved.vid)),
                };
                if news.is_some() {
                    self.line = Some(line);
                    return Ok(news);
                }
            }
            let silence = pin!(self.account.context().edges.runtime.patience(SILENCE));
            let next = match select(line.stream.next(), silence).await {
                Either::Left((next, _)) => next,
                Either::Right(_) => {
                    tracing::debug!("the server's hints went silent");
                    None
                }
            };
            let heard = matches!(next, Some(Ok(bytes)) if line.hints.take(&bytes).is_ok());
            if !heard {
                let broken = Error::Offline(TransportError::TimedOut);
                if let Some(wait) = self.backoff.after(&broken, u32::from_be_bytes(random_id())) {
                    self.account.context().edges.runtime.sleep(wait).await;
                }
                return Ok(None);
            }
        }
    }
}

/// Our own writes are hinted at, too.
async fn is_known(account: &Account, id: &VaultId, n: u64) -> Result<bool> {
    let room = account.room().await?;
    let kept = room.clone();
    if !account.context().edges.apart(move || kept.store.vaults()).await??.contains(id) {
        return Ok(false);
    }
    Ok(Vault::new(account.clone(), room, *id).glance().await?.head.n >= n)
}

impl std::fmt::Debug for Follow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follow").field("is_open", &self.line.is_some()).finish_non_exhaustive()
    }
}
