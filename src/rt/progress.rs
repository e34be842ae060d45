use std::time::Duration;

#[cfg(not(target_arch = "wasm32"))]
use super::native::Instant;
#[cfg(target_arch = "wasm32")]
use super::wasm::Instant;

/// The maximum time of a close whose bytes keep moving, in units of its limit.
pub(crate) const PATIENCE: u32 = 16;

/// The time that a close may still take: a limit that counts from the last progress, and [`PATIENCE`] limits in all.
/// Pure.
#[derive(Debug)]
pub(crate) struct Progress {
    limit: Duration,
    started: Instant,
    /// The time at which bytes last moved.
    moved: Instant,
    unsent: u64,
}

#[allow(dead_code, reason = "which of them are used depends on the features")]
impl Progress {
    pub(crate) fn new(limit: Duration, unsent: u64, now: Instant) -> Self {
        Self { limit, started: now, moved: now, unsent }
    }

    /// Records how many bytes are still unsent. Fewer than before is progress.
    pub(crate) fn record(&mut self, unsent: u64, now: Instant) {
        if unsent < self.unsent {
            self.moved = now;
        }
        self.unsent = unsent;
    }

    /// Records that something moved.
    pub(crate) fn advance(&mut self, now: Instant) {
        self.moved = now;
    }

    /// Returns the time until the peer is given up; zero if that is now.
    pub(crate) fn left(&self, now: Instant) -> Duration {
        let idle = self.limit.saturating_sub(now.saturating_duration_since(self.moved));
        let whole = self.limit.saturating_mul(PATIENCE).saturating_sub(now.saturating_duration_since(self.started));
        idle.min(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_counts_from_the_last_progress_and_sixteen_limits_are_the_end() {
        let (limit, start) = (Duration::from_secs(10), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut progress = Progress::new(limit, 1000, start);
        assert_eq!(progress.left(at(4)), Duration::from_secs(6));
        progress.record(1000, at(5));
        assert_eq!(progress.left(at(5)), Duration::from_secs(5), "nothing moved");
        progress.record(999, at(9));
        assert_eq!(progress.left(at(9)), limit);
        progress.record(2000, at(10));
        assert_eq!(progress.left(at(10)), Duration::from_secs(9), "more that waits is no progress");
        progress.record(1, at(155));
        assert_eq!(progress.left(at(155)), Duration::from_secs(5));
        assert_eq!(progress.left(at(160)), Duration::ZERO);
    }

    #[test]
    fn a_limit_of_nothing_or_of_forever_is_no_problem() {
        let now = Instant::now();
        assert_eq!(Progress::new(Duration::ZERO, 0, now).left(now), Duration::ZERO);
        assert_eq!(Progress::new(Duration::MAX, 0, now).left(now), Duration::MAX);
    }
}
