use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{
    bucket::{Bucket, Excess},
    turns::Turn,
};
use crate::{Error, log, rt::Timer};

/// The limiter of one direction of one transport, or of one service.
#[derive(Debug)]
pub(super) struct Gate {
    bucket: Bucket,
    timer: Timer,
    /// The turn to ask while it waits.
    turn: Option<Turn>,
    pub(super) tally: Tally,
    balance: Balance,
    /// The kind of item that passes here, for error messages.
    what: &'static str,
}

/// The account with a bucket when messages wait: `poll_ready` takes one cell before the cost of the message is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Balance {
    /// One cell is taken for the next message.
    Prepaid,
    /// The part of earlier messages' cost that is due before the next message.
    Due(u32),
}

impl Gate {
    pub(super) fn new(bucket: Bucket, counts: RateLimitCounts, what: &'static str) -> Self {
        Self { bucket, timer: Timer::new(), turn: None, tally: Tally::new(counts), balance: Balance::Due(0), what }
    }

    /// Returns the same gate for a clone of a service: the bucket is shared, a prepaid cell is not.
    pub(super) fn fresh(&self) -> Self {
        Self {
            bucket: self.bucket.clone(),
            timer: Timer::new(),
            turn: None,
            tally: self.tally.clone(),
            balance: Balance::Due(0),
            what: self.what,
        }
    }

    /// Takes the cells at once, or returns the time to wait.
    #[inline]
    pub(super) fn try_take(&mut self, cells: u32) -> Result<(), Excess> {
        if cells > 0 {
            self.bucket.check(cells)?;
            self.tally.admit();
        }
        Ok(())
    }

    /// Takes the cells as soon as they are available. They are no more than a full bucket has.
    #[inline]
    pub(super) fn poll_take(&mut self, cells: u32, cx: &mut Context<'_>) -> Poll<()> {
        if self.turn.is_none() && self.bucket.check(cells).is_ok() {
            return Poll::Ready(());
        }
        self.poll_wait(cells, cx)
    }

    fn poll_wait(&mut self, cells: u32, cx: &mut Context<'_>) -> Poll<()> {
        // With what is due from earlier messages, more may be asked for than a full bucket has. It would never come.
        let cells = cells.min(self.bucket.burst());
        loop {
            if self.timer.is_set() {
                ready!(self.timer.poll(cx));
            }
            // The time was an estimate: another caller may have taken the cells. `wait` sets the timer again.
            match self.bucket.check(cells) {
                Err(Excess::Until(time)) => self.wait(time, cells),
                _ => break,
            }
        }
        self.turn = None;
        Poll::Ready(())
    }

    /// The cells are not available before that time.
    pub(super) fn wait(&mut self, time: Duration, cells: u32) {
        // Another caller took the cell before its turn. This one has waited for its own, and asks as soon as it can.
        if self.turn.is_some() {
            return self.timer.set(time);
        }
        let (turn, time) = self.bucket.take_turn(time, cells);
        self.turn = Some(turn);
        let number = self.tally.wait();
        self.log(number, false);
        self.timer.set(time);
    }

    /// Takes one cell for the next message, and the cells that are still due for earlier ones.
    #[inline]
    pub(super) fn poll_prepay(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Balance::Due(due) = self.balance {
            ready!(self.poll_take(due.saturating_add(1), cx));
            self.balance = Balance::Prepaid;
        }
        Poll::Ready(())
    }

    /// Lets a message pass on the prepaid cell; the rest of its cost is due before the next. Refuses a message that
    /// could never pass.
    #[inline]
    pub(super) fn spend(&mut self, cells: u32) -> Result<(), Excess> {
        match (cells, self.balance) {
            (1, Balance::Prepaid) => self.balance = Balance::Due(0),
            // It costs nothing, and leaves the prepaid cell to the next message.
            (0, _) => return Ok(()),
            (cells, _) if cells > self.bucket.burst() => return Err(Excess::Never),
            // The message passes before its whole cost is paid, and the next one waits for the rest. On average the
            // quota holds, and no message has to be held back here, where there is room for none.
            (cells, Balance::Prepaid) => self.balance = Balance::Due(cells - 1),
            (cells, Balance::Due(due)) => self.balance = Balance::Due(due.saturating_add(cells)),
        }
        self.tally.admit();
        Ok(())
    }

