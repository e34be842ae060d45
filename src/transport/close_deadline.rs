use std::{
    task::{Context, Poll},
    time::Duration,
};

#[cfg(feature = "rt")]
use crate::rt::{self, Instant, Progress, Timer};
use crate::transport::signal::Mark;

/// The default time limit of a close: [`Limits::close`](crate::Limits::close) has the same.
pub(crate) const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// The time that the transport's own close may take in addition. Its limit may be the same number and begin at the same
/// time, and its error says more.
#[cfg(feature = "rt")]
const GRACE: Duration = Duration::from_secs(1);

/// The time limit of a close, which [starts](Self::poll) when the close does. It counts from the last progress, as
/// [`Limits::close`](crate::Limits::close) does.
///
/// `Duration::MAX` is no limit. Without the feature `rt`, or where no timer can be made, there is no limit either: a
/// driver and a server must work there, because they need a timer for nothing else.
#[derive(Debug)]
pub(crate) struct CloseDeadline {
    limit: Duration,
    #[cfg(feature = "rt")]
    progress: Option<Progress>,
    #[cfg(feature = "rt")]
    timer: Timer,
}

/// The party that a close waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitsFor {
    /// The transport has to take messages.
    Room,
    /// The transport's own close is not done. It may have a limit of its own.
    Transport,
    /// A session has to be continued by its client, and limits that itself.
    Client,
}

impl WaitsFor {
    /// Returns `self`, unless the transport has reported since `mark` that it waits for its client.
    pub(crate) fn unless_client(self, mark: Mark) -> Self {
        if mark.has_awaited_client() { Self::Client } else { self }
    }
}

impl CloseDeadline {
    pub(crate) const fn new(limit: Duration) -> Self {
        Self {
            limit,
            #[cfg(feature = "rt")]
            progress: None,
            #[cfg(feature = "rt")]
            timer: Timer::new(),
        }
    }

    pub(crate) const fn limit(&self) -> Duration {
        self.limit
    }

    #[cfg(feature = "service")]
    pub(crate) fn set_limit(&mut self, limit: Duration) {
        self.limit = limit;
    }
}

#[cfg(feature = "rt")]
impl CloseDeadline {
    /// Stops the time. The next poll starts it from the beginning.
    pub(crate) fn stop(&mut self) {
        self.progress = None;
        self.timer.clear();
    }

    /// Returns `Ready` once the time is over. It starts with the first call, and again with the first one after a wait
    /// for the client.
    pub(crate) fn poll(&mut self, has_moved: bool, waits_for: WaitsFor, cx: &mut Context<'_>) -> Poll<()> {
        let is_running = self.progress.is_some();
        if self.limit == Duration::MAX || (!is_running && !rt::has_timers()) {
            return Poll::Pending;
        }
        let grace = match waits_for {
            WaitsFor::Room => Duration::ZERO,
            WaitsFor::Transport => GRACE,
            WaitsFor::Client => {
                self.stop();
                return Poll::Pending;
            }
        };
        let now = Instant::now();
        let limit = self.limit;
        let progress = self.progress.get_or_insert_with(|| Progress::new(limit, 0, now));
        if has_moved {
            progress.advance(now);
        }
        loop {
            // A timer that is set is not set again at each progress: it fires early, and is set for the rest.
            if self.timer.is_set() {
                std::task::ready!(self.timer.poll(cx));
            }
            let left = progress.left(Instant::now().checked_sub(grace).unwrap_or(now));
            if left.is_zero() {
                return Poll::Ready(());
            }
            self.timer.set(left);
        }
    }
}

#[cfg(not(feature = "rt"))]
impl CloseDeadline {
    pub(crate) fn stop(&mut self) {}

    pub(crate) fn poll(&mut self, _has_moved: bool, _waits_for: WaitsFor, _cx: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}
