use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::Queues;
use crate::{
    Error,
    transport::{backlog::KEPT, signal},
};

/// The reading end of a [driven](crate::TransportExt::drive) transport.
///
/// While its inbox is full ([`Queue::max_inbox`](crate::Queue::max_inbox)), the driver does not read from the
/// transport: this applies backpressure to the peer. Dropping the receiver does not stop the writing; incoming messages
/// are then dropped.
///
/// Errors of the transport are yielded unchanged, and the transport decides whether more items follow. A message that
/// the transport rejects individually (too large, or not encodable) was accepted by the queue, so its error is yielded
/// here while there is room for it. [`Sender::dropped`](crate::Sender::dropped) counts it in any case. Messages lost
/// with a connection are also reported here if the transport continues with another one
/// ([`WhenLost::Fail`](crate::layer::reconnect::WhenLost::Fail) of a reconnecting transport). The error of each of
/// these [is a rejection](Error::is_rejection).
pub struct Receiver<Out, In = Out> {
    queues: Arc<Queues<Out, In>>,
}

impl<Out, In> Receiver<Out, In> {
    pub(super) fn new(queues: Arc<Queues<Out, In>>) -> Self {
        Self { queues }
    }

    /// Receives one message. Returns `None` once the transport has ended and all messages were received.
    ///
    /// # Errors
    ///
    /// Returns the errors of the transport.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn receive(&mut self) -> Option<Result<In, Error>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl<Out, In> Receiver<Out, In> {
    fn take(&self) -> Poll<Option<Result<In, Error>>> {
        let mut inbox = self.queues.inbox();
        let (message, made_room) = loop {
            match inbox.pop() {
                Some(Taken::Item(message, made_room)) => break (message, made_room),
                Some(Taken::Loss) => signal::connection_lost(),
                None if inbox.ended => return Poll::Ready(None),
                None => return Poll::Pending,
            }
        };
        inbox.is_awaited = false;
        drop(inbox);
        if made_room {
            self.queues.driver.wake();
        }
        Poll::Ready(Some(message))
    }
}

impl<Out, In> Stream for Receiver<Out, In> {
    type Item = Result<In, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(message) = self.take() {
            return Poll::Ready(message);
        }
        // Without the lock: cloning a waker runs executor code.
        self.queues.receiver.register(cx.waker());
        self.queues.inbox().is_awaited = true;
        self.take()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.queues.inbox().len(), None)
    }
}

impl<Out, In> Drop for Receiver<Out, In> {
    fn drop(&mut self) {
        // The messages are dropped after the lock is released.
        let unread = self.queues.inbox().abandon();
        drop(unread);
        self.queues.driver.wake();
    }
}

impl<Out, In> fmt::Debug for Receiver<Out, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.queues.inbox().len();
        f.debug_struct("Receiver").field("waiting", &waiting).finish_non_exhaustive()
    }
}

/// The incoming queue: items from the transport that the receiver has not taken.
pub(super) struct Inbox<In> {
    queue: VecDeque<Entry<In>>,
    /// The number of messages and errors in the queue.
    messages: usize,
    bytes: usize,
    max_messages: usize,
    max_bytes: usize,
    /// Whether no more items will arrive.
    pub(super) ended: bool,
    /// Whether the receiver is gone.
    pub(super) abandoned: bool,
    /// Whether the receiver found nothing and has registered its waker.
    pub(super) is_awaited: bool,
}

/// An entry of the inbox.
pub(super) enum Entry<In> {
    /// An item from the transport, and its size.
    Item(Result<In, Error>, usize),
    /// A lost connection: later items come from another one. There are never two in a row, so the queue stays bounded.
    Loss,
}

/// An entry taken by the receiver.
pub(super) enum Taken<In> {
    /// An item from the transport, and whether taking it made room in a full inbox.
    Item(Result<In, Error>, bool),
    Loss,
}

impl<In> Inbox<In> {
    pub(super) fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            messages: 0,
            bytes: 0,
            max_messages,
            max_bytes,
            ended: false,
            abandoned: false,
            is_awaited: false,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.abandoned || (self.messages < self.max_messages && self.bytes < self.max_bytes)
    }

    /// Adds a message of this size, or returns it if the receiver is gone.
    #[must_use = "drop it once the queue is unlocked"]
    pub(super) fn push(&mut self, message: Result<In, Error>, size: usize) -> Option<Result<In, Error>> {
        if self.abandoned {
            return Some(message);
        }
        self.bytes = self.bytes.saturating_add(size);
        self.messages += 1;
        self.queue.push_back(Entry::Item(message, size));
        None
    }

    /// Records that the connection was lost, after the items that arrived before.
    pub(super) fn push_loss(&mut self) {
        if !self.abandoned && !matches!(self.queue.back(), Some(Entry::Loss)) {
            self.queue.push_back(Entry::Loss);
        }
    }

    /// Takes the oldest entry.
    pub(super) fn pop(&mut self) -> Option<Taken<In>> {
        let was_full = !self.has_room();
        let (message, size) = match self.queue.pop_front()? {
            Entry::Item(message, size) => (message, size),
            Entry::Loss => return Some(Taken::Loss),
        };
        self.messages -= 1;
        // Sizes come from the user and may add up to any number. An empty queue holds zero bytes.
        self.bytes = if self.queue.is_empty() { 0 } else { self.bytes.saturating_sub(size) };
        Some(Taken::Item(message, was_full))
    }

    /// Marks the receiver as gone. Returns the entries, to be dropped.
    #[must_use = "drop it once the queue is unlocked"]
    pub(super) fn abandon(&mut self) -> VecDeque<Entry<In>> {
        self.abandoned = true;
        (self.messages, self.bytes) = (0, 0);
        std::mem::take(&mut self.queue)
    }

    pub(super) fn len(&self) -> usize {
        self.messages
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    pub(super) fn has_spare(&self) -> bool {
        self.queue.is_empty() && self.queue.capacity() > 2 * KEPT
    }

    /// Releases memory that an idle inbox does not need.
    pub(super) fn trim(&mut self) {
        if self.has_spare() {
            self.queue.shrink_to(KEPT);
        }
    }
}
