use std::{
    hash::{BuildHasher, Hash, RandomState},
    sync::Arc,
};

/// Finds the key of a message; see [`Key`].
pub(crate) type KeyOf<Out> = Arc<dyn Fn(&Out) -> Option<Key> + Send + Sync>;

/// A user's key, as two independent keyed hashes of 64 bits.
///
/// The queue compares keys while it is locked, and there no code of the user's may run, not even `Eq` or `Drop` of a key. Two keys are
/// taken for one with a probability of 2^-128, which no peer can raise: the hashes are seeded at random, for each queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key(u64, u64);

/// Turns a function that finds a key of any type into one that finds its [`Key`].
pub(crate) fn by<Out, K: Hash>(key: impl Fn(&Out) -> Option<K> + Send + Sync + 'static) -> KeyOf<Out> {
    let seeds = (RandomState::new(), RandomState::new());
    Arc::new(move |message| key(message).map(|key| Key(seeds.0.hash_one(&key), seeds.1.hash_one(&key))))
}
