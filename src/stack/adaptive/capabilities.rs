use std::{fmt, sync::Arc, time::Duration};

use super::{
    Reason, TransportKind,
    endpoints::Endpoint,
    memory::{Last, Memory},
};
use crate::stack::hello::SUBPROTOCOL;

/// Which transports there are: for this build, and with what was seen, for one server.
///
/// ```
/// use tower_transport::stack::adaptive::{AdaptiveConnector, Standing, TransportCapabilities, TransportKind};
///
/// let build = TransportCapabilities::of_build();
/// assert_eq!(build.standing(TransportKind::WebTransport), Standing::Untried);
///
/// let connector = AdaptiveConnector::default();
/// let plain = connector.capabilities(&"http://localhost:3000".parse()?)?;
/// assert_eq!(plain.standing(TransportKind::WebTransport), Standing::Off); // it needs TLS
/// # Ok::<(), tower_transport::BoxError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportCapabilities {
    standings: [Standing; 3],
    subprotocol: Option<Arc<str>>,
}

/// How one transport stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// It is not tried: switched off, or in need of TLS that the base has not.
    Off,
    /// It would be tried, and was not yet.
    Untried,
    /// It was made.
    Worked {
        /// How long ago.
        ago: Duration,
    },
    /// It was not made, or its path went dead.
    Failed {
        /// Why.
        reason: Reason,
        /// How long ago.
        ago: Duration,
    },
}

impl TransportCapabilities {
    /// What this build can do. The feature `adaptive` has all three, natively; what may be missing is
    /// [TLS](Self::has_tls) for the two over TCP.
    #[must_use]
    pub const fn of_build() -> Self {
        Self { standings: [Standing::Untried; 3], subprotocol: None }
    }

    pub(super) fn of_peer(memory: &Memory, origin: &str, endpoints: &[Endpoint], now: Duration) -> Self {
        let standings = TransportKind::ALL.map(|kind| {
            if !endpoints.iter().any(|endpoint| endpoint.place.kind == kind) {
                return Standing::Off;
            }
            match memory.last(origin, kind, now) {
                None => Standing::Untried,
                Some(Last::Worked(ago)) => Standing::Worked { ago },
                Some(Last::Failed(reason, ago)) => Standing::Failed { reason, ago },
            }
        });
        Self { standings, subprotocol: memory.subprotocol(origin) }
    }

    /// How one stands. Before the first attempt to a server none is known to work.
    #[must_use]
    pub const fn standing(&self, kind: TransportKind) -> Standing {
        let [webtransport, websocket, sse] = self.standings;
        match kind {
            TransportKind::WebTransport => webtransport,
            TransportKind::WebSocket => websocket,
            TransportKind::Sse => sse,
        }
    }

    /// The subprotocol of the latest connection to the server.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Whether the server, at the latest connection, agreed to speak what an [`OptimizedTransport`](crate::stack::OptimizedTransport)
    /// speaks, as far as is known: some servers choose any name that is offered first, and an `OptimizedTransport` on this connector finds that out.
    /// Which of its layers are on, [that](crate::stack::OptimizedTransport::capabilities) knows.
    #[must_use]
    pub fn is_optimized(&self) -> bool {
        self.subprotocol() == Some(SUBPROTOCOL)
    }

    /// Whether this build speaks `wss://` and `https://` over TCP (feature `tls`). WebTransport always has TLS.
    #[must_use]
    pub const fn has_tls() -> bool {
        cfg!(feature = "tls")
    }

    /// Whether this build trusts what the operating system trusts (feature `tls-platform-roots`); without, each connector is given roots
    /// or hashes of certificates.
    #[must_use]
    pub const fn has_platform_roots() -> bool {
        cfg!(feature = "tls-platform-roots")
    }
}

/// In one line, for people.
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
