use tower_layer::Layer;

use super::{BatchPolicy, Batched, pack::Pack};

/// How many messages one batch of the peer may hold, where [`BatchLayer::max_items`] does not say.
const MAX_ITEMS: usize = 1 << 16;

/// Packs small messages together on the way out, and unpacks those of the peer. See the [module](super) for the whole story.
#[derive(Clone, Debug)]
pub struct BatchLayer {
    policy: Option<BatchPolicy>,
    unpacks: bool,
    max_items: usize,
}

impl BatchLayer {
    /// Packs by this policy, and unpacks. Each transport has a batch of its own.
    #[must_use]
    pub const fn new(policy: BatchPolicy) -> Self {
        Self { policy: Some(policy), unpacks: true, max_items: MAX_ITEMS }
    }

    /// Unpacks, and sends every message by itself, untouched: for a peer that may send batches and does not unpack any.
    #[must_use]
    pub const fn receive_only() -> Self {
        Self { policy: None, unpacks: true, max_items: MAX_ITEMS }
    }

    /// Neither packs nor unpacks: for two ends that have agreed on no batches. What a user sends may look like one.
    #[cfg(feature = "optimized")]
    pub(crate) const fn off() -> Self {
        Self { policy: None, unpacks: false, max_items: MAX_ITEMS }
    }

    /// How many messages one batch of the peer may hold, default 65,536. One with more is an error that
    /// [`is_too_large`](crate::Error::is_too_large), and none of it is given.
    ///
    /// An empty message costs one byte within a batch, so the transport's limit of bytes alone would let a peer have 4 million
    /// of them handled at a time.
    #[must_use]
    pub const fn max_items(mut self, items: usize) -> Self {
        self.max_items = items;
        self
    }
}

impl Default for BatchLayer {
    /// [`BatchPolicy::default`].
    fn default() -> Self {
        Self::new(BatchPolicy::default())
    }
}

impl<T> Layer<T> for BatchLayer {
    type Service = Batched<T>;

    fn layer(&self, inner: T) -> Batched<T> {
        Batched::new(inner, self.policy.map(Pack::new), self.unpacks, self.max_items)
    }
}
