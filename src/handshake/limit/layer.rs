use std::{fmt, hash::Hash, sync::Arc};

use http::request::Parts;
use tower_layer::Layer;

use super::{ConnectionLimit, counts::Counts};

/// A layer for services of HTTP requests that limits concurrent connections. See the [module](super) for the complete
/// documentation.
///
/// All services created by one layer or its clones share its counts.
#[derive(Clone)]
pub struct ConnectionLimitLayer<K = (), F = NoKey> {
    pub(super) counts: Arc<Counts<K>>,
    pub(super) total: usize,
    pub(super) per_key: usize,
    pub(super) key: F,
}

/// The key type of a [`ConnectionLimitLayer`] without keys.
pub type NoKey = fn(&Parts) -> Option<()>;

impl ConnectionLimitLayer {
    /// Creates a layer that admits at most `total` connections.
    #[must_use]
    pub fn new(total: usize) -> Self {
        Self { counts: Arc::new(Counts::new()), total, per_key: usize::MAX, key: |_| None }
    }

    /// Also limits each key to `most` connections. `key` returns the key of a request, usually from its extensions.
    /// Requests without a key count only towards the total.
    #[must_use]
    pub fn per_key<K, F>(self, most: usize, key: F) -> ConnectionLimitLayer<K, F>
    where
        K: Hash + Eq + Clone,
        F: Fn(&Parts) -> Option<K>,
    {
        ConnectionLimitLayer { counts: Arc::new(Counts::new()), total: self.total, per_key: most, key }
    }
}

impl<K: Hash + Eq + Clone, F> ConnectionLimitLayer<K, F> {
    /// Returns the number of connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.counts.total()
    }
}

impl<S, K: Clone, F: Clone> Layer<S> for ConnectionLimitLayer<K, F> {
    type Service = ConnectionLimit<S, K, F>;

    fn layer(&self, service: S) -> ConnectionLimit<S, K, F> {
        ConnectionLimit::new(service, self.clone())
    }
}

impl<K, F> fmt::Debug for ConnectionLimitLayer<K, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionLimitLayer")
            .field("total", &self.total)
            .field("per_key", &self.per_key)
            .finish_non_exhaustive()
    }
}
