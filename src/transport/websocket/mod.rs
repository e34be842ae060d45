//! WebSocket ([RFC 6455](https://www.rfc-editor.org/rfc/rfc6455)), client and server, on native targets; in a page, the
//! client.
//!
//! | end | source of the [`WebSocket`] |
//! |---|---|
//! | client | [`WebSocketConnector`]: a `Service` from the request to a response whose body is the WebSocket |
//! | server, hyper or axum's `route_service` | [`WebSocketService`]: a `Service` of HTTP requests |
//! | server, next to axum's extractors | `WebSocketHandshake` (feature `axum`) |
//! | client, in a page (`wasm32`) | [`WebSocketConnector`] over the browser's WebSocket: the guide `browser` |
//! | client, over your own stream | [`WebSocketConnector::handshake`], or [`WebSocketConnector::dial_with`] |
//! | server, over your own stream | [`WebSocketAcceptor`] |
//! | either, after the handshake | [`WebSocket::client`], [`WebSocket::server`] over any `AsyncRead + AsyncWrite` |
//!
//! The frames are read and written by this module, HTTP is hyper's. It has what an open port needs: bounds that are on
//! by default ([`Limits`](crate::Limits)), backpressure that reaches the socket, a close that ends, and errors that say
//! what failed. Its buffers are sized by measurement, see [`docs/benchmarks.md`](crate::guide::benchmarks).
//!
//! # Backpressure
//!
//! `poll_ready` waits for the peer to read, once [`Limits::write_buffer`](crate::Limits::write_buffer) bytes wait.
//! `poll_flush` waits until everything is with the operating system, and the stream waits for the peer. A started close
//! waits at most [`Limits::close`](crate::Limits::close), a handshake at most
//! [`Limits::handshake`](crate::Limits::handshake).
//!
//! # HTTP/2
//!
//! With the feature `http2`, a WebSocket may be a stream of an HTTP/2 connection (RFC 8441). [`WebSocketService`] and
//! `WebSocketHandshake` accept it with the same handler, and `WebSocketConnector::http2` shares connections. Everything
//! on this page applies to both. Two things differ: the sink also waits for the window of the stream, and a flush waits
//! until hyper has the bytes.
//!
//! # Graceful shutdown
//!
//! [`Drain`](crate::transport::Drain) is one handle for all connections of a server. It rejects new handshakes, makes
//! each `WebSocket` close itself with a code that makes clients reconnect, and waits for the handlers.
//!
//! # Logs
//!
//! With the feature `tracing`, each rejected handshake and each connection that is closed because of a peer's message
//! is an event: `DEBUG` for requests that are not handshakes, `INFO` for clients that are not admitted, `WARN` for
//! limits of this server. The event has the status, the reason with the setting, the `Origin`, the path, and the
//! client's address if the server has put it into the extensions of the request (a `SocketAddr` or an `IpAddr`).
//! Queries, cookies and credentials are never logged.
//!
//! # Compression
//!
//! `PerMessageDeflate` (feature `deflate`) turns on permessage-deflate (RFC 7692), which browsers and most libraries
//! support. It is off by default: read its section about secrets before.
//!
//! # On the wire
//!
//! Nothing is added to RFC 6455, and no extension is used unless permessage-deflate is turned on;
//! [`docs/wire.md`](crate::guide::wire) describes what a peer may notice.

mod acceptor;
#[cfg(feature = "axum")]
mod axum;
mod connector;
#[cfg(feature = "deflate")]
mod deflate;
mod engine;
mod frame_loop;
mod frames;
mod handshake;
#[cfg(feature = "http2")]
mod http2;
mod partial;
mod read_buffer;
mod transport;
#[cfg(feature = "tokio-tungstenite")]
mod tungstenite;
mod upgrade;
mod upgrade_body;
mod write_buffer;

#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub use self::axum::{WebSocketHandshake, WebSocketHandshakeRejection};
#[cfg(feature = "deflate")]
#[cfg_attr(docsrs, doc(cfg(feature = "deflate")))]
pub use self::deflate::PerMessageDeflate;
#[cfg(feature = "http2")]
#[cfg_attr(docsrs, doc(cfg(feature = "http2")))]
pub use self::http2::Http2;
#[cfg(feature = "tokio-tungstenite")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio-tungstenite")))]
pub use self::tungstenite::TungsteniteTransport;
pub use self::{
    acceptor::WebSocketAcceptor,
    connector::{Connecting, WebSocketConnector},
    transport::WebSocket,
    upgrade::WebSocketService,
    upgrade_body::UpgradeBody,
};
pub use super::dial::Socket;
#[cfg(feature = "deflate")]
#[cfg_attr(docsrs, doc(cfg(feature = "deflate")))]
pub use crate::zlib::Level;
