//! Deflate for each message, on any transport.
//!
//! Outgoing messages that are large enough go out compressed, where that makes them smaller; incoming ones come in as they were.
//! Text stays text, binary binary, and control messages pass.
//!
//! # Why
//!
//! JSON shrinks to a third or a half. That costs processor time, more than a system call: worth it where the
//! network is slow, is paid for, or is what limits; not within one machine.
//!
//! # What becomes of a message
//!
//! | outgoing | |
//! |---|---|
//! | text or binary, from [`min_size`](Deflate::min_size) on | is compressed in `start_send` and flushed whole, so that one message in is one message out; if it does not shrink, it goes out as it is |
//! | smaller, or over [`max_inflated`](Deflate::max_inflated) | goes out as it is, without a copy |
//! | a batch, where [`batches`](Deflate::batches) are off | goes out as it is, without a copy |
//!
//! | incoming | |
//! |---|---|
//! | compressed | is inflated, within limits |
//! | plain | passes, without a copy: a peer that compresses nothing is understood |
//! | compressed, and over a limit, or broken | is an error item |
//!
//! A peer that does not know compression at all needs [`receive_only`](Deflate::receive_only) here: then nothing is compressed.
//!
//! # What a peer can make this end do
//!
//! Each compressed message says how long it is. One that says more than [`max_inflated`](Deflate::max_inflated) (4 MiB) or more than
//! [`max_ratio`](Deflate::max_ratio) (200) times what it has on the wire is refused before anything is inflated or allocated; one that
//! holds more than it says is cut off there. So it costs at most its limit, and 64 KiB. A compressed message
//! within a compressed message is not opened again.
//!
//! # Where it waits
//!
//! Nowhere by itself: `poll_ready`, `poll_flush` and `poll_close` are the inner transport's. `start_send` and `poll_next` compress
//! and inflate on the spot; `cargo bench -p benches --bench overhead` has the time for 2 KiB. After a
//! final refusal the stream ends once the close message is flushed and the inner transport closed.
//!
//! # Where it belongs in the stack
//!
//! Below what makes messages (a codec) or makes them larger (a batch shrinks better than its parts), above what counts bytes of
//! the wire. With [`keep_context`](Deflate::keep_context) also below everything that drops, repeats or reorders (a queue, resume),
//! and below a reconnect, in the stack per connection, so that each connection begins with a context of its own.
//!
//! # Errors
//!
//! | what came | the error | then |
//! |---|---|---|
//! | over a limit | [`is_too_large`](crate::Error::is_too_large), names the limit and its setter | the stream goes on |
//! | no deflate data, cut, longer than it says, text that is not UTF-8 | [`is_codec`](crate::Error::is_codec) | the stream goes on |
//! | a kind of compression that is not known | [`is_protocol`](crate::Error::is_protocol) | the stream goes on |
//! | one of the first two, referring to a kept context | the same | the transport is closed with 1009 or 1007: nothing that follows could be inflated |
//! | a kept context, which this end does not keep | [`is_protocol`](crate::Error::is_protocol) | the transport is closed with 1002 |
//!
//! After such a close the sink's errors are [`is_closed`](crate::Error::is_closed), with the close frame, and the refusal as their source.
//! The errors after which the stream goes on are [rejections](crate::Error::is_rejection) of one message. A connection that must not survive
//! them is closed by whoever reads them. Errors
//! of the inner transport pass as they are; after a failed `start_send` nothing refers to the message that was not sent.
//!
//! # Cancel safety
//!
//! All state is in the transport: a future over it (`send`, `next`) that is dropped loses no message. A message is compressed when
//! the transport takes it, never before.
//!
//! # What it adds to the wire
//!
//! A compressed message is a binary message: raw deflate data, the length in 4 bytes and a [mark](https://github.com/tower-transport/tower-transport/blob/main/docs/wire.md)
//! of 8. Any zlib reads and writes it. A plain message is not touched, unless it is binary and happens to end in this layer's own
//! mark: that one gets 8 bytes more. This is not the WebSocket extension of RFC 7692, and a browser needs a few lines to
//! read it; in return it works on every transport.
//!
//! # Cost
//!
//! - **Time**: that of the library, with a reset state, and less than 5% more: `cargo bench -p benches --bench overhead` has both rows.
//! - **Allocations**: the payload, once on each end, of exactly its size. Over 64 KiB the compressed payload is allocated larger and
//!   trimmed. Nothing for messages that pass, or do not shrink (over 64 KiB: one, that is freed at once).
//! - **Memory**: the state of zlib is one for each thread that compresses or inflates (371 and 47 KiB), with a buffer of at most
//!   72 KiB, for all connections; it stays until the thread ends. An idle connection holds none of it. With
//!   [`keep_context`](Deflate::keep_context) each connection holds its own: about 420 KiB.
//! - **The library** is zlib-rs, by flate2, in pure Rust and with the SIMD that it finds at run time. It is there for being as fast as zlib-ng
//!   or faster. An application that turns on a C library for flate2 (`flate2/zlib-ng`) gets that one here too, and can compare:
//!   `cargo bench -p benches --features flate2/zlib-ng --bench overhead`.
//!
//! # Secrets
//!
//! What is compressed together tells of each other by its length. A secret and text that an attacker chooses must not stand in one
//! message, nor in one batch of the layer above (unless [`Deflate::batches`] is off), nor, with a kept context, on one connection, where
//! somebody sees the lengths on the wire.
//!
//! # Example
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use tower::ServiceBuilder;
//! use tower_transport::{Message, ServiceBuilderExt, TransportExt, channel, layer::compression::Deflate};
//!
//! let (near, far) = channel::<Message, Message>(8);
//! let stack = ServiceBuilder::new().compression(Deflate::new());
//! let (mut near, mut far) = (stack.clone().service(near), stack.service(far));
//!
//! near.send_message(Message::text("so it goes, ".repeat(100))).await?;
//! assert_eq!(far.receive_message().await.unwrap()?.len(), 1200);
//!
//! let sent = near.stats().sent();
//! assert_eq!(sent.plain_bytes, 1200);
//! assert!(sent.compressed_bytes < 100);
//! # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
//! ```
//!
//! Of small messages that resemble each other, between two ends that both say so; and a limit that a peer breaks:
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use tower::Layer;
//! use tower_transport::{Message, TransportExt, channel};
//! use tower_transport::layer::compression::{CompressionLayer, Deflate, Level};
//!
//! let layer = CompressionLayer::new(
//!     Deflate::new().level(Level::BALANCED).min_size(64).max_inflated(100_000).keep_context(),
//! );
//! let stats = layer.stats(); // to be read while a driver owns the transport
//! let (near, far) = channel::<Message, Message>(8);
//! let (mut near, mut far) = (layer.layer(near), layer.layer(far));
//!
//! for id in 0..100 {
//!     let order = format!(r#"{{"id":{id},"side":"buy","symbol":"ACME","price":"101.25","size":300,"account":"main"}}"#);
//!     near.send_message(Message::text(order.clone())).await?;
//!     assert_eq!(far.receive_message().await.unwrap()?, Message::text(order));
//! }
//! assert!(stats.sent().ratio().unwrap() > 2.5);
//!
//! let generous = CompressionLayer::new(Deflate::new());
//! let (here, there) = channel::<Message, Message>(8);
//! let (mut here, mut there) = (layer.layer(here), generous.layer(there));
//! there.send_message(Message::text("so it goes, ".repeat(10_000))).await?;
//! let error = here.receive_message().await.unwrap().unwrap_err();
//! assert!(error.is_too_large() && error.to_string().contains("max_inflated"));
//! # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
//! ```
//!
//! # Unlike tower-http's `CompressionLayer`
//!
//! That one compresses the body of an HTTP response as a stream, in the encoding that the request's `Accept-Encoding` names, and its
//! counterpart `DecompressionLayer` has no limit on what comes out. Here each message is compressed by itself, nothing is
//! negotiated (the two ends are set up alike, or one only receives), and the limits are on by default.

mod deflate;
mod incoming;
mod layer;
mod level;
mod outgoing;
mod per_thread;
mod stats;
mod transport;
mod wire;

pub use self::{
    deflate::Deflate,
    layer::CompressionLayer,
    level::Level,
    stats::{Stats, Volume},
    transport::Compressed,
};