    fn log(&self, number: u32, is_rejected: bool) {
        let quota = self.bucket.quota();
        log::rate_limited(number, is_rejected, self.what, quota.burst_size().get(), quota.replenish_interval());
    }

    pub(super) fn refuse(&mut self, excess: &Excess, cells: u32) -> Error {
        let number = self.tally.reject();
        self.log(number, true);
        let (what, quota) = (self.what, self.bucket.quota());
        let (burst, interval) = (quota.burst_size(), quota.replenish_interval());
        match excess {
            Excess::Until(time) => Error::rate_limited(format!(
                "{what} is over the rate limit of {burst} at once and one more each {interval:?}: try again in {time:?}"
            ))
            .with_retry_after(*time),
            Excess::Never => Error::too_large(format!(
                "{what} that costs {cells} can never pass a rate limit with a burst of {burst}: \
                 make it smaller, or allow a larger burst"
            ))
            .into_rejection(),
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        // Those behind it would wait for a turn that nobody takes.
        if let Some(turn) = self.turn {
            self.bucket.give_up(turn);
        }
    }
}

/// The counts of a rate limit, over all transports or services of one layer. Clones show the same counts.
///
/// A connection adds the messages that it admitted 64 at a time. It adds the rest when a message waits or is refused,
/// when the stream is `Pending`, or when the transport is closed or dropped. Until then up to 63 messages of each
/// direction are not counted yet. Services count each call at once.
#[derive(Clone, Debug, Default)]
pub struct RateLimitCounts(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    admitted: AtomicU64,
    waited: AtomicU64,
    rejected: AtomicU64,
}

impl RateLimitCounts {
    /// Returns how many messages or calls passed. Those that cost nothing are not counted.
    #[must_use]
    pub fn admitted(&self) -> u64 {
        self.0.admitted.load(Relaxed)
    }

    /// Returns how often a message or call had to wait.
    #[must_use]
    pub fn waited(&self) -> u64 {
        self.0.waited.load(Relaxed)
    }

    /// Returns how many messages or calls were refused.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.0.rejected.load(Relaxed)
    }

    pub(super) fn reject(&self) {
        self.0.rejected.fetch_add(1, Relaxed);
    }
}

/// The counts of one direction of one connection, before they are added to the shared ones: an atomic addition per
/// message would cost too much.
#[derive(Debug)]
pub(super) struct Tally {
    admitted: u32,
    /// The messages that this direction of this connection held up or rejected, for the log.
    limited: u32,
    shared: RateLimitCounts,
}

impl Tally {
    pub(super) fn new(shared: RateLimitCounts) -> Self {
        Self { admitted: 0, limited: 0, shared }
    }

    #[inline]
    pub(super) fn admit(&mut self) {
        self.admitted += 1;
        // Connections that share the counts would otherwise contend for one cache line with each message.
        if self.admitted >= 64 {
            self.report();
        }
    }

    /// Counts a message that has to wait. Returns how many this connection has had over its limit.
    pub(super) fn wait(&mut self) -> u32 {
        self.settle();
        self.shared.0.waited.fetch_add(1, Relaxed);
        self.limit()
    }

    /// Counts a rejected message. Returns how many this connection has had over its limit.
    pub(super) fn reject(&mut self) -> u32 {
        self.settle();
        self.shared.reject();
        self.limit()
    }

    fn limit(&mut self) -> u32 {
        self.limited = self.limited.saturating_add(1);
        self.limited
    }

    #[inline]
    pub(super) fn settle(&mut self) {
        if self.admitted > 0 {
            self.report();
        }
    }

    fn report(&mut self) {
        self.shared.0.admitted.fetch_add(u64::from(self.admitted), Relaxed);
        self.admitted = 0;
    }
}

impl Clone for Tally {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone())
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.settle();
    }
}
