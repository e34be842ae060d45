use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use super::QueueStats;
use crate::{
    Error, Queue, Transport,
    transport::{
        backlog::{self, Backlog, CONTROL, Measure, Pushed},
        payload::Payload,
        signal,
        wakers::WakerPair,
    },
};

/// The state of a [`Queued`](super::Queued) except for the inner transport.
///
/// While messages wait here, or were handed on and not flushed, the transport below gets a waker that wakes both
/// halves. Either half can then make progress, and neither replaces the other's waker.
pub(super) struct Line<Out> {
    pub(super) backlog: Backlog<Out>,
    measure: Measure<Out>,
    payload: Payload<Out>,
    pub(super) stats: QueueStats,
    pub(super) state: State,
    /// Whether the user was told that there is room, and has not used it.
    pub(super) room: Room,
    /// Whether the inner transport was handed messages that were not flushed.
    pub(super) is_dirty: bool,
    /// Whether the line is open, and nothing waits or must be flushed: one check for each message. Updated after each
    /// call for which it was false.
    pub(super) is_steady: bool,
    pub(super) halves: Arc<WakerPair>,
    pub(super) both: Waker,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    None,
    /// In the queue.
    Queue,
    /// In the inner transport, with nothing waiting in front of it.
    Direct,
}

#[derive(Debug)]
pub(super) enum State {
    Open,
    /// This end is closing: nothing more is accepted.
    Closing,
    /// A full queue has ended the connection. Contains whether the inner transport is closed.
    Overflowed(crate::CloseCode, bool),
    Failed(Error),
}

