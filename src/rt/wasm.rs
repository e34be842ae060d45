use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use gloo_timers::future::TimeoutFuture;
pub(crate) use web_time::Instant;

/// The counterpart of tokio's `Sleep`, over the browser's `setTimeout`.
#[derive(Debug)]
pub(crate) struct Sleep {
    deadline: Instant,
    timeout: TimeoutFuture,
}

pub(crate) fn sleep(time: Duration) -> Sleep {
    Sleep { deadline: super::timer::later(Instant::now(), time), timeout: timeout(time) }
}

/// The browser counts whole milliseconds, up to 2^31 of them. Longer durations are slept in pieces.
fn timeout(time: Duration) -> TimeoutFuture {
    let millis = time.as_nanos().div_ceil(1_000_000);
    TimeoutFuture::new(u32::try_from(millis).unwrap_or(u32::MAX).min(i32::MAX as u32))
}

/// The browser has no cooperative task budget.
pub(crate) fn has_budget_remaining() -> bool {
    true
}

/// The browser always has timers.
pub(crate) fn has_timers() -> bool {
    true
}

/// The browser has no cooperative task budget to lift.
pub(crate) fn unconstrained<F>(future: F) -> F {
    future
}

impl Sleep {
    pub(crate) fn is_elapsed(&self) -> bool {
        Instant::now() >= self.deadline
    }

    pub(crate) fn reset(mut self: Pin<&mut Self>, deadline: Instant) {
        self.deadline = deadline;
        self.timeout = timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            std::task::ready!(Pin::new(&mut self.timeout).poll(cx));
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Poll::Ready(());
            }
            self.timeout = timeout(left);
        }
    }
}
