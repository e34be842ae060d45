use std::{
    fmt,
    task::{Context, Poll, ready},
};

use tower_layer::Layer;
use tower_service::Service;

use super::{
    HttpRateLimitLayer, PerMessage, RateLimitCounts, RateLimitLayer, ResponseFuture, Stays, bucket::Bucket,
    excess::WhenExceeded, gate::Gate,
};
use crate::Error;

/// A rate limit for services, created by [`RateLimitLayer::for_service`]. A call costs one cell.
///
/// With the policy that makes a transport wait, `poll_ready` waits. With those that reject or close, the call fails
/// with an error for which [`is_rate_limited`](Error::is_rate_limited) is true. See the [module](super#services).
#[derive(Clone, Debug)]
pub struct RateLimitServiceLayer {
    layer: RateLimitLayer<PerMessage, Stays>,
}

impl RateLimitServiceLayer {
    pub(super) const fn new(layer: RateLimitLayer) -> Self {
        Self { layer }
    }

    /// Returns the limit for HTTP services: over the limit they answer 429 with `Retry-After`, and never wait.
    #[must_use]
    pub fn for_http(self) -> HttpRateLimitLayer {
        HttpRateLimitLayer::new(self.layer)
    }

    /// Returns the counts of passed, waiting and refused calls, over all services of this layer.
    #[must_use]
    pub fn counts(&self) -> RateLimitCounts {
        self.layer.counts()
    }
}

impl<S> Layer<S> for RateLimitServiceLayer {
    type Service = RateLimitService<S>;

    fn layer(&self, inner: S) -> RateLimitService<S> {
        let waits = self.layer.when == WhenExceeded::Wait;
        RateLimitService { inner, waits, gate: gate(&self.layer) }
    }
}

pub(super) fn gate(layer: &RateLimitLayer) -> Gate {
    let bucket = Bucket::new(layer.limiter.clone(), layer.pair().inbound);
    Gate::new(bucket, layer.counts(), "a call")
}

/// A service that is called no more often than a quota allows, created by [`RateLimitServiceLayer`].
///
/// Clones share the limit. A cell that `poll_ready` has taken for a call that is never made is lost.
pub struct RateLimitService<S> {
    inner: S,
    waits: bool,
    gate: Gate,
}

impl<S> RateLimitService<S> {
    /// Returns a reference to the inner service.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// Returns a mutable reference to the inner service. A direct call is not counted.
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

impl<S, R> Service<R> for RateLimitService<S>
where
    S: Service<R>,
    S::Error: Into<Error>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.inner.poll_ready(cx)).map_err(Into::into)?;
        if self.waits {
            ready!(self.gate.poll_prepay(cx));
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: R) -> ResponseFuture<S::Future> {
        let excess = if self.waits { self.gate.spend(1) } else { self.gate.try_take(1) };
        if let Err(excess) = excess {
            return ResponseFuture::refused(self.gate.refuse(&excess, 1));
        }
        // The counts of a service are exact.
        self.gate.tally.settle();
        ResponseFuture::inner(self.inner.call(request))
    }
}

impl<S: Clone> Clone for RateLimitService<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), waits: self.waits, gate: self.gate.fresh() }
    }
}

impl<S: fmt::Debug> fmt::Debug for RateLimitService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitService").field("inner", &self.inner).field("gate", &self.gate).finish_non_exhaustive()
    }
}
