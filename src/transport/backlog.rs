use std::collections::VecDeque;

use super::{
    coalesce::Coalesce,
    queue::{CoalesceBy, Queue, WhenFull},
};
use crate::CloseCode;

/// How many messages that overtake may wait beside a full queue.
pub(crate) const CONTROL: usize = 64;

/// What waits to go out, in the bounds of a [`Queue`]: the one place that knows its policies. No I/O, no clock, no waker.
///
/// Bytes count from when a message is pushed until they are [released](Self::release), for whoever takes it out may have to
/// put it back.
pub(crate) struct Backlog<Out> {
    max_messages: usize,
    max_bytes: usize,
    policy: Policy<Out>,
    size: fn(&Out) -> usize,
    overtakes: fn(&Out) -> bool,
    ends: fn(&Out) -> bool,
    control: VecDeque<Out>,
    data: VecDeque<Out>,
    bytes: usize,
    /// The place of the first of `data`: how many were before it.
    first: u64,
    dropped: u64,
}

/// [`WhenFull`], at work.
enum Policy<Out> {
    Block,
    DropOldest,
    DropNewest,
    Coalesce(Box<dyn Coalesce<Out> + Send + Sync>),
    Close(CloseCode),
}

/// What became of a message that was pushed. Whatever was dropped is counted already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// It waits ahead of the data.
    Ahead,
    /// It waits behind the rest.
    Behind,
    /// It waits behind the rest, of which the oldest was dropped.
    InPlaceOfOldest,
    /// It has taken the place of another, which was dropped.
    InPlace,
    /// It was dropped.
    Dropped,
    /// It and all that waited was dropped: the connection is to be closed with this code.
    Overflowed(CloseCode),
}

