use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

use crate::{
    rt::{Instant, Timer},
    transport::wakers::{Half, WakerPair},
};

/// A timer that costs an idle message one load. The timer has its own waker, which raises a flag and wakes both halves
/// of the transport. It therefore fires for whichever half is polled, even under a flood that never lets a poll be
/// `Pending`.
pub(super) struct Alarm {
    bell: Arc<Bell>,
    waker: Waker,
    timer: Timer,
    /// Not yet passed to the timer: that requires a runtime, which is present in the first poll.
    deadline: Option<Instant>,
}

#[derive(Default)]
struct Bell {
    has_rung: AtomicBool,
    wakers: WakerPair,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_rung.store(true, Ordering::Release);
        self.wakers.wake_both();
    }
}

impl Alarm {
    pub(super) fn new() -> Self {
        let bell = Arc::new(Bell::default());
        Self { waker: bell.clone().into(), bell, timer: Timer::new(), deadline: None }
    }

    /// Sets the alarm to `deadline`, replacing any earlier deadline.
    pub(super) fn set_at(&mut self, deadline: Option<Instant>) {
        self.timer.clear();
        self.deadline = deadline;
        self.bell.wake_by_ref();
    }

    /// Returns whether nothing needs attention.
    #[inline]
    pub(super) fn is_silent(&self) -> bool {
        !self.bell.has_rung.load(Ordering::Acquire)
    }

    /// Returns whether the alarm fired, once per alarm.
    #[inline]
    pub(super) fn has_rung(&mut self) -> bool {
        self.bell.has_rung.load(Ordering::Acquire) && self.look()
    }

    #[cold]
    fn look(&mut self) -> bool {
        // Cleared before the timer is polled, so that an alarm in between is not lost.
        self.bell.has_rung.store(false, Ordering::Release);
        if let Some(deadline) = self.deadline.take() {
            self.timer.set_at(deadline);
        }
        self.timer.poll(&mut Context::from_waker(&self.waker)).is_ready()
    }

    /// Registers the half's task to be woken when the alarm fires. Returns `false` if it has fired already; the caller
    /// must check again.
    pub(super) fn waits(&self, half: Half, cx: &Context<'_>) -> bool {
        self.bell.wakers.register(half, cx);
        !self.bell.has_rung.load(Ordering::Acquire)
    }

    /// Returns a waker that wakes both halves, for work on behalf of both.
    pub(super) fn waker(&self) -> &Waker {
        &self.waker
    }
}

impl fmt::Debug for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Alarm").field("is_set", &(self.deadline.is_some() || self.timer.is_set())).finish()
    }
}
