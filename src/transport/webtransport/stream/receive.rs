use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_sink::Sink;
use web_transport_quinn as wtq;

use super::reader::{End, Reader};
use crate::{
    CloseCode, CloseFrame, Error, Message,
    transport::{signal, webtransport::Session},
};

/// A unidirectional stream of a WebTransport session, this end of which receives: [`Session::accept_uni`] waits for one, the peer opened
/// a [`SendStream`](super::SendStream).
///
/// That nothing goes out is in the type: what its sink takes is [`Infallible`], of which there is none. Pings are yielded and not
/// answered, for there is no way back.
///
/// What the stream gives is what a [`WebTransportStream`](super::WebTransportStream) gives.
pub struct ReceiveStream {
    reader: Reader,
    peer_close: Option<CloseFrame>,
    ended: bool,
}

impl ReceiveStream {
    pub(in crate::transport::webtransport) fn new(session: Session, receive: wtq::RecvStream) -> Self {
        Self { reader: Reader::new(session, receive, true), peer_close: None, ended: false }
    }

    /// The session that the stream is in.
    #[must_use]
    pub fn session(&self) -> &Session {
        self.reader.session()
    }

    /// The close frame that the peer sent, once it has: in the stream, or with the end of the session.
    #[must_use]
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.peer_close.as_ref()
    }

    /// Reads no more, with a code that the peer sees; what was not read is lost. Dropping the stream is the same without a code.
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
        let next = ready!(self.reader.poll_next(cx));
        self.ended = !matches!(next, Ok(ref message) if !message.is_close());
        Poll::Ready(match next {
            Ok(message) => {
                if let Message::Close(frame) = &message {
                    self.peer_close.clone_from(frame);
                }
                Some(Ok(message))
            }
            Err(End::Finished) => None,
            Err(End::Lost(error)) => {
                self.peer_close = error.close_frame().cloned();
                Some(Err(error))
            }
            Err(End::Broken(error, code)) => {
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

    /// Reads no more: the stream ends, and the peer is told (1000, or the code that is [asked for](signal::close_frame)).
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
