use std::{sync::Arc, time::Duration};

use quinn::{IdleTimeout, TransportConfig, VarInt};

/// What one session may cost, and how it is kept alive; both ends have their own.
///
/// These bound the *session*, that is the QUIC connection below; [`Limits`](crate::Limits) bounds each stream in it.
///
/// | limit | default | over it |
/// |---|---|---|
/// | [`streams`](Self::streams) | 100 | the peer waits with its next bidirectional stream until one is done |
/// | [`uni_streams`](Self::uni_streams) | 100 | the same for unidirectional ones |
/// | [`stream_window`](Self::stream_window) | 1 MiB | the peer waits with this stream until it is read |
/// | [`window`](Self::window) | 8 MiB | the peer waits with all streams until one is read |
/// | [`send_window`](Self::send_window) | 4 MiB | writing waits until the peer has acknowledged |
/// | [`datagrams`](Self::datagrams) | 256 KiB | the oldest unread datagram is dropped; sending waits |
/// | [`idle`](Self::idle) | 30 s | a peer of which nothing came for so long is gone |
/// | [`keep_alive`](Self::keep_alive) | 10 s | (a packet is sent after so long without one) |
///
/// What a peer can make this end hold is at most [`window`](Self::window) + [`send_window`](Self::send_window) + twice
/// [`datagrams`](Self::datagrams), and for each stream that is read one message of [`Limits::message`](crate::Limits::message).
/// As many streams as [`window`](Self::window) holds [`stream_window`](Self::stream_window)s (8) can be left unread at once without
/// any other stream noticing.
///
/// ```
/// use tower_transport::transport::webtransport::SessionLimits;
///
/// let limits = SessionLimits::new().streams(8).idle(std::time::Duration::from_secs(60));
/// assert_eq!((limits.streams, limits.uni_streams), (8, 100));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// The bidirectional streams that the peer may have open at once.
    pub streams: u32,
    /// The unidirectional streams that the peer may have open at once.
    pub uni_streams: u32,
    /// The bytes of one stream that are received ahead of the reader.
    pub stream_window: u32,
    /// The bytes of all streams that are received ahead of their readers.
    pub window: u32,
    /// The bytes that are kept until the peer has acknowledged them.
    pub send_window: u32,
    /// The bytes of datagrams that wait to be read, and as many that wait to be sent.
    pub datagrams: u32,
    /// After how long without a packet of the peer the session is taken for dead; the smaller one of both ends' counts. Zero
    /// means never: then a peer that vanished is noticed by nobody.
    pub idle: Duration,
    /// After how long without a packet one is sent, so that the session does not become idle. Zero means never.
    pub keep_alive: Duration,
}

/// What HTTP/3 itself opens besides: the CONNECT request; control and the two of QPACK.
const HTTP3: (u32, u32) = (1, 3);

impl SessionLimits {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            streams: 100,
            uni_streams: 100,
            stream_window: 1 << 20,
            window: 8 << 20,
            send_window: 4 << 20,
            datagrams: 256 << 10,
            idle: Duration::from_secs(30),
            keep_alive: Duration::from_secs(10),
        }
    }

    /// For sessions of one bidirectional stream, where a peer should cost no more than that: no unidirectional streams, 16 KiB of
    /// [`datagrams`](Self::datagrams), and a [`window`](Self::window) of one stream, with 16 KiB for HTTP/3's own, so that a close comes
    /// through while the stream is not read. The rest as in [`new`](Self::new).
    ///
    /// ```
    /// use tower_transport::transport::webtransport::SessionLimits;
    ///
    /// let limits = SessionLimits::one_stream();
    /// assert_eq!((limits.streams, limits.uni_streams, limits.datagrams), (1, 0, 16 << 10));
    /// assert_eq!(limits.window, limits.stream_window + (16 << 10));
    /// ```
    #[must_use]
    pub const fn one_stream() -> Self {
        let limits = Self::new();
        limits.streams(1).uni_streams(0).window(limits.stream_window + (16 << 10)).datagrams(16 << 10)
    }

    /// Sets [`streams`](Self::streams).
    #[must_use]
    pub const fn streams(mut self, count: u32) -> Self {
        self.streams = count;
        self
    }

    /// Sets [`uni_streams`](Self::uni_streams).
    #[must_use]
    pub const fn uni_streams(mut self, count: u32) -> Self {
        self.uni_streams = count;
        self
    }

    /// Sets [`stream_window`](Self::stream_window), in bytes.
    #[must_use]
    pub const fn stream_window(mut self, bytes: u32) -> Self {
        self.stream_window = bytes;
        self
    }

    /// Sets [`window`](Self::window), in bytes.
    #[must_use]
    pub const fn window(mut self, bytes: u32) -> Self {
        self.window = bytes;
        self
    }

    /// Sets [`send_window`](Self::send_window), in bytes.
    #[must_use]
    pub const fn send_window(mut self, bytes: u32) -> Self {
        self.send_window = bytes;
        self
    }

    /// Sets [`datagrams`](Self::datagrams), in bytes.
    #[must_use]
    pub const fn datagrams(mut self, bytes: u32) -> Self {
        self.datagrams = bytes;
        self
    }

    /// Sets [`idle`](Self::idle).
    #[must_use]
    pub const fn idle(mut self, time: Duration) -> Self {
        self.idle = time;
        self
    }

    /// Sets [`keep_alive`](Self::keep_alive).
    #[must_use]
    pub const fn keep_alive(mut self, time: Duration) -> Self {
        self.keep_alive = time;
        self
    }

    /// The same for QUIC.
    pub(super) fn transport(&self) -> Arc<TransportConfig> {
        let mut config = TransportConfig::default();
        let idle = (!self.idle.is_zero()).then_some(self.idle);
        // A time that does not fit QUIC's milliseconds (2^62 of them) is as good as never.
        let idle = idle.and_then(|time| IdleTimeout::try_from(time).ok());
        config
            .max_concurrent_bidi_streams(VarInt::from_u32(self.streams.saturating_add(HTTP3.0)))
            .max_concurrent_uni_streams(VarInt::from_u32(self.uni_streams.saturating_add(HTTP3.1)))
            .stream_receive_window(VarInt::from_u32(self.stream_window))
            .receive_window(VarInt::from_u32(self.window))
            .send_window(self.send_window.into())
            .datagram_receive_buffer_size(Some(self.datagrams as usize))
            .datagram_send_buffer_size(self.datagrams as usize)
            .max_idle_timeout(idle)
            .keep_alive_interval((!self.keep_alive.is_zero()).then_some(self.keep_alive));
        Arc::new(config)
    }
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self::new()
    }
}
