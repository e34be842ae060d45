use std::time::Duration;

/// Implements the setters of a struct of limits.
macro_rules! limit_setters {
    ($($name:ident: $type:ty, $default:literal;)*) => {$(
        #[doc = concat!("Sets [`", stringify!($name), "`](Self::", stringify!($name), ")", $default)]
        #[must_use]
        pub const fn $name(mut self, $name: $type) -> Self {
            self.$name = $name;
            self
        }
    )*};
}

#[cfg(all(feature = "webtransport", not(target_arch = "wasm32")))]
pub(super) use limit_setters;

/// The limits of a connection's cost and of the time for its two handshakes. Every transport takes these.
///
/// All limits but [`idle`](Self::idle) are enabled by default. An error that one of them causes names it:
///
/// | limit | default | when exceeded |
/// |---|---|---|
/// | [`message`](Self::message) | 4 MiB | an incoming message ends the connection (1009), an outgoing one is rejected |
/// | [`frame`](Self::frame) | 1 MiB | an incoming frame ends the connection (1009), an outgoing message is fragmented |
/// | [`fragments`](Self::fragments) | 131,072 | an incoming message ends the connection (1009) |
/// | [`write_buffer`](Self::write_buffer) | 64 KiB | `poll_ready` is `Pending` until the peer reads |
/// | [`handshake`](Self::handshake) | 10 s | connecting, or waiting for a client's upgrade, fails |
/// | [`handshake_bytes`](Self::handshake_bytes) | 256 KiB | connecting, or accepting a client, fails |
/// | [`header_bytes`](Self::header_bytes) | 64 KiB | the same; a server answers with 431 where it can |
/// | [`headers`](Self::headers) | 512 | the same |
/// | [`idle`](Self::idle) | never | the connection is closed (1001) |
/// | [`close`](Self::close) | 10 s | a peer that does not answer the close is cut |
///
/// # Handshakes
///
/// The limits of a handshake apply to what this end reads. They are those of the transport, so an HTTP server in front
/// of it may have lower ones (hyper: 100 headers; `max_headers` raises that).
///
/// | end | `header_bytes`, `headers` | `handshake_bytes` |
/// |---|---|---|
/// | the connectors of WebSocket, SSE, SSE + POST | each response | all responses to one request, as with 103 |
/// | [`WebSocketAcceptor`] | the request | the request |
/// | a server behind hyper or axum | the request, once the HTTP server has read it | the HTTP server's |
/// | WebTransport, server | the request; its library allows no more than 16 KiB | QUIC's, 64 KiB |
/// | WebTransport, client | 16 KiB; nothing of the response is kept | QUIC's, 64 KiB |
/// | in a page | the browser's | the browser's |
///
/// [`WebSocketAcceptor`]: crate::transport::websocket::WebSocketAcceptor
///
/// # Memory of one connection
///
/// A peer that does not read, or that sends faster than it is read, makes one connection hold at most this, in addition
/// to the operating system's buffers:
///
/// | transport | outgoing | incoming |
/// |---|---|---|
/// | WebSocket | `write_buffer` and one message | one message; 64 KiB that the connections of a thread share |
/// | WebSocket over HTTP/2 | the same, and 128 KiB in hyper | the same, and the window of its stream |
/// | WebSocket in a page | the same, in the browser | 16 MiB (`WebSocketConnector::incoming_bytes`), and one message |
/// | SSE + POST, server | `write_buffer` and one message | `write_buffer` or 1024 messages, and one message |
/// | SSE + POST, client | `write_buffer` and one message, until they are acknowledged | one message and 64 KiB |
/// | WebTransport, each stream | `write_buffer` and one message | one message |
/// | WebTransport, each session | [`send_window`], 4 MiB, and [`datagrams`] | [`window`], 8 MiB, and [`datagrams`] |
/// | SSE | - | one event and 64 KiB |
///
/// [`send_window`]: crate::transport::webtransport::SessionLimits::send_window
/// [`window`]: crate::transport::webtransport::SessionLimits::window
/// [`datagrams`]: crate::transport::webtransport::SessionLimits::datagrams
///
/// ```
/// use std::time::Duration;
/// use tower_transport::Limits;
///
/// let limits = Limits::new().message(64 * 1024).handshake(Duration::from_secs(3));
/// assert_eq!((limits.message, limits.frame), (65_536, 1 << 20));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The maximum message size, in bytes of payload, both ways.
    pub message: usize,
    /// The maximum frame size, in bytes of payload. A frame is never larger than a message, whatever this value is.
    /// Neither this limit nor [`message`](Self::message) applies to control frames (pings, pongs, closes), which are
    /// 125 bytes at most.
    pub frame: usize,
    /// The maximum number of frames that an incoming WebSocket message may be in. A peer could send empty fragments of
    /// one message without end. Outgoing messages are in as few frames as [`frame`](Self::frame) allows.
    pub fragments: usize,
    /// The number of bytes that may wait unwritten before the sink stops being ready. For a peer that does not read,
    /// the transport holds at most this amount and one message. The [table](Self#memory-of-one-connection) has what is
    /// held below it.
    pub write_buffer: usize,
    /// The maximum time of the opening handshake, including name resolution and TLS.
    pub handshake: Duration,
    /// The maximum number of bytes that are read from the peer before the handshake is over, after TLS. It bounds a
    /// server that sends informational responses (103) without end. One read may go beyond it.
    pub handshake_bytes: usize,
    /// The maximum size of the headers of one request or response of a handshake, in bytes: names, values, and four
    /// more for each header.
    pub header_bytes: usize,
    /// The maximum number of headers of one request or response of a handshake.
    pub headers: usize,
    /// The time after which a connection on which nothing moves, in either direction, is closed. The stream then yields
    /// an error for which [`is_timeout`](crate::Error::is_timeout) is true. [`Duration::MAX`] means never.
    ///
    /// All bytes of the peer count, such as pings, and all bytes that the operating system takes. Keep-alives of the
    /// transport itself do not: those of TCP and QUIC, and the comments of SSE. The time runs while the stream is
    /// polled. To detect a dead peer early, use [`heartbeat`](crate::layer::heartbeat) instead; to close a connection
    /// that nobody uses although it is alive, use [`LimitLayer::idle_timeout`]. A WebTransport session ends sooner
    /// where its [`SessionLimits::idle`] is shorter, 30 s by default.
    ///
    /// [`LimitLayer::idle_timeout`]: crate::layer::limit::LimitLayer::idle_timeout
    /// [`SessionLimits::idle`]: crate::transport::webtransport::SessionLimits::idle
    pub idle: Duration,
    /// The maximum time that a peer may take for its part of the closing handshake. It counts from the last progress of
    /// the bytes that were queued before the close frame, so that a close behind a long message is not cut on a slow
    /// line. However slowly they move, the handshake takes at most 16 times this value.
    pub close: Duration,
}

