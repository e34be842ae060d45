use std::{hash::Hash, sync::Arc};

use crate::fingerprint::{Fingerprint, Seeds};

/// Finds the key of a message.
pub(crate) type KeyOf<Out> = Arc<dyn Fn(&Out) -> Option<Fingerprint> + Send + Sync>;

/// Turns a function that finds a key of any type into one that finds its fingerprint.
pub(crate) fn by<Out, K: Hash>(key: impl Fn(&Out) -> Option<K> + Send + Sync + 'static) -> KeyOf<Out> {
    let seeds = Seeds::default();
    Arc::new(move |message| key(message).map(|key| seeds.of(&key)))
}
