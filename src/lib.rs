#![cfg_attr(docsrs, feature(doc_cfg))]
// No peer may be able to cause a panic; tests may.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]
//! **tower-http is middleware for HTTP requests; tower-transport is middleware for messages.**
//!
//! `(Sink<Message> + Stream<Message>) -> Layer -> Layer -> (Sink<Value> + Stream<Value>)`: one
//! [`ServiceBuilder`](tower::ServiceBuilder) stack over WebSocket, SSE, WebTransport, in-memory channels and any other
//! `Sink` + `Stream`, from the connect to typed values, and the bridges between such a stack and `tower::Service`.
//!
#![cfg_attr(
    all(feature = "websocket", feature = "json", not(target_arch = "wasm32")),
    doc = "```no_run
# async fn connect() -> Result<(), tower_transport::BoxError> {
use std::time::Duration;
use tower::{ServiceBuilder, ServiceExt, timeout::TimeoutLayer};
use tower_transport::{
    QueueConfig, ServiceBuilderExt, TransportExt, codec::JsonCodec, transport::websocket::WebSocketConnector,
};

#[derive(serde::Serialize, serde::Deserialize)]
struct Order { id: u64, quantity: u32 }

let connector = ServiceBuilder::new()
    .per_connection(ServiceBuilder::new().codec(JsonCodec::<Order>::new())) // typed values in place of messages
    .layer(TimeoutLayer::new(Duration::from_secs(5)))                       // tower's own layer, on the connect
    .service(WebSocketConnector::new());

