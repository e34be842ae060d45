use std::collections::{HashMap, VecDeque};

use super::{
    payload::Payload,
    queue::{CoalesceBy, KeyOf, QueueConfig, WhenFull},
};
use crate::{CloseCode, Message, fingerprint::Fingerprint};

/// The number of overtaking messages that may wait next to a full queue.
pub(crate) const CONTROL: usize = 64;

/// The number of messages for which an idle queue keeps memory.
pub(crate) const KEPT: usize = 16;

/// The functions with which a queue inspects a message. They are the user's and run before the queue is locked, never
/// under its lock.
pub(crate) struct Measure<Out> {
    payload: Payload<Out>,
    key: Option<KeyOf<Out>>,
}

/// A message and everything that a queue has to know about it.
pub(crate) struct Entry<Out> {
    pub(crate) message: Out,
    /// The size in bytes, at most 4 GiB, so that sums of sizes cannot overflow.
    size: u32,
    kind: Kind,
    key: Option<Fingerprint>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A message that overtakes data.
    Control,
    Data,
    /// A message that no data may follow.
    Last,
}

impl<Out> Measure<Out> {
    pub(crate) fn new<In>(queue: &QueueConfig<Out, In>) -> Self {
        let key = match &queue.when_full {
            WhenFull::CoalesceBy(CoalesceBy(key)) => Some(key.clone()),
            _ => None,
        };
        Self { payload: queue.outgoing, key }
    }

