mod drained;
mod sink;
mod stream;

use std::{fmt, future::poll_fn, pin::Pin};

use bytes::Bytes;
use futures_core::Stream;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Socket, engine::Engine};
use crate::{
    CloseFrame, Error, Limits, rt,
    transport::{guest::Guest, wakers::WakerSlot},
};

/// A WebSocket, either end, over any byte stream.
///
/// [`WebSocketConnector`](super::WebSocketConnector) and [`WebSocketUpgrade`](super::WebSocketUpgrade) create one over
/// a [`Socket`]; [`client`](Self::client) and [`server`](Self::server) wrap a stream after its handshake.
///
/// # Closing
///
/// ```text
///      Message::Close sent, or poll_close           the peer's close frame came:
///                   ┌────────────────────── Open    Message::Close is yielded, the answer is queued
///                   │ close frame queued     │ └──────────────────────────────────────────┐
///                   ▼                        │ the peer broke the protocol, or a limit:   │
///                Closing ──────────────────► │ close frame queued                         ▼
///                   │   └────────────────────┼───────────────────────────────────────► Leaving
///                   │ Limits::close ran out: ▼                                            │
///                   │ Err(is_timeout)     Failing                                         │ the answer is written,
///                   │                        │ the peer has closed too, or Limits::close  │ or Limits::close ran out:
///                   ▼                        │ ran out: Err(what it did)                  │ None
///                 Ended ◄────────────────────┘◄───────────────────────────────────────────┘
/// ```
///
/// A connection that is cut without a close frame goes from any state to *Ended*, with an error for which
/// [`is_closed`](Error::is_closed) is true. *Ended* yields `None`, again and again.
///
/// From the first close frame on, the sink returns an error for which [`is_closed`](Error::is_closed) is true and which
/// carries the peer's close frame, if there is one. Messages that arrive after our close frame was sent are still
/// yielded. To finish a close that was started here, read until `None`, or use [`close`](Self::close). `poll_close`
/// sends the code that its caller [asks for](crate::transport::signal::close_frame), or 1000.
///
/// The peer's close frame is yielded as the peer sent it, if its code is one that may be sent
/// ([`CloseCode::new`](crate::CloseCode::new)). Any other code is an error for which
/// [`is_protocol`](Error::is_protocol) is true and which names the number; the peer is answered with 1002.
///
/// # Errors
///
/// Errors of the stream are final. The sink rejects an outgoing message over [`Limits::message`], and a ping or pong
/// over 125 bytes, with an error for which [`is_too_large`](Error::is_too_large) and
/// [`is_rejection`](Error::is_rejection) are true. Nothing is sent, and the connection continues.
///
/// # Backpressure
///
/// The sink is not ready while more than [`Limits::write_buffer`] bytes wait for the socket. One poll of the stream
/// reads about a thousand frames at most. If those yield no message (a peer may send empty fragments without end), it
/// returns `Pending` and wakes its task, so that other tasks run in between.
///
/// Each read and write that makes progress is [reported](crate::transport::signal::moved) to the layers above, so that
/// a heartbeat does not mistake a long message for silence.
///
/// # Pings
///
/// A ping is answered as it is read, and the answer is written in the same poll (or as soon as the socket accepts it,
/// if it is full). Nothing is read while the stream is not polled: an undriven WebSocket whose user neither reads nor
/// writes for a while does not answer pings in that time. [`drive`](crate::TransportExt::drive) does.
///
/// # Cancel safety
///
/// Dropping a future that reads or sends loses nothing: see [`TransportExt`](crate::TransportExt).
///
/// # Panics
///
/// Closing waits on tokio's clock and panics if the runtime's time driver is not enabled (`enable_time`).
pub struct WebSocket<S = Socket> {
    io: S,
    engine: Engine,
    state: State,
    peer_close: Option<CloseFrame>,
    subprotocol: Option<Box<str>>,
    close_time: std::time::Duration,
    deadline: Option<Pin<Box<rt::Sleep>>>,
    /// The write error after which the sink cannot be used. The peer's last messages may still be read.
    write_failed: Option<Error>,
    /// The sink's task, while the stream has taken its place in the socket to write an answer.
    sink: WakerSlot,
    /// The server's state for an admitted connection.
    guest: Option<Box<Guest>>,
}

#[derive(Debug)]
enum State {
    Open,
    /// Our close frame was sent.
    Closing,
    /// The peer's close frame arrived; ours may still have to be written.
    Leaving,
    /// The peer is at fault.
    Failing {
        error: Error,
        /// Whether the peer has everything that it will get.
        is_shut: bool,
    },
    Ended,
}

impl<S> WebSocket<S> {
    /// Creates the client's end over a stream whose opening handshake is complete.
    pub fn client(io: S, limits: Limits) -> Self {
        Self::new(io, true, limits, Bytes::new())
    }

    /// Creates the server's end over a stream whose opening handshake is complete.
    pub fn server(io: S, limits: Limits) -> Self {
        Self::new(io, false, limits, Bytes::new())
    }

    pub(super) fn new(io: S, is_client: bool, limits: Limits, leftover: Bytes) -> Self {
        Self {
            io,
            engine: Engine::new(is_client, limits, leftover),
            state: State::Open,
            peer_close: None,
            subprotocol: None,
            close_time: limits.close,
            deadline: None,
            write_failed: None,
            sink: WakerSlot::default(),
            guest: None,
        }
    }

    pub(super) fn with_guest(mut self, guest: Option<Box<Guest>>) -> Self {
        self.guest = guest;
        self
    }

    pub(super) fn with_subprotocol(mut self, subprotocol: Option<Box<str>>) -> Self {
        self.subprotocol = subprotocol;
        self
    }

    /// Returns the subprotocol that was negotiated in the handshake (RFC 6455, section 1.9).
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Returns the underlying byte stream.
    pub fn get_ref(&self) -> &S {
        &self.io
    }

    /// Returns the close frame that the peer sent, once it has arrived.
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.peer_close.as_ref()
    }

    fn closed(&self) -> Error {
        if let Some(error) = &self.write_failed {
            return error.clone();
        }
        let error = match &self.state {
            State::Failing { error, .. } => Error::closed("the connection failed").with_source(error.clone()),
            _ if self.peer_close.is_some() => Error::closed("the peer closed the connection"),
            _ => Error::closed("the connection is closed"),
        };
        error.with_close_frame(self.peer_close.clone())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Closes the connection and waits for its end, at most [`Limits::close`]. Returns the peer's close frame. Messages
    /// that still arrive are dropped. If the connection is already closing, `frame` is not sent.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_closed`](Error::is_closed) is true if the peer vanished, and one for which
    /// [`is_timeout`](Error::is_timeout) is true if it did not answer.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the close continues with the next poll of the stream.
    pub async fn close(&mut self, frame: Option<CloseFrame>) -> Result<Option<CloseFrame>, Error> {
        if self.engine.can_send() && matches!(self.state, State::Open) {
            self.engine.close(frame);
            self.state = State::Closing;
        }
        while let Some(message) = poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await {
            message?;
        }
        Ok(self.peer_close.clone())
    }
}

impl<S> fmt::Debug for WebSocket<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").field("state", &self.state).finish_non_exhaustive()
    }
}
