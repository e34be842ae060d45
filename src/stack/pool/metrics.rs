//! The metrics of a pool: the feature `trace` reports them to the `metrics` facade.

use std::{sync::Arc, time::Duration};

#[cfg(feature = "trace")]
use std::sync::OnceLock;

#[cfg(feature = "trace")]
use metrics::{Counter, Gauge, Histogram};
#[cfg(feature = "trace")]
use tokio::sync::oneshot;

#[cfg(feature = "trace")]
use super::slots::Counts;
#[cfg(feature = "trace")]
use crate::layer::trace::{
    POOL_CONNECT_FAILURES, POOL_CONNECTIONS, POOL_RETIRED, POOL_WAIT_SECONDS, POOL_WAITING, Role, has_recorder,
};

/// How often the number of connections and of waiting calls are reported.
#[cfg(feature = "trace")]
const PERIOD: Duration = Duration::from_secs(5);

/// Why a connection gets no more calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// It has had no call for the idle timeout.
    Idle,
    /// It has reached its maximum lifetime.
    Old,
    /// It has ended.
    Lost,
}

/// The metrics of a pool. Without a recorder they cost nothing.
///
/// Connects, retired connections and waits are reported when they happen. The gauges are sampled, because a recorder
/// may be slow and every call changes them.
pub(super) struct PoolMetrics {
    #[cfg_attr(not(feature = "trace"), expect(dead_code, reason = "it is a label"))]
    name: Arc<str>,
    /// Set at the first connect that finds a recorder.
    #[cfg(feature = "trace")]
    live: OnceLock<Live>,
}

#[cfg(feature = "trace")]
struct Live {
    connect_failures: Counter,
    /// In the order of [`Reason`].
    retired: [Counter; 3],
    wait: Histogram,
    /// Dropped with the pool, which ends the task that samples the gauges.
    _stop: oneshot::Sender<()>,
}

impl PoolMetrics {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            #[cfg(feature = "trace")]
            live: OnceLock::new(),
        }
    }

    /// Starts to report if a recorder is installed. Returns the gauges for a task to [sample](Gauges::run) at the
    /// first time. Call it for each connect.
    #[cfg(feature = "trace")]
    pub(super) fn start(&self) -> Option<Gauges> {
        if self.live.get().is_some() || !has_recorder() {
            return None;
        }
        let labels = [("name", self.name.to_string()), ("role", Role::Client.label().into())];
        let with = |label: &'static str, value: &'static str| {
            let mut labels = labels.to_vec();
            labels.push((label, value.into()));
            labels
        };
        let (stop, stopped) = oneshot::channel();
        let live = Live {
            connect_failures: metrics::counter!(POOL_CONNECT_FAILURES, &labels),
            retired: ["idle", "old", "lost"].map(|reason| metrics::counter!(POOL_RETIRED, &with("reason", reason))),
            wait: metrics::histogram!(POOL_WAIT_SECONDS, &labels),
            _stop: stop,
        };
        let connections = ["idle", "used", "connecting", "retired"];
        let connections = connections.map(|state| metrics::gauge!(POOL_CONNECTIONS, &with("state", state)));
        let waiting = metrics::gauge!(POOL_WAITING, &labels);
        // Another connect may have been first.
        self.live.set(live).ok()?;
        let [idle, used, connecting, retired] = connections;
        Some(Gauges { gauges: [idle, used, connecting, retired, waiting], reported: Counts::default(), stopped })
    }

    pub(super) fn connect_failed(&self) {
        #[cfg(feature = "trace")]
        if let Some(live) = self.live.get() {
            live.connect_failures.increment(1);
        }
    }

    pub(super) fn retired(&self, reason: Reason) {
        #[cfg(feature = "trace")]
        if let Some(counter) = self.live.get().and_then(|live| live.retired.get(reason as usize)) {
            counter.increment(1);
        }
        #[cfg(not(feature = "trace"))]
        let _ = reason;
    }

    /// Records how long a call has waited for a connection, in vain or not.
    pub(super) fn waited(&self, time: Duration) {
        #[cfg(feature = "trace")]
        if let Some(live) = self.live.get() {
            live.wait.record(time.as_secs_f64());
        }
        #[cfg(not(feature = "trace"))]
        let _ = time;
    }
}

/// The sampled gauges. They are reported as differences, because pools may share a name.
#[cfg(feature = "trace")]
pub(super) struct Gauges {
    gauges: [Gauge; 5],
    reported: Counts,
    stopped: oneshot::Receiver<()>,
}

#[cfg(feature = "trace")]
impl Gauges {
    /// Reports every [`PERIOD`] until the pool is gone, or `counts` returns `None`.
    pub(super) async fn run(mut self, counts: impl Fn() -> Option<Counts>) {
        while let Some(counts) = counts() {
            self.report(counts);
            let pause = std::pin::pin!(crate::rt::sleep(PERIOD));
            if let futures_util::future::Either::Right(_) = futures_util::future::select(pause, &mut self.stopped).await
            {
                return;
            }
        }
    }

    fn report(&mut self, counts: Counts) {
        let before = std::mem::replace(&mut self.reported, counts);
        for ((gauge, now), before) in self.gauges.iter().zip(counts.all()).zip(before.all()) {
            gauge.increment(now as f64 - before as f64);
        }
    }
}

#[cfg(feature = "trace")]
impl Drop for Gauges {
    fn drop(&mut self) {
        self.report(Counts::default());
    }
}