impl<Out> Line<Out> {
    pub(super) fn new<In>(queue: &Queue<Out, In>) -> Self {
        let (halves, both) = WakerPair::new();
        Self {
            backlog: Backlog::new(queue),
            measure: Measure::new(queue),
            payload: queue.outgoing,
            stats: QueueStats::default(),
            state: State::Open,
            room: Room::None,
            is_dirty: false,
            is_steady: true,
            halves,
            both,
        }
    }

    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.backlog.is_empty() && !self.is_dirty
    }

    /// Returns whether only the inner transport must be polled.
    #[inline]
    pub(super) fn is_steady(&self) -> bool {
        self.is_steady
    }

    /// Updates whether the line is steady.
    pub(super) fn settle(&mut self) {
        self.is_steady = matches!(self.state, State::Open) && self.is_idle();
    }

    fn check_open(&self) -> Result<(), Error> {
        match &self.state {
            State::Open => Ok(()),
            State::Closing => Err(Error::closed("this end was closed")),
            State::Overflowed(code, _) => Err(backlog::closed_by(*code)),
            State::Failed(error) => Err(error.clone()),
        }
    }

    fn has_room(&self) -> bool {
        // With a dropping policy, pings and pongs still wait for each other.
        if self.backlog.waits() { self.backlog.free(0) > 0 } else { self.backlog.control() < CONTROL }
    }

    #[inline]
    pub(super) fn poll_ready<T: Transport<Out>>(
        &mut self,
        mut inner: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if self.is_steady {
            match inner.as_mut().poll_ready(cx) {
                Poll::Ready(Ok(())) => {
                    self.room = Room::Direct;
                    return Poll::Ready(Ok(()));
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.fail(error))),
                Poll::Pending => {}
            }
        }
        self.poll_room(inner, cx)
    }

    /// The uncommon case: messages wait, or the inner transport has no room or has ended.
    #[cold]
    #[inline(never)]
    fn poll_room<T: Transport<Out>>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let room = self.poll_any_room(inner, cx);
        self.settle();
        room
    }

    fn poll_any_room<T: Transport<Out>>(
        &mut self,
        mut inner: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if matches!(self.state, State::Closing) && self.backlog.is_empty() {
            // The inner transport knows the reason.
            ready!(inner.poll_ready(cx)).map_err(Into::into)?;
            return Poll::Ready(self.check_open());
        }
        self.check_open()?;
        if self.room == Room::Direct {
            self.room = Room::Queue;
        }
        self.halves.writer.register(cx.waker());
        match self.poll_hand_on(inner.as_mut()) {
            // With the waker of both halves: messages that wait here from now on can also be moved on by the reader.
            Poll::Ready(Ok(())) => match inner.poll_ready(&mut Context::from_waker(&self.both)) {
                Poll::Ready(Ok(())) => self.room = Room::Direct,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.fail(error))),
                Poll::Pending => {}
            },
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => {}
        }
        if self.room == Room::None && self.has_room() {
            self.room = Room::Queue;
        }
        if self.room == Room::None { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    #[inline]
    pub(super) fn start_send<T: Transport<Out>>(&mut self, inner: Pin<&mut T>, message: Out) -> Result<(), Error> {
        if self.room == Room::Direct {
            self.room = Room::None;
            return inner.start_send(message).map_err(Into::into);
        }
        self.push(inner, message)
    }

    #[cold]
    #[inline(never)]
    fn push<T: Transport<Out>>(&mut self, inner: Pin<&mut T>, message: Out) -> Result<(), Error> {
        let pushed = self.push_if_ready(inner, message);
        self.settle();
        pushed
    }

    fn push_if_ready<T: Transport<Out>>(&mut self, inner: Pin<&mut T>, message: Out) -> Result<(), Error> {
        self.check_open()?;
        if std::mem::replace(&mut self.room, Room::None) == Room::None {
            return Err(Error::full("a message was sent before the queue was ready; wait for `poll_ready` first"));
        }
        let entry = self.measure.entry(message);
        if entry.is_last() {
            self.state = State::Closing;
        }
        let pushed = self.backlog.push(entry, 0);
        self.stats.set(&self.backlog);
        let Pushed::Overflowed(code, ..) = pushed else { return Ok(()) };
        self.state = State::Overflowed(code, false);
        if let Some(close) = self.payload.make_close(backlog::too_slow(code)) {
            // A transport that accepts no close message while it is full is closed in its own way.
            let _ = inner.start_send(close);
        }
        // The reader closes it.
        self.halves.reader.wake();
        Err(self.backlog.overflow(code))
    }

    #[inline]
    pub(super) fn poll_flush<T: Transport<Out>>(
        &mut self,
        inner: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if self.is_steady {
            return inner.poll_flush(cx).map_err(Into::into);
        }
        self.poll_out(inner, cx)
    }

    #[cold]
    #[inline(never)]
    fn poll_out<T: Transport<Out>>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if matches!(self.state, State::Overflowed(..) | State::Failed(_)) {
            self.check_open()?;
        }
        if self.is_idle() {
            return inner.poll_flush(cx).map_err(Into::into);
        }
        self.halves.writer.register(cx.waker());
        let flushed = self.poll_flush_all(inner);
        self.settle();
        flushed
    }

    /// Closes the inner transport, with the code of an overflow if its message type can express it.
    pub(super) fn poll_close_inner<T: Transport<Out>>(
        &self,
        inner: Pin<&mut T>,
    ) -> Poll<Result<(), T::TransportError>> {
        let frame = match self.state {
            State::Overflowed(code, _) => Some(backlog::too_slow(code)),
            _ => None,
        };
        signal::with_close_frame(frame.as_ref(), || inner.poll_close(&mut Context::from_waker(&self.both)))
    }

    pub(super) fn poll_close<T: Transport<Out>>(
        &mut self,
        mut inner: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if matches!(self.state, State::Open) {
            self.state = State::Closing;
            self.is_steady = false;
        }
        self.halves.writer.register(cx.waker());
        ready!(self.poll_hand_on(inner.as_mut()))?;
        ready!(self.poll_close_inner(inner)).map_err(Into::into)?;
        self.is_dirty = false;
        Poll::Ready(Ok(()))
    }
}

impl<Out> fmt::Debug for Line<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Line")
            .field("queued", &self.backlog.len())
            .field("queued_bytes", &self.backlog.bytes())
            .field("dropped", &self.backlog.dropped())
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
