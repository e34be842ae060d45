use std::{
    fmt,
    future::poll_fn,
    task::{Context, Poll},
};

use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use tower_service::Service;

use super::{WebSocket, socket::Socket};
use crate::{
    Error, Limits,
    transport::{page, setters::in_time, subprotocol},
};

/// A connector for the browser's WebSocket: a `Service` that takes the handshake request and returns the handshake's
/// response with the [`WebSocket`] as its body.
///
/// It has the name, the request and the response of the native connector, so the same source works on both targets. The
/// request's URI is the destination (`ws://`, `wss://`; `http://` and `https://` mean the same).
///
/// ```no_run
/// # async fn connect() -> Result<(), tower_transport::BoxError> {
/// use tower::ServiceExt;
/// use tower_transport::{Message, TransportExt, transport::websocket::WebSocketConnector};
///
/// let connector = WebSocketConnector::new().subprotocol("chat.v1")?;
/// let request = http::Request::get("wss://example.com/chat").body(())?;
/// let mut socket = connector.oneshot(request).await?.into_body();
/// socket.send_message(Message::text("hello")).await?;
/// # Ok(()) }
/// ```
///
/// # What a page can say and learn
///
/// - A page sets no header but `Sec-WebSocket-Protocol`. A request with another one is an error, because the header
///   would not arrive. The browser adds cookies and the `Origin`.
/// - The response has the status 101, and the server's choice of a subprotocol. The browser shows no other header.
/// - If subprotocols are offered, the server has to choose one. Otherwise the browser fails the connection.
///
/// # Backpressure
///
/// The service is always ready. A call waits for the browser, at most [`Limits::handshake`].
///
/// # Errors
///
/// Returns an error for which one of these is true:
///
/// - [`is_config`](Error::is_config) if the URL cannot work, has a user or a password, or is not secure although the
///   page is; and if the request has a header that a page cannot send.
/// - [`is_timeout`](Error::is_timeout) if the handshake takes too long.
/// - [`is_io`](Error::is_io) if the connection fails in any other way. The browser tells a page neither the reason nor
///   the status, so that pages cannot scan a network. Its console shows it.
///
/// # Cancel safety
///
/// Dropping the future closes the connection attempt.
#[derive(Clone)]
pub struct WebSocketConnector {
    limits: Limits,
    subprotocols: Vec<HeaderValue>,
    incoming_bytes: usize,
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

    /// Sets how much may arrive and wait to be read, in bytes: the payloads, and 64 bytes for each message. Defaults to
    /// 16 MiB. One message may exceed it.
    ///
    /// A page cannot slow its peer down. The message that exceeds this bound ends the connection, after those before it
    /// have been read, with an error for which [`is_full`](Error::is_full) is true.
    #[must_use]
    pub fn incoming_bytes(mut self, bytes: usize) -> Self {
        self.incoming_bytes = bytes;
        self
    }

    connect_method!(WebSocket);

    async fn open(self, request: Request<()>) -> Result<Response<WebSocket>, Error> {
        let (secure, rest) = page::parts(request.uri())?;
        let url = format!("{}://{rest}", if secure { "wss" } else { "ws" });
        let headers = request.headers();
        if let Some(name) = headers.keys().find(|name| **name != header::SEC_WEBSOCKET_PROTOCOL) {
            return Err(Error::config(format!(
                "a page cannot send the header `{name}` in a WebSocket handshake; send a token as a subprotocol or in \
                 the first message"
            )));
        }
        let offered = subprotocol::names(headers, &self.subprotocols);
        let socket = Socket::connect(&url, &offered, &self.limits, self.incoming_bytes)?;
        if poll_fn(|cx| socket.poll_open(cx)).await.is_err() {
            return Err(failed(request.uri()));
        }
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        // A token that is "chosen" only means that it was accepted.
        let chosen = socket.subprotocol().filter(|chosen| !chosen.starts_with(subprotocol::TOKEN));
        if let Some(value) = chosen.as_deref().and_then(|chosen| HeaderValue::from_str(chosen).ok()) {
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, value);
        }
        Ok(response.map(|()| WebSocket::new(socket, self.limits, chosen)))
    }
}

impl Default for WebSocketConnector {
    fn default() -> Self {
        Self { limits: Limits::new(), subprotocols: Vec::new(), incoming_bytes: 16 << 20 }
    }
}

fn failed(uri: &Uri) -> Error {
    let host = uri.host().unwrap_or_default();
    let may = "refuses the handshake (status, origin, subprotocol)";
    page::failed(&format!("the WebSocket to `{host}` was not opened"), may)
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
        let open = self.clone().open(request);
        Connecting(Box::pin(in_time(time, "the connection was not made", open)))
    }
}

connecting! {
    /// The future of a [`WebSocketConnector`]: one connection attempt.
    Connecting, Response<WebSocket>
}

impl fmt::Debug for WebSocketConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketConnector").field("limits", &self.limits).finish_non_exhaustive()
    }
}
