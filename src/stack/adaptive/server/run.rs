//! From a connection to the handler, the same for each transport.

use std::sync::{Arc, Mutex, PoisonError};

use http::request;

use super::{live::Seat, session_server::Inner};
use crate::{
    stack::{OptimizedAcceptor, OptimizedTransport, adaptive::AdaptiveTransport, optimized::Handled},
    transport::{sse::SseDuplex, websocket::WebSocket},
};

pub(super) type Handler = Arc<dyn Fn(OptimizedTransport<AdaptiveTransport>, request::Parts) -> Handled + Send + Sync>;

/// Plain functions, so that their services have a type that can be named; what they need is in the extensions: an [`Opening`].
pub(super) type WebSocketHandler = fn(WebSocket, request::Parts) -> Handled;
pub(super) type SseHandler = fn(SseDuplex, request::Parts) -> Handled;

/// What goes along with a request until it is a session.
#[derive(Clone)]
pub(super) struct Opening {
    inner: Arc<Inner>,
    /// Taken once, though extensions are `Clone`.
    seat: Arc<Mutex<Option<Seat>>>,
}

impl Opening {
    pub(super) fn new(inner: Arc<Inner>, seat: Seat) -> Self {
        Self { inner, seat: Arc::new(Mutex::new(Some(seat))) }
    }

    fn take_seat(&self) -> Option<Seat> {
        self.seat.lock().unwrap_or_else(PoisonError::into_inner).take()
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
    Box::pin(async move {
        let Some(opening) = opening else { return };
        let Some(seat) = opening.take_seat() else { return };
        seat.hold(opening.inner.run(transport, parts)).await;
    })
}

impl Inner {
    /// Makes a session of a connection and runs the handler, or hands the connection to the session that it belongs to.
    pub(super) async fn run(&self, transport: AdaptiveTransport, mut parts: request::Parts) {
        let kind = transport.kind();
        let is_known = transport.subprotocol() == Some(OptimizedAcceptor::SUBPROTOCOL);
        let owner = self.owner.as_ref().and_then(|owner| owner(&parts));
        // A place among the connections is taken for as long as the session lives, whatever the handler does with its parts.
        #[cfg(feature = "auth")]
        let _place = parts.extensions.get::<crate::handshake::limit::Place>().cloned();
        let accepted = match owner {
            Some(owner) => self.acceptor.accept_over_as(transport, is_known, owner).await,
            None => self.acceptor.accept_over(transport, is_known).await,
        };
        match accepted {
            Ok(Some(session)) => {
                parts.extensions.insert(kind);
                (self.handler)(session, parts).await;
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, transport = kind.word(), "a connection was not accepted"),
        }
    }
}
