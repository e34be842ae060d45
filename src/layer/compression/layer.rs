use tower_layer::Layer;

use super::{Compressed, Deflate, Stats};

/// Compresses outgoing messages and inflates incoming ones. See the [module](super) for the whole story.
///
/// The settings are per connection; the [`Stats`] are shared by all transports of this layer and of its clones.
#[derive(Clone, Debug, Default)]
pub struct CompressionLayer {
    deflate: Deflate,
    stats: Stats,
}

impl CompressionLayer {
    /// The layer of these settings.
    #[must_use]
    pub fn new(deflate: Deflate) -> Self {
        Self { deflate, stats: Stats::default() }
    }

    /// The most bytes that this layer adds to a message: the mark behind one that ends like a mark of its own or, with a kept context, what
    /// a small message may grow by.
    #[cfg(all(feature = "optimized", not(target_arch = "wasm32")))]
    pub(crate) const fn overhead(&self) -> usize {
        if self.deflate.keep_context { super::outgoing::MOST } else { crate::message::trailer::LEN }
    }

    /// Whether it keeps the context.
    #[cfg(all(feature = "optimized", not(target_arch = "wasm32")))]
    pub(crate) const fn keeps_context(&self) -> bool {
        self.deflate.keep_context
    }

    /// The same, with or without the context: for a peer that says which.
    #[cfg(all(feature = "optimized", not(target_arch = "wasm32")))]
    pub(crate) fn with_context(&self, keep: bool) -> Self {
        Self { deflate: Deflate { keep_context: keep, ..self.deflate }, stats: self.stats.clone() }
    }

    /// From how many bytes on a message is kept out of batches, where these are sent plain.
    #[cfg(all(feature = "optimized", not(target_arch = "wasm32")))]
    pub(crate) const fn alone_from(&self) -> usize {
        if self.deflate.batches { usize::MAX } else { self.deflate.min_size }
    }

    /// Neither compresses nor inflates, and keeps the marks apart: for two ends that have agreed on no compression.
    #[cfg(all(feature = "optimized", not(target_arch = "wasm32")))]
    pub(crate) fn off() -> Self {
        Self::new(Deflate { inflates: false, ..Deflate::new().receive_only() })
    }

    /// What this layer does, to be read while it does it.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.stats.clone()
    }
}

impl<T> Layer<T> for CompressionLayer {
    type Service = Compressed<T>;

    fn layer(&self, inner: T) -> Compressed<T> {
        Compressed::new(inner, self.deflate, self.stats.clone())
    }
}
