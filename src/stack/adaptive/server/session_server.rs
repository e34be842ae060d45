use std::{fmt, future::Future, sync::Arc, time::Duration};

use http::{HeaderValue, request};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Admission, Admit, SessionService,
    guard::Guard,
    live::Live,
    run::{self, Handler, SseHandler, WebSocketHandler},
    service::Route,
};
use crate::{
    BoxError, Error, Limits,
    stack::{OptimizedAcceptor, OptimizedTransport, adaptive::AdaptiveTransport, optimized::Handled},
    transport::{sse::SseDuplexServer, websocket::WebSocketUpgrade},
};

/// One handler for the sessions of all three transports. See the [module](super) for the whole story.
///
/// | setting | default |
/// |---|---|
/// | [`web_socket_at`](Self::web_socket_at), [`sse_at`](Self::sse_at), [`web_transport_at`](Self::web_transport_at) | `/ws`, `/sse` and `/wt` |
/// | [`sessions`](Self::sessions) | 1024 at a time |
/// | [`handshakes`](Self::handshakes) | 1024 at a time |
/// | [`guard`](Self::guard) | none: everybody gets in |
/// | [`owned_by`](Self::owned_by) | nobody: who holds a session's secret comes back to it |
/// | [`allow_origin`](Self::allow_origin) | pages of the same host |
///
/// Limits of a connection and of a session are the [acceptor's](crate::stack::OptimizedBuilder). Settings are for the time before
/// services are taken from it: a service keeps those that it was made with. A clone is the same server.
#[derive(Clone)]
pub struct SessionServer {
    pub(super) inner: Arc<Inner>,
}

#[derive(Clone)]
pub(super) struct Inner {
    pub(super) acceptor: OptimizedAcceptor<AdaptiveTransport>,
    pub(super) handler: Handler,
    pub(super) guard: Option<Guard>,
    pub(super) owner: Option<Owner>,
    pub(super) key: Option<Owner>,
    pub(super) web_socket_at: Arc<str>,
    pub(super) sse_at: Arc<str>,
    pub(super) web_transport_at: Arc<str>,
    pub(super) sessions: usize,
    pub(super) handshakes: usize,
    pub(super) live: Arc<Live>,
    pub(super) web_socket: WebSocketUpgrade<WebSocketHandler>,
    pub(super) sse: SseDuplexServer<SseHandler>,
    pub(super) origins: Pages,
}

/// Pages of which origins may come, for the transport whose server is not ours to make.
#[derive(Clone)]
pub(super) enum Pages {
    Of(Vec<HeaderValue>),
    Any,
}

pub(super) type Owner = Arc<dyn Fn(&request::Parts) -> Option<Vec<u8>> + Send + Sync>;

