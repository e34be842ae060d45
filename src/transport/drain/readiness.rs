use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::Drain;

/// An HTTP service for readiness probes, created by [`Drain::readiness`]: 200 with the body `ready`, and 503 with the
/// body `draining` once the drain has started.
#[derive(Clone, Debug)]
pub struct Readiness(Drain);

/// The body of a [`Readiness`] answer.
#[derive(Debug, Default)]
pub struct ReadinessBody(&'static str);

impl Body for ReadinessBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let text = std::mem::take(&mut self.0);
        Poll::Ready((!text.is_empty()).then(|| Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.len() as u64)
    }
}

impl Drain {
    /// Returns an HTTP service for the readiness probe of a load balancer: 200, or 503 once the drain has started.
    ///
    /// ```
    /// # use tower_transport::transport::Drain;
    /// let drain = Drain::new();
    /// let app: axum::Router = axum::Router::new().route_service("/ready", drain.readiness());
    /// # drop(app);
    /// ```
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        Readiness(self.clone())
    }

    /// Returns a layer for any HTTP service: once the drain has started, requests are rejected with 503 and
    /// `Retry-After`. Use it for routes that begin something long without a `drain` setting of their own, such as an
    /// `EventStream`. The entry points of this crate do the same for their own requests.
    ///
    /// The rejection has the default body of the service's responses.
    #[must_use]
    pub fn layer(&self) -> DrainLayer {
        DrainLayer(self.clone())
    }
}

impl<B> Service<Request<B>> for Readiness {
    type Response = Response<ReadinessBody>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        let (status, text) = match self.0.is_started() {
            false => (StatusCode::OK, "ready"),
            true => (StatusCode::SERVICE_UNAVAILABLE, "draining"),
        };
        let mut response = Response::new(ReadinessBody(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        ready(Ok(response))
    }
}

/// The layer of [`Drain::layer`].
#[derive(Clone, Debug)]
pub struct DrainLayer(Drain);

impl<S> Layer<S> for DrainLayer {
    type Service = RefusingWhileDraining<S>;

    fn layer(&self, inner: S) -> RefusingWhileDraining<S> {
        RefusingWhileDraining { inner, drain: self.0.clone() }
    }
}

/// An HTTP service that rejects requests once a drain has started, created by [`Drain::layer`].
#[derive(Clone)]
pub struct RefusingWhileDraining<S> {
    inner: S,
    drain: Drain,
}

impl<S, B, R> Service<Request<B>> for RefusingWhileDraining<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Default,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = AnswerOrRefusal<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        if !self.drain.is_started() {
            return AnswerOrRefusal { answer: Some(self.inner.call(request)) };
        }
        let (parts, _) = request.into_parts();
        self.drain.refuse().logged("http", &parts);
        AnswerOrRefusal { answer: None }
    }
}

pin_project! {
    /// The future of a [`RefusingWhileDraining`] service.
    #[must_use = "futures do nothing unless awaited"]
    pub struct AnswerOrRefusal<F> {
        #[pin]
        answer: Option<F>,
    }
}

impl<F, R, E> Future for AnswerOrRefusal<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Default,
{
    type Output = Result<Response<R>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(answer) = self.project().answer.as_pin_mut() {
            return answer.poll(cx);
        }
        let mut response = Response::new(R::default());
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        Poll::Ready(Ok(response))
    }
}

debug_fields!([S] RefusingWhileDraining<S> { drain });
debug_fields!([F] AnswerOrRefusal<F> {});
