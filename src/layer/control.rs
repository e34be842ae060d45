//! What a layer says by itself, beside the messages that pass through it: pings, acknowledgements, a close.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
};

use futures_sink::Sink;

use crate::transport::wakers::WakerPair;

/// The outgoing side of a layer that has messages of its own. The layer's sink methods are those of this type; whoever reads
/// calls [`poll_send`](Self::poll_send), so that the own messages leave though nobody writes.
///
/// Three things are easy to get wrong there, and are held here:
///
/// - **Order.** What is [pushed](Self::push) and what the user sends goes out in the order in which it came.
/// - **A place that was promised.** The user was told "ready", then an own message took the room: the user's message is
///   accepted all the same and waits behind it. So at most one message of the user waits here.
/// - **Wake-ups.** An own write on the reader's task would put the reader's waker where the writer's stood: while there is
///   something of its own to write, the transport below gets a waker that wakes both.
///
/// The layer bounds what it pushes: see [`len`](Self::len).
pub(crate) struct Control<M> {
    /// Own messages, and at most one of the user's.
    queue: VecDeque<M>,
    /// The user was told that there is room, and has not used it.
    is_promised: bool,
    /// An own message took the room since.
    is_taken: bool,
    /// The transport holds own messages that were not flushed.
    is_dirty: bool,
    /// The layer has ended the transport.
    is_over: bool,
    /// None of all this: a sink method has nothing to do but to ask the transport below. One look for each message.
    is_steady: bool,
    halves: Arc<WakerPair>,
    both: Waker,
}

impl<M> Control<M> {
    pub(crate) fn new() -> Self {
        let (halves, both) = WakerPair::new();
        Self {
            queue: VecDeque::new(),
            is_promised: false,
            is_taken: false,
            is_dirty: false,
            is_over: false,
            is_steady: true,
            halves,
            both,
        }
    }

    /// Lets the layer say `message`, after all that was accepted before. [`poll_send`](Self::poll_send) or the sink's methods
    /// send it.
    pub(crate) fn push(&mut self, message: M) {
        self.queue.push_back(message);
        self.is_steady = false;
    }

    /// Has the transport below flushed though nothing was pushed: it may hold an answer of its own, to a ping say.
    pub(crate) fn flush_soon(&mut self) {
        self.is_dirty = true;
        self.is_steady = false;
    }

    /// The layer has ended the transport: wakes the writer, which will find out, for this is not
    /// [steady](Self::is_steady) any more.
    pub(crate) fn end(&mut self) {
        self.is_over = true;
        self.is_steady = false;
        self.halves.writer.wake();
    }

    /// Whether a sink method has nothing to do but to ask the transport below. Mostly so: whatever else a layer has to look
    /// at for each message it may look at only when this is false, if it makes sure that it is.
    #[inline]
    pub(crate) fn is_steady(&self) -> bool {
        self.is_steady
    }

    /// Looks whether this has become steady.
    fn settle(&mut self) {
        self.is_steady = self.is_idle() && !self.is_taken && !self.is_over;
    }

