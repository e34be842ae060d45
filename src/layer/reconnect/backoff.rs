use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

use crate::{CloseFrame, Error};

/// The minimum delay, so that a failing server is not retried in a tight loop.
const FLOOR: Duration = Duration::from_millis(10);

/// The maximum delay. A longer one would overflow the clock.
const CEILING: Duration = Duration::from_secs(86_400 * 365);

/// The delays between attempts to connect, and the number of attempts. The sequence is backon's.
///
/// | | [`exponential`](Self::exponential) | [`fixed`](Self::fixed) | [`none`](Self::none) |
/// |---|---|---|---|
/// | [`base`](Self::base) | 100 ms | as given | - |
/// | [`factor`](Self::factor) | 2 | 1 | - |
/// | [`cap`](Self::cap) | 30 s | as given | - |
/// | [`jitter`](Self::jitter) | full | off | - |
/// | [`max_retries`](Self::max_retries) | unlimited | unlimited | 0 |
/// | [`max_retry_after`](Self::max_retry_after) | 10 min | 10 min | - |
///
/// Every delay is at least 10 ms and at most a year, whatever is set.
///
/// **Full jitter** draws each delay evenly between that minimum and the value of the exponential sequence, which the
/// cap bounds: 10,000 clients that lose one server do not reconnect together. (backon's own jitter adds up to the whole
/// delay on top of it, so it reaches twice the cap and never goes below the delay. Only the added part is used here.)
///
/// A peer that tells when to retry ([`Error::retry_after`](crate::Error::retry_after), from a 429 or 503 with
/// `Retry-After`) is not retried sooner. The delay comes on top of that time, so that clients which were told the same
/// time do not come together.
///
/// A server that drains tells each client a time of its own
/// ([`CloseFrame::return_after`](crate::CloseFrame::return_after)), which it has spread over its clients. The client
/// returns at that time, unless its own delay is longer. [`max_retry_after`](Self::max_retry_after) bounds both.
#[derive(Clone)]
pub struct Backoff {
    base: Duration,
    factor: f32,
    cap: Duration,
    jitter: bool,
    max_retries: Option<usize>,
    max_retry_after: Duration,
    seed: Option<u64>,
}

impl Backoff {
    /// Creates delays that double from 100 ms to 30 s, with full jitter, forever.
    #[must_use]
    pub const fn exponential() -> Self {
        Self {
            base: Duration::from_millis(100),
            factor: 2.0,
            cap: Duration::from_secs(30),
            jitter: true,
            max_retries: None,
            max_retry_after: Duration::from_secs(600),
            seed: None,
        }
    }

    /// Creates a constant delay without jitter, forever. For a single client: a fleet needs jitter.
    #[must_use]
    pub const fn fixed(delay: Duration) -> Self {
        Self { base: delay, factor: 1.0, cap: delay, jitter: false, ..Self::exponential() }
    }

    /// Creates a backoff without retries: the first failure and the first loss are final.
    #[must_use]
    pub const fn none() -> Self {
        Self { max_retries: Some(0), ..Self::exponential() }
    }

    /// Sets the first delay, before jitter. Defaults to 100 ms.
    #[must_use]
    pub const fn base(mut self, delay: Duration) -> Self {
        self.base = delay;
        self
    }

    /// Sets the factor between one delay and the next. Defaults to 2. A factor below 1, or not a number, counts as 1.
    #[must_use]
    pub const fn factor(mut self, factor: f32) -> Self {
        self.factor = factor;
        self
    }

    /// Sets the maximum delay, including jitter. Defaults to 30 s.
    #[must_use]
    pub const fn cap(mut self, delay: Duration) -> Self {
        self.cap = delay;
        self
    }

    /// Sets whether delays have full jitter. Defaults to on.
    #[must_use]
    pub const fn jitter(mut self, on: bool) -> Self {
        self.jitter = on;
        self
    }

