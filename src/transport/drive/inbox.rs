use std::{collections::VecDeque, task::Waker};

use crate::Error;

/// The incoming queue: what the transport gave and the receiver has not taken.
pub(super) struct Inbox<In> {
    queue: VecDeque<(Result<In, Error>, usize)>,
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

impl<In> Inbox<In> {
    pub(super) fn new(max_messages: usize, max_bytes: usize, size: fn(&In) -> usize) -> Self {
        Self {
            queue: VecDeque::with_capacity(max_messages.min(64)),
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
        self.abandoned || (self.queue.len() < self.max_messages && self.bytes < self.max_bytes)
    }

    /// Takes what came in; gives the receiver to wake.
    pub(super) fn push(&mut self, message: Result<In, Error>) -> Option<Waker> {
        if self.abandoned {
            return None;
        }
        let size = message.as_ref().map_or(0, self.size);
        self.bytes += size;
        self.queue.push_back((message, size));
        self.receiver.take()
    }

    /// Gives the oldest, and whether that made room in a full inbox.
    pub(super) fn pop(&mut self) -> Option<(Result<In, Error>, bool)> {
        let was_full = !self.has_room();
        let (message, size) = self.queue.pop_front()?;
        self.bytes -= size;
        Some((message, was_full))
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}
