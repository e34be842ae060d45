//! The handler's end of a session.

use std::task::{Context, Poll};

use super::{FRAME, Session, register, wake};
use crate::{Error, Message, transport::sse::duplex::event};

/// What the handler's end is given.
#[derive(Debug)]
pub(in super::super) enum Received {
    Message(Message),
    Fault(Error),
    Cut,
}

impl Session {
    /// The next message, or why there is none. A ping is answered here.
    pub(in super::super) fn poll_receive(&self, cx: &Context<'_>) -> Poll<Received> {
        let mut state = self.lock();
        if let Some(message) = state.inbox.pop() {
            if state.inbox.has_room() {
                wake(&mut state.poster);
            }
            if let Message::Ping(payload) = &message {
                state.pong = Some(payload.clone());
                wake(&mut state.body);
            }
            return Poll::Ready(Received::Message(message));
        }
        if let Some(error) = &state.fault {
            return Poll::Ready(Received::Fault(error.clone()));
        }
        if state.is_cut {
            return Poll::Ready(Received::Cut);
        }
        register(&mut state.reader, cx);
        Poll::Pending
    }

    pub(in super::super) fn is_cut(&self) -> bool {
        self.lock().is_cut
    }

    /// Room for one message more; `Ready(false)` once nobody reads any more.
    pub(in super::super) fn poll_room(&self, cx: &Context<'_>) -> Poll<bool> {
        let mut state = self.lock();
        if state.is_cut {
            return Poll::Ready(false);
        }
        if state.outbox.len() < self.limits.write_buffer.max(1) {
            return Poll::Ready(true);
        }
        wake(&mut state.body);
        register(&mut state.writer, cx);
        Poll::Pending
    }

    pub(in super::super) fn send(&self, message: &Message) {
        let mut state = self.lock();
        if state.is_cut {
            // Nobody takes it any more. The client may have gone between the sink's look at it and this.
            state.is_lost = true;
            return;
        }
        event::encode(message, &mut state.outbox);
        if state.outbox.len() >= FRAME || message.is_close() {
            wake(&mut state.body);
        }
    }

    /// All is with the HTTP server; `Ready(false)` if it never will be.
    pub(in super::super) fn poll_flush(&self, cx: &Context<'_>) -> Poll<bool> {
        let mut state = self.lock();
        if state.is_cut || state.outbox.is_empty() {
            return Poll::Ready(!state.is_lost);
        }
        wake(&mut state.body);
        register(&mut state.writer, cx);
        Poll::Pending
    }

    /// The reading half's [`poll_flush`](Self::poll_flush).
    pub(in super::super) fn poll_told(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.is_cut || (state.outbox.is_empty() && state.pong.is_none()) {
            return Poll::Ready(());
        }
        wake(&mut state.body);
        register(&mut state.teller, cx);
        Poll::Pending
    }

    pub(in super::super) fn wake_writer(&self) {
        wake(&mut self.lock().writer);
    }
}
