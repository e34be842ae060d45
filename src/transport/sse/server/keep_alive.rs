use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use crate::rt::{Instant, Timer};

/// The interval of comments on an idle stream: proxies cut streams that are silent for 30 to 60 s.
const INTERVAL: Duration = Duration::from_secs(15);

/// The schedule of keep-alive comments.
#[derive(Debug)]
pub(super) struct KeepAlive {
    interval: Option<Duration>,
    timer: Timer,
    /// The time since which nothing was sent, or `None` if bytes have just been sent.
    silent_since: Option<Instant>,
}

impl KeepAlive {
    pub(super) fn every(interval: Option<Duration>) -> Self {
        Self { interval, timer: Timer::new(), silent_since: None }
    }

    /// Records that something was sent.
    #[inline]
    pub(super) fn spoken(&mut self) {
        self.silent_since = None;
    }

    /// Returns `Ready` when a comment is due. It is polled only if there is nothing to send, so a busy stream neither
    /// reads the clock nor sets the timer. The timer keeps running across sent events, and is set again if it fires too
    /// early.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(interval) = self.interval else { return Poll::Pending };
        let since = *self.silent_since.get_or_insert_with(Instant::now);
        let Some(due) = since.checked_add(interval) else { return Poll::Pending };
        if !self.timer.is_set() {
            self.timer.set_at(due);
        }
        loop {
            ready!(self.timer.poll(cx));
            if Instant::now() >= due {
                return Poll::Ready(());
            }
            self.timer.set_at(due);
        }
    }
}

impl Default for KeepAlive {
    fn default() -> Self {
        Self::every(Some(INTERVAL))
    }
}
