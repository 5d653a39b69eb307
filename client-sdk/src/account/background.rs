//! Sync in the background: rounds that begin by themselves.
//!
//! Owns the task that does what the schedule says, and the handle that switches it off. When a round is due is decided
//! in `sync::schedule`; what a round does, elsewhere. It holds the line to the server's hints while it may.

use super::follow::Heard;
use super::vaults::AccountSync;
use super::{Account, DISK_PAUSE, News};
use crate::edges::{Give, Take, handover};
use crate::error::{Error, Result};
use crate::records::watch::Bell;
use crate::sync::backoff::Backoff;
use crate::sync::room::Room;
use crate::sync::schedule::{Action, Conditions, Fact, Schedule, Scheduler, Scope};
use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, pending, select, select_all};
use futures_util::stream::{BoxStream, unfold};
use selkie_protocol::cipher::random_id;
use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Sync in the background, switched on by [`Account::sync_in_background`]. Dropping it switches it off.
#[derive(Debug)]
#[must_use = "dropping it switches the background off"]
pub struct Background {
    desk: Arc<Desk>,
    over: Take<()>,
}

/// Conditions that an app switches by hand: a setting, or what it hears from the system about network and battery.
/// Clones are one switch.
///
/// ```no_run
/// # use selkie_client::{Account, Background, Schedule, Switch};
/// # use std::sync::Arc;
/// # fn example(account: &Account) -> Background {
/// let switch = Switch::new(true);
/// let schedule = Schedule { conditions: Arc::new(switch.clone()), ..Schedule::default() };
/// let background = account.sync_in_background(schedule);
/// switch.set(false); // on a metered network
/// # background }
/// ```
#[derive(Clone, Debug)]
pub struct Switch(Arc<Switched>);

#[derive(Debug)]
struct Switched {
    on: AtomicBool,
    bell: Bell,
}

impl Switch {
    /// Turned on, or off.
    pub fn new(on: bool) -> Self {
        Switch(Arc::new(Switched { on: AtomicBool::new(on), bell: Bell::default() }))
    }

    /// Lets rounds begin by themselves, or holds them back. Switched on, one begins at once.
    pub fn set(&self, on: bool) {
        self.0.on.store(on, Ordering::SeqCst);
        self.0.bell.ring();
    }
}

impl Conditions for Switch {
    fn may_sync(&self) -> bool {
        self.0.on.load(Ordering::SeqCst)
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        let heard = self.0.bell.rung();
        Box::pin(async move { self.0.bell.after(heard).await })
    }
}

/// Where the app leaves word for the task.
#[derive(Debug, Default)]
struct Desk {
    letters: Mutex<Letters>,
    bell: Bell,
}

#[derive(Debug, Default)]
struct Letters {
    stop: bool,
    resume: bool,
    network_is_back: bool,
    asked: VecDeque<Give<Result<AccountSync>>>,
    /// Nobody reads any more.
    closed: bool,
}

impl Desk {
    fn leave(&self, write: impl FnOnce(&mut Letters)) {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        write(&mut letters);
        if letters.closed {
            letters.asked.clear();
        }
        drop(letters);
        self.bell.ring();
    }

    /// However the task ended, whoever asked it for a round hears that there will be none.
    fn close(&self) {
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        letters.closed = true;
        letters.asked.clear();
    }

