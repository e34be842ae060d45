//! Sessions that outlive connections.
//!
//! A connection is cut, another one takes its place, and the conversation continues where it was. Messages that either
//! end had accepted and the other had not received are sent again, and nothing else is. The client puts a
//! [`ResumeLayer`] on its connector, and the server has a [`SessionStore`]. Each connect returns a [`Verdict`] on the
//! session.
//!
//! # Why
//!
//! Reconnecting alone leaves a gap: nobody knows which of the last messages arrived. Sending them again duplicates
//! some, and not sending them loses some. Here both ends count the messages and keep those that are not acknowledged.
//! So the answer is known: [`Verdict::Resumed`], with no gap and no duplicate in either direction, or
//! [`Verdict::Fresh`], with the number of lost messages.
//!
//! It is not "exactly once" across a crash: both ends hold the session in memory. A server that restarts knows no
//! session, and its clients are told.
//!
//! # How it works
//!
//! - The transports below are ordered and reliable within a connection, so a data message (text, binary) carries no
//!   number. Both ends count from the numbers that they agreed on when the connection was opened. Data passes
//!   unchanged, without a copy.
//! - An end acknowledges with its next message once a quarter of the other's bounds is used, at once when half of them
//!   is, or after [`ack_delay`](ResumeLayer::ack_delay). An acknowledgement also says how many messages were sent
//!   before it. If a layer or transport below loses or duplicates one silently, the counts differ, and the session ends
//!   with an error for which [`is_protocol`](crate::Error::is_protocol) is true. A digest of the messages detects the
//!   same after a cut.
//! - A message is kept until it is acknowledged. Its payload is shared, not copied. When the kept messages reach the
//!   bounds, the sink is not ready.
//! - The newest connection has the session. The server closes an older one with 4409; at the client an older one fails.
//! - A session has a name of 128 random bits and a secret of 128 more, which the server compares in constant time. A
//!   client that asks for an unknown session, with another secret or as another [owner](SessionStore::accept_as), gets
//!   a new one and learns nothing.
//! - Closing (`poll_close`, or sending a close message) ends the session permanently, on both ends. A cut does not, and
//!   neither does a close message of a layer below. A close does not wait for acknowledgements: if the connection is
//!   cut after the close has succeeded, the last messages may be lost, and only the peer is told. If they have to
//!   arrive, close once [`unacknowledged`](ResumeHandle::unacknowledged) is 0. A close that fails returns the error,
//!   and the messages without an acknowledgement are lost: a reconnect layer above counts them, and without one the
//!   next verdict does.
//!
//! Pings, pongs and close messages belong to a connection: they are not counted, kept or sent again.
//!
//! # Backpressure
//!
//! - The connect waits for an older transport of the session to be polled or dropped, and for the server's answer, both
//!   within [`deadline`](ResumeLayer::deadline).
//! - `poll_ready` waits for the connection below, and for acknowledgements while the replay buffer is full. It then
//!   reads, so that an end that only writes makes progress. Messages that come in meanwhile are held, and acknowledged
//!   when the user gets them. They are at most what the peer keeps unacknowledged, and never more than this end's own
//!   bound: what it keeps itself, at least 1024 messages and 1 MiB.
//! - `poll_flush` waits for acknowledgements if this end keeps more than the other end can hold.
//! - After a write has failed, the sink waits at most 1 s for what the peer sent before: the end of the session, or a
//!   close frame, whose code decides whether the session goes on.
//! - Without a connection, `poll_next` and `poll_flush` of a [`Session`] wait for the client to come back, and
//!   `poll_ready` when the buffer is full. So does `poll_close` if the client lacks messages. All wait at most
//!   [`ttl`](SessionStore::ttl), also under a [`Driver`](crate::Driver) or a server of the module `service`: their
//!   limits of a close ([`QueueConfig::close_within`](crate::QueueConfig::close_within)) do not run in the meantime. A
//!   client that closes while it has no connection has those limits alone.
//! - [`SessionStore::accept`] waits for the client's first message, and for the session's handler to poll its
//!   [`Session`].
//!
//! # Position in the stack
//!
//! The layer goes on the connector, directly below the reconnect layer. Layers for a single connection (heartbeat,
//! compression, first-message auth) go below it, in [`per_connection`](crate::ServiceBuilderExt::per_connection).
//! Layers whose state survives (codec, batch, rate limit, queue) go above the reconnect layer. Layers that drop
//! messages (a queue with a policy, a rate limit that rejects) have to be above: below, their drops end the session as
//! losses.
//!
//! A reconnect layer above neither counts as lost nor sends again what this layer accepted, whatever its policy: the
//! response says that it [outlives](crate::transport::OutlivesConnection) the connection. If the session is lost, the
//! next response says [how many messages](crate::transport::SessionLoss) are lost with it. The reconnect layer counts
//! them and [reports them once](crate::layer::reconnect::WhenLost). If it gives up, it counts the messages that the
//! session [still holds](crate::transport::Unacknowledged). Put `.reconnect(..)` first, `.resume()` below it,
//! then `.per_connection(..)`. On the server, the [`Session`] is a transport like any other, for layers and
//! [`drive`](crate::TransportExt::drive).
//!
//! # Errors
//!
//! An error that a connection returns for one message (`start_send` refuses it, or a layer below rejects an incoming
//! one) concerns that message. It is returned to the user, the message is not sent again, and the session goes on. A
//! rejected incoming message counts as received, and another connection is made.
//!
//! | event | effect |
//! |---|---|
//! | a proxy answers 413 | the session is given up |
//! | three connections are closed because of a message (1003, 1007, 1009) without an acknowledgement | the same |
//! | 16 connections are closed with 1011 without an acknowledgement | the same |
//! | [`max_stalled_connections`](ResumeLayer::max_stalled_connections) end without progress | the same |
//! | 16 or more end without progress over [`max_stalled_time`](ResumeLayer::max_stalled_time) | the same |
//! | another error of the connection | ends this transport of a client, and is returned (with the peer's close frame) |
//! | the opening exchange takes too long | [`is_timeout`](crate::Error::is_timeout) |
//! | the server has no sessions, or the peer breaks the protocol | [`is_protocol`](crate::Error::is_protocol) |
//! | a newer connection of the session was opened | [`is_closed`](crate::Error::is_closed) from the older one |
//!
//! A connection that has a close frame to send is polled until it is sent, at most 10 s. The errors of the server are
//! documented at [`Session`] and [`SessionStore::accept`].
//!
//! # Cancel safety
//!
//! All state is in the session. Dropping a future over the transports loses nothing. Dropping a connect leaves the
//! session with its connector.
//!
//! # On the wire
//!
//! The layer adds nothing to a data message (eight bytes to one that ends like a mark of this layer). It adds one
//! message each way to open a connection, one of 24 bytes for an acknowledgement, and one to end the session: see
//! [`docs/wire.md`](crate::guide::wire). The peer has to support it.
//!
//! # Cost
//!
//! In steady state a message costs no lock, no clock read and no allocation of this layer, and an acknowledgement does
//! not allocate. The first clone of `Bytes` that were made from a `Vec` allocates once; it happens here. A session
//! holds the ring of its replay buffer, 56 bytes a message, in addition to the payloads. The messages of all sessions
//! of a store are bounded together by [`total_replay_bytes`](SessionStore::total_replay_bytes).
//!
//! # Example
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use tower::{Service, ServiceBuilder, service_fn};
//! use tower_transport::{
//!     Error, Message, QueueConfig, ServiceBuilderExt, TransportExt, channel,
//!     layer::resume::{Accepted, SessionStore, Verdict},
//! };
//!
//! // The server. In the handler of a `WebSocketService`, use the socket in place of the channel.
//! let store = SessionStore::new();
//! let accept = async |socket| match store.accept(socket).await? {
//!     Accepted::New(session) => Ok::<_, Error>(Some(session)),
//!     Accepted::Resumed => Ok(None), // the session's own handler continues
//! };
//!
//! // The client.
//! let (dialed, mut sockets) = tokio::sync::mpsc::unbounded_channel();
//! let mut connector = ServiceBuilder::new().resume().service(service_fn(move |_: http::Request<()>| {
//!     let (near, far) = channel::<Message, Message>(8);
//!     let _ = dialed.send(far);
//!     std::future::ready(Ok::<_, Error>(http::Response::new(near)))
//! }));
//!
//! let connecting = connector.call(http::Request::new(()));
//! let (response, session) = tokio::try_join!(connecting, accept(sockets.recv().await.unwrap()))?;
//! let (mut transport, mut session) = (response.into_body(), session.unwrap());
//! transport.send_message(Message::text("one")).await?;
//! assert_eq!(session.receive_message().await.unwrap()?, Message::text("one"));
//!
//! // The connection is cut. The server does not wait, and sends a message meanwhile.
//! drop(transport);
//! let (sender, _receiver, driver) = session.drive(QueueConfig::messages()).into_parts();
//! tokio::spawn(driver);
//! let saying = tokio::spawn(async move { sender.send(Message::text("two")).await });
//!
//! let connecting = connector.call(http::Request::new(()));
//! let (response, none) = tokio::try_join!(connecting, accept(sockets.recv().await.unwrap()))?;
//! assert!(none.is_none());
//! assert_eq!(response.extensions().get(), Some(&Verdict::Resumed { replayed: 0 }));
//! assert_eq!(response.into_body().receive_message().await.unwrap()?, Message::text("two"));
//! # saying.await.unwrap()?;
//! # Ok::<(), Error>(()) }).unwrap();
//! ```
//!
//! Configured, over real WebSockets, with automatic reconnects:
//!
#![cfg_attr(
    all(feature = "websocket", feature = "reconnect", not(target_arch = "wasm32")),
    doc = "```no_run
