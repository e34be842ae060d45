use std::{collections::HashMap, num::NonZeroUsize, time::Duration};

use super::sequence::Sequence;
use crate::fingerprint::Fingerprint;

/// The messages that a topic keeps for late and returning subscribers. Off by default.
///
/// | history | keeps | a subscriber that begins with it gets |
/// |---|---|---|
/// | [`off`](Self::off) | nothing | only what is published from then on |
/// | [`recent`](Self::recent) | the last messages | these, then what is published |
/// | [`last_by_key`](Self::last_by_key) | the last message of each key | these, in the order of publication, then the rest |
///
/// All bounds apply, and the oldest message goes first. A message that leaves for lack of room or for its age is a
/// [`Gap`](super::Event::Gap) for a subscriber that returns to a position before it. A message that a newer one of its
/// key replaced is not.
///
/// ```
/// use std::time::Duration;
/// use tower_transport::topic::History;
///
/// let history = History::recent(1000.try_into()?).max_bytes((1 << 20).try_into()?).max_age(Duration::from_secs(60));
/// # drop(history);
/// # Ok::<(), std::num::TryFromIntError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History {
    max_messages: usize,
    max_bytes: u64,
    max_age: Option<Duration>,
    by_key: bool,
    /// Whether a subscriber takes all of it at once.
    pub(super) is_whole: bool,
}

impl History {
    /// Creates a history that keeps nothing.
    #[must_use]
    pub const fn off() -> Self {
        Self { max_messages: 0, max_bytes: 1 << 20, max_age: None, by_key: false, is_whole: false }
    }

    /// Creates a history of the last messages of a topic, at most this many.
    #[must_use]
    pub const fn recent(max_messages: NonZeroUsize) -> Self {
        Self { max_messages: max_messages.get(), ..Self::off() }
    }

    /// Creates a history of the last message of each [key](super::TopicsConfig::key_by) of a topic, at most this many
    /// messages. A message without a key replaces none.
    #[must_use]
    pub const fn last_by_key(max_keys: NonZeroUsize) -> Self {
        Self { max_messages: max_keys.get(), by_key: true, ..Self::off() }
    }

    /// Sets the maximum size of the messages that a topic keeps, in bytes. Defaults to 1 MiB. The last message may
    /// exceed it.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: NonZeroUsize) -> Self {
        self.max_bytes = bytes.get() as u64;
        self
    }

    /// Sets the maximum age of a message. Off by default. A topic that nobody uses keeps its messages until
    /// [`Topics::expire`](super::Topics::expire) is called.
    #[must_use]
    pub const fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Creates the history of a presence: all who are present, taken at once so that nobody leaves unseen in between.
    pub(super) const fn presence(max_members: NonZeroUsize) -> Self {
        Self { max_bytes: u64::MAX, is_whole: true, ..Self::last_by_key(max_members) }
    }

    pub(super) const fn is_off(&self) -> bool {
        self.max_messages == 0
    }

    /// Returns whether messages have an age, so that the clock has to be read.
    pub(super) const fn ages(&self) -> bool {
        self.max_age.is_some() && !self.is_off()
    }
}

/// No history.
impl Default for History {
    fn default() -> Self {
        Self::off()
    }
}

/// The numbers of a topic's messages, and those that its [`History`] keeps. Pure: times are durations since any fixed
/// moment.
///
/// It drops no message: those that leave go to `gone`.
pub(super) struct Log<T> {
    history: History,
    epoch: u64,
    /// The offset of the last message.
    head: u64,
    /// Everything after this offset is kept, or was replaced by a newer message of its key.
    floor: u64,
    kept: Sequence<Kept<T>>,
    /// The offset of the message of each key.
    keys: HashMap<Fingerprint, u64>,
    /// How often each key has joined, for presence.
    present: HashMap<Fingerprint, usize>,
    bytes: u64,
}

/// The effect of a message on the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// It is kept as the history is configured.
    Publish,
    /// Its key is present once more. Refused if there is no room for another one.
    Join,
    /// Its key is present once less. Refused unless that was the last time; it is not kept.
    Leave,
}

