//! The recommended stack as one type: [`OptimizedTransport`].
//!
//! # Why
//!
//! The layers of this crate compose in any order. This is the order that fits most programs, with safe defaults, on
//! both ends, and the wire features are negotiated with the peer. Against a peer that does not know this crate, the
//! same code runs with plain messages, and [says so](OptimizedTransport::capabilities).
//!
//! # Layers
//!
//! ```text
//!   you:  Sink<Message> + Stream<Message>, or split() into two halves with a queue in between
//!     limit                     sizes, idle time
//!     rate_limit                optional
//!     reconnect       (client)  survives lost connections
//!       trace                   counts, a span for each connection
//!       resume                  negotiated: no loss or duplicate across connections
//!       batch                   negotiated: many small messages in one
//!       compression             negotiated: messages that shrink
//!       heartbeat               detects dead peers
//!   the WebSocket, or another transport of messages
//! ```
//!
//! [`OptimizedBuilder`] documents each layer's default, and turns the layer off or changes it. A codec goes on top, as
//! on any transport. Access control belongs to the handshake: layers of tower, tower-http and `layer::auth` on the
//! connector ([`connect_with`](OptimizedBuilder::connect_with)), guards of `handshake` around the upgrade.
//!
//! If a WebSocket does not get through, or WebTransport would do better, put `stack::adaptive::AdaptiveConnector`
//! (feature `adaptive`) below this stack. It detects which transport works, and moves a session to another one when its
//! own fails.
//!
//! # How the two ends negotiate
//!
//! The client offers the subprotocol `tower-transport.v1`, after any names of yours. A server that knows it chooses it.
//! Each end then announces what it has on, and the features that both have on are used. This takes no additional round
//! trip, or one with resume. [`docs/wire.md`](crate::guide::wire) documents the bytes.
//!
//! Some servers choose whichever name is offered first. The client therefore sends nothing until the server's hello has
//! come. If another message comes instead, the connection continues with plain messages, starting with that one.
//! Otherwise the client connects once more without the name, and messages are plain:
//!
//! | in place of a hello | remembered for 10 minutes |
//! |---|---|
//! | the handshake is refused with 400, 406 or 501, and accepted without the name | yes |
//! | only a ping is answered, or a close message comes | yes |
//! | the connection is cut, silent, or closed with 1001, 1012 or 1013 | if it happens again after 5 s or more |
//!
//! A builder and its clones share this memory, so such a server is dialed once for each attempt. Other statuses are not
//! tried again, because they have more likely causes, and neither are rejected credentials (401, 403; close codes 3000,
//! 3003, 4401 and 4403), because a second attempt may lock an account. If a server answers such a status because of the
//! name, remove the name from the request's `Sec-WebSocket-Protocol` with a layer on the connector.
//!
//! A server that has said hello is trusted. If it closes or is silent in place of a hello, that connection fails, and
//! the next one treats the server as unknown. If its connections are only cut, it stays trusted for 10 minutes.
//!
//! # In a page
//!
//! On `wasm32` the client's end exists, over the browser's WebSocket or another transport. Its wire is the same. Three
//! things differ, because a page can neither ping nor see why a handshake failed:
//!
//! - The heartbeat's pings are messages of the application level, which the peer's stack answers. A peer that does not
//!   know the stack gets none.
//! - A browser fails the connection if the server chooses no subprotocol. After a failure the client therefore connects
//!   without the name, and once more with it: a server that only then fails again gets plain messages. Servers that
//!   have said hello are never doubted for a failure.
//! - A server that chose the name without knowing it, and is silent, is given up after a quarter of the handshake's
//!   time.
//!
//! # Limits of the peer
//!
//! Each end announces how large a message it accepts ([`Limits::message`](crate::Limits::message)). The sender refuses
//! a larger one with an error for which [`is_too_large`](crate::Error::is_too_large) and
//! [`is_rejection`](crate::Error::is_rejection) are true, and the transport goes on. The size before compression
//! counts.
//!
//! # Secrets
//!
//! With the defaults, messages that are sent together form one batch, and a batch is compressed as a whole. Its length
//! then reveals how much its messages have in common. **If a secret and text chosen by a stranger may be sent on one
//! connection, and somebody may observe the lengths,** use `.compression(Deflate::new().batches(false))`. Each message
//! of at least [`min_size`](crate::layer::compression::Deflate::min_size) bytes is then compressed separately, and
//! smaller ones are batched without compression. If one message may contain both, turn compression off.
//!
//! # Backpressure
//!
//! [`connect`](OptimizedTransport::connect) waits for the first connection and returns its error if it fails. Later
//! losses are reconnected automatically. [`split`](OptimizedTransport::split) never waits. The sink returns `Pending`
//! when the rate limit, the replay buffer of resume or the transport does. The stream waits for messages and, while
//! disconnected, for the next connection.
//!
//! # Errors
//!
//! Returns the layers' errors. A lost connection is not an error unless reconnecting has given up, or messages are
//! lost: if the server restarted or the session was given up, one error, a rejection, reports how many messages are
//! [lost with the session](crate::layer::reconnect::WhenLost#with-a-resume-layer), and the transport goes on.
//! [`OptimizedHandle::state`] shows a loss as it happens, with its cause.
//!
//! # Cancel safety
//!
//! All state is in the transport, or in the task behind [`split`](OptimizedTransport::split). Dropping a send or a
//! receive loses nothing.
//!
//! # Cost
//!
//! `cargo bench -p benches --bench optimized` compares it with raw sockets: about 2 us per round trip, and 7 KB for an
//! idle connection of a server. A feature that is not agreed on costs a branch.
//!
//! # Example
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use hyper_util::{rt::TokioIo, service::TowerToHyperService};
//! use tower_transport::{Message, stack::{OptimizedAcceptor, OptimizedTransport}, transport::accept};
//!
//! // The server: each session in two halves, over any number of connections.
//! let acceptor: OptimizedAcceptor = OptimizedTransport::builder().named("echo").acceptor();
//! let upgrade = acceptor.upgrade(|session, _parts| async {
//!     let (sender, mut receiver) = session.split();
//!     while let Some(Ok(message)) = receiver.receive().await {
//!         if message.is_data() && sender.send(message).await.is_err() {
//!             return;
//!         }
//!     }
//! });
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let url = format!("ws://{}/", listener.local_addr()?);
//! tokio::spawn(async move {
//!     loop {
//!         let (tcp, _) = accept(|| listener.accept()).await;
//!         let service = TowerToHyperService::new(upgrade.clone());
//!         let http = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service);
//!         tokio::spawn(http.with_upgrades());
//!     }
//! });
//!
//! let transport = OptimizedTransport::connect(&url).await?;
//! assert!(transport.capabilities().resume());
//! let (sender, mut receiver) = transport.split();
//! sender.send(Message::text("hello")).await?;
//! assert_eq!(receiver.receive().await.unwrap()?, Message::text("hello"));
//! # Ok::<(), tower_transport::BoxError>(()) }).unwrap();
//! ```
//!
//! A configured client, with a token in the handshake, over a plain transport without compression:
//!
//! ```no_run
//! # async fn connect() -> Result<(), tower_transport::BoxError> {
//! use std::{num::NonZeroU32, time::Duration};
//!
//! use tower::{ServiceBuilder, timeout::TimeoutLayer};
//! use tower_http::auth::AddAuthorizationLayer;
//! use tower_transport::{
//!     layer::{compression::Deflate, heartbeat::HeartbeatLayer, rate_limit::{Quota, RateLimitLayer}},
//!     stack::OptimizedTransport,
//!     transport::websocket::WebSocketConnector,
//! };
//!
//! let connector = ServiceBuilder::new()
//!     .layer(TimeoutLayer::new(Duration::from_secs(5)))
//!     .layer(AddAuthorizationLayer::bearer("token"))
//!     .service(WebSocketConnector::new());
//! let quota = Quota::per_second(NonZeroU32::new(500).unwrap());
//! let transport = OptimizedTransport::builder()
//!     .named("orders")
//!     .rate_limit(RateLimitLayer::per_connection(quota).outbound())
//!     .compression(None::<Deflate>)
//!     .heartbeat(HeartbeatLayer::new(Duration::from_secs(5), Duration::from_secs(5)))
//!     .connect_with(connector, "wss://example.com/orders")
//!     .await?;
//! # drop(transport); Ok(()) }
//! ```

mod builder;
mod connector;
mod greeting;
mod handle;
mod layers;
mod metrics;
mod peers;
#[cfg(not(target_arch = "wasm32"))]
mod server;
#[cfg(not(target_arch = "wasm32"))]
mod shutdown;
mod transport;

#[cfg(all(feature = "adaptive", not(target_arch = "wasm32")))]
pub(crate) use self::server::Client;
#[cfg(not(target_arch = "wasm32"))]
pub use self::server::{Handled, OptimizedAcceptor};
pub use self::{builder::OptimizedBuilder, handle::OptimizedHandle, transport::OptimizedTransport};
