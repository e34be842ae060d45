use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use crate::rt::{Instant, Timer};

/// So often a comment goes out where nothing else does: proxies cut what is silent for 30 to 60 s.
const INTERVAL: Duration = Duration::from_secs(15);

/// When it is time to say that the stream is still there.
#[derive(Debug)]
pub(super) struct KeepAlive {
    interval: Option<Duration>,
    timer: Timer,
    /// Since when nothing was said; `None` where something has just been.
    silent_since: Option<Instant>,
}

impl KeepAlive {
    pub(super) fn every(interval: Option<Duration>) -> Self {
        Self { interval, timer: Timer::new(), silent_since: None }
    }

    /// Something was said.
    #[inline]
    pub(super) fn spoken(&mut self) {
        self.silent_since = None;
    }

    /// Ready when it is time; asked only where there is nothing to say. So a busy stream neither reads the clock nor sets the timer,
    /// which goes on running over what was said since, and is set anew when it rings too early.
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
