use std::{fmt, sync::Arc, time::Duration};

use crate::{MaybeSend, MaybeSync, sync::Mutex, threads::dyn_shared};

/// The round-trip times of one connection, returned by [`Monitor::rtt`].
///
/// A round trip lasts from the time when a ping was due until its pong was read. It includes the time that the ping
/// waited for room and the pong waited to be read. A peer can answer late, but hardly too early, because it does not
/// know the ping in advance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rtt {
    /// The newest round trip.
    pub last: Duration,
    /// The smoothed round trip: SRTT of [RFC 6298, section 2](https://www.rfc-editor.org/rfc/rfc6298#section-2), with
    /// alpha 1/8.
    pub smoothed: Duration,
    /// The variation: RTTVAR of the same RFC, with beta 1/4.
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

/// Returns the mean in which `old` counts `times` as much as `new`.
fn mean(old: Duration, times: u32, new: Duration) -> Duration {
    old.saturating_mul(times).saturating_add(new) / (times + 1)
}

/// A handle to the round-trip times of a connection. It is cheap to clone, and works while a [`Driver`](crate::Driver)
/// owns the transport.
///
/// A monitor from [`Heartbeat::monitor`](super::Heartbeat::monitor) belongs to one connection. One that is given to
/// [`HeartbeatLayer::monitor`](super::HeartbeatLayer::monitor) has the times of the layer's connection that received a
/// pong last. That suits a client that reconnects, which has one connection at a time.
#[derive(Clone, Default)]
pub struct Monitor(Arc<Watched>);

#[derive(Default)]
struct Watched {
    rtt: Mutex<Option<Rtt>>,
    observer: Option<Observer>,
}

/// A function that is called with each event of a heartbeat.
pub(crate) type Observer = Arc<dyn_shared!(Fn(HeartbeatEvent))>;

/// An event that an observer of a [`Monitor`] gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum HeartbeatEvent {
    /// The peer answered a ping after this time.
    RoundTrip(Duration),
    /// The peer did not answer in time, and the connection was ended.
    TimedOut,
}

impl Monitor {
    /// Creates a monitor without any times.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Creates a monitor that calls `observer` with each event of the connections that have it. Use it to record each
    /// round trip once in a histogram.
    ///
    /// The observer runs in the task that polls the transport, so it must not block.
    ///
    /// ```
    /// use tower_transport::layer::heartbeat::{HeartbeatEvent, HeartbeatLayer, Monitor};
    ///
    /// let monitor = Monitor::observed_by(|event| match event {
    ///     HeartbeatEvent::RoundTrip(time) => println!("{time:?}"),
    ///     HeartbeatEvent::TimedOut => println!("the peer is dead"),
    ///     _ => {}
    /// });
    /// let layer = HeartbeatLayer::default().monitor(monitor);
    /// # drop(layer);
    /// ```
    #[must_use]
    pub fn observed_by(observer: impl Fn(HeartbeatEvent) + MaybeSend + MaybeSync + 'static) -> Self {
        Self::with_observer(Some(Arc::new(observer)))
    }

    #[cfg_attr(target_arch = "wasm32", allow(clippy::arc_with_non_send_sync, reason = "an observer is a page's own"))]
    pub(crate) fn with_observer(observer: Option<Observer>) -> Self {
        Self(Arc::new(Watched { rtt: Mutex::default(), observer }))
    }

    /// Returns the round-trip times, once a pong has arrived. A connection that is never idle is not pinged, so its
    /// times stay.
    #[must_use]
    pub fn rtt(&self) -> Option<Rtt> {
        *self.0.rtt.lock()
    }

    fn set(&self, rtt: Rtt) {
        *self.0.rtt.lock() = Some(rtt);
        self.tell(HeartbeatEvent::RoundTrip(rtt.last));
    }

    /// Tells the observer. It is the user's, so no lock is held.
    pub(super) fn tell(&self, event: HeartbeatEvent) {
        if let Some(observer) = &self.0.observer {
            observer(event);
        }
    }
}

impl fmt::Debug for Monitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Copied first: the writer may be the user's, and ask for the times.
        f.debug_tuple("Monitor").field(&self.rtt()).finish()
    }
}

/// Measures the round trips of one connection, and reports them to a monitor.
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
