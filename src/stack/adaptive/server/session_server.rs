use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use http::{HeaderValue, StatusCode, request};
use tower_layer::Layer;
use tower_service::Service;

use super::{
    Admission, Admit, SessionService,
    guard::{Guard, Verdict},
    live::{LiveSessions, SessionSeat},
    service::Serves,
    sessions::{self, BegunSession, Origins, Sessions, SseHandler, WebSocketHandler, run},
};
use crate::{
    BoxError, CloseCode, CloseFrame, Error, Limits, log, rt,
    stack::{OptimizedAcceptor, OptimizedTransport, adaptive::AdaptiveTransport, optimized::Handled},
    transport::{
        drain::Drain,
        sse::SseDuplexServer,
        websocket::WebSocketService,
        webtransport::{Incoming, SessionLimits, WebTransportServer},
    },
};

/// One handler for the sessions of all three transports. See the [module](super) for the complete documentation.
///
/// | setting | default |
/// |---|---|
/// | [`web_socket_at`](Self::web_socket_at) | `/ws` |
/// | [`sse_at`](Self::sse_at) | `/sse` |
/// | [`web_transport_at`](Self::web_transport_at) | `/wt` |
/// | [`sessions`](Self::sessions) | 1024 at a time |
/// | [`handshakes`](Self::handshakes) | 1024 at a time |
/// | [`guard`](Self::guard) | no guard: every request is admitted |
/// | [`owned_by`](Self::owned_by) | no owners: a client that holds a session's secret resumes it |
/// | [`allow_origin`](Self::allow_origin) | pages of the same host |
///
/// The limits of a connection and of a session are the [acceptor's](crate::stack::OptimizedBuilder). Change settings
/// before you take services from the server: a service keeps the settings that it was made with. Clones share the
/// server.
#[derive(Clone)]
pub struct SessionServer {
    sessions: Arc<Sessions>,
}

