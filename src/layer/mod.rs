//! What happens to a message on its way.
//!
//! # Which layer, and in which order
//!
//! From the outermost, which is added first, to the wire. Take what you need; the order is what matters.
//!
//! | layer | for | works against | state |
//! |---|---|---|---|
//! | `cache` (`latest`) | the last value of each key for a new subscriber | every peer | shared |
//! | [`codec`] | values in place of messages | the same codec | of a transport |
//! | `service` | any tower service as a filter of each message, in or out | every peer | of a transport |
//! | `trace` | spans, metrics, trace context | every peer; context: the same layer | of a transport |
//! | `limit` | sizes, idle time, lifetime, messages in flight | every peer | of a transport |
//! | `rate_limit` | a quota of messages, bytes or your own cost | every peer | by its constructor's name |
//! | `queue` | a bounded outgoing queue that may drop; not below [`drive`](crate::TransportExt::drive), which has one | every peer | of a transport |
//! | **`reconnect`** | a connector goes in, a transport comes out | every peer | outlives connections |
//! | `resume` | on the connector: nothing lost or doubled across connections | the same layer, and a `SessionStore` | outlives connections |
//! | `auth` | on the connector: a token for each handshake; on a transport: expiry, first message | a server that checks it | of a connection |
//! | [`per_connection`] | on the connector: the layers below, anew for each connection | | |
//! | `batch` | many small messages in one | the same layer | of a connection |
//! | `compression` | deflate for each message | the same layer | of a connection |
//! | `heartbeat` | detects a dead peer, by pings or by messages of your own; the round-trip time | pings or their equal | of a connection |
//!
//! Why so: what survives a reconnect stands above it, and what belongs to a connection below. What counts or refuses messages of
//! the application (limit, rate limit, queue) stands above what makes others of them (batch, compression). A batch of many alike
//! compresses better than its parts. The heartbeat sees what really comes from the wire. A layer that drops messages never
//! stands below `resume`, for which a message that does not arrive is a loss.
//!
//! In one stack:
//!
#![cfg_attr(
    all(
        feature = "batch",
        feature = "compression",
        feature = "heartbeat",
        feature = "limit",
        feature = "rate-limit",
        feature = "reconnect",
        feature = "resume",
        feature = "rkyv",
        feature = "trace",
        feature = "websocket",
        not(target_arch = "wasm32")
    ),
    doc = "```no_run
# async fn connect() {
use std::{num::NonZeroU32, time::Duration};

use tower::{ServiceBuilder, timeout::TimeoutLayer};
use tower_transport::{
    Queue, ServiceBuilderExt, TransportExt,
    codec::RkyvCodec,
    layer::{
        batch::BatchPolicy,
        compression::Deflate,
        limit::LimitLayer,
        rate_limit::{Quota, RateLimitLayer},
        reconnect::{Backoff, ReconnectLayer, WhenLost},
        trace::TraceLayer,
    },
    transport::websocket::WebSocketConnector,
};

let quota = Quota::per_second(NonZeroU32::new(500).unwrap());
let reconnect = ReconnectLayer::new(\"wss://example.com/feed\", Backoff::exponential());
let transport = ServiceBuilder::new()
    .codec(RkyvCodec::<String>::new())                          // above the reconnect: lives on
    .trace(TraceLayer::client(\"feed\"))
    .limit(LimitLayer::new().max_message(64 * 1024))
    .limit_rate(RateLimitLayer::per_connection(quota).outbound())
    .layer(reconnect.when_lost(WhenLost::Drop))                 // for a driver; resume keeps what a connection took
    .resume()
    .per_connection(
        ServiceBuilder::new()                                   // below: each connection has its own
            .batch(BatchPolicy::on_flush(64))
            .compression(Deflate::new().min_size(1024))
            .heartbeat(Duration::from_secs(20), Duration::from_secs(20)),
    )
    .layer(TimeoutLayer::new(Duration::from_secs(5)))           // tower's own, on the connect
    .service(WebSocketConnector::new());
let (sender, receiver, driver) = transport.drive(Queue::values()).into_parts();
# let _: (tower_transport::Sender<String>, tower_transport::Receiver<String>) = (sender, receiver); drop(driver);
# }
```"
)]
//!
//! The same, ready-made and negotiated with the peer, is `stack::OptimizedTransport`.
//!
//! # What it costs
//!
//! Each layer's page says what, and `cargo bench -p benches --bench overhead` measures it: time, instructions and allocations per message. A
//! layer that changes no payload allocates nothing in steady state.

#[cfg(feature = "auth")]
#[cfg_attr(docsrs, doc(cfg(feature = "auth")))]
pub mod auth;
#[cfg(feature = "batch")]
#[cfg_attr(docsrs, doc(cfg(feature = "batch")))]
pub mod batch;
#[cfg(feature = "cache")]
#[cfg_attr(docsrs, doc(cfg(feature = "cache")))]
pub mod cache;
#[cfg(any(feature = "limit", feature = "rate-limit"))]
pub(crate) mod closing;
pub mod codec;
#[cfg(feature = "compression")]
#[cfg_attr(docsrs, doc(cfg(feature = "compression")))]
pub mod compression;
#[allow(dead_code, reason = "which layers use it depends on the features")]
mod control;
#[cfg(feature = "heartbeat")]
#[cfg_attr(docsrs, doc(cfg(feature = "heartbeat")))]
pub mod heartbeat;
#[cfg(feature = "limit")]
#[cfg_attr(docsrs, doc(cfg(feature = "limit")))]
pub mod limit;
pub mod per_connection;
#[cfg(feature = "queue")]
#[cfg_attr(docsrs, doc(cfg(feature = "queue")))]
pub mod queue;
#[cfg(feature = "rate-limit")]
#[cfg_attr(docsrs, doc(cfg(feature = "rate-limit")))]
pub mod rate_limit;
#[cfg(feature = "reconnect")]
#[cfg_attr(docsrs, doc(cfg(feature = "reconnect")))]
pub mod reconnect;
#[cfg(feature = "resume")]
#[cfg_attr(docsrs, doc(cfg(feature = "resume")))]
pub mod resume;
#[cfg(feature = "service")]
#[cfg_attr(docsrs, doc(cfg(feature = "service")))]
pub mod service;
#[cfg(feature = "trace")]
#[cfg_attr(docsrs, doc(cfg(feature = "trace")))]
pub mod trace;
