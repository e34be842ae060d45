//! Limits the rate of messages to a quota, with governor's GCRA.
//!
//! The limit applies to one connection, to all connections that share a layer, or to a key such as an address or a
//! principal; inbound, outbound or both; by number, by bytes, or by your own cost.
//!
//! # Why
//!
//! A limit on HTTP requests ends at the upgrade: after it a peer may send any number of messages. This layer counts
//! messages. It works with a continuous clock (the [generic cell rate algorithm]): no window boundary lets twice the
//! quota through, and no refill is rounded away on a busy connection.
//!
//! [generic cell rate algorithm]: https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
//!
//! # Scope of the quota
//!
//! | constructor | the [`Quota`] is shared by |
//! |---|---|
//! | [`RateLimitLayer::per_connection`] | one transport: each has its own |
//! | [`RateLimitLayer::shared`] | all transports of that layer and its clones |
//! | [`KeyedRateLimiter::for_key`], [`RateLimitLayer::keyed`] | all transports with that key |
//!
//! Each direction has its own bucket, and both are limited unless [`inbound`](RateLimitLayer::inbound) (for a server)
//! or [`outbound`](RateLimitLayer::outbound) (for a client) is chosen. A message is charged once.
//!
//! # Policies
//!
//! | policy | outgoing | incoming |
//! |---|---|---|
//! | [`wait`](RateLimitLayer::wait) (the default) | `poll_ready` is `Pending` | it waits, and none is read behind it |
//! | [`reject`] | `start_send` fails, the sink goes on | the error in its place, the stream goes on |
//! | [`close`](RateLimitLayer::close) | the same, then closed with 1008 | the same, then closed with 1008 and the end |
//!
//! A message over the limit fails with an error for which [`is_rate_limited`](crate::Error::is_rate_limited) is true.
//! If it costs more than a full bucket holds, it fails under each policy, with
//! [`is_too_large`](crate::Error::is_too_large). While an incoming message waits, nothing is read, so the backpressure
//! reaches the peer.
//!
//! Control messages cost nothing by default, and the limit never holds up an incoming one. A control message behind a
//! waiting message is not read before it.
//!
//! Accuracy: incoming messages and rejected ones never pass before their cost is paid, so in any time `t` at most
//! `burst + rate * t` cells pass. An outgoing message that waits is charged in two parts, because its cost is only
//! known when it is sent. `poll_ready` takes one cell ahead, and the rest of the cost is due before the *next* message.
//! With a cost of 1 that is exact. By bytes, the last message may run ahead by its own cost less one.
//!
//! Callers that wait for a shared quota ask for it one after the other, in the order in which they came. A waiting
//! caller does not hold a cell. A caller in line that then does not ask (for example, because its `send` was dropped)
//! only costs the others that moment. A caller that comes when there is a cell gets it at once.
//!
//! # Backpressure
//!
//! With [`wait`](RateLimitLayer::wait), the layer waits in `poll_ready` (after the inner transport is ready, so that no
//! cell is taken for a transport that cannot send) and in `poll_next`, each with a timer of the runtime. Flush and
//! close never wait for the limit. With [`close`](RateLimitLayer::close), the stream ends once the close message is
//! flushed and the inner transport closed.
//!
//! # Position in the stack
//!
//! The layer goes above compression and batch to count the application's messages, or below them to count the traffic
//! on the wire. It goes above the heartbeat, so that a pong need not wait. It goes below the codec for [`PerByte`] and
//! [`close`](RateLimitLayer::close), which are for [`Message`](crate::Message)s.
//!
//! # Errors
//!
//! Returns an error for which [`is_rate_limited`](crate::Error::is_rate_limited) is true, with
//! [`retry_after`](crate::Error::retry_after), if one message is over the limit. Returns an error for which
//! [`is_too_large`](crate::Error::is_too_large) is true if a message costs more than the burst: make it smaller, or
//! allow a larger [burst](Quota::allow_burst). Returns an error for which [`is_closed`](crate::Error::is_closed) is
//! true, with the close frame, after `close`. Errors of the inner transport are passed on unchanged.
//! [`RateLimitCounts`] shows how often each happened.
//!
//! # Cancel safety
//!
//! All state is in the transport. Dropping a `next` while a message waits loses nothing. Dropping a `send` before it
//! was ready keeps the cell that was taken for it, for the next message.
//!
//! # On the wire
//!
//! The layer adds nothing except the close message of [`close`](RateLimitLayer::close).
//!
//! # Cost
//!
//! Each message costs one read of the clock, and one more if it waits or is refused. The processor's counter is read by
//! default, at a third of the cost of the operating system's clock. The first limiter of a process calibrates it, which
//! takes up to 0.2 s, once. A connection costs two buckets of 32 bytes, and the memory of a timer for each direction
//! that has had to wait. Nothing is allocated per message; an error is allocated.
//!
//! # Example
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use std::num::NonZeroU32;
//! use tower::ServiceBuilder;
//! use tower_transport::{ServiceBuilderExt, TransportExt, channel, layer::rate_limit::Quota};
//!
//! const RATE: NonZeroU32 = NonZeroU32::new(500).unwrap();
//!
//! let (near, mut far) = channel::<&str, &str>(8);
//! let stack = ServiceBuilder::new().limit_rate(Quota::per_second(RATE));
//! let mut near = stack.service(near);
//!
//! near.send_message("one of five hundred").await?;
//! assert_eq!(far.receive_message().await.unwrap()?, "one of five hundred");
//! # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
//! ```
//!
//! A server that accepts 64 KiB a second from each address, and at most 128 KiB at once, over all of its connections,
//! and closes a connection that sends more:
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use std::{net::IpAddr, num::NonZeroU32};
//! use tower_transport::{
//!     CloseCode, Message, TransportExt, channel,
//!     layer::rate_limit::{KeyedRateLimiter, PerByte, Quota},
//! };
//!
//! const RATE: NonZeroU32 = NonZeroU32::new(64 * 1024).unwrap();
//! const BURST: NonZeroU32 = NonZeroU32::new(128 * 1024).unwrap();
//!
//! let addresses = KeyedRateLimiter::<IpAddr>::new(Quota::per_second(RATE).allow_burst(BURST));
//!
//! // For each connection:
//! let address = "192.0.2.7".parse().unwrap();
//! let (socket, mut peer) = channel::<Message, Message>(8);
//! let mut socket = socket.layer(addresses.for_key(address).inbound().cost(PerByte).close());
//!
//! peer.send_message(Message::binary(vec![0; 100 * 1024])).await?;
//! peer.send_message(Message::binary(vec![0; 100 * 1024])).await?;
//! assert_eq!(socket.receive_message().await.unwrap()?.len(), 100 * 1024);
//! let error = socket.receive_message().await.unwrap().unwrap_err();
//! assert!(error.is_rate_limited() && error.retry_after().is_some());
//! assert!(socket.receive_message().await.is_none());
//!
//! let Some(Ok(Message::Close(Some(frame)))) = peer.receive_message().await else { panic!("no close message") };
//! assert_eq!(frame.code(), CloseCode::POLICY);
//! # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
//! ```
//!
//! # Services
//!
//! The same limits apply to services: [`RateLimitLayer::for_service`]. The service is `Clone` if the inner one is, and
//! clones share the limit. A call costs one cell. `poll_ready` waits for it and takes it, or, with
//! [`reject`](RateLimitLayer::reject), the call fails. [`for_http`](RateLimitServiceLayer::for_http) turns the failure
//! into a response, 429 with `Retry-After`, which is not an error:
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use std::{convert::Infallible, num::NonZeroU32};
//! use http::{Request, Response, StatusCode, header::RETRY_AFTER};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//! use tower_transport::layer::rate_limit::{Quota, RateLimitLayer};
//!
//! let limit = RateLimitLayer::shared(Quota::per_minute(NonZeroU32::MIN)).for_service().for_http();
//! let service = ServiceBuilder::new()
//!     .layer(limit)
//!     .service(service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new("hello".to_owned()))));
//!
//! assert_eq!(service.clone().oneshot(Request::default()).await?.status(), StatusCode::OK);
//! let refused = service.clone().oneshot(Request::default()).await?;
//! assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
//! assert_eq!(refused.headers()[RETRY_AFTER], "60");
//! # Ok::<(), Infallible>(()) }).unwrap().unwrap();
//! ```
//!
//! A handler that has a key for each request calls the limiter directly: [`KeyedRateLimiter::check`], and
//! [`too_many_requests`] for the response.
//!
//! # Compared with tower's `RateLimit`
//!
//! tower's `RateLimit` is for services only, is not `Clone`, and counts in fixed windows: at the boundary of two, twice
//! the number passes at once.
//!
//! # Compared with governor's `RateLimiter` and `RatelimitedSink`
//!
//! The algorithm is governor's, over states that connections own. governor's sink and stream adapters borrow the
//! limiter and support neither keys nor costs. Its keyed limiter grows with every key until it is told to shrink.
//!
//! [`reject`]: RateLimitLayer::reject

mod bucket;
mod cost;
mod gate;
mod keyed;
mod layer;
mod service;
mod transport;
mod turns;

pub use self::{
    bucket::Quota,
    cost::{Cost, PerByte, PerMessage},
    gate::RateLimitCounts,
    keyed::KeyedRateLimiter,
    layer::RateLimitLayer,
    service::{
        HttpRateLimit, HttpRateLimitLayer, RateLimitService, RateLimitServiceLayer, ResponseFuture, too_many_requests,
    },
    transport::{Closes, RateLimit, Stays},
};
