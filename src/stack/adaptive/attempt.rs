use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    Decided, Decision, TransportKind,
    decision::{Decisions, Watchers},
    memory::Memory,
};
use crate::{Error, rt::Instant, sync::Mutex};

/// The observations that a connector, its clones, attempts and transports share.
pub(super) struct Observations {
    pub(super) memory: Mutex<Memory>,
    watchers: Watchers,
    attempts: AtomicU64,
    since: Instant,
}

impl Observations {
    pub(super) fn new(ttl: Duration, origins: usize) -> Arc<Self> {
        Arc::new(Self {
            memory: Mutex::new(Memory::new(ttl, origins)),
            watchers: Watchers::default(),
            attempts: AtomicU64::new(0),
            since: Instant::now(),
        })
    }

    /// Returns the time on the memory's clock.
    pub(super) fn now(&self) -> Duration {
        self.since.elapsed()
    }

    pub(super) fn subscribe(&self) -> Decisions {
        self.watchers.subscribe()
    }
}

/// One attempt to connect, as far as decisions report it.
#[derive(Clone)]
pub(super) struct Attempt {
    pub(super) observations: Arc<Observations>,
    pub(super) origin: Arc<str>,
    name: Arc<str>,
    number: u64,
    since: Instant,
}

impl Attempt {
    pub(super) fn new(observations: Arc<Observations>, origin: Arc<str>, name: Arc<str>) -> Self {
        let number = observations.attempts.fetch_add(1, Relaxed) + 1;
        Self { observations, origin, name, number, since: Instant::now() }
    }

    /// Returns the time since the attempt began.
    pub(super) fn age(&self) -> Duration {
        self.since.elapsed()
    }

    /// Reports the decision to the metrics, the log and all readers of [`Decisions`](super::Decisions).
    pub(super) fn report(&self, decision: Decision) {
        let decided = Decided { origin: self.origin.clone(), attempt: self.number, decision };
        // No lock is held here: recorders and subscribers are the user's code.
        decided.record(&self.name);
        self.observations.watchers.publish(&decided);
    }
}

/// The route of an open connection: the transport that won, to its origin. It may still go dead. The transport reports
/// the end that it sees; a reconnecting layer reports one that a layer above detected, such as a heartbeat.
pub(super) struct Route {
    attempt: Attempt,
    kind: TransportKind,
    is_dead: AtomicBool,
}

impl Route {
    pub(super) fn new(attempt: Attempt, kind: TransportKind) -> Arc<Self> {
        Arc::new(Self { attempt, kind, is_dead: AtomicBool::new(false) })
    }

    /// Records that the server does not speak the subprotocol that it chose.
    pub(super) fn disown(&self) {
        let Attempt { observations, origin, .. } = &self.attempt;
        observations.memory.lock().disown(origin);
    }

    /// Records that the path went dead. Two reports count as one.
    pub(super) fn died(&self, error: &Error) {
        // A heartbeat and the transport below it see the same death.
        if self.is_dead.swap(true, Relaxed) {
            return;
        }
        let Attempt { observations, origin, .. } = &self.attempt;
        observations.memory.lock().lost(origin, self.kind, observations.now());
        self.attempt.report(Decision::LostMidSession { kind: self.kind, error: error.clone() });
    }
}

debug_fields!(Route { kind });
