//! The end of one connection of a session.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use crate::{CloseCode, CloseFrame, Error, Message, Transport, rt::Timer};

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

/// How long a connection that failed may take for its own close (as [`Limits::close`](crate::Limits::close), which
/// bounds it below).
const CLOSE: Duration = Duration::from_secs(10);

/// How long the peer may take to answer a close message of this layer, or to be heard after a failed write.
pub(super) const ANSWER: Duration = Duration::from_secs(1);

/// Whether a connection goes on, and how it ends.
///
/// ```text
///            the stream failed, this end gives up, or the peer closed     its close is out, and the
///            ┌───────────────────────────────────────► Parting ───────┐   peer has closed or is late
///          Open                                                       ▼
///            └───────────────────────────────────────────────────── Ended ───► told to the user once
///              the session is over, the stream ended, or a layer below rejected a message
/// ```
///
/// *Parting* has a limited time. Messages that come in then come again on the next connection; only the peer's close
/// frame is kept. *Ended* is told once the user has received what was read before.
#[derive(Debug, Default)]
pub(super) struct Ending {
    phase: Phase,
    peer_close: Option<CloseFrame>,
    /// The user gets the peer's close message, so no error has to follow.
    gives_close: bool,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Open,
    Parting(Parting),
    Ended(LinkEnd),
}

impl Ending {
    #[inline]
    pub(super) const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    pub(super) const fn is_parting(&self) -> bool {
        matches!(self.phase, Phase::Parting(_))
    }

    pub(super) const fn gives_close(&self) -> bool {
        self.gives_close
    }

    pub(super) const fn has_peer_close(&self) -> bool {
        self.peer_close.is_some()
    }

    /// Notes that the user gets this close frame of the peer.
    pub(super) fn heard_close(&mut self, frame: Option<&CloseFrame>) {
        self.peer_close = frame.cloned();
        self.gives_close = true;
    }

    /// Adds the peer's close frame to an error of this connection. A write can fail because of a close that was not
    /// read yet, and its code decides whether the session goes on.
    pub(super) fn with_peer_close(&self, error: Error) -> Error {
        if error.close_frame().is_some() { error } else { error.with_close_frame(self.peer_close.clone()) }
    }

    /// Takes the end of a connection that has ended.
    pub(super) fn take(&mut self) -> Option<LinkEnd> {
        if !matches!(self.phase, Phase::Ended(_)) {
            return None;
        }
        match std::mem::take(&mut self.phase) {
            Phase::Ended(end) => Some(end),
            Phase::Open | Phase::Parting(_) => None,
        }
    }

    /// Ends the connection now.
    pub(super) fn end(&mut self, end: LinkEnd) {
        self.phase = Phase::Ended(end);
    }

    /// Starts to end the connection, with a close message of this layer or that of the layers below.
    pub(super) fn part(&mut self, end: LinkEnd, farewell: Option<CloseFrame>, time: Duration) {
        self.phase = Phase::Parting(Parting::new(end, farewell, time));
    }

    /// Ends the connection with `end`.
    pub(super) fn finish(&mut self, end: LinkEnd, has_write_failed: bool) {
        match end {
            // It may have a close to say, unless it cannot be written.
            LinkEnd::Cut(Some(_)) => self.part(end, None, if has_write_failed { ANSWER } else { CLOSE }),
            end => self.end(end),
        }
    }

    /// Ends the connection because the peer closed it, but not the session.
    pub(super) fn part_from_peer(&mut self) {
        let error = self.with_peer_close(Error::closed("resume: the peer closed the connection"));
        self.part(LinkEnd::Cut(Some(error)), None, CLOSE);
    }

    /// Ends this connection alone.
    pub(super) fn give_up(&mut self, error: Error) {
        let frame = CloseFrame::new(CloseCode::TRY_AGAIN, "resume: out of memory for sessions");
        let end = Error::closed("resume: this end closed the connection").with_source(error);
        self.part(LinkEnd::Cut(Some(end)), Some(frame), ANSWER);
    }

    /// Ends the session, and tells the peer why.
    pub(super) fn refuse(&mut self, error: Error) {
        let frame = CloseFrame::new(CloseCode::PROTOCOL, "resume: protocol error");
        self.part(LinkEnd::Broken(error), Some(frame), ANSWER);
    }

    /// Polls a connection that is parting. Returns how it has ended.
    pub(super) fn poll<T>(&mut self, inner: Pin<&mut T>, both: &Waker) -> Poll<LinkEnd>
    where
        T: Transport<Message, In = Message>,
    {
        let Phase::Parting(parting) = &mut self.phase else { return Poll::Pending };
        ready!(parting.poll(inner, both, &mut self.peer_close));
        match std::mem::take(&mut self.phase) {
            Phase::Parting(Parting { end: LinkEnd::Cut(Some(error)), .. }) => {
                Poll::Ready(LinkEnd::Cut(Some(self.with_peer_close(error))))
            }
            Phase::Parting(Parting { end, .. }) | Phase::Ended(end) => Poll::Ready(end),
            Phase::Open => Poll::Pending,
        }
    }
}

/// A connection that ends. It is polled until its close is out, so that the peer learns the code.
#[derive(Debug)]
struct Parting {
    end: LinkEnd,
    /// The close message of the resume layer, if it was not sent yet. Otherwise the layers below may have one.
    farewell: Option<Message>,
    deadline: Timer,
}

impl Parting {
    /// How many messages one poll drops.
    const BUDGET: usize = 64;

    fn new(end: LinkEnd, farewell: Option<CloseFrame>, time: Duration) -> Self {
        let mut deadline = Timer::new();
        deadline.set(time);
        Self { end, farewell: farewell.map(|frame| Message::Close(Some(frame))), deadline }
    }

    /// Returns `Ready` when the peer has closed, or is late. Everything that comes in is dropped, because it comes
    /// again on the next connection, except for the peer's close frame.
    fn poll<T>(&mut self, mut inner: Pin<&mut T>, both: &Waker, peer_close: &mut Option<CloseFrame>) -> Poll<()>
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