impl SessionServer {
    /// Creates a server that hands each new session to `handler`, with the parts of the request that it began with. A
    /// client that resumes its session, over any transport, continues with the handler that it had.
    ///
    /// The parts' extensions contain a [`TransportKind`](crate::stack::adaptive::TransportKind), everything that the
    /// [guard](Self::guard) put there, and the client's [`SocketAddr`](std::net::SocketAddr) if it is known. The
    /// address is always known over WebTransport; over HTTP it comes from [`SessionService::from_address`].
    pub fn new<H, F>(acceptor: OptimizedAcceptor<AdaptiveTransport>, handler: H) -> Self
    where
        H: FnOnce(OptimizedTransport<AdaptiveTransport>, request::Parts) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        const SESSIONS: usize = 1024;
        const HANDSHAKES: usize = 1024;
        let limits = acceptor.transport_limits();
        let known = HeaderValue::from_static(OptimizedAcceptor::SUBPROTOCOL);
        let web_socket = WebSocketService::new(sessions::web_socket as WebSocketHandler);
        let sse = SseDuplexServer::new(sessions::sse as SseHandler);
        // The acceptor's drain: one close ends its sessions and the handshakes of all three transports.
        let live = Arc::new(LiveSessions::new(acceptor.drain().clone()));
        let sessions = Sessions {
            acceptor,
            handler: Arc::new(move |session, parts| -> Handled { Box::pin(handler.clone()(session, parts)) }),
            guard: None,
            owner: None,
            key: None,
            web_socket_at: "/ws".into(),
            sse_at: "/sse".into(),
            web_transport_at: "/wt".into(),
            max_sessions: SESSIONS,
            max_handshakes: HANDSHAKES,
            live,
            web_socket: web_socket.limits(limits).with_subprotocol(known.clone()),
            sse: sse.limits(limits).sessions(SESSIONS + HANDSHAKES).with_subprotocol(known),
            origins: Origins::Of(Vec::new()),
        };
        Self { sessions: Arc::new(sessions) }
    }

    fn settings(&mut self) -> &mut Sessions {
        Arc::make_mut(&mut self.sessions)
    }

    /// Sets the path at which [`http`](Self::http) serves WebSockets. Defaults to `/ws`.
    #[must_use]
    pub fn web_socket_at(mut self, path: &str) -> Self {
        self.settings().web_socket_at = path.into();
        self
    }

    /// Sets the path at which [`http`](Self::http) serves SSE with POST. Defaults to `/sse`.
    #[must_use]
    pub fn sse_at(mut self, path: &str) -> Self {
        self.settings().sse_at = path.into();
        self
    }

    /// Sets the path at which [`web_transport`](Self::web_transport) accepts sessions. Defaults to `/wt`.
    #[must_use]
    pub fn web_transport_at(mut self, path: &str) -> Self {
        self.settings().web_transport_at = path.into();
        self
    }

    /// Sets how many sessions may exist at a time over all transports, including those of clients that do not know this
    /// crate. Defaults to 1024. A session over the limit is closed with 1013
    /// ([`TRY_AGAIN`](crate::CloseCode::TRY_AGAIN)). A client that cannot be resuming a session is refused earlier (503
    /// with `Retry-After: 5`). The [acceptor's](crate::stack::OptimizedBuilder::max_sessions) limit on resumable
    /// sessions applies as well.
    #[must_use]
    pub fn sessions(mut self, most: usize) -> Self {
        self.settings().max_sessions = most;
        self.counted()
    }

    /// Sets how many handshakes may be in progress at a time over all transports. Defaults to 1024. Each takes seconds
    /// at most ([`Limits::handshake`]). A request over the limit is refused (503 with `Retry-After: 5`).
    #[must_use]
    pub fn handshakes(mut self, most: usize) -> Self {
        self.settings().max_handshakes = most;
        self.counted()
    }

    /// A session has a connection, and each handshake may be one more.
    fn counted(mut self) -> Self {
        let settings = self.settings();
        settings.sse = settings.sse.clone().sessions(settings.max_sessions.saturating_add(settings.max_handshakes));
        self
    }

    /// Sets a guard: a session begins only if `layer` lets its request through. The same guard serves all three
    /// transports. It gets the head that the session begins with (the WebSocket upgrade, the GET of SSE, the CONNECT of
    /// WebTransport) as an `http::Request<()>`, and wraps [`Admit`]. Any HTTP layer or a `ServiceBuilder` of several
    /// works: `handshake::auth::AuthGuardLayer`, `handshake::limit::ConnectionLimitLayer`, a rate limit, layers of
    /// tower and tower-http. Defaults to no guard.
    ///
    /// The handler's parts contain everything that the guard puts into the request's extensions. An answer that does
    /// not come from [`Admit`] is sent to the client as it is. Headers that the guard adds to the answer of [`Admit`]
    /// are sent to clients over HTTP. An error of the guard becomes 503.
    ///
    /// The guard is not called for the POSTs of SSE, which carry the secret of their session. To check each of them,
    /// put the layer around [`http`](Self::http) instead. Setting a second guard replaces the first.
    #[must_use]
    pub fn guard<L, B>(mut self, layer: L) -> Self
    where
        L: Layer<Admit>,
        L::Service: Service<Request, Response = http::Response<B>, Error: Into<BoxError>, Future: Send + 'static>
            + Clone
            + Send
            + Sync
            + 'static,
        B: Into<Admission> + 'static,
    {
        self.settings().guard = Some(Guard::new(&layer));
        self
    }

    /// Binds each session to its owner. Only a client for which `owner` returns the same value can resume it, over any
    /// transport. Any other client gets a new session, whatever secret it presents. `owner` sees the request as the
    /// guard has left it; `None` stands for no owner.
    #[must_use]
    pub fn owned_by<O: Into<Vec<u8>>>(
        mut self,
        owner: impl Fn(&request::Parts) -> Option<O> + Send + Sync + 'static,
    ) -> Self {
        self.settings().owner = Some(Arc::new(move |parts| owner(parts).map(Into::into)));
        self
    }

    /// Counts each session without an [owner](Self::owned_by) under the key that `key` returns, such as the client's
    /// address. One key has at most
    /// [`OptimizedBuilder::sessions_per_key`](crate::stack::OptimizedBuilder::sessions_per_key) sessions. Behind a
    /// proxy, use the address that the proxy reports.
    ///
    /// By default, sessions without an owner have no such bound, because many clients may share one address. If the
    /// store is full, the client's address (a `SocketAddr` or `IpAddr` in the request's extensions) with the most lost
    /// sessions loses the oldest of them.
    #[must_use]
    pub fn counted_by<K: Into<Vec<u8>>>(
        mut self,
        key: impl Fn(&request::Parts) -> Option<K> + Send + Sync + 'static,
    ) -> Self {
        self.settings().key = Some(Arc::new(move |parts| key(parts).map(Into::into)));
        self
    }

    /// Also accepts pages of this origin (`https://app.example.com`), over each transport.
    #[must_use]
    pub fn allow_origin(mut self, origin: HeaderValue) -> Self {
        let settings = self.settings();
        settings.web_socket = settings.web_socket.clone().allow_origin(origin.clone());
        settings.sse = settings.sse.clone().allow_origin(origin.clone());
        if let Origins::Of(origins) = &mut settings.origins {
            origins.push(origin);
        }
        self
    }

    /// Accepts pages of every origin.
    /// [`WebSocketService::allow_any_origin`](crate::transport::websocket::WebSocketService::allow_any_origin)
    /// describes the risk.
    #[must_use]
    pub fn allow_any_origin(mut self) -> Self {
        let settings = self.settings();
        settings.web_socket = settings.web_socket.clone().allow_any_origin();
        settings.sse = settings.sse.clone().allow_any_origin();
        settings.origins = Origins::Any;
        self
    }

    /// Refuses pages that were loaded over `http://`, over each transport. See
    /// [`WebSocketService::https_pages_only`](crate::transport::websocket::WebSocketService::https_pages_only).
    #[must_use]
    pub fn https_pages_only(mut self) -> Self {
        let settings = self.settings();
        settings.web_socket = settings.web_socket.clone().https_pages_only();
        settings.sse = settings.sse.clone().https_pages_only();
        self
    }

    /// Accepts permessage-deflate from browsers and other clients over WebSocket. See
    /// [`WebSocketService::per_message_deflate`](crate::transport::websocket::WebSocketService::per_message_deflate).
    #[cfg(feature = "deflate")]
    #[cfg_attr(docsrs, doc(cfg(feature = "deflate")))]
    #[must_use]
    pub fn per_message_deflate(mut self, deflate: crate::transport::websocket::PerMessageDeflate) -> Self {
        let settings = self.settings();
        settings.web_socket = settings.web_socket.clone().per_message_deflate(deflate);
        self
    }

    /// Returns a service of both HTTP transports by their paths, for bare hyper and for axum's `fallback_service`. Any
    /// other path is answered with 404. hyper must allow upgrades (`with_upgrades`).
    #[must_use]
    pub fn http(&self) -> SessionService {
        SessionService::new(self.sessions.clone(), Serves::ByPath)
    }

    /// Returns a service of WebSockets for any path, for use with your own router (axum: `route_service`).
    #[must_use]
    pub fn web_socket(&self) -> SessionService {
        SessionService::new(self.sessions.clone(), Serves::WebSocket)
    }

    /// Returns a service of SSE with POST for any path. GET and POST (and OPTIONS, if pages of other origins are
    /// allowed) must reach it. All such services of one server share their sessions.
    #[must_use]
    pub fn sse(&self) -> SessionService {
        SessionService::new(self.sessions.clone(), Serves::Sse)
    }

    /// Serves WebTransport next to the [HTTP transports](Self::http), on `server`'s port. Returns a future to spawn, or
    /// to race with whatever else ends the program. A session consists of its first bidirectional stream.
    ///
    /// `server` gets the limits of this server, and the origins that are allowed here in addition to its own. Its
    /// sessions have room for that one stream ([`SessionLimits::one_stream`]), unless it has its own
    /// [`session_limits`](WebTransportServer::session_limits). They begin [at one path](Self::web_transport_at), unless
    /// it has its own [`path`](WebTransportServer::path). Another path is refused with 404 before the guard is called.
    ///
    /// The future completes when the server's socket is gone, or once [`close`](Self::close) was called and the last
    /// session has ended; then it closes `server`. Until then new clients are refused (503).
    ///
    /// # Cancel safety
    ///
    /// Dropping this future stops accepting clients; existing sessions continue.
    pub fn web_transport(&self, server: WebTransportServer) -> impl Future<Output = ()> + Send + use<> {
        let sessions = self.sessions.clone();
        async move {
            let mut server = server
                .without_drain()
                .limits(sessions.acceptor.transport_limits())
                .path_by_default(&sessions.web_transport_at)
                .session_limits_by_default(SessionLimits::one_stream())
                .with_subprotocol(HeaderValue::from_static(OptimizedAcceptor::SUBPROTOCOL));
            match &sessions.origins {
                Origins::Any => server = server.allow_any_origin(),
                Origins::Of(origins) => {
                    server = origins.iter().fold(server, |server, origin| server.allow_origin(origin.clone()));
                }
            }
            let gone = async {
                sessions.acceptor.closed().await;
                sessions.live.emptied().await;
            };
            let mut gone = pin!(gone);
            // Shutdown is checked first, so that clients that keep coming cannot delay it.
            while let Either::Right((Some(incoming), _)) = select(gone.as_mut(), pin!(server.accept())).await {
                open(&sessions, incoming);
            }
            server.close(CloseFrame::new(CloseCode::AWAY, "the server goes away")).await;
        }
    }

    /// Returns the limits of each connection, which are the acceptor's.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.sessions.acceptor.limits()
    }

    /// Returns the number of sessions, which is the number of running handlers.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.live.sessions()
    }

    /// Returns the drain of all sessions, which is the acceptor's. Its [`drain`](Drain::drain) ends them before a
    /// restart (1012) and counts how each has ended. Share it with the other services of the process, and one call
    /// drains all of them.
    #[must_use]
    pub fn drain(&self) -> &Drain {
        self.sessions.acceptor.drain()
    }

    /// Ends all sessions because the server is shutting down. From now on new sessions are refused (503), and existing
    /// ones get 1001 ([`AWAY`](crate::CloseCode::AWAY)) as in [`OptimizedAcceptor::close`]. The method waits until
    /// their handlers have ended, at most `within`, and then cuts the remaining sessions: their handlers are dropped at
    /// their current await point. Listeners, and HTTP connections without a session, must be ended by the code that
    /// serves them.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_timeout`](Error::is_timeout) is true if sessions had to be cut. Its message
    /// contains their number.
    ///
    /// # Cancel safety
    ///
    /// Dropping this future leaves all sessions closing, and none is cut. Another call continues to wait.
    pub async fn close(&self, within: Duration) -> Result<(), Error> {
        self.sessions.acceptor.close();
        self.sessions.live.drain(within).await.map_err(|left| {
            Error::timeout(format!("{left} sessions did not end within {within:?} of the close and were cut"))
        })
    }
}

