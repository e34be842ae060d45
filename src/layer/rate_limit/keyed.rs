use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hash, Hasher},
    marker::PhantomData,
    num::NonZeroUsize,
    sync::Arc,
    time::Duration,
};

use super::{
    Quota, RateLimitCounts, RateLimitLayer,
    bucket::{Bucket, Clock, Limiter, Pair},
    gate::Gate,
    layer::Scope,
};
use crate::{
    Error,
    fingerprint::{Fingerprint, Seeds},
    sync::{Mutex, MutexGuard},
};

/// One quota for each key: an address, a principal, or anything else that is known about a connection when its
/// transport is created. Clones share the limiter.
///
/// # Memory
///
/// The limiter keeps the buckets of a key for as long as a transport or service with that key lives, and then until
/// they are full again ([`Quota::burst_size_replenished_in`]). A full bucket equals a fresh one, so the key is then
/// forgotten.
///
/// It keeps at most [`max_keys`](Self::max_keys). **When the table is full and no entry is idle, all further keys share
/// one pair of buckets**, which [`overflowed`](Self::overflowed) counts. An attacker who invents keys gets one quota
/// for all of them, memory stays bounded, and known keys keep their own buckets. A transport that is created in such a
/// moment keeps the shared buckets.
///
/// A look-up hashes the key once and takes one of 16 locks for that time, never across a wait. It happens when a
/// transport is created, not for its messages.
///
/// ```
/// # futures_util::FutureExt::now_or_never(async {
/// use std::{net::IpAddr, num::NonZeroU32};
/// use tower_transport::{TransportExt, channel, layer::rate_limit::{KeyedRateLimiter, Quota}};
///
/// let two = NonZeroU32::new(2).unwrap();
/// let limiter = KeyedRateLimiter::<IpAddr>::new(Quota::per_hour(two));
///
/// // Two connections from one address.
/// let address: IpAddr = "192.0.2.7".parse().unwrap();
/// let (first, _a) = channel::<&str, &str>(8);
/// let (second, _b) = channel::<&str, &str>(8);
/// let mut first = first.layer(limiter.for_key(address).outbound().reject());
/// let mut second = second.layer(limiter.for_key(address).outbound().reject());
///
/// first.send_message("one").await?;
/// second.send_message("two").await?;
/// let error = first.send_message("three").await.unwrap_err();
/// assert!(error.is_rate_limited() && error.retry_after().is_some());
/// # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
/// ```
pub struct KeyedRateLimiter<K> {
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    limiter: Arc<Limiter>,
    table: Table<K, Pair>,
    overflow: Pair,
    overflowed: RateLimitCounts,
    max_keys: NonZeroUsize,
}

impl<K> KeyedRateLimiter<K> {
    /// The default of [`max_keys`](Self::max_keys): at most 10 MiB with keys of 16 bytes.
    pub const DEFAULT_MAX_KEYS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(65_535);
}

impl<K: Hash + Eq> KeyedRateLimiter<K> {
    /// Creates a limiter with this quota for each key, and room for 65,536 keys.
    #[must_use]
    pub fn new(quota: Quota) -> Self {
        Self::build(Limiter::new(quota, Clock::fast()), Self::DEFAULT_MAX_KEYS)
    }

    fn build(limiter: Arc<Limiter>, max_keys: NonZeroUsize) -> Self {
        let table = Table::new(max_keys);
        let (overflow, overflowed) = Default::default();
        Self { inner: Arc::new(Inner { limiter, table, overflow, overflowed, max_keys }) }
    }

    /// Sets the number of keys. Defaults to 65,536. (Up to a sixteenth of them may not fit if the hash spreads the keys
    /// unevenly over the 16 parts of the table.) The limiter starts empty: call this before using the first key.
    #[must_use]
    pub fn max_keys(self, keys: NonZeroUsize) -> Self {
        Self::build(self.inner.limiter.clone(), keys)
    }

    /// Uses the runtime's clock, as [`RateLimitLayer::runtime_clock`] does. The limiter starts empty: call this before
    /// using the first key.
    #[must_use]
    pub fn runtime_clock(self) -> Self {
        Self::build(Limiter::new(self.inner.limiter.quota(), Clock::runtime()), self.inner.max_keys)
    }

