//! Instrumentation of a transport for [`tracing`] and the [`metrics`](::metrics) facade, and the W3C trace context of
//! sampled messages.
//!
//! # Why
//!
//! A connection lives for hours, so one log line at its beginning and one at its end say little. This layer counts
//! messages and bytes in each direction and errors by kind. It gives each connection a span. It can also follow one
//! message in N across the wire, into the traces of the peer.
//!
//! # Spans, events and metrics
//!
//! **Spans** (target `tower_transport`, level `INFO` or [another](TraceLayer::span_level)). `session`, one for each
//! transport: `name`, `role` (client or server) and `network.peer.address`. `message`, within it, for sampled messages:
//! `network.io.direction` (`receive` or `transmit`), `size` in bytes, `trace_id`, and `span_id` of an outgoing or
//! `parent_id` of an incoming message. The span of an outgoing message starts with `start_send`, where the layers below
//! run inside it. It lasts until the message is flushed (or until the next sampled message before that). The span of an
//! incoming message lasts until the next message is requested, or as long as a clone of it is held. **Events**
//! (`DEBUG`, or as [`event_level`](TraceLayer::event_level) and [`error_level`](TraceLayer::error_level) say): `open`,
//! `error` with its kind (`error.type`), and `closed` with the totals and the peer's close code. Text from a peer is
//! escaped.
//!
//! **Sampling** is off by default: [`sample_one_in`](TraceLayer::sample_one_in) turns it on. The session's span is
//! never entered for a message that is not sampled.
//!
//! **Metrics**. All have the labels `name` and `role`, except the two of handshakes. The values of `error.type` are
//! those of [`Error::kind_name`](crate::Error::kind_name). Where OpenTelemetry has a name for an attribute, the label
//! has that name; an exporter for Prometheus writes `_` in place of each dot. The stack is `OptimizedTransport` or
//! `OptimizedAcceptor` (so also `SessionServer`), which reports all of its metrics automatically.
//!
//! | metric | kind | further labels | reported by |
//! |---|---|---|---|
//! | `tower_transport_sessions_total` | counter | | this layer |
//! | `tower_transport_sessions_open` | gauge | | this layer |
//! | `tower_transport_session_seconds` | histogram | | this layer |
//! | `tower_transport_closes_total` | counter | `code` (1000 to 1014, `3xxx`, `4xxx`, `other`, `none`) | this layer |
//! | `tower_transport_messages_total` | counter | `network.io.direction` (`receive`, `transmit`) | this layer |
//! | `tower_transport_bytes_total` | counter | `network.io.direction` | this layer |
//! | `tower_transport_message_bytes` | histogram | `network.io.direction` | [`record_sizes`] |
//! | `tower_transport_errors_total` | counter | `network.io.direction`, `error.type` | this layer |
//! | `tower_transport_queue_messages` | gauge | | the stack, for its `split`; a [`Meter`] |
//! | `tower_transport_queue_bytes` | gauge | | the stack, for its `split`; a [`Meter`] |
//! | `tower_transport_queue_dropped_total` | counter | | the stack, for its `split`; a [`Meter`] |
//! | `tower_transport_round_trip_seconds` | histogram | | the stack |
//! | `tower_transport_heartbeat_timeouts_total` | counter | | the stack |
//! | `tower_transport_reconnects_total` | counter | | the stack; a [`Meter`] |
//! | `tower_transport_resumed_total` | counter | | the stack; a [`Meter`] |
//! | `tower_transport_fresh_total` | counter | | the stack; a [`Meter`] |
//! | `tower_transport_resume_sessions` | gauge | | the stack on a server; a [`Meter`] |
//! | `tower_transport_resume_waiting` | gauge | | the stack on a server; a [`Meter`] |
//! | `tower_transport_resume_bytes` | gauge | | the stack on a server; a [`Meter`] |
//! | `tower_transport_rate_limited_total` | counter | | the stack; a [`Meter`] |
//! | `tower_transport_compression_plain_bytes_total` | counter | | the stack; a [`Meter`] |
//! | `tower_transport_compression_wire_bytes_total` | counter | | the stack; a [`Meter`] |
//! | `tower_transport_connects_total` | counter | `network.protocol.name` | a client's stack; `stack::adaptive` |
//! | `tower_transport_connect_seconds` | histogram | `network.protocol.name` | a client's stack; `stack::adaptive` |
//! | `tower_transport_fallbacks_total` | counter | `network.protocol.name`, `reason` | `stack::adaptive` |
//! | `tower_transport_paths_lost_total` | counter | `network.protocol.name` | `stack::adaptive` |
//! | `tower_transport_pool_connections` | gauge | `state` (`idle`, `used`, `connecting`, `retired`) | `stack::pool` |
//! | `tower_transport_pool_waiting` | gauge | | `stack::pool` |
//! | `tower_transport_pool_wait_seconds` | histogram | | `stack::pool`, for calls that find no connection free |
//! | `tower_transport_pool_connect_failures_total` | counter | | `stack::pool` |
//! | `tower_transport_pool_retired_total` | counter | `reason` (`idle`, `old`, `lost`) | `stack::pool` |
//! | `tower_transport_handshakes_total` | counter | `network.protocol.name`, `http.response.status_code` | doors |
//! | `tower_transport_handshake_seconds` | histogram | `network.protocol.name` | servers |
//!
//! No label comes from a peer, so the number of series is bounded by the names in your code. The recorder must be
//! installed before a transport is wrapped: its handles are looked up once at that time. [`METRICS`] contains this
//! table, [`describe`] reports it to the recorder, and [`docs/grafana-dashboard.json`][dashboard] shows it. A [`Meter`]
//! reports the state of other layers in your own stack to the recorder.
//!
//! [dashboard]: https://github.com/tower-transport/tower-transport/blob/main/docs/grafana-dashboard.json
//!
//! # Backpressure
//!
//! The layer never waits: all of its methods call those of the inner transport.
//!
//! # Position in the stack
//!
//! The layer goes above all other layers on messages, right below the codec. It then counts the messages that the
//! application sends, and the errors of messages that the layers below reject. At the bottom, it counts the traffic on
//! the wire. Above a codec, it counts values, whose bytes are unknown and which carry no context.
//!
//! Above a transport that outlives its connections (a reconnecting transport, a resumed session), one span covers all
//! of them. On a server, `peer` and your own span are then those of the connection that began the session; a later
//! connection that resumes it appears in its own handshake's logs only. To trace each connection, put the layer below
//! (`per_connection`). The context of an incoming message travels with the message, so it is right on each connection.
//!
//! # Errors
//!
//! Returns the errors of the inner transport unchanged. Each is counted by its kind; that the transport is closed is
//! counted once for each direction. With [`propagate`](TraceLayer::propagate), an invalid mark is an error item for
//! which [`is_protocol`](crate::Error::is_protocol) is true, and the stream goes on.
//!
//! # Cancel safety
//!
//! All state is in the transport: dropping a future over it loses no message and no count.
//!
//! # On the wire
//!
//! By default the layer adds nothing. With [`propagate`](TraceLayer::propagate), a *sampled* message gets 35 bytes at
//! its end, with its [`TraceContext`] ([`docs/wire.md`](crate::guide::wire)), and is sent as binary; all others are
//! sent as they are. Both ends must turn it on. The other end makes a span for each message that is marked as sampled,
//! so turn it on for peers that you trust with your logs.
//!
//! # Cost
//!
//! Messages and bytes are added up in the connection. They are reported to the recorder when the transport flushes or
//! has nothing to read, or after 256 messages. For a message that is not sampled, nothing is allocated and no clock is
//! read. A sampled message costs what the subscriber costs, and with `propagate` one allocation and a copy of the
//! payload. The first sampled message allocates the source of ids. `cargo bench -p benches --bench overhead` has rows
//! with and without a recorder and a subscriber.
//!
//! # Example
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use tower::ServiceBuilder;
//! use tower_transport::{Message, TransportExt, channel, layer::trace::TraceLayer};
//!
//! let (near, mut far) = channel::<Message, Message>(8);
//! let mut near = ServiceBuilder::new().layer(TraceLayer::server("chat").peer("203.0.113.7:4711")).service(near);
//! near.send_message(Message::text("hello")).await?;
//! assert_eq!(near.messages_out(), 1); // and tower_transport_messages_total{name="chat",..} increases
//! assert_eq!(far.receive_message().await.unwrap()?, Message::text("hello"));
//! # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
//! ```
//!
//! One message in a thousand is followed to the other end, where the work on it happens in its span:
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use std::num::NonZeroU32;
//!
//! use tower::Layer;
//! use tower_transport::{Message, TransportExt, channel, layer::trace::{TraceContext, TraceLayer}};
//! use tracing::Instrument;
//!
//! let (near, far) = channel::<Message, Message>(8);
//! let mut near = TraceLayer::client("orders")
//!     .sample_one_in(NonZeroU32::new(1000).unwrap())
//!     .propagate(true)
//!     .context_of(|_span| TraceContext::new(0x4bf9, 0x00f0, true)) // for example, from an OpenTelemetry bridge
//!     .layer(near);
//! let mut far = TraceLayer::server("orders").propagate(true).layer(far);
//!
//! near.send_message(Message::text("buy")).await?;
//! assert_eq!(far.receive_message().await.unwrap()?, Message::text("buy"));
//! let received = far.received().expect("the first message of a connection is one of those that are sampled");
//! assert_eq!(received.context().unwrap().trace_id(), 0x4bf9);
//! async { /* buys */ }.instrument(received.span().clone()).await;
//! # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
//! ```
//!
//! # OpenTelemetry
//!
//! The crate does not depend on OpenTelemetry.
//! [`examples/otlp`](https://github.com/tower-transport/tower-transport/blob/main/examples/otlp) exports to a
//! collector: a client's message and the server's work on it are one trace. With `tracing-opentelemetry`,
//! [`on_message`](TraceLayer::on_message) sets the parent of an incoming message's span (`span.set_parent(..)` with a
//! remote context of these ids), and [`context_of`](TraceLayer::context_of) reads the ids that it assigned to an
//! outgoing one (`span.context().span().span_context()`). For a [driven](crate::TransportExt::drive) transport,
//! [`Traced::received`] is not accessible; use the hook.
//!
//! # Compared with `tower_http::trace`
//!
//! tower-http's `TraceLayer` gives each request a span, and ends it with the response. The messages of a connection are
//! not requests: there may be thousands per second, without answers. This layer therefore has sampling, counters and
//! one span for the connection.
//!
//! [`record_sizes`]: TraceLayer::record_sizes

