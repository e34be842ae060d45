//! Layers: middleware for the messages of a transport, and for the connectors that make transports.
//!
//! # Which layer, and in which order
//!
//! The table lists the layers from the outermost, which is added first, to the wire. Use the ones you need, in this
//! order.
//!
//! | layer | purpose | requires on the peer | state |
//! |---|---|---|---|
//! | `latest` | the latest value of each key for new subscribers | nothing | shared |
//! | `topic` | a peer subscribes to topics, and gets what is published | the application's own protocol | per transport |
//! | [`codec`] | values in place of messages | the same codec | per transport |
//! | `service` | any tower service as a filter of messages, in or out | nothing | per transport |
//! | `trace` | spans, metrics, trace context | nothing; for trace context the same layer | per transport |
//! | `limit` | limits on size, idle time, lifetime, messages in flight | nothing | per transport |
//! | `rate_limit` | a quota of messages, bytes or a cost of your own | nothing | as its constructor's name says |
//! | `queue` | a bounded outgoing queue that may drop; for stacks that are not driven | nothing | per transport |
//! | **`reconnect`** | turns a connector into a transport that reconnects | nothing | outlives connections |
//! | `resume` | no message is lost or sent twice | the same, or a `SessionStore` | outlives connections |
//! | `auth` | a token for each handshake, or in the first message; expiry | a check of the token | per connection |
//! | [`http`] | on the connector: layers of tower-http, with a table of those that fit | nothing | as the layer |
//! | [`per_connection`] | on the connector: applies the layers below to each new connection | | |
//! | [`optional`] | anywhere: a layer that is on or off at run time | | as the layer |
//! | `batch` | packs many small messages into one | the same layer | per connection |
//! | `compression` | deflate per message | the same layer | per connection |
//! | `heartbeat` | detects dead peers; measures round-trip time | replies to the pings | per connection |
//!
//! The reasons:
//!
//! - Layers whose state survives a reconnect go above `reconnect`; per-connection layers go below.
//! - Layers that count or reject application messages (limit, rate limit, queue) go above layers that repack them
//!   (batch, compression).
//! - Batch before compressing: similar messages compress better together.
//! - The heartbeat goes next to the wire, where it sees everything that arrives.
//! - A layer that drops messages never goes below `resume`, which treats a message that does not arrive as a loss.
//!
//! All in one stack:
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
    QueueConfig, ServiceBuilderExt, TransportExt,
    codec::RkyvCodec,
    layer::{
        batch::BatchPolicy,
        compression::Deflate,
        rate_limit::Quota,
        reconnect::{Backoff, ReconnectLayer, WhenLost},
        trace::Role,
    },
    transport::websocket::WebSocketConnector,
};

let quota = Quota::per_second(NonZeroU32::new(500).unwrap());
let reconnect = ReconnectLayer::new(\"wss://example.com/feed\", Backoff::exponential());
let transport = ServiceBuilder::new()
    .codec(RkyvCodec::<String>::new())                          // above reconnect: survives connections
    .trace(\"feed\", Role::Client)
    .limit(64 * 1024)
    .limit_rate(quota)
    .layer(reconnect.when_lost(WhenLost::Drop))                 // for a driver; resume keeps what was sent
    .resume()
    .per_connection(
        ServiceBuilder::new()                                   // below reconnect: one per connection
            .batch(BatchPolicy::on_flush(64))
            .compress(Deflate::new().min_size(1024))
            .heartbeat(Duration::from_secs(20), Duration::from_secs(20)),
    )
    .layer(TimeoutLayer::new(Duration::from_secs(5)))           // tower's own, on the connect
    .service(WebSocketConnector::new());
let (sender, receiver, driver) = transport.drive(QueueConfig::values()).into_parts();
# let _: (tower_transport::Sender<String>, tower_transport::Receiver<String>) = (sender, receiver); drop(driver);
# }
```"
)]
//!
//! `stack::OptimizedTransport` is this stack ready-made, negotiated with the peer.
//!
//! # Your own layer
//!
//! [`own`] has the part that is hard to write by hand: sending messages of the layer's own, and ending the transport.
//! The guide
//! [`docs/writing-a-layer.md`](crate::guide::writing_a_layer)
//! goes from a layer that passes messages on to one that pings and closes.
//!
//! # Cost
//!
//! Each layer's page states its cost. `cargo bench -p benches --bench overhead` measures time, instructions and
//! allocations per message. A layer that does not change the payload allocates nothing in steady state.

#[cfg(feature = "auth")]
#[cfg_attr(docsrs, doc(cfg(feature = "auth")))]
pub mod auth;
#[cfg(feature = "batch")]
#[cfg_attr(docsrs, doc(cfg(feature = "batch")))]
pub mod batch;
#[cfg(all(feature = "cache", not(target_arch = "wasm32")))]
#[cfg_attr(docsrs, doc(cfg(feature = "cache")))]
pub mod cache;
pub mod codec;
#[cfg(feature = "compression")]
#[cfg_attr(docsrs, doc(cfg(feature = "compression")))]
pub mod compression;
#[cfg(feature = "heartbeat")]
#[cfg_attr(docsrs, doc(cfg(feature = "heartbeat")))]
pub mod heartbeat;
#[cfg(all(any(feature = "websocket", feature = "sse"), not(target_arch = "wasm32")))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "websocket", feature = "sse"))))]
pub mod http;
#[cfg(feature = "latest")]
#[cfg_attr(docsrs, doc(cfg(feature = "latest")))]
pub mod latest;
#[cfg(feature = "limit")]
#[cfg_attr(docsrs, doc(cfg(feature = "limit")))]
pub mod limit;
pub mod optional;
pub mod own;
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
#[cfg(any(feature = "reconnect", feature = "resume"))]
mod stall;
#[cfg(feature = "topic")]
#[cfg_attr(docsrs, doc(cfg(feature = "topic")))]
pub mod topic;
#[cfg(feature = "trace")]
#[cfg_attr(docsrs, doc(cfg(feature = "trace")))]
pub mod trace;