impl<Out> Backlog<Out> {
    pub(crate) fn new<In>(queue: &Queue<Out, In>) -> Self {
        let policy = match &queue.when_full {
            WhenFull::Block => Policy::Block,
            WhenFull::DropOldest => Policy::DropOldest,
            WhenFull::DropNewest => Policy::DropNewest,
            WhenFull::CoalesceBy(CoalesceBy(keys)) => Policy::Coalesce(keys.start()),
            WhenFull::Close(code) => Policy::Close(*code),
        };
        Self {
            max_messages: queue.max_messages,
            max_bytes: queue.max_bytes,
            policy,
            size: queue.size_out,
            overtakes: queue.overtakes,
            ends: queue.ends,
            control: VecDeque::new(),
            data: VecDeque::with_capacity(queue.max_messages.min(64)),
            bytes: 0,
            first: 0,
            dropped: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.control.len() + self.data.len()
    }

    #[allow(dead_code, reason = "the queue layer uses it, which is a feature")]
    pub(crate) fn is_empty(&self) -> bool {
        self.control.is_empty() && self.data.is_empty()
    }

    pub(crate) fn control(&self) -> usize {
        self.control.len()
    }

    pub(crate) fn data(&self) -> usize {
        self.data.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Counts messages that were dropped after they were taken out.
    pub(crate) fn count_dropped(&mut self, messages: u64) {
        self.dropped += messages;
    }

    /// Whether the policy is to wait for room, or at least for that of the same key.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.policy, Policy::Block | Policy::Coalesce(_))
    }

    /// How many more may be pushed, where so many count that are elsewhere.
    pub(crate) fn free(&self, elsewhere: usize) -> usize {
        if self.bytes >= self.max_bytes {
            return 0;
        }
        self.max_messages.saturating_sub(self.len() + elsewhere)
    }

    /// The size of a message, as the queue measures it.
    pub(crate) fn size(&self, message: &Out) -> usize {
        (self.size)(message)
    }

    /// Whether no data may follow this message.
    pub(crate) fn ends(&self, message: &Out) -> bool {
        (self.ends)(message)
    }

    /// Where a message waits that this one replaces.
    pub(crate) fn place(&self, message: &Out) -> Option<usize> {
        match &self.policy {
            Policy::Coalesce(keys) if !self.ends(message) => Some((keys.place(message)? - self.first) as usize),
            _ => None,
        }
    }

    /// Takes a message, by the policy; `elsewhere` as in [`free`](Self::free). Where the policy is to wait, that is the
    /// caller's to do, first.
    pub(crate) fn push(&mut self, message: Out, elsewhere: usize) -> Pushed {
        let size = self.size(&message);
        if (self.overtakes)(&message) && (self.waits() || self.control.len() < CONTROL) {
            self.bytes += size;
            self.control.push_back(message);
            return Pushed::Ahead;
        }
        if let Some(waiting) = self.place(&message).and_then(|place| self.data.get_mut(place)) {
            self.bytes = self.bytes - (self.size)(waiting) + size;
            *waiting = message;
            self.dropped += 1;
            return Pushed::InPlace;
        }
        // The last message of all is not dropped for want of room.
        let is_last = self.ends(&message);
        let is_full = !is_last && (self.data.len() + elsewhere >= self.max_messages || self.bytes >= self.max_bytes);
        let mut pushed = Pushed::Behind;
        match &mut self.policy {
            Policy::DropNewest if is_full => {
                self.dropped += 1;
                return Pushed::Dropped;
            }
            Policy::DropOldest if is_full => {
                self.dropped += 1;
                // All that waits may be elsewhere already, or the end stands there.
                if self.data.front().is_none_or(self.ends) {
                    return Pushed::Dropped;
                }
                let Some(oldest) = self.data.pop_front() else { return Pushed::Dropped };
                self.bytes -= (self.size)(&oldest);
                self.first += 1;
                pushed = Pushed::InPlaceOfOldest;
            }
            Policy::Close(code) if is_full => {
                let code = *code;
                self.dropped += 1;
                self.discard();
                return Pushed::Overflowed(code);
            }
            Policy::Coalesce(keys) if !is_last => keys.put(&message, self.first + self.data.len() as u64),
            _ => {}
        }
        self.bytes += size;
        self.data.push_back(message);
        pushed
    }

    /// Takes out what goes next, and tells whether that had overtaken. Its bytes are still counted.
    pub(crate) fn pop(&mut self) -> Option<(Out, bool)> {
        if let Some(message) = self.control.pop_front() {
            return Some((message, true));
        }
        let message = self.data.pop_front()?;
        if let Policy::Coalesce(keys) = &mut self.policy
            && !(self.ends)(&message)
        {
            keys.take(&message);
        }
        self.first += 1;
        Some((message, false))
    }

    /// Puts back what was taken out last; it goes first again. `false` where it was dropped, and counted: a newer one of the
    /// same key has come meanwhile.
    pub(crate) fn put_back(&mut self, message: Out, is_control: bool) -> bool {
        if is_control {
            self.control.push_front(message);
            return true;
        }
        if let Policy::Coalesce(keys) = &mut self.policy
            && !(self.ends)(&message)
        {
            if keys.place(&message).is_some() {
                self.bytes -= (self.size)(&message);
                self.dropped += 1;
                return false;
            }
            keys.put(&message, self.first - 1);
        }
        self.first -= 1;
        self.data.push_front(message);
        true
    }

    /// What was taken out with so many bytes will not be put back.
    pub(crate) fn release(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Drops all that waits, and counts the data.
    pub(crate) fn discard(&mut self) {
        self.dropped += self.data.len() as u64;
        self.control.clear();
        self.data.clear();
        self.bytes = 0;
    }

    /// What an error of an overflow says.
    pub(crate) fn overflow(&self, code: CloseCode) -> crate::Error {
        crate::Error::full(format!(
            "the outgoing queue is full ({} messages, {} bytes at most): the connection is closed with {code}",
            self.max_messages, self.max_bytes
        ))
    }
}

/// What is said once a queue has overflowed.
pub(crate) fn closed_by(code: CloseCode) -> crate::Error {
    crate::Error::closed(format!("the outgoing queue was full, and its policy closed the connection with {code}"))
}

/// What a peer is told that was too slow.
pub(crate) fn too_slow(code: CloseCode) -> crate::CloseFrame {
    crate::CloseFrame::new(code, "too slow: the outgoing queue was full")
}