mod context;
mod instruments;
mod meter;
mod metrics;
mod sampling;
mod traffic;
mod transport;
mod wire;

/// The maximum number of bytes that this layer adds to a message: a trace context and its mark.
#[cfg(feature = "optimized")]
pub(crate) const OVERHEAD: usize = wire::LEN;

#[cfg(any(feature = "optimized", all(feature = "pool", not(target_arch = "wasm32"))))]
pub(crate) use self::metrics::has_recorder;
pub use self::{
    context::TraceContext,
    instruments::{Direction, Received, Role},
    meter::Meter,
    metrics::{
        BYTES, BYTES_BUCKETS, CLOSES, COMPRESSION_PLAIN_BYTES, COMPRESSION_WIRE_BYTES, CONNECT_SECONDS, CONNECTS,
        ERRORS, FALLBACKS, FRESH, HANDSHAKE_SECONDS, HANDSHAKES, HEARTBEAT_TIMEOUTS, MESSAGE_BYTES, MESSAGES, METRICS,
        Metric, MetricKind, PATHS_LOST, POOL_CONNECT_FAILURES, POOL_CONNECTIONS, POOL_RETIRED, POOL_WAIT_SECONDS,
        POOL_WAITING, QUEUE_BYTES, QUEUE_DROPPED, QUEUE_MESSAGES, RATE_LIMITED, RECONNECTS, RESUME_BYTES,
        RESUME_SESSIONS, RESUME_WAITING, RESUMED, ROUND_TRIP, SECONDS_BUCKETS, SESSION_SECONDS, SESSIONS,
        SESSIONS_OPEN, describe,
    },
    transport::{TraceLayer, Traced},
};
