use std::{
    collections::HashMap,
    hash::Hash,
    marker::PhantomData,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::fingerprint::{Fingerprint, Seeds};

/// The counts of connections. Their memory is bounded by the total: the map contains only keys that have a connection.
#[derive(Debug)]
pub(super) struct Counts<K> {
    state: Mutex<State>,
    seeds: Seeds,
    keys: PhantomData<fn(K)>,
}

#[derive(Debug, Default)]
struct State {
    total: usize,
    by_key: HashMap<Fingerprint, usize>,
}

/// The limit that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Total,
    Key,
}

impl<K: Hash + Eq + Clone> Counts<K> {
    pub(super) fn new() -> Self {
        Self { state: Mutex::default(), seeds: Seeds::default(), keys: PhantomData }
    }

    pub(super) fn enter(&self, key: Option<&K>, total: usize, per_key: usize) -> Result<(), Full> {
        let key = key.map(|key| self.seeds.of(key));
        let mut state = self.lock();
        if state.total >= total {
            return Err(Full::Total);
        }
        if let Some(key) = key {
            let taken = state.by_key.get(&key).copied().unwrap_or(0);
            if taken >= per_key {
                return Err(Full::Key);
            }
            state.by_key.insert(key, taken + 1);
        }
        state.total += 1;
        Ok(())
    }

    fn leave(&self, key: Option<Fingerprint>) {
        let mut state = self.lock();
        state.total = state.total.saturating_sub(1);
        let Some(key) = key else { return };
        match state.by_key.get_mut(&key) {
            Some(taken) if *taken > 1 => *taken -= 1,
            _ => drop(state.by_key.remove(&key)),
        }
    }

    pub(super) fn total(&self) -> usize {
        self.lock().total
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A counted connection, until it is dropped.
pub(super) struct Entry<K: Hash + Eq + Clone> {
    counts: Arc<Counts<K>>,
    key: Option<Fingerprint>,
}

impl<K: Hash + Eq + Clone> Entry<K> {
    pub(super) fn new(counts: Arc<Counts<K>>, key: Option<K>) -> Self {
        let key = key.map(|key| counts.seeds.of(&key));
        Self { counts, key }
    }
}

impl<K: Hash + Eq + Clone> Drop for Entry<K> {
    fn drop(&mut self) {
        self.counts.leave(self.key);
    }
}
