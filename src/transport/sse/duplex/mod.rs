//! Messages both ways over plain HTTP: events come down, POSTs go up, and both ends have one [`SseDuplex`].
//!
//! | end | how one gets an [`SseDuplex`] |
//! |---|---|
//! | client | [`SseDuplexConnector`]: a `Service` from the request to its response, the transport as the body |
//! | server, hyper or axum's `route_service` | [`SseDuplexServer`]: a `Service` of HTTP requests |
//! | a page, or anything that speaks HTTP | `EventSource` and `fetch`: `docs/wire.md`, `tests/peers/duplex.cjs` |
//!
//! # Why
//!
//! Where a proxy strips upgrades, WebSocket does not get through, and plain HTTP does. What stands above a transport (codec, batch,
//! compression, resume, the recommended stack) then runs unchanged. Where WebSocket works, take that: a flush here is a round trip,
//! and binary comes down a third larger.
//!
//! # Where it waits
//!
//! - The server's sink: `poll_ready` for the client to read, once [`Limits::write_buffer`](crate::Limits::write_buffer) bytes wait;
//!   `poll_flush` until all is with the HTTP server.
//! - The client's sink: one POST is on its way at a time, and what is accepted meanwhile goes with the next. `poll_ready` is
//!   `Pending` while [`Limits::write_buffer`](crate::Limits::write_buffer) bytes are not acknowledged, `poll_flush` is ready when all
//!   are: when they stand in the bounded inbox of the server's end. So a handler that does not read holds its client up.
//! - The stream of either end for the peer, never for the own sink.
//! - A close at most [`Limits::close`](crate::Limits::close), a connect at most [`Limits::handshake`](crate::Limits::handshake).
//!
//! # Exactly once, in order, within a session
//!
//! A POST says which number its first message has, and its answer which number is due. A POST that was lost on the way is sent again
//! (4 times, within [`Limits::handshake`](crate::Limits::handshake)), and what the server has of it already it passes over. The session
//! lives as long as its event stream: if that breaks, both ends give an error that [`is_closed`](crate::Error::is_closed), and what
//! was on its way down may be lost. `layer::resume` above it (or `OptimizedTransport`) makes a connection of many such sessions, and
//! nothing is lost.
//!
//! # Behind a proxy
//!
//! | what | nginx (default) | HAProxy (default) |
//! |---|---|---|
//! | a POST over its limit is refused (413) | `client_max_body_size` (1 MiB) | none |
//! | events are held back | `proxy_buffering off;` is not needed: the answer says `X-Accel-Buffering: no` | `option http-no-delay` |
//! | a stream that is idle is cut | `proxy_read_timeout` (60 s) | `timeout server`, `timeout tunnel` |
//! | HTTP/1.0 to the server | `proxy_http_version 1.1;` | none |
//!
//! - A client sends at most [960 KiB in one POST](SseDuplexConnector::max_post). A larger message goes in parts, each in its own POST.
//!   If the proxy allows less than 1 MiB, raise its limit or lower `max_post`. If it allows more, a higher `max_post` saves round trips.
//! - Without `option http-no-delay`, HAProxy in HTTP mode was measured to hold each event for 200 ms.
//! - The server sends a comment after [15 s](SseDuplexServer::keep_alive) without an event. Every read timeout on the way must be longer.
//! - A POST may stay unanswered for 10 s, while the handler makes no room. Every timeout for a response must be longer.
//!
//! # Security
//!
//! A session is found by a token of 128 random bits, which the stream's first event brings. It stands in a header of each POST, never
//! in a URL, a log or an error. A page of another origin can read neither the event nor send that header, unless the server
//! [allows](SseDuplexServer::allow_origin) the origin; besides, its requests are refused. Whoever may read the traffic can take a session over:
//! use `https://`.
//!
//! # Errors
//!
//! Those of [`SseDuplexConnector`]. Of a session: [`is_closed`](crate::Error::is_closed) for one that was cut or is gone,
//! [`is_too_large`](crate::Error::is_too_large) and [`is_protocol`](crate::Error::is_protocol) for a peer that is at fault (and is told so
//! by a close of code 1009 or 1002), [`is_timeout`](crate::Error::is_timeout) for a close that is not answered and a server that is silent for too long,
//! [`is_auth`](crate::Error::is_auth) where a POST is refused for its credentials. A message that is too large to be sent is a
//! [rejection](crate::Error::is_rejection) of that message: the session goes on.
//!
//! A POST that the server or a proxy refuses for good ends the session, and is not sent again. The error has the HTTP
//! [`status`](crate::Error::status) and says what was refused: [`is_too_large`](crate::Error::is_too_large) for 413,
//! [`is_auth`](crate::Error::is_auth) for 401, 403 and 407, [`is_status`](crate::Error::is_status) for others. Both halves give it, so that
//! a layer above does not take it for a lost connection.
//!
//! # Cancel safety
//!
//! Dropping a future that sends or receives loses nothing: all state is in the transport.
//!
//! # Cost
//!
//! Two connections of HTTP/1.1 for a client, the second only once it sends. There is no task behind a transport: each half moves what
//! it waits for. (A session that its handler has left has a small one, for as long as its client reads on, at most
//! [`Limits::close`](crate::Limits::close).) A text message goes down without a copy but that into the output; binary is encoded in place there, and decoded into memory
//! of its own. A POST costs a handful of allocations, however many messages it has.
//!
//! # On the wire
//!
//! `docs/wire.md` has the requests, the events and the framing of the POSTs.
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

mod answer;
mod body;
mod called;
mod connector;
mod courier;
mod event;
mod head;
mod inbox;
mod outbox;
mod phase;
mod receive;
mod served;
mod server;
mod session;
mod sessions;
mod token;
mod transport;
mod uplink;

// What both clients stand on.
use super::{
    client::{check_headers, headers},
    downlink, line,
};

pub use self::{
    body::SseDuplexBody,
    connector::{SseDuplexConnecting, SseDuplexConnector},
    receive::SseDuplexAnswer,
    server::SseDuplexServer,
    transport::SseDuplex,
};
