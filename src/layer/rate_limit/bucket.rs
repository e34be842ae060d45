use std::{
    fmt,
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
    clock::Clock,
    line::{Line, Place},
    quota::Quota,
};

/// Governor's GCRA for one quota and clock, over any number of states. A state is its owner's, so that neither a connection
/// nor a key costs more than that, and a message of a keyed connection needs no look-up.
pub(super) struct Limiter {
    governor: RateLimiter<State, States, Clock, NoOpMiddleware<Nanos>>,
    quota: Quota,
    /// Not before governor's own start, from which its states count.
    start: Nanos,
}

/// What is kept of one bucket. To governor it is the key too, so that finding one for the other costs nothing. A clone is
/// the same bucket.
#[derive(Clone, Debug, Default)]
pub(super) struct State(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    cells: InMemoryState,
    line: Line,
}

/// The buckets of the two directions; calls of a service are inbound. A clone is the same two.
#[derive(Clone, Debug, Default)]
pub(super) struct Pair {
    pub(super) inbound: State,
    pub(super) outbound: State,
}

struct States;

/// Why it may not pass.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Excess {
    /// Not yet.
    Until(Duration),
    /// More than a full bucket holds.
    Never,
}

impl Limiter {
    pub(super) fn new(quota: Quota, clock: Clock) -> Arc<Self> {
        let governor = RateLimiter::new(quota.governor(), States, clock);
        let start = governor.clock().now();
        Arc::new(Self { governor, quota, start })
    }

    pub(super) fn quota(&self) -> Quota {
        self.quota
    }

    /// Nanoseconds since this limiter was made.
    pub(super) fn now(&self) -> u64 {
        self.governor.clock().now().as_u64().saturating_sub(self.start.as_u64())
    }

    /// Whether nobody else holds this bucket, and it is full at that time: then a fresh one can stand for it.
    pub(super) fn is_idle(State(state): &State, now: u64) -> bool {
        // The look at the state is a measurement that replaces nothing.
        let look = |time: Option<Nanos>| Err::<((), Nanos), _>(time);
        Arc::strong_count(state) == 1
            && match state.cells.measure_and_replace(&NotKeyed::NonKey, look) {
                Err(Some(time)) => time.as_u64() <= now,
                _ => true,
            }
    }

    /// Takes the cells, all or none. Reads the clock once; once more where there are too few.
    #[inline]
    pub(super) fn check(&self, state: &State, cells: u32) -> Result<(), Excess> {
        let outcome = match NonZeroU32::new(cells) {
            None => return Ok(()),
            Some(NonZeroU32::MIN) => self.governor.check_key(state),
            // Governor multiplies before it looks: a cost that is out of bounds must not come that far.
            Some(cells) if cells > self.quota.burst_size() => return Err(Excess::Never),
            Some(cells) => match self.governor.check_key_n(state, cells) {
                Ok(outcome) => outcome,
                Err(_) => return Err(Excess::Never),
            },
        };
        outcome.map_err(|until| self.until(&until))
    }

    #[cold]
    fn until(&self, until: &NotUntil<Nanos>) -> Excess {
        Excess::Until(until.wait_time_from(self.governor.clock().now()))
    }
}

/// One direction of a connection, of a key, or of all that share it.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    limiter: Arc<Limiter>,
    state: State,
}

impl Bucket {
    pub(super) fn new(limiter: Arc<Limiter>, state: State) -> Self {
        Self { limiter, state }
    }

    #[inline]
    pub(super) fn check(&self, cells: u32) -> Result<(), Excess> {
        self.limiter.check(&self.state, cells)
    }

    /// Stands in line for cells that come after `time` at the earliest: the place, and after which time to ask.
    pub(super) fn join(&self, time: Duration, cells: u32) -> (Place, Duration) {
        let now = self.limiter.now();
        let cells = self.limiter.quota.replenish_interval() * cells;
        let place = self.state.0.line.join(now, time, cells);
        (place, place.after(now))
    }

    /// Gives up a place.
    pub(super) fn leave(&self, place: Place) {
        self.state.0.line.leave(place, self.limiter.now());
    }

    pub(super) fn quota(&self) -> Quota {
        self.limiter.quota
    }

    pub(super) fn burst(&self) -> u32 {
        self.limiter.quota.burst_size().get()
    }
}

impl StateStore for States {
    type Key = State;

    #[inline]
    fn measure_and_replace<T, F, E>(&self, State(state): &State, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        state.cells.measure_and_replace(&NotKeyed::NonKey, measure)
    }
}

// Governor asks this of its keys. Two are one where they are the same memory.
impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for State {}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.0).hash(state);
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("quota", &self.quota).finish_non_exhaustive()
    }
}
