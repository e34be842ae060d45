use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use futures_sink::Sink;

use crate::{
    Error,
    transport::wakers::{Half, WakerPair},
};

/// The messages that wait to be sent, and the room for one message below.
///
/// The layer's own messages can take the room that the user was promised. The promise is kept all the same: the
/// user's message then waits in the queue, behind what took its place. So at most one message of the user is here, and
/// the order of the messages is that in which they were accepted.
pub(super) struct Outgoing<M> {
    queue: VecDeque<Queued<M>>,
    room: Room,
    /// The transport below holds own messages that were not flushed.
    is_dirty: bool,
    /// The rejection of an own message that the writer sent. It is for the stream: the user did not send the message.
    rejected: Option<Error>,
    pub(super) halves: Arc<WakerPair>,
    /// Wakes both halves. The transport below gets it whenever one half does the work of the other.
    both: Waker,
}

struct Queued<M> {
    message: M,
    /// Whether the user sent this message or what it is made of, and may learn from either half that it was rejected.
    is_users: bool,
}

impl<M> Outgoing<M> {
    pub(super) fn new() -> Self {
        let (halves, both) = WakerPair::new();
        Self { queue: VecDeque::new(), room: Room::Unknown, is_dirty: false, rejected: None, halves, both }
    }

    pub(super) fn push(&mut self, message: M) {
        self.queue.push_back(Queued { message, is_users: false });
    }

    pub(super) fn push_users(&mut self, message: M) {
        self.queue.push_back(Queued { message, is_users: true });
    }

    /// The waker of both halves.
    pub(super) const fn both(&self) -> &Waker {
        &self.both
    }

    /// The answer of the transport below, which has the writer's own waker. From now on that waker is known here too,
    /// for when the reader writes.
    #[inline(never)]
    pub(super) fn forwarded<E: Into<Error>>(
        &self,
        polled: Poll<Result<(), E>>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if polled.is_pending() {
            self.halves.writer.register(cx.waker());
        }
        polled.map_err(Into::into)
    }

    /// Returns whether a rejection waits for the reader.
    #[inline]
    pub(super) fn has_rejection(&self) -> bool {
        self.rejected.is_some()
    }

    pub(super) fn take_rejection(&mut self) -> Option<Error> {
        self.rejected.take()
    }

