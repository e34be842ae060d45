//! Sessions that outlive connections.
//!
//! A connection is cut, another one takes its place, and the conversation goes on where it was: what either end had accepted
//! and the other had not got is sent again, and nothing else is. The client has a [`ResumeLayer`] on its connector, the server
//! a [`SessionStore`], and each connect ends with a [`Verdict`] that says what became of the session.
//!
//! # Why
//!
//! Reconnecting alone leaves a hole: nobody knows which of the last messages arrived. Whoever sends them again delivers some
//! twice, whoever does not loses some. Here both ends count the messages and keep what is not acknowledged, so that the
//! answer is known: [`Verdict::Resumed`], with no gap and no duplicate in either direction, or [`Verdict::Fresh`], with the
//! number of messages that are lost.
//!
//! It is not "exactly once" across a crash: both ends hold the session in memory. A server that restarts knows no session, and
//! its clients are told so.
//!
//! # How it works
//!
//! - The transports below are ordered and reliable within a connection, so a data message (text, binary) carries no number:
//!   both ends count from what they agreed on when the connection was opened. Data passes as it is, without a copy.
//! - An end acknowledges with its next message once a quarter of the other's bounds is used, at once when half of them is, or after
//!   [`ack_delay`](ResumeLayer::ack_delay). An acknowledgement also says how many messages were sent before it: when a layer or transport below loses or doubles
//!   one without a word, the counts differ, and the session ends with an error that [`is_protocol`](crate::Error::is_protocol).
//!   A digest of what was exchanged finds out the same where a cut came first.
//! - A message is kept until it is acknowledged: its payload is shared, not copied. When so many or so large ones are kept as
//!   the bounds allow, the sink is not ready.
//! - The newest connection has the session. An older one is closed by the server (4409), and fails at the client.
//! - A session is named by 128 random bits and opened by 128 more, which the server's store compares in constant time. Whoever
//!   asks for a session that is not there, with another secret or as another [owner](SessionStore::accept_as), gets a new one
//!   and learns nothing.
//! - Closing (`poll_close`, or sending a close message) ends the session for good, on both ends. A cut does not, nor does a
//!   close message that some layer below sent. A close does not wait for acknowledgements: if the connection is cut while it
//!   closes, the last messages may be lost with it, and only the peer is told. Where they must arrive, close once
//!   [`unacknowledged`](ResumeHandle::unacknowledged) is 0.
//!
//! Pings, pongs and close messages belong to a connection: they are not counted, kept or sent again.
//!
//! # Where it waits
//!
//! - The connect: for an older transport of the session to be polled or dropped, and for the server's answer, both within
//!   [`deadline`](ResumeLayer::deadline).
//! - `poll_ready`: for the connection below, and for acknowledgements when the replay buffer is full. It reads then, so that an
//!   end that only writes goes on; what comes in meanwhile is held, and acknowledged when the user gets it. It is at most what the
//!   peer keeps unacknowledged, and never more than this end's own bound: what it keeps itself, at least 1024 messages and 1 MiB.
//! - `poll_flush`, where this end keeps more than the other holds: for the acknowledgements that let the rest go.
//! - A [`Session`] without a connection: `poll_next` and `poll_flush` for the client to come back, `poll_ready` when the buffer is
//!   full; all at most for [`ttl`](SessionStore::ttl).
//! - [`SessionStore::accept`]: for the client's first message, and for the session's handler to poll its [`Session`].
//!
//! # Where it belongs in the stack
//!
//! On the connector, directly below the reconnect layer. What works on the single connection (heartbeat,
//! compression, first-message auth) stands below it in [`per_connection`](crate::ServiceBuilderExt::per_connection); what must
//! survive (codec, batch, rate limit, queue) above the reconnect. A layer that drops messages (a queue with a policy, a rate
//! limit that rejects) must stand above: below, its drops end the session as losses.
//!
//! A reconnect layer above neither counts as lost nor sends again what this layer accepted, whatever its policy: the response
//! says that it [outlives](crate::transport::OutlivesConnection) the connection. Put `.reconnect(..)` first, `.resume()` below it,
//! then `.per_connection(..)`. On the server there is nothing to arrange: the [`Session`] is a
//! transport like any other, for layers and [`drive`](crate::TransportExt::drive).
//!
//! # Errors
//!
//! An error that a connection gives for one message (`start_send` refuses it, or a layer below rejects one that came in) concerns that message:
//! it is given to the user, is not sent again, and the session goes on. One that came in counts as received, and another connection is made. A 413
//! ends the session, and so do three connections that the peer closes because of a message (1003, 1007, 1009) before it acknowledges another one.
//! Connections that are merely cut end it after [`max_stalled_connections`](ResumeLayer::max_stalled_connections) in a row without progress.
//!
//! The other errors of the connection end a client's transport, and pass as they are. A connection that has a close to say is polled until
//! that is out, at most 10 s. Its own are
//! [`is_timeout`](crate::Error::is_timeout) and [`is_protocol`](crate::Error::is_protocol) of the opening exchange (a server without
//! sessions is the latter), `is_protocol` of a peer that acknowledges what cannot be, and [`is_closed`](crate::Error::is_closed) of
//! an older transport. Those of the server are at [`Session`] and [`SessionStore::accept`].
//!
//! # Cancel safety
//!
//! All state is in the session. A future over the transports that is dropped loses nothing; a connect that is dropped leaves
//! the session with its connector.
//!
//! # What it adds to the wire
//!
//! Nothing to a data message (eight bytes to one that ends like a mark of this layer). One message each way to open a
//! connection, one of 24 bytes for an acknowledgement, one to end the session: `docs/wire.md`. A peer must speak it.
//!
//! # Cost
//!
//! A message costs no lock, no clock read and no allocation of this layer in steady state, nor does an acknowledgement allocate. The first clone of `Bytes` that were made from a `Vec` allocates once: that is
//! theirs, and happens here. A session holds the ring of its replay buffer, 48 bytes a message, beside the payloads.
//!
//! # Example
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use tower::{Service, ServiceBuilder, service_fn};
//! use tower_transport::{
//!     Error, Message, Queue, ServiceBuilderExt, TransportExt, channel,
//!     layer::resume::{Accepted, SessionStore, Verdict},
//! };
//!
//! // The server: in place of the channel, the socket in the handler of a `WebSocketUpgrade`.
//! let store = SessionStore::new();
//! let accept = async |socket| match store.accept(socket).await? {
//!     Accepted::New(session) => Ok::<_, Error>(Some(session)),
//!     Accepted::Resumed => Ok(None), // the session's own handler goes on
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
//! // The connection is cut. The server does not wait, and has something to say meanwhile.
//! drop(transport);
//! let (sender, _receiver, driver) = session.drive(Queue::messages()).into_parts();
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
//! Configured, over real WebSockets, reconnecting by itself:
//!
#![cfg_attr(
    all(feature = "websocket", feature = "reconnect", not(target_arch = "wasm32")),
    doc = "```no_run
