use std::collections::{HashMap, VecDeque};

use super::{
    coalesce::KeyOf,
    queue::{CoalesceBy, Queue, WhenFull},
};
use crate::{CloseCode, fingerprint::Fingerprint};

/// How many messages that overtake may wait next to a full queue.
pub(crate) const CONTROL: usize = 64;

/// Room for this many messages is kept while a queue is idle.
pub(crate) const KEPT: usize = 16;

/// How a queue looks at a message. These are the user's functions: they run before the queue is locked, never under its lock.
pub(crate) struct Measure<Out> {
    size: fn(&Out) -> usize,
    overtakes: fn(&Out) -> bool,
    ends: fn(&Out) -> bool,
    key: Option<KeyOf<Out>>,
}

/// A message, and all that a queue has to know about it.
pub(crate) struct Entry<Out> {
    pub(crate) message: Out,
    /// In bytes, at most 4 GiB: sums of sizes cannot overflow.
    size: u32,
    kind: Kind,
    key: Option<Fingerprint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Overtakes data.
    Control,
    Data,
    /// No data may follow.
    Last,
}

impl<Out> Measure<Out> {
    pub(crate) fn new<In>(queue: &Queue<Out, In>) -> Self {
        let key = match &queue.when_full {
            WhenFull::CoalesceBy(CoalesceBy(key)) => Some(key.clone()),
            _ => None,
        };
        Self { size: queue.size_out, overtakes: queue.overtakes, ends: queue.ends, key }
    }

    pub(crate) fn entry(&self, message: Out) -> Entry<Out> {
        let kind = match () {
            () if (self.overtakes)(&message) => Kind::Control,
            () if (self.ends)(&message) => Kind::Last,
            () => Kind::Data,
        };
        let key = match (&self.key, kind) {
            (Some(key), Kind::Data) => key(&message),
            _ => None,
        };
        let size = u32::try_from((self.size)(&message)).unwrap_or(u32::MAX);
        Entry { message, size, kind, key }
    }
}

impl<Out> Entry<Out> {
    pub(crate) fn size(&self) -> u64 {
        self.size.into()
    }

    pub(crate) fn is_control(&self) -> bool {
        self.kind == Kind::Control
    }

    /// Whether no data may follow this message.
    pub(crate) fn is_last(&self) -> bool {
        self.kind == Kind::Last
    }
}

/// What waits to go out, in the bounds of a [`Queue`]: the one place that knows its policies. No I/O, no clock, no waker.
///
/// It drops no message: what its policy removes is returned, so that a queue under a lock can drop it after unlocking.
///
/// Bytes count from when a message is pushed until they are [released](Self::release), for whoever takes it out may have to
/// put it back.
pub(crate) struct Backlog<Out> {
    max_messages: usize,
    max_bytes: u64,
    policy: Policy,
    control: VecDeque<Entry<Out>>,
    data: VecDeque<Entry<Out>>,
    /// Which key waits where, with [`Policy::Coalesce`].
    places: HashMap<Fingerprint, u64>,
    bytes: u64,
    /// The place of the first of `data`: how many were before it.
    first: u64,
    dropped: u64,
}

/// [`WhenFull`], at work.
#[derive(Clone, Copy)]
enum Policy {
    Block,
    DropOldest,
    DropNewest,
    Coalesce,
    Close(CloseCode),
}

/// What became of a message that was pushed, with what was dropped, which is counted already.
#[must_use = "drop it once the queue is unlocked"]
pub(crate) enum Pushed<Out> {
    /// It waits ahead of the data.
    Ahead,
    /// It waits behind the rest.
    Behind,
    /// It waits behind the rest, of which the oldest was dropped.
    InPlaceOfOldest(Entry<Out>),
    /// It has taken the place of another, which was dropped.
    InPlace(Entry<Out>),
    /// It was dropped.
    Dropped(Entry<Out>),
    /// It and all that waited was dropped: the connection is to be closed with this code.
    Overflowed(CloseCode, Entry<Out>, Discarded<Out>),
}

