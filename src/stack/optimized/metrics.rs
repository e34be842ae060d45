//! The metrics that a stack reports automatically, in addition to those of its trace layer.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::future::select;
use metrics::{Counter, Histogram};
use tokio::sync::oneshot;

use crate::{
    MaybeSend, MaybeSync, Message,
    layer::{
        compression,
        heartbeat::{HeartbeatEvent, Observer},
        rate_limit::RateLimitCounts,
        resume::Verdict,
        trace::{
            COMPRESSION_PLAIN_BYTES, COMPRESSION_WIRE_BYTES, CONNECT_SECONDS, CONNECTS, FRESH, HEARTBEAT_TIMEOUTS,
            Meter, QUEUE_BYTES, QUEUE_DROPPED, QUEUE_MESSAGES, RATE_LIMITED, RESUMED, ROUND_TRIP, Role, has_recorder,
        },
    },
    rt,
    sync::Mutex,
    threads::dyn_shared,
    transport::QueueDepth,
};

/// How often the sampled metrics are reported.
const PERIOD: Duration = Duration::from_secs(5);

type AddSources = dyn_shared!(Fn(Meter) -> Meter);

/// The metrics of a client's transport, or of an acceptor and all of its sessions.
///
/// | metrics | reported |
/// |---|---|
/// | round trips, dead peers, verdicts, connects | when they happen |
/// | queues, reconnects, rate limit, compression, resume store | sampled by a task, every 5 s and at the end |
///
/// No message passes through here. Without a recorder there is no task.
pub(super) struct StackMetrics {
    name: Arc<str>,
    role: Role,
    /// Adds the sources that both ends have.
    add_sources: Box<AddSources>,
    queues: Arc<Queues>,
    /// Set at the first connection that finds a recorder.
    live: OnceLock<Live>,
}

struct Live {
    observer: Observer,
    resumed: Counter,
    fresh: Counter,
    /// Dropped with the stack, which ends the task.
    _stop: Option<oneshot::Sender<()>>,
}

impl StackMetrics {
    pub(super) fn new(
        name: Arc<str>,
        role: Role,
        add_sources: impl Fn(Meter) -> Meter + MaybeSend + MaybeSync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { name, role, add_sources: Box::new(add_sources), queues: Arc::default(), live: OnceLock::new() })
    }

    /// Starts to report if a recorder is installed. Call it for each connection.
    pub(super) fn start(&self) {
        self.start_with(|meter| meter);
    }

    /// Starts as [`start`](Self::start) does, with more sources.
    pub(super) fn start_with(&self, add_sources: impl FnOnce(Meter) -> Meter) {
        if self.live.get().is_none() && has_recorder() {
            // Made before it is set: a recorder is the user's code, and may come back here.
            let live = self.go_live(add_sources);
            let _ = self.live.set(live);
        }
    }

    fn go_live(&self, add_sources: impl FnOnce(Meter) -> Meter) -> Live {
        let labels = [("name", self.name.to_string()), ("role", self.role.label().into())];
        let (round_trip, timeouts) =
            (metrics::histogram!(ROUND_TRIP, &labels), metrics::counter!(HEARTBEAT_TIMEOUTS, &labels));
        let observer = move |event| match event {
            HeartbeatEvent::RoundTrip(time) => Histogram::record(&round_trip, time.as_secs_f64()),
            HeartbeatEvent::TimedOut => timeouts.increment(1),
        };
        Live {
            observer: Arc::new(observer),
            resumed: metrics::counter!(RESUMED, &labels),
            fresh: metrics::counter!(FRESH, &labels),
            _stop: self.spawn(add_sources),
        }
    }

    /// Spawns the task that reports the sampled metrics.
    fn spawn(&self, add_sources: impl FnOnce(Meter) -> Meter) -> Option<oneshot::Sender<()>> {
        if !rt::has_runtime() {
            return None;
        }
        let (messages, bytes, dropped) = (self.queues.clone(), self.queues.clone(), self.queues.clone());
        let meter = Meter::new(self.name.to_string(), self.role)
            .gauge(QUEUE_MESSAGES, move || messages.sum().0 as f64)
            .gauge(QUEUE_BYTES, move || bytes.sum().1 as f64)
            .counter(QUEUE_DROPPED, move || dropped.sum().2);
        let mut meter = add_sources((self.add_sources)(meter));
        // The sender is dropped with the stack. No handle to the task is needed, and none can be forgotten.
        let (stop, mut stopped) = oneshot::channel();
        rt::detach(async move {
            // The meter reports once more when it is dropped, at the end.
            loop {
                meter.publish();
                let pause = std::pin::pin!(rt::sleep(PERIOD));
                if let futures_util::future::Either::Right(_) = select(pause, &mut stopped).await {
                    return;
                }
            }
        });
        Some(stop)
    }

    /// Returns an observer of heartbeats that are made before the first connection. It does not keep the stack alive.
    pub(super) fn late_observer(self: &Arc<Self>) -> Observer {
        let metrics = Arc::downgrade(self);
        Arc::new(move |event| {
            if let Some(observer) = metrics.upgrade().and_then(|metrics| metrics.observer()) {
                observer(event);
            }
        })
    }

    /// Returns the observer of the heartbeats. `None` without a recorder.
    pub(super) fn observer(&self) -> Option<Observer> {
        self.live.get().map(|live| live.observer.clone())
    }

    /// Counts the verdict of a client's new connection.
    pub(super) fn judged(&self, verdict: Verdict) {
        let Some(live) = self.live.get() else { return };
        match verdict {
            Verdict::New => {}
            Verdict::Resumed { .. } => live.resumed.increment(1),
            Verdict::Fresh { .. } => live.fresh.increment(1),
        }
    }

    /// Counts a connection that a client made. `transport` is a word of this crate.
    pub(super) fn connected(&self, transport: &'static str, after: Duration) {
        if self.live.get().is_none() {
            return;
        }
        let labels = [
            ("name", self.name.to_string()),
            ("role", self.role.label().into()),
            ("network.protocol.name", transport.into()),
        ];
        metrics::counter!(CONNECTS, &labels).increment(1);
        metrics::histogram!(CONNECT_SECONDS, &labels).record(after.as_secs_f64());
    }

    /// Adds a queue to the sums until the guard is dropped. `None` without a recorder.
    pub(super) fn watch(&self, queue: QueueDepth<Message>) -> Option<WatchedQueue> {
        // Without a recorder nothing reads the sums, so the list stays empty.
        self.live.get()?;
        // The queue is put into the list under the lock, but nothing of the user's runs there: a depth only counts.
        let id = {
            let mut list = self.queues.0.lock();
            list.next_id += 1;
            let id = list.next_id;
            list.open.insert(id, queue);
            id
        };
        Some(WatchedQueue { queues: self.queues.clone(), id })
    }
}

