//! Lets in so many connections at a time: in total, and of one key, such as a peer's address or its principal.
//!
//! # Why
//!
//! A connection costs memory for as long as it lives, and a rate limit on requests does not count it any more once it is
//! upgraded.
//!
//! # Where it waits
//!
//! Nowhere: who is one too many is answered at once, 503 for the total and 429 for the key, with `Retry-After: 1`.
//!
//! # Where it belongs in the stack
//!
//! Outermost with a key that every request has (an address that your server put into the extensions), so that who is refused
//! costs nothing else. Below [`AuthGuardLayer`](super::auth::AuthGuardLayer) where the key is its principal.
//!
//! # How long a place is taken
//!
//! A [`Place`] is in the extensions of the request, and is free again when it is dropped, with all its clones. A handler that gets
//! the request's parts holds it with them: **keep `parts`, or the `Place` out of them, until the session ends**. A handler that
//! ignores its parts (`|socket, _| ..`) gives the place back as soon as the upgrade is done.
//!
//! # Errors
//!
//! None of its own: it answers, and the inner service's errors pass.
//!
//! # Cancel safety
//!
//! A request that is dropped gives its place back.
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
//!     handshake::limit::{ConnectionLimitLayer, Place},
//!     transport::websocket::WebSocketUpgrade,
//! };
//!
//! let service = ServiceBuilder::new()
//!     .layer(ConnectionLimitLayer::new(10_000).per_key(20, |parts| parts.extensions.get::<IpAddr>().copied()))
//!     .service(WebSocketUpgrade::new(|mut socket, mut parts| async move {
//!         let _place = parts.extensions.remove::<Place>();
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

pub use self::{
    counts::Place,
    future::ResponseFuture,
    layer::{ConnectionLimitLayer, NoKey},
    service::ConnectionLimit,
};
