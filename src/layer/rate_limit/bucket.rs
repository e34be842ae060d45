use std::{
    fmt,
    hash::{Hash, Hasher},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use governor::{
    RateLimiter,
    clock::Clock as _,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed, StateStore},
};

use super::{clock::Clock, quota::Quota};

/// Governor's GCRA for one quota and clock, over any number of [`Bucket`]s. The state of a bucket is its owner's, so that
/// neither a connection nor a key costs more than that state, and a message of a keyed connection needs no look-up.
pub(super) struct Limiter {
    governor: RateLimiter<Slot, Slots, Clock, NoOpMiddleware<Nanos>>,
    quota: Quota,
    /// Not before governor's own start, from which its states count.
    start: Nanos,
}

/// What governor keeps, for each direction.
#[derive(Debug, Default)]
pub(super) struct States {
    inbound: InMemoryState,
    outbound: InMemoryState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// Of a service: its calls.
    Inbound,
    Outbound,
}

/// A direction's state, as governor's key: the key *is* the state, and finding one for the other costs nothing.
#[derive(Clone)]
struct Slot {
    states: Arc<States>,
    direction: Direction,
}

struct Slots;

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
        let governor = RateLimiter::new(quota.governor(), Slots, clock);
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

    /// Whether both buckets are full at that time, so that a fresh one could stand for them.
    pub(super) fn is_full(states: &States, now: u64) -> bool {
        let is_full = |state: &InMemoryState| {
            // The look at the state is a measurement that replaces nothing.
            let look = |time: Option<Nanos>| Err::<((), Nanos), _>(time);
            match state.measure_and_replace(&NotKeyed::NonKey, look) {
                Err(Some(time)) => time.as_u64() <= now,
                _ => true,
            }
        };
        is_full(&states.inbound) && is_full(&states.outbound)
    }

    /// Takes cells of the bucket, all or none.
    pub(super) fn check(&self, states: &Arc<States>, direction: Direction, cells: u32) -> Result<(), Excess> {
        self.check_slot(&Slot { states: states.clone(), direction }, cells)
    }

    #[inline]
    fn check_slot(&self, slot: &Slot, cells: u32) -> Result<(), Excess> {
        let outcome = match NonZeroU32::new(cells) {
            None => return Ok(()),
            Some(NonZeroU32::MIN) => self.governor.check_key(slot),
            // Governor multiplies before it looks: a cost that is out of bounds must not come that far.
            Some(cells) if cells > self.quota.burst_size() => return Err(Excess::Never),
            Some(cells) => match self.governor.check_key_n(slot, cells) {
                Ok(outcome) => outcome,
                Err(_) => return Err(Excess::Never),
            },
        };
        outcome.map_err(|until| Excess::Until(until.wait_time_from(self.governor.clock().now())))
    }
}

/// One direction of one scope: a connection, a key, or all that share it.
#[derive(Clone)]
pub(super) struct Bucket {
    limiter: Arc<Limiter>,
    slot: Slot,
}

impl Bucket {
    pub(super) fn new(limiter: Arc<Limiter>, states: Arc<States>, direction: Direction) -> Self {
        Self { limiter, slot: Slot { states, direction } }
    }

    /// Takes the cells, all or none. Reads the clock once; once more where there are too few.
    #[inline]
    pub(super) fn check(&self, cells: u32) -> Result<(), Excess> {
        self.limiter.check_slot(&self.slot, cells)
    }

    pub(super) fn quota(&self) -> Quota {
        self.limiter.quota
    }

    pub(super) fn burst(&self) -> u32 {
        self.limiter.quota.burst_size().get()
    }
}

impl StateStore for Slots {
    type Key = Slot;

    #[inline]
    fn measure_and_replace<T, F, E>(&self, slot: &Slot, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let state = match slot.direction {
            Direction::Inbound => &slot.states.inbound,
            Direction::Outbound => &slot.states.outbound,
        };
        state.measure_and_replace(&NotKeyed::NonKey, measure)
    }
}

// Governor asks this of its keys. Two slots are one where they are the same memory.
impl PartialEq for Slot {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.states, &other.states) && self.direction == other.direction
    }
}

impl Eq for Slot {}

impl Hash for Slot {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.states).hash(state);
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limiter").field("quota", &self.quota).finish_non_exhaustive()
    }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("quota", &self.limiter.quota)
            .field("direction", &self.slot.direction)
            .finish_non_exhaustive()
    }
}
