use std::{collections::HashMap, hash::Hash, marker::PhantomData, sync::Arc};

/// Which key waits where. Places are absolute: they count from the first message there ever was.
pub(crate) trait Coalesce<Out> {
    /// Where a message of the same key waits, that `message` is to replace.
    fn place(&self, message: &Out) -> Option<u64>;
    /// `message` waits at `place` now.
    fn put(&mut self, message: &Out, place: u64);
    /// `message` waits no more.
    fn take(&mut self, message: &Out);
}

/// Starts a queue of its own for each transport.
pub(crate) trait Keys<Out> {
    fn start(&self) -> Box<dyn Coalesce<Out> + Send + Sync>;
}

/// A key of messages.
pub(crate) struct Key<K, F> {
    key: Arc<F>,
    kind: PhantomData<fn() -> K>,
}

impl<K, F> Key<K, F> {
    pub(crate) fn new(key: F) -> Self {
        Self { key: Arc::new(key), kind: PhantomData }
    }
}

impl<Out, K, F> Keys<Out> for Key<K, F>
where
    K: Hash + Eq + Send + Sync + 'static,
    F: Fn(&Out) -> Option<K> + Send + Sync + 'static,
{
    fn start(&self) -> Box<dyn Coalesce<Out> + Send + Sync> {
        Box::new(ByKey { key: self.key.clone(), places: HashMap::new() })
    }
}

/// Finds messages by a key of them.
struct ByKey<K, F> {
    key: Arc<F>,
    places: HashMap<K, u64>,
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
