use std::time::Duration;

/// The most that [`BatchPolicy::max_bytes`] takes.
const MOST_BYTES: usize = 1 << 30;

/// When a batch leaves: full by count, full by bytes, or old.
///
/// Whatever this says, a flush sends what waits at once.
///
/// | bound | default |
/// |---|---|
/// | `count` | 64 messages |
/// | `delay` | 2 ms after the oldest message |
/// | [`max_bytes`](Self::max_bytes) | 16 KiB of payload |
/// | [`alone_from`](Self::alone_from) | no message goes by itself for its size, below `max_bytes` |
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
    /// A batch of at most `count` messages, which waits for more at most `delay` long.
    ///
    /// With a `count` of 1 (or 0, which is taken for 1) each message goes out by itself. The type keeps every count within
    /// what the receiving layer takes by default.
    ///
    /// The delay only concerns messages that were fed and not flushed: it begins with the oldest, and ends with a flush.
    /// It has the resolution of the runtime's clock, about 1 ms.
    #[must_use]
    pub const fn new(count: u16, delay: Duration) -> Self {
        let count = if count == 0 { 1 } else { count as usize };
        Self { count, delay: Some(delay), max_bytes: 16 << 10, alone_from: usize::MAX }
    }

    /// A batch of at most `count` messages, which waits until it is full or flushed. No clock and no timer is used.
    ///
    /// Right where everything that is fed is flushed soon, as a [`Driver`](crate::Driver) does.
    #[must_use]
    pub const fn on_flush(count: u16) -> Self {
        Self { delay: None, ..Self::new(count, Duration::ZERO) }
    }

    /// How many bytes of payload one batch holds at most, default 16 KiB; no more than 1 GiB is taken. A larger message goes
    /// by itself, uncopied.
    ///
    /// Keep it well below the message limit of both ends ([`Limits::message`](crate::Limits::message), 4 MiB): on the wire a
    /// batch has at most 5 bytes more for each message, and 12 besides.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = if bytes < MOST_BYTES { bytes } else { MOST_BYTES };
        self
    }

    /// Sets from how many bytes on a message goes by itself, uncopied, though there is room for it in a batch. Default: none does.
    ///
    /// With `Deflate::batches` off, set it to
    /// `Deflate::min_size`: then each message that is worth compressing is compressed by
    /// itself, and smaller ones are still packed together.
    #[must_use]
    pub const fn alone_from(mut self, bytes: usize) -> Self {
        self.alone_from = bytes;
        self
    }

    /// The same policy, with at most this [`alone_from`](Self::alone_from).
    #[cfg(all(feature = "optimized", not(target_arch = "wasm32")))]
    pub(crate) const fn with_alone_from(self, bytes: usize) -> Self {
        if self.alone_from <= bytes { self } else { Self { alone_from: bytes, ..self } }
    }

    /// The same policy, whose batches fit into messages of `message` bytes.
    #[cfg(all(feature = "optimized", not(target_arch = "wasm32")))]
    pub(crate) const fn within(self, message: usize) -> Self {
        let most = message.saturating_sub(12 + 5 * self.count);
        if self.max_bytes <= most { self } else { Self { max_bytes: most, ..self } }
    }

    pub(super) const fn delay(&self) -> Option<Duration> {
        self.delay
    }

    /// Whether a message of this length is never put together with others.
    pub(super) const fn goes_alone(&self, len: usize) -> bool {
        len > self.max_bytes || len >= self.alone_from || self.count == 1
    }

    /// Whether a batch may be as large as this.
    pub(super) const fn allows(&self, count: usize, bytes: usize) -> bool {
        count <= self.count && bytes <= self.max_bytes
    }

    /// Whether there is no sense in waiting for more.
    pub(super) const fn is_reached(&self, count: usize, bytes: usize) -> bool {
        count >= self.count || bytes >= self.max_bytes
    }
}

impl Default for BatchPolicy {
    /// 64 messages, 2 ms, 16 KiB.
    fn default() -> Self {
        Self::new(64, Duration::from_millis(2))
    }
}