let request = http::Request::get(\"wss://example.com/orders\").body(())?;
let transport = connector.oneshot(request).await?.into_body();

let (sender, mut receiver) = transport.drive(QueueConfig::values()).spawn();     // many writers, one task
sender.send(Order { id: 1, quantity: 100 }).await?;
while let Some(order) = receiver.receive().await {
    println!(\"order {}\", order?.id);
}
# Ok(()) }
```"
)]
//!
//! # Guides
//!
//! The module [`guide`] has the guides: getting started, choosing, migrating, deployment, cookbook, testing, FAQ,
//! comparison. The pages that this documentation calls `docs/wire.md`, `docs/attacks.md` and so on are there, too.
//!
//! # Three things a layer can wrap
//!
//! tower's README warns that a purely stream-based protocol may not fit a request/response trait. It is right: a
//! message is not a request. But `tower_layer::Layer<S>` and `ServiceBuilder::service` put no bound on `S`, so the same
//! builder stacks all three things that a connection is made of:
//!
//! | plane | type | examples | layers that fit |
//! |---|---|---|---|
//! | [**transport**](Transport) | `Sink<Out, Error = E> + Stream<Item = Result<In, E>>` | `WebSocket` | [`layer`] |
//! | [**connector**](Connect) | `Service<Request<()>, Response = Response<T>>` | `WebSocketConnector` | tower-http's |
//! | **service** | `Service<Req, Response = Res>` | your handler, `service::Client` | every tower layer |
//!
//! [`layer`] describes what each layer is for and in which order to stack them; `stack` has ready-made stacks.
//!
//! Connecting is an HTTP exchange whose response body is a transport. Existing layers that set a header, time out or
//! retry therefore work on the handshake unchanged. [`per_connection`](ServiceBuilderExt::per_connection) applies
//! layers of a transport to each transport that a connector makes.
//!
//! **Order** is as in tower: the first layer added is the outermost. An outgoing message meets it first, an incoming
//! one last; [`builder`] has a drawing.
//!
//! **`Response = ()`** means *accepted* when you send a message through a `Service`: the message is in a bounded queue
//! or in the transport's write buffer. It does not mean delivered. `flush` resolves when everything accepted before it
//! has been handed to the operating system.
//!
//! # Many writers
//!
//! [`TransportExt::into_split`] returns two halves over one transport, without a task. [`TransportExt::drive`] returns
//! a [`Driven`]: a [`Driver`] to spawn, any number of [`Sender`]s and a [`Receiver`]. The queue is bounded in messages
//! and bytes. Pings are answered even if nobody is reading, and queued messages share one flush.
//!
//! # Errors
//!
//! There is one opaque [`Error`]. It has methods that ask for its kind (`is_closed()`, `is_timeout()`, ...), the close
//! frame or HTTP response if there is one, and the full chain of sources. Passing through tower's `BoxError` loses
//! nothing of it.
//!
//! # Logs
//!
//! With the feature `tracing` (default), a server logs what an operator has to know as events of
//! [tracing](https://docs.rs/tracing). An event names the reason, the setting that applies, and the client's address if
//! your server puts it into the request's extensions (`SocketAddr` or `IpAddr`). Queries, cookies and credentials are
//! never logged. Nothing is logged per message. The targets are stable, and a filter for one includes those below it:
//!
//! | target | events |
//! |---|---|
//! | `tower_transport::handshake` | handshakes and connections that a transport, a guard or a limit refuses |
//! | `tower_transport::transport` | connections closed for what the peer sent, or cut in a close; a failing listener |
//! | `tower_transport::layer` | connections that a layer closes |
//! | `..::layer::{heartbeat, rate_limit}` | dead peers, peers over their limit |
//! | `..::layer::{reconnect, resume}` | lost connections, lost sessions |
//! | `tower_transport::service` | answers that the transport rejects, requests that cannot be read |
//! | `..::stack::{adaptive, optimized, pool}` | sessions that do not begin, the choice of a transport, failing pools |
//! | `tower_transport` | the spans and events of `TraceLayer` (feature `trace`) |
//!
//! | level | for |
//! |---|---|
//! | `ERROR` | the process cannot accept connections |
//! | `WARN` | a limit that is reached, a lost answer, message or session, a fallback, a misconfigured server |
//! | `INFO` | a client was refused (401, 403, 426, 429) or cut off (1008, 1009); lost connections, expired sessions |
//! | `DEBUG` | accepted handshakes, malformed requests (400, 405), violations of the protocol |
//!
//! Each layer has a target, so a filter sets the level of one layer and leaves the others:
//! `RUST_LOG=info,tower_transport::layer::reconnect=warn`. The levels of the spans and events of `TraceLayer` are
//! settings of it, as in tower-http. Events that peers can cause are limited to 100 of each kind in 10 seconds. The
//! guide `deployment` lists all events.
//!
//! # Cancel safety
//!
//! Every future of this crate documents what dropping it does. In short: dropping a receive loses nothing. Dropping a
//! send before the transport was ready sends nothing; a message that was accepted is sent.
//!
//! # Features
//!
//! | feature | crates | wasm32 | what it adds |
//! |---|---|---|---|
//! | `websocket` (default) | 44 | client | `transport::websocket`: client and server, on hyper |
//! | `deflate` | 46 | - | `transport::websocket::PerMessageDeflate`: permessage-deflate (RFC 7692) |
//! | `http2` | 54 | - | WebSocket over HTTP/2 (RFC 8441), on hyper: many WebSockets share a connection |
//! | `tokio-tungstenite` | 56 | - | `transport::websocket::TungsteniteTransport`: over a stream of tokio-tungstenite |
//! | `sse` | 45 | client | `transport::sse`: server-sent events, client and server; SSE + POST as a transport |
//! | `webtransport` | 93 | client | `transport::webtransport`: WebTransport over HTTP/3, both ends: streams, datagrams |
//! | `dev-certificate` | 100 | - | a certificate for WebTransport in development, created by one call |
//! | `tls` | 28 | - | `wss://` and `https://` with your own rustls configuration |
//! | `tls-platform-roots` | 31 | - | `wss://` and `https://` with the operating system's root certificates |
//! | `proxy` | 25 | - | `Dialer::proxy_from_env` and SOCKS 5, for the connectors of WebSocket and SSE |
//! | `axum` | 17 | - | an axum extractor for the WebSocket handshake, and event streams as axum responses |
//! | `rkyv` | 29 | yes | `codec::RkyvCodec`: zero-copy views or owned values |
//! | `json` (default) | 17 | yes | `codec::JsonCodec` |
//! | `hybrid` | 34 | yes | `codec::HybridCodec`: text is JSON, binary is rkyv |
//! | `messagepack` | 18 | yes | `codec::MessagePackCodec` |
//! | `cbor` | 27 | yes | `codec::CborCodec` |
//! | `byte-stream` | 12 | yes | `transport::ByteStream`: a transport as `AsyncRead + AsyncWrite` |
//! | `service` | 12 | yes | `service::Client` and `service::Server`; `layer::service`: a tower service as a filter |
//! | `peer` | 14 | yes | `service::peer`: calls in both directions, streams, cancellation, deadlines; with `json` JSON-RPC |
//! | `auth` | 28 | client | `layer::auth` and `handshake::auth`: client tokens, verification on the server, expiry |
//! | `batch` | 12 | yes | `layer::batch`: packs many small messages into one |
//! | `cache` | 40 | - | `layer::cache`: a cache for a service's answers |
//! | `client-address` | 13 | - | `handshake::client_address`: the client behind trusted proxies |
//! | `compression` | 14 | yes | `layer::compression`: deflate per message |
//! | `heartbeat` | 12 | yes | `layer::heartbeat`: detects dead peers and measures round-trip time |
//! | `jwt` | 96 | - | `auth` with `JwtVerifier` and `JwksVerifier`: JSON Web Tokens, on jsonwebtoken |
//! | `latest` | 12 | yes | `layer::latest`: the latest value of each key for new subscribers |
//! | `limit` | 13 | layer | `layer::limit`: size, idle time, lifetime, in flight; `handshake::limit`: connections |
//! | `proxy-protocol` | 19 | - | `handshake::proxy_protocol`: the client's address by the PROXY protocol |
//! | `queue` | 12 | yes | `layer::queue`: a bounded outgoing queue for transports that are not driven |
//! | `rate-limit` | 37 | yes | `layer::rate_limit`: GCRA, per connection, shared or by key |
//! | `reconnect` | 14 | yes | `layer::reconnect`: turns a connector into a transport that reconnects |
//! | `resume` | 19 | client | `layer::resume`: sessions that outlive connections |
//! | `topic` | 12 | yes | `topic`: one message to many, with history and presence; `layer::topic` for sessions |
//! | `tracing` (default) | 15 | yes | logs, as tracing events, of connections that are refused, closed or lost |
//! | `trace` | 18 | yes | `layer::trace`: tracing spans, metrics, W3C trace context |
//! | `optimized` | 76 | client | `stack::OptimizedTransport`: the recommended stack, negotiated with the peer |
//! | `adaptive` | 125 | client | `stack::adaptive`: WebTransport, else WebSocket, else SSE + POST; one server for all |
//! | `context` | 81 | client | `stack::WebSocketContext`: a simple client on top of `OptimizedTransport` |
//! | `pool` | 18 | - | `stack::pool`: a pool of connections to one target, shared by many calls |
//! | `test-util` | 12 | yes | contract checks, a scripted transport and fault injection, for testing your own layers |
//! | `full` | 232 | all of them | all of the above |
//!
//! The column *crates* is the number of crates that the feature alone compiles on Linux, itself not included. The
//! default features compile 52, no features 12, and `limit` with `auth` 29. Features share most of
//! their crates. The counts are those of this repository's `Cargo.lock`, which selects the smallest Unicode tables for
//! host names: `cargo update -p idna_adapter --precise 1.1.0` in an application does the same.
//!
//! A feature adds API and never changes behavior. Features that need a clock or tasks turn on `rt` (tokio's; on wasm32
//! the browser's). Without `websocket`, `sse` and `webtransport` the crate needs no operating system.
//!
//! The column *wasm32* is what there is of the feature in a page. Every feature builds for `wasm32-unknown-unknown`,
//! without a flag, and `websocket` and `webtransport` are the browser's own there: see the guide `browser`.

#[macro_use]
mod macros;

pub mod builder;
pub mod codec;
pub mod error;
mod fingerprint;
#[cfg(all(doc, any(not(doctest), feature = "full"), not(target_arch = "wasm32")))]
pub mod guide;
// The code of this page is the same for both targets, and `tests/run wasm` compiles it for this one.
#[cfg(all(doctest, target_arch = "wasm32"))]
#[doc = include_str!("../docs/guide/browser.md")]
mod guide {}
#[cfg(all(
    any(feature = "auth", feature = "client-address", feature = "limit", feature = "proxy-protocol"),
    not(target_arch = "wasm32")
))]
#[cfg_attr(
    docsrs,
    doc(cfg(any(feature = "auth", feature = "client-address", feature = "limit", feature = "proxy-protocol")))
)]
pub mod handshake;
#[cfg(feature = "service")]
mod in_flight;
pub mod layer;
mod log;
pub mod message;
#[cfg(feature = "rt")]
mod rt;
#[cfg(feature = "service")]
#[cfg_attr(docsrs, doc(cfg(feature = "service")))]
pub mod service;
#[cfg(any(feature = "optimized", all(feature = "pool", not(target_arch = "wasm32"))))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "optimized", feature = "pool"))))]
pub mod stack;
mod sync;
#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
pub mod test_util;
mod threads;
#[cfg(feature = "topic")]
#[cfg_attr(docsrs, doc(cfg(feature = "topic")))]
pub mod topic;
pub mod transport;
#[cfg(any(feature = "compression", all(feature = "deflate", not(target_arch = "wasm32"))))]
mod zlib;

