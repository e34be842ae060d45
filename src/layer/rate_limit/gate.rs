use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{
    bucket::{Bucket, Excess},
    counts::{RateLimitCounts, Tally},
};
use crate::{Error, rt::Timer};

/// What stands in the way of one direction of one transport, or of one service.
#[derive(Debug)]
pub(super) struct Gate {
    bucket: Bucket,
    timer: Timer,
    is_waiting: bool,
    pub(super) tally: Tally,
    /// What the last message cost beyond the cell that was paid ahead.
    due: u32,
    /// A cell is taken for the message that comes next.
    is_prepaid: bool,
    /// For its errors: what passes here.
    what: &'static str,
}

impl Gate {
    pub(super) fn new(bucket: Bucket, counts: RateLimitCounts, what: &'static str) -> Self {
        Self {
            bucket,
            timer: Timer::new(),
            is_waiting: false,
            tally: Tally::new(counts),
            due: 0,
            is_prepaid: false,
            what,
        }
    }

    /// The same gate for a clone of a service: the bucket is shared, what is paid ahead is not.
    pub(super) fn fresh(&self) -> Self {
        Self {
            bucket: self.bucket.clone(),
            timer: Timer::new(),
            is_waiting: false,
            tally: self.tally.clone(),
            due: 0,
            is_prepaid: false,
            what: self.what,
        }
    }

    /// Takes the cells at once, or says after which time.
    #[inline]
    pub(super) fn try_take(&mut self, cells: u32) -> Result<(), Excess> {
        self.bucket.check(cells)?;
        self.tally.admit();
        Ok(())
    }

    /// Takes the cells as soon as they are there. They are no more than a full bucket has.
    pub(super) fn poll_take(&mut self, cells: u32, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.timer.is_set() {
                ready!(self.timer.poll(cx));
            }
            match self.bucket.check(cells.min(self.bucket.burst())) {
                Err(Excess::Until(time)) => self.wait(time),
                _ => break,
            }
        }
        self.is_waiting = false;
        Poll::Ready(())
    }

    pub(super) fn wait(&mut self, time: Duration) {
        if !self.is_waiting {
            self.is_waiting = true;
            self.tally.wait();
        }
        self.timer.set(time);
    }

    /// Takes one cell for the message to come, and what is still due for the last one.
    #[inline]
    pub(super) fn poll_prepay(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_prepaid {
            ready!(self.poll_take(self.due.saturating_add(1), cx));
            self.due = 0;
            self.is_prepaid = true;
        }
        Poll::Ready(())
    }

    /// A message has passed on what was prepaid; what it costs beyond is due before the next.
    #[inline]
    pub(super) fn spend(&mut self, cells: u32) {
        let prepaid = u32::from(std::mem::take(&mut self.is_prepaid));
        self.due = self.due.saturating_add(cells - prepaid.min(cells));
        self.tally.admit();
    }

    /// Whether a message of that cost could ever pass.
    pub(super) fn check_cost(&mut self, cells: u32) -> Result<(), Error> {
        if cells > self.bucket.burst() { Err(self.refuse(&Excess::Never, cells)) } else { Ok(()) }
    }

    pub(super) fn refuse(&mut self, excess: &Excess, cells: u32) -> Error {
        self.tally.reject();
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
            )),
        }
    }
}
