//! Bounds message sizes, idle time, lifetime and unflushed messages.
//!
//! # Why
//!
//! A peer that sends messages that are too large, keeps a connection that nobody uses, or stays on a server that is to
//! be emptied costs memory and places. A transport of another crate may have none of these limits. The transports of
//! this crate limit the size on the wire ([`Limits`](crate::Limits)); above compression, this layer limits the inflated
//! size.
//!
//! # Limits
//!
//! | limit | default | when exceeded |
//! |---|---|---|
//! | [`max_incoming`] | 4 MiB | an error item ([`is_too_large`]); then closed with 1009, or skipped ([`skip_large`]) |
//! | [`max_outgoing`] | 4 MiB | an error of `start_send` ([`is_too_large`]); nothing is sent, and the sink goes on |
//! | [`idle_timeout`] | none | an error item ([`is_timeout`]); closed with 1001 "idle timeout" |
//! | [`lifetime`](LimitLayer::lifetime) | none | the same, with 1001 "maximum lifetime" |
//! | [`max_in_flight`](LimitLayer::max_in_flight) | none | `poll_ready` flushes, and waits for the flush |
//!
//! Sizes are those of text and binary messages; pings, pongs and closes always pass. The errors of an outgoing message
//! that is too large, and of an incoming one that is skipped, are [rejections](crate::Error::is_rejection).
//!
//! The close code 1009 tells the sender of a message that was too large; a reconnecting client takes it as final. With
//! [`skip_large`](LimitLayer::skip_large), only the receiving end sees the rejection. A message that a compression
//! layer below refuses to inflate does not reach this layer: see the errors of `layer::compression`.
//!
//! Code 1001 says that this end goes away. The peer did nothing wrong and may connect again.
//!
//! A connection is idle if no *data* passes: pings and pongs do not count. A message that is on its way counts, as far
//! as the transport [reports](crate::transport::signal::moved) the bytes that move: at 1,024 bytes a second or more,
//! averaged over an eighth of the idle timeout, until more bytes have moved than the largest message each way may have.
//! A message that never ends does not count after that, whether it drips, or consists of empty fragments or pings.
//!
//! The precision of the idle timeout `T` is an eighth: the transport is closed between `T` and `T * 9 / 8` after the
//! last message. Lifetimes are as exact as the runtime's timer, less the [jitter](LimitLayer::lifetime_jitter). Both
//! begin with the first poll of the stream. A reader that is busy with a message closes the transport at its next poll.
//! For the idle timeout, each of its eighths may be longer by the time that the reader takes for one message.
//!
//! # Backpressure
//!
//! `poll_ready` waits for the inner transport's flush under [`max_in_flight`](LimitLayer::max_in_flight). The times are
//! checked while the stream is polled: a transport that nobody reads is not closed by them, and a user who does not
//! read is not taken for an idle peer. After an error that closes, the stream ends once the close message is flushed
//! and the inner transport closed.
//!
//! # Position in the stack
//!
//! Below the codec, because it works on [`Message`](crate::Message)s. Above compression and batch, to limit the
//! application's messages; above the heartbeat, so that its pings do not pass here.
//!
//! # Errors
//!
//! Returns errors for which [`is_too_large`](crate::Error::is_too_large) or [`is_timeout`](crate::Error::is_timeout) is
//! true; the latter have the [close frame](crate::Error::close_frame) that was sent. From then on the sink returns
//! errors for which [`is_closed`](crate::Error::is_closed) is true. Errors of the inner transport are passed on.
//!
//! # Cancel safety
//!
//! All state is in the transport: dropping a `send` or a `next` loses no message.
//!
//! # On the wire
//!
//! The layer adds nothing, except the close message with which it ends a transport (1009 or 1001).
//!
//! # Cost
//!
//! A comparison and a flag for each message. The clock is read once a tick (an eighth of the idle timeout). With a
//! time limit, each incoming message also asks whether the timer has fired, which reads no clock. Only errors allocate.
//!
//! # Example
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use tower::ServiceBuilder;
//! use tower_transport::{Message, ServiceBuilderExt, TransportExt, channel};
//!
//! let (near, mut far) = channel::<Message, Message>(8);
//! let mut near = ServiceBuilder::new().limit(64 * 1024).service(near);
//!
//! let error = near.send_message(Message::binary(vec![0; 5 << 20])).await.unwrap_err();
//! assert!(error.is_too_large());
//! near.send_message(Message::text("small")).await?;
//! assert_eq!(far.receive_message().await.unwrap()?, Message::text("small"));
//! # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
//! ```
//!
//! A server whose connections end in time for deployments:
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
//! Those see a call and its body. To bound calls in flight over a transport, put tower's own `ConcurrencyLimitLayer`
//! around `service::Client` or a handler. This layer sees messages, and the connection as a whole.
//!
//! [`max_incoming`]: LimitLayer::max_incoming
//! [`is_too_large`]: crate::Error::is_too_large
//! [`skip_large`]: LimitLayer::skip_large
//! [`max_outgoing`]: LimitLayer::max_outgoing
//! [`idle_timeout`]: LimitLayer::idle_timeout
//! [`is_timeout`]: crate::Error::is_timeout

mod deadlines;
mod transport;

pub use self::transport::{LimitLayer, Limited};
