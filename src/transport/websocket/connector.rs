use std::{
    fmt,
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response, StatusCode};
use tower_service::Service;

use super::{
    WebSocket,
    handshake::{Offer, check_answer},
};
use crate::{
    Error, Limits,
    transport::{
        connecting::{connecting, in_time},
        dial::{Dialer, Target, exchange},
        subprotocol::offered,
    },
};

/// A connector for WebSockets: a `Service` that takes the handshake request and returns the handshake's response with
/// the [`WebSocket`] as its body.
///
/// The request's URI is the destination (`ws://`, `wss://`; `http://` and `https://` mean the same). Its headers are
/// sent to the server. tower-http's layers therefore apply to the handshake unchanged: an `Authorization`, a request
/// id, any header.
///
/// The URL is parsed as in browsers ([URL Standard](https://url.spec.whatwg.org/)), and each part is used or rejected.
/// `user:password@` becomes `Authorization: Basic`, characters not allowed in a path or a query are percent-encoded,
/// and a port over 65535 is an error. `http::Uri` itself accepts host names in ASCII only (Punycode); the strings that
/// [`Target`](crate::layer::reconnect::Target) takes may have internationalized host names.
///
/// ```no_run
/// # async fn connect() -> Result<(), tower_transport::BoxError> {
/// use std::time::Duration;
/// use tower::{ServiceBuilder, ServiceExt, timeout::TimeoutLayer};
/// use tower_transport::{Message, TransportExt, transport::websocket::WebSocketConnector};
///
/// let connector = ServiceBuilder::new()
///     .layer(TimeoutLayer::new(Duration::from_secs(5)))
///     .service(WebSocketConnector::new().subprotocol("chat.v1")?);
/// let request = http::Request::get("ws://localhost:3000/chat").body(())?;
/// let response = connector.oneshot(request).await?;
/// println!("connected: {:?}", response.headers());
/// response.into_body().send_message(Message::text("hello")).await?;
/// # Ok(()) }
/// ```
///
/// # Backpressure
///
/// The service is always ready. A call waits for name resolution, TCP (all addresses race, 250 ms apart, RFC 8305), the
/// proxy, TLS and the handshake, together at most [`Limits::handshake`]. It needs a tokio runtime with I/O and time.
///
/// # Errors
///
/// Returns an error for which one of these is true:
///
/// - [`is_config`](Error::is_config) if the URL cannot work, or if it has a user and the request has an `Authorization`
///   header.
/// - [`is_dns`](Error::is_dns), [`is_refused`](Error::is_refused), [`is_tls`](Error::is_tls) or
///   [`is_timeout`](Error::is_timeout) if connecting fails.
/// - [`is_status`](Error::is_status) or [`is_auth`](Error::is_auth) if the server answers with another status. See
///   [`Error::status`], [`Error::response_headers`] and [`Error::response_body`].
/// - [`is_protocol`](Error::is_protocol) if the response is not a WebSocket handshake.
///
/// # Cancel safety
///
/// Dropping the future drops the connection attempt.
#[derive(Clone, Default)]
pub struct WebSocketConnector {
    limits: Limits,
    subprotocols: Vec<HeaderValue>,
    dialer: Dialer,
}

impl WebSocketConnector {
    /// Creates a connector with the default [`Limits`].
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    connector_setters! {
        limits: "Sets the limits of the handshake and of each connection.",
        choice: "The server's choice is in the response's header of that name and in [`WebSocket::subprotocol`]."
    }

    dialer_setters!("wss");

    /// Returns the proxy or the Unix socket through which it connects.
    #[cfg(feature = "adaptive")]
    pub(crate) fn route(&self) -> Option<String> {
        self.dialer.route()
    }

    async fn connect(self, request: Request<()>) -> Result<Response<WebSocket>, Error> {
        let target = Target::parse(request.uri())?;
        let Offer { request, key } = Offer::new(request, &target, &self.subprotocols)?;
        let offered = offered(request.headers());
        let socket = self.dialer.dial(&target).await?;
        let switches = |answer: &Response<_>| answer.status() == StatusCode::SWITCHING_PROTOCOLS;
        let (mut answer, socket, early) = exchange(socket, request, switches).await?;
        socket.limit_unsent();
        let subprotocol = check_answer(&mut answer, &key, &offered)?;
        let websocket = WebSocket::new(socket, true, self.limits, early).with_subprotocol(subprotocol);
        Ok(answer.map(|()| websocket))
    }
}

impl Service<Request<()>> for WebSocketConnector {
    type Response = Response<WebSocket>;
    type Error = Error;
    type Future = Connecting;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<()>) -> Connecting {
        let time = self.limits.handshake;
        let connect = self.clone().connect(request);
        Connecting(Box::pin(in_time(time, "the connection was not made", connect)))
    }
}

connecting! {
    /// The future of a [`WebSocketConnector`]: one connection attempt.
    Connecting, WebSocket
}

impl fmt::Debug for WebSocketConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketConnector")
            .field("limits", &self.limits)
            .field("subprotocols", &self.subprotocols)
            .field("proxy", &self.dialer.proxy_name())
            .finish_non_exhaustive()
    }
}