impl SessionServer {
    /// Hands each new session to `handler`, with the parts of the request that it began with; a client that comes back, over
    /// whichever transport, is handed to the handler that it had.
    ///
    /// In the parts' extensions are a [`TransportKind`](crate::stack::adaptive::TransportKind), what the [guard](Self::guard) put there,
    /// and the client's [`SocketAddr`](std::net::SocketAddr) as far as it is known: always over WebTransport; over HTTP from
    /// [`SessionService::from_address`].
    pub fn new<H, F>(acceptor: OptimizedAcceptor<AdaptiveTransport>, handler: H) -> Self
    where
        H: FnOnce(OptimizedTransport<AdaptiveTransport>, request::Parts) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        const SESSIONS: usize = 1024;
        const HANDSHAKES: usize = 1024;
        let limits = acceptor.transport_limits();
        let known = HeaderValue::from_static(OptimizedAcceptor::SUBPROTOCOL);
        let web_socket = WebSocketUpgrade::new(run::web_socket as WebSocketHandler);
        let sse = SseDuplexServer::new(run::sse as SseHandler);
        let live = Arc::new(Live::new(acceptor.drain().clone()));
        let inner = Inner {
            acceptor,
            handler: Arc::new(move |session, parts| -> Handled { Box::pin(handler.clone()(session, parts)) }),
            guard: None,
            owner: None,
            key: None,
            web_socket_at: "/ws".into(),
            sse_at: "/sse".into(),
            web_transport_at: "/wt".into(),
            sessions: SESSIONS,
            handshakes: HANDSHAKES,
            live,
            web_socket: web_socket.limits(limits).with_subprotocol(known.clone()),
            sse: sse.limits(limits).sessions(SESSIONS + HANDSHAKES).with_subprotocol(known),
            origins: Pages::Of(Vec::new()),
        };
        Self { inner: Arc::new(inner) }
    }

    fn inner(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.inner)
    }

    /// Where [`http`](Self::http) has the WebSockets.
    #[must_use]
    pub fn web_socket_at(mut self, path: &str) -> Self {
        self.inner().web_socket_at = path.into();
        self
    }

    /// Where [`http`](Self::http) has SSE with POST.
    #[must_use]
    pub fn sse_at(mut self, path: &str) -> Self {
        self.inner().sse_at = path.into();
        self
    }

    /// Sets the path at which [`web_transport`](Self::web_transport) takes sessions. Defaults to `/wt`.
    #[must_use]
    pub fn web_transport_at(mut self, path: &str) -> Self {
        self.inner().web_transport_at = path.into();
        self
    }

    /// How many sessions there may be at a time over all transports, those of clients that do not know this crate among them. One
    /// more is closed with 1013 ([`TRY_AGAIN`](crate::CloseCode::TRY_AGAIN)); a client that cannot be one that comes back to its session is
    /// refused before (503 with `Retry-After: 5`). The [acceptor's](crate::stack::OptimizedBuilder::max_sessions) number, of those that can be
    /// resumed, holds beside it.
    #[must_use]
    pub fn sessions(mut self, most: usize) -> Self {
        self.inner().sessions = most;
        self.counted()
    }

    /// How many requests may be on their way to a session at a time, over all transports: each takes seconds at most
    /// ([`Limits::handshake`]). One more is refused (503 with `Retry-After: 5`).
    #[must_use]
    pub fn handshakes(mut self, most: usize) -> Self {
        self.inner().handshakes = most;
        self.counted()
    }

    /// A session has a connection, and each handshake may be one more.
    fn counted(mut self) -> Self {
        let inner = self.inner();
        inner.sse = inner.sse.clone().sessions(inner.sessions.saturating_add(inner.handshakes));
        self
    }

    /// Lets a session begin only if `layer` lets its request through: one guard, the same for all three transports. It gets the head
    /// that the session begins with (the WebSocket's upgrade, the GET of SSE, the CONNECT of WebTransport) as an `http::Request<()>`,
    /// and stands around [`Admit`]. So any HTTP layer will do, or a `ServiceBuilder` of several: `handshake::auth::AuthGuardLayer`,
    /// `handshake::limit::ConnectionLimitLayer`, a rate limit, layers of tower and tower-http.
    ///
    /// What it puts into the request's extensions is in the handler's parts. What it answers by itself is the answer; headers that it
    /// adds to the answer of [`Admit`] are in the answer to a client over HTTP. An error of it is 503.
    ///
    /// The POSTs of SSE are not asked again: they show the secret of their session. To have each of them asked, put the layer around
    /// [`http`](Self::http) instead. A second guard takes the place of the first.
    #[must_use]
    pub fn guard<L>(mut self, layer: L) -> Self
    where
        L: Layer<Admit>,
        L::Service: Service<Request, Response = http::Response<Admission>, Error: Into<BoxError>, Future: Send + 'static>
            + Clone
            + Send
            + Sync
            + 'static,
    {
        self.inner().guard = Some(Guard::new(&layer));
        self
    }

    /// Binds each session to who has begun it: it is found again by a client for whom `owner` gives the same, over whichever transport.
    /// Others get a session of their own, whatever secret they show. `owner` sees the request as the guard has left it; `None` is
    /// nobody in particular.
    #[must_use]
    pub fn owned_by<O: Into<Vec<u8>>>(
        mut self,
        owner: impl Fn(&request::Parts) -> Option<O> + Send + Sync + 'static,
    ) -> Self {
        self.inner().owner = Some(Arc::new(move |parts| owner(parts).map(Into::into)));
        self
    }

    /// Counts each session for what `key` gives, the client's address say, where no [owner](Self::owned_by) is known: one key has at most
    /// [`OptimizedBuilder::sessions_per_key`](crate::stack::OptimizedBuilder::sessions_per_key) of them. Behind a proxy, take the address that
    /// the proxy tells. By default, sessions without an owner have no such bound.
    #[must_use]
    pub fn counted_by<K: Into<Vec<u8>>>(
        mut self,
        key: impl Fn(&request::Parts) -> Option<K> + Send + Sync + 'static,
    ) -> Self {
        self.inner().key = Some(Arc::new(move |parts| key(parts).map(Into::into)));
        self
    }

    /// Also accepts pages of this origin (`https://app.example.com`), over each transport.
    #[must_use]
    pub fn allow_origin(mut self, origin: HeaderValue) -> Self {
        let inner = self.inner();
        inner.web_socket = inner.web_socket.clone().allow_origin(origin.clone());
        inner.sse = inner.sse.clone().allow_origin(origin.clone());
        if let Pages::Of(origins) = &mut inner.origins {
            origins.push(origin);
        }
        self
    }

    /// Accepts pages of every origin; see
    /// [`WebSocketUpgrade::allow_any_origin`](crate::transport::websocket::WebSocketUpgrade::allow_any_origin) for what that risks.
    #[must_use]
    pub fn allow_any_origin(mut self) -> Self {
        let inner = self.inner();
        inner.web_socket = inner.web_socket.clone().allow_any_origin();
        inner.sse = inner.sse.clone().allow_any_origin();
        inner.origins = Pages::Any;
        self
    }

    /// Refuses pages that were loaded over `http://`, over each transport; see
    /// [`WebSocketUpgrade::https_pages_only`](crate::transport::websocket::WebSocketUpgrade::https_pages_only).
    #[must_use]
    pub fn https_pages_only(mut self) -> Self {
        let inner = self.inner();
        inner.web_socket = inner.web_socket.clone().https_pages_only();
        inner.sse = inner.sse.clone().https_pages_only();
        self
    }

    /// A service of both HTTP transports by their paths, for bare hyper and for axum's `fallback_service`; another path
    /// is 404. hyper must allow upgrades (`with_upgrades`).
    #[must_use]
    pub fn http(&self) -> SessionService {
        SessionService::new(self.inner.clone(), Route::ByPath)
    }

    /// A service of the WebSockets alone, whatever the path: for a router of your own (axum: `route_service`).
    #[must_use]
    pub fn web_socket(&self) -> SessionService {
        SessionService::new(self.inner.clone(), Route::WebSocket)
    }

    /// A service of SSE with POST alone, whatever the path: GET and POST (and OPTIONS, where pages of other origins are allowed) must
    /// reach it. All that are taken of one server share their sessions.
    #[must_use]
    pub fn sse(&self) -> SessionService {
        SessionService::new(self.inner.clone(), Route::Sse)
    }

    /// The limits of each connection: the acceptor's.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.inner.acceptor.limits()
    }

    /// How many sessions there are: how many handlers run.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.inner.live.sessions()
    }

    /// Ends all sessions, because the server goes away: new ones are refused from here on (503), those that there are get 1001
    /// ([`AWAY`](crate::CloseCode::AWAY)) as in [`OptimizedAcceptor::close`], and it waits until their handlers have ended, at most
    /// `within`. Then it cuts those that are left: their handlers are dropped where they stand. What listens for connections, and
    /// HTTP connections without a session, are whoever serves them to end.
    ///
    /// # Errors
    ///
    /// [`is_timeout`](Error::is_timeout), where some had to be cut; it says how many.
    ///
    /// # Cancel safety
    ///
    /// Dropped, all is closing, and nobody is cut; another call goes on to wait.
    pub async fn close(&self, within: Duration) -> Result<(), Error> {
        self.inner.acceptor.close();
        self.inner.live.drain(within).await.map_err(|left| {
            Error::timeout(format!("{left} sessions did not end within {within:?} of the close, and were cut"))
        })
    }
}

/// The head that a session begins with.
type Request = http::Request<()>;

impl fmt::Debug for SessionServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionServer")
            .field("web_socket_at", &self.inner.web_socket_at)
            .field("sse_at", &self.inner.sse_at)
            .field("sessions", &self.session_count())
            .finish_non_exhaustive()
    }
}
