//! Messages both ways over plain HTTP. Events carry messages down, POSTs carry them up, and both ends have one
//! [`SseDuplex`].
//!
//! | end | source of the [`SseDuplex`] |
//! |---|---|
//! | client | [`SseDuplexConnector`]: a `Service` from the request to its response, the transport as the body |
//! | server, hyper or axum's `route_service` | [`SseDuplexServer`]: a `Service` of HTTP requests |
//! | a page, or any HTTP client | `EventSource`, `fetch`: [wire](crate::guide::wire), `tests/peers/duplex.cjs` |
//!
//! # Why
//!
//! If a proxy strips upgrades, WebSocket does not work, but plain HTTP does. The layers above a transport (codec,
//! batch, compression, resume, the recommended stack) then run unchanged. Prefer WebSocket if it works: here a flush is
//! a round trip, and binary messages are a third larger on the way down.
//!
//! # Backpressure
//!
//! - The server's sink: `poll_ready` waits for the client to read, once
//!   [`Limits::write_buffer`](crate::Limits::write_buffer) bytes wait. `poll_flush` waits until everything is with the
//!   HTTP server.
//! - The client's sink: one POST is in flight at a time, and messages accepted meanwhile go with the next one.
//!   `poll_ready` is `Pending` while [`Limits::write_buffer`](crate::Limits::write_buffer) bytes are not acknowledged.
//!   `poll_flush` is ready when all of them are acknowledged, that is, in the bounded inbox of the server's end. A
//!   handler that does not read therefore slows its client down.
//! - The stream of either end waits for the peer, never for its own sink.
//! - A close takes at most [`Limits::close`](crate::Limits::close), a connect at most
//!   [`Limits::handshake`](crate::Limits::handshake).
//!
//! # Exactly once, in order, within a session
//!
//! A POST carries the number of its first message, and its response the number of the next expected one. A lost POST is
//! resent (4 times, within [`Limits::handshake`](crate::Limits::handshake)), and the server skips messages that it
//! already has. The session lives as long as its event stream. If the stream breaks, both ends return an error for
//! which [`is_closed`](crate::Error::is_closed) is true, and messages on the way down may be lost. `layer::resume`
//! above it (or `OptimizedTransport`) makes one connection of many such sessions without loss.
//!
//! # Behind a proxy
//!
//! | effect | nginx (default) | HAProxy (default) |
//! |---|---|---|
//! | rejects a POST over its limit (413) | `client_max_body_size` (1 MiB) | none |
//! | delays events | nothing to set: the response has `X-Accel-Buffering: no` | `option http-no-delay` |
//! | cuts an idle stream | `proxy_read_timeout` (60 s) | `timeout server`, `timeout tunnel` |
//! | uses HTTP/1.0 to the server | `proxy_http_version 1.1;` | none |
//!
//! - A client sends at most [960 KiB in one POST](SseDuplexConnector::max_post), and less on a slow line. A message
//!   over 64 KiB is sent in parts. If the proxy allows less than 1 MiB, raise its limit or lower `max_post`. If it
//!   allows more, a higher `max_post` saves round trips.
//! - Without `option http-no-delay`, HAProxy in HTTP mode was measured to delay each event by 200 ms.
//! - The server sends a comment after [15 s](SseDuplexServer::keep_alive) without an event. Every read timeout on the
//!   way must be longer.
//! - A POST may remain unanswered for 10 s while the handler makes no room. Every response timeout must be longer.
//!
//! # Security
//!
//! A session is identified by a token of 128 random bits, which the stream's first event carries. The token is in a
//! header of each POST, never in a URL, a log or an error. A page of another origin can neither read the event nor send
//! that header, unless the server [allows](SseDuplexServer::allow_origin) the origin; its requests are also rejected.
//! An attacker who can read the traffic can take a session over: use `https://`.
//!
//! # Errors
//!
//! [`SseDuplexConnector`] documents its own errors. A session returns an error for which one of these is true:
//!
//! - [`is_closed`](crate::Error::is_closed) if the session was cut or has ended.
//! - [`is_too_large`](crate::Error::is_too_large) or [`is_protocol`](crate::Error::is_protocol) if the peer is at
//!   fault. The peer is told by a close with code 1009 or 1002.
//! - [`is_timeout`](crate::Error::is_timeout) if a close is not answered, or if a server is silent for too long.
//! - [`is_auth`](crate::Error::is_auth) if a POST is rejected because of its credentials.
//!
//! An outgoing message that is too large is a [rejection](crate::Error::is_rejection) of that message: the session
//! continues.
//!
//! A POST that the server or a proxy rejects permanently ends the session and is not resent. The error has the HTTP
//! [`status`](crate::Error::status) and says what was rejected: [`is_too_large`](crate::Error::is_too_large) is true
//! for 413, [`is_auth`](crate::Error::is_auth) for 401, 403 and 407, and [`is_status`](crate::Error::is_status) for
//! others. Both halves return it, so that a layer above does not mistake it for a lost connection.
//!
//! # Cancel safety
//!
//! Dropping a future that sends or receives loses nothing: all state is in the transport.
//!
//! # Cost
//!
//! A client uses two HTTP/1.1 connections, the second only once it sends. There is no task behind a transport: each
//! half drives what it waits for. The exception is a session that its handler has left. It has a small task while its
//! client keeps reading, for at most [`Limits::close`](crate::Limits::close). A text message on the way down is copied
//! once, into the output. Binary is encoded there in place, and decoded into memory of its own. A POST costs a handful
//! of allocations, however many messages it carries.
//!
//! # On the wire
//!
//! [`docs/wire.md`](crate::guide::wire) describes the requests, the events and the framing of the POSTs.
//!
//! # Example
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use hyper_util::{rt::TokioIo, service::TowerToHyperService};
//! use tower::ServiceExt;
//! use tower_transport::{Message, TransportExt, transport::{accept, sse::{SseDuplexConnector, SseDuplexServer}}};
//!
//! let echo = SseDuplexServer::new(|mut session, _parts| async move {
//!     while let Some(Ok(message)) = session.receive_message().await {
//!         if message.is_data() && session.send_message(message).await.is_err() {
//!             return;
//!         }
//!     }
//! });
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let url = format!("http://{}/events", listener.local_addr()?);
//! tokio::spawn(async move {
//!     loop {
//!         let (tcp, _) = accept(|| listener.accept()).await;
//!         let service = TowerToHyperService::new(echo.clone());
//!         tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), service));
//!     }
//! });
//!
//! let request = http::Request::get(url).body(())?;
//! let mut session = SseDuplexConnector::new().oneshot(request).await?.into_body();
//! session.send_message(Message::binary(&b"up"[..])).await?;
//! assert_eq!(session.receive_message().await.unwrap()?, Message::binary(&b"up"[..]));
//! session.close(None).await?;
//! # Ok::<(), tower_transport::BoxError>(()) }).unwrap();
//! ```

