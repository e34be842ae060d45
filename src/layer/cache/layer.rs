use std::hash::Hash;

use tower_layer::Layer;

use super::{Latest, Subscribed};

/// A layer that sends each subscriber the last value of each key, and then everything that is published. See the
/// [module](super) for the complete documentation.
///
/// Each transport that it wraps is a subscriber from then on, until it is dropped.
#[derive(Debug)]
pub struct LatestLayer<K, M> {
    latest: Latest<K, M>,
}

impl<K, M> LatestLayer<K, M> {
    /// Creates a layer whose transports all subscribe to one store.
    #[must_use]
    pub const fn shared(latest: Latest<K, M>) -> Self {
        Self { latest }
    }
}

impl<T, K: Hash + Eq + Clone, M: Clone> Layer<T> for LatestLayer<K, M> {
    type Service = Subscribed<T, K, M>;

    fn layer(&self, inner: T) -> Subscribed<T, K, M> {
        Subscribed::new(inner, self.latest.subscribe())
    }
}

impl<K, M> Clone for LatestLayer<K, M> {
    fn clone(&self) -> Self {
        Self { latest: self.latest.clone() }
    }
}
