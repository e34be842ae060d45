//! Turns a connector into a transport that reconnects.
//!
//! A [`Connect`](crate::Connect) makes one connection per call. This layer keeps the request, calls the connector when
//! the transport is first polled, and calls it again when an attempt fails or the connection is lost. Above the layer
//! there is one transport; below it, one connection after the other.
//!
//! # Why
//!
//! Every client of a long-lived connection needs this, and the usual mistakes are costly: attempts without a delay, all
//! clients of a server at the same moment, a backoff that each open resets, endless attempts with a token that was
//! rejected, messages that are lost silently.
//!
//! # States
//!
//! ```text
//!     Disconnected --> Connecting { attempt } --> Connected
//!                         ^     | failed            | lost
//!                         |     v                   |
//!                    Reconnecting { attempt, cause, after } <--+
//!                               |
//!                               v  final, or no attempt is left
//!                            Failed { cause }
//! ```
//!
//! - **Delays**: [`Backoff`], by default exponential with full jitter from 100 ms to 30 s, forever. A connection that
//!   lasted 10 s ([`healthy_after`](ReconnectLayer::healthy_after)) resets the backoff; a successful open alone does
//!   not. There is a delay after a clean close, too.
//! - **Errors**: [`classify`](classify()) or your own function decides which errors are retried. Rejected
//!   authentication, an invalid configuration and a violated protocol are final.
//! - **State**: [`ReconnectHandle::state`], and [`States`] as a stream. A [`ReconnectHandle`] comes from the layer
//!   ([`ReconnectLayer::handle`]) or the transport ([`Reconnect::handle`]), and works while a [`Driver`](crate::Driver)
//!   owns the transport.
//! - **Messages in flight**: [`WhenLost`].
//! - **The connector**: the request of an attempt after a loss has a
//!   [`LostConnection`](crate::transport::LostConnection) in its extensions.
//! - **Subscriptions**: [`on_connect`](ReconnectLayer::on_connect) returns the first messages of each connection.
//!
//! # In a page
//!
//! On `wasm32` the layer listens to the browser. While the page is offline there is no attempt. While it is hidden
//! there is at most one in a minute. When the page is left or frozen (`pagehide`, `freeze`), the connection is dropped.
//! When the network or the visitor comes back, or the page leaves the cache of the browser (`online`,
//! `visibilitychange`, `resume`, `pageshow`), the next attempt is made at once. Any other connection that works is left
//! alone.
//!
//! # Effects of a loss
//!
//! | event | stream | sink |
//! |---|---|---|
//! | the connection is lost, or closed with a code that is retried | the next connection's | [`WhenLost`] |
//! | a final close message | yields it, then `None` | closed, with the close frame |
//! | another final failure, or the last attempt | yields the error, then `None` | closed, with the error as source |
//! | the stream ends without a close message, and that is final | `None` | closed |
//! | you close, or send a close message | continues until the peer has closed | closed |
//! | messages are [lost with a session](WhenLost#with-a-resume-layer) | yields a rejection | the same, if first |
//! | the connection rejects a message | - | the error, a rejection; the connection stays |
//! | a connection rejects a message that [`WhenLost::Keep`] kept | yields the error, a rejection | - |
//!
//! "Closed" is an error for which [`is_closed`](crate::Error::is_closed) is true, a rejection one for which
//! [`is_rejection`](crate::Error::is_rejection) is. A close with 1000 is only final if
//! [`end_on_normal_close`](ReconnectLayer::end_on_normal_close) is set.
//!
//! Messages that the peer sent before the loss are read first, as long as the connection still yields them. Messages of
//! the peer that are lost on the way cannot be detected here.
//!
//! # Backpressure
//!
//! `poll_next` waits for a connection and then for its messages. `poll_ready` waits while there is no connection,
//! unless [`WhenLost::Keep`] has room. `poll_flush` waits for a connection as long as an accepted message is not sent;
//! so does `poll_close`, also for a message that the peer of a session below has not acknowledged. Otherwise it ends
//! immediately. Nothing happens unless one of them is polled: not the first
//! attempt, not the end of a delay. A [`Driver`](crate::Driver) always polls.
//!
//! An attempt takes as long as the connector does. tower's `TimeoutLayer` below this layer bounds it.
//!
//! When the sink of a connection fails first, its stream has one second to yield the reason (for example, an unread
//! close message). Then the connection counts as lost.
//!
//! # Position in the stack
//!
//! Layers above it survive a reconnect: codecs, a rate limit, a queue. State of one connection (a heartbeat, a
//! compression context, authentication by first message) goes below it, in
//! [`per_connection`](crate::ServiceBuilderExt::per_connection), where each connection gets its own. Layers of the
//! connector (timeouts, headers, a fresh token, a resume layer) go below it, too.
//!
//! # Errors
//!
//! Returns an error for which [`is_config`](crate::Error::is_config) is true on first use if the target is not a URL.
//! Errors of the connector and of connections keep their kind; that of the last attempt gets a sentence which says so.
//! Errors that concern one message (codec, rate limit, an outgoing message over a limit) pass unchanged, and the
//! connection stays.
//!
//! With [`WhenLost::Keep`], the layer gives up on a message that ends connection after connection before it is sent, by
//! the same rule as the resume layer: after three connections that the peer ended because of a message
//! (close code 1003, 1007 or 1009, or a 413), 16 that it ended with 1011, 1000 that were merely lost, or 16 of those
//! over 10 minutes. Otherwise the peer or a proxy would be sent that message forever.
//!
//! When a connection is lost and messages of either direction may be lost with it, the layer reports this to the layers
//! above by [`signal::connection_lost`](crate::transport::signal::connection_lost). A
//! [`service::Client`](crate::service::Client) then fails the calls in flight.
//!
//! # Cancel safety
//!
//! All state is in the transport, including an attempt in progress. Dropping a send or a receive loses nothing and
//! restarts nothing.
//!
//! # On the wire
//!
//! The layer adds nothing except the messages of the hook.
//!
//! # Cost
//!
//! No allocation and no clock read per message. [`WhenLost::Keep`] clones and measures each message. A connection costs
//! what its connector costs, plus an allocation each for the future of the connect, the transport, and the head of the
//! response. The transport of this layer is `Unpin`, whatever the connector's futures are.
//!
//! # Example
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! use std::future::ready;
//! use tower::{ServiceBuilder, service_fn};
//! use tower_transport::{Error, Message, ServiceBuilderExt, TransportExt, channel, layer::reconnect::Backoff};
//!
//! // In place of `WebSocketConnector::new()`: a server that is not reachable at first.
//! let (near, mut far) = channel::<Message, Message>(8);
//! let mut answers = vec![Ok(http::Response::new(near)), Err(Error::refused("nobody listens yet"))];
//! let connector = service_fn(move |_: http::Request<()>| ready(answers.pop().unwrap()));
//!
//! let mut transport = ServiceBuilder::new()
//!     .reconnect("wss://example.com/feed", Backoff::exponential())
//!     .service(connector);
//! transport.send_message(Message::text("hello")).await?;
//! assert_eq!(far.receive_message().await.unwrap()?, Message::text("hello"));
//! # Ok::<(), Error>(()) }).unwrap();
//! ```
//!
//! Configured, driven and observed:
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! use std::time::Duration;
//! use futures_util::StreamExt;
//! use tower::{ServiceBuilder, service_fn, timeout::TimeoutLayer};
//! use tower_transport::{
//!     Error, Message, QueueConfig, ServiceBuilderExt, TransportExt, channel,
//!     layer::reconnect::{Backoff, Class, Keep, ReconnectLayer, State, WhenLost, classify},
//! };
//!
//! let request = http::Request::get("wss://example.com/feed").header("x-client", "7").body(())?;
//! let backoff = Backoff::exponential().base(Duration::from_millis(200)).cap(Duration::from_secs(10)).max_retries(100);
//! let layer = ReconnectLayer::new(request, backoff)
//!     .when_lost(WhenLost::Keep(Keep::messages()))
//!     .healthy_after(Duration::from_secs(30))
//!     .classify(|error| match error.close_frame() {
//!         Some(frame) if frame.code().get() == 4429 => Class::Final, // this server's own code
//!         _ => classify(error),
//!     })
//!     .on_connect(|_response| vec![Message::text("subscribe trades")]);
//! let handle = layer.handle();
//!
//! # let channels = futures_util::stream::iter(0..2).map(|_| channel::<Message, Message>(8));
//! # let (ends, mut servers) = channels.unzip::<_, _, Vec<_>, Vec<_>>().await;
//! # let mut ends = ends.into_iter();
//! # let connector = service_fn(move |_: http::Request<()>| {
//! #     std::future::ready(ends.next().map(http::Response::new).ok_or_else(|| Error::refused("")))
//! # });
//! let transport = ServiceBuilder::new()
//!     .layer(layer)
//!     .layer(TimeoutLayer::new(Duration::from_secs(5))) // on each attempt
//!     .service(connector);
//! let (sender, mut receiver, driver) = transport.drive(QueueConfig::messages()).into_parts();
//! tokio::spawn(driver);
//!
//! # let mut second = servers.pop().unwrap();
//! # let mut first = servers.pop().unwrap();
//! sender.send(Message::text("buy")).await?;
//! assert_eq!(first.receive_message().await.unwrap()?, Message::text("subscribe trades"));
//! assert_eq!(first.receive_message().await.unwrap()?, Message::text("buy"));
//!
//! drop(first); // the server goes down
//! let mut states = handle.states();
//! while let Some(state) = states.next().await {
//!     if let State::Reconnecting { attempt, cause, after, .. } = state {
//!         println!("attempt {attempt} in {after:?}, because {cause}");
//!         break;
//!     }
//! }
//! handle.reconnect_now(); // the user pressed a button
//! assert_eq!(second.receive_message().await.unwrap()?, Message::text("subscribe trades"));
//! assert_eq!(handle.connections(), 2);
//! # drop(receiver);
//! # Ok::<(), tower_transport::BoxError>(()) }).unwrap();
//! ```
//!
//! # Compared with tower's `Reconnect`
//!
//! tower's `Reconnect` turns a `MakeService` into a `Service`. It makes a new service on failure: immediately, for each
//! call, without a delay or a limit. This layer turns a connector into a transport, waits between attempts, separates
//! final failures from others, decides about messages in flight, and can be observed.

mod backoff;
mod buffer;
mod class;
mod connection;
mod core;
mod handle;
mod layer;
#[cfg(target_arch = "wasm32")]
mod presence;
mod state;
mod target;
mod transport;

pub use self::{
    backoff::{Backoff, Delays},
    buffer::{Keep, WhenLost},
    class::{Class, classify},
    handle::{ReconnectHandle, State, States},
    layer::ReconnectLayer,
    target::Target,
    transport::Reconnect,
};