    /// Sets the number of retries after which the layer gives up. Defaults to unlimited. A
    /// [healthy](super::ReconnectLayer::healthy_after) connection resets the count.
    #[must_use]
    pub const fn max_retries(mut self, retries: usize) -> Self {
        self.max_retries = Some(retries);
        self
    }

    /// Sets the maximum time that a peer can ask for, by `Retry-After` or with a close. Defaults to 10 minutes. A longer
    /// request is reduced to it.
    #[must_use]
    pub const fn max_retry_after(mut self, time: Duration) -> Self {
        self.max_retry_after = time;
        self
    }

    /// Sets the seed of the jitter, for reproducible tests and simulations. By default each sequence of attempts has
    /// its own seed.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Returns the delays of one sequence of attempts. The first one precedes the second attempt. The iterator ends
    /// after the last retry.
    #[must_use]
    pub fn delays(&self) -> Delays {
        let cap = self.cap.clamp(FLOOR, CEILING);
        let factor = if self.factor >= 1.0 && self.factor.is_finite() { self.factor } else { 1.0 };
        let plain = ExponentialBuilder::new()
            .with_min_delay(self.base.clamp(FLOOR, cap))
            .with_max_delay(cap)
            .with_factor(factor)
            .without_max_times();
        let plain = match self.max_retries {
            Some(retries) => plain.with_max_times(retries),
            None => plain,
        };
        // backon seeds its generator with a constant where there is no operating system, which would align all clients.
        let jittered = match self.seed.or_else(fresh_seed) {
            Some(seed) => plain.with_jitter_seed(seed),
            None => plain,
        };
        Delays {
            plain: plain.build(),
            jittered: self.jitter.then(|| jittered.with_jitter().build()),
            max_retry_after: self.max_retry_after.min(CEILING),
        }
    }
}

/// Natively, backon draws a seed.
#[cfg(not(target_arch = "wasm32"))]
fn fresh_seed() -> Option<u64> {
    None
}

/// backon knows no source of entropy in a page.
#[cfg(target_arch = "wasm32")]
fn fresh_seed() -> Option<u64> {
    Some(crate::rt::random())
}

impl Default for Backoff {
    fn default() -> Self {
        Self::exponential()
    }
}

debug_fields!(Backoff { base, factor, cap, jitter, max_retries });

/// The delays of one sequence of attempts, created by [`Backoff::delays`].
#[derive(Debug)]
pub struct Delays {
    plain: <ExponentialBuilder as BackoffBuilder>::Backoff,
    /// The same sequence, with up to itself added to each delay.
    jittered: Option<<ExponentialBuilder as BackoffBuilder>::Backoff>,
    max_retry_after: Duration,
}

impl Delays {
    /// Returns the next delay. The time that the peer told every client is added to it; the time that it told this
    /// client alone replaces a shorter delay.
    pub(super) fn next_after(&mut self, asked: Asked) -> Option<Duration> {
        let delay = self.next()?;
        Some(match asked {
            Asked::Nothing => delay,
            Asked::Everybody(time) => delay + time.min(self.max_retry_after),
            Asked::ThisClient(time) => delay.max(time.min(self.max_retry_after)),
        })
    }
}

/// The delay that a peer asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Asked {
    #[default]
    Nothing,
    /// Other clients were told the same time (`Retry-After`).
    Everybody(Duration),
    /// The peer has spread its clients' times (a close frame's return hint).
    ThisClient(Duration),
}

