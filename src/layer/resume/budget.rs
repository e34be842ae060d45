//! Bytes that many sessions share. Pure but for one atomic.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// How much a session takes from the pool at once, so that not every message touches it.
const CHUNK: usize = 64 << 10;

/// What all sessions of a store may buffer together.
#[derive(Debug)]
pub(super) struct Pool {
    free: AtomicUsize,
}

impl Pool {
    pub(super) fn new(bytes: usize) -> Self {
        Self { free: AtomicUsize::new(bytes) }
    }

    fn take(&self, bytes: usize) -> bool {
        self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(bytes)).is_ok()
    }

    fn give(&self, bytes: usize) {
        self.free.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// One session's part of a pool; without a pool there is no such bound.
#[derive(Debug, Default)]
pub(super) struct Budget {
    pool: Option<Arc<Pool>>,
    granted: usize,
}

impl Budget {
    pub(super) fn of(pool: Arc<Pool>) -> Self {
        Self { pool: Some(pool), granted: 0 }
    }

    /// Whether one more message may be buffered on top of `bytes`. One message always may: its acknowledgement makes room
    /// for the next, whatever others hold.
    #[inline]
    pub(super) fn covers(&mut self, bytes: usize) -> bool {
        let Some(pool) = &self.pool else { return true };
        if bytes >= self.granted {
            let missing = (bytes + 1 - self.granted).next_multiple_of(CHUNK);
            if pool.take(missing) {
                self.granted += missing;
            }
        }
        bytes < self.granted || bytes == 0
    }

    /// Gives back what `bytes` do not need.
    pub(super) fn shrink(&mut self, bytes: usize) {
        let Some(pool) = &self.pool else { return };
        // An empty buffer keeps nothing back for long: many sessions rest.
        let keep = if bytes == 0 { CHUNK.min(self.granted) } else { bytes.saturating_add(2 * CHUNK) };
        if let Some(spare) = self.granted.checked_sub(keep).filter(|&spare| spare > 0) {
            pool.give(spare);
            self.granted = keep;
        }
    }
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
    use super::*;

    #[test]
    fn together_they_never_hold_more_than_the_pool_and_all_comes_back() {
        let pool = Arc::new(Pool::new(3 * CHUNK));
        let mut budgets: Vec<_> = (0..2).map(|_| Budget::of(pool.clone())).collect();
        assert!(budgets[0].covers(0) && budgets[0].covers(CHUNK) && budgets[1].covers(0));
        assert!(!budgets[1].covers(CHUNK), "the pool is empty");
        assert!(budgets[1].covers(0), "one message always has room");
        budgets[0].shrink(0);
        assert!(budgets[1].covers(CHUNK));
        drop(budgets);
        assert_eq!(pool.free.load(Ordering::Relaxed), 3 * CHUNK);
    }
}
