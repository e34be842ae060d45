use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    num::NonZeroUsize,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker},
};

use atomic_waker::AtomicWaker;
use futures_sink::Sink;

use crate::{
    Error, MaybeSend, MaybeSync,
    fingerprint::{Fingerprint, Seeds},
    sync::Mutex,
    threads::dyn_shared,
};

/// A handle to the last value of each key, for all subscribers. Clones are handles to the same store.
///
/// It holds at most 1,024 keys ([`with_max_keys`](Self::with_max_keys) sets another limit), with one value each. At the
/// limit, a new key evicts the key that was published longest ago; [`evicted`](Self::evicted) counts those.
///
/// Fed by [`publish`](Self::publish), or as a `Sink`: `publisher.forward(latest)` records a whole stream.
pub struct Latest<K, M>(Arc<Store<K, M>>);

struct Store<K, M> {
    key: Box<dyn_shared!(Fn(&M) -> K)>,
    seeds: Seeds,
    /// Under this lock no message is cloned or dropped, and no key is compared, because that is user code.
    state: Mutex<Published<M>>,
    /// The version of the newest value, which can also be read without the lock.
    version: AtomicU64,
}

struct Published<M> {
    values: Values<Fingerprint, Arc<M>>,
    subscribers: Vec<Arc<AtomicWaker>>,
    /// The wakers of one publication; kept to reuse its memory.
    due: Vec<Waker>,
}

const MAX_KEYS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);

impl<K: Hash + Eq + Clone, M: Clone> Latest<K, M> {
    /// Creates an empty store. `key` returns the key of a message. It runs for each message that is published.
    #[must_use]
    pub fn new(key: impl Fn(&M) -> K + MaybeSend + MaybeSync + 'static) -> Self {
        Self::with_max_keys(MAX_KEYS, key)
    }

    /// Creates an empty store with room for `max_keys` keys. Its memory is bounded by that number of messages of the
    /// largest size.
    #[must_use]
    pub fn with_max_keys(max_keys: NonZeroUsize, key: impl Fn(&M) -> K + MaybeSend + MaybeSync + 'static) -> Self {
        let state = Published { values: Values::new(max_keys), subscribers: Vec::new(), due: Vec::new() };
        let (seeds, state) = (Seeds::default(), Mutex::new(state));
        Self(Arc::new(Store { key: Box::new(key), seeds, state, version: AtomicU64::new(0) }))
    }

    /// Makes `message` the last value of its key, and lets every subscriber's transport send it. Never waits.
    pub fn publish(&self, message: M) {
        let key = self.0.seeds.of(&(self.0.key)(&message));
        let message = Arc::new(message);
        let mut state = self.0.state.lock();
        // The replaced value is dropped outside the lock, because its drop is foreign code.
        let replaced = state.values.insert(key, message);
        // Stored before the wakers are taken: a subscriber that registers later sees the new version when it checks
        // again.
        self.0.version.store(state.values.version(), SeqCst);
        let mut due = std::mem::take(&mut state.due);
        due.extend(state.subscribers.iter().filter_map(|subscriber| subscriber.take()));
        drop(state);
        drop(replaced);
        due.drain(..).for_each(Waker::wake);
        if due.capacity() > 0 {
            // Of two publications at once, the last one keeps its vector.
            self.0.state.lock().due = due;
        }
    }

    /// Removes a key: later subscribers get nothing for it. Returns its value, if there was one.
    pub fn remove(&self, key: &K) -> Option<M> {
        let key = self.0.seeds.of(key);
        let value = self.0.state.lock().values.remove(&key);
        value.map(Arc::unwrap_or_clone)
    }

    /// Returns the last value of a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<M> {
        let key = self.0.seeds.of(key);
        let value = self.0.state.lock().values.get(&key).cloned();
        value.map(Arc::unwrap_or_clone)
    }

    /// Returns the number of keys that have a value.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.state.lock().values.len()
    }

    /// Returns whether no key has a value.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many keys were evicted so far because there were too many.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.0.state.lock().values.evicted()
    }

    /// Returns the number of subscribed transports.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.0.state.lock().subscribers.len()
    }

    pub(super) fn subscribe(&self) -> Subscription<K, M> {
        let waker = Arc::new(AtomicWaker::new());
        let mut state = self.0.state.lock();
        state.subscribers.push(waker.clone());
        let snapshot = state.values.version();
        drop(state);
        Subscription { shared: self.0.clone(), waker, seen: 0, snapshot }
    }
}

/// The part of a store that one transport has seen.
pub(super) struct Subscription<K, M> {
    shared: Arc<Store<K, M>>,
    waker: Arc<AtomicWaker>,
    /// The version up to which the transport has everything.
    seen: u64,
    /// The version of the newest value at the time of the subscription.
    snapshot: u64,
}

impl<K, M> Subscription<K, M> {
    /// Returns whether there may be values that it has not seen. Takes no lock.
    #[inline]
    pub(super) fn is_behind(&self) -> bool {
        self.shared.version.load(SeqCst) != self.seen
    }

    /// Returns whether part of the snapshot may not have been taken yet.
    #[inline]
    pub(super) fn is_in_snapshot(&self) -> bool {
        self.seen < self.snapshot
    }

