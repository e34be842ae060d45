//! Message sizes, idle time, lifetime and unflushed messages, each within bounds.
//!
//! # Why
//!
//! A peer that sends what is too large, keeps a connection that nobody uses, or stays on a server that is to be emptied costs
//! memory and places. A transport that is not of this crate may have none of these limits, and those that have a limit on size
//! ([`Limits`](crate::Limits)) hold it against what is on the wire: above compression, this layer holds it against what
//! it became.
//!
//! # What is limited
//!
//! | limit | default | over it |
//! |---|---|---|
//! | [`max_incoming`](LimitLayer::max_incoming) | 4 MiB | an error item that [`is_too_large`](crate::Error::is_too_large); then the transport is closed with 1009, or, with [`skip_large`](LimitLayer::skip_large), the stream goes on with the next message |
//! | [`max_outgoing`](LimitLayer::max_outgoing) | 4 MiB | an error of `start_send` that [`is_too_large`](crate::Error::is_too_large); nothing is sent, and the sink goes on |
//! | [`idle_timeout`](LimitLayer::idle_timeout) | none | an error item that [`is_timeout`](crate::Error::is_timeout), and the transport is closed with 1001 "idle timeout" |
//! | [`lifetime`](LimitLayer::lifetime) | none | the same with 1001 "maximum lifetime" |
//! | [`max_in_flight`](LimitLayer::max_in_flight) | none | `poll_ready` flushes, and waits for that |
//!
//! Sizes are those of text and binary messages; pings, pongs and closes pass whatever the limits are. An outgoing message that is too
//! large, and an incoming one that is skipped, is a [rejection](crate::Error::is_rejection).
//!
//! 1001 says that this end goes away and that nothing was wrong with what the peer did: it may connect again.
//!
//! Idle is who sends and receives no *data*: pings and pongs do not count. A message that is on its way does, as far as the transport
//! [reports](crate::transport::signal::moved) the bytes that move: at 1,024 bytes a second or more, averaged over an eighth of the idle
//! timeout, and until more bytes have moved than the largest message each way may have. A message that never ends is idleness after
//! that, be it a drip, empty fragments or a flood of pings. The precision is an eighth: after the last message
//! the transport is closed between `T` and `T * 9 / 8`. Lifetimes are exact to what the runtime's timer is, less the
//! [jitter](LimitLayer::lifetime_jitter). Both begin with the first poll of the stream.
//!
//! # Where it waits
//!
//! In `poll_ready`, under [`max_in_flight`](LimitLayer::max_in_flight), for the inner transport's flush. The times are kept where the
//! stream is polled: a transport that nobody reads is not closed by them, and a user who does not read is not taken for an idle
//! peer. After an error that closes, the stream ends once the close message is flushed and the inner transport closed.
//!
//! # Where it belongs in the stack
//!
//! Below the codec, since it is for transports of [`Message`](crate::Message)s. Above compression and batch, to limit what they make of
//! a message on the wire; above the heartbeat, whose pings are then no activity in any case.
//!
//! # Errors
//!
//! Its own [`is_too_large`](crate::Error::is_too_large) and [`is_timeout`](crate::Error::is_timeout), the latter with the
//! [close frame](crate::Error::close_frame) that was sent, and [`is_closed`](crate::Error::is_closed) of the sink from then on; those
//! of the inner transport pass as they are.
//!
//! # Cancel safety
//!
//! All state is in the transport: a future over it (`send`, `next`) that is dropped loses no message.
//!
//! # What it adds to the wire
//!
//! Nothing, but for the close message with which it ends a transport (1009 or 1001).
//!
//! # Cost
//!
//! A comparison and a flag for each message; the clock is read once a tick (an eighth of the idle time), and the timer is
//! looked at where the stream is `Pending`, and at every 64th message of one that never is. Nothing is allocated per
//! message, but for errors.
//!
//! # Example
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use tower::ServiceBuilder;
//! use tower_transport::{Message, ServiceBuilderExt, TransportExt, channel, layer::limit::LimitLayer};
//!
//! let (near, mut far) = channel::<Message, Message>(8);
//! let mut near = ServiceBuilder::new().limit(LimitLayer::new()).service(near);
//!
//! let error = near.send_message(Message::binary(vec![0; 5 << 20])).await.unwrap_err();
//! assert!(error.is_too_large());
//! near.send_message(Message::text("small")).await?;
//! assert_eq!(far.receive_message().await.unwrap()?, Message::text("small"));
//! # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
//! ```
//!
//! A server that is emptied by itself, for deployments:
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! use std::{num::NonZeroUsize, time::Duration};
//! use tower_transport::{CloseCode, Message, TransportExt, channel, layer::limit::LimitLayer};
//!
//! const MINUTE: Duration = Duration::from_secs(60);
//!
//! let limits = LimitLayer::new()
//!     .max_message(64 * 1024)
//!     .max_in_flight(NonZeroUsize::new(256).unwrap())
//!     .idle_timeout(5 * MINUTE)
//!     .lifetime(60 * MINUTE)
//!     .lifetime_jitter(10 * MINUTE);
//!
//! let (near, mut far) = channel::<Message, Message>(8);
//! let mut near = near.layer(limits);
//! let error = near.receive_message().await.unwrap().unwrap_err();
//! assert!(error.is_timeout());
//! assert!(near.receive_message().await.is_none());
//!
//! let Some(Ok(Message::Close(Some(frame)))) = far.receive_message().await else { panic!("no close message") };
//! assert_eq!((frame.code(), frame.reason()), (CloseCode::AWAY, "idle timeout"));
//! # Ok::<(), tower_transport::Error>(()) }).unwrap();
//! ```
//!
//! # Unlike tower's `ConcurrencyLimit` and tower-http's `RequestBodyLimit` and `Timeout`
//!
//! Those see a call and its body. What bounds calls in flight over a transport is tower's own `ConcurrencyLimitLayer` around
//! `service::Client` or a handler; it needs no counterpart here. This one sees messages, and the connection as a whole.

mod layer;
mod transport;
mod watch;

pub use self::{layer::LimitLayer, transport::Limited};
