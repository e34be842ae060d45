use std::collections::VecDeque;

use crate::{Error, transport::backlog::KEPT};

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
