use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;

use super::TransportKind;
use crate::{
    Error, Message,
    transport::{sse::SseDuplex, websocket::WebSocket, webtransport::WebTransportStream},
};

/// A WebTransport stream, a WebSocket, or SSE with POST, either end: a [`Transport`](crate::Transport) of [`Message`]s.
///
/// A client gets it from an [`AdaptiveConnector`](super::AdaptiveConnector); a server makes it of each of the three by `From`, so that
/// one handler, one [`OptimizedAcceptor`](crate::stack::OptimizedAcceptor) and one store of sessions serve them all.
///
/// Each call costs a branch more than on the transport itself; nothing is boxed.
pub struct AdaptiveTransport {
    inner: Inner,
}

enum Inner {
    WebTransport(WebTransportStream),
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
    /// Which of the three it is.
    #[must_use]
    pub const fn kind(&self) -> TransportKind {
        match &self.inner {
            Inner::WebTransport(_) => TransportKind::WebTransport,
            Inner::WebSocket(_) => TransportKind::WebSocket,
            Inner::Sse(_) => TransportKind::Sse,
        }
    }

    /// The subprotocol that was agreed on in the handshake.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        each!(&self.inner, transport => transport.subprotocol())
    }

    /// The WebSocket, where it is one.
    #[must_use]
    pub const fn web_socket(&self) -> Option<&WebSocket> {
        match &self.inner {
            Inner::WebSocket(websocket) => Some(websocket),
            _ => None,
        }
    }
}

impl From<WebSocket> for AdaptiveTransport {
    fn from(websocket: WebSocket) -> Self {
        Self { inner: Inner::WebSocket(websocket) }
    }
}

impl From<WebTransportStream> for AdaptiveTransport {
    fn from(stream: WebTransportStream) -> Self {
        Self { inner: Inner::WebTransport(stream) }
    }
}

impl From<SseDuplex> for AdaptiveTransport {
    fn from(duplex: SseDuplex) -> Self {
        Self { inner: Inner::Sse(duplex) }
    }
}

impl Stream for AdaptiveTransport {
    type Item = Result<Message, Error>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        each!(&mut self.inner, transport => Pin::new(transport).poll_next(cx))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        each!(&self.inner, transport => transport.size_hint())
    }
}

impl Sink<Message> for AdaptiveTransport {
    type Error = Error;

    #[inline]
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        each!(&mut self.inner, transport => Pin::new(transport).poll_ready(cx))
    }

    #[inline]
    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        each!(&mut self.inner, transport => Pin::new(transport).start_send(message))
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        each!(&mut self.inner, transport => Pin::new(transport).poll_flush(cx))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        each!(&mut self.inner, transport => Pin::new(transport).poll_close(cx))
    }
}

impl fmt::Debug for AdaptiveTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveTransport").field("kind", &self.kind()).finish_non_exhaustive()
    }
}
