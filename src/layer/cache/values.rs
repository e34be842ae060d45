use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    num::NonZeroUsize,
};

/// The last value of each key, in the order of publication. Pure.
///
/// Each publication has a version, one more than the last. A subscriber that knows the version up to which it has
/// everything can request the rest, and there is no difference between values from before and after its subscription.
pub(super) struct Values<K, M> {
    by_version: BTreeMap<u64, (K, M)>,
    versions: HashMap<K, u64>,
    version: u64,
    max_keys: NonZeroUsize,
    evicted: u64,
}

impl<K, M> Values<K, M> {
    pub(super) fn new(max_keys: NonZeroUsize) -> Self {
        Self { by_version: BTreeMap::new(), versions: HashMap::new(), version: 0, max_keys, evicted: 0 }
    }

    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    pub(super) const fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(super) fn len(&self) -> usize {
        self.by_version.len()
    }

    /// Returns the values published after `version` that are still the last of their key, the oldest first.
    pub(super) fn after(&self, version: u64) -> impl Iterator<Item = (u64, &M)> {
        let first = version.saturating_add(1);
        self.by_version.range(first..).map(|(version, (_, value))| (*version, value))
    }
}

impl<K: Hash + Eq, M> Values<K, M> {
    pub(super) fn get(&self, key: &K) -> Option<&M> {
        let (_, value) = self.by_version.get(self.versions.get(key)?)?;
        Some(value)
    }

    /// Returns the removed value: the previous one of the key, or that of the key which was published longest ago.
    pub(super) fn insert(&mut self, key: K, value: M) -> Option<(K, M)>
    where
        K: Clone,
    {
        self.version += 1;
        let before = match self.versions.insert(key.clone(), self.version) {
            Some(before) => self.by_version.remove(&before),
            None if self.by_version.len() < self.max_keys.get() => None,
            None => {
                let oldest = self.by_version.pop_first().map(|(_, oldest)| oldest);
                if let Some((key, _)) = &oldest {
                    self.versions.remove(key);
                    self.evicted += 1;
                }
                oldest
            }
        };
        self.by_version.insert(self.version, (key, value));
        before
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<M> {
        let version = self.versions.remove(key)?;
        self.by_version.remove(&version).map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(max: usize) -> Values<&'static str, u32> {
        Values::new(NonZeroUsize::new(max).unwrap())
    }

    fn after(values: &Values<&'static str, u32>, version: u64) -> Vec<u32> {
        values.after(version).map(|(_, value)| *value).collect()
    }

    #[test]
    fn the_last_value_of_each_key_is_kept_in_the_order_of_publication() {
        let mut values = values(9);
        for (key, value) in [("a", 1), ("b", 2), ("a", 3), ("c", 4)] {
            values.insert(key, value);
        }
        assert_eq!(after(&values, 0), [2, 3, 4]);
        assert_eq!(after(&values, 3), [4]);
        assert_eq!(after(&values, 4), [0u32; 0]);
        assert_eq!((values.get(&"a"), values.len(), values.version()), (Some(&3), 3, 4));
    }

    #[test]
    fn one_key_too_many_takes_the_place_of_the_one_published_longest_ago() {
        let mut values = values(2);
        for (key, value) in [("a", 1), ("b", 2), ("a", 3), ("c", 4)] {
            values.insert(key, value);
        }
        assert_eq!(after(&values, 0), [3, 4]);
        assert_eq!((values.evicted(), values.get(&"b")), (1, None));
        assert_eq!(values.remove(&"a"), Some(3));
        values.insert("b", 5);
        assert_eq!((after(&values, 0), values.evicted()), (vec![4, 5], 1));
    }
}
