//! A connector goes in, a transport that reconnects comes out.
//!
//! A [`Connect`](crate::Connect) makes one connection a call. This layer holds the request, calls the connector when somebody
//! reads or writes, and calls it again when the attempt failed or the connection was lost: one transport above, one
//! connection after the other below.
//!
//! # Why
//!
//! Every client of a long-lived connection needs it, and most write it wrong: attempts without a pause, all clients of a
//! server at the same moment, an attempt count that starts anew with each open, endless attempts with a token that was
//! refused, messages that are lost without a word.
//!
//! # How it goes on
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
//! - **Delays**: [`Backoff`], exponential with full jitter from 100 ms to 30 s, for ever. A connection that lasted 10 s
//!   ([`healthy_after`](ReconnectLayer::healthy_after)) makes the attempts count anew; an open alone does not. There is a delay
//!   after a clean close, too.
//! - **What is retried**: what [`classify`](classify()) or a function of the user says. Never an authentication that was
//!   refused, a configuration that cannot work or a protocol that was broken.
//! - **The state**: [`ReconnectHandle::state`], and [`States`] as a stream. [`ReconnectHandle`] comes from the layer
//!   ([`ReconnectLayer::handle`]) or the transport ([`Reconnect::handle`]), and works while a [`Driver`](crate::Driver) owns
//!   that.
//! - **Messages on their way**: [`WhenLost`].
//! - **What the connector is told**: the request of an attempt after a loss has a [`LostConnection`](crate::transport::LostConnection) in
//!   its extensions.
//! - **Subscriptions**: [`on_connect`](ReconnectLayer::on_connect) says first what each connection must hear first.
//!
//! # What the user sees of a loss
//!
//! | what happens | stream | sink |
//! |---|---|---|
//! | the connection is lost, or closed with a code that is retried | goes on with the next connection | [`WhenLost`] |
//! | a close message that is final (not 1000, unless [`end_on_normal_close`](ReconnectLayer::end_on_normal_close) is set) | gives it, then `None` | [`is_closed`](crate::Error::is_closed), with the close frame |
//! | any other failure that is final, or the last attempt | gives the error once, then `None` | [`is_closed`](crate::Error::is_closed), with the error as its source |
//! | the end without a word, where the classifier says it is final | `None` | [`is_closed`](crate::Error::is_closed) |
//! | the user closes, or sends a close message | goes on until the peer has closed | [`is_closed`](crate::Error::is_closed) |
//! | the connection rejects a message | - | `start_send` returns the error, which [`is_rejection`](crate::Error::is_rejection); the connection stays |
//! | a connection rejects a message that [`WhenLost::Keep`] had kept | gives the error once, which is a rejection | - |
//!
//! What the peer sent before a loss and this end had not read is read first where the connection still gives it. Messages of
//! the peer that are lost on the way nobody here can know of.
//!
//! # Where it waits
//!
//! `poll_next` waits for a connection and then for its messages. `poll_ready` waits while there is no connection, unless
//! [`WhenLost::Keep`] has room. `poll_flush` waits for a connection as long as something was accepted and not sent; so does
//! `poll_close`, which without that ends at once. Nothing happens unless one of them is polled: not the first connect, not the
//! end of a delay. A [`Driver`](crate::Driver) always polls.
//!
//! An attempt takes as long as the connector does: tower's `TimeoutLayer` below this layer bounds it.
//!
//! When the sink of a connection fails first, its stream has a second to tell why (a close message that was not read yet);
//! then the connection is lost.
//!
//! # Where it belongs in the stack
//!
//! What stands above it lives on across connections: codecs of values, a rate limit, a queue. What belongs to one connection
//! (a heartbeat, a compression context, authentication by first message) stands below it, in
//! [`per_connection`](crate::ServiceBuilderExt::per_connection), where each connection gets its own. Layers of the connector
//! (timeouts, headers, a fresh token, a resume layer) stand below it, too.
//!
//! # Errors
//!
//! A target that is no URL is [`is_config`](crate::Error::is_config) at the first use. Errors of the connector and the
//! connections pass with their kind; the last attempt's is put under a sentence that says so. Errors of one message (codec, rate
//! limit, an outgoing message over a limit) pass as they are, and the connection stays.
//!
//! Under [`WhenLost::Keep`] the layer gives up on a message that ends connection after connection before it is sent: after 16
//! that the peer ended because of a message (close code 1003, 1007, 1009 or 1011, or a 413), or 1000 that were merely lost. The
//! peer or a proxy would otherwise be sent that message forever.
//!
//! When a connection is lost and messages of either direction may be lost with it, the layer reports it to the layers above by
//! [`signal::connection_lost`](crate::transport::signal::connection_lost). A [`service::Client`](crate::service::Client) fails the
//! calls in flight then.
//!
//! # Cancel safety
//!
//! All state is in the transport, an attempt that is under way included: dropping a send or a receive loses nothing, and
//! starts nothing anew.
//!
//! # What it adds to the wire
//!
//! Nothing but what the hook says.
//!
//! # Cost
//!
//! No allocation per message, and no clock read. Under [`WhenLost::Keep`] each message is cloned, and measured.
//! The future of the connect lies in the transport, unboxed: where it cannot be moved, neither can the transport (pin it). A
//! connection costs what its connector does and one allocation for the answer's head.
//!
//! # Example
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! use std::future::ready;
//! use tower::{ServiceBuilder, service_fn};
//! use tower_transport::{Error, Message, ServiceBuilderExt, TransportExt, channel, layer::reconnect::Backoff};
//!
//! // In place of `WebSocketConnector::new()`: a server that is not there at first.
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
//!     Error, Message, Queue, ServiceBuilderExt, TransportExt, channel,
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
//! # let (ends, mut servers) = futures_util::stream::iter(0..2).map(|_| channel::<Message, Message>(8)).unzip::<_, _, Vec<_>, Vec<_>>().await;
//! # let mut ends = ends.into_iter();
//! # let connector = service_fn(move |_: http::Request<()>| {
//! #     std::future::ready(ends.next().map(http::Response::new).ok_or_else(|| Error::refused("")))
//! # });
//! let transport = ServiceBuilder::new()
//!     .layer(layer)
//!     .layer(TimeoutLayer::new(Duration::from_secs(5))) // on each attempt
//!     .service(connector);
//! let (sender, mut receiver, driver) = Box::pin(transport).drive(Queue::messages()).into_parts();
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
//!     if let State::Reconnecting { attempt, cause, after } = state {
//!         println!("attempt {attempt} in {after:?}, because {cause}");
//!         break;
//!     }
//! }
//! handle.reconnect_now(); // somebody pressed the button
//! assert_eq!(second.receive_message().await.unwrap()?, Message::text("subscribe trades"));
//! assert_eq!(handle.connections(), 2);
//! # drop(receiver);
//! # Ok::<(), tower_transport::BoxError>(()) }).unwrap();
//! ```
//!
//! # Unlike tower's `Reconnect`
//!
//! That one makes a `Service` from a `MakeService`, and a new one when it fails: at once, for each call, without a delay or a
//! limit. This makes a transport from a connector, waits between attempts, tells final failures from others, says what
//! becomes of messages on their way, and can be watched.

mod backoff;
mod buffer;
mod class;
mod connection;
mod core;
mod handle;
mod layer;
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
