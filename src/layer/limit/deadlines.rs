use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// Decides when the transport's time is over. A message sets a flag, and a timer asks now and then, so no message reads
/// a clock.
#[derive(Debug)]
pub(super) struct Deadlines {
    idle: Option<Duration>,
    lifetime: Option<Duration>,
    /// The number of bytes that may move without a message of data before they stop being a sign of life.
    most: u64,
    /// A message of data passed, which [`settle`](Self::settle) has yet to take into account.
    has_passed: bool,
    is_active: bool,
    /// The number of ticks in a row in which no message passed.
    quiet: u32,
    /// The number of bytes that moved in this tick.
    moved: u64,
    /// The number of bytes that moved since the last message of data.
    unfinished: u64,
}

/// The limit that was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Idle(Duration),
    Lifetime(Duration),
}

/// The number of ticks in an idle timeout.
const TICKS: u32 = 8;

/// The number of bytes that must move in a second for an unfinished message to count as activity.
const LEAST_RATE: u128 = 1024;

impl Deadlines {
    pub(super) const fn new(idle: Option<Duration>, lifetime: Option<Duration>, most: usize) -> Self {
        Self {
            idle,
            lifetime,
            most: most as u64,
            has_passed: false,
            is_active: false,
            quiet: 0,
            moved: 0,
            unfinished: 0,
        }
    }

    /// Notes a message. Only data is a sign of life.
    #[inline]
    pub(super) fn passed(&mut self, is_data: bool) {
        self.has_passed |= is_data;
    }

    /// Takes into account that a message passed. Each message costs one store, and this waits for the next bytes or the
    /// next tick.
    fn settle(&mut self) {
        if std::mem::take(&mut self.has_passed) {
            self.is_active = true;
            self.unfinished = 0;
        }
    }

    /// Notes bytes that moved without completing a message.
    #[inline]
    pub(super) fn moved(&mut self, bytes: u64) {
        if bytes > 0 && self.idle.is_some() {
            self.count(bytes);
        }
    }

    fn count(&mut self, bytes: u64) {
        self.settle();
        self.moved = self.moved.saturating_add(bytes);
        self.unfinished = self.unfinished.saturating_add(bytes);
    }

    /// Returns whether enough bytes moved for an unfinished message, and no more than a message may have.
    fn is_moving(&mut self, tick: Duration) -> bool {
        let moved = std::mem::take(&mut self.moved);
        // Both bounds are against a peer that holds a connection by dribbling: a rate, so that a byte now and then does
        // not do, and a sum, so that one endless message does not.
        moved > 0 && u128::from(moved) >= tick.as_millis() * LEAST_RATE / 1000 && self.unfinished <= self.most
    }

    /// Returns the time until the next tick. `None` if there is no deadline.
    pub(super) fn next(&self, age: Duration) -> Option<Duration> {
        let tick = self.idle.map(|idle| (idle / TICKS).max(Duration::from_millis(1)));
        let left = self.lifetime.map(|lifetime| lifetime.saturating_sub(age));
        match (tick, left) {
            (Some(tick), Some(left)) => Some(tick.min(left)),
            (tick, left) => tick.or(left),
        }
    }

    /// Handles the end of a tick. `age` is the age of the transport.
    pub(super) fn tick(&mut self, age: Duration) -> Option<Over> {
        if let Some(lifetime) = self.lifetime
            && age >= lifetime
        {
            return Some(Over::Lifetime(lifetime));
        }
        let idle = self.idle?;
        self.settle();
        let is_moving = self.is_moving(idle / TICKS);
        // Counted in ticks, so that no message reads a clock. The price is that the end comes up to a tick late.
        self.quiet = if std::mem::take(&mut self.is_active) || is_moving { 0 } else { self.quiet + 1 };
        (self.quiet >= TICKS).then_some(Over::Idle(idle))
    }
}

/// Returns `time` less a random part of `jitter`. The standard library seeds each hasher at random; nothing here is a
/// secret.
pub(super) fn shortened(time: Duration, jitter: Duration) -> Duration {
    let random = (RandomState::new().hash_one(0_u8) >> 32) as u32;
    let part = jitter.as_secs_f64() * f64::from(random) / f64::from(u32::MAX);
    time.saturating_sub(Duration::try_from_secs_f64(part).unwrap_or(jitter))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn eight_quiet_ticks_in_a_row_are_idle() {
        let mut deadlines = Deadlines::new(Some(8 * SECOND), None, 0);
        assert_eq!(deadlines.next(Duration::ZERO), Some(SECOND));
        for _ in 0..7 {
            assert_eq!(deadlines.tick(SECOND), None);
        }
        deadlines.passed(true);
        for _ in 0..8 {
            assert_eq!(deadlines.tick(SECOND), None);
        }
        assert_eq!(deadlines.tick(SECOND), Some(Over::Idle(8 * SECOND)));
    }

    #[test]
    fn bytes_that_move_fast_enough_keep_the_time_away_until_they_are_more_than_any_message() {
        let mut deadlines = Deadlines::new(Some(8 * SECOND), None, 100_000);
        let mut ticks = |bytes| {
            for tick in 1.. {
                deadlines.moved(bytes);
                if deadlines.tick(SECOND).is_some() {
                    deadlines.passed(true);
                    deadlines.tick(SECOND);
                    return tick;
                }
            }
            unreachable!()
        };
        assert_eq!(ticks(0), 8);
        assert_eq!(ticks(1023), 8, "a drip");
        assert_eq!(ticks(1024), 97 + 8);
        assert_eq!(ticks(50_000), 2 + 8);
        assert_eq!(ticks(100_001), 8);
    }

    #[test]
    fn a_lifetime_is_asked_about_when_it_ends_and_not_in_between() {
        let mut deadlines = Deadlines::new(None, Some(60 * SECOND), 0);
        assert_eq!(deadlines.next(Duration::ZERO), Some(60 * SECOND));
        deadlines.passed(true);
        assert_eq!(deadlines.tick(59 * SECOND), None);
        assert_eq!(deadlines.tick(60 * SECOND), Some(Over::Lifetime(60 * SECOND)));
        assert_eq!(
            Deadlines::new(Some(8 * SECOND), Some(60 * SECOND), 0).next(Duration::from_millis(59_500)),
            Some(SECOND / 2)
        );
        assert_eq!(Deadlines::new(None, None, 0).next(SECOND), None);
    }

    #[test]
    fn a_fleet_is_spread_over_the_jitter_and_never_lives_longer() {
        let lives: Vec<_> = (0..200).map(|_| shortened(60 * SECOND, 10 * SECOND)).collect();
        assert!(lives.iter().all(|life| (50 * SECOND..=60 * SECOND).contains(life)));
        for from in [50, 55] {
            assert!(lives.iter().any(|life| (from * SECOND..(from + 5) * SECOND).contains(life)));
        }
        assert_eq!(shortened(SECOND, Duration::ZERO), SECOND);
        assert_eq!(shortened(Duration::ZERO, Duration::MAX), Duration::ZERO);
    }
}
