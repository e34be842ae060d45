use tower_layer::Layer;

use super::{BatchPolicy, Batched, pack::Pack};

/// The default number of messages that one batch of the peer may contain; see [`BatchLayer::max_items`].
const MAX_ITEMS: usize = 1 << 16;

/// Packs small outgoing messages together, and unpacks those of the peer. See the [module](super) for the complete
/// documentation.
#[derive(Clone, Debug)]
pub struct BatchLayer {
    policy: Option<BatchPolicy>,
    max_items: usize,
}

impl BatchLayer {
    /// Creates a layer that packs by this policy and unpacks. Each transport has its own batch.
    #[must_use]
    pub const fn new(policy: BatchPolicy) -> Self {
        Self { policy: Some(policy), max_items: MAX_ITEMS }
    }

    /// Creates a layer that unpacks, and sends every message separately and unchanged: for a peer that may send batches
    /// and does not unpack any.
    #[must_use]
    pub const fn receive_only() -> Self {
        Self { policy: None, max_items: MAX_ITEMS }
    }

    /// Sets how many messages one batch of the peer may contain. Defaults to 65,536. A batch with more is an error for
    /// which [`is_too_large`](crate::Error::is_too_large) is true, and none of its messages is delivered.
    ///
    /// An empty message costs one byte within a batch. The transport's byte limit alone would let a peer have 4 million
    /// of them handled at a time.
    #[must_use]
    pub const fn max_items(mut self, items: usize) -> Self {
        self.max_items = items;
        self
    }
}

impl Default for BatchLayer {
    /// Returns [`BatchPolicy::default`].
    fn default() -> Self {
        Self::new(BatchPolicy::default())
    }
}

impl<T> Layer<T> for BatchLayer {
    type Service = Batched<T>;

    fn layer(&self, inner: T) -> Batched<T> {
        Batched::new(inner, self.policy.map(Pack::new), self.max_items)
    }
}
