use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_sink::Sink;

use super::{LayerSink, outgoing::Room};
use crate::Error;

/// The sink half of a layer that keeps messages of the user, such as a batch, and sends what it makes of them as own
/// messages.
///
/// Its `poll_ready` gets room with [`poll_room`](Self::poll_room), sends what has to leave with
/// [`start_own`](Self::start_own), and calls [`promise_room`](Self::promise_room). Its `start_send` calls
/// [`take_promise`](Self::take_promise) and keeps the message. The room below stays known meanwhile, so the transport
/// below is asked once for each message that it gets, not for each message of the user. The rest is the same as for
/// any layer: see [`get_mut`](Self::get_mut).
pub struct KeepingSink<M> {
    sink: LayerSink<M>,
}

impl<M> KeepingSink<M> {
    /// Creates the sink half of a transport that is open.
    #[must_use]
    pub fn new() -> Self {
        Self { sink: LayerSink::new() }
    }

    /// Returns what every layer needs: own messages, flushing and the end.
    #[inline]
    #[must_use]
    pub fn get_ref(&self) -> &LayerSink<M> {
        &self.sink
    }

    /// Returns what every layer needs: own messages, flushing and the end.
    #[inline]
    #[must_use]
    pub fn get_mut(&mut self) -> &mut LayerSink<M> {
        &mut self.sink
    }

    /// Waits for room below, without a promise to the user. Ready at once if the user was promised room already, even
    /// if an own message has used it.
    ///
    /// # Errors
    ///
    /// Returns the error of the transport below, or the closed error once the transport has ended.
    #[inline]
    pub fn poll_room<T>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>
    where
        T: Sink<M, Error: Into<Error>>,
    {
        if self.has_room() {
            return Poll::Ready(Ok(()));
        }
        if self.sink.is_forwarding {
            // The room is the layer's until it promises it, so a batch that needs it for itself can take it.
            return match inner.poll_ready(cx) {
                Poll::Ready(Ok(())) => {
                    *self.sink.out.room() = Room::Held;
                    Poll::Ready(Ok(()))
                }
                polled => self.sink.out.forwarded(polled, cx),
            };
        }
        self.sink.poll_room_behind(inner, cx)
    }

    /// Returns true if the transport below has room for one message, as far as is known.
    #[inline]
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.sink.out.has_room()
    }

    /// Returns true if there is such room, it was not promised to the user, and nothing waits here: an own message goes
    /// straight to the transport below, after [`passes`](Self::passes).
    #[cfg(feature = "batch")]
    #[inline]
    pub(crate) fn holds_room(&self) -> bool {
        self.sink.is_forwarding && self.sink.out.holds_room()
    }

    /// Notes that `poll_ready` returns `Ready`.
    #[inline]
    pub fn promise_room(&mut self) {
        self.sink.out.room().promise();
    }

    /// Notes that the user has sent a message, which the layer keeps. Returns false if `poll_ready` had not promised
    /// it.
    #[inline]
    pub fn take_promise(&mut self) -> bool {
        let is_promised = self.sink.out.room().keep();
        // While the sink forwards, the room was not taken, and keeping a message does not change that.
        if !self.sink.is_forwarding {
            self.sink.settle();
        }
        is_promised
    }

    /// Sends an own message at once if there is room below, and otherwise [queues](LayerSink::push) it. It is flushed with
    /// the messages of the user.
    ///
    /// # Errors
    ///
    /// Returns the error of the transport below.
    #[inline]
    pub fn start_own<T>(&mut self, inner: Pin<&mut T>, message: M) -> Result<(), Error>
    where
        T: Sink<M, Error: Into<Error>>,
    {
        // Not past messages that wait: the order is that in which they were accepted.
        let is_sent = self.sink.out.take_own_place();
        self.sink.settle();
        if is_sent {
            return inner.start_send(message).map_err(Into::into);
        }
        self.sink.push_for_user(message);
        Ok(())
    }

    /// Forgets the room below, which has to be asked for again: the transport below may have ended.
    pub fn forget_room(&mut self) {
        self.sink.out.room().spend();
        self.sink.settle();
    }
}

impl<M> Default for KeepingSink<M> {
    fn default() -> Self {
        Self::new()
    }
}

debug_fields!([M] KeepingSink<M> { sink });
