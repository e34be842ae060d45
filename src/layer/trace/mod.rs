//! What happens on a transport, for [`tracing`] and the [`metrics`](::metrics) facade, and the W3C trace context of sampled messages.
//!
//! # Why
//!
//! A connection lives for hours, so a log line at its beginning and one at its end say little. This layer counts what goes each
//! way and what fails, by kind; gives each connection a span; and follows one message in so many across the wire, into
//! the traces of the peer.
//!
//! # What is seen
//!
//! **Spans** (target `tower_transport`, level `INFO`). `session`, one for each transport: `name`, `role` (client or server) and
//! `peer`. `message`, within it, for sampled messages: `direction` (in or out), `size` in bytes, `trace_id`, and `span_id` of an outgoing
//! or `parent_id` of an incoming one. The span of an outgoing message lasts from `start_send`, where the layers below run in it, until
//! it is flushed (or the next sampled message before that); that of an incoming one until the next message is asked for, or as
//! long as a clone of it is held. **Events** (`DEBUG`): `open`, `error` with its kind, and `closed` with the totals and the peer's close code.
//! What a peer wrote is escaped.
//!
//! **Sampling** is off by default: [`sample_one_in`](TraceLayer::sample_one_in) turns it on. The session's span is never entered for
//! a message that is not sampled.
//!
//! **Metrics**, all with the labels `name` and `role`:
//!
//! | metric | kind | more labels | told by |
//! |---|---|---|---|
//! | `tower_transport_sessions_total` | counter | | this layer |
//! | `tower_transport_sessions_open` | gauge | | this layer |
//! | `tower_transport_messages_total` | counter | `direction` | this layer |
//! | `tower_transport_bytes_total` | counter | `direction` | this layer |
//! | `tower_transport_message_bytes` | histogram | `direction` | this layer, where [chosen](TraceLayer::record_sizes) |
//! | `tower_transport_errors_total` | counter | `direction`, `kind` ([`Error::kind_name`](crate::Error::kind_name)) | this layer |
//! | `tower_transport_queue_messages` | gauge | | a [`Meter`] |
//! | `tower_transport_queue_bytes` | gauge | | a [`Meter`] |
//! | `tower_transport_queue_dropped_total` | counter | | a [`Meter`] |
//! | `tower_transport_round_trip_seconds` | histogram | | a [`Meter`] |
//! | `tower_transport_reconnects_total` | counter | | a [`Meter`] |
//! | `tower_transport_resumed_total` | counter | | a [`Meter`] |
//! | `tower_transport_fresh_total` | counter | | a [`Meter`] |
//! | `tower_transport_rate_limited_total` | counter | | a [`Meter`] |
//! | `tower_transport_compression_plain_bytes_total` | counter | | a [`Meter`] |
//! | `tower_transport_compression_wire_bytes_total` | counter | | a [`Meter`] |
//! | `tower_transport_connects_total` | counter | `transport` | `stack::adaptive` |
//! | `tower_transport_connect_seconds` | histogram | `transport` | `stack::adaptive` |
//! | `tower_transport_fallbacks_total` | counter | `transport`, `reason` | `stack::adaptive` |
//! | `tower_transport_paths_lost_total` | counter | `transport` | `stack::adaptive` |
//!
//! No label comes from a peer, so there are as many series as there are words in your code. The recorder must be there when a
//! transport is wrapped: its handles are looked up then, once. [`METRICS`] is this table, [`describe`] tells it to the recorder, and
//! `docs/grafana-dashboard.json` shows it. A [`Meter`] gives the recorder what other layers know.
//!
//! # Where it waits
//!
//! Nowhere: all of a transport's methods are the inner one's.
//!
//! # Where it belongs in the stack
//!
//! Outermost of all layers on messages, right below the codec: so it counts what the application sends, and what the layers below
//! refuse are errors that it sees. At the bottom, it counts what goes over the wire. Above a codec, on values:
//! [`TraceLayer::values`].
//!
//! # Errors
//!
//! Those of the inner transport, as they are; each is counted by its kind, and that the transport is closed once for each direction.
//! With [`propagate`](TraceLayer::propagate), a mark that is none is an error item that [`is_protocol`](crate::Error::is_protocol), and the
//! stream goes on.
//!
//! # Cancel safety
//!
//! All state is in the transport: a future over it that is dropped loses no message, and no count.
//!
//! # What it adds to the wire
//!
//! Nothing by default. With [`propagate`](TraceLayer::propagate), a *sampled* message gets 35 bytes at its end, with its
//! [`TraceContext`] (`docs/wire.md`), and goes as binary; all others go as they are. Both ends must have it on. The other end
//! makes a span for each message that says it is sampled, so turn it on for peers whom you trust with your logs.
//!
//! # Cost
//!
//! Messages and bytes are added up in the connection and told to the recorder when it flushes or has nothing to read, or after 256.
//! Nothing is allocated and no clock is read for a message that is not sampled. A sampled one costs what the subscriber costs, and with
//! `propagate` one allocation and a copy of the payload. The first sampled message allocates the source of ids.
//! `cargo bench -p benches --bench overhead` has rows with and without a recorder and a subscriber.
//!
//! # Example
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use tower::ServiceBuilder;
//! use tower_transport::{Message, ServiceBuilderExt, TransportExt, channel, layer::trace::TraceLayer};
//!
//! let (near, mut far) = channel::<Message, Message>(8);
//! let mut near = ServiceBuilder::new().trace(TraceLayer::server("chat").peer("203.0.113.7:4711")).service(near);
//! near.send_message(Message::text("hello")).await?;
//! assert_eq!(near.messages_out(), 1); // and tower_transport_messages_total{name="chat",direction="out",..} rises
//! assert_eq!(far.receive_message().await.unwrap()?, Message::text("hello"));
//! # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
//! ```
//!
//! One message in a thousand, followed to the other end; there, work on it happens in its span:
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
//!     .context_of(|_span| TraceContext::new(0x4bf9, 0x00f0, true)) // of an OpenTelemetry bridge, say
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
//! There is no dependency on it. With `tracing-opentelemetry`, [`on_message`](TraceLayer::on_message) sets the parent of an
//! incoming message's span (`span.set_parent(..)` with a remote context of these ids), and [`context_of`](TraceLayer::context_of)
//! reads the ids that it gave an outgoing one (`span.context().span().span_context()`). A transport that is
//! [driven](crate::TransportExt::drive) is out of reach of [`Traced::received`]; there, the hook is the way.
//!
//! # Unlike `tower_http::trace`
//!
//! tower-http's `TraceLayer` gives each request a span, and ends it with the response. A connection's messages are no requests:
//! there may be thousands a second and answers to none, hence sampling, counters and one span for the whole.

mod context;
mod escaped;
mod layer;
mod meter;
mod metrics;
mod sampling;
mod session;
mod subject;
mod transport;
mod way;
mod wire;

/// The most bytes that this layer adds to a message: a trace context and its mark.
#[cfg(all(feature = "optimized", not(target_arch = "wasm32")))]
pub(crate) const OVERHEAD: usize = wire::LEN;

pub use self::{
    context::TraceContext,
    layer::{Role, TraceLayer},
    meter::Meter,
    metrics::{
        BYTES, COMPRESSION_PLAIN_BYTES, COMPRESSION_WIRE_BYTES, CONNECT_SECONDS, CONNECTS, ERRORS, FALLBACKS, FRESH,
        MESSAGE_BYTES, MESSAGES, METRICS, Metric, MetricKind, PATHS_LOST, QUEUE_BYTES, QUEUE_DROPPED, QUEUE_MESSAGES,
        RATE_LIMITED, RECONNECTS, RESUMED, ROUND_TRIP, SESSIONS, SESSIONS_OPEN, describe,
    },
    session::{Direction, Received},
    subject::{Messages, Subject, Values},
    transport::Traced,
};
