use std::{
    convert::Infallible,
    fmt,
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request};
use http_body::Body;
use tower_service::Service;

use super::{
    SessionBody, SessionFuture,
    future::{Rest, Step},
    live::Seat,
    session_server::Inner,
};
use crate::{
    log,
    stack::{OptimizedAcceptor, adaptive::TransportKind},
    transport::subprotocol::choose,
};

/// The HTTP transports of a [`SessionServer`](super::SessionServer), or one of them: a `Service` of HTTP requests for
/// hyper, and for axum's `route_service` and `fallback_service`. Clones share the server.
///
/// # Backpressure
///
/// The service is always ready. Its future waits for the guard, and for everything that the POSTs of SSE wait for.
#[derive(Clone)]
pub struct SessionService {
    inner: Arc<Inner>,
    route: Route,
    address: Option<SocketAddr>,
}

/// The transport that a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    ByPath,
    WebSocket,
    Sse,
}

impl SessionService {
    pub(super) fn new(inner: Arc<Inner>, route: Route) -> Self {
        Self { inner, route, address: None }
    }

    /// Sets the address of the client whose requests are served. The address is put into the extensions of each
    /// request, for guards, limits and the handler. Call it on a clone for each connection. (In axum, a layer that
    /// copies the address out of `ConnectInfo` does the same.)
    #[must_use]
    pub const fn from_address(mut self, address: SocketAddr) -> Self {
        self.address = Some(address);
        self
    }

    fn kind(&self, path: &str) -> Option<TransportKind> {
        match self.route {
            Route::WebSocket => Some(TransportKind::WebSocket),
            Route::Sse => Some(TransportKind::Sse),
            Route::ByPath if path == &*self.inner.web_socket_at => Some(TransportKind::WebSocket),
            Route::ByPath if path == &*self.inner.sse_at => Some(TransportKind::Sse),
            Route::ByPath => None,
        }
    }
}

impl Inner {
    /// Returns a seat for a request that may begin a session or resume one, or the reason why it gets none.
    pub(super) fn enter(&self, parts: &request::Parts) -> Result<Seat, &'static str> {
        if self.acceptor.is_closed() {
            return Err("this server is shutting down");
        }
        // A client that speaks the stack's subprotocol may already have a session here.
        let known = [HeaderValue::from_static(OptimizedAcceptor::SUBPROTOCOL)];
        if self.live.sessions() >= self.sessions && choose(&known, &parts.headers).is_none() {
            return Err("too many sessions (SessionServer::sessions)");
        }
        self.live.enter(self.handshakes).ok_or("too many concurrent handshakes (SessionServer::handshakes)")
    }
}

fn refuse(reason: &'static str) -> Response<SessionBody> {
    let mut response = answer(StatusCode::SERVICE_UNAVAILABLE, reason);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}

fn answer(status: StatusCode, reason: &'static str) -> Response<SessionBody> {
    let mut response = Response::new(SessionBody::sentence(reason));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

impl<B: Body> Service<Request<B>> for SessionService {
    type Response = Response<SessionBody>;
    type Error = Infallible;
    type Future = SessionFuture<B>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        if let Some(address) = self.address {
            parts.extensions.insert(address);
        }
        let Some(kind) = self.kind(parts.uri.path()) else {
            return SessionFuture::ready(answer(StatusCode::NOT_FOUND, "no session is served at this path"));
        };
        // All other SSE requests belong to a session that has begun, or to no session.
        let begins = kind == TransportKind::WebSocket || parts.method == Method::GET;
        let seat = match begins.then(|| self.inner.enter(&parts)).transpose() {
            Ok(seat) => seat,
            Err(reason) => {
                log::refused(kind.word(), StatusCode::SERVICE_UNAVAILABLE, reason, &parts);
                return SessionFuture::ready(refuse(reason));
            }
        };
        let rest = Rest { inner: self.inner.clone(), kind, seat, body };
        match &self.inner.guard {
            Some(guard) if begins => {
                SessionFuture::new(Step::Guard { admitting: guard.check(parts), rest: Some(rest) })
            }
            _ => SessionFuture::new(rest.begin(parts, HeaderMap::new())),
        }
    }
}

impl fmt::Debug for SessionService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionService").field("route", &self.route).finish_non_exhaustive()
    }
}
