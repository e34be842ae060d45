use std::{
    hash::{Hash, Hasher},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use governor::{
    NotUntil, RateLimiter,
    clock::Clock as _,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed, StateStore},
};

use super::turns::{Turn, Turns};
use crate::rt::Instant;

/// A rate: a burst, and the time in which one more cell comes back.
///
/// A *cell* is the unit of the [cost](super::Cost): a message, a byte, or your own unit. A full bucket has `burst`
/// cells. One comes back each [`replenish_interval`](Self::replenish_interval), evenly and not once a second. In any
/// time `t`, no more than `burst + t / interval` cells pass.
///
/// The names are those of governor's `Quota`. It is a separate type, so that a new version of governor is not a
/// breaking change here, and so that a quota which would overflow governor's clock (64 bits of nanoseconds) cannot be
/// created.
///
/// ```
/// use std::{num::NonZeroU32, time::Duration};
/// use tower_transport::layer::rate_limit::Quota;
///
/// // A burst of 50, then one each 20 ms.
/// let quota = Quota::per_second(NonZeroU32::new(50).unwrap());
/// assert_eq!(quota.replenish_interval(), Duration::from_millis(20));
/// assert_eq!(quota.burst_size().get(), 50);
///
/// // The same rate, with a burst of at most 5.
/// let smooth = quota.allow_burst(NonZeroU32::new(5).unwrap());
/// assert_eq!(smooth.burst_size_replenished_in(), Duration::from_millis(100));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    interval: u64,
    burst: NonZeroU32,
}

/// A hundred years: longer than any wait, and far below what 64 bits of nanoseconds hold.
const FOREVER: u64 = 100 * 365 * 86_400 * 1_000_000_000;

impl Quota {
    /// Creates a quota of `cells` a second, all of which may come in one burst.
    #[must_use]
    pub const fn per_second(cells: NonZeroU32) -> Self {
        Self::per(1, cells)
    }

    /// Creates a quota of `cells` a minute, all of which may come in one burst.
    #[must_use]
    pub const fn per_minute(cells: NonZeroU32) -> Self {
        Self::per(60, cells)
    }

    /// Creates a quota of `cells` an hour, all of which may come in one burst.
    #[must_use]
    pub const fn per_hour(cells: NonZeroU32) -> Self {
        Self::per(3600, cells)
    }

    const fn per(seconds: u64, cells: NonZeroU32) -> Self {
        let interval = seconds * 1_000_000_000 / cells.get() as u64;
        Self { interval: if interval == 0 { 1 } else { interval }, burst: cells }
    }

    /// Creates a quota of one cell each `interval`, without a larger burst. `interval` is at least 1 ns and at most a
    /// hundred years.
    #[must_use]
    pub const fn with_period(interval: Duration) -> Self {
        let nanos = interval.as_nanos();
        let interval = match nanos {
            0 => 1,
            1..=0xffff_ffff_ffff_ffff if (nanos as u64) < FOREVER => nanos as u64,
            _ => FOREVER,
        };
        Self { interval, burst: NonZeroU32::MIN }
    }

    /// Sets the burst. A burst that would take over a hundred years to come back is reduced to what takes a hundred
    /// years.
    #[must_use]
    pub const fn allow_burst(self, cells: NonZeroU32) -> Self {
        let most = FOREVER / self.interval;
        let burst = if (cells.get() as u64) < most { cells } else { NonZeroU32::MIN.saturating_add(most as u32 - 1) };
        Self { burst, ..self }
    }

    /// Returns the time in which one cell comes back.
    #[must_use]
    pub const fn replenish_interval(&self) -> Duration {
        Duration::from_nanos(self.interval)
    }

    /// Returns the burst, which is also the maximum cost of one message.
    #[must_use]
    pub const fn burst_size(&self) -> NonZeroU32 {
        self.burst
    }