#[cfg(not(target_arch = "wasm32"))]
mod body;
mod client_end;
#[cfg(not(target_arch = "wasm32"))]
mod connector;
// The browser's, with the same names.
#[cfg(target_arch = "wasm32")]
#[path = "page.rs"]
mod connector;
#[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "the server's end is native"))]
mod event;
#[cfg(not(target_arch = "wasm32"))]
mod head;
#[cfg(not(target_arch = "wasm32"))]
mod inbox;
#[cfg(not(target_arch = "wasm32"))]
mod incoming_post;
#[cfg(not(target_arch = "wasm32"))]
mod locked;
mod names;
mod opening;
mod outbox;
mod poster;
#[cfg(not(target_arch = "wasm32"))]
mod receive;
#[cfg(not(target_arch = "wasm32"))]
mod server;
#[cfg(not(target_arch = "wasm32"))]
mod server_end;
#[cfg(not(target_arch = "wasm32"))]
mod session;
#[cfg(not(target_arch = "wasm32"))]
mod token;
mod transport;

#[cfg(all(feature = "limit", not(target_arch = "wasm32")))]
pub(crate) use self::head::opens_nothing;
#[cfg(not(target_arch = "wasm32"))]
pub use self::{body::SseDuplexBody, receive::SseDuplexAnswer, server::SseDuplexServer};
pub use self::{
    connector::{SseDuplexConnecting, SseDuplexConnector},
    transport::SseDuplex,
};
