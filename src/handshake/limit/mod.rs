//! Lets in so many connections at a time: in total, and of one key, such as a peer's address or its principal.
//!
//! # Why
//!
//! A connection costs memory for as long as it lives, and a rate limit on requests does not count it any more once it is
//! upgraded.
//!
//! # Where it waits
//!
//! Nowhere: one request too many is answered at once, 503 for the total and 429 for the key, with `Retry-After: 1`, and logged (feature
//! `tracing`).
//!
//! # Where it belongs in the stack
//!
//! Outermost with a key that every request has (an address that your server put into the extensions), so that who is refused
//! costs nothing else. Below [`AuthGuardLayer`](super::auth::AuthGuardLayer) where the key is its principal.
//!
//! # How long a place is taken
//!
//! The layer puts a [`Place`] into the extensions of the request, and the place is free again when that and its clones are dropped.
//!
//! | the request becomes | the place is held until |
//! |---|---|
//! | a WebSocket, by [`WebSocketUpgrade`] or axum's extractor `WebSocketHandshake` | the `WebSocket` is dropped, wherever the handler has moved it |
//! | a session of `SseDuplexServer` | the handler has dropped its end, and the event stream has ended |
//! | a session of WebTransport, by `Incoming::accept` | the last handle of the session is dropped |
//! | a connection of `OptimizedAcceptor` or `SessionServer` | that connection is dropped; the session may go on with another one, which takes a place of its own |
//! | any other response | the service has answered |
//!
//! Handlers need no code for it, and do not find the `Place` among their request's parts. Only a response whose body goes on for long, such as an
//! `EventStream`, needs help: take the `Place` out of the request's extensions and move it into the stream.
//!
//! [`WebSocketUpgrade`]: crate::transport::websocket::WebSocketUpgrade
//!
//! # Errors
//!
//! None of its own: it answers, and the inner service's errors pass.
//!
//! # Cancel safety
//!
//! A request that is dropped before it has become a connection gives its place back.
//!
//! # What it adds to the wire
//!
//! The two answers above.
//!
//! # Example
//!
//! ```
//! # #[cfg(feature = "websocket")] {
//! use std::net::IpAddr;
//! use tower::ServiceBuilder;
//! use tower_transport::{
//!     TransportExt,
//!     handshake::limit::ConnectionLimitLayer,
//!     transport::websocket::WebSocketUpgrade,
//! };
//!
//! let service = ServiceBuilder::new()
//!     .layer(ConnectionLimitLayer::new(10_000).per_key(20, |parts| parts.extensions.get::<IpAddr>().copied()))
//!     .service(WebSocketUpgrade::new(|mut socket, _parts| async move {
//!         while let Some(Ok(message)) = socket.receive_message().await {
//!             println!("{message:?}");
//!         }
//!     }));
//! # }
//! ```
//!
//! # Unlike tower's `ConcurrencyLimit`
//!
//! That one counts calls, and a call ends with the 101; it also waits, where this refuses, and has no keys.

mod counts;
mod future;
mod layer;
mod service;

pub use crate::transport::place::Place;

pub use self::{
    future::ResponseFuture,
    layer::{ConnectionLimitLayer, NoKey},
    service::ConnectionLimit,
};
