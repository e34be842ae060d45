//! Sends many small messages as one.
//!
//! # Why
//!
//! The bytes of a small message cost almost nothing compared with its frame: headers, system calls and wake-ups at both
//! ends. With 64 messages packed into a frame, those costs are paid once. The benchmark `throughput` has the figures.
//!
//! # When a batch is sent
//!
//! | | |
//! |---|---|
//! | a flush, or a close | sends waiting messages at once; a single message is sent as it is, uncopied |
//! | the batch is full | by count or bytes ([`BatchPolicy`]): it goes to the transport below, which may hold it |
//! | the delay is over | messages that were not flushed are sent and flushed, at most `delay` after the oldest one |
//!
//! A flushed message is never held back, unlike with Nagle's algorithm: `send` is a feed and a flush, and a lone
//! message leaves as soon as without this layer. To get batches, feed several messages and flush once. A
//! [`Driver`](crate::Driver) does this: it feeds everything that its senders have queued, so bursts are packed and
//! single messages are not delayed. Below a driver, use [`BatchPolicy::on_flush`] to avoid the timer.
//!
//! The delay is enforced by the task that polls the stream, which a transport needs anyway. While that task handles a
//! message, what is due waits for its next poll. If no task polls it, the
//! next `poll_ready` after the delay sends, and the delay then starts with the second message of a batch.
//!
//! # Handling of messages
//!
//! | outgoing | |
//! |---|---|
//! | text, binary | waits, and keeps its order |
//! | text, binary over [`max_bytes`], or from [`alone_from`] on | is sent alone, uncopied, after those that wait |
//! | ping, pong | overtakes waiting messages |
//! | close | is sent after waiting messages |
//!
//! | incoming | |
//! |---|---|
//! | a batch | is validated as a whole, then delivered message by message, as slices of the payload |
//! | any other message | passes: a peer without this layer is understood |
//! | an invalid batch | is one error, and none of its messages is delivered; the stream goes on |
//!
//! An unpacked message keeps the memory of its whole batch as long as it lives. The contents of a batch are not
//! unpacked again, even if a message in it is a batch.
//!
//! A peer that does not unpack must not be sent batches. Use [`BatchLayer::receive_only`] if the handshake shows that
//! the peer does not.
//!
//! # Backpressure
//!
//! `poll_ready` waits for room in the transport below, as if each message went there. In addition to the batch that is
//! being filled, the layer holds at most one batch that has waited too long and one larger message. `poll_flush` and
//! `poll_close` wait for room for the waiting messages, then for the inner transport's flush or close.
//!
//! # Position in the stack
//!
//! The layer goes below the codec, and above compression and everything that counts or limits frames. Similar messages
//! compress better together, but the length of data that is compressed together reveals what it has in common; see
//! `layer::compression`, *Secrets*. A rate limit per message goes above it. Put only layers above it that tolerate a
//! message being accepted before the transport sees it.
//!
//! # Errors
//!
//! Returns an error for which [`is_protocol`](crate::Error::is_protocol) is true if a batch of the peer is invalid; its
//! message states the defect. Returns an error for which [`is_too_large`](crate::Error::is_too_large) is true if a
//! batch has more messages than [`BatchLayer::max_items`]. Both are [rejections](crate::Error::is_rejection): the
//! stream goes on. If the transport below refuses a batch, the call that handed it over returns the error, which states
//! how many messages are lost. Errors of the inner transport are passed on. If one occurs while the reader sends
//! messages that waited too long, it is an item of the stream, unless [`is_closed`](crate::Error::is_closed) is true
//! for it, which both ends of the transport report anyway.
//!
//! # Cancel safety
//!
//! All state is in the transport: dropping a `send`, `flush` or `next` loses no message. Dropping the transport drops
//! messages that were not flushed.
//!
//! # On the wire
//!
//! After the payloads, the layer adds an index of 1 to 5 bytes a message, 4 bytes for its length and a mark of 8 bytes.
//! It adds nothing to a message that is sent alone. [`docs/wire.md`](crate::guide::wire) documents the format.
//!
//! # Cost
//!
//! A packed message is copied once, into memory that is kept between batches up to 4 KiB. A larger batch costs one
//! allocation, and so does a batch while the transport below still holds the last one. There is never an allocation per
//! message. A connection that packs nothing holds no buffer. The timer is set at most once per delay, and never for a
//! message that is flushed before the reader waits again.
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
//! // The channel has room for one message and gets one.
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
//! In a stack, for messages that may wait a little, accepting at most 1,000 messages per batch from the peer:
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
//! # Compared with `tower-batch` and `futures`' `chunks`
//!
//! `tower-batch` and `chunks` gather requests or items for a handler that takes many at once. Here the peer takes the
//! batches apart again, and the layers above do not see them.
//!
//! [`max_bytes`]: BatchPolicy::max_bytes
//! [`alone_from`]: BatchPolicy::alone_from

mod policy;
mod sink;
mod transport;
mod wire;

/// The maximum number of bytes that this layer adds to a message: the mark behind a message that ends like a mark.
#[cfg(feature = "optimized")]
pub(crate) const OVERHEAD: usize = crate::message::trailer::LEN;

pub use self::{
    policy::BatchPolicy,
    transport::{BatchLayer, Batched},
};
