use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use futures_core::Stream;
use metrics::Label;

use super::TransportKind;
use crate::{
    Error,
    layer::trace::{CONNECT_SECONDS, CONNECTS, FALLBACKS, PATHS_LOST},
    log,
    sync::Mutex,
    transport::wakers::poll_prepared,
};

/// A decision that an [`AdaptiveConnector`](super::AdaptiveConnector) made, and the origin that it concerns. An item of
/// [`Decisions`](super::Decisions).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Decided {
    /// The scheme, host and port of the base URL, such as `https://example.com:443`.
    pub origin: Arc<str>,
    /// The number of the attempt (a call of the connector or a clone), starting at 1. For [`Decision::LostMidSession`],
    /// the attempt that had made the connection.
    pub attempt: u64,
    /// The decision.
    pub decision: Decision,
}

/// One decision. `after` is the time since the attempt began.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Decision {
    /// The attempt starts with the transport that worked recently, which is not necessarily the preferred one.
    #[non_exhaustive]
    Remembered {
        /// The remembered transport.
        kind: TransportKind,
    },
    /// An attempt to connect by a transport started.
    #[non_exhaustive]
    Started {
        /// The transport that was started.
        kind: TransportKind,
        /// The time since the attempt began.
        after: Duration,
    },
    /// A transport failed to connect, and the others are tried.
    #[non_exhaustive]
    FellBack {
        /// The transport that failed.
        kind: TransportKind,
        /// The class of the failure.
        reason: Reason,
        /// The error of the transport.
        error: Error,
        /// The time since the attempt began.
        after: Duration,
    },
    /// A transport failed to connect for a reason that also applies to others, which are skipped or cancelled.
    #[non_exhaustive]
    Stopped {
        /// The transport that failed.
        kind: TransportKind,
        /// The class of the failure.
        reason: Reason,
        /// The error of the transport.
        error: Error,
        /// The time since the attempt began.
        after: Duration,
    },
    /// A transport connected. The other attempts are cancelled.
    #[non_exhaustive]
    Connected {
        /// The transport that connected.
        kind: TransportKind,
        /// The time since the attempt began.
        after: Duration,
    },
    /// No transport connected: the attempt failed.
    #[non_exhaustive]
    Failed {
        /// The error that the caller gets.
        error: Error,
        /// The time since the attempt began.
        after: Duration,
    },
    /// The path of a connection went dead. This transport is tried last for as long as outcomes are remembered.
    #[non_exhaustive]
    LostMidSession {
        /// The transport of that connection.
        kind: TransportKind,
        /// The error that revealed the dead path.
        error: Error,
    },
    /// The reader was too slow. This item stands for the oldest decisions, which were dropped.
    #[non_exhaustive]
    Missed {
        /// The number of dropped decisions.
        decisions: u64,
    },
}

impl Decided {
    /// Reports a decision to the metrics and the log. All labels are words of this crate.
    pub(super) fn record(&self, name: &Arc<str>) {
        let (origin, attempt) = (&*self.origin, self.attempt);
        macro_rules! event {
            ($level:ident, $($rest:tt)+) => {
                tracing::$level!(target: log::ADAPTIVE, %name, origin, attempt, $($rest)+)
            };
        }
        match &self.decision {
            Decision::Remembered { kind } => {
                event!(debug, network.protocol.name = %kind, "trying the transport that worked recently first")
            }
            Decision::Started { kind, after } => {
                event!(debug, network.protocol.name = %kind, ?after, "started")
            }
            Decision::FellBack { kind, reason, error, after } => {
                fell_back(name, *kind, *reason);
                event!(warn, network.protocol.name = %kind, %reason, %error, ?after, "fell back");
            }
            Decision::Stopped { kind, reason, error, after } => {
                fell_back(name, *kind, *reason);
                event!(debug, network.protocol.name = %kind, %reason, %error, ?after, "stopped");
            }
            Decision::Connected { kind, after } => {
                let labels = labels(name, *kind);
                metrics::counter!(CONNECTS, labels.clone()).increment(1);
                metrics::histogram!(CONNECT_SECONDS, labels).record(after.as_secs_f64());
                event!(debug, network.protocol.name = %kind, ?after, "connected");
            }
            Decision::Failed { error, after } => {
                event!(debug, %error, ?after, "failed")
            }
            Decision::LostMidSession { kind, error } => {
                metrics::counter!(PATHS_LOST, labels(name, *kind)).increment(1);
                event!(warn, network.protocol.name = %kind, %error, "the path went dead");
            }
            Decision::Missed { .. } => {}
        }
    }
}

fn labels(name: &Arc<str>, kind: TransportKind) -> Vec<Label> {
    vec![
        Label::new("name", name.to_string()),
        Label::new("role", "client"),
        Label::new("network.protocol.name", kind.as_str()),
    ]
}

fn fell_back(name: &Arc<str>, kind: TransportKind, reason: Reason) {
    let mut labels = labels(name, kind);
    labels.push(Label::new("reason", reason.as_str()));
    metrics::counter!(FALLBACKS, labels).increment(1);
}

/// The class of the error for which a transport failed to connect or was lost, as the policy sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// Nothing comes back over UDP, or nothing listens there.
    UdpBlocked,
    /// The server or a proxy in between did not answer as this transport's server does: the upgrade was refused or
    /// stripped, the path does not exist, or the answer is in another protocol.
    UpgradeRefused,
    /// The TLS handshake failed.
    Tls,
    /// The host name did not resolve.
    Dns,
    /// The client's credentials are missing or rejected, or it lacks permission: 401, 403, 407.
    Auth,
    /// The URL or a setting cannot work.
    Config,
    /// Nothing listens on the server's TCP port.
    ServerDown,
    /// The server accepts no more for now: 429, or 503 with `Retry-After`.
    Busy,
    /// No answer came in time.
    Timeout,
    /// The connection was cut while connecting.
    Cut,
    /// The path went dead in the middle of a session: nothing came in, neither data nor an answer to a heartbeat.
    PathDead,
    /// Any other reason.
    Other,
}

