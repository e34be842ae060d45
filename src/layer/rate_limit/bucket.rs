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

use super::{
    quota::Quota,
    turns::{Turn, Turns},
};
use crate::rt::Instant;

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
