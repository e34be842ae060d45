//! WebTransport, then WebSocket, then SSE + POST: one connector that detects which of them works, one transport for
//! both ends, and one server for all three.
//!
//! # Why
//!
//! WebTransport is the best choice where it works: streams that do not wait for each other, no TCP underneath, and a
//! connection that survives a change of address. It fails where UDP is blocked, and a WebSocket fails where a proxy
//! strips the upgrade. Plain HTTP works everywhere. A client that must work everywhere tries all three. It should not
//! wait for a transport that does not work, should contact a server that is down or refuses it once and not three
//! times, and should lose nothing when the working transport fails.
//!
//! # The order of attempts
//!
//! The connector applies happy eyeballs (RFC 8305) to transports instead of addresses. It starts WebTransport first.
//! After a head start of 250 ms ([`head_start`](AdaptiveConnector::head_start)), or as soon as WebTransport fails, it
//! also starts WebSocket, and SSE + POST in the same way after that. The first transport to connect wins, and the
//! others are dropped. Everything happens in the future of the call; no task is spawned.
//!
//! Once only WebTransport is left and the server (or a proxy) has answered over TCP, UDP has 3 s more to produce a
//! packet, or 1 s if it was dead or silent recently. A network without UDP therefore does not hold up a reconnect.
//!
//! Each connector has its own proxy, set by
//! [`WebSocketConnector::proxy`](crate::transport::websocket::WebSocketConnector::proxy) and its kin. WebTransport runs over UDP and uses none. Rule it out with [`Endpoints::without`] if nothing may go around the proxy.
//!
//! # Fallback rules
//!
//! | error | [`Reason`] | WebTransport | WebSocket | SSE + POST |
//! |---|---|---|---|---|
//! | authentication: 401, 403 | `Auth` | stops all | stops all | stops all |
//! | a proxy's 407; a SOCKS proxy that does not permit it | `Auth` | - | stops the proxy | stops the proxy |
//! | a URL or a setting that cannot work | `Config` | stops all | stops all | others go on (it may be a redirect) |
//! | 429; 503 with `Retry-After`, or over UDP; a rate limit | `Busy` | stops authority | the same | the same |
//! | the name does not resolve | `Dns` | stops the host | stops the host | stops the host |
//! | the TLS handshake failed | `Tls` | stops plaintext | stops plaintext | stops plaintext |
//! | another status, or an answer in another protocol | `UpgradeRefused` | others go on | others go on | others go on |
//! | refused or unreachable | `UdpBlocked`, `ServerDown` | others go on | stops authority | stops authority |
//! | no answer in time | `UdpBlocked`, `Timeout` | others go on | others go on | others go on |
//! | cut while connecting, I/O | `Cut` (I/O over UDP: `UdpBlocked`) | others go on | others go on | others go on |
//! | anything else | `Other` | others go on | others go on | others go on |
//!
//! *Others go on*: the next transport is started at once. *Stops* rules out the transports that would fail in the same
//! way, whether in progress or not: all of them; those on the same host and port; those on the same host; those through
//! the same proxy; those without TLS. Hosts only count as the same if they are reached through the same proxy or Unix
//! socket. The attempt fails when no transport is left. An untrusted certificate is therefore followed only by another
//! transport with TLS, which verifies the certificate again, and never by plaintext. No transport may be less secure
//! than the base URL ([`Endpoints`]).
//!
//! The error of an attempt names each failure. Its kind is that of the most informative one: first the failure that
//! stopped the attempt, then one that another attempt may fix, then an answer of a server, and UDP silence last.
//! [`classify`](crate::layer::reconnect::classify) therefore classifies it correctly, and a `Retry-After` is kept.
//!
//! # Memory
//!
//! The connector and its clones remember the following for each origin, for 10 minutes
//! ([`memory_ttl`](AdaptiveConnector::memory_ttl)) and for at most 1024 origins (the least recently seen is evicted):
//!
//! - **A transport that worked** is tried first. Further successes do not extend this: 10 minutes after the race that
//!   it won, an attempt starts with the preferred transport again. That costs nothing, because it is the same race.
//! - **A connection that was made and carries nothing** (for example, a proxy that lets an upgrade pass and swallows
//!   everything after it) is tried last. An [`OptimizedTransport`](crate::stack::OptimizedTransport) detects this when
//!   its hello or session gets no answer, and tries the next transport at once.
//! - **A path that went dead in the middle of a session** is tried last. A dead path delivers nothing any more, as
//!   detected by a heartbeat or QUIC's idle timeout. A close, a reset and a server restart do not count. (A killed
//!   server leaves its WebTransport clients without a word, which looks the same. So does a server, or a proxy in front
//!   of it, that ends the QUIC connection without ending the session.)
//!
//! Call [`forget`](AdaptiveConnector::forget) when the program knows that its network has changed.
//!
//! # A transport that fails during a session
//!
//! This type is a connector: it only makes connections. Below [`reconnect`](crate::layer::reconnect) and
//! [`resume`](crate::layer::resume), as in an [`OptimizedTransport`](crate::stack::OptimizedTransport), a lost
//! connection is replaced over whichever transport works at that time. The session continues without a gap or a
//! duplicate, because the server keeps the same sessions for all three.
//!
//! The time to detect a dead path bounds how long a user waits:
//!
//! | detected by | default | set by |
//! |---|---|---|
//! | the stack's heartbeat | 20 s, 20 s for the answer | [`OptimizedBuilder::heartbeat`]; 5 s and 5 s suit a UI |
//! | QUIC, for WebTransport | 30 s without a packet, keep-alives every 10 s | [`SessionLimits::idle`] |
//! | the operating system, for TCP | minutes, and only when something is sent | - |
//!
//! [`OptimizedBuilder::heartbeat`]: crate::stack::OptimizedBuilder::heartbeat
//! [`SessionLimits::idle`]: crate::transport::webtransport::SessionLimits::idle
//!
//! The first detection is recorded in the memory. QUIC and TCP report it through the transport. A layer above reports
//! it through the [`LostConnection`](crate::transport::LostConnection) that the reconnect layer passes with the next
//! attempt.
//!
//! # Observability
//!
//! - [`AdaptiveConnector::decisions`]: a stream of [`Decided`], bounded for each reader.
//! - Metrics, with the labels `name` ([`named`](AdaptiveConnector::named)), `role` (`client`) and `transport`
//!   ([`TransportKind::as_str`]): `tower_transport_connects_total`, `tower_transport_connect_seconds`,
//!   `tower_transport_fallbacks_total` (with `reason`, a [`Reason::as_str`]), `tower_transport_paths_lost_total`.
//! - `tracing` events (`DEBUG`), one for each decision.
//! - [`AdaptiveConnector::capabilities`]: what has been observed of each transport of a server, as
//!   [`TransportCapabilities`].
//! - [`TransportKind`] in the response's extensions, and [`AdaptiveTransport::kind`].
//!
//! # In a page
//!
//! On `wasm32` the client's end exists, with the same rules and the same memory. A browser hides why a WebTransport
//! session or a WebSocket was not made, so the rules see less: a refused session is `UdpBlocked`, and a WebSocket that
//! was refused for whatever reason, or whose server is down, is `Cut`. The other transports go on in both cases. Only
//! SSE shows a status: its 401 or 403 stops the attempt. A path that went dead is detected by a heartbeat alone. The
//! guide `browser` has the table.
//!
//! # Backpressure
//!
//! A connect waits for the first transport to connect; see [`AdaptiveConnector`]. The transport returns `Pending` when
//! the transport inside it does.
//!
//! # Errors
//!
//! Returns the errors of the underlying connectors, combined into one as described above.
//!
//! # Cancel safety
//!
//! Dropping a connect cancels every attempt in progress. The transport has the cancel safety of the transport inside
//! it.
//!
//! # On the wire
//!
//! This module adds nothing to the wire. Each transport is the same as when it is used alone, and a server does not
//! need to know about this module.
//!
//! # Cost
//!
//! A call on the transport costs one branch; nothing is boxed or allocated per message. An attempt allocates one future
//! for each transport that it starts.
//!
//! # Example
//!
//! One server and one client. UDP is not blocked, so the connection is WebTransport.
//! ([`examples/adaptive`](https://github.com/tower-transport/tower-transport/blob/main/examples/adaptive) shows every
//! failure.)
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
// A real server has TCP and UDP on one port, and `Endpoints::new(\"https://example.com\")` is enough.
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
//! A configured connector, with a token that goes to every transport that is tried, below a custom stack:
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
//! # Compared with hyper's and browsers' happy eyeballs
//!
//! Happy eyeballs races the addresses of one protocol. It works below this module, inside each connector. This module
//! races protocols, and considers for each failure what it says about the other transports.

mod attempt;
mod capabilities;
mod connector;
mod decision;
mod endpoints;
mod kind;
mod memory;
mod plan;
mod policy;
mod race;
#[cfg(not(target_arch = "wasm32"))]
pub mod server;
mod transport;

#[cfg(not(target_arch = "wasm32"))]
pub use self::server::SessionServer;
pub use self::{
    capabilities::{Standing, TransportCapabilities},
    connector::{AdaptiveConnecting, AdaptiveConnector},
    decision::{Decided, Decision, Decisions, Reason},
    endpoints::Endpoints,
    kind::TransportKind,
    transport::AdaptiveTransport,
};
