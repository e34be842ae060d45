use std::{num::NonZeroU32, time::Duration};

/// A rate: a burst, and the time in which one more cell comes back.
///
/// A *cell* is the unit of the [cost](super::Cost): a message, a byte, or your own unit. A full bucket has `burst`
/// cells. One comes back each [`replenish_interval`](Self::replenish_interval), evenly and not once a second. In any
/// time `t`, no more than `burst + t / interval` cells pass.
///
/// The names are those of governor's `Quota`. It is a separate type, so that a new version of governor is not a
/// breaking change here, and so that a quota which would overflow governor's clock (64 bits of nanoseconds) cannot be
/// created.
///
/// ```
/// use std::{num::NonZeroU32, time::Duration};
/// use tower_transport::layer::rate_limit::Quota;
///
/// // A burst of 50, then one each 20 ms.
/// let quota = Quota::per_second(NonZeroU32::new(50).unwrap());
/// assert_eq!(quota.replenish_interval(), Duration::from_millis(20));
/// assert_eq!(quota.burst_size().get(), 50);
///
/// // The same rate, with a burst of at most 5.
/// let smooth = quota.allow_burst(NonZeroU32::new(5).unwrap());
/// assert_eq!(smooth.burst_size_replenished_in(), Duration::from_millis(100));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    interval: u64,
    burst: NonZeroU32,
}

/// A hundred years: longer than any wait, and far below what 64 bits of nanoseconds hold.
const FOREVER: u64 = 100 * 365 * 86_400 * 1_000_000_000;

impl Quota {
    /// Creates a quota of `cells` a second, all of which may come in one burst.
    #[must_use]
    pub const fn per_second(cells: NonZeroU32) -> Self {
        Self::per(1, cells)
    }

    /// Creates a quota of `cells` a minute, all of which may come in one burst.
    #[must_use]
    pub const fn per_minute(cells: NonZeroU32) -> Self {
        Self::per(60, cells)
    }

    /// Creates a quota of `cells` an hour, all of which may come in one burst.
    #[must_use]
    pub const fn per_hour(cells: NonZeroU32) -> Self {
        Self::per(3600, cells)
    }

    const fn per(seconds: u64, cells: NonZeroU32) -> Self {
        let interval = seconds * 1_000_000_000 / cells.get() as u64;
        Self { interval: if interval == 0 { 1 } else { interval }, burst: cells }
    }

    /// Creates a quota of one cell each `interval`, without a larger burst. `interval` is at least 1 ns and at most a
    /// hundred years.
    #[must_use]
    pub const fn with_period(interval: Duration) -> Self {
        let nanos = interval.as_nanos();
        let interval = match nanos {
            0 => 1,
            1..=0xffff_ffff_ffff_ffff if (nanos as u64) < FOREVER => nanos as u64,
            _ => FOREVER,
        };
        Self { interval, burst: NonZeroU32::MIN }
    }

    /// Sets the burst. A burst that would take over a hundred years to come back is reduced to what takes a hundred
    /// years.
    #[must_use]
    pub const fn allow_burst(self, cells: NonZeroU32) -> Self {
        let most = FOREVER / self.interval;
        let burst = if (cells.get() as u64) < most { cells } else { NonZeroU32::MIN.saturating_add(most as u32 - 1) };
        Self { burst, ..self }
    }

    /// Returns the time in which one cell comes back.
    #[must_use]
    pub const fn replenish_interval(&self) -> Duration {
        Duration::from_nanos(self.interval)
    }

    /// Returns the burst, which is also the maximum cost of one message.
    #[must_use]
    pub const fn burst_size(&self) -> NonZeroU32 {
        self.burst
    }

    /// Returns the time in which an empty bucket becomes full again.
    #[must_use]
    pub const fn burst_size_replenished_in(&self) -> Duration {
        Duration::from_nanos(self.interval * self.burst.get() as u64)
    }

    pub(super) fn governor(self) -> governor::Quota {
        // The interval is at least a nanosecond.
        let quota = governor::Quota::with_period(self.replenish_interval());
        quota.unwrap_or(governor::Quota::per_second(NonZeroU32::MAX)).allow_burst(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(number: u32) -> NonZeroU32 {
        NonZeroU32::new(number).unwrap()
    }

    #[test]
    fn a_quota_is_what_governors_of_the_same_name_is() {
        for number in [1, 3, 50, 1000, 1_000_000_000] {
            let (ours, theirs) = (Quota::per_second(cells(number)), governor::Quota::per_second(cells(number)));
            assert_eq!(ours.governor(), theirs);
            assert_eq!(Quota::per_minute(cells(number)).governor(), governor::Quota::per_minute(cells(number)));
            assert_eq!(Quota::per_hour(cells(number)).governor(), governor::Quota::per_hour(cells(number)));
        }
    }

    #[test]
    fn no_quota_overflows_the_clock() {
        let extremes = [
            Quota::per_hour(cells(1)).allow_burst(NonZeroU32::MAX),
            Quota::per_second(NonZeroU32::MAX),
            Quota::with_period(Duration::MAX).allow_burst(NonZeroU32::MAX),
            Quota::with_period(Duration::ZERO),
        ];
        for quota in extremes {
            assert!(quota.interval >= 1);
            let all = u128::from(quota.interval) * u128::from(quota.burst.get());
            assert!(all <= u128::from(FOREVER), "{quota:?}");
        }
        assert_eq!(Quota::with_period(Duration::MAX).burst_size().get(), 1);
    }
}
