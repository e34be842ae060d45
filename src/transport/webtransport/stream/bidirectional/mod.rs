mod sink;
mod stream;

use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures_core::Stream;
use web_transport_quinn as wtq;

use super::{reader::Reader, writer::Writer};
use crate::{
    CloseCode, CloseFrame, Error, Message, rt,
    transport::{halves::Halves, webtransport::Session},
};

/// A bidirectional stream of a WebTransport session: a transport of messages, either end.
///
/// [`WebTransportConnector`](super::super::WebTransportConnector) and [`WebTransportServer::serve`](super::super::WebTransportServer::serve)
/// give the first of a session; [`Session::open`] and [`Session::accept`] any other.
///
/// # How it closes
///
/// As a WebSocket does, with the same frames: a [`Message::Close`] of either end is answered by the other with its own code and
/// reason; then both have sent their last, and QUIC ends the stream. After a close frame the sink gives an error that
/// [`is_closed`](Error::is_closed) and carries the peer's close frame, where there is one; what still comes in after ours is yielded.
/// To finish a close that was started here, read until `None`, or use [`close`](Self::close). It waits at most
/// [`Limits::close`](crate::Limits::close).
///
/// | the peer | the stream gives |
/// |---|---|
/// | sends a close frame | [`Message::Close`], then `None` |
/// | ends the stream without (a page that calls `writer.close()`) | `None` |
/// | resets the stream, or [closes the session](Session::close) | an error that [`is_closed`](Error::is_closed), with the close frame of the code |
/// | vanishes | the same without a close frame |
/// | sends a message over [`Limits::message`](crate::Limits::message) | an error that [`is_too_large`](Error::is_too_large); the peer's end is reset with 1009 |
/// | breaks the framing | an error that [`is_protocol`](Error::is_protocol); the peer's end is reset with 1002 |
///
/// Errors of the stream are final, but for an outgoing message over [`Limits::message`](crate::Limits::message), which concerns that message
/// alone. A stream that is dropped before it is closed is reset, and what QUIC has not delivered of it is lost; one that has sent its
/// close frame is not: its session is kept until the peer has acknowledged all, for [`Limits::close`](crate::Limits::close) at most.
///
/// # Where it waits
///
/// `poll_ready` waits once [`Limits::write_buffer`](crate::Limits::write_buffer) bytes wait that QUIC does not take: because the peer does not
/// read (its [`stream_window`](super::super::SessionLimits::stream_window)) or does not acknowledge (our
/// [`send_window`](super::super::SessionLimits::send_window)). `poll_flush` waits until QUIC has all. One stream does not wait for another
/// of the session, but for the bounds that they share. [`Limits::frame`](crate::Limits::frame) means nothing here: QUIC cuts messages into packets by itself.
///
/// # Pings
///
/// A ping is answered as it is read. Nothing is read while nobody polls the stream. QUIC itself has keep-alives, so that a ping is
/// only needed to see that the *application* of the peer is alive.
///
/// # Cancel safety
///
/// Dropping a future that reads or sends loses nothing: see [`TransportExt`](crate::TransportExt).
///
/// # Panics
///
/// Closing waits on tokio's clock: the runtime needs its time driver (`enable_time`).
pub struct WebTransportStream {
    reader: Reader,
    writer: Writer,
    state: State,
    peer_close: Option<CloseFrame>,
    deadline: Option<Pin<Box<rt::Sleep>>>,
    /// The stream's task, where it waits for the peer.
    reading: Option<Waker>,
    halves: Arc<Halves>,
    /// Of both halves: what is written may be owed by the one and wanted by the other.
    waker: Waker,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Our close frame may be on its way, as the writer knows.
    Open,
    /// The peer has sent its last; ours may still wait to be written.
    Leaving,
    Ended,
}