impl Limits {
    /// Creates the default limits.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            message: 4 << 20,
            frame: 1 << 20,
            fragments: 128 << 10,
            write_buffer: 64 << 10,
            handshake: Duration::from_secs(10),
            handshake_bytes: 256 << 10,
            header_bytes: 64 << 10,
            headers: 512,
            idle: Duration::MAX,
            close: Duration::from_secs(10),
        }
    }

    /// Returns what is wrong with the headers of a handshake: which limit they exceed, and by how much.
    #[cfg(any(feature = "websocket", feature = "sse", feature = "webtransport"))]
    #[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "the browser checks them"))]
    pub(crate) fn check_headers(&self, headers: &http::HeaderMap) -> Result<(), String> {
        let count = headers.len();
        if count > self.headers {
            return Err(format!("{count} headers are over the limit of {} (Limits::headers)", self.headers));
        }
        let bytes: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        if bytes > self.header_bytes {
            let limit = self.header_bytes;
            return Err(format!("headers of {bytes} bytes are over the limit of {limit} (Limits::header_bytes)"));
        }
        Ok(())
    }

    limit_setters! {
        message: usize, ", in bytes. Defaults to 4 MiB.";
        frame: usize, ", in bytes. Defaults to 1 MiB.";
        fragments: usize, ", in frames. Defaults to 131,072.";
        write_buffer: usize, ", in bytes. Defaults to 64 KiB.";
        handshake: Duration, ". Defaults to 10 seconds.";
        handshake_bytes: usize, ", in bytes. Defaults to 256 KiB.";
        header_bytes: usize, ", in bytes. Defaults to 64 KiB.";
        headers: usize, ". Defaults to 512.";
        idle: Duration, ". Defaults to [`Duration::MAX`]: never.";
        close: Duration, ". Defaults to 10 seconds.";
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}
