use std::fmt;

/// A transport that an [`AdaptiveTransport`](super::AdaptiveTransport) can be. Later versions may add one.
///
/// ```
/// use tower_transport::stack::adaptive::TransportKind;
///
/// assert!(TransportKind::all().map(TransportKind::as_str).eq(["webtransport", "websocket", "sse"]));
/// assert_eq!(TransportKind::Sse.to_string(), "SSE + POST");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TransportKind {
    /// A stream of a WebTransport session: HTTP/3 over QUIC, that is, over UDP and always with TLS.
    WebTransport,
    /// A WebSocket: an HTTP/1.1 upgrade over TCP.
    WebSocket,
    /// Server-sent events for incoming and POST for outgoing messages: plain HTTP over TCP, which no proxy refuses.
    Sse,
}

impl TransportKind {
    pub(super) const ALL: [Self; 3] = [Self::WebTransport, Self::WebSocket, Self::Sse];

    /// Returns all transports, the preferred one first.
    pub fn all() -> impl Iterator<Item = Self> + Clone + fmt::Debug {
        Self::ALL.into_iter()
    }

    /// Returns the kind as one word for a metric label or a log: `webtransport`, `websocket`, `sse`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WebTransport => "webtransport",
            Self::WebSocket => "websocket",
            Self::Sse => "sse",
        }
    }

    /// Returns the index of this kind in a table of the three.
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// Formats the kind as people write it.
impl fmt::Display for TransportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WebTransport => "WebTransport",
            Self::WebSocket => "WebSocket",
            Self::Sse => "SSE + POST",
        })
    }
}
