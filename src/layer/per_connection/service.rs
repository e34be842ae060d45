use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::ResponseFuture;

/// A connector that wraps its transports in a layer, created by [`PerConnectionLayer`](super::PerConnectionLayer).
#[derive(Clone, Debug)]
pub struct PerConnection<S, L> {
    connector: S,
    layer: L,
}

impl<S, L> PerConnection<S, L> {
    pub(super) const fn new(connector: S, layer: L) -> Self {
        Self { connector, layer }
    }

    /// Returns a reference to the inner connector.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.connector
    }

    /// Returns a mutable reference to the inner connector. Transports that it makes directly do not have the layer.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.connector
    }

    /// Returns the inner connector.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.connector
    }
}

impl<S, L, R, T> Service<R> for PerConnection<S, L>
where
    S: Service<R, Response = http::Response<T>>,
    L: Layer<T> + Clone,
{
    type Response = http::Response<L::Service>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, L>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.connector.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        ResponseFuture::new(self.connector.call(request), self.layer.clone())
    }
}
