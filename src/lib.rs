#![cfg_attr(docsrs, feature(doc_cfg))]
// No peer may be able to cause a panic; tests may.
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::unreachable))]
//! **tower-http is middleware for HTTP requests; tower-transport is middleware for messages.**
//!
//! `(Sink<Message> + Stream<Message>) -> Layer -> Layer -> (Sink<Value> + Stream<Value>)`: one
//! [`ServiceBuilder`](tower::ServiceBuilder) stack over WebSocket, SSE, WebTransport, in-memory channels and any other `Sink` +
//! `Stream`, from the connect to typed values, and the bridges between such a stack and `tower::Service`.
//!
#![cfg_attr(
    all(feature = "websocket", feature = "rkyv", not(target_arch = "wasm32")),
    doc = "```no_run
# async fn connect() -> Result<(), tower_transport::BoxError> {
use std::time::Duration;
use tower::{ServiceBuilder, ServiceExt, timeout::TimeoutLayer};
use tower_transport::{
    Queue, ServiceBuilderExt, TransportExt, codec::RkyvCodec, transport::websocket::WebSocketConnector,
};

#[derive(rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
struct Order { id: u64, quantity: u32 }

let connector = ServiceBuilder::new()
    .per_connection(ServiceBuilder::new().codec(RkyvCodec::<Order>::new())) // typed values in place of messages
    .layer(TimeoutLayer::new(Duration::from_secs(5)))                       // tower's own layer, on the connect
    .service(WebSocketConnector::new());

