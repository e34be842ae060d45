use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{PerMessage, RateLimitCounts, RateLimitLayer, excess::WhenExceeded, gate::Gate};
use crate::{Error, macros::accessors};

/// A rate limit for services, created by [`RateLimitLayer::for_service`]. A call costs one cell.
///
/// With the policy that makes a transport wait, `poll_ready` waits. With those that reject or close, the call fails
/// with an error for which [`is_rate_limited`](Error::is_rate_limited) is true. See the [module](super#services).
#[derive(Clone, Debug)]
pub struct RateLimitServiceLayer {
    pub(super) layer: RateLimitLayer,
}

impl<C, A> RateLimitLayer<C, A> {
    /// Returns the same limit for a service.
    #[must_use]
    pub fn for_service(self) -> RateLimitServiceLayer {
        RateLimitServiceLayer { layer: self.with(PerMessage).ending() }
    }
}

impl RateLimitServiceLayer {
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
        RateLimitService { inner, waits, gate: self.layer.call_gate() }
    }
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
    accessors! {
        inner: S, "service",
        get_mut: "A direct call is not counted.",
        into_inner: ".",
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
        // The inner service first: a cell that is taken for a service that is not ready is missing elsewhere.
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
        // A prepaid cell stays with this service, as readiness does.
        Self { inner: self.inner.clone(), waits: self.waits, gate: self.gate.fresh() }
    }
}

impl<S: fmt::Debug> fmt::Debug for RateLimitService<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitService").field("inner", &self.inner).field("gate", &self.gate).finish_non_exhaustive()
    }
}

pin_project! {
    /// The future of [`RateLimitService`], and of [`HttpRateLimit`](super::HttpRateLimit): that of the inner service,
    /// or a refusal.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless awaited"]
    pub struct ResponseFuture<F, R = Error> {
        #[pin]
        inner: Option<F>,
        refusal: Option<R>,
    }
}

impl<F, R> ResponseFuture<F, R> {
    pub(super) const fn inner(future: F) -> Self {
        Self { inner: Some(future), refusal: None }
    }

    pub(super) const fn refused(refusal: R) -> Self {
        Self { inner: None, refusal: Some(refusal) }
    }

    pub(super) fn poll_or<O>(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut F>, &mut Context<'_>) -> Poll<O>,
        refuse: impl FnOnce(R) -> O,
    ) -> Poll<O> {
        let this = self.project();
        match (this.inner.as_pin_mut(), this.refusal.take()) {
            (Some(inner), _) => poll(inner, cx),
            (None, Some(refusal)) => Poll::Ready(refuse(refusal)),
            // Polled after it was ready.
            (None, None) => Poll::Pending,
        }
    }
}

impl<F, T, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<Error>,
{
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_or(cx, |inner, cx| inner.poll(cx).map_err(Into::into), Err)
    }
}
