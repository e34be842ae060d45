//! The memory of each origin: which transport worked and which path went dead. Pure: times are passed in as the
//! duration since the memory was created.

use std::{cmp::Reverse, collections::HashMap, sync::Arc, time::Duration};

use super::{Reason, TransportKind};

/// Everything that is known about all origins.
#[derive(Debug)]
pub(super) struct Memory {
    ttl: Duration,
    /// The number of origins that are remembered. At the limit, the least recently seen origin is evicted.
    most: usize,
    origins: HashMap<Arc<str>, KnownOrigin>,
}

/// Everything that is known about one origin.
#[derive(Clone, Debug, Default)]
pub(super) struct KnownOrigin {
    worked: Option<Worked>,
    kinds: [Observed; 3],
    subprotocol: Option<Arc<str>>,
    heard: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Worked {
    kind: TransportKind,
    /// The time at which a race from the preferred transport established this.
    since: Duration,
}

/// Everything that is known about one transport of an origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Observed {
    worked: Option<Duration>,
    failed: Option<(Reason, Duration)>,
    lost: Option<Duration>,
}

/// The order in which an origin's transports are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) kinds: Vec<TransportKind>,
    /// Whether the first transport is the one that worked recently.
    pub(super) is_remembered: bool,
}

/// The last observation of a transport, and its age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastOutcome {
    Worked(Duration),
    Failed(Reason, Duration),
}

impl Memory {
    pub(super) fn new(ttl: Duration, most: usize) -> Self {
        Self { ttl, most, origins: HashMap::new() }
    }

    pub(super) fn set_ttl(&mut self, ttl: Duration) {
        self.ttl = ttl;
    }

    /// Returns the order for an attempt now: the transport that worked recently, then the others by preference, then
    /// those whose path went dead recently, the oldest death first.
    pub(super) fn order(&self, origin: &str, kinds: &[TransportKind], now: Duration) -> Order {
        let mut kinds = kinds.to_vec();
        let Some(known) = self.origins.get(origin) else { return Order { kinds, is_remembered: false } };
        let worked = known.worked.filter(|worked| self.is_fresh(worked.since, now)).map(|worked| worked.kind);
        let lost = |kind: TransportKind| known.of(kind).lost.filter(|&at| self.is_fresh(at, now));
        // Never dropped from the list, only tried last: a dead path may work again.
        // `None` sorts first.
        kinds.sort_by_key(|&kind| (lost(kind), Reverse(worked == Some(kind)), kind));
        let is_remembered = worked.is_some() && kinds.first() == worked.as_ref();
        Order { kinds, is_remembered }
    }

    /// Records that a transport connected.
    pub(super) fn worked(&mut self, origin: &Arc<str>, kind: TransportKind, subprotocol: Option<&str>, now: Duration) {
        let ttl = self.ttl;
        let known = self.known(origin, now);
        known.subprotocol = subprotocol.map(Into::into);
        known.of_mut(kind).worked = Some(now);
        // A repeated success of the transport that was tried first says nothing about the others, so the time of the
        // race is kept.
        if !known.worked.is_some_and(|worked| worked.kind == kind && now.saturating_sub(worked.since) < ttl) {
            known.worked = Some(Worked { kind, since: now });
        }
    }

    /// Records that a transport failed to connect.
    pub(super) fn failed(&mut self, origin: &Arc<str>, kind: TransportKind, reason: Reason, now: Duration) {
        let known = self.known(origin, now);
        known.of_mut(kind).failed = Some((reason, now));
    }

    /// Records that the path of a transport went dead.
    pub(super) fn lost(&mut self, origin: &Arc<str>, kind: TransportKind, now: Duration) {
        let known = self.known(origin, now);
        let of = known.of_mut(kind);
        (of.lost, of.failed) = (Some(now), Some((Reason::PathDead, now)));
        // The path that died must not be the one that is tried first.
        known.worked = known.worked.filter(|worked| worked.kind != kind);
    }

    /// Returns the last observation of a transport and its age.
    pub(super) fn last(&self, origin: &str, kind: TransportKind, now: Duration) -> Option<LastOutcome> {
        let of = self.origins.get(origin)?.of(kind);
        match (of.worked, of.failed) {
            (Some(worked), Some((_, failed))) if worked > failed => {
                Some(LastOutcome::Worked(now.saturating_sub(worked)))
            }
            (_, Some((reason, failed))) => Some(LastOutcome::Failed(reason, now.saturating_sub(failed))),
            (Some(worked), None) => Some(LastOutcome::Worked(now.saturating_sub(worked))),
            (None, None) => None,
        }
    }

    /// Returns the subprotocol that the latest connection agreed on.
    pub(super) fn subprotocol(&self, origin: &str) -> Option<Arc<str>> {
        self.origins.get(origin)?.subprotocol.clone()
    }

    /// Records that the server does not speak the subprotocol that it chose on the latest connection.
    pub(super) fn disown(&mut self, origin: &str) {
        if let Some(known) = self.origins.get_mut(origin) {
            known.subprotocol = None;
        }
    }

    pub(super) fn forget(&mut self) {
        self.origins.clear();
    }

    /// Returns whether an observation of this age still counts.
    pub(super) fn is_recent(&self, ago: Duration) -> bool {
        ago < self.ttl
    }

    fn is_fresh(&self, at: Duration, now: Duration) -> bool {
        self.is_recent(now.saturating_sub(at))
    }

    fn known(&mut self, origin: &Arc<str>, now: Duration) -> &mut KnownOrigin {
        if !self.origins.contains_key(origin) && self.origins.len() >= self.most {
            let oldest = self.origins.iter().min_by_key(|(_, known)| known.heard).map(|(origin, _)| origin.clone());
            oldest.map(|oldest| self.origins.remove(&oldest));
        }
        let known = self.origins.entry(origin.clone()).or_default();
        known.heard = now;
        known
    }
}

impl KnownOrigin {
    fn of(&self, kind: TransportKind) -> Observed {
        self.kinds.get(kind.index()).copied().unwrap_or_default()
    }

    fn of_mut(&mut self, kind: TransportKind) -> &mut Observed {
        let [webtransport, websocket, sse] = &mut self.kinds;
        match kind {
            TransportKind::WebTransport => webtransport,
            TransportKind::WebSocket => websocket,
            TransportKind::Sse => sse,
        }
    }
}

#[cfg(test)]
mod tests;