# async fn run() -> Result<(), tower_transport::Error> {
use std::time::Duration;
use futures_util::StreamExt;
use tower::ServiceBuilder;
use tower_transport::{
    Message, QueueConfig, TransportExt,
    layer::{
        reconnect::{Backoff, ReconnectLayer},
        resume::{Accepted, ResumeHandle, ResumeLayer, SessionStore, Verdict},
    },
    transport::websocket::{WebSocketConnector, WebSocketService},
};

// The server: sessions wait five minutes, and each buffers 256 KiB at most.
let store = SessionStore::new().ttl(Duration::from_secs(300)).replay_bytes(256 << 10).sessions(10_000);
let upgrade = WebSocketService::new(move |socket, _parts| {
    let store = store.clone();
    async move {
        let Ok(Accepted::New(mut session)) = store.accept(socket).await else { return };
        while let Some(Ok(message)) = session.next().await {
            println!(\"{} says {message:?}\", session.id());
        }
    }
});

// The client.
let handle = ResumeHandle::new();
let request = http::Request::get(\"wss://example.com/feed\").body(()).unwrap();
let transport = ServiceBuilder::new()
    .layer(ReconnectLayer::new(request, Backoff::exponential()))
    .layer(ResumeLayer::new().replay_messages(256).handle(handle.clone()))
    .service(WebSocketConnector::new());
let (sender, _receiver, driver) = Box::pin(transport).drive(QueueConfig::messages()).into_parts();
tokio::spawn(driver);
let mut verdicts = handle.verdicts();
tokio::spawn(async move {
    while let Some(verdict) = verdicts.next().await {
        if let Verdict::Fresh { lost } = verdict {
            eprintln!(\"the server forgot us, and {lost} of our messages\");
        }
    }
});
sender.send(Message::text(\"hello\")).await?;
# let _ = upgrade;
# Ok(()) }
```"
)]
//!
//! # Comparison with tower's `retry`
//!
//! `retry` sends a request again if the response was an error, and does not know what the server did with the first
//! one. Here the peer says which messages it has, and only the rest is sent again.

mod cell;
#[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "the server's end is native"))]
mod ending;
#[cfg(not(target_arch = "wasm32"))]
mod handoff;
mod layer;
mod ledger;
#[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "the server's end is native"))]
mod link;
#[cfg(not(target_arch = "wasm32"))]
mod registry;
#[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "the server's end is native"))]
mod replay;
#[cfg(not(target_arch = "wasm32"))]
mod session;
#[cfg(not(target_arch = "wasm32"))]
mod store;
mod transport;
mod wire;
#[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "the server's end is native"))]
mod writer;

/// The most bytes that this layer adds to a message: the mark behind one that ends like its own mark.
#[cfg(feature = "optimized")]
pub(crate) const OVERHEAD: usize = crate::message::trailer::LEN;

pub use self::{
    cell::{ResumeHandle, SessionId, Verdict, Verdicts},
    layer::{ResponseFuture, Resume, ResumeLayer},
    transport::ResumedTransport,
};
#[cfg(not(target_arch = "wasm32"))]
pub use self::{
    session::Session,
    store::{Accepted, SessionStore},
};
