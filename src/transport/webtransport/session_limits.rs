use std::{sync::Arc, time::Duration};

use quinn::{IdleTimeout, TransportConfig, VarInt};

use crate::transport::limits::limit_setters;

/// The limits of one session's cost, and its keep-alive. Each end has its own.
///
/// These limits apply to the *session*, that is, the QUIC connection below; [`Limits`](crate::Limits) applies to each
/// stream in it.
///
/// | limit | default | when exceeded |
/// |---|---|---|
/// | [`streams`](Self::streams) | 100 | the peer waits with its next bidirectional stream until one is done |
/// | [`uni_streams`](Self::uni_streams) | 100 | the same for unidirectional ones |
/// | [`stream_window`](Self::stream_window) | 1 MiB | the peer waits with this stream until it is read |
/// | [`window`](Self::window) | 8 MiB | the peer waits with all streams until one is read |
/// | [`send_window`](Self::send_window) | 4 MiB | writing waits until the peer has acknowledged |
/// | [`datagrams`](Self::datagrams) | 256 KiB | the oldest unread datagram is dropped; sending waits |
/// | [`idle`](Self::idle) | 30 s | a peer from which nothing was received for this time is gone |
/// | [`keep_alive`](Self::keep_alive) | 10 s | (a packet is sent after this time without one) |
///
/// A peer can make this end hold at most [`window`](Self::window) + [`send_window`](Self::send_window) + twice
/// [`datagrams`](Self::datagrams), and for each stream that is read one message of
/// [`Limits::message`](crate::Limits::message). The number of [`stream_window`](Self::stream_window)s that fit into
/// [`window`](Self::window) (8) is the number of streams that can be left unread at once without affecting any other
/// stream.
///
/// ```
/// use tower_transport::transport::webtransport::SessionLimits;
///
/// let limits = SessionLimits::new().streams(8).idle(std::time::Duration::from_secs(60));
/// assert_eq!((limits.streams, limits.uni_streams), (8, 100));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionLimits {
    /// The maximum number of bidirectional streams that the peer may have open at once.
    pub streams: u32,
    /// The maximum number of unidirectional streams that the peer may have open at once.
    pub uni_streams: u32,
    /// The number of bytes of one stream that are received ahead of the reader.
    pub stream_window: u32,
    /// The number of bytes of all streams that are received ahead of their readers.
    pub window: u32,
    /// The number of bytes that are kept until the peer has acknowledged them.
    pub send_window: u32,
    /// The number of datagram bytes that wait to be read, and the number that wait to be sent.
    pub datagrams: u32,
    /// The time without a packet from the peer after which the session is considered dead. The smaller value of both
    /// ends counts. Zero means never: a peer that vanished is then not detected.
    pub idle: Duration,
    /// The time without a packet after which one is sent, so that the session does not become idle. Zero means never.
    pub keep_alive: Duration,
}

/// The streams that HTTP/3 itself opens in addition: the CONNECT request; control and the two of QPACK.
const HTTP3: (u32, u32) = (1, 3);

/// The maximum of each number of streams. quinn makes an entry for each allowed stream with the connection: with
/// `u32::MAX` a connect would take all memory.
const MAX_STREAMS: u32 = 1 << 16;

/// A keep-alive interval that is the same as none.
const NEVER: Duration = Duration::from_secs(86_400 * 365);

impl SessionLimits {
    /// Creates the default limits.
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

    /// Creates limits for sessions of one bidirectional stream, so that a peer costs no more than that: no
    /// unidirectional streams, 16 KiB of [`datagrams`](Self::datagrams), and a [`window`](Self::window) of one stream
    /// plus 16 KiB for HTTP/3's own, so that a close arrives while the stream is not read. The rest is as in
    /// [`new`](Self::new).
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

    limit_setters! {
        streams: u32, "; more than 65,536 are treated as that. Defaults to 100.";
        uni_streams: u32, "; more than 65,536 are treated as that. Defaults to 100.";
        stream_window: u32, ", in bytes. Defaults to 1 MiB.";
        window: u32, ", in bytes. Defaults to 8 MiB.";
        send_window: u32, ", in bytes. Defaults to 4 MiB.";
        datagrams: u32, ", in bytes. Defaults to 256 KiB.";
        idle: Duration, ". Defaults to 30 seconds.";
        keep_alive: Duration, ". Defaults to 10 seconds.";
    }

    /// Returns these limits as QUIC's configuration.
    pub(super) fn transport(&self) -> Arc<TransportConfig> {
        let mut config = TransportConfig::default();
        let idle = (!self.idle.is_zero()).then_some(self.idle);
        // A time that exceeds QUIC's milliseconds (2^62 of them) is equivalent to never.
        let idle = idle.and_then(|time| IdleTimeout::try_from(time).ok());
        // quinn adds it to the clock, which cannot represent the end of `Duration::MAX`.
        let keep_alive = Some(self.keep_alive).filter(|time| !time.is_zero() && *time < NEVER);
        config
            .max_concurrent_bidi_streams(VarInt::from_u32(self.streams.min(MAX_STREAMS) + HTTP3.0))
            .max_concurrent_uni_streams(VarInt::from_u32(self.uni_streams.min(MAX_STREAMS) + HTTP3.1))
            .stream_receive_window(VarInt::from_u32(self.stream_window))
            .receive_window(VarInt::from_u32(self.window))
            .send_window(self.send_window.into())
            .datagram_receive_buffer_size(Some(self.datagrams as usize))
            .datagram_send_buffer_size(self.datagrams as usize)
            .max_idle_timeout(idle)
            .keep_alive_interval(keep_alive);
        Arc::new(config)
    }
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self::new()
    }
}