impl WebTransportStream {
    pub(in crate::transport::webtransport) fn new(
        session: Session,
        send: wtq::SendStream,
        receive: wtq::RecvStream,
        is_opener: bool,
    ) -> Self {
        let mut writer = Writer::new(session.clone(), send);
        if is_opener {
            writer.push_preamble();
        }
        let (halves, waker) = Halves::new();
        Self {
            reader: Reader::new(session, receive, !is_opener),
            writer,
            state: State::Open,
            peer_close: None,
            deadline: None,
            reading: None,
            halves,
            waker,
        }
    }

    /// Waits until the peer can see the stream.
    pub(in crate::transport::webtransport) async fn opened(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.writer.poll_flush(cx)).await
    }

    /// The session that the stream is in. It lasts as long as a stream in it, or a handle to it.
    #[must_use]
    pub fn session(&self) -> &Session {
        self.reader.session()
    }

    /// The subprotocol that was agreed on in the session's handshake.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.session().subprotocol()
    }

    /// The close frame that the peer sent, once it has: in the stream, or with the end of the session.
    #[must_use]
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.peer_close.as_ref()
    }

    /// Sets how urgent this stream's messages are among those of the session that this end sends: of what waits, the stream with
    /// the highest number is sent first. 0 by default. What QUIC has taken already may keep its place.
    pub fn set_priority(&mut self, priority: i32) {
        self.writer.set_priority(priority);
    }

    /// Closes the stream and waits for its end, at most [`Limits::close`](crate::Limits::close); gives what the peer's close frame
    /// says. Messages that still come in are dropped. Once the stream is closing already, `frame` is not sent.
    ///
    /// # Errors
    ///
    /// [`is_closed`](Error::is_closed) where the peer vanished, [`is_timeout`](Error::is_timeout) where it did not answer.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the close goes on with the next poll of the stream.
    pub async fn close(&mut self, frame: Option<CloseFrame>) -> Result<Option<CloseFrame>, Error> {
        if self.is_open() {
            // A close frame is never too large.
            let _ = self.writer.push(Message::Close(frame));
        }
        while let Some(message) = poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await {
            message?;
        }
        Ok(self.peer_close.clone())
    }

    /// Gives the stream up, both directions, with a code that the peer sees; what is not delivered is lost. Dropping it is the same
    /// without a code.
    pub fn reset(mut self, code: CloseCode) {
        self.end(code.get().into());
    }

    fn is_open(&self) -> bool {
        self.state == State::Open && !self.writer.is_closing() && self.writer.failed().is_none()
    }

    fn close_time(&self) -> Duration {
        self.session().limits().close
    }

    fn closed(&self) -> Error {
        if let Some(error) = self.writer.failed()
            && (error.close_frame().is_some() || self.peer_close.is_none())
        {
            return error.clone();
        }
        match &self.peer_close {
            Some(frame) => Error::closed("the peer closed the stream").with_close_frame(Some(frame.clone())),
            None => Error::closed("the stream is closed"),
        }
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
            // What the stream waits to see gone.
            self.wake_reader();
        }
        Poll::Ready(result)
    }

    /// The stream has to look again, though nothing came in.
    fn wake_reader(&mut self) {
        self.reading.take().into_iter().for_each(Waker::wake);
    }

    /// Writes what the peer is owed, though nobody flushes.
    fn poll_owed(&mut self, cx: &Context<'_>) -> Poll<()> {
        if !self.writer.owes() {
            return Poll::Ready(());
        }
        self.halves.reader.register(cx.waker());
        // An error is the sink's to give, and for the stream the end of what it owes.
        let _ = ready!(self.writer.poll_flush(&mut Context::from_waker(&self.waker)));
        self.halves.writer.wake();
        Poll::Ready(())
    }
}

impl Drop for WebTransportStream {
    fn drop(&mut self) {
        self.reader.stop(0);
        let time = self.close_time();
        self.writer.leave(time);
    }
}

impl fmt::Debug for WebTransportStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebTransportStream")
            .field("session", self.session())
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