/// All that waited, control and data.
#[must_use = "drop it once the queue is unlocked"]
pub(crate) struct Discarded<Out>(#[allow(dead_code, reason = "held to be dropped")] [VecDeque<Entry<Out>>; 2]);

impl<Out> Backlog<Out> {
    pub(crate) fn new<In>(queue: &Queue<Out, In>) -> Self {
        let policy = match &queue.when_full {
            WhenFull::Block => Policy::Block,
            WhenFull::DropOldest => Policy::DropOldest,
            WhenFull::DropNewest => Policy::DropNewest,
            WhenFull::CoalesceBy(_) => Policy::Coalesce,
            WhenFull::Close(code) => Policy::Close(*code),
        };
        Self {
            max_messages: queue.max_messages,
            max_bytes: queue.max_bytes as u64,
            policy,
            control: VecDeque::new(),
            data: VecDeque::new(),
            places: HashMap::new(),
            bytes: 0,
            first: 0,
            dropped: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.control.len() + self.data.len()
    }

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
        usize::try_from(self.bytes).unwrap_or(usize::MAX)
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
        matches!(self.policy, Policy::Block | Policy::Coalesce)
    }

    /// How many more may be pushed, while `elsewhere` messages count that are not here.
    pub(crate) fn free(&self, elsewhere: usize) -> usize {
        if self.bytes >= self.max_bytes {
            return 0;
        }
        self.max_messages.saturating_sub(self.len() + elsewhere)
    }

    /// Where a message waits that this one replaces.
    pub(crate) fn place(&self, entry: &Entry<Out>) -> Option<usize> {
        Some((self.places.get(&entry.key?)? - self.first) as usize)
    }

    /// Takes a message, by the policy; `elsewhere` as in [`free`](Self::free). Where the policy is to wait, that is the
    /// caller's to do, first.
    pub(crate) fn push(&mut self, entry: Entry<Out>, elsewhere: usize) -> Pushed<Out> {
        let size = entry.size();
        if entry.is_control() && (self.waits() || self.control.len() < CONTROL) {
            self.bytes += size;
            self.control.push_back(entry);
            return Pushed::Ahead;
        }
        if let Some(waiting) = self.place(&entry).and_then(|place| self.data.get_mut(place)) {
            self.bytes = self.bytes - waiting.size() + size;
            self.dropped += 1;
            return Pushed::InPlace(std::mem::replace(waiting, entry));
        }
        // The last message of all is not dropped for want of room.
        let is_full =
            !entry.is_last() && (self.data.len() + elsewhere >= self.max_messages || self.bytes >= self.max_bytes);
        let mut pushed = Pushed::Behind;
        match self.policy {
            Policy::DropNewest if is_full => {
                self.dropped += 1;
                return Pushed::Dropped(entry);
            }
            Policy::DropOldest if is_full => {
                self.dropped += 1;
                // All that waits may be elsewhere already, or the end stands there.
                if self.data.front().is_none_or(Entry::is_last) {
                    return Pushed::Dropped(entry);
                }
                let Some(oldest) = self.data.pop_front() else { return Pushed::Dropped(entry) };
                self.bytes -= oldest.size();
                self.first += 1;
                pushed = Pushed::InPlaceOfOldest(oldest);
            }
            Policy::Close(code) if is_full => {
                self.dropped += 1;
                return Pushed::Overflowed(code, entry, self.discard());
            }
            _ => {}
        }
        if let Some(key) = entry.key {
            self.places.insert(key, self.first + self.data.len() as u64);
        }
        self.bytes += size;
        self.data.push_back(entry);
        pushed
    }

    /// Takes out what goes next. Its bytes are still counted.
    pub(crate) fn pop(&mut self) -> Option<Entry<Out>> {
        if let Some(entry) = self.control.pop_front() {
            return Some(entry);
        }
        let entry = self.data.pop_front()?;
        if let Some(key) = &entry.key {
            self.places.remove(key);
        }
        self.first += 1;
        Some(entry)
    }

    /// Puts back what was taken out last; it goes first again. Returns it where it is dropped instead, and counted: a newer one of the
    /// same key has come meanwhile.
    #[must_use = "drop it once the queue is unlocked"]
    pub(crate) fn put_back(&mut self, entry: Entry<Out>) -> Option<Entry<Out>> {
        if entry.is_control() {
            self.control.push_front(entry);
            return None;
        }
        if let Some(key) = entry.key {
            if self.places.contains_key(&key) {
                self.bytes = self.bytes.saturating_sub(entry.size());
                self.dropped += 1;
                return Some(entry);
            }
            self.places.insert(key, self.first - 1);
        }
        self.first -= 1;
        self.data.push_front(entry);
        None
    }

    /// What was taken out with so many bytes will not be put back.
    pub(crate) fn release(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Removes all that waits, and counts the data as dropped.
    pub(crate) fn discard(&mut self) -> Discarded<Out> {
        self.dropped += self.data.len() as u64;
        self.first += self.data.len() as u64;
        self.places = HashMap::new();
        let gone = [std::mem::take(&mut self.control), std::mem::take(&mut self.data)];
        self.bytes -= gone.iter().flatten().map(Entry::size).sum::<u64>();
        Discarded(gone)
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.control.capacity() + self.data.capacity()
    }

    /// Whether this is empty, and holds memory that an idle queue does not need.
    pub(crate) fn has_spare(&self) -> bool {
        self.is_empty() && self.control.capacity().max(self.data.capacity()).max(self.places.capacity()) > 2 * KEPT
    }

    /// Gives memory back that an idle queue does not need.
    pub(crate) fn trim(&mut self) {
        if self.has_spare() {
            self.control = VecDeque::new();
            self.data.shrink_to(KEPT);
            self.places.shrink_to(KEPT);
        }
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
