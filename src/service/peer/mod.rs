//! Calls in both directions over one transport: requests, streams, notifications, cancellation and deadlines.
//!
//! # Why one wants it
//!
//! A [`Client`](super::Client) or a [`Server`](super::Server) has a whole transport for one role. A [`Peer`] has both
//! roles on one connection: a server that calls its clients back, an agent that asks its host, an exchange that pushes
//! quotes. Its calls may have many requests or many answers. Dropping a call cancels it at the other end.
//!
//! ```text
//!        Caller: Service<Request>                 Service<IncomingCall<..>, Response = Reply<..>>
//!   stream(): a transport of the call's own       (`unary` makes one of any Service<Request>)
//!              \                                        /
//!               `------------->  Peer  <---------------'
//!                                 |
//!                 Protocol: Frames (the crate's own) or JsonRpc
//!                                 |
//!                     transport stack (codec, resume, ..)
//! ```
//!
//! # Which one to take
//!
//! | | `Client`, `Server` | `Peer` |
//! |---|---|---|
//! | roles on a connection | one | both |
//! | answers of a call | one | one, or a stream with credit |
//! | requests of a call | one | one, or a stream with credit |
//! | cancellation | the answer is discarded | the handler at the other end is dropped |
//! | deadlines | tower's timeout, at this end | at both ends |
//! | task | none needed | the `Peer` is spawned |
//! | allocations | none per call | a stream of answers is boxed once |
//!
//! # Backpressure
//!
//! A [`Caller`] waits in `poll_ready` for a place among its calls in flight. Streams have credit: the sender stops
//! when the receiver has not read what it was sent, and only that call waits. See [`Peer`] for what is bounded.
//!
//! # Over a session that resumes
//!
//! Over a transport that [resumes](crate::layer::resume) (`OptimizedTransport` does by default), a lost connection
//! costs no call: frames that were in flight are sent again. Over a reconnecting transport without sessions, the
//! calls that were sent fail, and [`CallError::may_have_been_executed`] is true for them.
//!
//! # tower's layers
//!
//! A [`Caller`] takes every layer of a service: timeout, concurrency limit, load shed, retry, buffer, rate limit, cache.
//! The service behind a [`Peer`] does as well. The stream of a call is a [`Transport`](crate::Transport), so layers
//! for transports of values go on it: a queue, a rate limit. A retry or a cache of a *stream* is not possible in
//! general, because its items have been given away.
//!
//! # Wire
//!
//! The guide `wire` describes both protocols.
//!
//! # Example
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use std::time::Duration;
//!
//! use tower::{ServiceExt, service_fn};
//! use tower_transport::{channel, service::peer::{Frames, PeerBuilder, unary}};
//!
//! // Both ends ask for the length of a text, and have errors in words.
//! type Wire = Frames<String, usize, String>;
//! let length = service_fn(async |text: String| match text.len() {
//!     0 => Err("an empty text".to_owned()),
//!     length => Ok(length),
//! });
//!
//! let (here, there) = channel(8);
//! let (near, peer) = PeerBuilder::new(Wire::new()).build(here, unary(length));
//! tokio::spawn(peer);
//! let (far, peer) = PeerBuilder::new(Wire::new()).build(there, unary(length));
//! tokio::spawn(peer);
//!
//! assert_eq!(near.clone().oneshot("there".into()).await.unwrap(), 5);
//! assert_eq!(far.timeout(Duration::from_secs(5)).oneshot("and back".into()).await.unwrap(), 8);
//! let error = near.oneshot(String::new()).await.unwrap_err();
//! assert_eq!(error.failure().unwrap(), "an empty text");
//! # });
//! ```
//!
//! Many answers:
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use futures_util::{StreamExt, stream};
//! use tower::service_fn;
//! use tower_transport::{channel, service::peer::{Frames, IncomingCall, PeerBuilder, Reply}};
//!
//! type Wire = Frames<u32, u32, String>;
//! let count = service_fn(async |call: IncomingCall<u32>| {
//!     Ok(Reply::Stream(stream::iter(0..call.request).map(Ok)))
//! });
//!
//! let (here, there) = channel(8);
//! let (mut caller, peer) = PeerBuilder::new(Wire::new()).build(here, count);
//! tokio::spawn(peer);
//! tokio::spawn(PeerBuilder::new(Wire::new()).build(there, count).1);
//!
//! let numbers = caller.stream(1000, false).await.unwrap();
//! let sum = numbers.fold(0, async |sum, number| sum + number.unwrap()).await;
//! assert_eq!(sum, 499_500);
//! # });
//! ```
//!
//! # Compared with tarpc, jsonrpsee and tonic
//!
//! tarpc has cancellation and deadlines, but neither streams nor calls back. jsonrpsee has streams in one direction.
//! tonic has both, and needs HTTP/2. A [`Peer`] runs over any transport of this crate, in the browser as well.

mod builder;
mod caller;
mod calls;
#[cfg(test)]
mod credit_model;
mod deadlines;
mod error;
mod fate;
mod frame;
mod future;
mod handler;
mod incoming;
#[cfg(feature = "json")]
#[cfg_attr(docsrs, doc(cfg(feature = "json")))]
pub mod json_rpc;
mod make;
mod outgoing;
mod places;
mod protocol;
mod requests;
mod window;

pub use self::{
    builder::PeerBuilder,
    caller::{Call, CallStream, Caller},
    error::CallError,
    frame::{CallOptions, Frame, Rejection},
    future::Peer,
    handler::{IncomingCall, NoStream, Reply, Unary, UnaryFuture, unary},
    incoming::WhenNotificationsFull,
    make::MakePeer,
    protocol::{Decoded, Frames, InFrame, OutFrame, Protocol},
    requests::Requests,
};

#[cfg(feature = "json")]
#[doc(no_inline)]
pub use self::json_rpc::JsonRpc;
