use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;

use super::{TransportKind, attempt::Route, policy::is_dead_path};
use crate::{
    Error, Message,
    transport::{sse::SseDuplex, websocket::WebSocket, webtransport::WebTransportStream},
};

/// A WebTransport stream, a WebSocket, or SSE with POST, on either end: a [`Transport`](crate::Transport) of
/// [`Message`]s.
///
/// A client gets it from an [`AdaptiveConnector`](super::AdaptiveConnector). A server creates it from any of the three
/// with `From`, so that one handler, one [`OptimizedAcceptor`](crate::stack::OptimizedAcceptor) and one session store
/// serve them all.
///
/// Backpressure, errors and cancel safety are those of the transport inside. Each call costs one branch more than on
/// that transport; nothing is boxed for a message.
pub struct AdaptiveTransport {
    inner: Inner,
    /// On a client, the route to which a dead path is reported.
    route: Option<Arc<Route>>,
    /// On a server, the value that is held for the life of the connection.
    #[cfg(not(target_arch = "wasm32"))]
    _held: Option<Box<dyn Send + Sync>>,
}

#[expect(clippy::large_enum_variant, reason = "a WebSocket, the most common one, is not behind a pointer")]
enum Inner {
    /// The largest by far; the others should not take its room.
    WebTransport(Box<WebTransportStream>),
    WebSocket(WebSocket),
    Sse(SseDuplex),
}

macro_rules! each {
    ($inner:expr, $transport:ident => $call:expr) => {
        match $inner {
            Inner::WebTransport($transport) => $call,
            Inner::WebSocket($transport) => $call,
            Inner::Sse($transport) => $call,
        }
    };
}

impl AdaptiveTransport {
    const fn new(inner: Inner) -> Self {
        Self {
            inner,
            route: None,
            #[cfg(not(target_arch = "wasm32"))]
            _held: None,
        }
    }

    /// Returns the kind of the transport.
    #[must_use]
    pub const fn kind(&self) -> TransportKind {
        match &self.inner {
            Inner::WebTransport(_) => TransportKind::WebTransport,
            Inner::WebSocket(_) => TransportKind::WebSocket,
            Inner::Sse(_) => TransportKind::Sse,
        }
    }

    /// Returns the subprotocol that the handshake agreed on.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        each!(&self.inner, transport => transport.subprotocol())
    }

    /// Returns the WebTransport stream, if this is one: for its session with further streams and datagrams, and its
    /// statistics.
    #[must_use]
    pub const fn web_transport(&self) -> Option<&WebTransportStream> {
        match &self.inner {
            Inner::WebTransport(stream) => Some(stream),
            _ => None,
        }
    }

    /// Returns the WebSocket, if this is one: for its socket.
    #[must_use]
    pub const fn web_socket(&self) -> Option<&WebSocket> {
        match &self.inner {
            Inner::WebSocket(websocket) => Some(websocket),
            _ => None,
        }
    }

    /// Returns the SSE with POST transport, if this is one.
    #[must_use]
    pub const fn sse(&self) -> Option<&SseDuplex> {
        match &self.inner {
            Inner::Sse(sse) => Some(sse),
            _ => None,
        }
    }

    /// Reports to `route` if the path goes dead.
    pub(super) fn watched_by(mut self, route: Arc<Route>) -> Self {
        self.route = Some(route);
        self
    }

    /// Drops `held` together with the connection.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn holding(mut self, held: impl Send + Sync + 'static) -> Self {
        self._held = Some(Box::new(held));
        self
    }

    /// Inspects the result of a poll.
    #[inline]
    fn look<T>(&mut self, polled: Poll<Result<T, Error>>) -> Poll<Result<T, Error>> {
        if let Poll::Ready(Err(error)) = &polled {
            self.failed(error);
        }
        polled
    }

    fn failed(&mut self, error: &Error) {
        if let Some(route) = &self.route
            // A close or a reset is the server's or the application's, and says nothing about the path.
            && (is_dead_path(error) || has_vanished(error))
        {
            // One report for each connection; the route remembers it for the layers above, too.
            route.died(error);
            self.route = None;
        }
    }

    /// Marks that this end closes. A peer that does not answer a close is not a path that went dead in the middle of a
    /// session.
    fn closes(&mut self) {
        self.route = None;
    }
}

/// Returns whether the QUIC connection was closed by this end although this end did not ask for it. An idle timeout
/// looks like this if the QUIC library first noticed that the request stream had ended.
#[cfg(not(target_arch = "wasm32"))]
fn has_vanished(error: &Error) -> bool {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source())
        .any(|error| matches!(error.downcast_ref(), Some(quinn::ConnectionError::LocallyClosed)))
}

/// The browser does not tell who ended the connection.
#[cfg(target_arch = "wasm32")]
fn has_vanished(_: &Error) -> bool {
    false
}

impl From<WebTransportStream> for AdaptiveTransport {
    fn from(stream: WebTransportStream) -> Self {
        Self::new(Inner::WebTransport(Box::new(stream)))
    }
}

impl From<WebSocket> for AdaptiveTransport {
    fn from(websocket: WebSocket) -> Self {
        Self::new(Inner::WebSocket(websocket))
    }
}

impl From<SseDuplex> for AdaptiveTransport {
    fn from(sse: SseDuplex) -> Self {
        Self::new(Inner::Sse(sse))
    }
}

impl Stream for AdaptiveTransport {
    type Item = Result<Message, Error>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let polled = each!(&mut self.inner, transport => Pin::new(transport).poll_next(cx));
        if let Poll::Ready(Some(Err(error))) = &polled {
            self.failed(error);
        }
        polled
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        each!(&self.inner, transport => transport.size_hint())
    }
}

impl Sink<Message> for AdaptiveTransport {
    type Error = Error;

    #[inline]
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let polled = each!(&mut self.inner, transport => Pin::new(transport).poll_ready(cx));
        self.look(polled)
    }

    #[inline]
    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        if message.is_close() {
            self.closes();
        }
        each!(&mut self.inner, transport => Pin::new(transport).start_send(message))
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let polled = each!(&mut self.inner, transport => Pin::new(transport).poll_flush(cx));
        self.look(polled)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.closes();
        each!(&mut self.inner, transport => Pin::new(transport).poll_close(cx))
    }
}

debug_fields!(AdaptiveTransport, |this| { kind: this.kind() });