#[doc(no_inline)]
pub use self::{
    builder::ServiceBuilderExt,
    codec::Codec,
    error::{BoxError, Error},
    message::{CloseCode, CloseFrame, Message, Text},
    threads::{MaybeSend, MaybeSync},
    transport::{
        BoxTransport, Channel, Connect, Driven, Driver, Limits, MessageStream, QueueConfig, Receiver, Sender,
        Transport, TransportExt, WhenFull, channel,
    },
};

// Crates whose types are part of this API, in the version that it uses (`docs/stability.md`).
#[cfg(all(feature = "axum", not(target_arch = "wasm32")))]
#[doc(no_inline)]
pub use axum_core;
#[cfg(all(any(feature = "websocket", feature = "sse", feature = "limit"), not(target_arch = "wasm32")))]
#[doc(no_inline)]
pub use http_body;
#[cfg(feature = "rkyv")]
#[doc(no_inline)]
pub use rkyv;
#[cfg(all(feature = "webtransport", not(feature = "tls"), not(target_arch = "wasm32")))]
#[doc(no_inline)]
pub use rustls;
#[cfg(any(feature = "json", feature = "messagepack", feature = "cbor"))]
#[doc(no_inline)]
pub use serde;
#[cfg(all(feature = "tls", not(target_arch = "wasm32")))]
#[doc(no_inline)]
pub use tokio_rustls::rustls;
#[doc(no_inline)]
pub use {bytes, futures_core, futures_sink, http, tower, tower_layer, tower_service};

#[cfg(all(doctest, feature = "full"))]
#[doc = include_str!("../README.md")]
struct Readme;