struct Kept<T> {
    item: T,
    size: u32,
    key: Option<Fingerprint>,
    at: Duration,
}

/// The messages between a subscriber's place and the head.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Since {
    /// Nothing is missing.
    Whole,
    /// Messages are missing, and this is their number if it is known.
    Missing(Option<u64>),
}

impl<T> Log<T> {
    pub(super) fn new(history: History, epoch: u64) -> Self {
        Self {
            history,
            epoch,
            head: 0,
            floor: 0,
            kept: Sequence::new(),
            keys: HashMap::new(),
            present: HashMap::new(),
            bytes: 0,
        }
    }

    pub(super) const fn epoch(&self) -> u64 {
        self.epoch
    }

    pub(super) const fn head(&self) -> u64 {
        self.head
    }

    /// Returns the offset before the first message that is kept.
    pub(super) const fn floor(&self) -> u64 {
        self.floor
    }

    pub(super) const fn len(&self) -> usize {
        self.kept.len()
    }

    /// Counts a key in or out. Returns whether the message of this step is to be appended.
    pub(super) fn count(&mut self, step: Step, key: Option<Fingerprint>) -> bool {
        let Some(key) = key else { return step == Step::Publish };
        match step {
            Step::Publish => true,
            Step::Join if self.present.contains_key(&key) || self.present.len() < self.history.max_messages => {
                *self.present.entry(key).or_default() += 1;
                true
            }
            Step::Join => false,
            Step::Leave => {
                let Some(times) = self.present.get_mut(&key) else { return false };
                *times -= 1;
                let is_last = *times == 0;
                if is_last {
                    self.present.remove(&key);
                }
                is_last
            }
        }
    }

    /// Adds the next message, which `make` makes of its offset.
    pub(super) fn append(
        &mut self,
        make: impl FnOnce(u64) -> T,
        step: Step,
        size: u32,
        key: Option<Fingerprint>,
        now: Duration,
        gone: &mut Vec<T>,
    ) -> T
    where
        T: Clone,
    {
        self.head += 1;
        let offset = self.head;
        let item = make(offset);
        let key = key.filter(|_| self.history.by_key);
        if self.history.is_off() {
            self.floor = offset;
            return item;
        }
        if step == Step::Leave {
            // Not a gap: a subscriber of presence begins with all who are present, not with a position.
            if let Some(key) = key {
                self.remove(&key, gone);
            }
            return item;
        }
        if let Some(key) = key
            && let Some(before) = self.keys.insert(key, offset)
            && let Some(replaced) = self.kept.remove(before)
        {
            self.bytes -= u64::from(replaced.size);
            gone.push(replaced.item);
        }
        self.expire(now, gone);
        while self.kept.len() >= self.history.max_messages || self.bytes >= self.history.max_bytes {
            if !self.evict(gone) {
                break;
            }
        }
        self.bytes += u64::from(size);
        self.kept.push(offset, Kept { item: item.clone(), size, key, at: now });
        item
    }

    /// Removes the messages that are too old.
    pub(super) fn expire(&mut self, now: Duration, gone: &mut Vec<T>) {
        let Some(max_age) = self.history.max_age else { return };
        while self.kept.front().is_some_and(|(_, kept)| kept.at.saturating_add(max_age) <= now) {
            self.evict(gone);
        }
    }

    /// Removes the message of a key, so that later subscribers do not get it.
    pub(super) fn remove(&mut self, key: &Fingerprint, gone: &mut Vec<T>) -> bool {
        let removed = self.keys.remove(key).and_then(|offset| self.kept.remove(offset));
        let Some(removed) = removed else { return false };
        self.bytes -= u64::from(removed.size);
        gone.push(removed.item);
        true
    }

    /// Returns the message of a key.
    pub(super) fn get(&self, key: &Fingerprint) -> Option<&T> {
        let offset = *self.keys.get(key)?;
        self.kept.after(offset - 1).next().map(|(_, kept)| &kept.item)
    }

