use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use crate::rt::{self, Instant, Progress, Timer};

/// The time that the transport's own close may take in addition. Its limit may be the same number and begin at the same
/// time, and its error says more.
const GRACE: Duration = Duration::from_secs(1);

/// The time limit of a close, from the moment the queue accepts no more messages until the transport is closed.
///
/// It counts from the last progress, as [`Limits::close`](crate::Limits::close) does.
pub(super) struct Deadline {
    limit: Duration,
    progress: Option<Progress>,
    timer: Timer,
}

impl Deadline {
    pub(super) fn new(limit: Duration) -> Self {
        Self { limit, progress: None, timer: Timer::new() }
    }

    pub(super) fn limit(&self) -> Duration {
        self.limit
    }

    pub(super) fn is_running(&self) -> bool {
        self.progress.is_some()
    }

    /// Returns `Ready` once the time is over. It starts with the first call. `is_last` says that only the transport's
    /// own close is not done.
    pub(super) fn poll(&mut self, has_moved: bool, is_last: bool, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_running() && !rt::has_timers() {
            return Poll::Pending;
        }
        let now = Instant::now();
        let (limit, grace) = (self.limit, if is_last { GRACE } else { Duration::ZERO });
        let progress = self.progress.get_or_insert_with(|| Progress::new(limit, 0, now));
        if has_moved {
            progress.advance(now);
        }
        loop {
            // A timer that is set is not set again at each progress: it fires early, and is set for the rest.
            if self.timer.is_set() {
                ready!(self.timer.poll(cx));
            }
            let left = progress.left(Instant::now().checked_sub(grace).unwrap_or(now));
            if left.is_zero() {
                return Poll::Ready(());
            }
            self.timer.set(left);
        }
    }
}
