use std::fmt;

use bytes::{Bytes, BytesMut};

use super::{BatchPolicy, format};
use crate::{
    Error, Message,
    message::trailer::{self, Layer},
};

/// A buffer and an index larger than this are given away with their batch instead of being reused.
const KEEP: usize = 4 * 1024;

/// The messages that wait to be sent as one. Pure: no I/O, no clock.
pub(super) struct Pack {
    policy: BatchPolicy,
    /// The only message so far, which may be sent alone, uncopied.
    first: Option<Message>,
    count: usize,
    /// The number of payload bytes, including the first message.
    bytes: usize,
    payload: BytesMut,
    index: Vec<u8>,
    /// The size of the last batch, used as an estimate for the next.
    last: usize,
}

impl Pack {
    pub(super) fn new(policy: BatchPolicy) -> Self {
        Self { policy, first: None, count: 0, bytes: 0, payload: BytesMut::new(), index: Vec::new(), last: 0 }
    }

    pub(super) const fn policy(&self) -> &BatchPolicy {
        &self.policy
    }

    /// Returns the number of waiting messages.
    pub(super) const fn len(&self) -> usize {
        self.count
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns whether a message of this length can join.
    pub(super) const fn has_room(&self, len: usize) -> bool {
        self.policy.allows(self.count + 1, self.bytes.saturating_add(len))
    }

    /// Returns whether the waiting messages are a full batch. Nothing is no batch, even where no byte is allowed: room
    /// is made by sending what waits, so there has to be something.
    pub(super) const fn is_full(&self) -> bool {
        !self.is_empty() && self.policy.is_reached(self.count, self.bytes)
    }

    /// Returns whether a data message of this length would wait alone.
    #[inline]
    pub(super) const fn is_open_for_first(&self, len: usize) -> bool {
        self.count == 0 && !self.policy.goes_alone(len) && !self.policy.is_reached(1, len)
    }

    /// Stores a message that waits alone.
    #[inline]
    pub(super) fn set_first(&mut self, message: Message, len: usize) {
        self.count = 1;
        self.bytes = len;
        self.first = Some(message);
    }

    /// Takes the message that waits alone, if it can be sent as it is.
    #[inline]
    pub(super) fn take_alone(&mut self) -> Option<Message> {
        match &self.first {
            // It looks like a batch, so it has to be escaped, which `take` does.
            Some(Message::Binary(payload)) if trailer::kind(Layer::Batch, payload).is_some() => return None,
            None => return None,
            Some(_) => {}
        }
        self.count = 0;
        self.bytes = 0;
        self.first.take()
    }

    /// Adds a data message of this length, for which there is room.
    #[inline]
    pub(super) fn add(&mut self, message: Message, len: usize) {
        if self.count == 0 {
            return self.set_first(message, len);
        }
        self.count += 1;
        self.bytes += len;
        if self.first.is_some() {
            self.begin();
        }
        self.append(&message);
    }

    /// Starts a batch when a second message joins the first.
    fn begin(&mut self) {
        // Batches of one connection are alike, so the last one is the best guess.
        let expected = self.last.max(2 * self.bytes).max(64);
        // If the transport below is done with the last batch, its memory is reused.
        if !self.payload.try_reclaim(expected) {
            self.payload = BytesMut::with_capacity(expected);
        }
        if let Some(first) = self.first.take() {
            self.append(&first);
        }
    }

    #[inline]
    fn append(&mut self, message: &Message) {
        let payload = message.as_bytes();
        self.payload.extend_from_slice(payload);
        format::push_entry(&mut self.index, payload.len(), matches!(message, Message::Text(_)));
    }

    /// Takes everything that waits as one message: a batch, or the single message itself.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Message> {
        if let Some(alone) = self.first.take() {
            self.count = 0;
            self.bytes = 0;
            return Some(trailer::close(Layer::Batch, alone));
        }
        (!self.is_empty()).then(|| Message::Binary(self.finish()))
    }

    fn finish(&mut self) -> Bytes {
        self.count = 0;
        self.bytes = 0;
        format::finish(&mut self.payload, &self.index);
        self.index.clear();
        self.index.shrink_to(KEEP);
        self.last = self.payload.len();
        match self.payload.capacity() <= KEEP {
            true => self.payload.split().freeze(),
            // No other handle exists, so a WebSocket can mask it in place.
            false => std::mem::take(&mut self.payload).freeze(),
        }
    }
}

impl fmt::Debug for Pack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pack").field("count", &self.count).field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

/// Handles a batch that the transport below did not accept.
pub(super) fn refused(error: Error, count: usize) -> Error {
    if count < 2 || error.is_closed() {
        return error;
    }
    error.context(format!(
        "a batch of {count} messages was refused by the transport below and not sent; its message limit must be above \
         BatchPolicy::max_bytes"
    ))
}
