use std::{fmt, hash::Hash, num::NonZeroUsize, sync::Arc};

use super::{
    Quota, RateLimitCounts, RateLimitLayer,
    bucket::{Bucket, Clock, Limiter, Pair},
    gate::Gate,
    layer::Scope,
    table::Table,
};
use crate::Error;

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

impl<K> fmt::Debug for KeyedRateLimiter<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRateLimiter")
            .field("quota", &self.inner.limiter.quota())
            .field("keys", &self.keys())
            .field("max_keys", &self.inner.max_keys)
            .finish_non_exhaustive()
    }
}

fn is_idle(pair: &Pair, now: u64) -> bool {
    Limiter::is_idle(&pair.inbound, now) && Limiter::is_idle(&pair.outbound, now)
}
