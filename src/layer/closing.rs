//! The end that a layer brings about itself: a close message, flushed, then the transport closed.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use super::control::Control;
use crate::{CloseCode, CloseFrame, Error, Message, Transport, log};

/// The outgoing side of a layer that may close the transport for a reason of its own. The sink's methods are those of this
/// type; the reader calls [`poll_end`](Self::poll_end) once the layer has [refused](Self::refuse) to go on.
pub(crate) struct Closing {
    control: Control<Message>,
    state: State,
    frame: Option<CloseFrame>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// The close message, or the transport's own close, is on its way.
    Closing,
    Ended,
}

impl Closing {
    pub(crate) fn new() -> Self {
        Self { control: Control::new(), state: State::Open, frame: None }
    }

    /// Nothing is sent from here on but what was accepted before, and the close message.
    pub(crate) fn refuse(&mut self, code: CloseCode, reason: &'static str) {
        self.refuse_with(CloseFrame::new(code, reason));
    }

    /// [`refuse`](Self::refuse), with a frame of the user's.
    pub(crate) fn refuse_with(&mut self, frame: CloseFrame) {
        if self.state == State::Open {
            log::closed_by_layer(&frame);
            self.control.push(Message::Close(Some(frame.clone())));
            self.frame = Some(frame);
            self.state = State::Closing;
        }
    }

    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// With what the layer closed the transport, where it did.
    #[cfg(feature = "limit")]
    pub(crate) fn frame(&self) -> Option<&CloseFrame> {
        self.frame.as_ref()
    }

    /// After a refusal: sends the close message, and closes. Ready when there is nothing left to do.
    pub(crate) fn poll_end<T: Transport<Message>>(&mut self, inner: Pin<&mut T>, cx: &Context<'_>) -> Poll<()> {
        if self.state == State::Closing {
            // A peer that is out of reach needs no goodbye, and the refusal has been told already.
            let _ = ready!(self.control.poll_shutdown(inner, cx));
            self.state = State::Ended;
        }
        Poll::Ready(())
    }

    #[inline]
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.is_open() { Ok(()) } else { Err(self.closed()) }
    }

    #[cold]
    fn closed(&self) -> Error {
        Error::closed("a layer of this end closed the transport").with_close_frame(self.frame.clone())
    }

    // While the transport is open there is nothing of the layer's own, and `start_send` is the inner one's; what waits is
    // made known to `control`, whose close may come in between. (A place that was promised need not be kept: no message of
    // the user follows the close.)

    #[inline]
    pub(crate) fn poll_ready<T: Transport<Message>>(
        &mut self,
        mut inner: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if self.is_open()
            && let Poll::Ready(ready) = inner.as_mut().poll_ready(cx)
        {
            return Poll::Ready(ready.map_err(Into::into));
        }
        self.poll_room(inner, cx)
    }

    #[cold]
    #[inline(never)]
    fn poll_room<T: Transport<Message>>(
        &mut self,
        inner: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        self.check_open()?;
        self.control.poll_ready(inner, cx).map_err(Into::into)
    }

    /// What was accepted before a refusal goes out, and the close message behind it.
    #[inline]
    pub(crate) fn poll_flush<T: Transport<Message>>(
        &mut self,
        mut inner: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if self.is_open()
            && let Poll::Ready(flushed) = inner.as_mut().poll_flush(cx)
        {
            return Poll::Ready(flushed.map_err(Into::into));
        }
        self.poll_out(inner, cx)
    }

    #[cold]
    #[inline(never)]
    fn poll_out<T: Transport<Message>>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.state != State::Ended {
            ready!(self.control.poll_flush(inner, cx)).map_err(Into::into)?;
        }
        Poll::Ready(self.check_open())
    }

    pub(crate) fn poll_close<T: Transport<Message>>(
        &mut self,
        inner: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if self.state == State::Ended {
            return Poll::Ready(Ok(()));
        }
        ready!(self.control.poll_close(inner, cx)).map_err(Into::into)?;
        if self.state == State::Closing {
            self.state = State::Ended;
        }
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Closing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Closing").field("state", &self.state).field("frame", &self.frame).finish()
    }
}
