use std::{fmt, future::Future};

use axum_core::{
    body::Body,
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use http::{HeaderName, StatusCode, header, request};

use super::{
    WebSocket,
    upgrade::{AcceptConfig, Draining, UpgradeRequest, refuse},
};
use crate::{
    log,
    transport::{drain::Drain, refusal::Refusal},
};

/// axum's extractor for a WebSocket handshake. Take it as an argument of a handler, and respond with
/// [`on_upgrade`](Self::on_upgrade).
///
/// It corresponds to the service [`WebSocketService`](super::WebSocketService), for use next to axum's other
/// extractors. Limits, subprotocols, origins and [HTTP/2](super::WebSocketService#http2) work the same way; over HTTP/2
/// the request's method is CONNECT, so route it with `any` and not with `get`. A request that is not a handshake is
/// [rejected](WebSocketHandshakeRejection) before the handler runs. A handler that serves such requests as well takes a
/// `Result<WebSocketHandshake, _>`.
///
/// ```
/// use axum::{Router, extract::Path, response::Response, routing::any};
/// use tower_transport::{Message, TransportExt, transport::websocket::WebSocketHandshake};
///
/// async fn greet(Path(name): Path<String>, handshake: WebSocketHandshake) -> Response {
///     handshake.on_upgrade(|mut socket| async move {
///         let _ = socket.send_message(Message::text(format!("hello, {name}"))).await;
///     })
/// }
///
/// let app: Router = Router::new().route("/greet/{name}", any(greet));
/// ```
pub struct WebSocketHandshake {
    accept: AcceptConfig,
    asked: UpgradeRequest,
    /// The request parts that the origin check, the subprotocols and the log use.
    parts: request::Parts,
}

/// The rejection of [`WebSocketHandshake`]: the request is not a WebSocket handshake.
///
/// | status | for |
/// |---|---|
/// | 405 | a method other than GET; over HTTP/2, other than CONNECT |
/// | 426 | a request without an upgrade to `websocket`, or for a version other than 13 |
/// | 400 | HTTP/1.0, a body, a header that is missing, doubled or malformed; over HTTP/2, the requests of the line above |
/// | 501 | over HTTP/2, a `:protocol` other than `websocket`, or a server without the feature `http2` |
/// | 500 | a server that does not upgrade connections |
#[derive(Debug)]
pub struct WebSocketHandshakeRejection(Refusal);

impl WebSocketHandshakeRejection {
    /// Returns the status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }
}

impl IntoResponse for WebSocketHandshakeRejection {
    fn into_response(self) -> Response {
        refuse(self.0).map(Body::new)
    }
}

impl fmt::Display for WebSocketHandshakeRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.reason)
    }
}

impl std::error::Error for WebSocketHandshakeRejection {}

impl WebSocketHandshake {
    fn config(&mut self) -> &mut AcceptConfig {
        &mut self.accept
    }

    server_setters! {
        each: "connection",
        choice: "The handler finds it in [`WebSocket::subprotocol`].",
        origin: "",
        any_origin: "Any page that a user visits can then use the user's cookies here: for endpoints that ignore them."
    }

    https_setter!();

    deflate_setter!();

    /// Adds the connection to `drain`, which then can end it: see [`Drain`]. Keep the handle in the app's state.
    #[must_use]
    pub fn drain(mut self, drain: &Drain) -> Self {
        self.accept.drain = Some(Draining::Whole(drain.clone()));
        self
    }

    /// Answers the handshake, and runs `handler` in its own task once the connection is upgraded. A page of an origin
    /// that is not allowed is rejected (403), and so is every page once the server drains (503).
    #[must_use = "the handshake is made by returning the response"]
    pub fn on_upgrade<F>(self, handler: impl FnOnce(WebSocket) -> F + Send + 'static) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Self { accept, asked, parts } = self;
        match accept.accept(asked, &parts) {
            Ok(accepted) => accepted.spawn(handler),
            Err(refusal) => refuse(refusal.logged("websocket", &parts)),
        }
        .map(Body::new)
    }
}

/// The headers that are read after the request has been recognized as a handshake.
const HEADERS: [HeaderName; 5] = [
    header::HOST,
    header::ORIGIN,
    header::SEC_WEBSOCKET_PROTOCOL,
    header::SEC_WEBSOCKET_EXTENSIONS,
    HeaderName::from_static("sec-fetch-site"),
];

impl<S: Send + Sync> FromRequestParts<S> for WebSocketHandshake {
    type Rejection = WebSocketHandshakeRejection;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        let asked = match UpgradeRequest::of(parts) {
            Ok(asked) => asked,
            Err(refusal) => return Err(WebSocketHandshakeRejection(refusal.logged("websocket", &*parts))),
        };
        // The request's own parts stay with axum's other extractors.
        let mut own = http::Request::new(()).into_parts().0;
        own.uri.clone_from(&parts.uri);
        for name in HEADERS {
            for value in parts.headers.get_all(&name) {
                own.headers.append(&name, value.clone());
            }
        }
        log::copy_peer(&parts.extensions, &mut own.extensions);
        Ok(Self { accept: AcceptConfig::default(), asked, parts: own })
    }
}

impl fmt::Debug for WebSocketHandshake {
    /// Omits the URL and the headers, which may contain credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketHandshake").field("accept", &self.accept).finish_non_exhaustive()
    }
}
