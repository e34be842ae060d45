use std::{sync::Arc, time::Duration};

use metrics::Label;

use super::{Reason, TransportKind};
use crate::{
    Error,
    layer::trace::{CONNECT_SECONDS, CONNECTS, FALLBACKS, PATHS_LOST},
    log,
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
