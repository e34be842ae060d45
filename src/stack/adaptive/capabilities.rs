use std::{fmt, sync::Arc, time::Duration};

use super::{
    Reason, TransportKind,
    endpoints::Endpoint,
    memory::{LastOutcome, Memory},
};
use crate::stack::hello::SUBPROTOCOL;

/// The state of each transport: as supported by this build or, with what has been observed, for one server.
///
/// ```
/// use tower_transport::stack::adaptive::{AdaptiveConnector, Standing, TransportCapabilities, TransportKind};
///
/// let build = TransportCapabilities::of_build();
/// assert_eq!(build.standing(TransportKind::WebTransport), Standing::Untried);
///
/// let connector = AdaptiveConnector::default();
/// let plain = connector.capabilities(&"http://localhost:3000".parse()?)?;
/// assert_eq!(plain.standing(TransportKind::WebTransport), Standing::Off); // it requires TLS
/// # Ok::<(), tower_transport::BoxError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportCapabilities {
    standings: [Standing; 3],
    subprotocol: Option<Arc<str>>,
}

/// The status of one transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// Not tried: switched off, or it requires TLS and the base URL has none.
    Off,
    /// Enabled but not yet tried.
    Untried,
    /// The last attempt succeeded.
    #[non_exhaustive]
    Worked {
        /// The time since that attempt.
        ago: Duration,
    },
    /// The last attempt failed, or the path of a connection went dead.
    #[non_exhaustive]
    Failed {
        /// The reason for the failure.
        reason: Reason,
        /// The time since the failure.
        ago: Duration,
    },
}

impl TransportCapabilities {
    /// Returns what this build supports. The feature `adaptive` includes all three transports on native targets; only
    /// [TLS](Self::has_tls) for the two TCP transports can be missing.
    #[must_use]
    pub const fn of_build() -> Self {
        Self { standings: [Standing::Untried; 3], subprotocol: None }
    }

    pub(super) fn of_peer(memory: &Memory, origin: &str, endpoints: &[Endpoint], now: Duration) -> Self {
        let standings = TransportKind::ALL.map(|kind| {
            if !endpoints.iter().any(|endpoint| endpoint.candidate.kind == kind) {
                return Standing::Off;
            }
            match memory.last(origin, kind, now) {
                None => Standing::Untried,
                Some(LastOutcome::Worked(ago)) => Standing::Worked { ago },
                Some(LastOutcome::Failed(reason, ago)) => Standing::Failed { reason, ago },
            }
        });
        Self { standings, subprotocol: memory.subprotocol(origin) }
    }

    /// Returns the status of one transport. Before the first attempt to reach a server, no transport is known to work.
    #[must_use]
    pub const fn standing(&self, kind: TransportKind) -> Standing {
        let [webtransport, websocket, sse] = self.standings;
        match kind {
            TransportKind::WebTransport => webtransport,
            TransportKind::WebSocket => websocket,
            TransportKind::Sse => sse,
        }
    }

    /// Returns the subprotocol of the latest connection to the server.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Returns whether the server agreed, on the latest connection, to speak the protocol of an
    /// [`OptimizedTransport`](crate::stack::OptimizedTransport), as far as is known. Some servers choose any name that
    /// is offered first; an `OptimizedTransport` on this connector detects that.
    /// [`OptimizedTransport::capabilities`](crate::stack::OptimizedTransport::capabilities) reports which layers are
    /// on.
    #[must_use]
    pub fn is_optimized(&self) -> bool {
        self.subprotocol() == Some(SUBPROTOCOL)
    }

    /// Returns whether this build supports `wss://` and `https://` over TCP (feature `tls`). WebTransport always uses
    /// TLS.
    #[must_use]
    pub const fn has_tls() -> bool {
        cfg!(feature = "tls")
    }

    /// Returns whether this build trusts the operating system's root certificates (feature `tls-platform-roots`).
    /// Without it, each connector must be given roots or certificate hashes.
    #[must_use]
    pub const fn has_platform_roots() -> bool {
        cfg!(feature = "tls-platform-roots")
    }
}

/// Formats the capabilities on one line, for people.
impl fmt::Display for TransportCapabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, kind) in TransportKind::ALL.into_iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            match self.standing(kind) {
                Standing::Off => write!(f, "{comma}{kind}: off")?,
                Standing::Untried => write!(f, "{comma}{kind}: not tried")?,
                Standing::Worked { .. } => write!(f, "{comma}{kind}: works")?,
                Standing::Failed { reason, .. } => write!(f, "{comma}{kind}: failed ({reason})")?,
            }
        }
        Ok(())
    }
}
