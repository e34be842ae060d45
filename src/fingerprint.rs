//! Keys of the user's in tables of ours.

use std::hash::{BuildHasher, Hash, RandomState};

/// A user's key, as two independent keyed hashes of 64 bits.
///
/// A table under a lock compares and drops its keys there, and no code of the user's may run under a lock: not `Eq`,
/// not `Drop`, not `Clone`. Two keys are taken for one with a probability of 2^-128, which no peer can raise, as the
/// hashes are seeded at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint(pub(crate) u64, u64);

/// The seeds of one table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seeds(RandomState, RandomState);

impl Seeds {
    pub(crate) fn of<K: Hash + ?Sized>(&self, key: &K) -> Fingerprint {
        Fingerprint(self.0.hash_one(key), self.1.hash_one(key))
    }
}
