use std::{collections::HashMap, hash::Hash};

/// Which key waits where. Places are absolute: they count from the first message there ever was.
pub(crate) trait Coalesce<Out> {
    /// Where a message of the same key waits, that `message` is to replace.
    fn place(&self, message: &Out) -> Option<u64>;
    /// `message` waits at `place` now.
    fn put(&mut self, message: &Out, place: u64);
    /// `message` waits no more.
    fn take(&mut self, message: &Out);
}

/// Finds messages by a key of them.
pub(crate) struct ByKey<K, F> {
    key: F,
    places: HashMap<K, u64>,
}

impl<K, F> ByKey<K, F> {
    pub(crate) fn new(key: F) -> Self {
        Self { key, places: HashMap::new() }
    }
}

impl<Out, K: Hash + Eq, F: Fn(&Out) -> Option<K>> Coalesce<Out> for ByKey<K, F> {
    fn place(&self, message: &Out) -> Option<u64> {
        self.places.get(&(self.key)(message)?).copied()
    }

    fn put(&mut self, message: &Out, place: u64) {
        if let Some(key) = (self.key)(message) {
            self.places.insert(key, place);
        }
    }

    fn take(&mut self, message: &Out) {
        if let Some(key) = (self.key)(message) {
            self.places.remove(&key);
        }
    }
}