# async fn run() -> Result<(), tower_transport::Error> {
use std::time::Duration;
use futures_util::StreamExt;
use tower::ServiceBuilder;
use tower_transport::{
    Message, Queue, TransportExt,
    layer::{
        reconnect::{Backoff, ReconnectLayer},
        resume::{Accepted, ResumeHandle, ResumeLayer, SessionStore, Verdict},
    },
    transport::websocket::{WebSocketConnector, WebSocketUpgrade},
};

// The server: sessions wait five minutes, and each buffers a quarter of a megabyte at most.
let store = SessionStore::new().ttl(Duration::from_secs(300)).replay_bytes(256 << 10).sessions(10_000);
let upgrade = WebSocketUpgrade::new(move |socket, _parts| {
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
let (sender, _receiver, driver) = Box::pin(transport).drive(Queue::messages()).into_parts();
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
//! # Unlike tower's `retry`
//!
//! That one sends a request again when its answer was an error, and knows nothing of what the server did with the first. Here
//! the peer says what it has, and only the rest is sent again.

#[cfg(not(target_arch = "wasm32"))]
mod accept;
#[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "the server's end is native"))]
mod budget;
mod future;
mod handle;
mod home;
mod layer;
#[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "the server's end is native"))]
mod link;
mod opening;
#[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "the server's end is native"))]
mod outgoing;
#[cfg(not(target_arch = "wasm32"))]
mod registry;
mod service;
#[cfg(not(target_arch = "wasm32"))]
mod session;
#[cfg(not(target_arch = "wasm32"))]
mod slot;
mod state;
#[cfg(not(target_arch = "wasm32"))]
mod store;
mod transport;
mod verdict;
mod wire;

/// The most bytes that this layer adds to a message: the mark behind one that ends like a mark of its own.
#[cfg(all(feature = "optimized", not(target_arch = "wasm32")))]
pub(crate) const OVERHEAD: usize = crate::message::trailer::LEN;

#[cfg(not(target_arch = "wasm32"))]
pub use self::{accept::Accepted, session::Session, store::SessionStore};
pub use self::{
    future::ResponseFuture,
    handle::{ResumeHandle, Verdicts},
    layer::ResumeLayer,
    service::Resume,
    transport::ResumedTransport,
    verdict::{SessionId, Verdict},
};
