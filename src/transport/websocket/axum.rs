use std::future::Future;

use axum_core::{body::Body, extract::FromRequestParts, response::Response};
use http::{HeaderValue, request};

use super::{WebSocket, upgrade::Accept};
use crate::{
    Error, Limits,
    transport::{origin::Origins, subprotocol},
};

/// axum's extractor of a WebSocket handshake: take it as an argument of a handler, and answer with
/// [`on_upgrade`](Self::on_upgrade).
///
/// What [`WebSocketUpgrade`](super::WebSocketUpgrade) does as a service, with the rest of axum's extractors beside it; limits,
/// subprotocols and origins mean the same.
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
#[derive(Debug)]
pub struct WebSocketHandshake {
    accept: Accept,
    parts: request::Parts,
}

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

    /// Accepts pages of every origin; see
    /// [`WebSocketUpgrade::allow_any_origin`](super::WebSocketUpgrade::allow_any_origin) for what that risks.
    #[must_use]
    pub fn allow_any_origin(mut self) -> Self {
        self.accept.origins = Origins::Any;
        self
    }

    /// Answers the handshake, and runs `handler` on a task of its own once the connection is upgraded. A handshake that is
    /// not good is answered with its refusal.
    #[must_use = "the handshake is made by returning the response"]
    pub fn on_upgrade<F>(mut self, handler: impl FnOnce(WebSocket) -> F + Send + 'static) -> Response
    where
        F: Future<Output = ()> + Send + 'static,
    {
        match self.accept.check(&mut self.parts) {
            Ok(accepted) => accepted.spawn(handler),
            Err(refusal) => refusal.into_response(),
        }
        .map(Body::new)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for WebSocketHandshake {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut request::Parts, _: &S) -> Result<Self, Self::Rejection> {
        // The request's own parts stay with axum's other extractors; what can be had once (the connection) moves.
        let upgrade = parts.extensions.remove::<hyper::upgrade::OnUpgrade>();
        let mut own = http::Request::new(()).into_parts().0;
        own.method.clone_from(&parts.method);
        own.uri.clone_from(&parts.uri);
        own.version = parts.version;
        own.headers.clone_from(&parts.headers);
        if let Some(upgrade) = upgrade {
            own.extensions.insert(upgrade);
        }
        Ok(Self { accept: Accept::default(), parts: own })
    }
}
