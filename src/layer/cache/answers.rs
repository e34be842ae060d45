use std::{
    fmt,
    hash::Hash,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tower_layer::Layer;

use super::{Cache, store::Store};

/// A layer that caches the answers of a service. See the [module](super) for the complete documentation.
///
/// By default at most 10,000 answers are kept, each for 60 s.
pub struct CacheLayer<K, V, F> {
    key: F,
    config: Config<K, V>,
    /// The store for all services. `None` means a separate store for each.
    shared: Option<Shared<K, V>>,
}

/// Created with the first service.
type Shared<K, V> = Arc<OnceLock<Arc<Store<K, V>>>>;

type Weigh<K, V> = Arc<dyn Fn(&K, &V) -> u32 + Send + Sync>;

pub(super) struct Config<K, V> {
    pub(super) capacity: u64,
    pub(super) time_to_live: Duration,
    pub(super) weigh: Option<Weigh<K, V>>,
}

impl<K, V> Clone for Config<K, V> {
    fn clone(&self) -> Self {
        Self { weigh: self.weigh.clone(), ..*self }
    }
}

impl<K, V, F> CacheLayer<K, V, F> {
    /// Creates a layer with one store for all services of this layer and its clones. `key` identifies requests that
    /// have the same answer; a request for which it returns `None` bypasses the cache.
    ///
    /// **Requests with the same key share an answer**: if answers depend on the caller, put the caller into the key.
    #[must_use]
    pub fn shared<Req>(key: F) -> Self
    where
        F: Fn(&Req) -> Option<K>,
    {
        Self::new(key, Some(Arc::default()))
    }

    /// Gives each service its own store. If a service belongs to one connection, its answers do too.
    #[must_use]
    pub fn per_service<Req>(key: F) -> Self
    where
        F: Fn(&Req) -> Option<K>,
    {
        Self::new(key, None)
    }

    fn new(key: F, shared: Option<Shared<K, V>>) -> Self {
        let config = Config { capacity: 10_000, time_to_live: Duration::from_secs(60), weigh: None };
        Self { key, config, shared }
    }

    /// Sets how many answers are kept, or their total weight. Defaults to 10,000; 0 keeps none. At the limit, the least
    /// used answers are evicted ([TinyLFU](https://docs.rs/moka)). Existing services keep the store that they have.
    #[must_use]
    pub fn capacity(self, capacity: u64) -> Self {
        self.change(|config| config.capacity = capacity)
    }

    /// Sets how long an answer is kept after it arrived. Defaults to 60 s.
    #[must_use]
    pub fn time_to_live(self, time: Duration) -> Self {
        self.change(|config| config.time_to_live = time)
    }

    /// Sets the weight of an answer, such as its bytes; [`capacity`](Self::capacity) then limits the sum. By default
    /// each answer weighs 1.
    #[must_use]
    pub fn weigh(self, weigh: impl Fn(&K, &V) -> u32 + Send + Sync + 'static) -> Self {
        self.change(|config| config.weigh = Some(Arc::new(weigh)))
    }

    fn change(mut self, change: impl FnOnce(&mut Config<K, V>)) -> Self {
        change(&mut self.config);
        self.shared = self.shared.map(|_| Arc::default());
        self
    }
}

impl<S, K, V, F> Layer<S> for CacheLayer<K, V, F>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    F: Clone,
{
    type Service = Cache<S, K, V, F>;

    fn layer(&self, inner: S) -> Cache<S, K, V, F> {
        let make = || Arc::new(Store::new(&self.config));
        let store = match &self.shared {
            Some(shared) => shared.get_or_init(make).clone(),
            None => make(),
        };
        Cache::new(inner, self.key.clone(), store)
    }
}

impl<K, V, F: Clone> Clone for CacheLayer<K, V, F> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), config: self.config.clone(), shared: self.shared.clone() }
    }
}

impl<K, V, F> fmt::Debug for CacheLayer<K, V, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CacheLayer")
            .field("capacity", &self.config.capacity)
            .field("time_to_live", &self.config.time_to_live)
            .field("shared", &self.shared.is_some())
            .finish_non_exhaustive()
    }
}