    /// How many messages wait: own ones, and at most one of the user's.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing of the layer's own waits to be sent or flushed.
    #[inline]
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.is_dirty
    }

    /// The messages that wait, for a layer that replaces one by a newer one.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut M> {
        self.queue.iter_mut()
    }

    /// On the reader's task: sends and flushes what waits. Ready when there is nothing of the layer's own to be written.
    pub(crate) fn poll_send<T: Sink<M>>(&mut self, inner: Pin<&mut T>, cx: &Context<'_>) -> Poll<Result<(), T::Error>> {
        if self.is_idle() {
            return Poll::Ready(Ok(()));
        }
        self.halves.reader.register(cx.waker());
        self.poll_all(inner, Sink::poll_flush)
    }

    /// On the reader's task: sends what waits, and closes. Ready when the transport below is closed.
    pub(crate) fn poll_shutdown<T: Sink<M>>(
        &mut self,
        inner: Pin<&mut T>,
        cx: &Context<'_>,
    ) -> Poll<Result<(), T::Error>> {
        self.halves.reader.register(cx.waker());
        self.poll_all(inner, Sink::poll_close)
    }

    /// The layer's `poll_ready`.
    #[inline]
    pub(crate) fn poll_ready<T: Sink<M>>(
        &mut self,
        mut inner: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), T::Error>> {
        if self.is_steady {
            return match inner.as_mut().poll_ready(cx) {
                Poll::Ready(Ok(())) => {
                    self.is_promised = true;
                    Poll::Ready(Ok(()))
                }
                Poll::Pending => self.writer_waits(cx),
                failed => failed,
            };
        }
        self.poll_room(inner, cx)
    }

    #[cold]
    #[inline(never)]
    fn poll_room<T: Sink<M>>(&mut self, mut inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.halves.writer.register(cx.waker());
        let room = match self.poll_queue(inner.as_mut()) {
            Poll::Ready(Ok(())) => inner.poll_ready(&mut Context::from_waker(&self.both)),
            other => other,
        };
        match room {
            // What was promised is kept, whatever an own message has done since.
            Poll::Pending if self.is_promised => Poll::Ready(Ok(())),
            Poll::Ready(Ok(())) => {
                self.is_promised = true;
                self.is_taken = false;
                self.settle();
                Poll::Ready(Ok(()))
            }
            other => other,
        }
    }

    /// Whether a message of the user goes straight to the transport below: then its `start_send` is to be called, and not
    /// this type's. (The compiler copies a message that is given through another function.)
    #[inline]
    pub(crate) fn passes(&mut self) -> bool {
        if self.is_steady {
            self.is_promised = false;
        }
        self.is_steady
    }

    /// The layer's `start_send`.
    #[inline]
    pub(crate) fn start_send<T: Sink<M>>(&mut self, inner: Pin<&mut T>, message: M) -> Result<(), T::Error> {
        if self.passes() {
            return inner.start_send(message);
        }
        self.send_behind(inner, message)
    }

    #[cold]
    #[inline(never)]
    fn send_behind<T: Sink<M>>(&mut self, inner: Pin<&mut T>, message: M) -> Result<(), T::Error> {
        let is_behind = std::mem::take(&mut self.is_taken) || !self.queue.is_empty();
        self.settle();
        if std::mem::take(&mut self.is_promised) && is_behind {
            self.push(message);
            return Ok(());
        }
        inner.start_send(message)
    }

    /// The layer's `poll_flush`.
    #[inline]
    pub(crate) fn poll_flush<T: Sink<M>>(
        &mut self,
        inner: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), T::Error>> {
        self.poll_as_writer(inner, cx, Sink::poll_flush)
    }

    /// The layer's `poll_close`.
    pub(crate) fn poll_close<T: Sink<M>>(
        &mut self,
        inner: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), T::Error>> {
        self.poll_as_writer(inner, cx, Sink::poll_close)
    }

    #[inline]
    fn poll_as_writer<T: Sink<M>>(
        &mut self,
        inner: Pin<&mut T>,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<Result<(), T::Error>>,
    ) -> Poll<Result<(), T::Error>> {
        if self.is_steady {
            return match poll(inner, cx) {
                Poll::Pending => self.writer_waits(cx),
                ready => ready,
            };
        }
        self.poll_behind(inner, cx, poll)
    }

    #[cold]
    #[inline(never)]
    fn poll_behind<T: Sink<M>>(
        &mut self,
        inner: Pin<&mut T>,
        cx: &mut Context<'_>,
        poll: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<Result<(), T::Error>>,
    ) -> Poll<Result<(), T::Error>> {
        self.halves.writer.register(cx.waker());
        if self.is_idle() {
            return poll(inner, cx);
        }
        self.poll_all(inner, poll)
    }

    /// The transport below has the writer's own waker; from now on it is known here too, for when the reader writes.
    #[cold]
    #[inline(never)]
    fn writer_waits<R>(&self, cx: &Context<'_>) -> Poll<R> {
        self.halves.writer.register(cx.waker());
        Poll::Pending
    }

    /// Gives all that waits to the transport below, then polls it to be flushed or closed.
    fn poll_all<T: Sink<M>>(
        &mut self,
        mut inner: Pin<&mut T>,
        poll: impl FnOnce(Pin<&mut T>, &mut Context<'_>) -> Poll<Result<(), T::Error>>,
    ) -> Poll<Result<(), T::Error>> {
        ready!(self.poll_queue(inner.as_mut()))?;
        ready!(poll(inner, &mut Context::from_waker(&self.both)))?;
        self.is_dirty = false;
        self.settle();
        Poll::Ready(Ok(()))
    }

    fn poll_queue<T: Sink<M>>(&mut self, mut inner: Pin<&mut T>) -> Poll<Result<(), T::Error>> {
        while !self.queue.is_empty() {
            ready!(inner.as_mut().poll_ready(&mut Context::from_waker(&self.both)))?;
            let Some(message) = self.queue.pop_front() else { break };
            self.is_taken = self.is_promised;
            self.is_dirty = true;
            self.is_steady = false;
            inner.as_mut().start_send(message)?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<M> fmt::Debug for Control<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("waiting", &self.queue.len()).field("is_dirty", &self.is_dirty).finish()
    }
}

#[cfg(test)]
mod tests;
