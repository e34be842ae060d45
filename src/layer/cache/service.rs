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

/// A service whose answers are cached, created by [`CacheLayer`](super::CacheLayer). Clones share the store.
pub struct Cache<S, K, V, F> {
    inner: S,
    key: F,
    store: Arc<Store<K, V>>,
}

impl<S, K, V, F> Cache<S, K, V, F> {
    pub(super) const fn new(inner: S, key: F, store: Arc<Store<K, V>>) -> Self {
        Self { inner, key, store }
    }

    /// Returns a reference to the inner service.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service. Answers to direct calls are not cached.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// Returns the inner service.
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
