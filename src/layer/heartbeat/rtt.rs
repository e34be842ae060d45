use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Round-trip times of one connection: what [`Monitor::rtt`] gives.
///
/// A round trip lasts from when a ping was due until its pong was read. So it includes what the ping waited for room, and what
/// the pong waited to be read; and a peer can answer late, but hardly too early, since it does not see the ping before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rtt {
    /// The newest.
    pub last: Duration,
    /// The smoothed one: SRTT of [RFC 6298, section 2](https://www.rfc-editor.org/rfc/rfc6298#section-2), with alpha 1/8.
    pub smoothed: Duration,
    /// How much it varies: RTTVAR of the same, with beta 1/4.
    pub variation: Duration,
}

impl Rtt {
    fn first(rtt: Duration) -> Self {
        Self { last: rtt, smoothed: rtt, variation: rtt / 2 }
    }

    fn next(self, rtt: Duration) -> Self {
        let difference = self.smoothed.abs_diff(rtt);
        Self {
            last: rtt,
            // RTTVAR first: it is measured by the old SRTT.
            variation: mean(self.variation, 3, difference),
            smoothed: mean(self.smoothed, 7, rtt),
        }
    }
}

/// `old` counts so many times as much as `new`.
fn mean(old: Duration, times: u32, new: Duration) -> Duration {
    old.saturating_mul(times).saturating_add(new) / (times + 1)
}

/// Tells the round-trip time of a connection, from anywhere: it is cheap to clone, and works while a
/// [`Driver`](crate::Driver) owns the transport.
///
/// From [`Heartbeat::monitor`](super::Heartbeat::monitor) it is one connection's. Given to
/// [`HeartbeatLayer::monitor`](super::HeartbeatLayer::monitor) it tells of whichever of the layer's connections had a pong
/// last: what a client that reconnects wants, which has one at a time.
#[derive(Clone, Debug, Default)]
pub struct Monitor(Arc<Mutex<Option<Rtt>>>);

impl Monitor {
    /// A monitor that knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The round-trip times, once a pong came. A connection that is never idle is not asked, and tells nothing new.
    #[must_use]
    pub fn rtt(&self) -> Option<Rtt> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, rtt: Rtt) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(rtt);
    }
}

/// The times of one connection, told to a monitor.
#[derive(Debug)]
pub(super) struct RoundTrips {
    rtt: Option<Rtt>,
    monitor: Monitor,
}

impl RoundTrips {
    pub(super) const fn new(monitor: Monitor) -> Self {
        Self { rtt: None, monitor }
    }

    pub(super) fn add(&mut self, rtt: Duration) {
        let rtt = self.rtt.map_or_else(|| Rtt::first(rtt), |old| old.next(rtt));
        self.rtt = Some(rtt);
        self.monitor.set(rtt);
    }

    pub(super) fn get(&self) -> Option<Rtt> {
        self.rtt
    }

    pub(super) fn monitor(&self) -> &Monitor {
        &self.monitor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn the_times_are_smoothed_as_rfc_6298_says() {
        let mut round_trips = RoundTrips::new(Monitor::new());
        let monitor = round_trips.monitor().clone();
        assert_eq!(monitor.rtt(), None);
        round_trips.add(millis(80));
        assert_eq!(monitor.rtt(), Some(Rtt { last: millis(80), smoothed: millis(80), variation: millis(40) }));
        // RTTVAR = 3/4 * 40 + 1/4 * |80 - 160|; SRTT = 7/8 * 80 + 1/8 * 160.
        round_trips.add(millis(160));
        assert_eq!(monitor.rtt(), Some(Rtt { last: millis(160), smoothed: millis(90), variation: millis(50) }));
    }

    #[test]
    fn no_time_is_too_long() {
        let mut round_trips = RoundTrips::new(Monitor::new());
        round_trips.add(Duration::MAX);
        round_trips.add(Duration::MAX);
        assert_eq!(round_trips.get().map(|rtt| rtt.last), Some(Duration::MAX));
    }
}
