//! The path from a connection to the handler, which is the same for each transport.

use std::{future::Future, pin::Pin, sync::Arc};

use futures_util::SinkExt;
use http::{HeaderValue, request};

use super::{
    guard::Guard,
    live::{LiveSessions, SessionSeat},
};
use crate::{
    CloseCode, CloseFrame, Message, TransportExt, log, rt,
    stack::{
        OptimizedAcceptor, OptimizedTransport,
        adaptive::AdaptiveTransport,
        optimized::{Client, Handled},
    },
    sync::Mutex,
    transport::{
        permit::ConnectionPermit,
        shrink,
        sse::{SseDuplex, SseDuplexServer},
        subprotocol::choose,
        websocket::{WebSocket, WebSocketService},
    },
};

pub(super) type Handler = Arc<dyn Fn(OptimizedTransport<AdaptiveTransport>, request::Parts) -> Handled + Send + Sync>;

/// Plain functions, so that their services have a nameable type. The data they need is in the extensions, as an
/// [`Opening`].
pub(super) type WebSocketHandler = fn(WebSocket, request::Parts) -> Handled;
pub(super) type SseHandler = fn(SseDuplex, request::Parts) -> Handled;

/// The sessions of a server: its settings, and everything that its transports share.
#[derive(Clone)]
pub(super) struct Sessions {
    pub(super) acceptor: OptimizedAcceptor<AdaptiveTransport>,
    pub(super) handler: Handler,
    pub(super) guard: Option<Guard>,
    pub(super) owner: Option<KeyOf>,
    pub(super) key: Option<KeyOf>,
    pub(super) web_socket_at: Arc<str>,
    pub(super) sse_at: Arc<str>,
    pub(super) web_transport_at: Arc<str>,
    pub(super) max_sessions: usize,
    pub(super) max_handshakes: usize,
    pub(super) live: Arc<LiveSessions>,
    pub(super) web_socket: WebSocketService<WebSocketHandler>,
    pub(super) sse: SseDuplexServer<SseHandler>,
    pub(super) origins: Origins,
}

/// The origins whose pages may connect, for the transport whose server is created elsewhere.
#[derive(Clone)]
pub(super) enum Origins {
    Of(Vec<HeaderValue>),
    Any,
}

/// Returns what identifies the client of a request.
pub(super) type KeyOf = Arc<dyn Fn(&request::Parts) -> Option<Vec<u8>> + Send + Sync>;

impl Sessions {
    /// Returns a seat for a request that may begin a session or resume one, or the reason why it gets none.
    pub(super) fn enter(&self, parts: &request::Parts) -> Result<SessionSeat, &'static str> {
        if self.acceptor.is_closed() {
            self.acceptor.drain().refuse();
            return Err("this server is shutting down");
        }
        // A client that speaks the stack's subprotocol may already have a session here.
        let known = [HeaderValue::from_static(OptimizedAcceptor::SUBPROTOCOL)];
        // A client that comes back must get past a full server: it needs no further session.
        if self.live.sessions() >= self.max_sessions && choose(&known, &parts.headers).is_none() {
            return Err("too many sessions (SessionServer::sessions)");
        }
        self.live.enter(self.max_handshakes).ok_or("too many concurrent handshakes (SessionServer::handshakes)")
    }

    /// Makes a session of a connection, or hands the connection to the session that it belongs to.
    pub(super) async fn begin(
        self: Arc<Self>,
        transport: AdaptiveTransport,
        mut parts: request::Parts,
        mut seat: SessionSeat,
    ) -> Option<BegunSession> {
        let kind = transport.kind();
        let is_known = transport.subprotocol() == Some(OptimizedAcceptor::SUBPROTOCOL);
        let owner = self.owner.as_ref().and_then(|owner| owner(&parts));
        // A connection limit's permit belongs to the connection, not to the session, which may have other connections
        // later. For a request over HTTP, the transport already holds the permit.
        let transport = match ConnectionPermit::take(&mut parts.extensions) {
            Some(permit) => transport.holding(permit),
            None => transport,
        };
        let key = self.key.as_ref().and_then(|key| key(&parts));
        let client = match (&owner, &key) {
            (Some(owner), _) => Client::Owner(owner),
            (None, Some(key)) => Client::Key(key),
            (None, None) => Client::at(&parts.extensions),
        };
        match self.acceptor.accept_own(transport, is_known, client, seat.held()).await {
            // Counted only now, after the hello: a resumed session takes no further place.
            Ok(Some(session)) if seat.begin(self.max_sessions) => {
                parts.extensions.insert(kind);
                seat.introduce(&mut parts);
                shrink::request(&mut parts);
                return Some(((self.handler)(session, parts), seat));
            }
            Ok(Some(mut session)) => {
                tracing::warn!(
                    target: log::ADAPTIVE,
                    { network.protocol.name = kind.as_str() },
                    "too many sessions (SessionServer::sessions): one is closed with 1013"
                );
                let full = CloseFrame::new(CloseCode::TRY_AGAIN, "too many sessions");
                let closed = async {
                    let _ = session.send_message(Message::Close(Some(full))).await;
                    let _ = session.close().await;
                };
                let _ = rt::timeout(self.acceptor.limits().close, closed).await;
            }
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(
                    target: log::ADAPTIVE,
                    %error,
                    network.protocol.name = kind.as_str(),
                    "a connection was not accepted"
                )
            }
        }
        None
    }
}

/// The data that travels with a request until it is a session.
#[derive(Clone)]
pub(super) struct Opening {
    sessions: Arc<Sessions>,
    /// Taken once, although extensions are `Clone`.
    seat: Arc<Mutex<Option<SessionSeat>>>,
}

impl Opening {
    pub(super) fn new(sessions: Arc<Sessions>, seat: SessionSeat) -> Self {
        Self { sessions, seat: Arc::new(Mutex::new(Some(seat))) }
    }
}

pub(super) fn web_socket(websocket: WebSocket, parts: request::Parts) -> Handled {
    open(websocket.into(), parts)
}

pub(super) fn sse(duplex: SseDuplex, parts: request::Parts) -> Handled {
    open(duplex.into(), parts)
}

fn open(transport: AdaptiveTransport, mut parts: request::Parts) -> Handled {
    let opening = parts.extensions.remove::<Opening>();
    let begin = |Opening { sessions, seat }: Opening| {
        // Extensions are `Clone`, so a copy of this value may exist. The first one gets the seat.
        let seat = seat.lock().take()?;
        Some(seat.attend(|seat| run(sessions.begin(transport, parts, seat))))
    };
    match opening.and_then(begin) {
        Some(session) => Box::pin(session),
        None => Box::pin(std::future::ready(())),
    }
}

/// A session and its seat.
pub(super) type BegunSession = (Handled, SessionSeat);

/// Runs the session that `begin` produces. `begin` is boxed and dropped before the session runs, so the session
/// reserves no room for it.
pub(super) fn run(
    begin: impl Future<Output = Option<BegunSession>> + Send + 'static,
) -> impl Future<Output = ()> + Send {
    let begin: Pin<Box<dyn Future<Output = Option<BegunSession>> + Send>> = Box::pin(begin);
    async move {
        let Some((session, seat)) = begin.await else { return };
        session.await;
        drop(seat);
    }
}
