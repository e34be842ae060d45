use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use crate::{CloseFrame, Error, rt};

/// The phase of a transport's end. The phases are those of a WebSocket.
#[derive(Debug)]
pub(super) enum Phase {
    Open,
    /// Our close was sent.
    Closing,
    /// The peer's close arrived; ours may still have to be sent.
    Leaving,
    /// The peer is at fault, and is being told.
    Failing(Error),
    Ended,
}

/// The phase, the peer's close frame, and the time limit of a close.
#[derive(Debug)]
pub(super) struct Course {
    pub(super) phase: Phase,
    pub(super) peer_close: Option<CloseFrame>,
    time: Duration,
    deadline: Option<Pin<Box<rt::Sleep>>>,
    sink_deadline: Option<Pin<Box<rt::Sleep>>>,
    is_sink_late: bool,
}

impl Course {
    pub(super) fn new(time: Duration) -> Self {
        let phase = Phase::Open;
        Self { phase, peer_close: None, time, deadline: None, sink_deadline: None, is_sink_late: false }
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Returns `Ready` when the close has taken too long. The time starts at the first poll.
    pub(super) fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let time = self.time;
        self.deadline.get_or_insert_with(|| Box::pin(rt::sleep(time))).as_mut().poll(cx)
    }

    /// The sink's own [`poll_deadline`](Self::poll_deadline), which stays ready: neither half takes the other's waker.
    pub(super) fn poll_sink_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_sink_late {
            let time = self.time;
            let deadline = self.sink_deadline.get_or_insert_with(|| Box::pin(rt::sleep(time)));
            ready!(deadline.as_mut().poll(cx));
            self.is_sink_late = true;
        }
        Poll::Ready(())
    }

    /// Enters the final phase and returns the previous one.
    pub(super) fn end(&mut self) -> Phase {
        self.deadline = None;
        std::mem::replace(&mut self.phase, Phase::Ended)
    }

    /// Returns the sink's error from the first close on.
    pub(super) fn closed(&self) -> Error {
        let error = match &self.phase {
            Phase::Failing(error) => Error::closed("the connection failed").with_source(error.clone()),
            _ if self.peer_close.is_some() => Error::closed("the peer closed the connection"),
            _ => Error::closed("the connection is closed"),
        };
        error.with_close_frame(self.peer_close.clone())
    }

    pub(super) fn late(&self) -> Error {
        let limit = self.time;
        Error::timeout(format!("the peer did not finish the closing handshake within {limit:?} (Limits::close)"))
    }
}

/// Returns the close frame for a peer that violated the protocol.
pub(super) fn fault_frame(error: &Error) -> CloseFrame {
    use crate::{CloseCode, Text};

    if error.is_too_large() {
        CloseFrame::new(CloseCode::TOO_BIG, Text::from_static("message too big"))
    } else {
        CloseFrame::new(CloseCode::PROTOCOL, Text::from_static("protocol error"))
    }
}
