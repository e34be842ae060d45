use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
};

use crate::{
    CloseCode, Error, QueueConfig, Transport,
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
pub(super) struct SendQueue<Out> {
    backlog: Backlog<Out>,
    measure: Measure<Out>,
    payload: Payload<Out>,
    pub(super) stats: QueueStats,
    phase: Phase,
    /// Whether the user was told that there is room, and has not used it.
    room: Room,
    /// Whether the inner transport was handed messages that were not flushed.
    is_dirty: bool,
    /// Whether the queue is open, and nothing waits or must be flushed: one check for each message. Updated after each
    /// call for which it was false.
    is_steady: bool,
    halves: Arc<WakerPair>,
    both: Waker,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Room {
    None,
    /// In the queue.
    Queue,
    /// In the inner transport, with nothing waiting in front of it.
    Direct,
}

/// ```text
///          close, a close message
///     Open -----------------------> Closing
///      |  \__ the sink fails            |
///      |     `--------------> Failed <--+ the sink fails
///      | the policy is to close         ^
///      v               reader            \ the sink fails
///     Overflowing(code) ------> Overflowed(code)
/// ```
#[derive(Debug)]
enum Phase {
    Open,
    /// This end is closing: nothing more is accepted.
    Closing,
    /// A full queue has ended the connection, and the reader closes the inner transport.
    Overflowing(CloseCode),
    /// The same, and the inner transport is closed.
    Overflowed(CloseCode),
    Failed(Error),
}

impl<Out> SendQueue<Out> {
    pub(super) fn new<In>(queue: &QueueConfig<Out, In>) -> Self {
        let (halves, both) = WakerPair::new();
        Self {
            backlog: Backlog::new(queue),
            measure: Measure::new(queue),
            payload: queue.outgoing,
            stats: QueueStats::default(),
            phase: Phase::Open,
            room: Room::None,
            is_dirty: false,
            is_steady: true,
            halves,
            both,
        }
    }

    #[inline]
    fn is_idle(&self) -> bool {
        self.backlog.is_empty() && !self.is_dirty
    }

    /// Returns whether only the inner transport must be polled.
    #[inline]
    pub(super) fn is_steady(&self) -> bool {
        self.is_steady
    }

    /// Updates whether the queue is steady.
    fn settle(&mut self) {
        self.is_steady = matches!(self.phase, Phase::Open) && self.is_idle();
    }

    fn check_open(&self) -> Result<(), Error> {
        match &self.phase {
            Phase::Open => Ok(()),
            Phase::Closing => Err(Error::closed("this end was closed")),
            Phase::Overflowing(code) | Phase::Overflowed(code) => Err(backlog::closed_by(*code)),
            Phase::Failed(error) => Err(error.clone()),
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
        if matches!(self.phase, Phase::Closing) && self.backlog.is_empty() {
            // The inner transport knows the reason.
            ready!(inner.poll_ready(cx)).map_err(Into::into)?;
            return Poll::Ready(self.check_open());
        }
        self.check_open()?;
        // The promise is kept, but a message may have to wait behind others by now.
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
        // Room here is room enough: that is what the layer is for. The message then waits behind the others.
        if self.room == Room::None && self.has_room() {
            self.room = Room::Queue;
        }
        if self.room == Room::None { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    #[inline]
    pub(super) fn start_send<T: Transport<Out>>(&mut self, inner: Pin<&mut T>, message: Out) -> Result<(), Error> {
        // Nothing waits in front of the message: with anything in the queue, `poll_ready` would not have given this
        // room.
        if self.room == Room::Direct {
            self.room = Room::None;
            return inner.start_send(message).map_err(Into::into);
        }
        self.push(inner, message)
    }

    #[cold]
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
        // The user's functions run here, before the queue changes: one that panics leaves the queue as it was.
        let entry = self.measure.entry(message);
        if entry.is_last() {
            self.phase = Phase::Closing;
        }
        let pushed = self.backlog.push(entry, 0);
        self.stats.set(&self.backlog);
        let Pushed::Overflowed(code, ..) = pushed else { return Ok(()) };
        self.phase = Phase::Overflowing(code);
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

    fn poll_out<T: Transport<Out>>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if matches!(self.phase, Phase::Overflowing(_) | Phase::Overflowed(_) | Phase::Failed(_)) {
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
    fn poll_close_inner<T: Transport<Out>>(&self, inner: Pin<&mut T>) -> Poll<Result<(), T::TransportError>> {
        let frame = match self.phase {
            Phase::Overflowing(code) | Phase::Overflowed(code) => Some(backlog::too_slow(code)),
            _ => None,
        };
        signal::with_close_frame(frame.as_ref(), || inner.poll_close(&mut Context::from_waker(&self.both)))
    }

    pub(super) fn poll_close<T: Transport<Out>>(
        &mut self,
        mut inner: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if matches!(self.phase, Phase::Open) {
            self.phase = Phase::Closing;
            self.is_steady = false;
        }
        self.halves.writer.register(cx.waker());
        ready!(self.poll_hand_on(inner.as_mut()))?;
        ready!(self.poll_close_inner(inner)).map_err(Into::into)?;
        self.is_dirty = false;
        Poll::Ready(Ok(()))
    }
}

/// Hands waiting messages on.
impl<Out> SendQueue<Out> {
    /// On the reader's task, if the queue is not [steady](Self::is_steady): hands on waiting messages and flushes them.
    /// An error concerns one rejected message.
    #[cold]
    pub(super) fn move_on<T: Transport<Out>>(&mut self, inner: Pin<&mut T>, cx: &Context<'_>) -> Result<(), Error> {
        let moved = self.move_any(inner, cx);
        self.settle();
        moved
    }

    fn move_any<T: Transport<Out>>(&mut self, mut inner: Pin<&mut T>, cx: &Context<'_>) -> Result<(), Error> {
        if let Phase::Overflowing(code) = self.phase {
            self.halves.reader.register(cx.waker());
            if self.poll_close_inner(inner).is_ready() {
                self.phase = Phase::Overflowed(code);
            }
            return Ok(());
        }
        if self.is_idle() {
            return Ok(());
        }
        self.halves.reader.register(cx.waker());
        // The writer is woken only if it can find something new.
        let before = self.backlog.len();
        let moved = self.poll_flush_all(inner.as_mut());
        if moved.is_ready() || self.backlog.len() < before {
            // The writer may wait for exactly this.
            self.halves.writer.wake();
        }
        match moved {
            // The stream reports the reason more precisely.
            Poll::Ready(Err(error)) if !matches!(self.phase, Phase::Failed(_)) => Err(error),
            _ => Ok(()),
        }
    }

    /// Handles an item of the inner stream that is not a message. A waiting reader is also woken when messages that
    /// will wait here can be handed on.
    pub(super) fn no_message<In, E: Into<Error>>(
        &self,
        polled: Poll<Option<Result<In, E>>>,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<In, Error>>> {
        if polled.is_pending() {
            self.halves.reader.register(cx.waker());
        }
        polled.map_err(Into::into)
    }

    fn poll_flush_all<T: Transport<Out>>(&mut self, mut inner: Pin<&mut T>) -> Poll<Result<(), Error>> {
        ready!(self.poll_hand_on(inner.as_mut()))?;
        match ready!(inner.poll_flush(&mut Context::from_waker(&self.both))) {
            Ok(()) => {
                self.is_dirty = false;
                Poll::Ready(Ok(()))
            }
            Err(error) => Poll::Ready(Err(self.fail(error))),
        }
    }

    /// Hands waiting messages to the inner transport, while it has room.
    fn poll_hand_on<T: Transport<Out>>(&mut self, mut inner: Pin<&mut T>) -> Poll<Result<(), Error>> {
        if self.backlog.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let mut cx = Context::from_waker(&self.both);
        let result = loop {
            match inner.as_mut().poll_ready(&mut cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.fail(error))),
                Poll::Pending => break Poll::Pending,
            }
            let Some(entry) = self.backlog.pop() else { break Poll::Ready(Ok(())) };
            self.backlog.release(entry.size());
            self.is_dirty = true;
            if let Err(error) = inner.as_mut().start_send(entry.message) {
                let error = error.into();
                // It was accepted before, so the writer cannot be told by the call that sent it.
                self.backlog.count_dropped(1);
                if error.is_closed() && !error.is_rejection() {
                    return Poll::Ready(Err(self.fail(error)));
                }
                break Poll::Ready(Err(error.into_rejection().into_unsent()));
            }
            // Not every transport reports bytes, and a peer that takes messages one by one makes progress.
            signal::moved(1);
            if self.backlog.is_empty() {
                break Poll::Ready(Ok(()));
            }
        };
        self.stats.set(&self.backlog);
        result
    }

    /// Handles an error of the inner sink: waiting messages are lost, and counted. A rejection only concerns messages
    /// that the inner transport already has; waiting messages are still sent.
    fn fail(&mut self, error: impl Into<Error>) -> Error {
        let error = error.into();
        if error.is_rejection() {
            return error;
        }
        let closed = match error.is_closed() {
            true => error.clone(),
            false => Error::closed("the transport has failed").with_source(error.clone()),
        };
        // The messages are dropped now, not with the transport: nobody can send them any more, and they may be large.
        self.phase = Phase::Failed(closed);
        drop(self.backlog.discard());
        self.stats.set(&self.backlog);
        (self.is_dirty, self.is_steady) = (false, false);
        self.halves.writer.wake();
        error
    }
}

debug_fields!([Out] SendQueue<Out>, |this| {
    queued: this.backlog.len(),
    queued_bytes: this.backlog.bytes(),
    dropped: this.backlog.dropped(),
    phase,
});

/// The state of a queue, readable from anywhere: it is cheap to clone, and works while other code owns the transport.
///
/// Each of the three values is exact, but they are not from the same instant.
#[derive(Clone, Debug, Default)]
pub struct QueueStats(Arc<Figures>);

#[derive(Debug, Default)]
struct Figures {
    queued: AtomicUsize,
    bytes: AtomicUsize,
    dropped: AtomicU64,
}

impl QueueStats {
    /// Returns the number of waiting messages.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.0.queued.load(Relaxed)
    }

    /// Returns the number of waiting bytes, as the queue measures them.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.0.bytes.load(Relaxed)
    }

    /// Returns how many messages were dropped so far: by the queue's policy, because the transport rejected them, or
    /// because it ended first.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Relaxed)
    }

    /// Only the owner of the queue writes.
    fn set<Out>(&self, backlog: &Backlog<Out>) {
        self.0.queued.store(backlog.len(), Relaxed);
        self.0.bytes.store(backlog.bytes(), Relaxed);
        self.0.dropped.store(backlog.dropped(), Relaxed);
    }
}
