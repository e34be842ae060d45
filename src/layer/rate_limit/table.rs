use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasherDefault, Hash, Hasher},
    marker::PhantomData,
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::fingerprint::{Fingerprint, Seeds};

/// A bounded table of values by key, which evicts idle entries.
///
/// A search for idle entries visits a whole shard. It runs at most once for half as many new keys as the shard has
/// entries, or once a second if the shard is full. The amortized cost of a look-up is therefore independent of the
/// number of keys.
pub(super) struct Table<K, V> {
    shards: Box<[Mutex<Shard<V>>]>,
    seeds: Seeds,
    per_shard: usize,
    keys: PhantomData<fn(K)>,
}

struct Shard<V> {
    entries: HashMap<Fingerprint, V, BuildHasherDefault<Known>>,
    /// The number of new keys since the last sweep.
    news: usize,
    /// The time of the last sweep, in nanoseconds of the limiter's clock.
    swept: u64,
}

const SECOND: u64 = Duration::from_secs(1).as_nanos() as u64;

impl<K: Hash + Eq, V: Default> Table<K, V> {
    pub(super) fn new(keys: NonZeroUsize) -> Self {
        // Several shards reduce contention; a small table has no room for that.
        let shards = if keys.get() < 1024 { 1 } else { 16 };
        let new = || Mutex::new(Shard { entries: HashMap::default(), news: 0, swept: 0 });
        Self {
            shards: std::iter::repeat_with(new).take(shards).collect(),
            seeds: Seeds::default(),
            per_shard: keys.get().div_ceil(shards),
            keys: PhantomData,
        }
    }

    /// Calls a function with the entry of `key`, which is created if it is missing. Returns `None` if there is no room
    /// for it. An entry that is not `is_idle` at the time `now` is never evicted.
    pub(super) fn with<R>(
        &self,
        key: K,
        now: impl Fn() -> u64,
        is_idle: impl Fn(&V, u64) -> bool,
        then: impl FnOnce(&V) -> R,
    ) -> Option<R> {
        // The user's `Hash` runs here, before the lock.
        let key = self.seeds.of(&key);
        let mut shard = self.shard(key.0)?;
        if let Some(value) = shard.entries.get(&key) {
            return Some(then(value));
        }
        shard.news += 1;
        let now = now();
        if shard.is_sweep_due(self.per_shard, now) {
            shard.sweep(now, is_idle);
        }
        if shard.entries.len() >= self.per_shard {
            return None;
        }
        Some(then(shard.entries.entry(key).or_default()))
    }

    fn shard(&self, hash: u64) -> Option<MutexGuard<'_, Shard<V>>> {
        // The map uses the lowest bits and the highest.
        let index = (hash >> 32) as usize % self.shards.len();
        Some(lock(self.shards.get(index)?))
    }
}

impl<K, V> Table<K, V> {
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).entries.len()).sum()
    }
}

impl<K: Hash + Eq, V> Table<K, V> {
    /// Evicts all idle entries.
    pub(super) fn sweep(&self, now: u64, is_idle: impl Fn(&V, u64) -> bool) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            shard.sweep(now, &is_idle);
            shard.entries.shrink_to_fit();
        }
    }
}

impl<V> Shard<V> {
    fn is_sweep_due(&self, room: usize, now: u64) -> bool {
        let len = self.entries.len();
        self.news > (len / 2).max(64) || (len >= room && now.saturating_sub(self.swept) >= SECOND)
    }

    fn sweep(&mut self, now: u64, is_idle: impl Fn(&V, u64) -> bool) {
        self.news = 0;
        self.swept = now;
        self.entries.retain(|_, value| !is_idle(value, now));
    }
}

fn lock<V>(shard: &Mutex<Shard<V>>) -> MutexGuard<'_, Shard<V>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A hasher for keys that are already hashes.
#[derive(Default)]
struct Known(u64);

impl Hasher for Known {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

impl<K, V> fmt::Debug for Table<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("keys", &self.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, sync::Arc};

    use super::*;

    fn keys(number: usize) -> NonZeroUsize {
        NonZeroUsize::new(number).unwrap()
    }

    #[test]
    fn a_key_finds_its_own_entry_again() {
        let table: Table<u32, Arc<u32>> = Table::new(keys(4));
        let get = |key| table.with(key, || 0, |_, _| false, Arc::clone).unwrap();
        let (one, two) = (get(1), get(2));
        assert!(!Arc::ptr_eq(&one, &two));
        assert!(Arc::ptr_eq(&one, &get(1)));
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn a_full_table_takes_no_key_until_an_entry_is_idle() {
        let table: Table<u32, Arc<u32>> = Table::new(keys(2));
        let now = Cell::new(0);
        let idle = Cell::new(false);
        let is_idle = |value: &Arc<u32>, _| idle.get() && Arc::strong_count(value) == 1;
        let get = |key| table.with(key, || now.get(), is_idle, Arc::clone);
        let held = get(1).unwrap();
        assert!(get(2).is_some());
        assert!(get(3).is_none());
        now.set(SECOND);
        assert!(get(3).is_none(), "nothing is idle");
        idle.set(true);
        assert!(get(3).is_none(), "looked a moment ago");
        now.set(2 * SECOND);
        assert!(get(3).is_some());
        assert!(Arc::ptr_eq(&held, &get(1).unwrap()), "what is not idle stays");
        assert_eq!(table.len(), 2);
    }

    #[test]
    fn sweeps_are_amortised_over_the_keys_that_come() {
        let table: Table<u32, u32> = Table::new(keys(1000));
        let looks = Cell::new(0);
        let never = |_: &u32, _| {
            looks.set(looks.get() + 1);
            false
        };
        for key in 0..100_000 {
            table.with(key, || 0, never, |_| ());
        }
        assert_eq!(table.len(), 1000);
        assert!(looks.get() < 400_000, "{}", looks.get());
    }
}
