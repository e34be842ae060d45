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

/// Governor's GCRA for one quota and clock, over any number of states. Each owner holds its own state. A connection or
/// a key therefore costs no more than its state, and a message of a keyed connection needs no look-up.
pub(super) struct Limiter {
    governor: RateLimiter<State, States, Clock, NoOpMiddleware<Nanos>>,
    quota: Quota,
    /// Not before governor's own start, from which its states count.
    start: Nanos,
}

/// The state of one bucket. To governor it is the key too, so that finding one for the other costs nothing. Clones
/// share the bucket.
#[derive(Clone, Debug, Default)]
pub(super) struct State(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    cells: InMemoryState,
    line: Line,
}

/// The buckets of the two directions; calls of a service are inbound. Clones share both buckets.
#[derive(Clone, Debug, Default)]
pub(super) struct Pair {
    pub(super) inbound: State,
    pub(super) outbound: State,
}

struct States;

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
        let governor = RateLimiter::new(quota.governor(), States, clock);
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
    pub(super) fn is_idle(State(state): &State, now: u64) -> bool {
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
    pub(super) fn check(&self, state: &State, cells: u32) -> Result<(), Excess> {
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

    #[cold]
    fn until(&self, until: &NotUntil<Nanos>) -> Excess {
        Excess::Until(until.wait_time_from(self.governor.clock().now()))
    }
}

/// One direction of a connection, of a key, or of everything that shares it.
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

    /// Joins the line for cells that come after `time` at the earliest. Returns the place, and the time after which to
    /// ask.
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

// Governor requires this of its keys. Two states are equal if they are the same memory.
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
