//! A bounded outgoing queue with a policy for when it is full, for a transport that is not driven.
//!
//! # Why
//!
//! A peer that reads slowly makes `poll_ready` wait, and so the sending task. If that is not acceptable (one slow
//! listener among a thousand, prices that are outdated before they are read), the queue offers policies: drop the
//! oldest, drop the newest, keep the newest of each key, or close. Without a queue there is nothing to choose from.
//!
//! A [driven](crate::TransportExt::drive) transport already has such a queue, with the same
//! [`QueueConfig`](crate::QueueConfig). This layer is for one task that both reads and writes, or for a place further
//! down in a stack.
//!
//! # Backpressure
//!
//! | [`WhenFull`](crate::WhenFull) | `poll_ready` is ready | effect of a full queue |
//! |---|---|---|
//! | `Block` | while there is room | waits |
//! | `CoalesceBy(key)` | while there is room | waits; a message replaces the one with its key, full or not |
//! | `DropOldest` | always | drops the oldest data message |
//! | `DropNewest` | always | drops the new message |
//! | `Close(code)` | always | drops all waiting messages, and closes the connection |
//!
//! Even with a dropping policy, pings and pongs that the user sends wait once 64 of them are queued. They overtake data
//! and are never dropped for lack of room. A close message is not dropped either, and stays behind the data.
//!
//! While nothing waits and the inner transport has room, a message goes straight through. Waiting messages are handed
//! on by `poll_ready`, `poll_flush` and `poll_close`. `poll_next` also hands them on and flushes them, so a task that
//! only reads still sends earlier messages. `poll_flush` and `poll_close` wait until all accepted messages are handed
//! on.
//!
//! # Position in the stack
//!
//! The layer goes where the messages to be dropped or kept are visible: above [`codec`](crate::layer::codec) to tell
//! values apart by a key ([`QueueConfig::values`](crate::QueueConfig::values)), below it to count bytes. It goes above
//! layers that number or batch messages, because these must see the messages that are really sent.
//!
//! # Errors
//!
//! - Returns an error for which [`is_full`](crate::Error::is_full) is true from the `start_send` that overflowed a
//!   queue whose policy is to close, and one for which [`is_closed`](crate::Error::is_closed) is true after that. The
//!   peer gets the code if the transport has close codes.
//! - A message that the inner transport rejects when it is handed on (for example, over its size limit) is counted as
//!   dropped. The error is returned by the sink method or the `poll_next` that handed it on. The next messages go on.
//! - When the inner sink fails, waiting messages are dropped and counted.
//!
//! # Cancel safety
//!
//! All state is in the transport: dropping a future over it loses nothing. An accepted message is sent with the next
//! poll of either half.
//!
//! # On the wire
//!
//! The layer adds nothing.
//!
//! # Cost
//!
//! Nothing is allocated per message; the queue grows to its largest size once. [`Queued::stats`] is only updated while
//! messages wait. `CoalesceBy` calls the key function and keeps one copy of each waiting key.
//!
//! # Example
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use futures_util::{FutureExt, SinkExt, StreamExt};
//! use tower::ServiceBuilder;
//! use tower_transport::{Message, QueueConfig, ServiceBuilderExt, channel};
//!
//! // A peer with room for one message.
//! let (here, mut there) = channel::<Message, Message>(1);
//! let mut here = ServiceBuilder::new().queue(QueueConfig::messages()).service(here);
//! for i in 0..3 {
//!     here.feed(Message::text(i.to_string())).await?;
//! }
//! assert_eq!(here.queued(), 2);
//!
//! // Reading alone makes the queue progress.
//! assert_eq!(there.next().await.unwrap()?, Message::text("0"));
//! assert!(here.next().now_or_never().is_none());
//! assert_eq!(there.next().await.unwrap()?, Message::text("1"));
//! # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
//! ```
//!
//! The newest price of each symbol, for a listener of any speed:
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use futures_util::{FutureExt, SinkExt, StreamExt};
//! use tower::Layer;
//! use tower_transport::{Message, QueueConfig, WhenFull, channel, layer::queue::QueueLayer};
//!
//! let symbol = |quote: &Message| Some(quote.as_text()?.split_once(' ')?.0.to_owned());
//! let layer = QueueLayer::new(QueueConfig::messages().when_full(WhenFull::coalesce_by(symbol)));
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
//! # Compared with `futures::sink::Buffer`
//!
//! `Buffer` only counts messages, always waits when it is full, and only makes progress when it is written to. tower's
//! `Buffer` is a queue of calls to a service, in front of a task.

mod send_queue;
mod transport;

pub use self::{
    send_queue::QueueStats,
    transport::{QueueLayer, Queued},
};