    fn take(&self) -> Letters {
        std::mem::take(&mut *self.letters.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Account {
    /// Keeps this device in step from now on, for as long as what it returns is kept: when something was written, when
    /// the server hints at news, and now and then. Nothing waits for it, and no error is lost: [`Account::status`]
    /// tells how it goes. An app needs one for an account. After a sign-in there is another [`Account`], and this has
    /// to be called on that one.
    ///
    /// ```no_run
    /// # use selkie_client::{Account, Schedule};
    /// # async fn example(account: Account) -> selkie_client::Result<()> {
    /// let background = account.sync_in_background(Schedule::default());
    /// // ... the app runs; somebody drags the list down:
    /// let done = background.sync_now().await?;
    /// println!("{} vaults had something to do", done.vaults.len());
    /// background.stop().await;
    /// # Ok(()) }
    /// ```
    pub fn sync_in_background(&self, schedule: Schedule) -> Background {
        let desk = Arc::new(Desk::default());
        let (give, over) = handover();
        let conditions = schedule.conditions.clone();
        let driver = Driver {
            account: self.clone(),
            desk: desk.clone(),
            conditions,
            scheduler: Scheduler::new(schedule),
            asked: VecDeque::new(),
            line: None,
            line_refused: false,
            round: None,
        };
        self.context().edges.runtime.spawn(Box::pin(async move {
            driver.run().await;
            // Nobody may be waiting.
            let _ = give.send(());
        }));
        Background { desk, over }
    }
}

impl Background {
    /// Begins a round now, whatever the schedule and its conditions say, and tells what it has done. If one is running,
    /// the next begins when that is over. It does not wait for a server that is not there: the background tries again.
    pub async fn sync_now(&self) -> Result<AccountSync> {
        let (give, take) = handover();
        self.desk.leave(|letters| letters.asked.push_back(give));
        take.await.map_err(|_| crate::edges::Abandoned)?
    }

    /// Says that there is a network again. Call it when the system says so; the background notices by itself, but
    /// later.
    pub fn network_is_back(&self) {
        self.desk.leave(|letters| letters.network_is_back = true);
    }

    /// Goes on after the server was caught at something about the account, and a person has decided to.
    pub fn resume(&self) {
        self.desk.leave(|letters| letters.resume = true);
    }

    /// Switches it off, and returns when what was written is on the disk. A round that runs is broken off, which loses
    /// nothing; a step of it that is on its way to the disk may arrive there after this has returned.
    pub async fn stop(mut self) {
        self.desk.leave(|letters| letters.stop = true);
        // If the runtime ended first, it is off, too.
        let _ = (&mut self.over).await;
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.desk.leave(|letters| letters.stop = true);
    }
}

struct Driver {
    account: Account,
    desk: Arc<Desk>,
    conditions: Arc<dyn Conditions>,
    scheduler: Scheduler,
    /// Who waits for a round that has not begun.
    asked: VecDeque<Give<Result<AccountSync>>>,
    line: Option<BoxStream<'static, Result<Heard>>>,
    /// The line could not be had for a reason that a round will say better.
    line_refused: bool,
    round: Option<Round>,
}

struct Round {
    work: BoxFuture<'static, Result<AccountSync>>,
    answer: Option<Give<Result<AccountSync>>>,
}

/// What there was to wait for.
enum Woken {
    Round(Result<AccountSync>),
    Line(Option<Result<Heard>>),
    Rung,
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.desk.close();
    }
}

impl Driver {
    async fn run(mut self) {
        let Some(room) = self.room().await else { return };
        let (mut written, conditions) = (room.pulse.writes.rung(), self.conditions.clone());
        let (desk, runtime) = (self.desk.clone(), self.account.context().edges.runtime.clone());
        loop {
            let (desk_rung, writes_rung) = (desk.bell.rung(), room.pulse.writes.rung());
            let conditions_change = conditions.changed();
            if writes_rung != std::mem::replace(&mut written, writes_rung) {
                self.tell(Fact::Wrote);
            }
            if self.read_letters() {
                flush(&self.account.clone(), &room).await;
                room.pulse.intend(None, false);
                return;
            }
            self.tell(Fact::May(conditions.may_sync()));
            self.hold_the_line();
            let pause = match self.scheduler.next(self.now_ms()) {
                Action::Round(scope) => {
                    self.begin(scope);
                    continue;
                }
                Action::Flush => {
                    flush(&self.account.clone(), &room).await;
                    continue;
                }
                Action::Wait(pause) => Some(pause),
                Action::Rest => None,
            };
            let next = self.scheduler.next_round().filter(|_| self.round.is_none());
            let next =
                next.map(|next| self.now_ms().saturating_add(u64::try_from(next.as_millis()).unwrap_or(u64::MAX)));
            room.pulse.intend(next, !conditions.may_sync());
            let rung = async {
                select(pin!(desk.bell.after(desk_rung)), pin!(room.pulse.writes.after(writes_rung))).await;
                Woken::Rung
            };
            let changed = async {
                conditions_change.await;
                Woken::Rung
            };
            let slept = async {
                match pause {
                    Some(pause) => runtime.sleep(pause).await,
                    None => pending().await,
                }
                Woken::Rung
            };
            let (round, line) = (&mut self.round, &mut self.line);
            let round_ends = async {
                match round {
                    Some(round) => Woken::Round((&mut round.work).await),
                    None => pending().await,
                }
            };
            let line_says = async {
                match line {
                    Some(line) => Woken::Line(line.next().await),
                    None => pending().await,
                }
            };
            let all: [BoxFuture<'_, Woken>; 5] =
                [Box::pin(round_ends), Box::pin(rung), Box::pin(changed), Box::pin(line_says), Box::pin(slept)];
            let (woken, ..) = select_all(all).await;
            match woken {
                Woken::Round(outcome) => self.round_ended(outcome),
                Woken::Line(heard) => self.heard(heard),
                Woken::Rung => {}
            }
        }
    }

    /// Opened once; what cannot be opened now is tried again. `None`: it was switched off meanwhile.
    async fn room(&mut self) -> Option<Arc<Room>> {
        loop {
            let rung = self.desk.bell.rung();
            let account = self.account.clone();
            match account.room().await {
                Ok(room) => return Some(room),
                Err(error) => tracing::warn!(%error, "the vaults of this device cannot be opened"),
            }
            if self.read_letters() {
                return None;
            }
            while let Some(asked) = self.asked.pop_front() {
                // Whoever asked may have gone.
                let _ = asked.send(account.sync().await);
            }
            let desk = self.desk.clone();
            select(pin!(desk.bell.after(rung)), account.context().edges.runtime.sleep(DISK_PAUSE)).await;
        }
    }

    /// What the app wants. True: to have it switched off.
    fn read_letters(&mut self) -> bool {
        let Letters { stop, resume, network_is_back, asked, .. } = self.desk.take();
        if resume {
            self.tell(Fact::Resumed);
        }
        if network_is_back {
            self.tell(Fact::Reconnected);
        }
        self.asked.extend(asked);
        if !self.asked.is_empty() {
            self.tell(Fact::Asked);
        }
        stop
    }

    /// A line to the hints is held while rounds may begin by themselves.
    fn hold_the_line(&mut self) {
        if !self.conditions.may_sync() || self.scheduler.is_stopped() || self.line_refused {
            self.line = None;
        } else if self.line.is_none() {
            let follow = self.account.follow();
            self.line = Some(unfold(follow, async |mut follow| Some((follow.hear().await, follow))).boxed());
        }
    }

    fn begin(&mut self, scope: Scope) {
        tracing::debug!(?scope, "a round begins");
        let account = self.account.clone();
        let work = Box::pin(async move {
            match scope {
                Scope::All => account.sync_trying(Backoff::of_one_try()).await,
                Scope::Vault(id) => account.sync_hinted(id).await,
            }
        });
        self.round = Some(Round { work, answer: self.asked.pop_front() });
    }

    fn round_ended(&mut self, outcome: Result<AccountSync>) {
        let answer = self.round.take().and_then(|round| round.answer);
        let trouble = match &outcome {
            Ok(sync) => sync.trouble(),
            Err(error) => Some(error),
        };
        match trouble {
            Some(error) => tracing::info!(%error, "a round was in vain"),
            None => self.line_refused = false,
        }
        self.tell(Fact::Ended(trouble.map_or(Ok(()), Err), u32::from_be_bytes(random_id())));
        if let Some(answer) = answer {
            // Whoever asked may have gone.
            let _ = answer.send(outcome);
        }
    }

    fn heard(&mut self, heard: Option<Result<Heard>>) {
        match heard {
            Some(Ok(Heard::News(News::Moved(vault)))) => self.tell(Fact::Hint(Scope::Vault(vault))),
            Some(Ok(Heard::News(News::LookAround))) => self.tell(Fact::Hint(Scope::All)),
            Some(Ok(Heard::Opened)) => self.tell(Fact::Reconnected),
            // The schedule knows when to look.
            Some(Ok(Heard::NoLine)) => {}
            Some(Err(_)) | None => {
                self.line_refused = true;
                self.tell(Fact::Hint(Scope::All));
            }
        }
    }

    fn tell(&mut self, fact: Fact<'_>) {
        self.scheduler.tell(self.account.context().now_ms(), fact);
    }

    fn now_ms(&self) -> u64 {
        self.account.context().now_ms()
    }
}

async fn flush(account: &Account, room: &Arc<Room>) {
    let kept = room.clone();
    let flushed = match account.context().edges.apart(move || kept.store.flush()).await {
        Ok(flushed) => flushed.map_err(Error::from),
        Err(abandoned) => Err(abandoned.into()),
    };
    if let Err(error) = flushed {
        tracing::warn!(%error, "what was written could not be taken to the disk");
    }
}
