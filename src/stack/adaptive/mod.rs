//! WebTransport, then WebSocket, then SSE + POST: one connector that finds out which of them works, one transport for both ends, and one
//! server for all three.
//!
//! # Why
//!
//! WebTransport is the best of them where it works: streams that do not wait for each other, no TCP below, a connection that moves with the
//! user. It does not work where UDP is blocked, and a WebSocket does not where a proxy strips the upgrade; plain HTTP works everywhere. A client
//! that is to work everywhere tries all three, and should wait for none of those that do not work, ask a server that is down or that
//! refuses it once and not three times, and lose nothing when the one that worked stops working.
//!
//! # What is tried when
//!
//! As happy eyeballs do it with addresses (RFC 8305): WebTransport first; after a head start of 250 ms
//! ([`head_start`](AdaptiveConnector::head_start)), or as soon as it fails, WebSocket as well; then SSE + POST in the same way. The first that is
//! made wins, and the others are dropped. All of it happens in the future of the call; no task is spawned.
//!
//! Once none is left but WebTransport, and the server (or a proxy) has answered over TCP, UDP has 3 s more to break its silence; 1 s where it
//! was dead or silent lately. So a reconnect through a network without UDP is not held up by it.
//!
//! # What falls back on what
//!
//! | error | [`Reason`] | WebTransport | WebSocket | SSE + POST |
//! |---|---|---|---|---|
//! | auth: 401, 403 | `Auth` | stops all | stops all | stops all |
//! | a proxy's 407 | `Auth` | - | stops the proxy | stops the proxy |
//! | a URL or a setting that cannot work | `Config` | stops all | stops all | others go on (it may be a redirect) |
//! | 429; 503 with `Retry-After`, over UDP without; a rate limit | `Busy` | stops the authority | stops the authority | stops the authority |
//! | the name does not resolve | `Dns` | stops the host | stops the host | stops the host |
//! | the TLS handshake failed | `Tls` | stops plaintext | stops plaintext | stops plaintext |
//! | another status (200, 404, 426, 502, ...), an answer that is not the protocol's | `UpgradeRefused` | others go on | others go on | others go on |
//! | nobody listens (refused, unreachable) | `UdpBlocked`, `ServerDown` | others go on | stops the authority | stops the authority |
//! | no answer in time | `UdpBlocked`, `Timeout` | others go on | others go on | others go on |
//! | cut while connecting, I/O | `Cut` (I/O over UDP: `UdpBlocked`) | others go on | others go on | others go on |
//! | anything else | `Other` | others go on | others go on | others go on |
//!
//! *Others go on*: the next is started at once. *Stops* rules out those that would fail the same, under way or not: all; those on
//! the same host and port; on the same host; by way of the same proxy; those without TLS. The same host is the same only by way of the same
//! proxy or Unix socket, from where it is seen. Where none is left, the attempt fails. A certificate that is not trusted is
//! thus followed by another transport with TLS, which verifies for itself, and never by plaintext; and no transport may be less secure
//! than the base URL ([`Endpoints`]).
//!
//! The error of an attempt names each failure. Its kind is that of the one that says most (who stopped the attempt, else what another
//! attempt may mend, else what a server has answered, UDP's silence last), so that
//! [`classify`](crate::layer::reconnect::classify) is right about it, and a `Retry-After` is kept.
//!
//! # What is remembered
//!
//! For each origin, for 10 minutes ([`memory_ttl`](AdaptiveConnector::memory_ttl)), of at most 1024 origins (the one heard of longest ago goes
//! first), in the connector and its clones:
//!
//! - **what worked** is tried first. That it works again does not prolong it: 10 minutes after it was found out, an attempt begins from the
//!   top again. That delays nobody, it is the same race;
//! - **a connection that was made and carries nothing** (a proxy that lets an upgrade pass and swallows what follows) is tried last: of an
//!   [`OptimizedTransport`](crate::stack::OptimizedTransport), whose hello or session then has no answer, and which tries the next at once;
//! - **a path that went dead in the middle of a session** is tried last: nothing came in any more, as a heartbeat or QUIC's idle timeout has
//!   noticed. A close, a reset, a server that restarts are none of that. (A server that is killed leaves its WebTransport clients without a
//!   word, which looks the same; so does a server, or what stands before it, that ends QUIC's connection without ending the session.)
//!
//! [`forget`](AdaptiveConnector::forget) is for a program that knows that its network has changed.
//!
//! # A transport that dies in a session
//!
//! This is a connector: it makes connections. Below [`reconnect`](crate::layer::reconnect) and [`resume`](crate::layer::resume), so in an
//! [`OptimizedTransport`](crate::stack::OptimizedTransport), a connection that is lost is followed by one over whichever transport works
//! then, and the session goes on without a gap or a duplicate, since the server has the same sessions for all three.
//!
//! How soon a dead path is noticed is the bound on how long a user waits:
//!
//! | who notices | default | set by |
//! |---|---|---|
//! | the stack's heartbeat | 20 s of silence, 20 s for the answer | [`OptimizedBuilder::heartbeat`](crate::stack::OptimizedBuilder::heartbeat); 5 s and 5 s is fine for a user interface |
//! | QUIC, of WebTransport | 30 s without a packet, with keep-alives each 10 s | [`SessionLimits::idle`](crate::transport::webtransport::SessionLimits::idle) |
//! | the operating system, of TCP | minutes, and only when something is sent | - |
//!
//! Whichever is first tells the memory: QUIC and TCP through the transport, a layer above by the
//! [`LostConnection`](crate::transport::LostConnection) which the reconnect layer gives with the next attempt.
//!
//! # What can be seen
//!
//! - [`AdaptiveConnector::decisions`]: a stream of [`Decided`], bounded for each reader.
//! - Metrics, with the labels `name` ([`named`](AdaptiveConnector::named)), `role` (`client`) and `transport`
//!   ([`TransportKind::word`]): `tower_transport_connects_total`, `tower_transport_connect_seconds`,
//!   `tower_transport_fallbacks_total` (with `reason`, a [`Reason::word`]), `tower_transport_paths_lost_total`.
//! - `tracing` events (`DEBUG`), one a decision.
//! - [`AdaptiveConnector::capabilities`]: what was seen of each transport of a server; [`TransportCapabilities`].
//! - [`TransportKind`] in the response's extensions, and [`AdaptiveTransport::kind`].
//!
//! # Where it waits
//!
//! The connect, for the first transport that is made: see [`AdaptiveConnector`]. The transport where the one that it is does.
//!
//! # Errors
//!
//! Those of the connectors below, together; see above.
//!
//! # Cancel safety
//!
//! A connect that is dropped drops all that is under way. The transport's is that of the one that it is.
//!
//! # On the wire
//!
//! Nothing of its own: each transport is what it is alone, and a server need not know of this.
//!
//! # Cost
//!
//! A branch for each call on the transport; nothing is boxed or allocated per message. An attempt allocates a future for each transport that
//! it starts.
//!
//! # Example
//!
//! One server, one client; UDP is free, so it is WebTransport. (`examples/adaptive` lets everything go wrong.)
//!
#![cfg_attr(
    feature = "dev-certificate",
    doc = "```
# tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
use tower_transport::{
    Message, TransportExt,
    stack::{
        OptimizedTransport,
        adaptive::{AdaptiveConnector, Endpoints, SessionServer, TransportKind},
    },
    transport::webtransport::{Certificate, WebTransportConnector, WebTransportServer},
};

let acceptor = OptimizedTransport::builder().acceptor();
let server = SessionServer::new(acceptor, |mut session: OptimizedTransport<_>, _parts| async move {
    while let Some(Ok(message)) = session.receive_message().await {
        if message.is_data() && session.send_message(message).await.is_err() {
            return;
        }
    }
});
let certificate = Certificate::development(&[])?;
let trusted = WebTransportConnector::new().certificate_hashes([certificate.hash()]);
let quic = WebTransportServer::bind(\"127.0.0.1:0\".parse()?, certificate)?;
// A real server has TCP and UDP on one port: `Endpoints::new(\"https://example.com\")` is enough.
let endpoints = Endpoints::new(&format!(\"https://{}\", quic.local_addr()?))?;
tokio::spawn(server.web_transport(quic)); // and `server.http()` in hyper or axum

let connector = AdaptiveConnector::new(endpoints.clone()).web_transport(trusted);
let mut transport = OptimizedTransport::builder().connect_with(connector, &endpoints).await?;
transport.send_message(Message::text(\"hello\")).await?;
assert_eq!(transport.receive_message().await.unwrap()?, Message::text(\"hello\"));
let response = transport.handle().reconnect().unwrap().response().unwrap();
assert_eq!(response.extensions.get(), Some(&TransportKind::WebTransport));
# Ok::<(), tower_transport::BoxError>(()) }).unwrap();
```"
)]
//!
//! Configured, with a token that goes to whichever transport is tried, below a stack of one's own:
//!
//! ```no_run
//! # async fn connect() -> Result<(), tower_transport::BoxError> {
//! use std::time::Duration;
//!
//! use futures_util::StreamExt;
//! use tower::{ServiceBuilder, timeout::TimeoutLayer};
//! use tower_http::auth::AddAuthorizationLayer;
//! use tower_transport::{
//!     Limits, Message, ServiceBuilderExt, TransportExt,
//!     layer::{heartbeat::HeartbeatLayer, reconnect::Backoff},
//!     stack::adaptive::{AdaptiveConnector, Endpoints, TransportKind},
//!     transport::websocket::WebSocketConnector,
//! };
//!
//! let endpoints = Endpoints::new("https://example.com/chat")?
//!     .web_transport("https://quic.example.com:4433/chat")?
//!     .without(TransportKind::Sse);
//! let connector = AdaptiveConnector::new(endpoints.clone())
//!     .head_start(Duration::from_millis(100))
//!     .memory_ttl(Duration::from_secs(3600))
//!     .limits(Limits::new().handshake(Duration::from_secs(5)))
//!     .web_socket(WebSocketConnector::new().proxy(&"http://proxy.example.com:3128".parse()?)?)
//!     .named("chat");
//! let mut decisions = connector.decisions();
//! tokio::spawn(async move {
//!     while let Some(decided) = decisions.next().await {
//!         println!("{decided:?}");
//!     }
//! });
//! let transport = ServiceBuilder::new()
//!     .reconnect(&endpoints, Backoff::exponential())
//!     .resume()
//!     .per_connection(HeartbeatLayer::new(Duration::from_secs(5), Duration::from_secs(5)))
//!     .layer(TimeoutLayer::new(Duration::from_secs(8))) // on the whole race
//!     .layer(AddAuthorizationLayer::bearer("token"))
//!     .service(connector);
//! let mut transport = Box::pin(transport);
//! transport.send_message(Message::text("hello")).await?;
//! # Ok(()) }
//! ```
//!
//! # Unlike hyper's and browsers' happy eyeballs
//!
//! Those race addresses of one protocol, below this: each connector here does so by itself. This races protocols, and asks of each failure
//! what it says about the others.

mod base;
mod capabilities;
mod connector;
mod decision;
mod dial;
mod endpoints;
mod failures;
mod future;
mod kind;
mod memory;
mod plan;
mod policy;
mod race;
mod reason;
pub mod server;
mod shared;
mod tell;
mod transport;
mod watch;

pub use self::{
    capabilities::{Standing, TransportCapabilities},
    connector::AdaptiveConnector,
    decision::{Decided, Decision},
    endpoints::Endpoints,
    future::AdaptiveConnecting,
    kind::TransportKind,
    reason::Reason,
    server::SessionServer,
    transport::AdaptiveTransport,
    watch::Decisions,
};
