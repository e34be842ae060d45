use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// Counters of compression, over all transports of a layer and of its clones.
///
/// It is a handle that can be cloned and read anywhere, also while a driver owns the transport. Counting costs three
/// atomic additions for a message that was compressed or inflated, and nothing for one that passed. Messages that pass
/// plain without an attempt are not counted.
///
/// ```
/// # futures_util::FutureExt::now_or_never(async {
/// use tower::Layer;
/// use tower_transport::{Message, TransportExt, channel};
/// use tower_transport::layer::compression::{CompressionLayer, Deflate};
///
/// let layer = CompressionLayer::new(Deflate::new());
/// let stats = layer.stats();
/// let (near, _far) = channel::<Message, Message>(8);
/// let mut near = layer.layer(near);
/// near.send_message(Message::text("la".repeat(500))).await?;
///
/// let sent = stats.sent();
/// assert_eq!((sent.messages, sent.plain_bytes), (1, 1000));
/// assert!(sent.ratio().unwrap() > 10.0);
/// # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
/// ```
#[derive(Clone, Debug, Default)]
pub struct Stats(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    sent: Direction,
    skipped: AtomicU64,
    received: Direction,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct Direction {
    messages: AtomicU64,
    plain_bytes: AtomicU64,
    compressed_bytes: AtomicU64,
}

impl Direction {
    fn count(&self, plain: usize, compressed: usize) {
        self.messages.fetch_add(1, Relaxed);
        self.plain_bytes.fetch_add(plain as u64, Relaxed);
        self.compressed_bytes.fetch_add(compressed as u64, Relaxed);
    }

    fn read(&self) -> Volume {
        Volume {
            messages: self.messages.load(Relaxed),
            plain_bytes: self.plain_bytes.load(Relaxed),
            compressed_bytes: self.compressed_bytes.load(Relaxed),
        }
    }
}

impl Stats {
    /// Returns the volume of messages that were sent compressed.
    #[must_use]
    pub fn sent(&self) -> Volume {
        self.0.sent.read()
    }

    /// Returns the volume of messages that were received compressed.
    #[must_use]
    pub fn received(&self) -> Volume {
        self.0.received.read()
    }

    /// Returns the number of outgoing messages that were compressed and then sent plain, because they did not shrink
    /// (or shrank more than [`max_ratio`](super::Deflate::max_ratio) allows). If this is high, time is wasted: raise
    /// [`min_size`](super::Deflate::min_size), or leave compression out.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        self.0.skipped.load(Relaxed)
    }

    /// Returns the number of compressed messages of peers that were refused: over a limit, or invalid.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Relaxed)
    }

    pub(super) fn count_sent(&self, plain: usize, compressed: usize) {
        self.0.sent.count(plain, compressed);
    }

    pub(super) fn count_received(&self, plain: usize, compressed: usize) {
        self.0.received.count(plain, compressed);
    }

    pub(super) fn count_skipped(&self) {
        self.0.skipped.fetch_add(1, Relaxed);
    }

    pub(super) fn count_refused(&self) {
        self.0.refused.fetch_add(1, Relaxed);
    }
}

/// Compressed messages of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Volume {
    /// The number of messages.
    pub messages: u64,
    /// Their bytes of payload before compression.
    pub plain_bytes: u64,
    /// Their bytes of payload on the wire, including the mark.
    pub compressed_bytes: u64,
}

impl Volume {
    /// Returns the ratio of plain to compressed bytes. `None` before the first message.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        (self.compressed_bytes > 0).then(|| self.plain_bytes as f64 / self.compressed_bytes as f64)
    }
}
