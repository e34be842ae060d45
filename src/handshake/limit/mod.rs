//! Limits concurrent connections: in total, and per key, such as the peer's address or its principal.
//!
//! # Why
//!
//! A connection costs memory for as long as it lives, and a rate limit on requests does not count it once it is
//! upgraded.
//!
//! # Backpressure
//!
//! The layer never waits. A request over the limit is answered at once, with 503 for the total and 429 for the key,
//! with `Retry-After: 1`, and logged (feature `tracing`).
//!
//! # Position in the stack
//!
//! With a key that every request has (an address that your server puts into the extensions), the layer goes outermost,
//! so that a refused request costs nothing else. If the key is the principal of
//! [`AuthGuardLayer`](super::auth::AuthGuardLayer), it goes below that layer.
//!
//! # Lifetime of a place
//!
//! The layer puts a [`Place`] into the extensions of the request. The place is freed when it and its clones are
//! dropped.
//!
//! | the request becomes | the place is held until |
//! |---|---|
//! | a WebSocket, by [`WebSocketUpgrade`] or axum's extractor `WebSocketHandshake` | the `WebSocket` is dropped, wherever the handler has moved it |
//! | a session of `SseDuplexServer` | the handler has dropped its end, and the event stream has ended |
//! | a session of WebTransport, by `Incoming::accept` | the last handle of the session is dropped |
//! | a connection of `OptimizedAcceptor` or `SessionServer` | that connection is dropped; the session may continue with another one, which takes its own place |
//! | any other response | the service has answered |
//!
//! Handlers need no code for it, and do not find the `Place` among their request's parts. Only a response with a
//! long-lived body, such as an `EventStream`, needs help: take the `Place` out of the request's extensions and move it
//! into the stream.
//!
//! [`WebSocketUpgrade`]: crate::transport::websocket::WebSocketUpgrade
//!
//! # Errors
//!
//! Returns the errors of the inner service. A refusal is a response, not an error.
//!
//! # Cancel safety
//!
//! A request that is dropped before it has become a connection frees its place.
//!
//! # On the wire
//!
//! The layer sends the two responses above.
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
//! # Compared with tower's `ConcurrencyLimit`
//!
//! `ConcurrencyLimit` counts calls, and a call ends with the 101 response. It waits where this layer refuses, and has
//! no keys.

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
