use std::{
    convert::Infallible,
    fmt,
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_sink::Sink;

use super::{RawSend, writer::Writer};
use crate::{
    CloseCode, CloseFrame, Error, Message,
    transport::{closing::Closing, signal, wakers::Half, webtransport::Session},
};

/// The sending end of a unidirectional stream of a WebTransport session. [`Session::open_uni`] opens one; the peer gets
/// a [`ReceiveStream`](super::ReceiveStream).
///
/// The type ensures that nothing is received: the items of its stream are [`Infallible`], which has no values. The
/// stream still reports the outcome. It ends when the peer has acknowledged everything after a close, and yields an
/// error for which [`is_closed`](Error::is_closed) is true when the peer stops reading.
///
/// It closes with a close frame, which is not answered, and the end of the stream. Limits, backpressure, priorities and
/// dropping are those of a [`WebTransportStream`](super::WebTransportStream).
pub struct SendStream {
    session: Session,
    writer: Writer,
    ended: bool,
}

impl SendStream {
    pub(crate) fn new(session: Session, send: RawSend) -> Self {
        let mut writer = Writer::new(send, session.limits());
        writer.push_preamble();
        Self { session, writer, ended: false }
    }

    /// Waits until the peer can see the stream.
    pub(crate) async fn opened(&mut self) -> Result<(), Error> {
        poll_fn(|cx| self.writer.poll_flush(cx)).await
    }

    /// Returns the session of the stream.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Sets the priority of this stream's messages; see
    /// [`WebTransportStream::set_priority`](super::WebTransportStream::set_priority).
    pub fn set_priority(&mut self, priority: i32) {
        self.writer.set_priority(priority);
    }

    /// Sends a close frame and waits until the peer has acknowledged everything, at most
    /// [`Limits::close`](crate::Limits::close). If the stream is already closing, `frame` is not sent.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_closed`](Error::is_closed) is true if the peer stopped reading or vanished, and
    /// one for which [`is_timeout`](Error::is_timeout) is true if it did not acknowledge.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the stream keeps closing, and QUIC still delivers the data that it has.
    pub async fn close(&mut self, frame: Option<CloseFrame>) -> Result<(), Error> {
        if !self.writer.is_closing() {
            self.writer.push(Message::Close(frame))?;
        }
        let limit = self.session.limits().close;
        let mut closing = Closing::new(limit);
        poll_fn(|cx| {
            let flushed = self.writer.poll_flush(cx)?;
            let delivered = if flushed.is_ready() { self.writer.poll_stopped(cx) } else { Poll::Pending };
            if delivered.is_pending() {
                ready!(closing.poll_deadline(Half::Writer, self.writer.unsent(), cx));
                let what = format!("the peer did not acknowledge the stream within {limit:?} (Limits::close)");
                return Poll::Ready(Err(Error::timeout(what)));
            }
            delivered
        })
        .await
    }

    /// Resets the stream with a code that the peer sees. Undelivered data is lost. Dropping the stream has the same
    /// effect without a code.
    pub fn reset(mut self, code: CloseCode) {
        self.writer.reset(code.get().into());
    }

    fn check_open(&self) -> Result<(), Error> {
        match self.writer.failed() {
            Some(error) => Err(error.clone()),
            None if self.writer.is_closing() => Err(Error::closed("the stream is closed")),
            None => Ok(()),
        }
    }
}

impl Sink<Message> for SendStream {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.check_open()?;
        self.writer.poll_room(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.check_open()?;
        self.writer.push(message)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.writer.poll_flush(cx)
    }

    /// Sends a close frame, unless it was already sent (1000, or the [one asked for](signal::close_frame)), flushes and
    /// ends the stream.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.check_open().is_ok() {
            let frame = signal::close_frame().unwrap_or_else(|| CloseFrame::new(CloseCode::NORMAL, ""));
            self.writer.push(Message::Close(Some(frame)))?;
        }
        match ready!(self.writer.poll_flush(cx)) {
            // The caller wants the transport closed, and it is.
            Err(error) if error.is_closed() => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}

impl Stream for SendStream {
    type Item = Result<Infallible, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(stopped) = self.writer.poll_stopped(cx) else {
            self.writer.report_progress();
            return Poll::Pending;
        };
        self.ended = true;
        Poll::Ready(stopped.err().map(Err))
    }
}

impl Drop for SendStream {
    fn drop(&mut self) {
        self.writer.leave();
    }
}

impl fmt::Debug for SendStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendStream").field("session", &self.session).finish_non_exhaustive()
    }
}
