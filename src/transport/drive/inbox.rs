use std::collections::VecDeque;

use crate::{Error, transport::backlog::KEPT};

/// The incoming queue: what the transport gave and the receiver has not taken.
pub(super) struct Inbox<In> {
    queue: VecDeque<Entry<In>>,
    /// How many of the queue are messages or errors.
    messages: usize,
    bytes: usize,
    max_messages: usize,
    max_bytes: usize,
    /// Nothing more will come.
    pub(super) ended: bool,
    /// Nobody will take it.
    pub(super) abandoned: bool,
    /// The receiver found nothing, and has registered its waker.
    pub(super) is_awaited: bool,
}

/// What stands in the inbox.
pub(super) enum Entry<In> {
    /// What the transport gave, and its size.
    Item(Result<In, Error>, usize),
    /// The connection was lost: what follows comes from another. Never two in a row, so the queue stays bounded.
    Loss,
}

/// What the receiver takes.
pub(super) enum Taken<In> {
    /// What the transport gave, and whether taking it made room in a full inbox.
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

    /// Adds a message of this size, or gives it back where nobody will take it.
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

    /// Notes that the connection was lost, behind what came in before.
    pub(super) fn push_loss(&mut self) {
        if !self.abandoned && !matches!(self.queue.back(), Some(Entry::Loss)) {
            self.queue.push_back(Entry::Loss);
        }
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<Taken<In>> {
        let was_full = !self.has_room();
        let (message, size) = match self.queue.pop_front()? {
            Entry::Item(message, size) => (message, size),
            Entry::Loss => return Some(Taken::Loss),
        };
        self.messages -= 1;
        // Sizes are the user's and may add up to anything; an empty queue holds nothing.
        self.bytes = if self.queue.is_empty() { 0 } else { self.bytes.saturating_sub(size) };
        Some(Taken::Item(message, was_full))
    }

    /// Nobody will take what is here, nor what comes: gives it to be dropped.
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

    /// Gives memory back that an idle inbox does not need.
    pub(super) fn trim(&mut self) {
        if self.has_spare() {
            self.queue.shrink_to(KEPT);
        }
    }
}
