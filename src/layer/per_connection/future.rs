use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;

pin_project! {
    /// The future of [`PerConnection`](super::PerConnection).
    #[derive(Debug)]
    #[must_use = "futures do nothing unless awaited"]
    pub struct ResponseFuture<F, L> {
        #[pin]
        connect: F,
        layer: L,
    }
}

impl<F, L> ResponseFuture<F, L> {
    pub(super) const fn new(connect: F, layer: L) -> Self {
        Self { connect, layer }
    }
}

impl<F, L, T, E> Future for ResponseFuture<F, L>
where
    F: Future<Output = Result<http::Response<T>, E>>,
    L: Layer<T>,
{
    type Output = Result<http::Response<L::Service>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.connect.poll(cx))?;
        Poll::Ready(Ok(response.map(|transport| this.layer.layer(transport))))
    }
}
