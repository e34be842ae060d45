//! The response's body, which empties the outbox.

use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use super::{FRAME, Session, Who};
use crate::{Message, transport::sse::duplex::event};

impl Session {
    /// Returns the next bytes to send down, or `None` at the end.
    pub(in super::super) fn poll_frame(&self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        let frame = self.poll(Who::Body, cx, |state| {
            if let Some(payload) = state.pong.take() {
                event::encode(&Message::Pong(payload), &mut state.outbox);
            }
            if !state.outbox.is_empty() {
                let length = state.outbox.len().min(FRAME);
                let frame = state.outbox.split_to(length).freeze();
                if state.outbox.is_empty() {
                    state.wake(Who::Teller);
                }
                state.wake(Who::Writer);
                return Poll::Ready(Some(frame));
            }
            if state.is_left { Poll::Ready(None) } else { Poll::Pending }
        });
        if let Poll::Ready(Some(frame)) = &frame {
            self.count_moved(frame.len());
        }
        frame
    }

    pub(in super::super) fn is_end(&self) -> bool {
        let state = self.lock();
        state.is_left && state.outbox.is_empty() && state.pong.is_none()
    }

    /// Records that the body was dropped: the client is gone, or has everything.
    pub(in super::super) fn cut(&self) {
        let mut state = self.lock();
        state.is_cut = true;
        state.is_lost = !state.outbox.is_empty();
        state.outbox = BytesMut::new();
        state.pong = None;
        [Who::Reader, Who::Teller, Who::Writer, Who::Poster].into_iter().for_each(|who| state.wake(who));
    }
}
