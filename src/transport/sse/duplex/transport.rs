use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;

use super::client_end::ClientEnd;
#[cfg(not(target_arch = "wasm32"))]
use super::server_end::ServerEnd;
use crate::{
    CloseFrame, Error, Message,
    transport::closing::{self, Closing},
};

/// A transport of messages over plain HTTP: events go down, POSTs go up. This type is either end.
///
/// [`SseDuplexConnector`](super::SseDuplexConnector) creates the client's end,
/// [`SseDuplexServer`](super::SseDuplexServer) the server's. The [module](super) documents its guarantees and limits.
///
/// # Closing
///
/// It closes as a WebSocket does. A close is sent ([`close`](Self::close), a [`Message::Close`], or the sink's
/// `poll_close`), the other end yields it and answers it, and both streams end with `None`. A peer that does not answer
/// is abandoned after [`Limits::close`](crate::Limits::close), with an error for which
/// [`is_timeout`](Error::is_timeout) is true. From the first close on, the sink returns an error for which
/// [`is_closed`](Error::is_closed) is true and which carries the peer's close frame, if there is one. An end without a
/// close yields one error for which [`is_closed`](Error::is_closed) is true, and then `None`.
///
/// # Pings
///
/// A ping is answered as it is read. If answers cannot be sent for a while, only the newest ping is answered.
///
/// # Cancel safety
///
/// Dropping a future that reads or sends loses nothing: see [`TransportExt`](crate::TransportExt).
pub struct SseDuplex {
    end: End,
    subprotocol: Option<Box<str>>,
}

enum End {
    // Two connections and a parser are boxed, so that the server's end does not reserve room for them.
    Client(Box<ClientEnd>),
    #[cfg(not(target_arch = "wasm32"))]
    Server(ServerEnd),
}

macro_rules! each {
    ($self:ident, $end:ident => $call:expr) => {
        match &mut $self.end {
            End::Client($end) => {
                let $end = &mut **$end;
                $call
            }
            #[cfg(not(target_arch = "wasm32"))]
            End::Server($end) => $call,
        }
    };
}

impl SseDuplex {
    pub(super) fn client(end: ClientEnd, subprotocol: Option<Box<str>>) -> Self {
        Self { end: End::Client(Box::new(end)), subprotocol }
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn server(end: ServerEnd, subprotocol: Option<Box<str>>) -> Self {
        Self { end: End::Server(end), subprotocol }
    }

    /// Returns the subprotocol that was negotiated when the session was opened.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// Returns the close frame that the peer sent, once it has arrived.
    #[must_use]
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.closing().peer_close()
    }

    /// Closes the session and waits for its end, at most [`Limits::close`](crate::Limits::close). Returns the peer's
    /// close frame. Messages that still arrive are dropped. If the session is already closing, `frame` is not sent.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_closed`](Error::is_closed) is true if the peer vanished, and one for which
    /// [`is_timeout`](Error::is_timeout) is true if it did not answer.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the close continues as the stream and the sink are polled.
    pub async fn close(&mut self, frame: Option<CloseFrame>) -> Result<Option<CloseFrame>, Error> {
        match &mut self.end {
            End::Client(end) => closing::close(&mut **end, frame).await,
            #[cfg(not(target_arch = "wasm32"))]
            End::Server(end) => closing::close(end, frame).await,
        }
    }

    fn closing(&self) -> &Closing {
        match &self.end {
            End::Client(end) => &end.closing,
            #[cfg(not(target_arch = "wasm32"))]
            End::Server(end) => &end.closing,
        }
    }
}

impl Stream for SseDuplex {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        each!(self, end => closing::poll_next(end, cx))
    }
}

impl Sink<Message> for SseDuplex {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        each!(self, end => end.poll_ready(cx))
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        each!(self, end => end.start_send(message))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        each!(self, end => closing::poll_flush(end, cx))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        each!(self, end => closing::poll_close(end, cx))
    }
}

impl fmt::Debug for SseDuplex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let end = match &self.end {
            End::Client(_) => "client",
            #[cfg(not(target_arch = "wasm32"))]
            End::Server(_) => "server",
        };
        f.debug_struct("SseDuplex").field("end", &end).field("phase", self.closing().phase()).finish_non_exhaustive()
    }
}
