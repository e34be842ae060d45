//! A fetched key set, and when it may be fetched again. Pure: times are passed in.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::jwk::Jwk;
use serde::Deserialize;

use super::JwtKey;
use crate::{Error, rt::Instant};

/// The largest set that is read, in bytes.
const MAX_SIZE: usize = 256 << 10;

/// The maximum number of keys that are kept.
const MAX_KEYS: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct KeySet {
    pub(super) interval: Duration,
    pub(super) max_age: Duration,
    keys: Arc<[JwtKey]>,
    fetched: Option<Instant>,
    /// The earliest time of the next fetch.
    next: Option<Instant>,
}

impl KeySet {
    pub(super) fn new() -> Self {
        Self {
            interval: Duration::from_secs(60),
            max_age: Duration::from_secs(3600),
            keys: Arc::default(),
            fetched: None,
            next: None,
        }
    }

    /// Returns the keys, unless they are too old to be trusted: a day, by default.
    pub(super) fn keys(&self, now: Instant) -> Arc<[JwtKey]> {
        match self.age(now) {
            Some(age) if age < self.max_age.saturating_mul(24) => self.keys.clone(),
            _ => Arc::default(),
        }
    }

    /// Returns whether the set should be fetched even if it has the key.
    pub(super) fn is_old(&self, now: Instant) -> bool {
        self.age(now).is_none_or(|age| age >= self.max_age)
    }

    fn age(&self, now: Instant) -> Option<Duration> {
        self.fetched.map(|fetched| now.saturating_duration_since(fetched))
    }

    /// Asks for permission to fetch. For unknown keys, permission is given once per interval.
    pub(super) fn may_fetch(&mut self, now: Instant) -> bool {
        self.next.is_none_or(|next| now >= next)
    }

    /// Stores a fetched set.
    pub(super) fn put(&mut self, keys: Arc<[JwtKey]>, now: Instant) {
        self.keys = keys;
        self.fetched = Some(now);
        self.next = now.checked_add(self.interval);
    }

    /// Records a fetch that failed or was dropped before its end: the next one need not wait as long.
    pub(super) fn failed(&mut self, now: Instant) {
        self.next = now.checked_add(self.interval / 10);
    }
}

/// Reads a set. Each key is read separately, so that a key that is not understood does not affect the others.
pub(super) fn parse(json: &[u8]) -> Result<Arc<[JwtKey]>, Error> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }

    if json.len() > MAX_SIZE {
        return Err(Error::too_large(format!("the key set is larger than {MAX_SIZE} bytes")));
    }
    let set: Set = serde_json::from_slice(json)
        .map_err(|error| Error::codec("the key set is not a valid JWKS (RFC 7517, section 5)").with_source(error))?;
    let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    Ok(keys.filter_map(|key| JwtKey::of_jwk(&key)).take(MAX_KEYS).collect())
}
