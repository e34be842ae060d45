use std::{collections::VecDeque, task::Waker};

use crate::Error;

/// The incoming queue: what the transport gave and the receiver has not taken.
pub(super) struct Inbox<In> {
    queue: VecDeque<Entry<In>>,
    /// How many of the queue are messages or errors.
    messages: usize,
    bytes: usize,
    max_messages: usize,
    max_bytes: usize,
    pub(super) size: fn(&In) -> usize,
    /// Nothing more will come.
    pub(super) ended: bool,
    /// Nobody will take it.
    pub(super) abandoned: bool,
    pub(super) receiver: Option<Waker>,
}

enum Entry<In> {
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
    pub(super) fn new(max_messages: usize, max_bytes: usize, size: fn(&In) -> usize) -> Self {
        Self {
            queue: VecDeque::with_capacity(max_messages.min(64)),
            messages: 0,
            bytes: 0,
            max_messages,
            max_bytes,
            size,
            ended: false,
            abandoned: false,
            receiver: None,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.abandoned || (self.messages < self.max_messages && self.bytes < self.max_bytes)
    }

    /// Takes what came in; gives the receiver to wake.
    pub(super) fn push(&mut self, message: Result<In, Error>) -> Option<Waker> {
        if self.abandoned {
            return None;
        }
        let size = message.as_ref().map_or(0, self.size);
        self.bytes += size;
        self.messages += 1;
        self.queue.push_back(Entry::Item(message, size));
        self.receiver.take()
    }

    /// Notes that the connection was lost, behind what came in before; gives the receiver to wake.
    pub(super) fn push_loss(&mut self) -> Option<Waker> {
        if self.abandoned || matches!(self.queue.back(), Some(Entry::Loss)) {
            return None;
        }
        self.queue.push_back(Entry::Loss);
        self.receiver.take()
    }

    /// Takes the oldest.
    pub(super) fn pop(&mut self) -> Option<Taken<In>> {
        let was_full = !self.has_room();
        let (message, size) = match self.queue.pop_front()? {
            Entry::Item(message, size) => (message, size),
            Entry::Loss => return Some(Taken::Loss),
        };
        self.bytes -= size;
        self.messages -= 1;
        Some(Taken::Item(message, was_full))
    }

    pub(super) fn len(&self) -> usize {
        self.messages
    }
}
