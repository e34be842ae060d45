use std::{
    fmt,
    hash::Hash,
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{
    ResponseFuture,
    store::{Store, ask},
};
use crate::{BoxError, Error};

/// A service whose answers are kept for a while: what [`CacheLayer`](super::CacheLayer) makes. A clone has the same store.
pub struct Cache<S, K, V, F> {
    inner: S,
    key: F,
    store: Arc<Store<K, V>>,
}

impl<S, K, V, F> Cache<S, K, V, F> {
    pub(super) const fn new(inner: S, key: F, store: Arc<Store<K, V>>) -> Self {
        Self { inner, key, store }
    }

    /// The inner service.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The inner service. What is asked there is not kept.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The inner service.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, K, V, F> Cache<S, K, V, F>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// How many calls were answered from the store, or by the answer to another call, since it was made.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.store.hits()
    }

    /// How many calls had to ask the inner service, and were not dropped meanwhile. Those that pass by are not among them.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.store.misses()
    }

    /// How many answers are kept, about: expired ones may be among them until moka's housekeeping.
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

impl<S: fmt::Debug, K, V, F> fmt::Debug for Cache<S, K, V, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("inner", &self.inner).finish_non_exhaustive()
    }
}