impl Reason {
    /// Returns the reason as one word for a metric label or a log.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UdpBlocked => "udp_blocked",
            Self::UpgradeRefused => "upgrade_refused",
            Self::Tls => "tls",
            Self::Dns => "dns",
            Self::Auth => "auth",
            Self::Config => "config",
            Self::ServerDown => "server_down",
            Self::Busy => "busy",
            Self::Timeout => "timeout",
            Self::Cut => "cut",
            Self::PathDead => "path_dead",
            Self::Other => "other",
        }
    }
}

/// Formats [`as_str`](Reason::as_str) with spaces.
impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_str().replace('_', " "))
    }
}

/// The number of decisions that are kept for each reader.
const ROOM: usize = 64;

/// The readers of the decisions.
#[derive(Default)]
pub(super) struct Watchers(Mutex<Vec<Weak<Mutex<Ring>>>>);

/// The decisions that one reader has not read. Bounded: the oldest are dropped first, and counted.
#[derive(Default)]
struct Ring {
    waiting: VecDeque<Decided>,
    missed: u64,
    waker: Option<Waker>,
    is_over: bool,
}

impl Watchers {
    pub(super) fn subscribe(&self) -> Decisions {
        let ring = Arc::default();
        let mut all = self.0.lock();
        all.retain(|ring| ring.strong_count() > 0);
        all.push(Arc::downgrade(&ring));
        Decisions { ring }
    }

    pub(super) fn publish(&self, decided: &Decided) {
        // Collected first: no reader's lock is taken under that of the list.
        let all: Vec<_> = self.0.lock().iter().filter_map(Weak::upgrade).collect();
        for ring in all {
            let decided = decided.clone();
            let mut ring = ring.lock();
            // A slow reader loses the oldest decisions. It holds up no connection.
            let oldest = if ring.waiting.len() == ROOM { ring.waiting.pop_front() } else { None };
            ring.missed += u64::from(oldest.is_some());
            ring.waiting.push_back(decided);
            let waker = ring.waker.take();
            drop(ring);
            // The error in it may be the user's, so it is dropped without the lock.
            drop(oldest);
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

impl Drop for Watchers {
    fn drop(&mut self) {
        for ring in self.0.lock().iter().filter_map(Weak::upgrade) {
            let mut ring = ring.lock();
            ring.is_over = true;
            let waker = ring.waker.take();
            drop(ring);
            waker.into_iter().for_each(Waker::wake);
        }
    }
}

/// A stream of the decisions that an [`AdaptiveConnector`](super::AdaptiveConnector) and its clones make from now on.
/// See [`AdaptiveConnector::decisions`](super::AdaptiveConnector::decisions).
///
/// At most 64 decisions are kept. A reader that is too slow finds a [`Decision::Missed`] in place of the oldest ones.
/// The stream ends with the last clone of the connector and the last of its transports. Dropping a read loses nothing.
pub struct Decisions {
    ring: Arc<Mutex<Ring>>,
}

impl Stream for Decisions {
    type Item = Decided;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Decided>> {
        poll_prepared(cx, |prepared| {
            let mut ring = self.ring.lock();
            if ring.missed > 0
                && let Some(next) = ring.waiting.front()
            {
                let (origin, attempt) = (next.origin.clone(), next.attempt);
                let decisions = std::mem::take(&mut ring.missed);
                return Some(Some(Decided { origin, attempt, decision: Decision::Missed { decisions } }));
            }
            match ring.waiting.pop_front() {
                Some(decided) => return Some(Some(decided)),
                None if ring.is_over => return Some(None),
                None => prepared.keep_in(&mut ring.waker),
            }
            None
        })
    }
}

impl fmt::Debug for Decisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.ring.lock().waiting.len();
        f.debug_struct("Decisions").field("waiting", &waiting).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;
    use crate::stack::adaptive::TransportKind;

    fn decided(attempt: u64) -> Decided {
        let decision = Decision::Started { kind: TransportKind::Sse, after: Duration::ZERO };
        Decided { origin: "http://a:80".into(), attempt, decision }
    }

    #[test]
    fn each_reader_has_its_own_place_and_who_is_late_is_told_so() {
        let watchers = Watchers::default();
        let (mut quick, mut slow) = (watchers.subscribe(), watchers.subscribe());
        for attempt in 0..ROOM as u64 + 5 {
            watchers.publish(&decided(attempt));
            let next = quick.next().now_or_never().flatten().unwrap();
            assert_eq!(next.attempt, attempt);
        }
        assert!(quick.next().now_or_never().is_none());
        let next = slow.next().now_or_never().flatten().unwrap();
        assert!(matches!(next.decision, Decision::Missed { decisions: 5 }), "{next:?}");
        for attempt in 5..ROOM as u64 + 5 {
            assert_eq!(slow.next().now_or_never().flatten().unwrap().attempt, attempt);
        }
        drop(watchers);
        assert!(slow.next().now_or_never().unwrap().is_none());
    }

    #[test]
    fn readers_that_are_gone_are_forgotten() {
        let watchers = Watchers::default();
        for _ in 0..100 {
            drop(watchers.subscribe());
        }
        let _reader = watchers.subscribe();
        assert_eq!(watchers.0.lock().len(), 1);
    }
}
