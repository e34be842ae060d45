/// A metric that this crate reports to the [`metrics`] facade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// The name of the metric.
    pub name: &'static str,
    /// The kind of the metric.
    pub kind: MetricKind,
    /// The names of its labels, as the facade has them. An exporter for Prometheus writes `_` in place of each dot.
    pub labels: &'static [&'static str],
    /// The description that the exporter shows, a noun phrase.
    pub description: &'static str,
}

/// The kinds of metrics of the [`metrics`] facade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricKind {
    /// A value that only increases.
    Counter,
    /// A value that increases and decreases.
    Gauge,
    /// A distribution of many values.
    Histogram,
}

macro_rules! metrics_table {
    ($($constant:ident $name:literal $kind:ident [$($label:literal),*] $what:literal)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $what, ".")]
            pub const $constant: &str = $name;
        )*

        /// Every metric of this crate; the [module](super) documents them in a table.
        pub const METRICS: &[Metric] = &[
            $(Metric { name: $name, kind: MetricKind::$kind, labels: &[$($label),*], description: $what },)*
        ];
    };
}

metrics_table! {
    SESSIONS "tower_transport_sessions_total" Counter ["name", "role"] "connections since the start"
    SESSIONS_OPEN "tower_transport_sessions_open" Gauge ["name", "role"] "connections that are open"
    SESSION_SECONDS "tower_transport_session_seconds" Histogram ["name", "role"] "how long connections lasted"
    CLOSES "tower_transport_closes_total" Counter ["name", "role", "code"] "connections that ended, by close code"
    MESSAGES "tower_transport_messages_total" Counter ["name", "role", "network.io.direction"] "messages, each way"
    BYTES "tower_transport_bytes_total" Counter ["name", "role", "network.io.direction"] "bytes of payload, each way"
    MESSAGE_BYTES "tower_transport_message_bytes" Histogram ["name", "role", "network.io.direction"]
        "sizes of messages, if recording is on"
    ERRORS "tower_transport_errors_total" Counter ["name", "role", "network.io.direction", "error.type"]
        "errors, by kind"
    QUEUE_MESSAGES "tower_transport_queue_messages" Gauge ["name", "role"] "messages that wait in outgoing queues"
    QUEUE_BYTES "tower_transport_queue_bytes" Gauge ["name", "role"] "bytes that wait in outgoing queues"
    QUEUE_DROPPED "tower_transport_queue_dropped_total" Counter ["name", "role"]
        "messages that the policy of a queue dropped"
    ROUND_TRIP "tower_transport_round_trip_seconds" Histogram ["name", "role"]
        "round trips that heartbeats measured"
    HEARTBEAT_TIMEOUTS "tower_transport_heartbeat_timeouts_total" Counter ["name", "role"]
        "peers that did not answer the heartbeat"
    RECONNECTS "tower_transport_reconnects_total" Counter ["name", "role"] "reconnects after a connection was lost"
    RESUMED "tower_transport_resumed_total" Counter ["name", "role"]
        "sessions that resumed without a gap after a reconnect"
    FRESH "tower_transport_fresh_total" Counter ["name", "role"]
        "sessions that had to start again after a reconnect"
    RESUME_SESSIONS "tower_transport_resume_sessions" Gauge ["name", "role"] "sessions that a server holds"
    RESUME_WAITING "tower_transport_resume_waiting" Gauge ["name", "role"]
        "sessions of a server whose client is disconnected"
    RESUME_BYTES "tower_transport_resume_bytes" Gauge ["name", "role"]
        "bytes that a server holds for its sessions"
    RATE_LIMITED "tower_transport_rate_limited_total" Counter ["name", "role"] "messages over a rate limit"
    COMPRESSION_PLAIN_BYTES "tower_transport_compression_plain_bytes_total" Counter ["name", "role"]
        "bytes before compression"
    COMPRESSION_WIRE_BYTES "tower_transport_compression_wire_bytes_total" Counter ["name", "role"]
        "bytes after compression"
    CONNECTS "tower_transport_connects_total" Counter ["name", "role", "network.protocol.name"]
        "connections that a client made, by transport"
    CONNECT_SECONDS "tower_transport_connect_seconds" Histogram ["name", "role", "network.protocol.name"]
        "duration of an attempt that connected"
    FALLBACKS "tower_transport_fallbacks_total" Counter ["name", "role", "network.protocol.name", "reason"]
        "transports that failed to connect"
    PATHS_LOST "tower_transport_paths_lost_total" Counter ["name", "role", "network.protocol.name"]
        "connections whose path went dead"
    HANDSHAKES "tower_transport_handshakes_total" Counter ["network.protocol.name", "http.response.status_code"]
        "handshakes that a server answered, by status"
    HANDSHAKE_SECONDS "tower_transport_handshake_seconds" Histogram ["network.protocol.name"]
        "duration of a handshake that a server accepted"
    POOL_CONNECTIONS "tower_transport_pool_connections" Gauge ["name", "role", "state"] "connections of pools, by state"
    POOL_WAITING "tower_transport_pool_waiting" Gauge ["name", "role"] "calls that wait for a connection of a pool"
    POOL_WAIT_SECONDS "tower_transport_pool_wait_seconds" Histogram ["name", "role"]
        "how long calls waited for a connection of a pool"
    POOL_CONNECT_FAILURES "tower_transport_pool_connect_failures_total" Counter ["name", "role"]
        "failed attempts of pools to connect"
    POOL_RETIRED "tower_transport_pool_retired_total" Counter ["name", "role", "reason"]
        "connections that pools gave no more calls, by reason"
}

/// Buckets for the histograms in seconds, from 0.5 ms to an hour. An exporter for Prometheus needs buckets for
/// percentiles: with `metrics-exporter-prometheus`, `set_buckets_for_metric(Matcher::Suffix("_seconds".into()), ..)`.
pub const SECONDS_BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 300.0, 1800.0, 3600.0,
];

/// Buckets for the sizes of messages ([`MESSAGE_BYTES`]), from 64 bytes to 4 MiB. See [`SECONDS_BUCKETS`].
pub const BYTES_BUCKETS: &[f64] = &[64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262_144.0, 1_048_576.0, 4_194_304.0];

/// Describes each metric to the recorder: the help texts of an exporter. Call it once, after the recorder is installed.
pub fn describe() {
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => metrics::describe_counter!(metric.name, metric.description),
            MetricKind::Gauge => metrics::describe_gauge!(metric.name, metric.description),
            MetricKind::Histogram => metrics::describe_histogram!(metric.name, metric.description),
        }
    }
}

/// Returns whether a recorder is installed. The facade's own recorder, which does nothing, has no state; a recorder of
/// yours without state (a type of size 0) is not detected.
#[cfg(any(feature = "optimized", all(feature = "pool", not(target_arch = "wasm32"))))]
pub(crate) fn has_recorder() -> bool {
    metrics::with_recorder(|recorder| size_of_val(recorder) > 0)
}