impl Asked {
    pub(super) fn of(error: &Error) -> Self {
        match (error.close_frame().and_then(CloseFrame::return_after), error.retry_after()) {
            (Some(time), _) => Self::ThisClient(time),
            (None, Some(time)) => Self::Everybody(time),
            (None, None) => Self::Nothing,
        }
    }
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let longest = self.plain.next()?;
        let Some(jittered) = &mut self.jittered else { return Some(longest) };
        let added = jittered.next()?.saturating_sub(longest);
        // `added` is uniform between 0 and `longest`. It is scaled to lie between the minimum and `longest`.
        let room = longest.saturating_sub(FLOOR);
        Some(FLOOR + added.mul_f64(room.as_secs_f64() / longest.as_secs_f64()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(backoff: &Backoff, count: usize) -> Vec<u128> {
        backoff.delays().take(count).map(|delay| delay.as_millis()).collect()
    }

    #[test]
    fn without_jitter_the_delays_double_up_to_the_cap() {
        let backoff = Backoff::exponential().jitter(false).cap(Duration::from_secs(1));
        assert_eq!(millis(&backoff, 6), [100, 200, 400, 800, 1000, 1000]);
    }

    #[test]
    fn a_delay_with_jitter_is_between_the_floor_and_the_sequence_and_never_over_the_cap() {
        let plain: Vec<_> = Backoff::exponential().jitter(false).delays().take(40).collect();
        for seed in 0..500 {
            for (delay, longest) in Backoff::exponential().seed(seed).delays().zip(&plain) {
                assert!(delay >= FLOOR && delay <= *longest && delay <= Duration::from_secs(30), "{delay:?}");
            }
        }
    }

    #[test]
    fn the_first_delays_of_a_herd_are_spread_evenly() {
        let mut buckets = [0; 18];
        for _ in 0..10_000 {
            let delay = Backoff::exponential().delays().next().unwrap();
            buckets[((delay - FLOOR).as_micros() / 5_000) as usize] += 1;
        }
        let mean = 10_000 / buckets.len();
        assert!(buckets.iter().all(|&bucket| bucket <= 2 * mean && bucket >= mean / 2), "{buckets:?}");
    }

    #[test]
    fn the_attempts_end_after_the_retries() {
        assert_eq!(Backoff::exponential().max_retries(3).delays().count(), 3);
        assert_eq!(Backoff::none().delays().count(), 0);
        assert_eq!(Backoff::fixed(Duration::from_secs(1)).max_retries(2).delays().count(), 2);
    }

    #[test]
    fn invalid_settings_still_wait() {
        for factor in [f32::NAN, f32::INFINITY, -1.0, 0.0, f32::MAX] {
            let backoff = Backoff::exponential().factor(factor).base(Duration::ZERO).cap(Duration::ZERO);
            assert_eq!(millis(&backoff, 3), [10, 10, 10], "{factor}");
            let backoff = Backoff::exponential().factor(factor).cap(Duration::MAX).base(Duration::MAX);
            assert!(backoff.delays().take(3).all(|delay| delay >= FLOOR && delay <= CEILING), "{factor}");
        }
        assert_eq!(millis(&Backoff::fixed(Duration::ZERO), 2), [10, 10]);
    }

    #[test]
    fn the_time_that_a_peer_asks_for_is_added_and_has_a_limit() {
        let backoff = Backoff::fixed(Duration::from_secs(1)).max_retry_after(Duration::from_secs(60));
        let mut delays = backoff.delays();
        let mut next = |asked| delays.next_after(asked).unwrap().as_secs();
        assert_eq!(next(Asked::Nothing), 1);
        assert_eq!(next(Asked::Everybody(Duration::from_secs(5))), 6);
        assert_eq!(next(Asked::Everybody(Duration::MAX)), 61);
    }

    #[test]
    fn the_time_for_this_client_alone_is_kept_unless_its_own_delay_is_longer() {
        let backoff = Backoff::fixed(Duration::from_secs(1)).max_retry_after(Duration::from_secs(60));
        let mut delays = backoff.delays();
        let mut next = |asked| delays.next_after(Asked::ThisClient(asked)).unwrap();
        assert_eq!(next(Duration::from_millis(4321)), Duration::from_millis(4321));
        assert_eq!(next(Duration::ZERO), Duration::from_secs(1));
        assert_eq!(next(Duration::MAX), Duration::from_secs(60));
    }
}