    /// Returns the time in which an empty bucket becomes full again.
    #[must_use]
    pub const fn burst_size_replenished_in(&self) -> Duration {
        Duration::from_nanos(self.interval * self.burst.get() as u64)
    }

    pub(super) fn governor(self) -> governor::Quota {
        // The interval is at least a nanosecond.
        let quota = governor::Quota::with_period(self.replenish_interval());
        quota.unwrap_or(governor::Quota::per_second(NonZeroU32::MAX)).allow_burst(self.burst)
    }
}

/// Governor's GCRA for one quota and clock, over any number of states. Each owner holds its own state. A connection or
/// a key therefore costs no more than its state, and a message of a keyed connection needs no look-up.
pub(super) struct Limiter {
    governor: RateLimiter<BucketState, InKeys, Clock, NoOpMiddleware<Nanos>>,
    quota: Quota,
    /// Not before governor's own start, from which its states count.
    start: Nanos,
}

/// The state of one bucket. To governor it is the key too, so that finding one for the other costs nothing. Clones
/// share the bucket.
#[derive(Clone, Debug, Default)]
pub(super) struct BucketState(Arc<Cells>);

#[derive(Debug, Default)]
struct Cells {
    cells: InMemoryState,
    turns: Turns,
}

/// The buckets of the two directions; calls of a service are inbound. Clones share both buckets.
#[derive(Clone, Debug, Default)]
pub(super) struct Pair {
    pub(super) inbound: BucketState,
    pub(super) outbound: BucketState,
}

/// Hands governor the state in its key.
struct InKeys;

/// The reason why a message may not pass.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Excess {
    /// Not before this time has passed.
    Until(Duration),
    /// It costs more than a full bucket holds.
    Never,
}

impl Limiter {
    pub(super) fn new(quota: Quota, clock: Clock) -> Arc<Self> {
        let governor = RateLimiter::new(quota.governor(), InKeys, clock);
        let start = governor.clock().now();
        Arc::new(Self { governor, quota, start })
    }

    pub(super) fn quota(&self) -> Quota {
        self.quota
    }

    /// Returns the nanoseconds since this limiter was created.
    pub(super) fn now(&self) -> u64 {
        self.governor.clock().now().as_u64().saturating_sub(self.start.as_u64())
    }

    /// Returns whether no other handle holds this bucket and it is full at that time: a fresh bucket is then
    /// equivalent.
    pub(super) fn is_idle(BucketState(state): &BucketState, now: u64) -> bool {
        // Reading the state is a measurement that replaces nothing.
        let look = |time: Option<Nanos>| Err::<((), Nanos), _>(time);
        Arc::strong_count(state) == 1
            && match state.cells.measure_and_replace(&NotKeyed::NonKey, look) {
                Err(Some(time)) => time.as_u64() <= now,
                _ => true,
            }
    }

    /// Takes all cells or none. Reads the clock once; once more if there are too few.
    #[inline]
    pub(super) fn check(&self, state: &BucketState, cells: u32) -> Result<(), Excess> {
        let outcome = match NonZeroU32::new(cells) {
            None => return Ok(()),
            Some(NonZeroU32::MIN) => self.governor.check_key(state),
            // Governor multiplies before it checks: a cost out of bounds must not get that far.
            Some(cells) if cells > self.quota.burst_size() => return Err(Excess::Never),
            Some(cells) => match self.governor.check_key_n(state, cells) {
                Ok(outcome) => outcome,
                Err(_) => return Err(Excess::Never),
            },
        };
        outcome.map_err(|until| self.until(&until))
    }

    fn until(&self, until: &NotUntil<Nanos>) -> Excess {
        Excess::Until(until.wait_time_from(self.governor.clock().now()))
    }
}

/// Governor's source of time: nanoseconds since the clock was created.
#[derive(Clone, Debug)]
pub(super) enum Clock {
    /// The processor's counter, by quanta: a third of the cost of the operating system's clock.
    #[cfg(not(target_arch = "wasm32"))]
    Fast { clock: governor::clock::DefaultClock, start: governor::clock::QuantaInstant },
    /// The runtime's clock, which tests can pause.
    Runtime(Instant),
}