    pub(crate) fn entry(&self, message: Out) -> Entry<Out> {
        let kind = match self.payload.get(&message) {
            Some(Message::Ping(_) | Message::Pong(_)) => Kind::Control,
            Some(Message::Close(_)) => Kind::Last,
            _ => Kind::Data,
        };
        let key = match (&self.key, kind) {
            (Some(key), Kind::Data) => key(&message),
            _ => None,
        };
        // A function of the user may return any number, and sums of sizes must not overflow.
        let size = u32::try_from(self.payload.size(&message)).unwrap_or(u32::MAX);
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

    /// Returns whether no data may follow this message.
    pub(crate) fn is_last(&self) -> bool {
        self.kind == Kind::Last
    }
}

/// The waiting outgoing messages, within the bounds of a [`QueueConfig`]. The policies for a full queue are implemented
/// here only. No I/O, no clock, no waker.
///
/// It drops no message. Messages that the policy removes are returned, so that a queue under a lock can drop them after
/// unlocking.
///
/// Bytes count from the push of a message until they are [released](Self::release), because a message that was taken
/// out may have to be put back.
pub(crate) struct Backlog<Out> {
    max_messages: usize,
    max_bytes: u64,
    policy: WhenFull<Out>,
    control: VecDeque<Entry<Out>>,
    data: VecDeque<Entry<Out>>,
    /// The place where the message of each key waits, with [`WhenFull::CoalesceBy`].
    places: HashMap<Fingerprint, u64>,
    bytes: u64,
    /// The place of the first message of `data`: the number of messages that preceded it.
    first: u64,
    dropped: u64,
}

/// The outcome of a push, with the messages that it dropped. They are already counted.
#[must_use = "drop it once the queue is unlocked"]
pub(crate) enum Pushed<Out> {
    /// The message waits ahead of the data.
    Ahead,
    /// The message waits behind all others.
    Behind,
    /// The message waits behind all others. The oldest one was dropped, and the next ones as far as it needs their bytes.
    InPlaceOfOldest(Entry<Out>, Vec<Entry<Out>>),
    /// The message has taken the place of another one, which was dropped.
    InPlace(Entry<Out>),
    /// The message was dropped.
    Dropped(Entry<Out>),
    /// The message and all waiting messages were dropped. The connection must be closed with this code.
    Overflowed(CloseCode, Entry<Out>, Discarded<Out>),
}

/// All waiting messages, control and data.
#[must_use = "drop it once the queue is unlocked"]
pub(crate) struct Discarded<Out>(#[allow(dead_code, reason = "held to be dropped")] [VecDeque<Entry<Out>>; 2]);

impl<Out> Backlog<Out> {
    pub(crate) fn new<In>(queue: &QueueConfig<Out, In>) -> Self {
        Self {
            max_messages: queue.max_messages,
            max_bytes: queue.max_bytes as u64,
            policy: queue.when_full.clone(),
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

    /// Returns whether the policy waits for room, or at least for room under the same key.
    pub(crate) fn waits(&self) -> bool {
        matches!(self.policy, WhenFull::Block | WhenFull::CoalesceBy(_))
    }

    /// Returns how many more messages may be pushed if `elsewhere` messages outside of this backlog count too.
    pub(crate) fn free(&self, elsewhere: usize) -> usize {
        if self.bytes >= self.max_bytes {
            return 0;
        }
        self.max_messages.saturating_sub(self.len() + elsewhere)
    }

    /// Returns whether this message replaces another one although the queue is full. One that is larger waits for room
    /// like any other: a message for each key could make the queue many times as large as its bound.
    pub(crate) fn replaces(&self, entry: &Entry<Out>) -> bool {
        let waiting = self.place(entry).and_then(|place| self.data.get(place));
        waiting.is_some_and(|waiting| entry.size <= waiting.size || self.bytes < self.max_bytes)
    }

    /// Returns the place of the waiting message that this one replaces.
    fn place(&self, entry: &Entry<Out>) -> Option<usize> {
        Some((self.places.get(&entry.key?)? - self.first) as usize)
    }

    /// Pushes a message according to the policy; `elsewhere` is as in [`free`](Self::free). If the policy is to wait,
    /// the caller must wait first.
    pub(crate) fn push(&mut self, entry: Entry<Out>, elsewhere: usize) -> Pushed<Out> {
        let size = entry.size();
        // Control messages have a bound of their own: a queue full of data never delays a pong.
        if entry.is_control() && (self.waits() || self.control.len() < CONTROL) {
            self.bytes += size;
            self.control.push_back(entry);
            return Pushed::Ahead;
        }
        // The new value goes where the old one waited. At the end, a key that changes often would never be sent.
        if let Some(waiting) = self.place(&entry).and_then(|place| self.data.get_mut(place)) {
            self.bytes = self.bytes - waiting.size() + size;
            self.dropped += 1;
            return Pushed::InPlace(std::mem::replace(waiting, entry));
        }
        // The final message is not dropped for lack of room.
        let is_full =
            !entry.is_last() && (self.data.len() + elsewhere >= self.max_messages || self.bytes >= self.max_bytes);
        let mut pushed = Pushed::Behind;
        match self.policy {
            WhenFull::DropNewest if is_full => {
                self.dropped += 1;
                return Pushed::Dropped(entry);
            }
            WhenFull::DropOldest if is_full => {
                // All waiting messages may already be elsewhere, or the front may be the final message.
                let Some(oldest) = self.pop_oldest() else {
                    self.dropped += 1;
                    return Pushed::Dropped(entry);
                };
                // Small messages in front of a large one: as many go as free its bytes.
                let mut rest = Vec::new();
                while self.bytes >= self.max_bytes
                    && let Some(next) = self.pop_oldest()
                {
                    rest.push(next);
                }
                pushed = Pushed::InPlaceOfOldest(oldest, rest);
            }
            WhenFull::Close(code) if is_full => {
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

    /// Drops the oldest message, unless it is the final one.
    fn pop_oldest(&mut self) -> Option<Entry<Out>> {
        if self.data.front().is_none_or(Entry::is_last) {
            return None;
        }
        let oldest = self.data.pop_front()?;
        self.bytes -= oldest.size();
        self.first += 1;
        self.dropped += 1;
        Some(oldest)
    }

    /// Takes out the next message. Its bytes remain counted.
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

    /// Puts back the message that was taken out last, as the next one to go. Returns it if it is dropped and counted
    /// instead, because a newer one of the same key has arrived meanwhile.
    #[must_use = "drop it once the queue is unlocked"]
    pub(crate) fn put_back(&mut self, entry: Entry<Out>) -> Option<Entry<Out>> {
        if entry.is_control() {
            self.control.push_front(entry);
            return None;
        }
        if let Some(key) = entry.key {
            // The older value must not follow the newer one.
            if self.places.contains_key(&key) {
                self.bytes = self.bytes.saturating_sub(entry.size());
                self.dropped += 1;
                return Some(entry);
            }
            // It was at the front when it was taken out, so it has the place before the present front.
            self.places.insert(key, self.first - 1);
        }
        self.first -= 1;
        self.data.push_front(entry);
        None
    }

    /// Releases `bytes` of messages that were taken out and will not be put back.
    pub(crate) fn release(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Removes all waiting messages and counts the data messages as dropped.
    pub(crate) fn discard(&mut self) -> Discarded<Out> {
        self.dropped += self.data.len() as u64;
        self.first += self.data.len() as u64;
        // Places count from the beginning of the queue's life, so those of discarded messages are never used again.
        self.places = HashMap::new();
        let gone = [std::mem::take(&mut self.control), std::mem::take(&mut self.data)];
        self.bytes -= gone.iter().flatten().map(Entry::size).sum::<u64>();
        Discarded(gone)
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.control.capacity() + self.data.capacity()
    }

    /// Returns whether this backlog is empty and holds memory that an idle queue does not need.
    pub(crate) fn has_spare(&self) -> bool {
        self.is_empty() && self.control.capacity().max(self.data.capacity()).max(self.places.capacity()) > 2 * KEPT
    }

    /// Releases memory that an idle queue does not need.
    pub(crate) fn trim(&mut self) {
        if self.has_spare() {
            self.control = VecDeque::new();
            self.data.shrink_to(KEPT);
            self.places.shrink_to(KEPT);
        }
    }

    /// Creates the error of an overflow.
    pub(crate) fn overflow(&self, code: CloseCode) -> crate::Error {
        crate::Error::full(format!(
            "the outgoing queue is full ({} messages, {} bytes at most): the connection is closed with {code}",
            self.max_messages, self.max_bytes
        ))
    }
}

/// Creates the error for sends after an overflow.
pub(crate) fn closed_by(code: CloseCode) -> crate::Error {
    crate::Error::closed(format!("the outgoing queue was full, and its policy closed the connection with {code}"))
}

/// Creates the close frame for a peer that was too slow.
pub(crate) fn too_slow(code: CloseCode) -> crate::CloseFrame {
    crate::CloseFrame::new(code, "too slow: the outgoing queue was full")
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;

    const KIB: usize = 1 << 10;

    fn backlog(when_full: WhenFull<Message>) -> (Backlog<Message>, Measure<Message>) {
        let config = QueueConfig::<Message, Message>::messages()
            .max_messages(NonZeroUsize::new(1000).unwrap())
            .max_bytes(NonZeroUsize::new(64 * KIB).unwrap())
            .when_full(when_full);
        (Backlog::new(&config), Measure::new(&config))
    }

    #[test]
    fn with_drop_oldest_large_messages_after_small_ones_keep_to_the_bound_of_bytes() {
        let (mut backlog, measure) = backlog(WhenFull::DropOldest);
        for _ in 0..1000 {
            drop(backlog.push(measure.entry(Message::binary(vec![0; 16])), 0));
        }
        for _ in 0..1000 {
            drop(backlog.push(measure.entry(Message::binary(vec![0; 16 * KIB])), 0));
            // The last one may begin below the bound.
            assert!(backlog.bytes() < 64 * KIB + 16 * KIB, "{} bytes", backlog.bytes());
        }
        assert_eq!(backlog.dropped() + backlog.data() as u64, 2000);
    }

    #[test]
    fn with_coalesce_by_larger_values_wait_for_room_once_the_queue_is_full() {
        let key = |message: &Message| message.as_bytes().first().copied();
        let (mut backlog, measure) = backlog(WhenFull::coalesce_by(key));
        for key in 0..100 {
            drop(backlog.push(measure.entry(Message::binary(vec![key; 16])), 0));
        }
        for key in 0..100 {
            let entry = measure.entry(Message::binary(vec![key; 16 * KIB]));
            if backlog.replaces(&entry) {
                drop(backlog.push(entry, 0));
            }
        }
        assert!(backlog.bytes() < 64 * KIB + 16 * KIB, "{} bytes", backlog.bytes());
        // A value that is not larger always has its place.
        assert!(backlog.replaces(&measure.entry(Message::binary(vec![99; 16]))));
    }
}
