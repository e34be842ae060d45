use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncWrite};

#[cfg(feature = "deflate")]
use super::deflate::PerMessage;
use super::{Socket, engine::Engine, frame_loop::Failure};
use crate::{
    CloseFrame, Error, Limits, Message, log,
    transport::{
        closing::{self, Closable, Closing, Phase, Received},
        drain::Member,
        permit::Admission,
        wakers::WakerSlot,
    },
};

/// A WebSocket, either end, over any byte stream.
///
/// [`WebSocketConnector`](super::WebSocketConnector) and [`WebSocketService`](super::WebSocketService) create one over
/// a [`Socket`]. [`WebSocketConnector::handshake`](super::WebSocketConnector::handshake) and
/// [`WebSocketAcceptor`](super::WebSocketAcceptor) perform the handshake over a stream of your own;
/// [`client`](Self::client) and [`server`](Self::server) wrap a stream after its handshake.
///
/// # Closing
///
/// Either end may begin: by [`Message::Close`], [`close`](Self::close) or `poll_close`. The other answers with the same
/// code, and then both have ended.
///
/// | the peer | the stream yields |
/// |---|---|
/// | sends a close frame | [`Message::Close`], then `None` |
/// | does not answer our close frame within [`Limits::close`] | an error: [`is_timeout`](Error::is_timeout) |
/// | vanishes without a close frame | an error: [`is_closed`](Error::is_closed) |
/// | is idle for [`Limits::idle`] | an error: [`is_timeout`](Error::is_timeout); we close with 1001 |
/// | exceeds the [`Limits`] | an error: [`is_too_large`](Error::is_too_large); we close with 1009 |
/// | violates the protocol | an error: [`is_protocol`](Error::is_protocol); we close with 1002 or 1007 |
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
/// reads 1,000 frames at most. If those yield no message (a peer may send empty fragments without end), it
/// returns `Pending` and wakes its task, so that other tasks run in between. It does the same after 1,024 messages in a
/// row.
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
    closing: Closing,
    subprotocol: Option<Box<str>>,
    /// The write error after which the sink cannot be used. The peer's last messages may still be read.
    write_failed: Option<Error>,
    /// Whether the socket was told that nothing more will be written.
    is_shut: bool,
    /// The stream's task, while it waits for the peer. A close by the sink wakes it, because the stream then waits for
    /// the end of a time limit, too.
    reader: WakerSlot,
    /// The sink's task, while the stream has taken its place in the socket to write an answer.
    writer: WakerSlot,
    /// The server's state for an admitted connection.
    admission: Option<Box<Admission>>,
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

    /// Creates the client's end over a stream whose opening handshake is complete, and from which `read` was already
    /// read after the handshake's response. HTTP libraries read ahead: pass what they return next to the stream, or the
    /// first messages are lost.
    pub fn client_from_partially_read(io: S, read: impl Into<Bytes>, limits: Limits) -> Self {
        Self::new(io, true, limits, read.into())
    }

    /// Creates the server's end over a stream whose opening handshake is complete, and from which `read` was already
    /// read after the handshake's request.
    ///
    /// ```no_run
    /// # async fn upgrade(upgraded: hyper::upgrade::Upgraded) -> Result<(), hyper::upgrade::Upgraded> {
    /// use hyper_util::rt::TokioIo;
    /// use tokio::net::TcpStream;
    /// use tower_transport::{Limits, transport::websocket::WebSocket};
    ///
    /// // From your own handshake with hyper:
    /// let parts = upgraded.downcast::<TokioIo<TcpStream>>()?;
    /// let socket = WebSocket::server_from_partially_read(parts.io.into_inner(), parts.read_buf, Limits::default());
    /// # drop(socket);
    /// # Ok(()) }
    /// ```
    pub fn server_from_partially_read(io: S, read: impl Into<Bytes>, limits: Limits) -> Self {
        Self::new(io, false, limits, read.into())
    }

    pub(super) fn new(io: S, is_client: bool, limits: Limits, leftover: Bytes) -> Self {
        Self {
            io,
            engine: Engine::new(is_client, limits, &leftover),
            closing: Closing::new(limits.close).with_idle(limits.idle),
            subprotocol: None,
            write_failed: None,
            is_shut: false,
            reader: WakerSlot::default(),
            writer: WakerSlot::default(),
            admission: None,
        }
    }

    pub(super) fn with_admission(mut self, admission: Option<Box<Admission>>) -> Self {
        self.admission = admission;
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

    accessors! {
        io: S, "byte stream",
        get_mut: "Bytes that are read or written there break the connection; use it for the stream's options.",
        into_inner: ". Bytes that were read ahead, and those that are not yet written, are lost.",
    }

    #[cfg(feature = "deflate")]
    pub(super) fn with_deflate(mut self, deflate: Option<PerMessage>) -> Self {
        if let Some(deflate) = deflate {
            self.engine.set_deflate(deflate);
        }
        self
    }

    /// Returns the extensions that were negotiated in the handshake (RFC 6455, section 9), as the server's
    /// `Sec-WebSocket-Extensions` names them: `permessage-deflate` with its parameters, or `None`.
    #[cfg(feature = "deflate")]
    #[cfg_attr(docsrs, doc(cfg(feature = "deflate")))]
    pub fn extensions(&self) -> Option<&str> {
        self.engine.deflate().map(PerMessage::parameters)
    }

    /// Returns the close frame that the peer sent, once it has arrived.
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.closing.peer_close()
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
        closing::close(self, frame).await
    }

    #[inline]
    fn poll_write(&mut self, cx: &mut Context<'_>, whole: bool) -> Poll<Result<(), Error>> {
        let io = Pin::new(&mut self.io);
        let written = if whole { self.engine.poll_flush(io, cx) } else { self.engine.poll_room(io, cx) };
        match written {
            Poll::Pending => {
                self.writer.register(cx);
                Poll::Pending
            }
            Poll::Ready(Ok(())) => Poll::Ready(Ok(())),
            Poll::Ready(Err(error)) => {
                let error = Error::from(error);
                self.write_failed = Some(error.clone());
                Poll::Ready(Err(error))
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Closable for WebSocket<S> {
    #[inline]
    fn closing(&mut self) -> &mut Closing {
        &mut self.closing
    }

    fn has_failed(&mut self) -> bool {
        self.write_failed.is_some()
    }

    #[inline]
    fn member(&mut self) -> Option<&mut Member> {
        self.admission.as_mut()?.drain.as_mut()
    }

    fn closed(&mut self) -> Error {
        match (&self.write_failed, self.closing.peer_close()) {
            // A peer that closes the socket while this end writes may have sent the reason before.
            (Some(error), Some(frame)) => error.clone().with_close_frame(Some(frame.clone())),
            (Some(error), None) => error.clone(),
            (None, _) => self.closing.closed(),
        }
    }

    fn start_close(&mut self, frame: Option<CloseFrame>) {
        self.engine.close(frame);
        self.closing.start();
        self.reader.wake();
    }

    fn send_notice(&mut self, message: Message) {
        // A message over the limit is refused, and nobody here has sent it.
        if self.engine.send(message, self.io.is_write_vectored()).is_ok() {
            self.engine.request_write();
        }
    }

    #[inline]
    fn poll_answer(&mut self, cx: &mut Context<'_>) {
        if !self.engine.answer_waits() || self.write_failed.is_some() {
            return;
        }
        if let Poll::Ready(result) = self.engine.poll_flush(Pin::new(&mut self.io), cx) {
            self.write_failed = result.err().map(Error::from);
            // Our waker had replaced the sink's.
            self.writer.wake();
        }
    }

    fn poll_told(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let is_told = !self.engine.answer_waits() || self.write_failed.is_some();
        if !matches!(self.closing.phase(), Phase::Failing(_)) {
            return if is_told { Poll::Ready(()) } else { Poll::Pending };
        }
        if is_told && !self.is_shut {
            self.is_shut = Pin::new(&mut self.io).poll_shutdown(cx).is_ready();
        }
        // The peer may not have read our close frame yet, and a reset would take it away (RFC 6455, 7.1.1).
        self.engine.poll_discard(Pin::new(&mut self.io), cx)
    }

    fn unsent(&mut self) -> u64 {
        self.engine.unwritten() as u64
    }

    #[inline]
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        let received = ready!(self.engine.poll_read(Pin::new(&mut self.io), cx));
        Poll::Ready(match received {
            Ok(message) => Received::Message(message),
            Err(Failure(error, Some(code))) if self.write_failed.is_none() => {
                log::closing("websocket", code, &error, self.admission.as_ref().and_then(|admission| admission.peer));
                Received::Fault(error, closing::coded_fault_frame(code))
            }
            Err(Failure(error, _)) => Received::Lost(error),
        })
    }

    #[inline]
    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Option<Error> {
        self.reader.register(cx);
        None
    }

    #[inline]
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.write_failed.is_some() || (self.closing.has_ended() && self.engine.unwritten() > 0) {
            return Poll::Ready(Err(self.closed()));
        }
        self.poll_write(cx, true)
    }

    fn wake_writer(&mut self) {
        self.writer.wake();
    }

    fn shut(&mut self, cx: &mut Context<'_>) {
        let _ = Pin::new(&mut self.io).poll_shutdown(cx);
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for WebSocket<S> {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        closing::poll_next(self.get_mut(), cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Message> for WebSocket<S> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        if this.write_failed.is_some() {
            return Poll::Ready(Err(this.closed()));
        }
        closing::check_open(this, cx)?;
        closing::poll_room(this, cx, |this, cx| this.poll_write(cx, false))
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.get_mut();
        if this.write_failed.is_some() || !this.closing.is_open() {
            return Err(this.closed());
        }
        if let Some(member) = this.member() {
            member.wrote();
        }
        match message {
            Message::Close(frame) => {
                this.start_close(frame);
                Ok(())
            }
            message => this.engine.send(message, this.io.is_write_vectored()),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        closing::poll_flush(self.get_mut(), cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        closing::poll_close(self.get_mut(), cx)
    }
}

impl<S> fmt::Debug for WebSocket<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").field("phase", self.closing.phase()).finish_non_exhaustive()
    }
}
