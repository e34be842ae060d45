//! The close that a server's drain causes.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{State, WebSocket};
use crate::{CloseFrame, Error, transport::drain::Member};

impl<S> WebSocket<S> {
    pub(super) fn member(&mut self) -> Option<&mut Member> {
        self.guest.as_mut()?.drain.as_mut()
    }

    /// Returns the frame with which the connection closes on its own: that of a drain that has started.
    pub(super) fn drain_frame(&mut self) -> Option<CloseFrame> {
        self.member()?.frame()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    fn start_drain(&mut self, frame: CloseFrame) {
        self.engine.close(Some(frame));
        self.state = State::Closing;
        self.sink.wake();
    }

    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Option<Error> {
        if matches!(self.state, State::Ended) {
            return None;
        }
        let error = self.member()?.cut()?;
        self.end(cx);
        Some(error)
    }

    /// Checks the drain for the reading half: begins the close when it is time, and returns the cause if the connection
    /// is cut.
    #[inline]
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>) -> Option<Error> {
        self.guest.as_ref()?.drain.as_ref()?;
        let cut = self.poll_cut(cx);
        if matches!(self.state, State::Open)
            && self.engine.can_send()
            && let Some(frame) = self.member().and_then(|member| member.poll_reader(cx))
        {
            self.start_drain(frame);
        }
        cut
    }

    /// Returns whether the reading half, which has nothing to read, must check again.
    #[inline]
    pub(super) fn reader_waits(&mut self, cx: &Context<'_>) -> bool {
        self.member().is_some_and(|member| member.reader_waits(cx))
    }

    /// Checks the drain for the writing half, before it takes a message.
    #[inline]
    pub(super) fn poll_drain_writer(&mut self, cx: &mut Context<'_>) -> Option<Error> {
        self.guest.as_ref()?.drain.as_ref()?;
        if let Some(error) = self.poll_cut(cx) {
            return Some(error);
        }
        let frame = self.member()?.poll_writer()?;
        if !matches!(self.state, State::Open) || !self.engine.can_send() {
            return None;
        }
        self.start_drain(frame);
        // If no task reads, no other task may flush.
        let _ = self.engine.poll_flush(Pin::new(&mut self.io), cx);
        Some(self.closed())
    }

    /// Records the state of the writing half.
    #[inline]
    pub(super) fn writer_waits<T>(&mut self, polled: &Poll<T>, cx: &Context<'_>) {
        if let Some(member) = self.member()
            && member.writer_waits(polled, cx)
        {
            cx.waker().wake_by_ref();
        }
    }
}