fn open(sessions: &Arc<Sessions>, incoming: Incoming) {
    match sessions.enter(incoming.parts()) {
        Ok(seat) => {
            rt::spawn(seat.attend(|seat| run(sessions.clone().admit(incoming, seat))));
        }
        Err(reason) => {
            log::refused("webtransport", StatusCode::SERVICE_UNAVAILABLE, reason, incoming.parts());
            // In a task, because a slow client must not hold up the loop that accepts.
            rt::spawn(refuse(incoming, StatusCode::SERVICE_UNAVAILABLE));
        }
    }
}

async fn refuse(incoming: Incoming, status: StatusCode) {
    if let Err(error) = incoming.reject(status).await {
        tracing::debug!(
            target: log::ADAPTIVE,
            %error,
            http.response.status_code = status.as_u16(),
            "a client could not be told that it is refused"
        );
    }
}

impl Sessions {
    /// Calls the guard, as for a request over HTTP.
    async fn admit(self: Arc<Self>, mut incoming: Incoming, seat: SessionSeat) -> Option<BegunSession> {
        // Moved out without a copy: the guard takes the parts by value.
        let empty = http::Request::new(()).into_parts().0;
        let mut parts = std::mem::replace(incoming.parts_mut(), empty);
        if let Some(guard) = &self.guard {
            match Verdict::of(guard.check(parts).await) {
                Verdict::Admitted(admitted, _) => parts = *admitted,
                Verdict::Refused(status, _) => {
                    log::not_admitted(status);
                    // The seat is counted for all transports, and the client may take its time.
                    drop(seat);
                    refuse(incoming, status).await;
                    return None;
                }
            }
        }
        // A guard may have removed its credentials from the headers.
        incoming.parts_mut().headers.clone_from(&parts.headers);
        let session = incoming.accept().await.ok()?;
        match rt::timeout(self.acceptor.limits().handshake, session.accept()).await {
            Ok(Ok(stream)) => return self.begin(stream.into(), parts, seat).await,
            Ok(Err(error)) => {
                tracing::debug!(target: log::ADAPTIVE, %error, "a session ended before it opened a stream")
            }
            Err(_) => session.close(CloseFrame::new(CloseCode::PROTOCOL, "no stream was opened in time")),
        }
        None
    }
}

/// The head that a session begins with.
type Request = http::Request<()>;

debug_fields!(SessionServer, |this| {
    web_socket_at: this.sessions.web_socket_at,
    sse_at: this.sessions.sse_at,
    sessions: this.session_count(),
});
