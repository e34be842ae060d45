//! The handler's end of a session.

use std::task::{Context, Poll};

use super::{FRAME, Session, Who};
use crate::{Error, Message, transport::sse::duplex::event};

/// An item for the handler's end.
#[derive(Debug)]
pub(in super::super) enum Received {
    Message(Message),
    Fault(Error),
    Cut,
}

impl Session {
    /// Returns the next message, or why there is no next one. Pings are answered here.
    pub(in super::super) fn poll_receive(&self, cx: &Context<'_>) -> Poll<Received> {
        self.report_moved();
        self.poll(Who::Reader, cx, |state| {
            if let Some(message) = state.inbox.pop() {
                if state.inbox.has_room() {
                    state.wake(Who::Poster);
                }
                if let Message::Ping(payload) = &message {
                    state.pong = Some(payload.clone());
                    state.wake(Who::Body);
                }
                return Poll::Ready(Received::Message(message));
            }
            if let Some(error) = &state.fault {
                return Poll::Ready(Received::Fault(error.clone()));
            }
            if state.is_cut { Poll::Ready(Received::Cut) } else { Poll::Pending }
        })
    }

    pub(in super::super) fn is_cut(&self) -> bool {
        self.lock().is_cut
    }

    /// Returns `Ready(true)` when there is room for one more message, and `Ready(false)` once the client no longer
    /// reads.
    pub(in super::super) fn poll_room(&self, cx: &Context<'_>) -> Poll<bool> {
        self.report_moved();
        self.poll(Who::Writer, cx, |state| {
            if state.is_cut {
                return Poll::Ready(false);
            }
            if state.outbox.len() < self.limits.write_buffer.max(1) {
                return Poll::Ready(true);
            }
            state.wake(Who::Body);
            Poll::Pending
        })
    }

    pub(in super::super) fn send(&self, message: &Message) {
        let mut state = self.lock();
        if state.is_cut {
            // The message cannot be delivered. The client may have left between the sink's check and this one.
            state.is_lost = true;
            return;
        }
        event::encode(message, &mut state.outbox);
        if state.outbox.len() >= FRAME || message.is_close() {
            state.wake(Who::Body);
        }
    }

    /// Returns `Ready(true)` when everything is with the HTTP server, and `Ready(false)` if it never will be.
    pub(in super::super) fn poll_flush(&self, cx: &Context<'_>) -> Poll<bool> {
        self.report_moved();
        self.poll(Who::Writer, cx, |state| {
            if state.is_cut || state.outbox.is_empty() {
                return Poll::Ready(!state.is_lost);
            }
            state.wake(Who::Body);
            Poll::Pending
        })
    }

    /// The reading half's [`poll_flush`](Self::poll_flush).
    pub(in super::super) fn poll_told(&self, cx: &Context<'_>) -> Poll<()> {
        self.report_moved();
        self.poll(Who::Teller, cx, |state| {
            if state.is_cut || (state.outbox.is_empty() && state.pong.is_none()) {
                return Poll::Ready(());
            }
            state.wake(Who::Body);
            Poll::Pending
        })
    }

    /// Returns the number of bytes that the HTTP server has not taken.
    pub(in super::super) fn unsent(&self) -> u64 {
        self.lock().outbox.len() as u64
    }

    pub(in super::super) fn wake_reader(&self) {
        self.lock().wake(Who::Reader);
    }

    pub(in super::super) fn wake_writer(&self) {
        self.lock().wake(Who::Writer);
    }
}
