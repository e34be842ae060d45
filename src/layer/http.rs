//! HTTP middleware, such as tower-http's, on a connector.
//!
//! A connector is a `Service<http::Request<()>>` whose response has a transport as its body. Many layers of tower-http
//! require request and response bodies of HTTP (`http_body::Body`), or a response that they can make themselves
//! (`Default`). [`HttpLayer`] puts such a layer, or a whole `ServiceBuilder` stack of them, over a connector: the layer
//! sees a request and a response with an empty body, and the transport passes by it in the response's extensions.
//!
//! ```no_run
//! # #[cfg(feature = "websocket")]
//! # async fn connect() -> Result<(), tower_transport::BoxError> {
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_http::{follow_redirect::FollowRedirectLayer, trace::TraceLayer};
//! use tower_transport::{ServiceBuilderExt, transport::websocket::WebSocketConnector};
//!
//! let connector = ServiceBuilder::new()
//!     .http_layer(TraceLayer::new_for_http()) // a span for each handshake: latency, status
//!     .http_layer(FollowRedirectLayer::new())
//!     .service(WebSocketConnector::new());
//! let request = http::Request::get("ws://localhost:3000/chat").body(())?;
//! let socket = connector.oneshot(request).await?.into_body();
//! # drop(socket);
//! # Ok(()) }
//! ```
//!
//! # What the layer sees
//!
//! | handshake | the layer sees |
//! |---|---|
//! | succeeds | the response's status (101 for a WebSocket, 200 otherwise), headers and extensions, an empty body |
//! | is rejected with a status | a response with that status: a redirect is followed, a 503 fails a trace |
//! | fails without a status | the [`Error`] |
//!
//! A rejection that comes back through the layer is returned as the error that it was. A response that the layer made
//! itself (a timeout, a caught panic) is returned as an error with that status: see [`Error::status`].
//!
//! # tower-http's layers on a connector
//!
//! Each row is compiled by a test of this crate, with tower-http 0.7. "Directly" means `.layer(..)` on the connector;
//! each of those also works in `.http_layer(..)`.
//!
//! | layer of tower-http | how | on a handshake |
//! |---|---|---|
//! | `AddAuthorizationLayer` | directly | sets `Authorization` |
//! | `AddExtensionLayer` | directly | adds an extension to the request |
//! | `SetRequestHeaderLayer`, `SetMultipleRequestHeadersLayer` | directly | sets headers |
//! | `SetResponseHeaderLayer`, `SetMultipleResponseHeadersLayer` | directly | sets headers of your response |
//! | `SetRequestIdLayer`, `PropagateRequestIdLayer` | directly | a request id |
//! | `PropagateHeaderLayer` | directly | copies a header of the request to the response |
//! | `SetSensitiveHeadersLayer` and its two parts | directly | marks headers that no log shows |
//! | `MapResponseBodyLayer` | directly | maps the transport |
//! | `NormalizePathLayer` | directly | trims slashes of the path |
//! | `SetStatusLayer` | directly | sets the status that you see |
//! | `TraceLayer` | `http_layer` | a span per handshake, with latency and status; messages: `layer::trace` |
//! | `TimeoutLayer` | `http_layer` | an error with its status (408); tower's `TimeoutLayer` fits directly |
//! | `FollowRedirectLayer` | `http_layer` | follows redirects of the handshake, without credentials to another origin |
//! | `CatchPanicLayer` | `http_layer` | an error with the status 500 |
//! | `InFlightRequestsLayer` | `http_layer` | counts handshakes in progress |
//! | `DecompressionLayer` | `http_layer` | compiles, has no effect: there is no body |
//! | `RequestBodyLimitLayer`, `MapRequestBodyLayer` | `http_layer` | compile, have no effect |
//! | `RequestBodyTimeoutLayer`, `ResponseBodyTimeoutLayer` | `http_layer` | compile, have no effect |
//! | `CompressionLayer`, `CorsLayer`, `ServeDir`, others for servers | on the server's service | not for a connector |
//!
//! # Backpressure
//!
//! The layer adds no waiting.
//!
//! # Cancel safety
//!
//! Dropping the future drops the layer's future, and with it the connection attempt.
//!
//! # Cost
//!
//! One allocation per handshake. Messages do not pass through it.

use std::{
    convert::Infallible,
    fmt,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::{Connect, Error, sync::Mutex};

/// The empty body of a handshake's request and response, for [HTTP layers](self).
#[derive(Clone, Copy, Debug, Default)]
pub struct EmptyBody;

impl Body for EmptyBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}

/// A layer that puts a layer of HTTP over a connector. See the [module](self).
#[derive(Clone, Debug)]
pub struct HttpLayer<L> {
    layer: L,
}

impl<L> HttpLayer<L> {
    /// Creates a layer that applies `layer` to each handshake: one layer, or a whole `ServiceBuilder` stack.
    #[must_use]
    pub const fn new(layer: L) -> Self {
        Self { layer }
    }
}

