//! No more messages than a quota allows, by governor's GCRA.
//!
//! For one connection, for all that share a layer, or for a key such as an address or a principal; inbound, outbound or both; by
//! number, by bytes, or by a cost of your own.
//!
//! # Why
//!
//! A limit on HTTP requests ends at the upgrade: from there on a peer may send what it likes. This one counts messages. It
//! works with a continuous clock (the [generic cell rate algorithm]): no window whose edge lets twice the quota through, and no
//! refill that is rounded away on a busy connection.
//!
//! [generic cell rate algorithm]: https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
//!
//! # Whose quota
//!
//! | constructor | who shares the [`Quota`] |
//! |---|---|
//! | [`RateLimitLayer::per_connection`] | nobody: each transport has its own |
//! | [`RateLimitLayer::shared`] | all transports of that layer and of its clones |
//! | [`KeyedRateLimiter::for_key`], [`RateLimitLayer::keyed`] | all transports with that key |
//!
//! Each direction has a bucket of its own, and both are limited unless [`inbound`](RateLimitLayer::inbound) (what a server
//! wants) or [`outbound`](RateLimitLayer::outbound) (a client) is chosen. A message is charged once.
//!
//! # What it does when there is too much
//!
//! | | outgoing | incoming |
//! |---|---|---|
//! | [`wait`](RateLimitLayer::wait) (the default) | `poll_ready` is `Pending` | the message waits, and no further one is read: back-pressure reaches the peer |
//! | [`reject`](RateLimitLayer::reject) | `start_send` fails with [`is_rate_limited`](crate::Error::is_rate_limited), nothing is sent, the sink goes on | such an error in the message's place, the stream goes on |
//! | [`close`](RateLimitLayer::close) | the same, then closed with 1008 | the same, then closed with 1008 and the end of the stream |
//! | it costs more than a full bucket holds | `start_send` fails with [`is_too_large`](crate::Error::is_too_large) | such an error in the message's place; under `close`, the end |
//!
//! Control messages cost nothing by default, and an incoming one is never held up by the limit itself; one that is behind a
//! message that waits is not read before it.
//!
//! How exact it is: incoming messages, and those that are rejected, never pass before their cost is paid, so that in any time `t`
//! at most `burst + rate * t` cells pass. An outgoing message that waits is charged in two parts, because what it costs is
//! known only when it is given: `poll_ready` takes one cell ahead, and what the message cost beyond that is due before the
//! *next* one. With a cost of 1 that is exact; by bytes, the last message may run ahead by its own cost less one.
//!
//! Those who wait for a shared quota ask for it one after the other, in the order in which they came. Nobody holds a cell by
//! waiting: who is in line and then does not ask (its `send` was dropped, say) costs the others that moment and no more, and who
//! comes when there is a cell has it at once.
//!
//! # Where it waits
//!
//! Under [`wait`](RateLimitLayer::wait), in `poll_ready` (after the inner transport is ready, so that no cell is taken for a
//! transport that cannot send) and in `poll_next`, each by a timer of the runtime. Flush and close never wait for the limit.
//! Under [`close`](RateLimitLayer::close), the stream ends once the close message is flushed and the inner transport closed.
//!
//! # Where it belongs in the stack
//!
//! Above compression and batch to count what the application says, below them to count what the wire carries. Above the
//! heartbeat, so that a pong need not wait. Below the codec for [`PerByte`] and [`close`](RateLimitLayer::close), which are for
//! [`Message`](crate::Message)s.
//!
//! # Errors
//!
//! [`is_rate_limited`](crate::Error::is_rate_limited) with [`retry_after`](crate::Error::retry_after), for one message;
//! [`is_too_large`](crate::Error::is_too_large), for one that costs more than the burst: make it smaller, or allow a larger
//! [burst](Quota::allow_burst); [`is_closed`](crate::Error::is_closed) with the close frame, after `close`. Those of the inner
//! transport pass as they are. [`RateLimitCounts`] shows how often each happened.
//!
//! # Cancel safety
//!
//! All state is in the transport: a `next` that is dropped while a message waits loses nothing, and a `send` that is dropped
//! before it was ready keeps the cell that was taken for it, for the next one.
//!
//! # What it adds to the wire
//!
//! Nothing, but for the close message of [`close`](RateLimitLayer::close).
//!
//! # Cost
//!
//! One read of the clock for each message, and one more for each that waits or is refused. The processor's counter is read by
//! default, which is a third of the price of the operating system's clock; the first limiter of a process calibrates it,
//! which takes up to 0.2 s, once. A connection costs two buckets of 32 bytes, and the memory of a timer for each direction
//! that has had to wait. Nothing is allocated per message; each error is.
//!
//! # Example
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use std::num::NonZeroU32;
//! use tower::ServiceBuilder;
//! use tower_transport::{
//!     ServiceBuilderExt, TransportExt, channel,
//!     layer::rate_limit::{Quota, RateLimitLayer},
//! };
//!
//! const RATE: NonZeroU32 = NonZeroU32::new(500).unwrap();
//!
//! let (near, mut far) = channel::<&str, &str>(8);
//! let stack = ServiceBuilder::new().limit_rate(RateLimitLayer::per_connection(Quota::per_second(RATE)));
//! let mut near = stack.service(near);
//!
//! near.send_message("one of five hundred").await?;
//! assert_eq!(far.receive_message().await.unwrap()?, "one of five hundred");
//! # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
//! ```
//!
//! A server that takes 64 KiB a second from each address, and at most 128 KiB at once, over all of its connections, and closes a
//! connection that sends more:
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
//! The same limits for what is called: [`RateLimitLayer::for_service`]. The service is `Clone` where the inner one is, and
//! clones share the limit. A call costs one cell: `poll_ready` waits for it and takes it, or ([`reject`](RateLimitLayer::reject))
//! the call fails. [`for_http`](RateLimitServiceLayer::for_http) makes that an answer, 429 with `Retry-After`, and no error:
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
//! A handler that has a key for each request asks the limiter itself: [`KeyedRateLimiter::check`], and
//! [`too_many_requests`] for the answer.
//!
//! # Unlike tower's `RateLimit`
//!
//! That one is for services only, is not `Clone`, and counts in fixed windows: at the edge of two, twice the number passes at
//! once.
//!
//! # Unlike governor's `RateLimiter` and `RatelimitedSink`
//!
//! The algorithm is governor's, over states that connections own. Its sink and stream adapters borrow the limiter, know neither
//! keys nor costs, and its keyed limiter grows with every key until it is told to shrink.

mod bucket;
mod clock;
mod cost;
mod counts;
mod excess;
mod future;
mod gate;
mod http;
mod keyed;
mod layer;
mod line;
mod quota;
mod service;
mod table;
mod transport;

pub use self::{
    cost::{Cost, PerByte, PerMessage},
    counts::RateLimitCounts,
    excess::{Closes, Stays},
    future::{HttpResponseFuture, ResponseFuture},
    http::{HttpRateLimit, HttpRateLimitLayer, too_many_requests},
    keyed::KeyedRateLimiter,
    layer::RateLimitLayer,
    quota::Quota,
    service::{RateLimitService, RateLimitServiceLayer},
    transport::RateLimit,
};
