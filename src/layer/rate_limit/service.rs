use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderValue, Request, Response, StatusCode, header::RETRY_AFTER};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::{PerMessage, RateLimitCounts, RateLimitLayer, gate::Gate, transport::WhenExceeded};
use crate::Error;

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

debug_fields!([S: fmt::Debug] RateLimitService<S> { inner, gate });

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
