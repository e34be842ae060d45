//! Selects the messages that are traced, and their ids. Pure.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use super::TraceContext;

/// Selects one in N messages, for each connection and direction.
#[derive(Debug)]
pub(super) struct Sampler {
    every: u64,
    /// The number of the next selected message, counted from 1.
    next: u64,
}

impl Sampler {
    /// Creates a selection. `offset` determines the first selected message, so that connections with fewer messages
    /// than `every` are also sampled.
    pub(super) fn new(every: Option<NonZeroU32>, offset: u32) -> Self {
        match every {
            // No connection reaches this number of messages.
            None => Self { every: 0, next: u64::MAX },
            Some(every) => Self { every: u64::from(every.get()), next: u64::from(offset % every) + 1 },
        }
    }

    pub(super) const fn next(&self) -> u64 {
        self.next
    }

    /// Returns whether the message with this number is selected.
    pub(super) fn selects(&mut self, number: u64) -> bool {
        if number < self.next {
            return false;
        }
        self.next = number.saturating_add(self.every);
        true
    }
}

/// Gives each connection of a layer a different start.
#[derive(Clone, Debug, Default)]
pub(super) struct SampleOffsets(Arc<AtomicU32>);

impl SampleOffsets {
    /// Returns 0 first; then numbers that spread evenly, whatever the divisor (the golden ratio of 2^32).
    pub(super) fn next(&self) -> u32 {
        self.0.fetch_add(0x9e37_79b9, Relaxed)
    }
}

/// Generates ids of new traces. They are random enough not to collide: a hash under a key of the standard library's
/// randomness.
#[derive(Clone, Debug, Default)]
pub(super) struct Ids {
    random: RandomState,
    count: u64,
}

impl Ids {
    /// Returns a new trace with its first span.
    pub(super) fn root(&mut self) -> TraceContext {
        let high = self.next();
        let trace_id = u128::from(high) << 64 | u128::from(self.next());
        let span_id = self.next();
        // Zero is forbidden, and as likely as any other number.
        TraceContext::root(trace_id.max(1), span_id.max(1))
    }

    fn next(&mut self) -> u64 {
        self.count += 1;
        self.random.hash_one(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(every: u32, offset: u32, messages: usize) -> Vec<usize> {
        let mut sampler = Sampler::new(NonZeroU32::new(every), offset);
        (0..messages).filter(|index| sampler.selects(*index as u64 + 1)).collect()
    }

    #[test]
    fn one_in_so_many_messages_is_sampled_and_none_if_it_is_off() {
        assert_eq!(hits(3, 0, 9), [0, 3, 6]);
        assert_eq!(hits(3, 5, 9), [2, 5, 8]);
        assert_eq!(hits(1, 7, 3), [0, 1, 2]);
        assert_eq!(hits(0, 7, 1000), [0usize; 0]);
    }

    #[test]
    fn of_many_connections_with_one_message_each_one_in_so_many_is_sampled() {
        let offsets = SampleOffsets::default();
        let sampled = (0..10_000).map(|_| hits(10, offsets.next(), 1).len()).sum::<usize>();
        assert!((900..1100).contains(&sampled), "{sampled}");
    }

    #[test]
    fn ids_differ_from_each_other_and_from_another_connections() {
        let (mut a, mut b) = (Ids::default(), Ids::default());
        let ids: std::collections::HashSet<_> = (0..1000).flat_map(|_| [a.root(), b.root()]).collect();
        assert_eq!(ids.len(), 2000);
    }
}