debug_fields!(StackMetrics { name, role });

/// Adds the counts that both ends have.
pub(super) fn with_counts(meter: Meter, stats: Option<compression::Stats>, counts: Option<RateLimitCounts>) -> Meter {
    let (plain, wire) = (stats.clone(), stats);
    meter
        .counter(COMPRESSION_PLAIN_BYTES, move || plain.as_ref().map_or(0, |stats| stats.sent().plain_bytes))
        .counter(COMPRESSION_WIRE_BYTES, move || wire.as_ref().map_or(0, |stats| stats.sent().compressed_bytes))
        .counter(RATE_LIMITED, move || counts.as_ref().map_or(0, |counts| counts.waited() + counts.rejected()))
}

/// The queues of the split transports of one stack.
#[derive(Default)]
struct Queues(Mutex<QueueList>);

#[derive(Default)]
struct QueueList {
    open: HashMap<u64, QueueDepth<Message>>,
    next_id: u64,
    /// The messages that queues dropped that are gone.
    dropped: u64,
}

impl Queues {
    /// Returns the sums of waiting messages, waiting bytes, and dropped messages.
    fn sum(&self) -> (usize, usize, u64) {
        let list = self.0.lock();
        list.open.values().map(QueueDepth::get).fold((0, 0, list.dropped), |sum, (messages, bytes, dropped)| {
            (sum.0 + messages, sum.1 + bytes, sum.2 + dropped)
        })
    }
}

/// A queue that counts in the metrics until this guard is dropped.
pub(super) struct WatchedQueue {
    queues: Arc<Queues>,
    id: u64,
}

impl Drop for WatchedQueue {
    fn drop(&mut self) {
        let mut list = self.queues.0.lock();
        let queue = list.open.remove(&self.id);
        // A counter must not fall when its queue is gone.
        list.dropped += queue.as_ref().map_or(0, |queue| queue.get().2);
        drop(list);
        // It may be the last owner of the user's messages, so it is dropped without the lock.
        drop(queue);
    }
}
