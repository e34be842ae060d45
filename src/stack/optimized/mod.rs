//! The recommended stack as one type: [`OptimizedTransport`].
//!
//! # Why
//!
//! The layers of this crate compose in any order; this is the order that fits most programs, with defaults that hold, on both
//! ends, and what goes on the wire is agreed on with the peer. Against a peer that knows nothing of this crate the same code runs
//! with plain messages, and [says so](OptimizedTransport::capabilities).
//!
//! # What is in it
//!
//! ```text
//!   you:  Sink<Message> + Stream<Message>, or two halves of it with a queue between: split()
//!     limit                     sizes, idle time
//!     rate_limit                if you want one
//!     reconnect       (client)  lives on across connections
//!       trace                   counts, a span for each connection
//!       resume                  agreed on: nothing lost or doubled across connections
//!       batch                   agreed on: many small messages in one
//!       compression             agreed on: what shrinks
//!       heartbeat               a peer that is gone is found out
//!   the WebSocket, or another transport of messages
//! ```
//!
//! [`OptimizedBuilder`] has each layer's default, and turns it off or changes it. A codec goes on top, as on any transport. Who may
//! connect is the handshake's business: layers of tower, tower-http and `layer::auth` on the connector
//! ([`connect_with`](OptimizedBuilder::connect_with)), guards of `handshake` around the upgrade.
//!
//! Where a WebSocket does not get through, or WebTransport would do better, `stack::adaptive::AdaptiveConnector`
//! (feature `adaptive`) below this stack finds out which of the transports does, and moves a session to another one when its own dies.
//!
//! # How the two ends negotiate
//!
//! The client offers the subprotocol `tower-transport.v1`, after any names of yours. A server that knows it chooses it; then each end says what
//! it has on, and what both have is on. That takes no round trip more, and with resume one. `docs/wire.md` has the bytes.
//!
//! Some servers choose whichever name is offered first. So the client sends nothing until the server's hello has come. If another message
//! comes instead, the connection goes on with plain messages, that one first. If the server only answers a ping, closes, or is silent, the client
//! connects once more without the name. The builder and its clones remember such a server for 10 minutes.
//!
//! # Limits of the other end
//!
//! Each end says how large a message it takes ([`Limits::message`](crate::Limits::message)). A larger one is refused where it is sent, with
//! an error that [`is_too_large`](crate::Error::is_too_large) and [`is_rejection`](crate::Error::is_rejection), and the transport goes on. The
//! size before compression counts.
//!
//! # Secrets
//!
//! With the defaults, messages that leave together are one batch, and a batch is compressed as a whole. Its length then tells how much its
//! messages have in common. **Where a secret and text that a stranger chose may leave on one connection, and somebody may watch the lengths,**
//! use `.compression(Deflate::new().batches(false))`: each message from [`min_size`](crate::layer::compression::Deflate::min_size) on is then
//! compressed by itself, and smaller ones are packed without compression. Where both may stand in one message, turn compression off.
//!
//! # Where it waits
//!
//! [`connect`](OptimizedTransport::connect) for the first connection, whose failure it tells; what is lost later is made again by itself.
//! [`split`](OptimizedTransport::split) nowhere. The sink waits where the rate limit, the replay buffer of resume and the transport say so,
//! the stream for messages and, while there is none, for the next connection.
//!
//! # Errors
//!
//! Those of the layers. A connection that is lost is none, unless there will be no other: [`OptimizedHandle::state`] shows it as it
//! happens, with its cause.
//!
//! # Cancel safety
//!
//! All state is in the transport, or in the task behind [`split`](OptimizedTransport::split): dropping a send or a receive loses nothing.
//!
//! # Cost
//!
//! `cargo bench -p benches --bench optimized` measures it beside raw sockets: about 2 us of a round trip, and 7 KB for an idle
//! connection of a server. What is not agreed on costs a branch.
//!
//! # Example
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use hyper_util::{rt::TokioIo, service::TowerToHyperService};
//! use tower_transport::{Message, stack::{OptimizedAcceptor, OptimizedTransport}, transport::accept};
//!
//! // The server: each session in two halves, whatever connections it takes.
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
//! Configured, with a token on the handshake and a plain transport where there is nothing to compress:
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
mod fit;
mod greeted;
mod greeting;
mod leave;
mod peers;
mod server;
mod shell;
mod status;
mod transport;
mod wire;

#[cfg(feature = "adaptive")]
pub(in crate::stack) use self::server::Client;
pub use self::{
    builder::OptimizedBuilder,
    server::{Handled, OptimizedAcceptor},
    status::OptimizedHandle,
    transport::OptimizedTransport,
};
