//! WebTransport over HTTP/3 ([draft-ietf-webtrans-http3](https://datatracker.ietf.org/doc/draft-ietf-webtrans-http3/)),
//! client and server natively, the client in a page: many transports in one encrypted connection that do not wait for
//! each other.
//!
//! | type | description |
//! |---|---|
//! | [`WebTransportConnector`] | client: a `Service` from the request to a response whose body is the first stream |
//! | [`WebTransportServer`] | server: a UDP port of its own, a handler for each session |
//! | [`Session`] | the connection: opens and accepts the transports below, closes them all |
//! | [`WebTransportStream`] | both ways: a transport of [`Message`](crate::Message)s |
//! | [`SendStream`], [`ReceiveStream`] | one way, by type |
//! | [`Datagrams`] | lossy and unordered, for data that is outdated when it is late |
//! | [`Certificate`], [`CertificateHash`] | a server's certificate, and how a client recognizes it |
//!
//! # Why
//!
//! Over TCP one lost packet delays everything sent after it, and one large message delays all that wait behind it. Here
//! each stream has its own order, flow control and [priority](WebTransportStream::set_priority). A client that moves to
//! another network keeps its session, and connecting takes one round trip less. In exchange, UDP has to get through (it
//! does not everywhere: `stack::adaptive` falls back), and each byte takes more CPU than over TCP.
//!
//! QUIC is implemented by quinn, WebTransport by web-transport-quinn. This module makes transports of them: messages
//! with limits, a close with code and reason both ways, backpressure, errors by cause, and bounds that are on by
//! default ([`SessionLimits`], [`Limits`](crate::Limits)).
//!
//! # Backpressure
//!
//! `poll_ready` of a stream waits for the peer to read and to acknowledge, once
//! [`Limits::write_buffer`](crate::Limits::write_buffer) bytes wait that QUIC does not accept. `poll_flush` waits until
//! QUIC has everything. Opening a stream waits while the maximum number that the peer allows is open
//! ([`SessionLimits::streams`]), at most [`Limits::handshake`](crate::Limits::handshake). A started close waits at most
//! [`Limits::close`](crate::Limits::close), a handshake at most [`Limits::handshake`](crate::Limits::handshake).
//!
//! # Errors
//!
//! Each type documents its errors. Once a session is over, [`is_closed`](crate::Error::is_closed) is true for all of
//! them, with the peer's close frame if it sent one: on the stream, or for the whole session. A violation on one stream
//! ends only that stream.
//!
//! # Cancel safety
//!
//! Dropping a future loses no message and no stream of the peer. Dropping a future that opens a stream drops the
//! stream.
//!
//! # In a page
//!
//! On `wasm32` the connector, the session, its streams and its datagrams are those of the browser, under the same names
//! and with the same framing. `Certificate`, `WebTransportServer`, `SessionLimits` and `Stats` exist natively only. The
//! differences are those of the browser:
//!
//! | subject | in a page |
//! |---|---|
//! | headers of the handshake | a request with one is an error; a token goes into the query or the first message |
//! | why a session was not established | `is_io` for a refusal, a certificate and blocked UDP alike; the console tells |
//! | why a session was lost | "closed" without a close frame, also for QUIC's idle timeout |
//! | subprotocols | offered and chosen where the browser supports them (Chromium does) |
//! | the code of a reset stream | sent if the browser supports it; Chromium has codes up to 255 |
//! | [`set_priority`](WebTransportStream::set_priority) | has no effect in a browser without `sendOrder`, as Chromium |
//! | `poll_ready` | waits for the `ready` of the browser's writer, which has one write in flight |
//!
//! # On the wire
//!
//! The session is HTTP/3's extended CONNECT, one session per QUIC connection. In a stream, after one byte for the
//! version, each message is a kind, a length and its payload; [`docs/wire.md`](crate::guide::wire) has the details, for
//! a peer that is a page or another library. 0-RTT is off, connection migration is on.
//!
//! It is tested against Chromium (as a peer, and as the page's transport), wtransport and web-transport-quinn. Other browsers are not known to work: they
//! require newer drafts.
//!
//! # Example
//!
//! A server and a client in one process, two streams of one session:
//!
#![cfg_attr(
    feature = "dev-certificate",
    doc = "```
# #[tokio::main(flavor = \"current_thread\")]
# async fn main() -> Result<(), tower_transport::BoxError> {
use tower::ServiceExt;
use tower_transport::{Message, TransportExt};
use tower_transport::transport::webtransport::{Certificate, WebTransportConnector, WebTransportServer};

let certificate = Certificate::development(&[])?;
let hash = certificate.hash();
let mut server = WebTransportServer::bind(\"127.0.0.1:0\".parse()?, certificate)?;
let address = server.local_addr()?;
tokio::spawn(async move {
    server
        .serve(|mut chat, _parts| async move {
            let mut file = chat.session().accept().await.unwrap();
            let received = file.receive_message().await.unwrap().unwrap();
            chat.send_message(Message::text(format!(\"{} bytes, thank you\", received.len()))).await.unwrap();
            chat.session().closed().await;
        })
        .await;
});

let request = http::Request::get(format!(\"https://{address}/upload\")).body(())?;
let mut chat = WebTransportConnector::new().certificate_hashes([hash]).oneshot(request).await?.into_body();
let mut file = chat.session().open().await?;
file.send_message(Message::binary(vec![0; 100_000])).await?;
assert_eq!(chat.receive_message().await.unwrap()?, Message::text(\"100000 bytes, thank you\"));
# Ok(()) }
```"
)]

#[cfg(not(target_arch = "wasm32"))]
mod certificate;
mod certificate_hash;
mod closed;
#[cfg(not(target_arch = "wasm32"))]
mod connector;
mod datagrams;
#[cfg(all(feature = "dev-certificate", not(target_arch = "wasm32")))]
mod development;
#[cfg(not(target_arch = "wasm32"))]
mod endpoints;
#[cfg(not(target_arch = "wasm32"))]
mod error;
#[cfg(not(target_arch = "wasm32"))]
mod incoming;
#[cfg(target_arch = "wasm32")]
mod page;
#[cfg(not(target_arch = "wasm32"))]
mod server;
#[cfg(not(target_arch = "wasm32"))]
mod session;
#[cfg(not(target_arch = "wasm32"))]
mod session_limits;
#[cfg(not(target_arch = "wasm32"))]
mod stats;
mod stream;

#[cfg(target_arch = "wasm32")]
pub use self::page::{Connecting, Session, WebTransportConnector};
#[cfg(not(target_arch = "wasm32"))]
pub use self::{
    certificate::Certificate,
    connector::{Connecting, WebTransportConnector},
    incoming::Incoming,
    server::WebTransportServer,
    session::Session,
    session_limits::SessionLimits,
    stats::Stats,
};
pub use self::{
    certificate_hash::CertificateHash,
    datagrams::{DatagramCounts, Datagrams},
    stream::{ReceiveStream, SendStream, WebTransportStream},
};
