//! One server for all three transports: a [`SessionServer`] hands the sessions of WebTransport, WebSocket and SSE with
//! POST to one handler.
//!
//! # Why
//!
//! A client that [falls back](super) connects over the transport that works, and may change it in the middle of a
//! session. A server with a separate handler, session store, limits and guards for each transport would treat it as a
//! different client each time. A [`SessionServer`] shares them:
//!
//! ```text
//!  GET /ws, upgrade ──┐                        ┌── the session store: a returning client resumes
//!  GET, POST /sse ────┼── guard ── accept ─────┤
//!  CONNECT /wt ───────┘                        └── your handler, for each new session
//! ```
//!
//! # Shared state
//!
//! | shared | how |
//! |---|---|
//! | the handler | gets an [`OptimizedTransport`]; the [`TransportKind`] is in the extensions of the request parts |
//! | sessions | the [acceptor's] store: a session may begin over one transport and resume over another |
//! | access | [`guard`]: any HTTP layer, called with the request of each transport; [`owned_by`] |
//! | numbers | [`sessions`], [`handshakes`]; a `ConnectionLimitLayer` in the guard, by any key |
//! | the cost of WebTransport | [one stream] for each session, unless the endpoint has its own limits |
//! | rates | a [`KeyedRateLimiter`] that the handler puts on the session, by address or subject: see the example |
//! | shutdown | [`close`](SessionServer::close) |
//!
//! [`OptimizedTransport`]: crate::stack::OptimizedTransport
//! [`TransportKind`]: super::TransportKind
//! [acceptor's]: crate::stack::OptimizedAcceptor
//! [`guard`]: SessionServer::guard
//! [`owned_by`]: SessionServer::owned_by
//! [`sessions`]: SessionServer::sessions
//! [`handshakes`]: SessionServer::handshakes
//! [one stream]: crate::transport::webtransport::SessionLimits::one_stream
//! [`KeyedRateLimiter`]: crate::layer::rate_limit::KeyedRateLimiter
//!
//! # Backpressure
//!
//! The server waits for the guard and then for the client: its upgrade, its first stream and its hello, each within
//! [`Limits::handshake`](crate::Limits::handshake). Put a timeout into a guard that uses the network.
//!
//! # Errors
//!
//! | answer | for |
//! |---|---|
//! | 404 | a path other than the three; the guard is not called |
//! | the guard's answer | a request that the guard does not admit |
//! | 403 | a page whose origin is not [allowed](SessionServer::allow_origin) |
//! | 503, `Retry-After: 5` | too many handshakes; too many sessions, for a client without a session |
//! | 503, `Retry-After: 5` | any request after [`close`](SessionServer::close); a guard that failed |
//! | close 1013 | too many sessions, for a client that might have had one |
//! | close 1001 | [`close`](SessionServer::close) |
//! | the transport's answer | a request that does not begin a session |
//!
//! Over WebTransport, a refusal is a status without headers or a body. It has no `Retry-After` and none of the headers
//! that the guard adds.
//!
//! A connection that does not become a session ends with its error, which is logged (`debug`).
//!
//! # Cancel safety
//!
//! Dropping a request frees its seat. Handlers run on their own tasks.
//!
//! # Cost
//!
//! Each connection costs one box for the handler's future and one for the guard. A message costs none.
//!
//! # Example
//!
//! With axum, and one quota for each address over all transports:
//!
//! ```
#![cfg_attr(not(all(feature = "axum", feature = "dev-certificate")), doc = "# #[cfg(any())]")]
//! # fn main() -> Result<(), tower_transport::BoxError> {
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! use std::{net::{IpAddr, SocketAddr}, num::NonZeroU32};
//!
//! use axum::{Router, extract::{ConnectInfo, Request}};
//! use tower::{Layer, ServiceBuilder};
//! use tower_transport::{
//!     TransportExt,
//!     layer::rate_limit::{KeyedRateLimiter, Quota},
//!     stack::{OptimizedTransport, adaptive::SessionServer},
//!     transport::webtransport::{Certificate, WebTransportServer},
//! };
//!
//! let limiter = KeyedRateLimiter::<IpAddr>::new(Quota::per_second(NonZeroU32::new(100).unwrap()));
//! let acceptor = OptimizedTransport::builder().named("echo").acceptor();
//! let server = SessionServer::new(acceptor, move |session, parts| async move {
//!     // Or use a subject that the guard has put into the extensions.
//!     let Some(address) = parts.extensions.get::<SocketAddr>() else { return };
//!     let mut session = limiter.for_key(address.ip()).inbound().layer(session);
//!     while let Some(Ok(message)) = session.receive_message().await {
//!         if message.is_data() && session.send_message(message).await.is_err() {
//!             return;
//!         }
//!     }
//! });
//!
//! // TCP: the WebSockets at /ws, SSE at /sse; next to other routes.
//! let address = ServiceBuilder::new().map_request(|mut request: Request| {
//!     if let Some(&ConnectInfo(address)) = request.extensions().get::<ConnectInfo<SocketAddr>>() {
//!         request.extensions_mut().insert(address);
//!     }
//!     request
//! });
//! let router: Router = Router::new().fallback_service(server.http()).layer(address);
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let service = router.into_make_service_with_connect_info::<SocketAddr>();
//! tokio::spawn(async move { axum::serve(listener, service).await });
//!
//! // UDP: WebTransport.
//! let certificate = Certificate::development(&["localhost"])?;
//! let endpoint = WebTransportServer::bind("127.0.0.1:0".parse()?, certificate)?;
//! tokio::spawn(server.web_transport(endpoint));
//!
//! // Shutdown: 1001 to every client, and ten seconds for their remaining work.
//! server.close(std::time::Duration::from_secs(10)).await?;
//! # Ok(()) }) }
#![cfg_attr(not(all(feature = "axum", feature = "dev-certificate")), doc = "# #[cfg(not(any()))] fn main() {}")]
//! ```
//!
//! In bare hyper, for clients with a token, whose sessions are theirs alone and at most three each:
//!
//! ```no_run
//! # #[cfg(feature = "auth")]
//! # async fn serve(
//! #     acceptor: tower_transport::stack::OptimizedAcceptor<tower_transport::stack::AdaptiveTransport>,
//! # ) -> std::io::Result<()> {
//! use hyper::server::conn::http1;
//! use hyper_util::{rt::{TokioIo, TokioTimer}, service::TowerToHyperService};
//! use tower::ServiceBuilder;
//! use tower_transport::{
//!     TransportExt,
//!     handshake::{auth::AuthGuardLayer, limit::ConnectionLimitLayer},
//!     layer::auth::StaticTokens,
//!     stack::adaptive::SessionServer,
//!     transport::accept,
//! };
//!
//! // The verifier's result is in the extensions, for the limit, the owner and the handler.
//! let subject = |parts: &http::request::Parts| parts.extensions.get::<&'static str>().copied();
//! let guard = ServiceBuilder::new()
//!     .layer(AuthGuardLayer::new(StaticTokens::new().token("6f1c...", "ada")))
//!     .layer(ConnectionLimitLayer::new(10_000).per_key(3, subject));
//! let server = SessionServer::new(acceptor, |mut session, _parts| async move {
//!     while let Some(Ok(message)) = session.receive_message().await {
//!         println!("{message:?}");
//!     }
//! })
//! .guard(guard)
//! .owned_by(subject);
//!
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
//! loop {
//!     let (tcp, address) = accept(|| listener.accept()).await;
//!     let service = TowerToHyperService::new(server.http().from_address(address));
//!     let connection = http1::Builder::new()
//!         .timer(TokioTimer::new()) // cuts a client that never ends its request
//!         .serve_connection(TokioIo::new(tcp), service)
//!         .with_upgrades();
//!     tokio::spawn(connection);
//! }
//! # }
//! ```

mod guard;
mod live;
mod service;
mod session_server;
mod sessions;

pub use self::{
    guard::{Admission, Admit},
    service::{SessionBody, SessionFuture, SessionService},
    session_server::SessionServer,
};
