//! A cache of a service's answers, for repeated requests.
//!
//! # Why
//!
//! Messages on a connection are not requests, and most should not be cached. A request whose answer stays valid for a
//! while is different: a hundred simultaneous requests should cost one.
//!
//! # How it works
//!
//! By default at most 10,000 answers are kept, each for 60 s. **Errors are not cached.** **One flight for each key:**
//! while a request is with the inner service, other requests with its key wait for its answer, and get its error if it
//! fails. If the call that made the request is dropped, the request is dropped with it, and one of the waiting calls
//! makes it again. The next call requests an expired answer again; nothing is refreshed earlier.
//!
//! # Backpressure
//!
//! A [`Cache`] is always ready. A call that is not a hit waits, inside its future, for the inner service to be ready
//! and then for its answer, so a busy service does not hold up hits. To bound how many misses wait, put tower's
//! `ConcurrencyLimit` or `LoadShed` above.
//!
//! # Position in the stack
//!
//! Above the layers that a repeated request should not pay for (a timeout, a `service::Client`), and below the layers
//! that each call must pass (authorization).
//!
//! # Errors
//!
//! Returns the errors of the inner service, as [`Error`]; every call that waited for one flight gets a clone.
//!
//! # Cancel safety
//!
//! Dropping a call withdraws its request, and affects no other call.
//!
//! # On the wire
//!
//! The layer adds nothing.
//!
//! # Cost
//!
//! A hit costs moka's lookup, a clone of the answer and one reading of the clock. A miss allocates its future (moka's
//! cannot be named) and what moka needs for the entry. `cargo bench -p benches --bench overhead` has the rows.
//!
//! # Example
//!
//! Caches answers by name and for ten seconds. Names that begin with a dot are never cached:
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use std::time::Duration;
//!
//! use tower::{Service, ServiceBuilder, ServiceExt, service_fn};
//! use tower_transport::{Error, layer::cache::CacheLayer};
//!
//! let layer = CacheLayer::shared(|name: &String| (!name.starts_with('.')).then(|| name.clone()))
//!     .capacity(1000)
//!     .time_to_live(Duration::from_secs(10));
//! let mut service = ServiceBuilder::new()
//!     .layer(layer)
//!     .service(service_fn(async |name: String| Ok::<_, Error>(name.len())));
//! for _ in 0..3 {
//!     assert_eq!(service.ready().await?.call("Ada".to_owned()).await?, 3);
//! }
//! assert_eq!((service.misses(), service.hits()), (1, 2));
//! # Ok::<(), Error>(()) }).unwrap();
//! ```
//!
//! # Compared with an HTTP cache
//!
//! tower and tower-http have no cache. An HTTP cache uses `Cache-Control`, which a message does not have, so here you
//! provide a key and a time.

use std::{
    fmt,
    future::{poll_fn, ready},
    hash::Hash,
    pin::{Pin, pin},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use moka::{future::Cache as Moka, ops::compute::Op};
use tower_layer::Layer;
use tower_service::Service;

use crate::{BoxError, Error, rt::Instant};

/// A layer that caches the answers of a service. See the [module](self) for the complete documentation.
///
/// By default at most 10,000 answers are kept, each for 60 s.
pub struct CacheLayer<K, V, F> {
    key: F,
    config: Config<K, V>,
    /// The store for all services. `None` means a separate store for each.
    shared: Option<SharedStore<K, V>>,
}

/// Created with the first service.
type SharedStore<K, V> = Arc<OnceLock<Arc<Store<K, V>>>>;

type Weigh<K, V> = Arc<dyn Fn(&K, &V) -> u32 + Send + Sync>;

struct Config<K, V> {
    capacity: u64,
    time_to_live: Duration,
    weigh: Option<Weigh<K, V>>,
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

    fn new(key: F, shared: Option<SharedStore<K, V>>) -> Self {
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
        Cache { inner, key: self.key.clone(), store }
    }
}

impl<K, V, F: Clone> Clone for CacheLayer<K, V, F> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), config: self.config.clone(), shared: self.shared.clone() }
    }
}

debug_fields!([K, V, F] CacheLayer<K, V, F>, |this| {
    capacity: this.config.capacity,
    time_to_live: this.config.time_to_live,
    shared: this.shared.is_some(),
});

/// A service whose answers are cached, created by [`CacheLayer`]. Clones share the store.
pub struct Cache<S, K, V, F> {
    inner: S,
    key: F,
    store: Arc<Store<K, V>>,
}

impl<S, K, V, F> Cache<S, K, V, F> {
    accessors! {
        inner: S, "service",
        get_mut: "Answers to direct calls are not cached.",
        into_inner: ".",
    }
}

impl<S, K, V, F> Cache<S, K, V, F>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Returns how many calls so far were answered from the store, or by the answer to another call.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.store.hits()
    }

    /// Returns how many calls had to call the inner service, and were not dropped in the meantime. Calls that bypass
    /// the cache are not included.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.store.misses()
    }

    /// Returns the approximate number of cached answers: expired ones may be included until moka's housekeeping.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.store.len()
    }
}

