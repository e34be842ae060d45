use std::{
    task::{Context, Poll, ready},
    time::Duration,
};

use super::signal::Mark;
use crate::{
    Error,
    rt::{Instant, Timer},
};

/// Detects a connection on which nothing moves, in either direction: [`Limits::idle`](crate::Limits::idle).
///
/// Without a limit it costs one branch a poll. With one, each poll in which bytes move reads the clock.
#[derive(Debug)]
pub(crate) struct Idle(Option<Box<Watch>>);

#[derive(Debug)]
struct Watch {
    limit: Duration,
    moved: Instant,
    timer: Timer,
}

impl Idle {
    /// Begins to count. [`Duration::MAX`] is no limit.
    pub(crate) fn new(limit: Duration) -> Self {
        Self((limit != Duration::MAX).then(|| Box::new(Watch { limit, moved: Instant::now(), timer: Timer::new() })))
    }

    /// Call this directly before a poll of the connection, and [`record`](Self::record) directly after it.
    #[inline]
    pub(crate) fn mark(&self) -> Option<Mark> {
        self.0.as_ref().map(|_| Mark::now())
    }

    #[inline]
    pub(crate) fn record(&mut self, mark: Option<Mark>) {
        if let (Some(watch), Some(mark)) = (&mut self.0, mark)
            && mark.has_moved()
        {
            watch.moved = Instant::now();
        }
    }

    /// Returns the error of a connection that is idle. Call it before the stream returns `Pending`.
    #[inline]
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        match &mut self.0 {
            Some(watch) => watch.poll(cx),
            None => Poll::Pending,
        }
    }
}

impl Watch {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let limit = self.limit;
        loop {
            // A timer that is set is not set again each time bytes move: it fires early, and is set for the rest.
            if self.timer.is_set() {
                ready!(self.timer.poll(cx));
            }
            let left = limit.saturating_sub(self.moved.elapsed());
            if left.is_zero() {
                return Poll::Ready(Error::timeout(format!(
                    "nothing was sent or received for {limit:?} (Limits::idle); raise it, or send pings (heartbeat)"
                )));
            }
            self.timer.set(left);
        }
    }
}
