//! WebSocket ([RFC 6455](https://www.rfc-editor.org/rfc/rfc6455)), client and server, on native targets.
//!
//! | end | how one gets a [`WebSocket`] |
//! |---|---|
//! | client | [`WebSocketConnector`]: a `Service` from the handshake's request to its response, the WebSocket as the body |
//! | server, hyper or axum's `route_service` | [`WebSocketUpgrade`]: a `Service` of HTTP requests |
//! | server, beside axum's extractors | `WebSocketHandshake` (feature `axum`) |
//! | either, handshake done | [`WebSocket::client`], [`WebSocket::server`] over any `AsyncRead + AsyncWrite` |
//!
//! The protocol is tungstenite's, the HTTP is hyper's. What is added is what an open port needs: bounds that are on by
//! default ([`Limits`](crate::Limits)), back-pressure that reaches the socket, a close that ends, errors that say what
//! failed; and buffers by measurement, see `docs/benchmarks.md`.
//!
//! # Where it waits
//!
//! `poll_ready` waits for the peer to read, once [`Limits::write_buffer`](crate::Limits::write_buffer) bytes wait; `poll_flush` until
//! all is with the operating system; the stream for the peer. A started close waits at most
//! [`Limits::close`](crate::Limits::close), a handshake at most [`Limits::handshake`](crate::Limits::handshake).
//!
//! # How a server ends
//!
//! [`Drain`](crate::transport::Drain) is one handle for all connections of a server: it refuses new handshakes, lets each `WebSocket` close
//! itself with a code that makes clients reconnect, and waits for the handlers.
//!
//! # Logs
//!
//! With the feature `tracing`, each handshake that is refused and each connection that is closed for what came in is an event: `DEBUG` for
//! requests that are not handshakes, `INFO` for clients that are not let in, `WARN` for limits of this server. It has the status, the
//! reason with the setting, the `Origin`, the path, and the client's address where the server has put that into the extensions of the
//! request (a `SocketAddr` or an `IpAddr`). Queries, cookies and credentials are never logged.
//!
//! # On the wire
//!
//! Nothing is added to RFC 6455, and no extension is offered; `docs/wire.md` has what a peer may notice.

#[cfg(feature = "axum")]
mod axum;
mod connector;
#[cfg(test)]
mod differential;
mod engine;
mod frames;
mod handshake;
mod incoming;
mod mask;
mod native;
mod read_buffer;
mod upgrade;
mod write_buffer;

#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub use self::axum::{WebSocketHandshake, WebSocketHandshakeRejection};
pub use self::{
    connector::{Connecting, WebSocketConnector},
    native::WebSocket,
    upgrade::WebSocketUpgrade,
};
pub use super::dial::Socket;
