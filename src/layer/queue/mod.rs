//! A bounded outgoing queue, and what happens when it is full, for a transport that is not driven.
//!
//! # Why
//!
//! A peer that reads slowly makes `poll_ready` wait, and with it whoever sends. Where that may not be (one slow listener among
//! a thousand, prices that are old before they are read), the queue says what to do instead: drop the oldest, drop the newest,
//! keep the newest of each key, or close. Without a queue there is nothing to choose from.
//!
//! A transport that is [driven](crate::TransportExt::drive) has such a queue already, with the same [`Queue`](crate::Queue).
//! This layer is for one task that both reads and writes, or for a place further down in a stack.
//!
//! # Where it waits
//!
//! | [`WhenFull`](crate::WhenFull) | `poll_ready` is ready | a full queue |
//! |---|---|---|
//! | `Block` | while there is room | waits |
//! | `CoalesceBy(key)` | while there is room | waits; a message takes the place of the one of its key, full or not |
//! | `DropOldest` | always | drops the oldest message of data |
//! | `DropNewest` | always | drops the new message |
//! | `Close(code)` | always | drops all that waits, and closes the connection |
//!
//! Only the pings and pongs that the user sends wait even where the policy is to drop, once 64 of them stand in line: they
//! overtake data, and none is ever dropped for want of room. Nor is a close message, which stays behind the data.
//!
//! While nothing waits and the inner transport has room, a message goes straight through. What waits is handed on by
//! `poll_ready`, `poll_flush` and `poll_close`, and also by `poll_next`, which flushes it too: so a task that only reads moves
//! on what was sent before. `poll_flush` and `poll_close` wait until all that was accepted is handed on.
//!
//! # Where it belongs in the stack
//!
//! Where the messages are that are to be dropped or kept: above [`codec`](crate::layer::codec) to tell values by a key
//! ([`Queue::values`](crate::Queue::values)), below it to count bytes. Above layers that number messages or gather them, for
//! these must see what is really sent.
//!
//! # Errors
//!
//! - [`is_full`](crate::Error::is_full) from the `start_send` that overflowed a queue whose policy is to close, and
//!   [`is_closed`](crate::Error::is_closed) from then on. The peer gets the code
//!   where the transport has close codes.
//! - What the inner transport refuses when it is handed on (a message over its limit, say) is counted as dropped, and is an
//!   error of the sink method or the `poll_next` that handed it on. The next messages go on.
//! - When the inner sink fails, what waits is dropped and counted.
//!
//! # Cancel safety
//!
//! All state is in the transport: a future over it that is dropped loses nothing. A message that was accepted is sent with the
//! next poll of either half.
//!
//! # What it adds to the wire
//!
//! Nothing.
//!
//! # Cost
//!
//! Nothing is allocated per message; the queue grows to its largest size once. [`Queued::stats`] is kept up only while
//! something waits. `CoalesceBy` calls the key function and keeps one copy of each waiting key.
//!
//! # Example
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use futures_util::{FutureExt, SinkExt, StreamExt};
//! use tower::ServiceBuilder;
//! use tower_transport::{Message, Queue, ServiceBuilderExt, channel};
//!
//! // A peer with room for one message.
//! let (here, mut there) = channel::<Message, Message>(1);
//! let mut here = ServiceBuilder::new().queue(Queue::messages()).service(here);
//! for i in 0..3 {
//!     here.feed(Message::text(i.to_string())).await?;
//! }
//! assert_eq!(here.queued(), 2);
//!
//! // Reading alone moves the queue on.
//! assert_eq!(there.next().await.unwrap()?, Message::text("0"));
//! assert!(here.next().now_or_never().is_none());
//! assert_eq!(there.next().await.unwrap()?, Message::text("1"));
//! # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
//! ```
//!
//! The newest price of each symbol, for a listener however slow:
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use futures_util::{FutureExt, SinkExt, StreamExt};
//! use tower::Layer;
//! use tower_transport::{Message, Queue, WhenFull, channel, layer::queue::QueueLayer};
//!
//! let symbol = |quote: &Message| Some(quote.as_text()?.split_once(' ')?.0.to_owned());
//! let layer = QueueLayer::new(Queue::messages().when_full(WhenFull::coalesce_by(symbol)));
//!
//! let (here, mut there) = channel::<Message, Message>(1);
//! let mut here = layer.layer(here);
//! for quote in ["A 1", "A 2", "B 7", "A 3"] {
//!     here.feed(Message::text(quote)).await?;
//! }
//! assert_eq!((here.queued(), here.dropped()), (2, 1));
//!
//! let mut read = Vec::new();
//! for _ in 0..3 {
//!     read.push(there.next().await.unwrap()?);
//!     let _ = here.flush().now_or_never();
//! }
//! assert_eq!(read, ["A 1", "A 3", "B 7"].map(Message::text));
//! # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
//! ```
//!
//! # Unlike `futures::sink::Buffer`
//!
//! That one counts messages only, has the one policy of waiting, and moves on only when it is written to. tower's `Buffer` is
//! a queue of calls to a service, in front of a task.

mod layer;
mod line;
mod moving;
mod stats;
mod transport;

pub use self::{layer::QueueLayer, stats::QueueStats, transport::Queued};
