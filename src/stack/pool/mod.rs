//! Connections to one target, kept warm and shared by many calls.
//!
//! # Why
//!
//! A handshake costs round trips, and over TLS a good deal of CPU: more than a short exchange. A [`Pool`] makes it once for many
//! of them. The connections are [`Client`](crate::service::Client)s, so several calls share one at a time.
//!
//! # Which connection a call gets
//!
//! The one with the fewest calls. While all are busy the call goes to that one at once, and one more is opened beside, up to
//! [`max_connections`](PoolBuilder::max_connections). (tower's `balance` is for many targets: it looks at two at random. The few
//! connections of a pool can all be looked at.)
//!
//! # Where it waits
//!
//! Always ready; a call waits while no connection has room: first come, first served, at most
//! [`max_wait`](PoolBuilder::max_wait), and at most [`max_waiting`](PoolBuilder::max_waiting) of them.
//!
//! # Health
//!
//! Each connection is read from all the time by a task of its own, so one that ends is taken out at once; its calls fail with the
//! cause. One that is only silent is found out by a heartbeat layer per connection, as in the example. A connection that is
//! idle or old is closed when its calls are done.
//!
//! # Connections that are kept
//!
//! With [`min_connections`](PoolBuilder::min_connections), one task replaces lost connections, one attempt after the other, with
//! [`backoff`](PoolBuilder::backoff) and jitter. It ends with the last handle. A failed call leaves nothing behind.
//!
//! # Errors
//!
//! [`Error::may_have_been_executed`](crate::Error::may_have_been_executed) is `false` for a call that got no connection, or whose request
//! was not sent; it can be made again without doing it twice.
//! A connect that fails fails the calls that waited for it, with its error; it is not tried again by itself: put tower's retry
//! over the pool, or on the connector. [`is_full`](crate::Error::is_full) and [`is_timeout`](crate::Error::is_timeout) from waiting. Those of the
//! [`Client`](crate::service::Client) as they are.
//!
//! # Cancel safety
//!
//! A dropped call gives up its place, as that of a [`Client`](crate::service::Client) does. In order, a connection whose calls
//! are dropped faster than their answers come fills up with those: then it gets no more, and another is opened.
//!
//! # Cost
//!
//! A lock and a scan of the connections per call; a task per connection. `cargo bench -p benches --bench pool` compares it
//! with a connection per exchange.
//!
//! # Example
//!
//! ```
//! # #[cfg(all(feature = "websocket", feature = "heartbeat", feature = "json"))]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use hyper_util::{rt::TokioIo, service::TowerToHyperService};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_transport::{
//!     Error, ServiceBuilderExt, TransportExt,
//!     codec::JsonCodec,
//!     layer::{codec::CodecLayer, heartbeat::HeartbeatLayer},
//!     service::Server,
//!     stack::pool::PoolBuilder,
//!     transport::{accept, websocket::{WebSocketConnector, WebSocketUpgrade}},
//! };
//!
//! // A server that doubles numbers.
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let url = format!("ws://{}/", listener.local_addr()?);
//! let double = WebSocketUpgrade::new(|socket, _| async {
//!     let socket = socket.layer(CodecLayer::new(JsonCodec::<u32>::new()));
//!     let _ = Server::in_order(socket, service_fn(async |number: u32| Ok::<_, Error>(2 * number))).await;
//! });
//! tokio::spawn(async move {
//!     loop {
//!         let (tcp, _) = accept(|| listener.accept()).await;
//!         let service = TowerToHyperService::new(double.clone());
//!         let http = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service);
//!         tokio::spawn(http.with_upgrades());
//!     }
//! });
//!
//! let connector = ServiceBuilder::new()
//!     .per_connection(ServiceBuilder::new().codec(JsonCodec::<u32>::new()).layer(HeartbeatLayer::default()))
//!     .service(WebSocketConnector::new());
//! let pool = PoolBuilder::new(connector, http::Request::get(url).body(())?).in_order::<u32, u32>();
//! for number in 0..100 {
//!     assert_eq!(pool.clone().oneshot(number).await?, 2 * number);
//! }
//! assert_eq!(pool.connects(), 1);
//! # Ok::<(), tower_transport::BoxError>(()) }).unwrap();
//! ```

mod builder;
mod call;
mod connection;
mod keeper;
mod service;
mod shared;
mod shelf;

pub use self::{builder::PoolBuilder, call::PoolCall, service::Pool};
