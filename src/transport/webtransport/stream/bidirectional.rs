use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use futures_core::Stream;
use futures_sink::Sink;

use super::{
    RawReceive, RawSend,
    reader::{ReadEnd, Reader},
    writer::Writer,
};
use crate::{
    CloseCode, CloseFrame, Error, Message,
    transport::{
        closing::{self, Closable, Closing, Received},
        drain::Member,
        wakers::{WakerPair, WakerSlot},
        webtransport::Session,
    },
};

/// A bidirectional stream of a WebTransport session: a transport of messages, either end.
///
/// [`WebTransportConnector`](super::super::WebTransportConnector) and
/// [`WebTransportServer::serve`](super::super::WebTransportServer::serve) provide the first stream of a session;
/// [`Session::open`] and [`Session::accept`] any other.
///
/// # Closing
///
/// It closes as a WebSocket does, with the same frames. A [`Message::Close`] of either end is answered by the other
/// with its own code and reason. Then both have sent their last message, and QUIC ends the stream. After a close frame
/// the sink returns an error for which [`is_closed`](Error::is_closed) is true and which carries the peer's close
/// frame, if there is one. Messages that arrive after our close frame are still yielded. To finish a close that was
/// started here, read until `None`, or use [`close`](Self::close). It waits at most
/// [`Limits::close`](crate::Limits::close).
///
/// | the peer | the stream yields |
/// |---|---|
/// | sends a close frame | [`Message::Close`], then `None` |
/// | ends the stream without one (a page that calls `writer.close()`) | `None` |
/// | resets the stream, or [closes the session](Session::close) | an error: [`is_closed`], with the code |
/// | vanishes | an error: [`is_closed`], without a close frame |
/// | exceeds [`Limits::message`](crate::Limits::message) | an error: [`is_too_large`]; we reset with 1009 |
/// | violates the framing | an error: [`is_protocol`]; we reset with 1002 |
///
/// [`is_closed`]: Error::is_closed
/// [`is_too_large`]: Error::is_too_large
/// [`is_protocol`]: Error::is_protocol
///
/// Errors of the stream are final, except that an outgoing message over [`Limits::message`](crate::Limits::message)
/// only concerns that message. A stream that is dropped before it is closed is reset, and data that QUIC has not
/// delivered is lost. A stream that has sent its close frame is not reset: its session is kept until the peer has
/// acknowledged everything, for [`Limits::close`](crate::Limits::close) at most.
///
/// # Backpressure
///
/// `poll_ready` waits once [`Limits::write_buffer`](crate::Limits::write_buffer) bytes wait that QUIC does not accept.
/// The reason is that the peer does not read (its [`stream_window`](super::super::SessionLimits::stream_window)) or
/// does not acknowledge (our [`send_window`](super::super::SessionLimits::send_window)). `poll_flush` waits until QUIC
/// has everything. One stream does not wait for another one of the session, except for the bounds that they share.
/// [`Limits::frame`](crate::Limits::frame) has no effect here: QUIC splits messages into packets automatically.
///
/// # Pings
///
/// A ping is answered as it is read. Nothing is read while the stream is not polled. QUIC itself has keep-alives, so a
/// ping is only needed to check that the peer's *application* is alive.
///
/// # Cancel safety
///
/// Dropping a future that reads or sends loses nothing: see [`TransportExt`](crate::TransportExt).
///
/// # Panics
///
/// Closing waits on tokio's clock and panics if the runtime's time driver is not enabled (`enable_time`).
pub struct WebTransportStream {
    reader: Reader,
    writer: Writer,
    closing: Closing,
    /// The membership in the server's drain. Boxed, because clients have none.
    member: Option<Box<Member>>,
    /// The stream's task, if it waits for the peer.
    reading: WakerSlot,
    halves: Arc<WakerPair>,
    /// A waker for both halves: one half may owe the written bytes while the other waits for them.
    waker: Waker,
}

impl WebTransportStream {
    pub(crate) fn new(session: Session, send: RawSend, receive: RawReceive, is_opener: bool) -> Self {
        let mut writer = Writer::new(send, session.limits());
        if is_opener {
            writer.push_preamble();
        }
        let (halves, waker) = WakerPair::new();
        let limits = session.limits();
        let closing = Closing::new(limits.close).with_idle(limits.idle);
        let member = session.member().map(Box::new);
        Self {
            member,
            reader: Reader::new(session, receive, !is_opener),
            writer,
            closing,
            reading: WakerSlot::default(),
            halves,
            waker,
        }
    }

    /// Returns the seat in the server's drain, for the stream's handler.
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn seat(&self) -> Option<Arc<crate::transport::drain::Seat>> {
        self.member.as_ref().map(|member| member.seat())
    }

