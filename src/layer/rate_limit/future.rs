use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use http::Response;
use pin_project_lite::pin_project;

use crate::Error;

pin_project! {
    /// The future of [`RateLimitService`](super::RateLimitService).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless awaited"]
    pub struct ResponseFuture<F> {
        #[pin]
        inner: Option<F>,
        refusal: Option<Error>,
    }
}

impl<F> ResponseFuture<F> {
    pub(super) const fn inner(future: F) -> Self {
        Self { inner: Some(future), refusal: None }
    }

    pub(super) const fn refused(error: Error) -> Self {
        Self { inner: None, refusal: Some(error) }
    }
}

impl<F, T, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<T, E>>,
    E: Into<Error>,
{
    type Output = Result<T, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match (this.inner.as_pin_mut(), this.refusal.take()) {
            (Some(inner), _) => inner.poll(cx).map_err(Into::into),
            (None, Some(error)) => Poll::Ready(Err(error)),
            // Polled after it was ready.
            (None, None) => Poll::Pending,
        }
    }
}

pin_project! {
    /// The future of [`HttpRateLimit`](super::HttpRateLimit).
    #[must_use = "futures do nothing unless awaited"]
    pub struct HttpResponseFuture<F, B> {
        #[pin]
        inner: Option<F>,
        refusal: Option<Response<B>>,
    }
}

impl<F, B> HttpResponseFuture<F, B> {
    pub(super) const fn inner(future: F) -> Self {
        Self { inner: Some(future), refusal: None }
    }

    pub(super) const fn refused(response: Response<B>) -> Self {
        Self { inner: None, refusal: Some(response) }
    }
}

impl<F, B, E> Future for HttpResponseFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match (this.inner.as_pin_mut(), this.refusal.take()) {
            (Some(inner), _) => inner.poll(cx),
            (None, Some(response)) => Poll::Ready(Ok(response)),
            // Polled after it was ready.
            (None, None) => Poll::Pending,
        }
    }
}

impl<F, B> fmt::Debug for HttpResponseFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpResponseFuture").field("refused", &self.refusal.is_some()).finish_non_exhaustive()
    }
}
