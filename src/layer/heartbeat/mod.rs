//! Pings for a silent peer, and the end of the connection if it stays silent.
//!
//! # Why
//!
//! A peer whose cable was pulled, whose laptop sleeps or whose NAT forgot the connection sends nothing, and TCP alone
//! notices after minutes or never. A live peer answers a ping; a dead one does not. Pings also keep proxies from
//! cutting an idle connection, and their pongs measure the round-trip time.
//!
//! # Behavior
//!
//! - If no message arrives for `interval`, a ping is sent. If nothing arrives within `timeout` of it, the stream
//!   returns an error for which [`is_timeout`](crate::Error::is_timeout) is true, and ends; the sink fails from then
//!   on. Any message is a sign of life, not the pong alone. The ping is not repeated: the transport is expected to be
//!   reliable.
//! - Bytes that move are an answer, too, so that a long message on a slow line is not taken for silence. The transport
//!   below [reports](crate::transport::signal::moved) them. Two kinds count, at an average of 100 bytes a second or
//!   more over the timeout:
//!   - incoming bytes;
//!   - outgoing bytes, if the sink had no room before: then the peer has taken what filled it. Bytes that find room at
//!     once
//!     prove nothing, because the operating system takes them for a dead peer as well.
//!
//!   A peer that drips fewer bytes and completes no message is given up like a silent one. A peer that sends more is
//!   alive, whatever it sends. [`Limits::message`](crate::Limits::message) bounds the size of an unfinished message,
//!   and the idle timeout of the limit layer bounds its time.
//! - Bytes do not postpone a ping. The sender of a long message may see nothing move, because its operating system has
//!   taken all of it (up to 4 MiB a socket on Linux). The pings of the receiver are signs of life for it, so use a
//!   heartbeat at both ends if possible.
//! - Pongs to its own pings are not passed on. All other messages are.
//! - Marked pings of a peer in [application-level](HeartbeatLayer::application_level) mode are answered and not passed
//!   on, by an end in that mode or with [`answer_application_level`](HeartbeatLayer::answer_application_level). For any
//!   other end, binary messages are data, whatever they end in.
//! - A transport that answers a [`Message::Ping`](crate::Message::Ping) is flushed even if nobody writes. For a
//!   transport that does not, such as a [`channel`](crate::channel()), use
//!   [`answer_pings`](HeartbeatLayer::answer_pings).
//! - Round-trip times are smoothed as in RFC 6298. [`Heartbeat::rtt`] returns them, and so does a [`Monitor`] from
//!   elsewhere.
//!
//! Precision: no clock is read for a message. A timer ticks twice in an interval, so a ping is sent after a silence of
//! half the interval at least, and of the interval at most. A peer that vanishes is given up within `interval +
//! timeout` of its last message.
//!
//! # Backpressure
//!
//! All of this happens while the stream is polled, and only then: a [`Driver`](crate::Driver) polls it, unless its
//! inbox is full. A user who does not read is never taken for a dead peer: everything that has arrived is read before
//! the peer is judged, and if the stream was not polled for long, the peer gets its `timeout` once more.
//!
//! `poll_ready` and `poll_flush` wait for the inner transport, and for room that a ping or a pong has used. An answer
//! that cannot be written waits, and is replaced by the answer to a newer ping ([RFC 6455, section
//! 5.5.3](https://www.rfc-editor.org/rfc/rfc6455#section-5.5.3)).
//!
//! # Position in the stack
//!
//! Innermost, added last: it then sees each message as it arrives from the wire, and its pings are not batched, limited
//! or compressed. Its state belongs to one connection: with a connector, it goes into
//! [`per_connection`](crate::ServiceBuilderExt::per_connection).
//!
//! # Errors
//!
//! - The stream: [`is_timeout`](crate::Error::is_timeout) when the peer is given up, and then `None`. If a ping could
//!   not be written, that error is the source. [`is_protocol`](crate::Error::is_protocol) for a marked message that is
//!   neither ping nor pong, if marks are known; the stream goes on.
//!   If a layer below [rejects](crate::Error::is_rejection) a ping or an answer (a rate limit, say), that message is
//!   dropped, the stream returns the rejection once, and goes on; the next interval has its own ping. So does a
//!   rejection of a message of the user that the layer learns of while it writes.
//! - The sink, once the peer was given up: [`is_closed`](crate::Error::is_closed), with the error of the stream as its
//!   source. Closing succeeds and waits for nobody.
//!
//! Once either end has begun to close, no more pings are sent: the transport bounds the time of the close
//! ([`Limits::close`](crate::Limits::close)).
//!
//! # Cancel safety
//!
//! All state is in the transport: dropping a `send` or a `next` loses nothing.
//!
//! # On the wire
//!
//! Pings of 8 bytes; in application-level mode, binary messages of 16 bytes, documented in
//! [`docs/wire.md`](crate::guide::wire). There, and with
//! [`answer_application_level`](HeartbeatLayer::answer_application_level), a binary message of the user that ends like
//! one of those is sent with 8 more bytes, which the peer's layer removes.
//!
//! # Cost
//!
//! No allocation and no clock read for a message that passes. A ping or an answer allocates its payload. A connection
//! has a timer and two small allocations.
//!
//! # Panics
//!
//! Natively the timer is tokio's: the stream must be polled in a runtime with its time driver enabled (`enable_time`).
//!
//! # Example
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! use tower::{Layer, ServiceBuilder};
//! use tower_transport::{TransportExt, channel, layer::heartbeat::HeartbeatLayer};
//!
//! let (here, silent) = channel(8);
//! let mut here = ServiceBuilder::new().layer(HeartbeatLayer::default()).service(here);
//!
//! // Nobody answers at the other end.
//! let error = here.receive_message().await.unwrap().unwrap_err();
//! assert!(error.is_timeout());
//! assert!(here.receive_message().await.is_none());
//! # drop(silent) });
//! ```
//!
//! With other times, with pings as binary messages, and with the round-trip time:
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! use std::time::Duration;
//! use tower::Layer;
//! use tower_transport::{QueueConfig, TransportExt, channel, layer::heartbeat::HeartbeatLayer};
//!
//! let (here, there) = channel(8);
//! let layer = HeartbeatLayer::new(Duration::from_secs(5), Duration::from_secs(2)).application_level();
//! let (here, there) = (layer.layer(here), layer.layer(there));
//! let monitor = here.monitor();
//!
//! // The monitor works although the drivers own the transports.
//! let (_sender, _receiver, driver) = here.drive(QueueConfig::messages()).into_parts();
//! let (_peer, _inbox, other) = there.drive(QueueConfig::messages()).into_parts();
//! tokio::spawn(driver);
//! tokio::spawn(other);
//!
//! assert_eq!(monitor.rtt(), None);
//! tokio::time::sleep(Duration::from_secs(6)).await;
//! assert!(monitor.rtt().unwrap().smoothed < Duration::from_secs(2));
//! # });
//! ```
//!
//! If the protocol has a heartbeat of its own (`{"op":"ping"}`), [`custom`](HeartbeatLayer::custom) builds it from your
//! messages, of any type.
//!
//! # Unlike tower's `Timeout`
//!
//! `Timeout` limits how long one response may take, and does not check a connection without requests. TCP keep-alive
//! (`SO_KEEPALIVE`) asks the peer's kernel, which may be well while the program hangs, and ends at the first proxy.

mod custom;
mod layer;
mod pings;
mod rtt;
mod silence;
mod transport;
mod watchdog;
mod wire;

/// The largest number of bytes that this layer adds to a message: the mark behind one that ends like a mark of its own.
#[cfg(feature = "optimized")]
pub(crate) const OVERHEAD: usize = crate::message::trailer::LEN;

#[cfg(feature = "optimized")]
pub(crate) use self::rtt::Observer;
pub use self::{
    custom::{CustomHeartbeat, CustomHeartbeatLayer, CustomPings, NoReplies, Replies},
    layer::HeartbeatLayer,
    pings::ProtocolPings,
    rtt::{HeartbeatEvent, Monitor, Rtt},
    transport::Heartbeat,
};
