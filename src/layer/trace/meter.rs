use std::{borrow::Cow, time::Duration};

use metrics::{Counter, Gauge, Histogram};

use super::Role;
use crate::{MaybeSend, threads::dyn_send};

/// Publishes the observable handles of other layers to the [`metrics`] facade: a queue's depth, a heartbeat's round
/// trip, the number of reconnects.
///
/// Each source is a function that reads such a handle. [`publish`](Self::publish) reads all sources and tells the
/// recorder what changed. The owner of the meter decides when to call it, or spawns [`run`](Self::run). A meter belongs
/// to one connection (or one stack), and **many meters may share a metric**: counters and gauges are reported as
/// differences, so that the recorder has the sum over all meters. When a meter is dropped, it reports its counters once
/// more and subtracts its share from the gauges.
///
/// The recorder's handles are looked up when a source is added.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
/// use tower_transport::layer::trace::{Meter, QUEUE_MESSAGES, RECONNECTS, Role};
///
/// let reconnects = Arc::new(AtomicU64::new(0)); // counted by some layer
/// let seen = reconnects.clone();
/// let mut meter = Meter::new("feed", Role::Client)
///     .counter(RECONNECTS, move || seen.load(Ordering::Relaxed))
///     .gauge(QUEUE_MESSAGES, || 3.0);
/// reconnects.fetch_add(1, Ordering::Relaxed);
/// meter.publish();
/// ```
pub struct Meter {
    name: Cow<'static, str>,
    role: Role,
    sources: Vec<Source>,
}

enum Source {
    Counter { read: Box<dyn_send!(FnMut() -> u64)>, reported: u64, counter: Counter },
    Gauge { read: Box<dyn_send!(FnMut() -> f64)>, reported: f64, gauge: Gauge },
    Histogram { read: Box<dyn_send!(FnMut() -> Option<f64>)>, histogram: Histogram },
}

impl Meter {
    /// Creates a meter without sources. Its metrics have the labels `name` and `role`; use the values of the
    /// [`TraceLayer`](super::TraceLayer) of the same stack.
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>, role: Role) -> Self {
        Self { name: name.into(), role, sources: Vec::new() }
    }

    /// Adds a source that only increases, such as a count of drops. A value below the last one is treated as equal to
    /// it.
    #[must_use]
    pub fn counter(mut self, metric: &'static str, read: impl FnMut() -> u64 + MaybeSend + 'static) -> Self {
        let counter = metrics::counter!(metric, "name" => self.name.clone(), "role" => self.role.label());
        self.sources.push(Source::Counter { read: Box::new(read), reported: 0, counter });
        self
    }

    /// Adds a source that increases and decreases, and whose sum over all connections is meaningful, such as a queue's
    /// depth.
    #[must_use]
    pub fn gauge(mut self, metric: &'static str, read: impl FnMut() -> f64 + MaybeSend + 'static) -> Self {
        let gauge = metrics::gauge!(metric, "name" => self.name.clone(), "role" => self.role.label());
        self.sources.push(Source::Gauge { read: Box::new(read), reported: 0.0, gauge });
        self
    }

    /// Adds a source whose distribution is meaningful, such as a round trip. Each [`publish`](Self::publish) records
    /// one value if there is one.
    #[must_use]
    pub fn histogram(mut self, metric: &'static str, read: impl FnMut() -> Option<f64> + MaybeSend + 'static) -> Self {
        let histogram = metrics::histogram!(metric, "name" => self.name.clone(), "role" => self.role.label());
        self.sources.push(Source::Histogram { read: Box::new(read), histogram });
        self
    }

    /// Reads every source and tells the recorder.
    pub fn publish(&mut self) {
        for source in &mut self.sources {
            match source {
                Source::Counter { read, reported, counter } => {
                    // A source that starts again at 0 must not make the counter overflow.
                    let now = read().max(*reported);
                    counter.increment(now - *reported);
                    *reported = now;
                }
                Source::Gauge { read, reported, gauge } => {
                    let now = read();
                    // Other meters share the gauge, so its absolute value is not known here.
                    gauge.increment(now - *reported);
                    *reported = now;
                }
                Source::Histogram { read, histogram } => {
                    if let Some(value) = read() {
                        histogram.record(value);
                    }
                }
            }
        }
    }

    /// Publishes every `period` (at least 1 ms), forever. Spawn it with the connection, and drop it with the
    /// connection. Dropping this future loses nothing.
    pub async fn run(mut self, period: Duration) {
        loop {
            self.publish();
            crate::rt::sleep(period.max(Duration::from_millis(1))).await;
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        for source in &mut self.sources {
            match source {
                Source::Counter { read, reported, counter } => counter.increment(read().saturating_sub(*reported)),
                // Without this, the sum would keep the last value of each connection that ended.
                Source::Gauge { reported, gauge, .. } => gauge.decrement(*reported),
                Source::Histogram { .. } => {}
            }
        }
    }
}

debug_fields!(Meter { name, role });