    /// Waits until the peer can see the stream.
    pub(crate) async fn opened(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.writer.poll_flush(cx)).await
    }

    /// Returns the session of the stream. It lasts as long as a stream in it, or a handle to it.
    #[must_use]
    pub fn session(&self) -> &Session {
        self.reader.session()
    }

    /// Returns the subprotocol that was negotiated in the session's handshake.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.session().subprotocol()
    }

    /// Returns the close frame that the peer sent, once it has arrived: in the stream, or with the end of the session.
    #[must_use]
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.closing.peer_close()
    }

    /// Sets the priority of this stream's messages among those that this end sends in the session. Defaults to 0. Of
    /// the waiting data, the stream with the highest number is sent first. Data that QUIC has already accepted may keep
    /// its place.
    pub fn set_priority(&mut self, priority: i32) {
        self.writer.set_priority(priority);
    }

    /// Closes the stream and waits for its end, at most [`Limits::close`](crate::Limits::close). Returns the peer's
    /// close frame. Messages that still arrive are dropped. If the stream is already closing, `frame` is not sent.
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

    /// Resets both directions of the stream with a code that the peer sees. Undelivered data is lost. Dropping the
    /// stream has the same effect without a code.
    pub fn reset(mut self, code: CloseCode) {
        self.abort(code.get().into());
    }

    fn is_open(&self) -> bool {
        self.closing.is_open() && self.writer.failed().is_none()
    }

    /// Writes for the sink.
    fn poll_writer<T>(
        &mut self,
        cx: &Context<'_>,
        poll: impl FnOnce(&mut Writer, &mut Context<'_>) -> Poll<Result<T, Error>>,
    ) -> Poll<Result<T, Error>> {
        self.halves.writer.register(cx.waker());
        let owed = self.writer.owes();
        let result = ready!(poll(&mut self.writer, &mut Context::from_waker(&self.waker)));
        if owed && !self.writer.owes() {
            // The stream waits for these bytes to be written.
            self.reading.wake();
        }
        Poll::Ready(result)
    }

    /// Writes data owed to the peer even if no task flushes.
    fn poll_owed(&mut self, cx: &Context<'_>) -> Poll<()> {
        if !self.writer.owes() {
            return Poll::Ready(());
        }
        self.halves.reader.register(cx.waker());
        // The sink returns the error. For the stream, it means that nothing more is owed.
        let _ = ready!(self.writer.poll_flush(&mut Context::from_waker(&self.waker)));
        self.halves.writer.wake();
        Poll::Ready(())
    }

    /// Ends both directions. Unless they ended in order, the peer sees `code`.
    fn abort(&mut self, code: u32) {
        self.reader.stop(code);
        if self.writer.owes() || !self.writer.is_closing() {
            self.writer.reset(code);
        }
    }
}

impl Closable for WebTransportStream {
    fn closing(&mut self) -> &mut Closing {
        &mut self.closing
    }

    fn has_failed(&mut self) -> bool {
        self.writer.failed().is_some()
    }

    fn member(&mut self) -> Option<&mut Member> {
        self.member.as_deref_mut()
    }

    fn send_notice(&mut self, message: Message) {
        self.writer.push_owed(message);
    }

    fn closed(&mut self) -> Error {
        match self.writer.failed() {
            Some(error) if error.close_frame().is_some() || self.closing.peer_close().is_none() => error.clone(),
            _ => self.closing.closed(),
        }
    }

    fn start_close(&mut self, frame: Option<CloseFrame>) {
        if self.is_open() {
            // A close frame is never too large.
            let _ = self.writer.push(Message::Close(frame));
        }
        self.closing.start();
        self.reading.wake();
    }

    fn poll_answer(&mut self, cx: &mut Context<'_>) {
        let _ = self.poll_owed(cx);
    }

    fn poll_told(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.writer.owes() {
            self.reading.register(cx);
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn unsent(&mut self) -> u64 {
        self.writer.unsent()
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        Poll::Ready(match ready!(self.reader.poll_next(cx)) {
            Ok(message) => {
                if let Message::Ping(payload) = &message
                    && self.closing.is_open()
                {
                    self.writer.answer(payload.clone());
                }
                Received::Message(message)
            }
            Err(ReadEnd::Finished) => {
                if self.is_open() {
                    self.writer.end();
                }
                Received::Finished
            }
            Err(ReadEnd::Lost(error)) => {
                self.closing.set_peer_close(error.close_frame().cloned());
                Received::Lost(error)
            }
            // QUIC carries the code with the reset, so the peer is told by it.
            Err(ReadEnd::Broken(error, code)) => {
                self.abort(code.get().into());
                Received::Lost(error)
            }
        })
    }

    fn poll_idle(&mut self, cx: &mut Context<'_>) -> Option<Error> {
        self.writer.report_progress();
        self.reading.register(cx);
        None
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_writer(cx, Writer::poll_flush)
    }

    fn wake_writer(&mut self) {
        self.halves.writer.wake();
    }

    fn shut(&mut self, _: &mut Context<'_>) {
        self.abort(0);
    }
}

impl Stream for WebTransportStream {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        closing::poll_next(self.get_mut(), cx)
    }
}

impl Sink<Message> for WebTransportStream {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.is_open() {
            return Poll::Ready(Err(self.closed()));
        }
        closing::check_open(&mut *self, cx)?;
        closing::poll_room(&mut *self, cx, |this, cx| match this.writer.has_room() {
            // The common case: nothing is written, and no task has to be woken.
            true => Poll::Ready(Ok(())),
            false => this.poll_writer(cx, Writer::poll_room),
        })
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        if !self.is_open() {
            return Err(self.closed());
        }
        if let Some(member) = &mut self.member {
            member.wrote();
        }
        match message {
            Message::Close(frame) => {
                self.start_close(frame);
                Ok(())
            }
            message => self.writer.push(message),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        closing::poll_flush(self.get_mut(), cx)
    }

    /// Sends a close frame, unless it was already sent (1000, or the [one asked
    /// for](crate::transport::signal::close_frame)), flushes and ends this direction. The stream reads the answer.
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        closing::poll_close(self.get_mut(), cx)
    }
}

impl Drop for WebTransportStream {
    fn drop(&mut self) {
        self.reader.stop(0);
        self.writer.leave();
    }
}

impl fmt::Debug for WebTransportStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebTransportStream")
            .field("session", self.session())
            .field("phase", self.closing.phase())
            .finish_non_exhaustive()
    }
}
