//! Connections to one target, kept open and shared by many calls.
//!
//! # Why
//!
//! A handshake costs round trips and, over TLS, much CPU: more than a short exchange. A [`Pool`] makes one handshake
//! for many exchanges. The connections are [`Client`](crate::service::Client)s, so several calls share one at a time.
//!
//! # Choice of a connection
//!
//! A call gets the connection with the fewest calls. While all are busy, the call goes to that one at once, and another
//! connection is opened as well, up to [`max_connections`](PoolBuilder::max_connections). (tower's `balance` is for
//! many targets: it looks at two at random. A pool has few connections and can look at all of them.)
//!
//! # Backpressure
//!
//! The pool is always ready. A call waits while no connection has room: first come, first served, for at most
//! [`max_wait`](PoolBuilder::max_wait), and at most [`max_waiting`](PoolBuilder::max_waiting) calls at a time.
//!
//! # Health
//!
//! A separate task reads from each connection all the time, so a connection that ends is removed at once; its calls
//! fail with the cause. A silent connection is detected by a heartbeat layer per connection, as in the example. An idle
//! or old connection is closed when its calls are done, and counts against `max_connections` until then.
//!
//! # Minimum number of connections
//!
//! With [`min_connections`](PoolBuilder::min_connections), one task replaces lost connections, one attempt after the
//! other, with [`backoff`](PoolBuilder::backoff) and jitter. It ends with the last handle. A failed call leaves nothing
//! behind.
//!
//! # Metrics
//!
//! With the feature `trace` and a recorder of the `metrics` facade, a pool reports its connections by state, the calls
//! that wait and for how long, failed connects, and retired connections by reason. The
//! [table](crate::layer::trace) has their names. [`named`](PoolBuilder::named) sets their label `name`. The numbers of
//! connections and of waiting calls are sampled every 5 seconds.
//!
//! # Errors
//!
//! [`Error::may_have_been_executed`](crate::Error::may_have_been_executed) is `false` for a call that got no
//! connection, or whose request was not sent. Such a call can be retried without executing it twice.
//!
//! A failed connect fails the call that it was begun for, with its error, and the calls that waited longer without a
//! connect of their own. If no other connect is under way, it fails all calls that wait. If there is a connection, it
//! fails none. The pool does not retry; put tower's retry above the pool or on the connector.
//!
//! A call returns an error for which [`is_full`](crate::Error::is_full) is true if too many calls wait, and
//! [`is_timeout`](crate::Error::is_timeout) if it has waited too long. Errors of the
//! [`Client`](crate::service::Client) are returned unchanged.
//!
//! # Cancel safety
//!
//! Dropping a call abandons it, as with a [`Client`](crate::service::Client). With tags, its room on the connection is
//! free at once. With in-order answers, an abandoned call whose request was sent keeps its room until its answer has
//! come and is discarded. Calls that time out therefore neither close a connection nor open more than
//! [`max_connections`](PoolBuilder::max_connections). A connection that has only abandoned calls and gives no answer
//! for [`idle_timeout`](PoolBuilder::idle_timeout) is closed as an idle one.
//!
//! # Cost
//!
//! Each call costs a lock and a scan of the connections; each connection costs a task. `cargo bench -p benches --bench
//! pool` compares the pool with one connection per exchange.
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
//!     transport::{accept, websocket::{WebSocketConnector, WebSocketService}},
//! };
//!
//! // A server that doubles numbers.
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let url = format!("ws://{}/", listener.local_addr()?);
//! let double = WebSocketService::new(|socket, _| async {
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
mod connections;
mod metrics;
mod service;
mod slots;

pub use self::{
    builder::PoolBuilder,
    service::{Pool, PoolCall},
};
