use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response, StatusCode, header::RETRY_AFTER};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    RateLimitCounts, RateLimitLayer,
    gate::Gate,
    service::{RateLimitServiceLayer, ResponseFuture},
};
use crate::{Error, macros::accessors};

/// A rate limit for HTTP services, created by
/// [`RateLimitServiceLayer::for_http`].
///
/// Over the limit, the response is 429 ([RFC 6585, section 4](https://www.rfc-editor.org/rfc/rfc6585#section-4)) with
/// an empty body and `Retry-After` in whole seconds, rounded up ([RFC 9110, section
/// 10.2.3](https://www.rfc-editor.org/rfc/rfc9110#section-10.2.3)). It is not an error, so a router that requires
/// infallible services accepts it.
#[derive(Clone, Debug)]
pub struct HttpRateLimitLayer {
    layer: RateLimitLayer,
}

impl RateLimitServiceLayer {
    /// Returns the limit for HTTP services: over the limit they answer 429 with `Retry-After`, and never wait.
    #[must_use]
    pub fn for_http(self) -> HttpRateLimitLayer {
        HttpRateLimitLayer { layer: self.layer }
    }
}

impl HttpRateLimitLayer {
    /// Returns the counts of passed and refused calls, over all services of this layer.
    #[must_use]
    pub fn counts(&self) -> RateLimitCounts {
        self.layer.counts()
    }
}

impl<S> Layer<S> for HttpRateLimitLayer {
    type Service = HttpRateLimit<S>;

    fn layer(&self, inner: S) -> HttpRateLimit<S> {
        HttpRateLimit { inner, gate: self.layer.call_gate() }
    }
}

/// An HTTP service that answers 429 when it is called more often than a quota allows, created by
/// [`HttpRateLimitLayer`].
///
/// Clones share the limit.
pub struct HttpRateLimit<S> {
    inner: S,
    gate: Gate,
}

impl<S> HttpRateLimit<S> {
    accessors! {
        inner: S, "service",
        get_mut: "A direct call is not counted.",
        into_inner: ".",
    }
}

impl<S, A, B> Service<Request<A>> for HttpRateLimit<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    B: Default,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, Response<B>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<A>) -> Self::Future {
        if let Err(excess) = self.gate.try_take(1) {
            let error = self.gate.refuse(&excess, 1);
            return ResponseFuture::refused(too_many_requests(&error));
        }
        // The counts of a service are exact.
        self.gate.tally.settle();
        ResponseFuture::inner(self.inner.call(request))
    }
}

/// Returns the HTTP response for a call that a rate limit refused: 429, with the error's waiting time as `Retry-After`
/// in whole seconds, rounded up. For handlers that [check](super::KeyedRateLimiter::check) their own key.
#[must_use]
pub fn too_many_requests<B: Default>(error: &Error) -> Response<B> {
    let mut response = Response::new(B::default());
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    if let Some(time) = error.retry_after() {
        let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

impl<S: Clone> Clone for HttpRateLimit<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), gate: self.gate.fresh() }
    }
}

impl<S: fmt::Debug> fmt::Debug for HttpRateLimit<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRateLimit").field("inner", &self.inner).field("gate", &self.gate).finish()
    }
}

impl<F, B, E> Future for ResponseFuture<F, Response<B>>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.poll_or(cx, F::poll, Ok)
    }
}
