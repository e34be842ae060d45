//! Many small messages in one.
//!
//! # Why
//!
//! A small message costs its bytes next to nothing and its frame nearly everything: headers, system calls and wake-ups at both
//! ends. Packed 64 to a frame, those are paid once. The benchmark `throughput` has the figures.
//!
//! # When a batch leaves
//!
//! | | |
//! |---|---|
//! | a flush, or a close | sends what waits at once; a single message goes as it is, uncopied |
//! | the batch is full | by count or bytes ([`BatchPolicy`]): it is given to the transport below, which may still wait for a flush |
//! | the delay is over | what was fed and not flushed is sent and flushed, at most `delay` after the oldest message |
//!
//! So nothing is held back that was flushed, unlike with Nagle's algorithm: `send` is a feed and a flush, and a lone message
//! leaves as soon as without this layer. Whoever wants batches feeds several messages and flushes once. A
//! [`Driver`](crate::Driver) does just that: it feeds all that its senders have queued, so bursts are packed and single
//! messages are not delayed. Below a driver, [`BatchPolicy::on_flush`] spares the timer.
//!
//! The delay is kept by whoever polls the stream, which a transport needs anyway. Where nobody does, the next `poll_ready`
//! after the delay sends, and the delay then counts from the second message of a batch.
//!
//! # What becomes of a message
//!
//! | outgoing | |
//! |---|---|
//! | text, binary | waits, and keeps its order |
//! | text, binary larger than [`max_bytes`](BatchPolicy::max_bytes), or from [`alone_from`](BatchPolicy::alone_from) on | goes by itself, uncopied, after what waits |
//! | ping, pong | passes what waits |
//! | close | goes after what waits |
//!
//! | incoming | |
//! |---|---|
//! | a batch | is looked at as a whole, then given message by message: slices of the one payload, with nothing copied or allocated |
//! | any other message | passes: a peer without this layer is understood |
//! | a batch that is wrong | is one error, and none of its messages is given; the stream goes on with the next message |
//!
//! A message that was unpacked keeps the memory of its whole batch as long as it lives. What is in a batch is not unpacked
//! again, even if it is a batch.
//!
//! A peer that does not unpack must not be sent batches: [`BatchLayer::receive_only`] is for when the handshake finds out.
//!
//! # Where it waits
//!
//! `poll_ready` waits for room in the transport below, as if each message went there; so besides the batch that is being
//! filled, at most one that has waited too long and one larger message are held. `poll_flush` and `poll_close` wait for room
//! for what waits, then for the inner transport's.
//!
//! # Where it belongs in the stack
//!
//! Below the codec, and above compression (many alike compress well; what is compressed together tells of each other by its length, see
//! `layer::compression`, *Secrets*) and everything that counts or limits frames. A
//! rate limit per message stands above it. Above it only layers that do not mind that a message is accepted before the
//! transport below has seen it.
//!
//! # Errors
//!
//! [`is_protocol`](crate::Error::is_protocol) for a batch of the peer that is wrong, and says what is wrong with it;
//! [`is_too_large`](crate::Error::is_too_large) for one with more messages than [`BatchLayer::max_items`]. Both are
//! [rejections](crate::Error::is_rejection): the stream goes on. A batch that the
//! transport below refuses is an error of the call that handed it over, and says how many messages are lost. Those of the
//! inner transport pass as they are; one that happens while the reader sends what waited too long is an item of the stream,
//! unless it [`is_closed`](crate::Error::is_closed), which both ends of the transport tell anyway.
//!
//! # Cancel safety
//!
//! All state is in the transport: a `send`, `flush` or `next` that is dropped loses no message. Dropping the transport drops
//! what was not flushed.
//!
//! # What it adds to the wire
//!
//! Behind the payloads an index of 1 to 5 bytes a message, 4 bytes for its length and a mark of 8 bytes; nothing to a message
//! that goes alone. `docs/wire.md` has the format.
//!
//! # Cost
//!
//! A packed message is copied once, into memory that is kept between batches up to 4 KiB; a larger batch is one allocation.
//! Where the transport below still holds the last batch, it is one as well. Never one per message. A connection that packs
//! nothing holds no buffer. The timer is set at most once a delay, and never for a message that is flushed before the reader
//! waits again.
//!
//! # Example
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use futures_util::SinkExt;
//! use tower_layer::Layer;
//! use tower_transport::{Message, TransportExt, channel, layer::batch::{BatchLayer, BatchPolicy}};
//!
//! let (near, far) = channel(1);
//! let mut near = BatchLayer::new(BatchPolicy::on_flush(64)).layer(near);
//! let mut far = BatchLayer::default().layer(far);
//!
//! // The channel has room for one message, and gets one.
//! for price in ["101.25", "101.50", "101.75"] {
//!     near.feed(Message::text(price)).await?;
//! }
//! SinkExt::<Message>::flush(&mut near).await?;
//!
//! assert_eq!(far.receive_message().await.unwrap()?, Message::text("101.25"));
//! assert_eq!(far.receive_message().await.unwrap()?, Message::text("101.50"));
//! assert_eq!(far.receive_message().await.unwrap()?, Message::text("101.75"));
//! # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
//! ```
//!
//! In a stack, for messages that may wait a little, from a peer of whom no more than 1,000 messages are taken at once:
//!
//! ```
//! use std::time::Duration;
//! use tower::ServiceBuilder;
//! use tower_transport::{Message, ServiceBuilderExt, channel, layer::batch::{BatchLayer, BatchPolicy}};
//!
//! let (near, far) = channel::<Message, Message>(8);
//! let policy = BatchPolicy::new(256, Duration::from_millis(5)).max_bytes(64 * 1024);
//! let near = ServiceBuilder::new().batch(policy).service(near);
//! let far = ServiceBuilder::new().layer(BatchLayer::new(policy).max_items(1000)).service(far);
//! # drop((near, far));
//! ```
//!
//! # Unlike `tower-batch` and `futures`' `chunks`
//!
//! Those gather requests or items for a handler that takes many at once. Here the peer's side takes them apart again: above
//! the layer nobody sees that there are batches.

mod due;
mod format;
mod layer;
mod outgoing;
mod pack;
mod policy;
mod transport;
mod unpack;

/// The most bytes that this layer adds to a message: the mark behind one that ends like a mark of its own.
#[cfg(all(feature = "optimized", not(target_arch = "wasm32")))]
pub(crate) const OVERHEAD: usize = crate::message::trailer::LEN;

pub use self::{layer::BatchLayer, policy::BatchPolicy, transport::Batched};
