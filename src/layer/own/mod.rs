//! The sink half of a layer that sends messages of its own, or that ends its transport.
//!
//! # Why
//!
//! A layer that only looks at messages, or changes them, forwards the four methods of its [`Sink`] and is done. Two
//! things are harder: to send a message that the user did not send (a ping, an acknowledgement), and to end the
//! transport (a limit was exceeded, the peer is dead). Both happen while the *stream* is polled, and the user may poll
//! the stream and the sink from two tasks. [`LayerSink`] does both, and the layers of this crate are built on it.
//!
//! # What it does
//!
//! - **Order.** Own messages and the user's are sent in the order in which they were accepted.
//! - **Promised room.** If `poll_ready` returned `Ready` and an own message then takes the room, the user's message is
//!   still accepted. It waits behind the own message, so at most one message of the user waits here.
//! - **Wake-ups.** While the layer has something to write, the transport below gets a waker that wakes the tasks of
//!   both halves.
//! - **The end.** The stream returns the error once and then `None`, the sink fails with a closed error from then on,
//!   the peer gets a close message, and the transport below is closed.
//!
//! # How a layer uses it
//!
//! The layer keeps a `LayerSink<M>` next to its inner transport:
//!
//! - its four sink methods each call the method of the same name;
//! - its `poll_next` calls [`poll_end`](LayerSink::poll_end) if the transport [has ended](LayerSink::has_ended), and
//!   otherwise [`poll_send`](LayerSink::poll_send) before it polls the inner stream;
//! - it [pushes](LayerSink::push) its own messages, and ends the transport with [`close`](LayerSink::close) or
//!   [`abort`](LayerSink::abort).
//!
//! # Backpressure
//!
//! `poll_ready` and `poll_flush` return `Pending` when the inner transport does, and while own messages that were
//! pushed before have no room. The layer bounds how many of its own messages wait: see [`len`](LayerSink::len).
//!
//! # Cancel safety
//!
//! All state is in the `LayerSink`. Dropping a future that polls it loses nothing.
//!
//! # Cost
//!
//! One branch for each call while nothing of the layer's own waits. Nothing is allocated for a message of the user. A
//! `LayerSink` allocates once when it is made, and once when the transport ends.
//!
//! [`Sink`]: futures_sink::Sink

mod end;
mod keeping;
mod outgoing;
mod sink;

pub use self::{keeping::KeepingSink, sink::LayerSink};