    /// Returns the layer for a transport or service with this key.
    #[must_use]
    pub fn for_key(&self, key: K) -> RateLimitLayer {
        let states = self.with(key, Pair::clone);
        RateLimitLayer::new(Scope::Keyed(states), self.inner.limiter.clone())
    }

    /// Takes one cell of this key's inbound bucket at once. For code that has a key for each call, such as a request
    /// handler.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_rate_limited`](Error::is_rate_limited) is true if no cell is available, with the
    /// time to [wait](Error::retry_after).
    pub fn check(&self, key: K) -> Result<(), Error> {
        let limiter = &self.inner.limiter;
        self.with(key, |pair| limiter.check(&pair.inbound, 1)).map_err(|excess| {
            let bucket = Bucket::new(limiter.clone(), self.inner.overflow.inbound.clone());
            Gate::new(bucket, RateLimitCounts::default(), "a call").refuse(&excess, 1)
        })
    }

    /// Forgets idle keys and frees their memory. This happens automatically as new keys come; call it for a limiter
    /// that gets no new keys. It visits all keys.
    pub fn forget_idle(&self) {
        self.inner.table.sweep(self.inner.limiter.now(), is_idle);
    }

    fn with<R>(&self, key: K, then: impl Fn(&Pair) -> R) -> R {
        let Inner { limiter, table, overflow, .. } = &*self.inner;
        // A full table must not refuse new keys, or an attacker could lock out everybody else.
        table.with(key, || limiter.now(), is_idle, &then).unwrap_or_else(|| {
            self.inner.overflowed.reject();
            then(overflow)
        })
    }
}

impl<K> KeyedRateLimiter<K> {
    /// Returns how many keys are kept now, including idle ones that are not yet forgotten.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.inner.table.len()
    }

    /// Returns how often a key found no room and got the shared buckets.
    #[must_use]
    pub fn overflowed(&self) -> u64 {
        self.inner.overflowed.rejected()
    }
}

impl RateLimitLayer {
    /// Creates a layer whose quota is shared by all transports (and services) with this key, whatever layer they have:
    /// [`limiter.for_key(key)`](KeyedRateLimiter::for_key).
    #[must_use]
    pub fn keyed<K: Hash + Eq>(limiter: &KeyedRateLimiter<K>, key: K) -> Self {
        limiter.for_key(key)
    }
}

impl<K> Clone for KeyedRateLimiter<K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

debug_fields!([K] KeyedRateLimiter<K>, |this| {
    quota: this.inner.limiter.quota(),
    keys: this.keys(),
    max_keys: this.inner.max_keys,
});

fn is_idle(pair: &Pair, now: u64) -> bool {
    Limiter::is_idle(&pair.inbound, now) && Limiter::is_idle(&pair.outbound, now)
}

/// A bounded table of values by key, which evicts idle entries.
///
/// A search for idle entries visits a whole shard. It runs at most once for half as many new keys as the shard has
/// entries, or once a second if the shard is full. The amortized cost of a look-up is therefore independent of the
/// number of keys.
struct Table<K, V> {
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
    fn new(keys: NonZeroUsize) -> Self {
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
    fn with<R>(
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
        // Only new keys pay for sweeps, so a known key costs one look-up, however many keys there are.
        shard.news += 1;
        let now = now();
        if shard.is_sweep_due(self.per_shard, now) {
            shard.sweep(now, is_idle);
        }
        // An active key is never evicted: its owner would get a full bucket by causing evictions.
        if shard.entries.len() >= self.per_shard {
            return None;
        }
        Some(then(shard.entries.entry(key).or_default()))
    }

    fn shard(&self, hash: u64) -> Option<MutexGuard<'_, Shard<V>>> {
        // The map uses the lowest bits and the highest.
        let index = (hash >> 32) as usize % self.shards.len();
        Some(self.shards.get(index)?.lock())
    }
}

impl<K, V> Table<K, V> {
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().entries.len()).sum()
    }
}

impl<K: Hash + Eq, V> Table<K, V> {
    /// Evicts all idle entries.
    fn sweep(&self, now: u64, is_idle: impl Fn(&V, u64) -> bool) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            shard.sweep(now, &is_idle);
            // Only here: while keys come and go, the memory is needed again at once.
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

debug_fields!([K, V] Table<K, V>, |this| { keys: this.len() });

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
