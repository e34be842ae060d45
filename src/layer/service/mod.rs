//! Passes each message through a tower service: any `Service<M, Response = M>` as a filter, inbound or outbound.
//!
//! # Why
//!
//! Asynchronous checks, lookups, tower's `Filter`, `Timeout` or `ConcurrencyLimit`, and circuit breakers exist as
//! services, and need not be written again for transports. [`ServiceLayer::inbound`] and [`ServiceLayer::outbound`] put
//! one into a transport's stack. The service gets each message and answers with the message that continues in its
//! place; the answer may be of another type. **The order is kept**, although several messages may be with the service
//! at a time.
//!
//! # Backpressure
//!
//! Each transport has at most [`concurrency`](ServiceLayer::concurrency) messages with its service: 1 by default,
//! including answers that wait for their turn.
//!
//! | direction | method | is `Pending` while |
//! |---|---|---|
//! | inbound | `poll_next` | the oldest message has no answer |
//! | outbound | `poll_ready` | the service is not ready or has enough messages, or the inner transport has no room |
//! | outbound | `poll_flush`, `poll_close` | any message is with the service; answers are sent meanwhile |
//!
//! `poll_next` reads no more while the service is not ready or has enough messages.
//!
//! A service that never answers blocks its direction forever: put tower's `Timeout` around it. The futures of outgoing
//! messages are polled by the sink's methods, those of incoming ones by `poll_next`. A message that is fed and neither
//! flushed nor followed by another stays with the service, as it would stay in any buffer.
//!
//! # Position in the stack
//!
//! The layer goes where the messages have the type that the service takes. Above a codec it sees values; below, every
//! [`Message`](crate::Message), including pings and close messages.
//!
//! # Errors
//!
//! A service that fails **refuses** its message, and the connection goes on. No error is lost silently:
//!
//! | direction | when | where the error is returned |
//! |---|---|---|
//! | inbound | | as an error item, in the message's place |
//! | outbound | at once | from `start_send`, if no message was before it |
//! | outbound | later | from the next `poll_ready`, `poll_flush` or `poll_close` that finds it |
//! | outbound | later, with `refusals_to_stream` | as an error item of the stream |
//!
//! `send` therefore returns the error of its own message. After `feed`, an error of `poll_ready` is that of an
//! *earlier* message, and the current one was not accepted. [`refusals_to_stream`](ServiceLayer::refusals_to_stream) is
//! for [driven](crate::TransportExt::drive) transports.
//!
//! An error keeps its kind: a service whose error is a [`crate::Error`] decides what it is. For other errors
//! [`is_other`](crate::Error::is_other) is true, and for tower's `Elapsed` [`is_timeout`](crate::Error::is_timeout).
//! `poll_close` closes in any case, and returns the first refusal when it is done. An error of the service's
//! `poll_ready` refuses one incoming message. Outbound it is the sink's error, and no message was accepted.
//!
//! # One service for each transport
//!
//! The layer clones its service for each transport. The service decides whether the clones share anything. Clones of
//! tower's `ConcurrencyLimit` share their permits, so `ServiceLayer::inbound(ConcurrencyLimit::new(service, 100))` is a
//! limit over all connections of this layer, while [`concurrency`](ServiceLayer::concurrency) is a limit for each.
//!
//! # Cancel safety
//!
//! All state is in the transport: dropping a future over it (`send`, `next`) loses no message, and withdraws none from
//! the service.
//!
//! # On the wire
//!
//! The layer adds nothing.
//!
//! # Cost
//!
//! Nothing is allocated per message: a future reuses the memory of one that is done. The service's own allocations come
//! in addition (a circuit breaker of tower-resilience boxes its future). `cargo bench -p benches --bench overhead` has
//! the rows.
//!
//! # Example
//!
//! tower's `Filter`, on incoming messages:
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use tower::{BoxError, ServiceBuilder, service_fn};
//! use tower_transport::{Error, Message, ServiceBuilderExt, TransportExt, channel};
//!
//! let polite = ServiceBuilder::new()
//!     .filter(|message: Message| match message.as_text() {
//!         Some("rude") => Err(BoxError::from("no such words here")),
//!         _ => Ok(message),
//!     })
//!     .service(service_fn(|message: Message| std::future::ready(Ok::<_, Error>(message))));
//!
//! let (near, mut far) = channel::<Message, Message>(8);
//! let mut near = ServiceBuilder::new().inbound_service(polite).service(near);
//!
//! far.send_message(Message::text("rude")).await?;
//! far.send_message(Message::text("hello")).await?;
//! let refused = TransportExt::<Message>::receive_message(&mut near).await.unwrap();
//! assert_eq!(refused.unwrap_err().to_string(), "no such words here");
//! assert_eq!(TransportExt::<Message>::receive_message(&mut near).await.unwrap()?, Message::text("hello"));
//! # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
//! ```
//!
//! An outgoing check that calls another service, ten at a time and within a second, under a limit that all connections
//! share:
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use std::{num::NonZeroUsize, time::Duration};
//!
//! use tower::{Layer, ServiceBuilder, service_fn};
//! use tower_transport::{Error, Message, TransportExt, channel, layer::service::ServiceLayer};
//!
//! let check = ServiceBuilder::new()
//!     .concurrency_limit(100) // over all connections
//!     .timeout(Duration::from_secs(1))
//!     .service(service_fn(async |message: Message| {
//!         tokio::task::yield_now().await; // calls another service
//!         if message.len() > 5 { Err(Error::too_large("at most 5 bytes may leave the house")) } else { Ok(message) }
//!     }));
//! let layer = ServiceLayer::outbound(check).concurrency(NonZeroUsize::new(10).unwrap());
//!
//! let (near, mut far) = channel::<Message, Message>(8);
//! let mut near = layer.layer(near);
//! assert!(near.send_message(Message::text("far too long")).await.unwrap_err().is_too_large());
//! near.send_message(Message::text("short")).await?;
//! assert_eq!(far.receive_message().await.unwrap()?, Message::text("short"));
//! assert_eq!(near.refused(), 1);
//! # Ok::<(), Error>(()) }).unwrap();
//! ```
//!
//! # Compared with `tower::filter` and `futures::stream::buffered`
//!
//! tower's `Filter` is a service; this layer puts one into a transport. `StreamExt::buffered` allocates for each
//! future, and supports neither a service's readiness nor the writing direction. `SinkExt::with` has one future at a
//! time.

mod inbound;
mod layer;
mod outbound;
mod outcome;

pub use self::{
    inbound::InboundService,
    layer::{Inbound, Outbound, ServiceLayer},
    outbound::{MAX_REFUSALS, OutboundService},
};
