//! The end of one connection of a session.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use crate::{CloseFrame, Error, Message, Transport, rt::Timer};

/// How a connection ends.
#[derive(Debug)]
pub(super) enum LinkEnd {
    /// The session is over.
    Over,
    /// The connection failed, or ended without a reason.
    Cut(Option<Error>),
    /// A layer below rejected an incoming message. The user is told, and the peer does not send it again. The
    /// connection ends too: the layer may have rejected several messages as one (a batch), and the next connection
    /// starts from a number that both ends know.
    Rejected(Error),
    /// The peer broke the protocol, and the session cannot go on.
    Broken(Error),
}

/// A connection that ends. It is polled until its close is out, so that the peer learns the code.
#[derive(Debug)]
pub(super) struct Parting {
    end: LinkEnd,
    /// The close message of the resume layer, if it was not sent yet. Otherwise the layers below may have one.
    farewell: Option<Message>,
    deadline: Timer,
}

impl Parting {
    /// How many messages one poll drops.
    const BUDGET: usize = 64;

    pub(super) fn new(end: LinkEnd, farewell: Option<CloseFrame>, time: Duration) -> Self {
        let mut deadline = Timer::new();
        deadline.set(time);
        Self { end, farewell: farewell.map(|frame| Message::Close(Some(frame))), deadline }
    }

    pub(super) fn into_end(self) -> LinkEnd {
        self.end
    }

    /// Returns `Ready` when the peer has closed, or is late. Everything that comes in is dropped, because it comes
    /// again on the next connection, except for the peer's close frame.
    pub(super) fn poll<T>(
        &mut self,
        mut inner: Pin<&mut T>,
        both: &Waker,
        peer_close: &mut Option<CloseFrame>,
    ) -> Poll<()>
    where
        T: Transport<Message, In = Message>,
    {
        let mut cx = Context::from_waker(both);
        if self.farewell.is_some()
            && let Poll::Ready(room) = inner.as_mut().poll_ready(&mut cx)
            && let (Some(farewell), Ok(())) = (self.farewell.take(), room)
        {
            let _ = inner.as_mut().start_send(farewell);
        }
        let _ = inner.as_mut().poll_flush(&mut cx);
        for _ in 0..Self::BUDGET {
            match inner.as_mut().poll_next(&mut cx) {
                Poll::Ready(Some(Ok(Message::Close(frame)))) if peer_close.is_none() => *peer_close = frame,
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => return self.deadline.poll(&mut cx),
            }
        }
        if self.deadline.poll(&mut cx).is_pending() {
            both.wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }
}
