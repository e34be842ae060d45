use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

#[cfg(not(target_arch = "wasm32"))]
use super::native::{Instant, Sleep, has_budget_remaining, sleep, unconstrained};
#[cfg(target_arch = "wasm32")]
use super::wasm::{Instant, Sleep, has_budget_remaining, sleep, unconstrained};

/// A reusable timer. Its memory is allocated when it is first set, and then kept.
///
/// Like any other future, it wakes the task that polled it last. The first poll by a task costs about as much as a
/// whole layer. Further polls by the same task cost two loads until the timer fires. Poll it when the layer below is
/// `Pending`, not for each message.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    is_set: bool,
    /// The waker that `sleep` wakes, if it was polled since it was set. An idle connection is polled for many reasons,
    /// and registering the same waker each time would be most of the cost of such a poll.
    registered: Option<Waker>,
}

#[allow(dead_code, reason = "which of them are used depends on the features")]
impl Timer {
    /// Creates a timer that is not set.
    pub(crate) const fn new() -> Self {
        Self { sleep: None, is_set: false, registered: None }
    }

    /// Sets the timer to fire after `time`, replacing any earlier deadline. Reads the clock.
    pub(crate) fn set(&mut self, time: Duration) {
        self.is_set = true;
        self.registered = None;
        match &mut self.sleep {
            Some(sleep) => sleep.as_mut().reset(later(Instant::now(), time)),
            None => self.sleep = Some(Box::pin(sleep(time))),
        }
    }

    /// Sets the timer to fire at `deadline`, replacing any earlier deadline.
    pub(crate) fn set_at(&mut self, deadline: Instant) {
        self.is_set = true;
        self.registered = None;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(Duration::ZERO)));
        sleep.as_mut().reset(deadline);
    }

    /// Disarms the timer.
    pub(crate) fn clear(&mut self) {
        self.is_set = false;
    }

    #[inline]
    pub(crate) fn is_set(&self) -> bool {
        self.is_set
    }

    /// Polls the timer even if the task has exhausted its cooperative budget. Afterwards the timer is running and wakes
    /// the task of `cx`.
    pub(crate) fn start(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut unconstrained(std::future::poll_fn(|cx| self.poll(cx)))).poll(cx)
    }

    /// Returns whether the timer is set and has not fired.
    #[inline]
    pub(crate) fn is_running(&self) -> bool {
        self.is_set && !self.has_rung()
    }

    /// Returns whether the timer runs and will wake the task that polled it last. Costs three loads, so it can be asked
    /// for each message.
    #[inline]
    pub(crate) fn is_waiting(&self) -> bool {
        self.is_set && self.registered.is_some() && !self.has_rung()
    }

    /// Returns whether the timer has fired, for callers that it does not wake. About as cheap as reading a flag. The
    /// timer must have been [started](Self::start).
    #[inline]
    pub(crate) fn has_rung(&self) -> bool {
        self.is_set && self.sleep.as_ref().is_some_and(|sleep| sleep.is_elapsed())
    }

    /// Returns `Ready` once, when the timer fires, and `Pending` while it is not set.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.sleep {
            Some(sleep) if self.is_set => {
                // Firing comes before waking, so a timer that has not fired yet still wakes the registered waker.
                if self.registered.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) && !sleep.is_elapsed() {
                    return Poll::Pending;
                }
                self.registered = None;
                let has_budget = has_budget_remaining();
                if sleep.as_mut().poll(cx).is_pending() {
                    // Without a budget, the timer was not asked.
                    self.registered = has_budget.then(|| cx.waker().clone());
                    return Poll::Pending;
                }
                self.is_set = false;
                Poll::Ready(())
            }
            _ => Poll::Pending,
        }
    }
}

/// Thirty years stand in for "never": the clock cannot represent the end of a duration such as `Duration::MAX`.
pub(super) fn later(now: Instant, time: Duration) -> Instant {
    const FAR: Duration = Duration::from_secs(86_400 * 365 * 30);
    now.checked_add(time).unwrap_or_else(|| now + FAR)
}
