use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_sink::Sink;

use super::{
    RawReceive,
    reader::{ReadEnd, Reader},
};
use crate::{
    CloseCode, CloseFrame, Error, Message,
    transport::{burst::Burst, signal, webtransport::Session},
};

/// The receiving end of a unidirectional stream of a WebTransport session. [`Session::accept_uni`] waits for one; the
/// peer opened a [`SendStream`](super::SendStream).
///
/// The type ensures that nothing is sent: its sink takes [`Infallible`], which has no values. Pings are yielded and not
/// answered, because there is no way back.
///
/// The stream yields the same items as a [`WebTransportStream`](super::WebTransportStream).
pub struct ReceiveStream {
    reader: Reader,
    peer_close: Option<CloseFrame>,
    ended: bool,
    burst: Burst,
}

impl ReceiveStream {
    pub(crate) fn new(session: Session, receive: RawReceive) -> Self {
        Self { reader: Reader::new(session, receive, true), peer_close: None, ended: false, burst: Burst::default() }
    }

    /// Returns the session of the stream.
    #[must_use]
    pub fn session(&self) -> &Session {
        self.reader.session()
    }

    /// Returns the close frame that the peer sent, once it has arrived: in the stream, or with the end of the session.
    #[must_use]
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.peer_close.as_ref()
    }

    /// Stops reading, with a code that the peer sees. Unread data is lost. Dropping the stream has the same effect
    /// without a code.
    pub fn stop(mut self, code: CloseCode) {
        self.reader.stop(code.get().into());
    }
}

impl Stream for ReceiveStream {
    type Item = Result<Message, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.burst.is_over(cx) {
            return Poll::Pending;
        }
        let next = self.reader.poll_next(cx);
        self.burst.record(next.is_ready());
        let next = ready!(next);
        self.ended = !matches!(next, Ok(ref message) if !message.is_close());
        Poll::Ready(match next {
            Ok(message) => {
                if let Message::Close(frame) = &message {
                    self.peer_close.clone_from(frame);
                }
                Some(Ok(message))
            }
            Err(ReadEnd::Finished) => None,
            Err(ReadEnd::Lost(error)) => {
                self.peer_close = error.close_frame().cloned();
                Some(Err(error))
            }
            Err(ReadEnd::Broken(error, code)) => {
                self.reader.stop(code.get().into());
                Some(Err(error))
            }
        })
    }
}

impl Sink<Infallible> for ReceiveStream {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, never: Infallible) -> Result<(), Error> {
        match never {}
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    /// Stops reading: the stream ends, and the peer is told (1000, or the code that is [asked
    /// for](signal::close_frame)).
    fn poll_close(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.ended = true;
        let code = signal::close_frame().map_or(CloseCode::NORMAL, |frame| frame.code());
        self.reader.stop(code.get().into());
        Poll::Ready(Ok(()))
    }
}

impl Drop for ReceiveStream {
    fn drop(&mut self) {
        self.reader.stop(0);
    }
}

impl fmt::Debug for ReceiveStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiveStream").field("session", self.session()).finish_non_exhaustive()
    }
}
