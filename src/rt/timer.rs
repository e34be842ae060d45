use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{Instant, Sleep, sleep, unconstrained};

/// A timer that is set again and again: its memory is allocated when it is first set, and kept.
///
/// To poll one costs about as much as a whole layer. Poll it where the layer below is `Pending`, not for each message: it
/// wakes the task that polled it last, as any other future.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    is_set: bool,
}

#[allow(dead_code, reason = "which of them are used depends on the features")]
impl Timer {
    /// A timer that is not set.
    pub(crate) const fn new() -> Self {
        Self { sleep: None, is_set: false }
    }

    /// Rings after `time`, and not when it was to ring before. Reads the clock.
    pub(crate) fn set(&mut self, time: Duration) {
        self.is_set = true;
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(later(Instant::now(), time)),
            None => self.sleep = Some(Box::pin(sleep(time))),
        }
    }

    /// Rings at `deadline`, and not when it was to ring before.
    pub(crate) fn set_at(&mut self, deadline: Instant) {
        self.is_set = true;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(Duration::ZERO)));
        sleep.as_mut().reset(deadline);
    }

    /// Does not ring any more.
    pub(crate) fn clear(&mut self) {
        self.is_set = false;
    }

    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.is_set
    }

    /// Polls it even where the task has used up its turn: afterwards it runs, and wakes the task of `cx`, whoever that is.
    pub(crate) fn start(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut unconstrained(std::future::poll_fn(|cx| self.poll(cx)))).poll(cx)
    }

    /// Whether it is set and has not rung.
    #[inline]
    pub(crate) fn is_running(&self) -> bool {
        self.is_set && !self.has_rung()
    }

    /// Whether it has rung, for those whom it does not wake: about as cheap as reading a flag. It must have been
    /// [started](Self::start).
    #[inline]
    pub(crate) fn has_rung(&self) -> bool {
        self.is_set && self.sleep.as_ref().is_some_and(|sleep| sleep.is_elapsed())
    }

    /// Ready once, when it rings; `Pending` while it is not set.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.sleep {
            Some(sleep) if self.is_set => {
                ready!(sleep.as_mut().poll(cx));
                self.is_set = false;
                Poll::Ready(())
            }
            _ => Poll::Pending,
        }
    }
}

/// Thirty years stand for ever: a duration such as `Duration::MAX` has no end that the clock could show.
fn later(now: Instant, time: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);
    now.checked_add(time).unwrap_or_else(|| now + FAR)
}
