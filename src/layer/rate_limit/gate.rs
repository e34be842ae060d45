use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{
    bucket::{Bucket, Excess},
    counts::{RateLimitCounts, Tally},
    line::Place,
};
use crate::{Error, rt::Timer};

/// The limiter of one direction of one transport, or of one service.
#[derive(Debug)]
pub(super) struct Gate {
    bucket: Bucket,
    timer: Timer,
    /// The place in line while it waits for its turn.
    place: Option<Place>,
    pub(super) tally: Tally,
    /// The part of the last message's cost beyond the cell that was paid ahead.
    due: u32,
    /// Whether a cell is taken for the next message.
    is_prepaid: bool,
    /// The kind of item that passes here, for error messages.
    what: &'static str,
}

impl Gate {
    pub(super) fn new(bucket: Bucket, counts: RateLimitCounts, what: &'static str) -> Self {
        Self { bucket, timer: Timer::new(), place: None, tally: Tally::new(counts), due: 0, is_prepaid: false, what }
    }

    /// Returns the same gate for a clone of a service: the bucket is shared, a prepaid cell is not.
    pub(super) fn fresh(&self) -> Self {
        Self {
            bucket: self.bucket.clone(),
            timer: Timer::new(),
            place: None,
            tally: self.tally.clone(),
            due: 0,
            is_prepaid: false,
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
        if self.place.is_none() && self.bucket.check(cells).is_ok() {
            return Poll::Ready(());
        }
        self.poll_wait(cells, cx)
    }

    #[cold]
    #[inline(never)]
    fn poll_wait(&mut self, cells: u32, cx: &mut Context<'_>) -> Poll<()> {
        let cells = cells.min(self.bucket.burst());
        loop {
            if self.timer.is_set() {
                ready!(self.timer.poll(cx));
            }
            match self.bucket.check(cells) {
                Err(Excess::Until(time)) => self.wait(time, cells),
                _ => break,
            }
        }
        self.place = None;
        Poll::Ready(())
    }

    /// The cells are not available before that time.
    #[cold]
    pub(super) fn wait(&mut self, time: Duration, cells: u32) {
        // Another caller whose turn had not come took the cell: this one has waited in line, and asks as soon as it
        // may.
        if self.place.is_some() {
            return self.timer.set(time);
        }
        let (place, time) = self.bucket.join(time, cells);
        self.place = Some(place);
        self.tally.wait();
        self.timer.set(time);
    }

    /// Takes one cell for the next message, and the cells that are still due for the last one.
    #[inline]
    pub(super) fn poll_prepay(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_prepaid {
            if self.due > 0 {
                return self.poll_due(cx);
            }
            ready!(self.poll_take(1, cx));
            self.is_prepaid = true;
        }
        Poll::Ready(())
    }

    #[cold]
    #[inline(never)]
    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        ready!(self.poll_take(self.due.saturating_add(1), cx));
        self.due = 0;
        self.is_prepaid = true;
        Poll::Ready(())
    }

    /// Lets a message pass on the prepaid cell; the rest of its cost is due before the next. Refuses a message that
    /// could never pass.
    #[inline]
    pub(super) fn spend(&mut self, cells: u32) -> Result<(), Excess> {
        if cells == 1 && std::mem::take(&mut self.is_prepaid) {
            self.tally.admit();
            return Ok(());
        }
        self.spend_more(cells)
    }

    #[inline(never)]
    fn spend_more(&mut self, cells: u32) -> Result<(), Excess> {
        if cells > self.bucket.burst() {
            return Err(Excess::Never);
        }
        if cells > 0 {
            let prepaid = u32::from(std::mem::take(&mut self.is_prepaid));
            self.due = self.due.saturating_add(cells - prepaid);
            self.tally.admit();
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
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
            ))
            .into_rejection(),
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if let Some(place) = self.place {
            self.bucket.leave(place);
        }
    }
}
