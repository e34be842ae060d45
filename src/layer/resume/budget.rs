//! Bytes that many sessions share: one atomic, and no I/O.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// A growing buffer takes as much again as it holds from the pool, within these bounds. So not every message touches
/// the pool, and the share of a session follows its use.
const LEAST: usize = 1 << 10;
const MOST: usize = 64 << 10;

/// The bytes that all sessions of a store may hold together.
#[derive(Debug)]
pub(super) struct Pool {
    limit: usize,
    used: AtomicUsize,
}

impl Pool {
    pub(super) const fn new(bytes: usize) -> Self {
        Self { limit: bytes, used: AtomicUsize::new(0) }
    }

    fn take(&self, bytes: usize) -> bool {
        let more = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Takes bytes that are held already, even over the limit.
    fn force(&self, bytes: usize) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// The share of one buffer in a pool. Without a pool there is no such bound.
#[derive(Debug, Default)]
pub(super) struct Budget {
    pool: Option<Arc<Pool>>,
    granted: usize,
}

impl Budget {
    pub(super) const fn of(pool: Arc<Pool>) -> Self {
        Self { pool: Some(pool), granted: 0 }
    }

    /// Creates the share of another buffer of the same session.
    pub(super) fn another(&self) -> Self {
        Self { pool: self.pool.clone(), granted: 0 }
    }

    /// Whether one more message may be held in addition to `bytes`. An empty buffer may always hold one: its
    /// acknowledgement makes room for the next, whatever other sessions hold.
    #[inline]
    pub(super) fn covers(&mut self, bytes: usize) -> bool {
        bytes == 0 || bytes < self.granted || self.pool.is_none() || self.grow(bytes + 1, false)
    }

    /// Notes that a buffer holds `bytes`, at most one message more than was [covered](Self::covers).
    #[inline]
    pub(super) fn hold(&mut self, bytes: usize) {
        if bytes > self.granted && self.pool.is_some() {
            self.grow(bytes, true);
        }
    }

    fn grow(&mut self, bytes: usize, by_force: bool) -> bool {
        let Some(pool) = &self.pool else { return true };
        // With a spare if the pool has it, else exactly. By force only for a message that is held already: its size was
        // not known when it was allowed.
        let missing = bytes.saturating_sub(self.granted);
        let with_spare = missing.saturating_add(spare(bytes));
        if pool.take(with_spare) {
            self.granted += with_spare;
            return true;
        }
        let is_granted = pool.take(missing)
            || by_force && {
                pool.force(missing);
                true
            };
        if is_granted {
            self.granted += missing;
        }
        is_granted
    }

    /// Gives back the share that `bytes` do not need. An empty buffer keeps nothing, because many sessions are idle.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let Some(pool) = &self.pool else { return };
        // A pool that is used up leaves no spare. Otherwise each message over the limit would make room for the next.
        let is_used_up = pool.used() >= pool.limit;
        let keep = if bytes == 0 || is_used_up { bytes } else { bytes.saturating_add(2 * spare(bytes)) };
        if let Some(surplus) = self.granted.checked_sub(keep).filter(|surplus| *surplus > 0) {
            pool.give(surplus);
            self.granted = keep;
        }
    }
}

fn spare(bytes: usize) -> usize {
    bytes.clamp(LEAST, MOST)
}

impl Drop for Budget {
    fn drop(&mut self) {
        if let Some(pool) = &self.pool {
            pool.give(self.granted);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_message_has_room_whatever_others_hold_and_is_counted() {
        let pool = Arc::new(Pool::new(100));
        let mut budgets: Vec<_> = (0..2).map(|_| Budget::of(pool.clone())).collect();
        budgets[0].hold(100);
        assert!(!budgets[0].covers(100) && budgets[1].covers(0));
        budgets[1].hold(50);
        assert!(!budgets[1].covers(50), "the pool is empty");
        assert_eq!(pool.used(), 150);
        budgets[0].shrink(0);
        assert!(budgets[1].covers(50));
    }

    #[test]
    fn an_empty_buffer_holds_nothing_of_the_pool() {
        let pool = Arc::new(Pool::new(1 << 20));
        let mut budget = Budget::of(pool.clone());
        for bytes in [1, 100, 1 << 16, 1 << 19] {
            budget.hold(bytes);
            assert!(budget.covers(bytes));
            budget.shrink(0);
            assert_eq!(pool.used(), 0, "after {bytes}");
        }
    }

    proptest! {
        #[test]
        fn the_share_of_a_buffer_follows_its_use(
            steps in proptest::collection::vec((0..4usize, 0..3000usize, any::<bool>()), 0..300),
        ) {
            const LIMIT: usize = 8000;
            let pool = Arc::new(Pool::new(LIMIT));
            let mut buffers: Vec<_> = (0..4).map(|_| (Budget::of(pool.clone()), 0)).collect();
            for (which, bytes, more) in steps {
                let (budget, held) = &mut buffers[which];
                if more {
                    if budget.covers(*held) {
                        *held += bytes;
                        budget.hold(*held);
                    }
                } else {
                    *held = held.saturating_sub(bytes);
                    budget.shrink(*held);
                }
                let granted: usize = buffers.iter().map(|(budget, _)| budget.granted).sum();
                prop_assert_eq!(pool.used(), granted);
                // Beyond the limit is at most one message for each.
                prop_assert!(granted <= LIMIT + 4 * 3000);
                for (budget, held) in &buffers {
                    prop_assert!(budget.granted >= *held && budget.granted <= 4 * held + 4 * LEAST);
                }
            }
            drop(buffers);
            prop_assert_eq!(pool.used(), 0);
        }
    }
}
