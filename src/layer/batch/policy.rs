use std::time::Duration;

/// The maximum for [`BatchPolicy::max_bytes`].
const MOST_BYTES: usize = 1 << 30;

/// The conditions under which a batch is sent: full by count, full by bytes, or old.
///
/// Regardless of the policy, a flush sends waiting messages at once.
///
/// | limit | default |
/// |---|---|
/// | `count` | 64 messages |
/// | `delay` | 2 ms after the oldest message |
/// | [`max_bytes`](Self::max_bytes) | 16 KiB of payload |
/// | [`alone_from`](Self::alone_from) | no message up to `max_bytes` is sent alone because of its size |
///
/// ```
/// use std::time::Duration;
/// use tower_transport::layer::batch::BatchPolicy;
///
/// let quotes = BatchPolicy::new(256, Duration::from_millis(5)).max_bytes(64 * 1024);
/// assert_ne!(quotes, BatchPolicy::default());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchPolicy {
    count: usize,
    delay: Option<Duration>,
    max_bytes: usize,
    alone_from: usize,
}

impl BatchPolicy {
    /// Creates a policy for batches of at most `count` messages, which wait for more messages for at most `delay`.
    ///
    /// With a `count` of 1 (or 0, which is treated as 1) each message is sent alone. The type keeps every count within
    /// the default limit of the receiving layer.
    ///
    /// The delay only concerns messages that were fed and not flushed: it begins with the oldest one and ends with a
    /// flush. It has the resolution of the runtime's clock, about 1 ms.
    #[must_use]
    pub const fn new(count: u16, delay: Duration) -> Self {
        let count = if count == 0 { 1 } else { count as usize };
        Self { count, delay: Some(delay), max_bytes: 16 << 10, alone_from: usize::MAX }
    }

    /// Creates a policy for batches of at most `count` messages, which wait until they are full or flushed. It uses no
    /// clock and no timer.
    ///
    /// It fits if everything that is fed is flushed soon, as a [`Driver`](crate::Driver) does.
    #[must_use]
    pub const fn on_flush(count: u16) -> Self {
        Self { delay: None, ..Self::new(count, Duration::ZERO) }
    }

    /// Sets how many bytes of payload one batch may contain. Defaults to 16 KiB; capped at 1 GiB. A larger message is
    /// sent alone, uncopied.
    ///
    /// Keep it well below the message limit of both ends ([`Limits::message`](crate::Limits::message), 4 MiB): on the
    /// wire a batch has at most 5 more bytes for each message, and 12 in addition.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = if bytes < MOST_BYTES { bytes } else { MOST_BYTES };
        self
    }

    /// Sets the size in bytes from which a message is sent alone, uncopied, even if there is room for it in a batch. By
    /// default no message is.
    ///
    /// With `Deflate::batches` off, set it to `Deflate::min_size`. Each message worth compressing is then compressed
    /// separately, and smaller ones are still batched.
    #[must_use]
    pub const fn alone_from(mut self, bytes: usize) -> Self {
        self.alone_from = bytes;
        self
    }

    /// Returns the same policy with at most this [`alone_from`](Self::alone_from).
    #[cfg(feature = "optimized")]
    pub(crate) const fn with_alone_from(self, bytes: usize) -> Self {
        if self.alone_from <= bytes { self } else { Self { alone_from: bytes, ..self } }
    }

    /// Returns the same policy, with batches that fit into messages of `message` bytes.
    #[cfg(feature = "optimized")]
    pub(crate) const fn within(self, message: usize) -> Self {
        let most = message.saturating_sub(12 + 5 * self.count);
        if self.max_bytes <= most { self } else { Self { max_bytes: most, ..self } }
    }

    pub(super) const fn delay(&self) -> Option<Duration> {
        self.delay
    }

    /// Returns whether a message of this length is never batched with others.
    pub(super) const fn goes_alone(&self, len: usize) -> bool {
        len > self.max_bytes || len >= self.alone_from || self.count == 1
    }

    /// Returns whether a batch may have this size.
    pub(super) const fn allows(&self, count: usize, bytes: usize) -> bool {
        count <= self.count && bytes <= self.max_bytes
    }

    /// Returns whether waiting for more messages is pointless.
    pub(super) const fn is_reached(&self, count: usize, bytes: usize) -> bool {
        count >= self.count || bytes >= self.max_bytes
    }
}

impl Default for BatchPolicy {
    /// Returns a policy of 64 messages, 2 ms, 16 KiB.
    fn default() -> Self {
        Self::new(64, Duration::from_millis(2))
    }
}
