use std::{
    cell::Cell,
    fmt,
    future::poll_fn,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use gloo_timers::callback::Timeout;
pub(crate) use web_time::Instant;

/// The counterpart of tokio's `Sleep`, over the browser's `setTimeout`.
///
/// It has elapsed once the browser has called back, whatever the clock says: the clock of a page is coarse, and may be
/// a little behind.
pub(crate) struct Sleep(Rc<Alarm>);

struct Alarm {
    deadline: Cell<Instant>,
    is_elapsed: Cell<bool>,
    waker: Cell<Option<Waker>>,
    timeout: Cell<Option<Timeout>>,
}

/// The longest time that a browser counts, in milliseconds. Longer ones are slept in pieces.
const LONGEST: u32 = i32::MAX as u32;

pub(crate) fn sleep(time: Duration) -> Sleep {
    let alarm = Rc::new(Alarm {
        deadline: Cell::new(super::timer::later(Instant::now(), time)),
        is_elapsed: Cell::new(false),
        waker: Cell::new(None),
        timeout: Cell::new(None),
    });
    alarm.set();
    Sleep(alarm)
}

impl Alarm {
    /// Asks the browser to call back at the deadline.
    fn set(self: &Rc<Self>) {
        let left = self.deadline.get().saturating_duration_since(Instant::now());
        let millis = u32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX);
        let alarm = Rc::downgrade(self);
        self.is_elapsed.set(false);
        self.timeout.set(Some(Timeout::new(millis.min(LONGEST), move || {
            let Some(alarm) = alarm.upgrade() else { return };
            if millis > LONGEST {
                return alarm.set();
            }
            alarm.is_elapsed.set(true);
            alarm.waker.take().into_iter().for_each(Waker::wake);
        })));
    }
}

/// The counterpart of tokio's `timeout`.
#[allow(dead_code, reason = "which of them are used depends on the features")]
pub(crate) async fn timeout<F: Future>(time: Duration, future: F) -> Result<F::Output, Elapsed> {
    let (mut future, mut sleep) = (pin!(future), pin!(sleep(time)));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Ok(output)),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| Err(Elapsed)),
    })
    .await
}

/// The error of a future that did not complete in time.
#[derive(Debug)]
pub(crate) struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadline has elapsed")
    }
}

impl std::error::Error for Elapsed {}

/// Spawns a task of the page, for which nobody waits.
#[allow(dead_code, reason = "which of them are used depends on the features")]
pub(crate) fn detach(future: impl Future + 'static) {
    wasm_bindgen_futures::spawn_local(async move {
        future.await;
    });
}

/// Returns 64 random bits of the browser's `Math.random`. They spread clients, and are no secret.
#[allow(dead_code, reason = "which of them are used depends on the features")]
pub(crate) fn random() -> u64 {
    // A double has 53 bits, so each call gives 32 of them.
    let bits = || (js_sys::Math::random() * 4_294_967_296.0) as u64;
    bits() << 32 | bits()
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
        self.0.is_elapsed.get()
    }

    pub(crate) fn reset(self: Pin<&mut Self>, deadline: Instant) {
        self.0.deadline.set(deadline);
        self.0.set();
    }
}

debug_fields!(Sleep, |this| { is_elapsed: this.is_elapsed() });

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_elapsed() {
            return Poll::Ready(());
        }
        self.0.waker.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}
