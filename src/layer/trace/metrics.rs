/// A metric that this crate reports to the [`metrics`] facade.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// The name of the metric.
    pub name: &'static str,
    /// The kind of the metric.
    pub kind: MetricKind,
    /// The labels in addition to `name` and `role`, which all metrics have.
    pub labels: &'static [&'static str],
    /// A description for people.
    pub what: &'static str,
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
            $(Metric { name: $name, kind: MetricKind::$kind, labels: &[$($label),*], what: $what },)*
        ];
    };
}

metrics_table! {
    SESSIONS "tower_transport_sessions_total" Counter [] "connections since the start"
    SESSIONS_OPEN "tower_transport_sessions_open" Gauge [] "connections that are open"
    MESSAGES "tower_transport_messages_total" Counter ["direction"] "messages, each way"
    BYTES "tower_transport_bytes_total" Counter ["direction"] "bytes of payload, each way"
    MESSAGE_BYTES "tower_transport_message_bytes" Histogram ["direction"] "sizes of messages, if recording is on"
    ERRORS "tower_transport_errors_total" Counter ["direction", "kind"] "errors, by kind"
    QUEUE_MESSAGES "tower_transport_queue_messages" Gauge [] "messages that wait in outgoing queues"
    QUEUE_BYTES "tower_transport_queue_bytes" Gauge [] "bytes that wait in outgoing queues"
    QUEUE_DROPPED "tower_transport_queue_dropped_total" Counter [] "messages that the policy of a queue dropped"
    ROUND_TRIP "tower_transport_round_trip_seconds" Histogram [] "round trips that heartbeats measured"
    RECONNECTS "tower_transport_reconnects_total" Counter [] "reconnects after a connection was lost"
    RESUMED "tower_transport_resumed_total" Counter [] "sessions that resumed without a gap after a reconnect"
    FRESH "tower_transport_fresh_total" Counter [] "sessions that had to start again after a reconnect"
    RATE_LIMITED "tower_transport_rate_limited_total" Counter [] "messages over a rate limit"
    COMPRESSION_PLAIN_BYTES "tower_transport_compression_plain_bytes_total" Counter [] "bytes before compression"
    COMPRESSION_WIRE_BYTES "tower_transport_compression_wire_bytes_total" Counter [] "bytes after compression"
    CONNECTS "tower_transport_connects_total" Counter ["transport"] "connections, by transport"
    CONNECT_SECONDS "tower_transport_connect_seconds" Histogram ["transport"] "duration of an attempt that connected"
    FALLBACKS "tower_transport_fallbacks_total" Counter ["transport", "reason"] "transports that failed to connect"
    PATHS_LOST "tower_transport_paths_lost_total" Counter ["transport"] "connections whose path went dead"
}

/// Describes each metric to the recorder: the help texts of an exporter. Call it once, after the recorder is installed.
pub fn describe() {
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => metrics::describe_counter!(metric.name, metric.what),
            MetricKind::Gauge => metrics::describe_gauge!(metric.name, metric.what),
            MetricKind::Histogram => metrics::describe_histogram!(metric.name, metric.what),
        }
    }
}