impl<S, K, V, F, Req> Service<Req> for Cache<S, K, V, F>
where
    S: Service<Req, Response = V> + Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    Req: Send + 'static,
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
    F: Fn(&Req) -> Option<K>,
{
    type Response = V;
    type Error = Error;
    type Future = ResponseFuture<V>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> ResponseFuture<V> {
        // The inner service is cloned for each miss and not polled here, so that a busy one does not hold up hits.
        let Some(key) = (self.key)(&request) else {
            return ResponseFuture::asked(ask(self.inner.clone(), request));
        };
        match self.store.hit(&key) {
            Some(value) => ResponseFuture::hit(value),
            None => ResponseFuture::asked(self.store.clone().ask(key, self.inner.clone(), request)),
        }
    }
}

impl<S: Clone, K, V, F: Clone> Clone for Cache<S, K, V, F> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), key: self.key.clone(), store: self.store.clone() }
    }
}

debug_fields!([S: fmt::Debug, K, V, F] Cache<S, K, V, F> { inner });

/// Answers by key, until they expire.
struct Store<K, V> {
    answers: Moka<K, Answer<V>>,
    time_to_live: Duration,
    hits: AtomicU64,
    misses: AtomicU64,
}

/// The time is stored next to the answer, because the clock of this crate is not moka's: a paused clock is paused here
/// too. moka's own expiry frees the memory.
#[derive(Clone)]
struct Answer<V> {
    value: V,
    since: Instant,
}

/// moka rejects more than a thousand years.
const LONGEST: Duration = Duration::from_secs(86_400 * 365 * 999);

impl<K, V> Store<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn new(config: &Config<K, V>) -> Self {
        let mut builder = Moka::builder().max_capacity(config.capacity).time_to_live(config.time_to_live.min(LONGEST));
        if let Some(weigh) = config.weigh.clone() {
            builder = builder.weigher(move |key, answer: &Answer<V>| weigh(key, &answer.value));
        }
        Self {
            answers: builder.build(),
            time_to_live: config.time_to_live,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    fn hits(&self) -> u64 {
        self.hits.load(Relaxed)
    }

    fn misses(&self) -> u64 {
        self.misses.load(Relaxed)
    }

    fn len(&self) -> u64 {
        self.answers.entry_count()
    }

    fn is_fresh(&self, answer: &Answer<V>) -> bool {
        answer.since.elapsed() < self.time_to_live
    }

    /// Returns the answer, if it is available without waiting.
    fn hit(&self, key: &K) -> Option<V> {
        // Polled once: a lookup that had to wait is a miss, which is correct and only slower.
        let found = pin!(self.answers.get(key)).poll(&mut Context::from_waker(Waker::noop()));
        match found {
            Poll::Ready(Some(answer)) if self.is_fresh(&answer) => {
                self.hits.fetch_add(1, Relaxed);
                Some(answer.value)
            }
            _ => None,
        }
    }

    /// Returns the answer to the first caller's request; the other callers wait for it.
    async fn ask<S, Req>(self: Arc<Self>, key: K, inner: S, request: Req) -> Result<V, Error>
    where
        K: Clone,
        S: Service<Req, Response = V>,
        S::Error: Into<BoxError>,
    {
        let expire = |entry: Option<moka::Entry<K, Answer<V>>>| match entry {
            Some(entry) if !self.is_fresh(entry.value()) => ready(Op::Remove),
            _ => ready(Op::Nop),
        };
        // Compared under moka's lock of the key: another caller may have replaced the answer meanwhile.
        if self.answers.contains_key(&key) {
            self.answers.entry_by_ref(&key).and_compute_with(expire).await;
        }
        // Only the caller whose future runs sets this; the others get its answer, which counts as a hit.
        let mut asked = false;
        let ask = async {
            asked = true;
            let value = ask(inner, request).await?;
            Ok(Answer { value, since: Instant::now() })
        };
        let answer = self.answers.try_get_with(key, ask).await;
        let counter = if asked { &self.misses } else { &self.hits };
        counter.fetch_add(1, Relaxed);
        answer.map(|answer| answer.value).map_err(|error: Arc<Error>| Error::clone(&error))
    }
}

/// Waits until the service is ready, and calls it.
async fn ask<S, Req>(mut service: S, request: Req) -> Result<S::Response, Error>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
{
    let erase = |error: S::Error| Error::from(error.into());
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(erase)?;
    service.call(request).await.map_err(erase)
}

/// The future of [`Cache`]. A hit is ready at once and allocates nothing; a miss is boxed.
#[must_use = "futures do nothing unless awaited"]
pub struct ResponseFuture<V>(Answering<V>);

enum Answering<V> {
    Hit(Option<V>),
    Asked(Pin<Box<dyn Future<Output = Result<V, Error>> + Send>>),
}

// An answer is moved out, never pinned.
impl<V> Unpin for ResponseFuture<V> {}

impl<V> ResponseFuture<V> {
    const fn hit(value: V) -> Self {
        Self(Answering::Hit(Some(value)))
    }

    fn asked(future: impl Future<Output = Result<V, Error>> + Send + 'static) -> Self {
        Self(Answering::Asked(Box::pin(future)))
    }
}

impl<V> Future for ResponseFuture<V> {
    type Output = Result<V, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            Answering::Hit(value) => match value.take() {
                Some(value) => Poll::Ready(Ok(value)),
                None => Poll::Pending,
            },
            Answering::Asked(future) => future.as_mut().poll(cx),
        }
    }
}

impl<V> fmt::Debug for ResponseFuture<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.0 {
            Answering::Hit(_) => "hit",
            Answering::Asked(_) => "asked",
        };
        f.debug_tuple("ResponseFuture").field(&state).finish()
    }
}