impl<S, L> Layer<S> for HttpLayer<L>
where
    S: Connect,
    L: Layer<AsHttp<S>>,
{
    type Service = FromHttp<L::Service, S::Transport>;

    fn layer(&self, connector: S) -> Self::Service {
        FromHttp { service: self.layer.layer(AsHttp { connector }), transport: PhantomData }
    }
}

/// The transport of a response, which passes by the layers in between.
struct Carried<T>(Arc<Mutex<Option<T>>>);

impl<T> Clone for Carried<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// The error of a rejected handshake, which passes by the layers in between.
#[derive(Clone)]
struct Rejected(Error);

/// A connector as a service of HTTP, which the layers in [`HttpLayer`] wrap.
#[derive(Clone, Debug)]
pub struct AsHttp<S> {
    connector: S,
}

impl<S> AsHttp<S> {
    accessors! {
        connector: S, "connector",
        get_mut: "Connections that it makes directly bypass the layers.",
        into_inner: ".",
    }
}

impl<S, B> Service<Request<B>> for AsHttp<S>
where
    S: Connect,
    S::Transport: Send + 'static,
{
    type Response = Response<EmptyBody>;
    type Error = Error;
    type Future = AsHttpFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.connector.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        AsHttpFuture { connecting: self.connector.call(request.map(drop)) }
    }
}

pin_project! {
    /// The future of [`AsHttp`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless awaited"]
    pub struct AsHttpFuture<F> {
        #[pin]
        connecting: F,
    }
}

impl<F, T, E> Future for AsHttpFuture<F>
where
    F: Future<Output = Result<Response<T>, E>>,
    T: Send + 'static,
    E: Into<Error>,
{
    type Output = Result<Response<EmptyBody>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let error: Error = match ready!(self.project().connecting.poll(cx)) {
            Ok(response) => {
                let (mut parts, transport) = response.into_parts();
                // Behind an `Arc`, because extensions are `Clone`: the first layer above that takes the transport has
                // it.
                parts.extensions.insert(Carried(Arc::new(Mutex::new(Some(transport)))));
                return Poll::Ready(Ok(Response::from_parts(parts, EmptyBody)));
            }
            Err(error) => error.into(),
        };
        // A failure without a status never was a response, so the layers see it as the error that it is.
        let Some(status) = error.status() else { return Poll::Ready(Err(error)) };
        let mut response = Response::new(EmptyBody);
        *response.status_mut() = status;
        if let Some(headers) = error.response_headers() {
            response.headers_mut().clone_from(headers);
        }
        // With the error of the connector, which says more than a status. It comes out again above the layers.
        response.extensions_mut().insert(Rejected(error));
        Poll::Ready(Ok(response))
    }
}

/// A connector under layers of HTTP, created by [`HttpLayer`].
pub struct FromHttp<M, T> {
    service: M,
    transport: PhantomData<fn() -> T>,
}

impl<M, T> FromHttp<M, T> {
    accessors! {
        service: M, "service of HTTP",
        get_mut: "The transports of its responses are in their extensions, out of reach.",
        into_inner: ".",
    }
}

impl<M: Clone, T> Clone for FromHttp<M, T> {
    fn clone(&self) -> Self {
        Self { service: self.service.clone(), transport: PhantomData }
    }
}

debug_fields!([M: fmt::Debug, T] FromHttp<M, T> { service });

impl<M, T, B> Service<Request<()>> for FromHttp<M, T>
where
    M: Service<Request<EmptyBody>, Response = Response<B>>,
    M::Error: Into<Error>,
    T: Send + 'static,
{
    type Response = Response<T>;
    type Error = Error;
    type Future = FromHttpFuture<M::Future, T>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.service.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, request: Request<()>) -> Self::Future {
        FromHttpFuture { answer: self.service.call(request.map(|()| EmptyBody)), transport: PhantomData }
    }
}

pin_project! {
    /// The future of [`FromHttp`].
    #[must_use = "futures do nothing unless awaited"]
    pub struct FromHttpFuture<F, T> {
        #[pin]
        answer: F,
        transport: PhantomData<fn() -> T>,
    }
}

impl<F, T, B, E> Future for FromHttpFuture<F, T>
where
    F: Future<Output = Result<Response<B>, E>>,
    T: Send + 'static,
    E: Into<Error>,
{
    type Output = Result<Response<T>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (mut parts, _) = ready!(self.project().answer.poll(cx)).map_err(Into::into)?.into_parts();
        let carried = parts.extensions.remove::<Carried<T>>();
        let transport = carried.and_then(|Carried(place)| place.lock().take());
        if let Some(transport) = transport {
            return Poll::Ready(Ok(Response::from_parts(parts, transport)));
        }
        if let Some(Rejected(error)) = parts.extensions.remove() {
            return Poll::Ready(Err(error));
        }
        // Neither a transport nor an error: a layer in between made this response.
        Poll::Ready(Err(Error::from_refusal(parts.status, Bytes::new())
            .with_response_headers(parts.headers)
            .context("a layer of HTTP answered in place of the server")))
    }
}

debug_fields!([F, T] FromHttpFuture<F, T> {});
