use std::time::Duration;

/// What a connection may cost at most, and how long its two handshakes may take; every transport takes these.
///
/// All are on by default:
///
/// | limit | default | over it |
/// |---|---|---|
/// | [`message`](Self::message) | 4 MiB | an incoming message ends the connection (1009), an outgoing one is refused |
/// | [`frame`](Self::frame) | 1 MiB | an incoming frame ends the connection (1009), an outgoing message is fragmented |
/// | [`write_buffer`](Self::write_buffer) | 64 KiB | `poll_ready` is `Pending` until the peer reads |
/// | [`handshake`](Self::handshake) | 10 s | connecting, or waiting for a client's upgrade, fails |
/// | [`close`](Self::close) | 10 s | a peer that does not answer the close is cut |
///
/// ```
/// use std::time::Duration;
/// use tower_transport::Limits;
///
/// let limits = Limits::new().message(64 * 1024).handshake(Duration::from_secs(3));
/// assert_eq!(limits, Limits { message: 65_536, handshake: Duration::from_secs(3), ..Limits::default() });
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest message, in bytes of payload, both ways.
    pub message: usize,
    /// The largest frame, in bytes of payload. A frame is never larger than a message, whatever this says. Control frames (pings,
    /// pongs, closes) are not measured by it, nor by [`message`](Self::message): they are 125 bytes at most.
    pub frame: usize,
    /// How many bytes may wait unwritten before the sink is not ready any more. What one connection holds for a peer
    /// that does not read is at most this and one message.
    pub write_buffer: usize,
    /// The time that the opening handshake may take, name resolution and TLS included.
    pub handshake: Duration,
    /// The time between the first close frame and the end of the connection.
    pub close: Duration,
}

impl Limits {
    /// The defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            message: 4 << 20,
            frame: 1 << 20,
            write_buffer: 64 << 10,
            handshake: Duration::from_secs(10),
            close: Duration::from_secs(10),
        }
    }

    /// Sets [`message`](Self::message), in bytes.
    #[must_use]
    pub const fn message(mut self, bytes: usize) -> Self {
        self.message = bytes;
        self
    }

    /// Sets [`frame`](Self::frame), in bytes.
    #[must_use]
    pub const fn frame(mut self, bytes: usize) -> Self {
        self.frame = bytes;
        self
    }

    /// Sets [`write_buffer`](Self::write_buffer), in bytes.
    #[must_use]
    pub const fn write_buffer(mut self, bytes: usize) -> Self {
        self.write_buffer = bytes;
        self
    }

    /// Sets [`handshake`](Self::handshake).
    #[must_use]
    pub const fn handshake(mut self, time: Duration) -> Self {
        self.handshake = time;
        self
    }

    /// Sets [`close`](Self::close).
    #[must_use]
    pub const fn close(mut self, time: Duration) -> Self {
        self.close = time;
        self
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}
