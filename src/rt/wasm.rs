use std::{
    cell::Cell,
    fmt,
    future::poll_fn,
    ops::{Add, Sub},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use gloo_timers::callback::Timeout;
use wasm_bindgen::JsValue;

/// A point of time of a clock that goes on while the computer sleeps.
///
/// Some browsers stop `performance.now()` meanwhile. The calendar does not stop, so a calendar that gains more than a
/// second on that clock has seen a sleep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Instant(Duration);

/// The last look at both clocks.
#[derive(Clone, Copy)]
struct Look {
    monotonic: web_time::Instant,
    calendar: f64,
    now: Duration,
}

#[allow(dead_code, reason = "which of them are used depends on the features")]
impl Instant {
    pub(crate) fn now() -> Self {
        thread_local! {
            static LAST: Cell<Option<Look>> = const { Cell::new(None) };
        }
        let (monotonic, calendar) = (web_time::Instant::now(), js_sys::Date::now());
        let now = LAST.get().map_or(Duration::ZERO, |last| {
            let passed = monotonic.saturating_duration_since(last.monotonic);
            last.now + passed + slept(passed, calendar - last.calendar)
        });
        LAST.set(Some(Look { monotonic, calendar, now }));
        Self(now)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        Self::now().saturating_duration_since(*self)
    }

    pub(crate) fn saturating_duration_since(&self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    pub(crate) fn duration_since(&self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }

    pub(crate) fn checked_add(&self, time: Duration) -> Option<Self> {
        self.0.checked_add(time).map(Self)
    }

    pub(crate) fn checked_sub(&self, time: Duration) -> Option<Self> {
        self.0.checked_sub(time).map(Self)
    }
}

/// Returns the time that the computer slept while one clock counted `passed` and the calendar `millis`.
fn slept(passed: Duration, millis: f64) -> Duration {
    const CORRECTION: Duration = Duration::from_secs(1);

    let calendar = Duration::try_from_secs_f64(millis / 1000.0).unwrap_or_default();
    calendar.checked_sub(passed).filter(|gained| *gained > CORRECTION).unwrap_or_default()
}

impl Add<Duration> for Instant {
    type Output = Self;

    fn add(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

impl Sub for Instant {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

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

/// Returns whether the browser knows that there is no network.
#[allow(dead_code, reason = "which of them are used depends on the features")]
pub(crate) fn is_offline() -> bool {
    let navigator = property(&js_sys::global(), "navigator");
    navigator.and_then(|navigator| property(&navigator, "onLine")).is_some_and(|on| on == false)
}

/// Returns a property of an object, which the global object of a worker may not have.
#[allow(dead_code, reason = "which of them are used depends on the features")]
pub(crate) fn property(object: &JsValue, name: &str) -> Option<JsValue> {
    js_sys::Reflect::get(object, &JsValue::from_str(name)).ok()
}

/// The browser has no cooperative task budget.
pub(crate) fn has_budget_remaining() -> bool {
    true
}

/// The browser always has tasks.
#[allow(dead_code, reason = "which of them are used depends on the features")]
pub(crate) fn has_runtime() -> bool {
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
