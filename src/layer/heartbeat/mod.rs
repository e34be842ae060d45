//! Pings for a peer that is silent, and the end of the connection where it stays so.
//!
//! # Why
//!
//! A peer whose cable was pulled, whose laptop sleeps or whose NAT forgot the connection says nothing, and TCP alone notices
//! after minutes or never. A ping is answered by whoever is there; who does not answer is gone. On the way the ping keeps
//! proxies from cutting an idle connection, and its pong tells the round-trip time.
//!
//! # What it does
//!
//! - When no message came for `interval`, a ping is sent. When nothing comes within `timeout` of that, the stream gives one error
//!   that [`is_timeout`](crate::Error::is_timeout), and ends; the sink fails from then on. Any message counts as a sign of
//!   life, not the pong alone. The ping is not repeated: a transport that loses messages is not what this is for.
//! - Bytes that move are an answer, too, so that a long message on a slow line is not taken for silence. The transport below
//!   [reports](crate::transport::signal::moved) them. Two kinds count, at an average of 100 bytes a second or more over the timeout:
//!   - incoming bytes;
//!   - outgoing bytes, if the sink had no room before: then the peer has taken what filled it. Bytes that find room at once
//!     prove nothing, since the operating system takes them for a dead peer as well.
//!
//!   A peer that drips fewer bytes and completes no message is given up like a silent one. A peer that sends more is alive, whatever it
//!   sends. The size of an unfinished message is bounded by [`Limits::message`](crate::Limits::message), and its time by the idle timeout
//!   of the limit layer.
//! - Bytes do not put a ping off. The sender of a long message may see nothing move, because its operating system has taken all of it
//!   (up to 4 MiB a socket on Linux). It takes the pings of the receiver for signs of life, so use a heartbeat at both ends where the
//!   peer can have one.
//! - Pongs to its own pings are not passed on. All other messages are.
//! - Marked pings of a peer that is in [application-level](HeartbeatLayer::application_level) mode are answered, and not
//!   passed on, by an end in that mode and by one with [`answer_application_level`](HeartbeatLayer::answer_application_level). For any other
//!   end, binary messages are data, whatever they end in.
//! - A transport that answers a [`Message::Ping`](crate::Message::Ping) by itself is flushed though nobody writes. One that does
//!   not, such as a [`channel`](crate::channel()), is helped by [`answer_pings`](HeartbeatLayer::answer_pings).
//! - Round-trip times are smoothed as in RFC 6298, and told by [`Heartbeat::rtt`], or from elsewhere by a [`Monitor`].
//!
//! How exact that is: no clock is read for a message. A timer ticks twice in an interval, so a ping is sent after a silence of
//! half the interval at least, and of the interval at most. A peer that vanishes is given up within `interval + timeout` of its
//! last message.
//!
//! # Where it waits
//!
//! All of this happens while the stream is polled, and only then: a [`Driver`](crate::Driver) does so, unless its inbox is
//! full. A user who does not read is never taken for a dead peer: what has come is read before the peer is judged, and if
//! nobody looked for long, the peer gets its `timeout` once more.
//!
//! Neither `poll_ready` nor `poll_flush` waits for more than the inner transport does, except for room that a ping or a pong
//! has taken. While an answer cannot be written it waits, and only that to the newest ping
//! ([RFC 6455, section 5.5.3](https://www.rfc-editor.org/rfc/rfc6455#section-5.5.3)).
//!
//! # Where it belongs in the stack
//!
//! Innermost, added last: so that it sees each message as it comes from the wire, and its pings are not batched, limited or
//! compressed. Its state belongs to one connection: with a connector, it goes into
//! [`per_connection`](crate::ServiceBuilderExt::per_connection).
//!
//! # Errors
//!
//! - Of the stream: [`is_timeout`](crate::Error::is_timeout) when the peer is given up, and then `None`. A failure to write the
//!   ping, if there was one, is its source. [`is_protocol`](crate::Error::is_protocol) for a marked message that is neither
//!   ping nor pong, where marks are known; the stream goes on.
//! - Of the sink, once the peer was given up: [`is_closed`](crate::Error::is_closed), with the error of the stream as its source.
//!   Closing succeeds, and waits for nobody.
//!
//! Once either end has begun to close, nobody is asked any more: how long a close may take is the transport's to say
//! ([`Limits::close`](crate::Limits::close)).
//!
//! # Cancel safety
//!
//! All state is in the transport: a future over it that is dropped loses nothing.
//!
//! # What it adds to the wire
//!
//! Pings of 8 bytes; in application-level mode, binary messages of 16 bytes that `docs/wire.md` shows. There, and with
//! [`answer_application_level`](HeartbeatLayer::answer_application_level), a binary message of the user that ends like one of those is sent
//! with 8 bytes more, which the peer's layer takes off.
//!
//! # Cost
//!
//! Nothing is allocated for a message that passes, and no clock read. A ping or an answer allocates its payload. A connection
//! has a timer, and two small allocations beside.
//!
//! # Panics
//!
//! Natively the timer is tokio's: the stream must be polled in a runtime with its time driver on (`enable_time`).
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
//! With other times, where pings are messages like any other, and with an eye on the round trip:
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
//! use std::time::Duration;
//! use tower::Layer;
//! use tower_transport::{Queue, TransportExt, channel, layer::heartbeat::HeartbeatLayer};
//!
//! let (here, there) = channel(8);
//! let layer = HeartbeatLayer::new(Duration::from_secs(5), Duration::from_secs(2)).application_level();
//! let (here, there) = (layer.layer(here), layer.layer(there));
//! let monitor = here.monitor();
//!
//! // Who owns the transports does not matter.
//! let (_sender, _receiver, driver) = here.drive(Queue::messages()).into_parts();
//! let (_peer, _inbox, other) = there.drive(Queue::messages()).into_parts();
//! tokio::spawn(driver);
//! tokio::spawn(other);
//!
//! assert_eq!(monitor.rtt(), None);
//! tokio::time::sleep(Duration::from_secs(6)).await;
//! assert!(monitor.rtt().unwrap().smoothed < Duration::from_secs(2));
//! # });
//! ```
//!
//! Where the protocol has a heartbeat of its own (`{"op":"ping"}`), [`custom`](HeartbeatLayer::custom) makes it out of your messages, of
//! any type.
//!
//! # Unlike tower's `Timeout`
//!
//! That one limits how long one answer may take, and says nothing of a connection on which nobody asks. A keep-alive of TCP
//! (`SO_KEEPALIVE`) asks the peer's kernel, which may be well while the program hangs, and ends at the first proxy.

mod custom;
mod layer;
mod pings;
mod rtt;
mod silence;
mod transport;
mod watchdog;
mod wire;

/// The most bytes that this layer adds to a message: the mark behind one that ends like a mark of its own.
#[cfg(all(feature = "optimized", not(target_arch = "wasm32")))]
pub(crate) const OVERHEAD: usize = crate::message::trailer::LEN;

pub use self::{
    custom::{CustomHeartbeat, CustomHeartbeatLayer, CustomPings, NoReplies, Replies},
    layer::HeartbeatLayer,
    pings::ProtocolPings,
    rtt::{Monitor, Rtt},
    transport::Heartbeat,
};