let request = http::Request::get(\"wss://example.com/orders\").body(())?;
let transport = connector.oneshot(request).await?.into_body();

let (sender, mut receiver) = transport.drive(Queue::values()).spawn();     // many writers, one task
sender.send(Order { id: 1, quantity: 100 }).await?;
while let Some(order) = receiver.receive().await {
    println!(\"order {}\", order?.id);
}
# Ok(()) }
```"
)]
//!
//! # Three things a layer can wrap
//!
//! tower's own README says that a protocol which is entirely stream based may not fit a request and response trait. So it is:
//! a message is not a request. But `tower_layer::Layer<S>` and `ServiceBuilder::service` put no bound on `S`, and the very same
//! builder stacks all three things that a connection is made of:
//!
//! | what | type | examples | layers that fit |
//! |---|---|---|---|
//! | **transport** | `Sink<Out, Error = E> + Stream<Item = Result<In, E>>`: [`Transport`] | `WebSocket`, [`channel()`], any user's | this crate's: [`layer`] |
//! | **connector** | `Service<http::Request<()>, Response = http::Response<T>>`: [`Connect`] | `WebSocketConnector` | tower's and tower-http's own |
//! | **service** | `Service<Req, Response = Res>` | a user's handler, `service::Client` | every tower layer there is |
//!
//! [`layer`] says which layer is for what, and in which order they stand; `stack` has whole stacks ready-made.
//!
//! Connecting is an HTTP exchange whose response body is a transport, so what sets a header, times out or retries on the
//! handshake exists already, and is used as it is. [`per_connection`](ServiceBuilderExt::per_connection) reaches through a
//! connector to the transports that it makes.
//!
//! **Order** is as in tower: the first layer added is the outermost. An outgoing message meets it first, an incoming one last;
//! [`builder`] has the picture.
//!
//! **What `Response = ()` means** where a message is sent by a service: *accepted*, that is in a bounded queue or in the
//! transport's own write buffer. `flush` resolves when all that was accepted before it has been handed to the operating
//! system.
//!
//! # Many writers
//!
//! [`TransportExt::split`] gives two halves over one transport, without a task. [`TransportExt::drive`] gives a
//! [`Driven`]: a [`Driver`] to spawn, any number of [`Sender`]s and a [`Receiver`]. It is bounded, and pings are answered though
//! nobody reads, and one flush for all that waits.
//!
//! # Errors
//!
//! One opaque [`Error`], with questions (`is_closed()`, `is_timeout()`, ...), the close frame or HTTP answer where there is one,
//! and the full chain of sources. It comes out of tower's `BoxError` as it went in.
//!
//! # Cancel safety
//!
//! Every future of this crate says what dropping it does. In short: dropping a receive loses nothing; dropping a send that
//! was not ready sends nothing, and one that was accepted is sent.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `websocket` (default) | `transport::websocket`: client and server, on tungstenite and hyper |
//! | `sse` | `transport::sse`: server-sent events, client and server; SSE with POST as a transport of messages |
//! | `webtransport` | `transport::webtransport`: WebTransport over HTTP/3, client and server: streams, datagrams |
//! | `dev-certificate` | a certificate for WebTransport in development, made in one call |
//! | `tls` | `wss://` and `https://` with your own rustls configuration |
//! | `tls-platform-roots` | `wss://` and `https://` that trust what the operating system trusts |
//! | `axum` | the axum extractor of a WebSocket handshake, and event streams as axum's responses |
//! | `rkyv` (default) | `codec::RkyvCodec`: zero-copy views or owned values |
//! | `json` (default) | `codec::JsonCodec` |
//! | `hybrid` | `codec::HybridCodec`: text is JSON, binary is rkyv |
//! | `service` (default) | `service::Client` and `service::Server`; `layer::service`: a tower service as a filter of messages |
//! | `auth` | `layer::auth` and `handshake`: tokens of a client, verification by a server (JWT among others), expiry |
//! | `batch` | `layer::batch`: many small messages in one |
//! | `cache` | `layer::cache`: the last value of each key for a new subscriber; answers kept for a while |
//! | `compression` | `layer::compression`: deflate for each message |
//! | `heartbeat` | `layer::heartbeat`: finds a peer that is gone, measures the round trip |
//! | `limit` | `layer::limit`: sizes, idle time, lifetime, messages in flight |
//! | `queue` | `layer::queue`: a bounded outgoing queue for transports that are not driven |
//! | `rate-limit` | `layer::rate_limit`: GCRA, per connection, shared or by key |
//! | `reconnect` | `layer::reconnect`: a connector goes in, a transport that reconnects comes out |
//! | `resume` | `layer::resume`: sessions that outlive connections |
//! | `tracing` (default) | logs of what a server refuses and closes, as events of tracing |
//! | `trace` | `layer::trace`: tracing's spans, metrics, W3C trace context |
//! | `optimized` | `stack::OptimizedTransport`: the recommended stack, negotiated with the peer |
//! | `adaptive` | `stack::adaptive`: WebTransport, then WebSocket, then SSE + POST, by what fails and why; one server for all three |
//! | `context` | `stack::WebSocketContext`: a simple client on top of it |
//! | `pool` | `stack::pool`: connections to one target, shared by many calls |
//! | `test-util` | contract checks, a scripted transport and faults, for those who write layers |
//! | `full` | all of them |
//!
//! A feature adds API and never changes behaviour. `rt` (tokio's clock and tasks; in wasm32 the browser's) is turned on by those
//! that need it. Without `websocket`, `sse` and `webtransport` the crate needs no operating system, and builds for
//! `wasm32-unknown-unknown`; with them, what needs one is left out there.

pub mod builder;
pub mod codec;
pub mod error;
mod fingerprint;
#[cfg(all(feature = "auth", not(target_arch = "wasm32")))]
#[cfg_attr(docsrs, doc(cfg(feature = "auth")))]
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
#[cfg(all(any(feature = "optimized", feature = "pool"), not(target_arch = "wasm32")))]
#[cfg_attr(docsrs, doc(cfg(any(feature = "optimized", feature = "pool"))))]
pub mod stack;
#[cfg(any(feature = "service", feature = "rate-limit"))]
mod sync;
#[cfg(feature = "test-util")]
#[cfg_attr(docsrs, doc(cfg(feature = "test-util")))]
pub mod test_util;
pub mod transport;

#[doc(no_inline)]
pub use self::{
    builder::ServiceBuilderExt,
    codec::Codec,
    error::{BoxError, Error},
    message::{CloseCode, CloseFrame, Message, Text},
    transport::{
        BoxTransport, Channel, Connect, Driven, Driver, Limits, Queue, Receiver, Sender, Transport, TransportExt,
        WhenFull, channel,
    },
};

#[cfg(all(doctest, feature = "websocket", feature = "rkyv"))]
#[doc = include_str!("../README.md")]
struct Readme;
