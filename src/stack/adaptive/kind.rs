use std::fmt;

/// One of the three transports that an [`AdaptiveTransport`](super::AdaptiveTransport) may be.
///
/// ```
/// use tower_transport::stack::adaptive::TransportKind;
///
/// assert_eq!(TransportKind::ALL.map(TransportKind::word), ["webtransport", "websocket", "sse"]);
/// assert_eq!(TransportKind::Sse.to_string(), "SSE + POST");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TransportKind {
    /// A stream of a WebTransport session: HTTP/3 over QUIC, so UDP, and always TLS.
    WebTransport,
    /// A WebSocket: TCP, HTTP/1.1 with an upgrade.
    WebSocket,
    /// Server-sent events down, POST up: TCP, plain HTTP that no proxy refuses.
    Sse,
}

impl TransportKind {
    /// All of them, the most wanted first.
    pub const ALL: [Self; 3] = [Self::WebTransport, Self::WebSocket, Self::Sse];

    /// In one word, for a metric's label or a log: `webtransport`, `websocket`, `sse`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::WebTransport => "webtransport",
            Self::WebSocket => "websocket",
            Self::Sse => "sse",
        }
    }

    /// Its place in a table of the three.
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// As people write it.
impl fmt::Display for TransportKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WebTransport => "WebTransport",
            Self::WebSocket => "WebSocket",
            Self::Sse => "SSE + POST",
        })
    }
}
