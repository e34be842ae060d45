use std::{sync::Arc, time::Duration};

use super::{Reason, TransportKind};
use crate::Error;

/// What an [`AdaptiveConnector`](super::AdaptiveConnector) has decided, and for whom: an item of [`Decisions`](super::Decisions).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Decided {
    /// Scheme, host and port of the base URL: `https://example.com:443`.
    pub origin: Arc<str>,
    /// Counts the attempts (calls of the connector and its clones), from 1. Of [`Decision::LostMidSession`], the attempt that had made
    /// the connection.
    pub attempt: u64,
    /// What.
    pub decision: Decision,
}

/// One decision. `after` is the time since the attempt began.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Decision {
    /// The attempt begins with the transport that worked lately, which need not be the most wanted one.
    Remembered {
        /// That one.
        kind: TransportKind,
    },
    /// A transport is tried.
    Started {
        /// Which.
        kind: TransportKind,
        /// When.
        after: Duration,
    },
    /// A transport was not made, and the others are tried.
    FellBack {
        /// Which.
        kind: TransportKind,
        /// Why.
        reason: Reason,
        /// What it said.
        error: Error,
        /// When.
        after: Duration,
    },
    /// A transport was not made, for a reason that holds for others, too: they are not tried, or given up.
    Stopped {
        /// Which.
        kind: TransportKind,
        /// Why.
        reason: Reason,
        /// What it said.
        error: Error,
        /// When.
        after: Duration,
    },
    /// A transport was made. What else was under way is given up.
    Connected {
        /// Which.
        kind: TransportKind,
        /// When.
        after: Duration,
    },
    /// No transport was made: the attempt has failed.
    Failed {
        /// With what.
        error: Error,
        /// When.
        after: Duration,
    },
    /// The path of a connection went dead. This transport is tried last, for the time that things are remembered.
    LostMidSession {
        /// Which.
        kind: TransportKind,
        /// How that was noticed.
        error: Error,
    },
    /// Whoever reads was too slow: so many decisions were dropped here, the oldest first.
    Missed {
        /// How many.
        decisions: u64,
    },
}