    /// Returns whether everything after `offset` of this epoch is still there.
    pub(super) const fn since(&self, offset: u64) -> Since {
        if offset >= self.floor {
            return Since::Whole;
        }
        Since::Missing(if self.history.by_key { None } else { Some(self.floor - offset) })
    }

    /// Returns the messages after `offset` that are kept, with their offsets.
    pub(super) fn after(&self, offset: u64) -> impl Iterator<Item = (u64, &T)> {
        self.kept.after(offset).map(|(offset, kept)| (offset, &kept.item))
    }

    fn evict(&mut self, gone: &mut Vec<T>) -> bool {
        let Some((offset, kept)) = self.kept.pop() else { return false };
        self.floor = offset;
        self.bytes -= u64::from(kept.size);
        if let Some(key) = kept.key {
            self.keys.remove(&key);
        }
        gone.push(kept.item);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::Seeds;

    const NOW: Duration = Duration::ZERO;

    fn log(history: History) -> Log<u64> {
        Log::new(history, 7)
    }

    fn append(log: &mut Log<u64>, size: u32, key: Option<Fingerprint>, now: Duration) -> Vec<u64> {
        let mut gone = Vec::new();
        log.append(|offset| offset, Step::Publish, size, key, now, &mut gone);
        gone
    }

    fn after(log: &Log<u64>, offset: u64) -> Vec<u64> {
        log.after(offset).map(|(offset, _)| offset).collect()
    }

    fn bound(number: usize) -> NonZeroUsize {
        NonZeroUsize::new(number).unwrap()
    }

    #[test]
    fn without_a_history_every_message_leaves_a_gap() {
        let mut log = log(History::off());
        assert_eq!(log.since(0), Since::Whole);
        append(&mut log, 1, None, NOW);
        assert_eq!((log.head(), log.since(0), log.since(1)), (1, Since::Missing(Some(1)), Since::Whole));
    }

    #[test]
    fn the_last_messages_are_kept_within_their_number_bytes_and_age() {
        let mut recent = log(History::recent(bound(3)).max_bytes(bound(100)).max_age(Duration::from_secs(5)));
        for _ in 0..4 {
            append(&mut recent, 10, None, NOW);
        }
        assert_eq!((after(&recent, 0), after(&recent, 3)), (vec![2, 3, 4], vec![4]));
        assert_eq!((recent.since(0), recent.since(1)), (Since::Missing(Some(1)), Since::Whole));
        // The last message may exceed the bytes, and the next one takes its place.
        append(&mut recent, 200, None, NOW);
        assert_eq!(append(&mut recent, 10, None, Duration::from_secs(1)), [3, 4, 5]);
        recent.expire(Duration::from_secs(5), &mut Vec::new());
        assert_eq!(recent.len(), 1);
        recent.expire(Duration::from_secs(6), &mut Vec::new());
        assert_eq!((recent.len(), recent.bytes, recent.since(4)), (0, 0, Since::Missing(Some(2))));
    }

    #[test]
    fn a_newer_message_of_a_key_replaces_the_older_one_without_a_gap() {
        let seeds = Seeds::default();
        let [a, b, c] = ["a", "b", "c"].map(|key| Some(seeds.of(key)));
        let mut last = log(History::last_by_key(bound(2)));
        append(&mut last, 1, a, NOW);
        append(&mut last, 1, b, NOW);
        assert_eq!(append(&mut last, 1, a, NOW), [1]);
        assert_eq!((after(&last, 0), last.since(0)), (vec![2, 3], Since::Whole));
        // One key too many takes the place of the one that was published longest ago.
        assert_eq!(append(&mut last, 1, c, NOW), [2]);
        assert_eq!((after(&last, 0), last.since(0), last.since(2)), (vec![3, 4], Since::Missing(None), Since::Whole));
        assert_eq!(last.get(&a.unwrap()), Some(&3));
        assert!(last.remove(&a.unwrap(), &mut Vec::new()) && !last.remove(&b.unwrap(), &mut Vec::new()));
        assert_eq!((after(&last, 0), last.bytes), (vec![4], 1));
    }
}