    /// Registers this task to be woken by the next publication; only the last registration counts. Check again
    /// afterwards.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.waker.register(cx.waker());
    }
}

impl<K: Hash + Eq, M: Clone> Subscription<K, M> {
    /// Passes on at most `most` values that it has not seen, the one that was published longest ago first.
    pub(super) fn take(&mut self, most: usize, mut give: impl FnMut(M)) {
        let mut left = most;
        while let Some((version, value)) = self.next() {
            if left == 0 {
                return;
            }
            // Mostly a clone; the last subscriber of a value that was replaced meanwhile gets the value.
            give(Arc::unwrap_or_clone(value));
            self.seen = version;
            left -= 1;
        }
    }

    /// Returns the next value that it has not seen, or `None` if it has seen all.
    fn next(&mut self) -> Option<(u64, Arc<M>)> {
        let state = self.shared.state.lock();
        let next = state.values.after(self.seen).next().map(|(version, value)| (version, value.clone()));
        if next.is_none() {
            self.seen = state.values.version();
        }
        next
    }
}

impl<K, M> Drop for Subscription<K, M> {
    fn drop(&mut self) {
        self.shared.state.lock().subscribers.retain(|other| !Arc::ptr_eq(other, &self.waker));
    }
}

debug_fields!([K, M] Subscription<K, M> { seen });

/// Each message is [published](Latest::publish). The sink is always ready, and never fails.
impl<K: Hash + Eq + Clone, M: Clone> Sink<M> for Latest<K, M> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, message: M) -> Result<(), Error> {
        self.publish(message);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
}

impl<K, M> Clone for Latest<K, M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

debug_fields!([K, M] Latest<K, M>, |this| { version: this.0.version });

/// The last value of each key, in the order of publication. Pure.
///
/// Each publication has a version, one more than the last. A subscriber that knows the version up to which it has
/// everything can request the rest, and there is no difference between values from before and after its subscription.
struct Values<K, M> {
    by_version: BTreeMap<u64, (K, M)>,
    versions: HashMap<K, u64>,
    version: u64,
    max_keys: NonZeroUsize,
    evicted: u64,
}

impl<K, M> Values<K, M> {
    fn new(max_keys: NonZeroUsize) -> Self {
        Self { by_version: BTreeMap::new(), versions: HashMap::new(), version: 0, max_keys, evicted: 0 }
    }

    const fn version(&self) -> u64 {
        self.version
    }

    const fn evicted(&self) -> u64 {
        self.evicted
    }

    fn len(&self) -> usize {
        self.by_version.len()
    }

    /// Returns the values published after `version` that are still the last of their key, the oldest first.
    fn after(&self, version: u64) -> impl Iterator<Item = (u64, &M)> {
        let first = version.saturating_add(1);
        self.by_version.range(first..).map(|(version, (_, value))| (*version, value))
    }
}

impl<K: Hash + Eq, M> Values<K, M> {
    fn get(&self, key: &K) -> Option<&M> {
        let (_, value) = self.by_version.get(self.versions.get(key)?)?;
        Some(value)
    }

    /// Returns the removed value: the previous one of the key, or that of the key which was published longest ago.
    fn insert(&mut self, key: K, value: M) -> Option<(K, M)>
    where
        K: Clone,
    {
        self.version += 1;
        let before = match self.versions.insert(key.clone(), self.version) {
            Some(before) => self.by_version.remove(&before),
            None if self.by_version.len() < self.max_keys.get() => None,
            None => {
                let oldest = self.by_version.pop_first().map(|(_, oldest)| oldest);
                if let Some((key, _)) = &oldest {
                    self.versions.remove(key);
                    self.evicted += 1;
                }
                oldest
            }
        };
        self.by_version.insert(self.version, (key, value));
        before
    }

    fn remove(&mut self, key: &K) -> Option<M> {
        let version = self.versions.remove(key)?;
        self.by_version.remove(&version).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(max: usize) -> Values<&'static str, u32> {
        Values::new(NonZeroUsize::new(max).unwrap())
    }

    fn after(values: &Values<&'static str, u32>, version: u64) -> Vec<u32> {
        values.after(version).map(|(_, value)| *value).collect()
    }

    #[test]
    fn the_last_value_of_each_key_is_kept_in_the_order_of_publication() {
        let mut values = values(9);
        for (key, value) in [("a", 1), ("b", 2), ("a", 3), ("c", 4)] {
            values.insert(key, value);
        }
        assert_eq!(after(&values, 0), [2, 3, 4]);
        assert_eq!(after(&values, 3), [4]);
        assert_eq!(after(&values, 4), [0u32; 0]);
        assert_eq!((values.get(&"a"), values.len(), values.version()), (Some(&3), 3, 4));
    }

    #[test]
    fn one_key_too_many_takes_the_place_of_the_one_published_longest_ago() {
        let mut values = values(2);
        for (key, value) in [("a", 1), ("b", 2), ("a", 3), ("c", 4)] {
            values.insert(key, value);
        }
        assert_eq!(after(&values, 0), [3, 4]);
        assert_eq!((values.evicted(), values.get(&"b")), (1, None));
        assert_eq!(values.remove(&"a"), Some(3));
        values.insert("b", 5);
        assert_eq!((after(&values, 0), values.evicted()), (vec![4, 5], 1));
    }
}