    pub(super) fn request_flush(&mut self) {
        self.is_dirty = true;
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Drops what waits.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.is_dirty = false;
        self.rejected = None;
    }

    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.is_dirty
    }

    /// Returns whether a message of the user goes straight to the transport below, and so does each poll of the sink.
    pub(super) fn is_forwarding(&self) -> bool {
        self.is_idle() && self.room != Room::Taken
    }

    #[inline]
    pub(super) fn room(&mut self) -> &mut Room {
        &mut self.room
    }

    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.room.is_there()
    }

    /// Returns whether the layer has room that it has not promised to the user.
    #[cfg(feature = "batch")]
    #[inline]
    pub(super) fn holds_room(&self) -> bool {
        self.room == Room::Held
    }

    /// Takes the room for a message of the user. Returns whether the message has to wait here. Without a promise there
    /// is no place for it: the transport below may refuse it.
    pub(super) fn take_place(&mut self) -> bool {
        let room = std::mem::replace(&mut self.room, Room::Unknown);
        room == Room::Taken || (room == Room::Promised && !self.queue.is_empty())
    }

    /// Takes the room for an own message. Returns whether it can be sent at once.
    #[inline]
    pub(super) fn take_own_place(&mut self) -> bool {
        self.queue.is_empty() && self.room.spend()
    }

    /// Gives the queue to the transport below. Either half may do that, and the other one may have to continue it, so
    /// the transport gets a waker of both.
    ///
    /// The rejection of an own message is no failure of the transport. The reader gets it, and the writer, whose send
    /// has nothing to do with it, keeps it for the reader and goes on.
    pub(super) fn poll_queue<T: Sink<M, Error: Into<Error>>>(
        &mut self,
        mut inner: Pin<&mut T>,
        half: Half,
    ) -> Poll<Result<(), Error>> {
        while !self.queue.is_empty() {
            ready!(inner.as_mut().poll_ready(&mut Context::from_waker(&self.both))).map_err(Into::into)?;
            let Some(Queued { message, is_users }) = self.queue.pop_front() else { break };
            // Before the message is sent, because an error of that must not leave the room promised.
            self.room.spend();
            self.is_dirty = true;
            if let Err(error) = inner.as_mut().start_send(message) {
                let mut error = error.into();
                if !error.is_rejection() && error.is_too_large() {
                    // Whatever else the size of a message ends, sending it is what failed.
                    error = error.into_rejection();
                }
                if is_users || !error.is_rejection() || half == Half::Reader {
                    return Poll::Ready(Err(error));
                }
                self.rejected.get_or_insert(error);
                self.halves.reader.wake();
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Gives the queue to the transport below, then polls it to be flushed or closed.
    pub(super) fn poll_all<T: Sink<M, Error: Into<Error>>>(
        &mut self,
        mut inner: Pin<&mut T>,
        half: Half,
        poll: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<Result<(), T::Error>>,
    ) -> Poll<Result<(), Error>> {
        ready!(self.poll_queue(inner.as_mut(), half))?;
        ready!(poll(inner, &mut Context::from_waker(&self.both))).map_err(Into::into)?;
        self.is_dirty = false;
        Poll::Ready(Ok(()))
    }

    /// Asks the transport below for room, once the queue is sent. A promise is kept whatever an own message has done
    /// since.
    pub(super) fn poll_room<T: Sink<M, Error: Into<Error>>>(
        &mut self,
        mut inner: Pin<&mut T>,
    ) -> Poll<Result<(), Error>> {
        let room = match self.poll_queue(inner.as_mut(), Half::Writer) {
            Poll::Ready(Ok(())) => inner.poll_ready(&mut Context::from_waker(&self.both)).map_err(Into::into),
            other => other,
        };
        match room {
            Poll::Pending if self.room.is_promised() => Poll::Ready(Ok(())),
            Poll::Ready(Ok(())) => {
                self.room.found();
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }
}

/// The room for one message below, and who may use it.
///
/// | room | `poll_ready` was `Ready`, and the user has not sent since | the transport below has room |
/// |---|---|---|
/// | `Unknown` | no | not asked |
/// | `Promised` | yes | yes |
/// | `Taken` | yes | no: an own message used it |
/// | `Held` | no: the layer has kept the message of the user | yes |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Unknown,
    Promised,
    Taken,
    Held,
}

impl Room {
    /// Returns whether a message of the user must be accepted.
    #[inline]
    pub(super) const fn is_promised(self) -> bool {
        matches!(self, Self::Promised | Self::Taken)
    }

    /// Returns whether the transport below takes a message.
    #[inline]
    pub(super) const fn is_there(self) -> bool {
        matches!(self, Self::Promised | Self::Held)
    }

    /// The transport below has room.
    pub(super) const fn found(&mut self) {
        *self = if self.is_promised() { Self::Promised } else { Self::Held };
    }

    /// The layer promises its room to the user.
    #[inline]
    pub(super) const fn promise(&mut self) {
        if matches!(self, Self::Held) {
            *self = Self::Promised;
        }
    }

    /// The layer keeps a message of the user. Returns whether it was promised room.
    #[inline]
    pub(super) const fn keep(&mut self) -> bool {
        let is_promised = self.is_promised();
        *self = if self.is_there() { Self::Held } else { Self::Unknown };
        is_promised
    }

    /// An own message uses the room below. Returns whether there was any.
    #[inline]
    pub(super) const fn spend(&mut self) -> bool {
        let is_there = self.is_there();
        *self = if self.is_promised() { Self::Taken } else { Self::Unknown };
        is_there
    }
}

#[cfg(test)]
mod tests {
    use super::Room::{self, Held, Promised, Taken, Unknown};

    fn after<R>(mut room: Room, step: impl FnOnce(&mut Room) -> R) -> Room {
        step(&mut room);
        room
    }

    #[test]
    fn a_promise_outlives_the_room_and_the_room_outlives_a_message_that_is_kept() {
        let rooms = [Unknown, Promised, Taken, Held];
        assert_eq!(rooms.map(|room| after(room, Room::found)), [Held, Promised, Promised, Held]);
        assert_eq!(rooms.map(|room| after(room, Room::promise)), [Unknown, Promised, Taken, Promised]);
        assert_eq!(rooms.map(|room| after(room, Room::keep)), [Unknown, Held, Unknown, Held]);
        assert_eq!(rooms.map(|room| after(room, Room::spend)), [Unknown, Taken, Taken, Unknown]);
        assert_eq!(rooms.map(|mut room| room.keep()), rooms.map(Room::is_promised));
        assert_eq!(rooms.map(|mut room| room.spend()), rooms.map(Room::is_there));
    }
}
