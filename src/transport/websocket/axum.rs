use std::{fmt, future::Future};

use axum_core::{
    body::Body,
    extract::FromRequestParts,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header, request};

use super::{
    WebSocket,
    upgrade::{Accept, Asked, Draining},
};
use crate::{
    Error, Limits, log,
    transport::{drain::Drain, refusal::Refusal, subprotocol},
};

/// axum's extractor of a WebSocket handshake: take it as an argument of a handler, and answer with
/// [`on_upgrade`](Self::on_upgrade).
///
/// It does what [`WebSocketUpgrade`](super::WebSocketUpgrade) does as a service, next to the rest of axum's extractors. Limits,
/// subprotocols and origins mean the same. A request that is not a handshake is [rejected](WebSocketHandshakeRejection) before the handler
/// runs; a handler that serves such requests as well takes a `Result<WebSocketHandshake, _>`.
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
    accept: Accept,
    asked: Asked,
    /// What the origin check, the subprotocols and the log look at.
    parts: request::Parts,
}

/// The request is not a WebSocket handshake: the rejection of [`WebSocketHandshake`].
///
/// | status | for |
/// |---|---|
/// | 405 | a method other than GET |
/// | 426 | a request that asks for no upgrade to `websocket`, or for another version than 13 |
/// | 400 | HTTP/1.0, a body, a header that is missing, doubled or malformed |
/// | 500 | a server that does not upgrade connections |
#[derive(Debug)]
pub struct WebSocketHandshakeRejection(Refusal);

impl WebSocketHandshakeRejection {
    /// The status of the response.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }
}

impl IntoResponse for WebSocketHandshakeRejection {
    fn into_response(self) -> Response {
        self.0.into_response().map(Body::new)
    }
}

impl fmt::Display for WebSocketHandshakeRejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.reason)
    }
}

impl std::error::Error for WebSocketHandshakeRejection {}

impl WebSocketHandshake {
    /// Sets the limits of the connection.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.accept.limits = limits;
        self
    }

    /// Speaks a subprotocol; see [`WebSocketUpgrade::subprotocol`](super::WebSocketUpgrade::subprotocol).
    ///
    /// # Errors
    ///
    /// [`is_config`](Error::is_config) for a name that is not a token of visible ASCII characters.
    pub fn subprotocol(mut self, name: &str) -> Result<Self, Error> {
        self.accept.subprotocols.push(subprotocol::parse(name)?);
        Ok(self)
    }

    /// Also accepts pages of this origin.
    #[must_use]
    pub fn allow_origin(mut self, origin: HeaderValue) -> Self {
        self.accept.origins.allow(origin);
        self
    }

    /// Lets `drain` end the connection: see [`Drain`]. Keep the handle in the app's state.
    #[must_use]
    pub fn drain(mut self, drain: &Drain) -> Self {
        self.accept.drain = Some(Draining::Whole(drain.clone()));
        self
    }

    /// Accepts pages of every origin; see
    /// [`WebSocketUpgrade::allow_any_origin`](super::WebSocketUpgrade::allow_any_origin) for what that risks.
    #[must_use]
    pub fn allow_any_origin(mut self) -> Self {
        self.accept.origins.allow_any();
        self
    }

    /// Refuses pages that were loaded over `http://`; see
    /// [`WebSocketUpgrade::https_pages_only`](super::WebSocketUpgrade::https_pages_only).
    #[must_use]
    pub fn https_pages_only(mut self) -> Self {
        self.accept.origins.https_only();
        self
    }

    /// Answers the handshake, and runs `handler` on a task of its own once the connection is upgraded. A page of an origin that is not
    /// allowed is refused (403), and so is every page once the server drains (503).
    #[must_use = "the handshake is made by returning the response"]
    pub fn on_upgrade<F>(self, handler: impl FnOnce(WebSocket) -> F + Send + 'static) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Self { accept, asked, parts } = self;
        match accept.accept(asked, &parts) {
            Ok(accepted) => accepted.spawn(handler),
            Err(refusal) => refusal.logged("websocket", &parts).into_response(),
        }
        .map(Body::new)
    }
}

/// The headers that are looked at after the request has been found to be a handshake.
const HEADERS: [HeaderName; 4] =
    [header::HOST, header::ORIGIN, header::SEC_WEBSOCKET_PROTOCOL, HeaderName::from_static("sec-fetch-site")];

impl<S: Send + Sync> FromRequestParts<S> for WebSocketHandshake {
    type Rejection = WebSocketHandshakeRejection;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        let asked = match Asked::of(parts) {
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
        Ok(Self { accept: Accept::default(), asked, parts: own })
    }
}

impl fmt::Debug for WebSocketHandshake {
    /// Without the URL and the headers, which may hold credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocketHandshake").field("accept", &self.accept).finish_non_exhaustive()
    }
}
