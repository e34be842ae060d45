//! What is remembered of each origin: which transport worked, which path went dead. Pure: times come in as values, as the time since
//! the memory was made.

use std::{cmp::Reverse, collections::HashMap, sync::Arc, time::Duration};

use super::{Reason, TransportKind};

/// What is known of all origins.
#[derive(Debug)]
pub(super) struct Memory {
    ttl: Duration,
    /// How many origins are remembered; one more, and the one that was heard of longest ago is forgotten.
    most: usize,
    origins: HashMap<Arc<str>, Known>,
}

/// What is known of one origin.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    worked: Option<Worked>,
    kinds: [Of; 3],
    subprotocol: Option<Arc<str>>,
    heard: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Worked {
    kind: TransportKind,
    /// When it was found out by a race from the top.
    since: Duration,
}

/// What is known of one transport of an origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Of {
    worked: Option<Duration>,
    failed: Option<(Reason, Duration)>,
    lost: Option<Duration>,
}

/// In which order the transports of an origin are tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) kinds: Vec<TransportKind>,
    /// The first one is that which worked lately.
    pub(super) is_remembered: bool,
}

/// What was last seen of a transport: how long ago, and what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Last {
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

    /// The order for an attempt now: what worked lately, then the rest as they are wanted, and those whose path went dead lately at the
    /// end, the oldest death first.
    pub(super) fn order(&self, origin: &str, kinds: &[TransportKind], now: Duration) -> Order {
        let mut kinds = kinds.to_vec();
        let Some(known) = self.origins.get(origin) else { return Order { kinds, is_remembered: false } };
        let worked = known.worked.filter(|worked| self.is_fresh(worked.since, now)).map(|worked| worked.kind);
        let lost = |kind: TransportKind| known.of(kind).lost.filter(|&at| self.is_fresh(at, now));
        // None sorts first.
        kinds.sort_by_key(|&kind| (lost(kind), Reverse(worked == Some(kind)), kind));
        let is_remembered = worked.is_some() && kinds.first() == worked.as_ref();
        Order { kinds, is_remembered }
    }

    /// A transport was made.
    pub(super) fn worked(&mut self, origin: &Arc<str>, kind: TransportKind, subprotocol: Option<&str>, now: Duration) {
        let ttl = self.ttl;
        let known = self.known(origin, now);
        known.subprotocol = subprotocol.map(Into::into);
        known.of_mut(kind).worked = Some(now);
        // Told again by what was asked for first, it proves nothing about the others: the time of the race counts.
        if !known.worked.is_some_and(|worked| worked.kind == kind && now.saturating_sub(worked.since) < ttl) {
            known.worked = Some(Worked { kind, since: now });
        }
    }

    /// A transport was not made.
    pub(super) fn failed(&mut self, origin: &Arc<str>, kind: TransportKind, reason: Reason, now: Duration) {
        let known = self.known(origin, now);
        known.of_mut(kind).failed = Some((reason, now));
    }

    /// The path of a transport went dead.
    pub(super) fn lost(&mut self, origin: &Arc<str>, kind: TransportKind, now: Duration) {
        let known = self.known(origin, now);
        let of = known.of_mut(kind);
        (of.lost, of.failed) = (Some(now), Some((Reason::PathDead, now)));
        known.worked = known.worked.filter(|worked| worked.kind != kind);
    }

    /// What was last seen of a transport, and how long ago.
    pub(super) fn last(&self, origin: &str, kind: TransportKind, now: Duration) -> Option<Last> {
        let of = self.origins.get(origin)?.of(kind);
        match (of.worked, of.failed) {
            (Some(worked), Some((_, failed))) if worked > failed => Some(Last::Worked(now.saturating_sub(worked))),
            (_, Some((reason, failed))) => Some(Last::Failed(reason, now.saturating_sub(failed))),
            (Some(worked), None) => Some(Last::Worked(now.saturating_sub(worked))),
            (None, None) => None,
        }
    }

    /// What the latest connection agreed on.
    pub(super) fn subprotocol(&self, origin: &str) -> Option<Arc<str>> {
        self.origins.get(origin)?.subprotocol.clone()
    }

    /// The server does not speak what it chose at the latest connection.
    pub(super) fn disown(&mut self, origin: &str) {
        if let Some(known) = self.origins.get_mut(origin) {
            known.subprotocol = None;
        }
    }

    pub(super) fn forget(&mut self) {
        self.origins.clear();
    }

    /// Whether what was so long ago counts yet.
    pub(super) fn is_recent(&self, ago: Duration) -> bool {
        ago < self.ttl
    }

    fn is_fresh(&self, at: Duration, now: Duration) -> bool {
        self.is_recent(now.saturating_sub(at))
    }

    fn known(&mut self, origin: &Arc<str>, now: Duration) -> &mut Known {
        if !self.origins.contains_key(origin) && self.origins.len() >= self.most {
            let oldest = self.origins.iter().min_by_key(|(_, known)| known.heard).map(|(origin, _)| origin.clone());
            oldest.map(|oldest| self.origins.remove(&oldest));
        }
        let known = self.origins.entry(origin.clone()).or_default();
        known.heard = now;
        known
    }
}

impl Known {
    fn of(&self, kind: TransportKind) -> Of {
        self.kinds.get(kind.index()).copied().unwrap_or_default()
    }

    fn of_mut(&mut self, kind: TransportKind) -> &mut Of {
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
