use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// When the transport's time is over. It is told of messages by a flag and asked now and then, so that no message reads a
/// clock.
#[derive(Debug)]
pub(super) struct Watch {
    idle: Option<Duration>,
    lifetime: Option<Duration>,
    is_active: bool,
    /// Ticks in a row in which no message passed.
    quiet: u32,
}

/// Why it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Idle(Duration),
    Lifetime(Duration),
}

/// In so many ticks an idle time is counted.
const TICKS: u32 = 8;

impl Watch {
    pub(super) const fn new(idle: Option<Duration>, lifetime: Option<Duration>) -> Self {
        Self { idle, lifetime, is_active: false, quiet: 0 }
    }

    /// A message passed; only data is a sign of life.
    #[inline]
    pub(super) fn passed(&mut self, is_data: bool) {
        self.is_active |= is_data;
    }

    /// After which time to ask again; `None` where there is nothing to watch.
    pub(super) fn next(&self, age: Duration) -> Option<Duration> {
        let tick = self.idle.map(|idle| (idle / TICKS).max(Duration::from_millis(1)));
        let left = self.lifetime.map(|lifetime| lifetime.saturating_sub(age));
        match (tick, left) {
            (Some(tick), Some(left)) => Some(tick.min(left)),
            (tick, left) => tick.or(left),
        }
    }

    /// A tick is over, and the transport is that old.
    pub(super) fn tick(&mut self, age: Duration) -> Option<Over> {
        if let Some(lifetime) = self.lifetime
            && age >= lifetime
        {
            return Some(Over::Lifetime(lifetime));
        }
        let idle = self.idle?;
        self.quiet = if std::mem::take(&mut self.is_active) { 0 } else { self.quiet + 1 };
        (self.quiet >= TICKS).then_some(Over::Idle(idle))
    }
}

/// `time` less a random part of `jitter`. The standard library seeds each hasher at random; nothing here is a secret.
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
        let mut watch = Watch::new(Some(8 * SECOND), None);
        assert_eq!(watch.next(Duration::ZERO), Some(SECOND));
        for _ in 0..7 {
            assert_eq!(watch.tick(SECOND), None);
        }
        watch.passed(true);
        for _ in 0..8 {
            assert_eq!(watch.tick(SECOND), None);
        }
        assert_eq!(watch.tick(SECOND), Some(Over::Idle(8 * SECOND)));
    }

    #[test]
    fn a_lifetime_is_asked_about_when_it_ends_and_not_in_between() {
        let mut watch = Watch::new(None, Some(60 * SECOND));
        assert_eq!(watch.next(Duration::ZERO), Some(60 * SECOND));
        watch.passed(true);
        assert_eq!(watch.tick(59 * SECOND), None);
        assert_eq!(watch.tick(60 * SECOND), Some(Over::Lifetime(60 * SECOND)));
        assert_eq!(
            Watch::new(Some(8 * SECOND), Some(60 * SECOND)).next(Duration::from_millis(59_500)),
            Some(SECOND / 2)
        );
        assert_eq!(Watch::new(None, None).next(SECOND), None);
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
