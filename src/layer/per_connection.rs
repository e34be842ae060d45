//! Transport layers for each connection that a connector makes.
//!
//! A connector is a service: it takes a request, and returns a response with a transport as its body. Layers such as
//! tower's timeout wrap the connector. A layer for messages (a codec, compression, a heartbeat) must wrap each
//! *transport* instead. This layer applies it to the transport in the response.
//!
//! # Backpressure
//!
//! The layer adds no waiting.
//!
//! # Position in the stack
//!
//! The layer goes anywhere above the connector. Below [`reconnect`-like layers](crate::Connect), each new connection
//! gets its layers again, with fresh state. Several `per_connection` layers nest as any layers do: the first is
//! outermost.
//!
//! # Errors
//!
//! Returns the errors of the connector unchanged.
//!
//! # Cancel safety
//!
//! Dropping the future of a call drops the connector's future; nothing else is held.
//!
//! # Example
//!
//! ```
//! # #[cfg(feature = "rkyv")]
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use std::time::Duration;
//! use tower::{ServiceBuilder, ServiceExt, service_fn, timeout::TimeoutLayer};
//! use tower_transport::{
//!     Error, Message, ServiceBuilderExt, TransportExt, channel,
//!     codec::RkyvCodec,
//!     layer::codec::CodecLayer,
//! };
//!
//! let (near, mut far) = channel::<Message, Message>(8);
//! let mut near = Some(near);
//! let connector = service_fn(move |_: http::Request<()>| {
//!     let transport = near.take().ok_or_else(|| Error::refused("one connection only"));
//!     async { transport.map(http::Response::new) }
//! });
//!
//! let connector = ServiceBuilder::new()
//!     .per_connection(CodecLayer::new(RkyvCodec::<String>::new()))
//!     .layer(TimeoutLayer::new(Duration::from_secs(5))) // on the connect
//!     .service(connector);
//!
//! let mut transport = connector.oneshot(http::Request::new(())).await?.into_body();
//! transport.send_message("typed".to_owned()).await?;
//! assert!(matches!(far.receive_message().await, Some(Ok(Message::Binary(_)))));
//! # Ok::<(), tower_transport::BoxError>(()) }).unwrap();
//! ```
//!
//! # Compared with tower's `map_response`
//!
//! `map_response` takes a function of the whole response. This layer takes any [`Layer`], including
//! a whole `ServiceBuilder` stack. It keeps status, headers and extensions, and its type can be named.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

/// A layer that applies a transport layer to each connection that a connector makes. See the [module](super) for the
/// complete documentation.
#[derive(Clone, Debug)]
pub struct PerConnectionLayer<L> {
    layer: L,
}

impl<L> PerConnectionLayer<L> {
    /// Creates a layer that applies `layer` to each transport: one layer, or a whole `ServiceBuilder` stack.
    #[must_use]
    pub const fn new(layer: L) -> Self {
        Self { layer }
    }
}

impl<S, L: Clone> Layer<S> for PerConnectionLayer<L> {
    type Service = PerConnection<S, L>;

    fn layer(&self, connector: S) -> PerConnection<S, L> {
        PerConnection { connector, layer: self.layer.clone() }
    }
}

/// A connector that wraps its transports in a layer, created by [`PerConnectionLayer`].
#[derive(Clone, Debug)]
pub struct PerConnection<S, L> {
    connector: S,
    layer: L,
}

impl<S, L> PerConnection<S, L> {
    accessors! {
        connector: S, "connector",
        get_mut: "Transports that it makes directly do not have the layer.",
        into_inner: ".",
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
        ResponseFuture { connect: self.connector.call(request), layer: self.layer.clone() }
    }
}

pin_project! {
    /// The future of [`PerConnection`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless awaited"]
    pub struct ResponseFuture<F, L> {
        #[pin]
        connect: F,
        layer: L,
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