impl Clock {
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn fast() -> Self {
        let clock = governor::clock::DefaultClock::default();
        let start = clock.now();
        Self::Fast { clock, start }
    }

    /// Browsers have one clock.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn fast() -> Self {
        Self::runtime()
    }

    pub(super) fn runtime() -> Self {
        Self::Runtime(Instant::now())
    }
}

impl governor::clock::Clock for Clock {
    type Instant = Nanos;

    #[inline]
    fn now(&self) -> Nanos {
        match self {
            #[cfg(not(target_arch = "wasm32"))]
            Self::Fast { clock, start } => governor::clock::Reference::duration_since(&clock.now(), *start),
            Self::Runtime(start) => start.elapsed().into(),
        }
    }
}

/// One direction of a connection, of a key, or of everything that shares it.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    limiter: Arc<Limiter>,
    state: BucketState,
}

impl Bucket {
    pub(super) fn new(limiter: Arc<Limiter>, state: BucketState) -> Self {
        Self { limiter, state }
    }

    #[inline]
    pub(super) fn check(&self, cells: u32) -> Result<(), Excess> {
        self.limiter.check(&self.state, cells)
    }

    /// Takes a turn for cells that come after `time` at the earliest. Returns it, and the time after which to ask.
    pub(super) fn take_turn(&self, time: Duration, cells: u32) -> (Turn, Duration) {
        // Each turn is as long as its cells take to come back, so that they are there when the next one asks.
        let now = self.limiter.now();
        let cells = self.limiter.quota.replenish_interval() * cells;
        let turn = self.state.0.turns.take(now, time, cells);
        (turn, turn.after(now))
    }

    pub(super) fn give_up(&self, turn: Turn) {
        self.state.0.turns.give_up(turn, self.limiter.now());
    }

    pub(super) fn quota(&self) -> Quota {
        self.limiter.quota
    }

    pub(super) fn burst(&self) -> u32 {
        self.limiter.quota.burst_size().get()
    }
}

impl StateStore for InKeys {
    type Key = BucketState;

    #[inline]
    fn measure_and_replace<T, F, E>(&self, BucketState(state): &BucketState, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        state.cells.measure_and_replace(&NotKeyed::NonKey, measure)
    }
}

// Governor requires this of its keys. Two states are equal if they are the same memory.
impl PartialEq for BucketState {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for BucketState {}

impl Hash for BucketState {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

debug_fields!(Limiter { quota });

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    #[test]
    fn a_quota_is_what_governors_of_the_same_name_is() {
        for number in [1, 3, 50, 1000, 1_000_000_000] {
            let (ours, theirs) = (Quota::per_second(cells(number)), governor::Quota::per_second(cells(number)));
            assert_eq!(ours.governor(), theirs);
            assert_eq!(Quota::per_minute(cells(number)).governor(), governor::Quota::per_minute(cells(number)));
            assert_eq!(Quota::per_hour(cells(number)).governor(), governor::Quota::per_hour(cells(number)));
        }
    }

    #[test]
    fn no_quota_overflows_the_clock() {
        let extremes = [
            Quota::per_hour(cells(1)).allow_burst(NonZeroU32::MAX),
            Quota::per_second(NonZeroU32::MAX),
            Quota::with_period(Duration::MAX).allow_burst(NonZeroU32::MAX),
            Quota::with_period(Duration::ZERO),
        ];
        for quota in extremes {
            assert!(quota.interval >= 1);
            let all = u128::from(quota.interval) * u128::from(quota.burst.get());
            assert!(all <= u128::from(FOREVER), "{quota:?}");
        }
        assert_eq!(Quota::with_period(Duration::MAX).burst_size().get(), 1);
    }
}
