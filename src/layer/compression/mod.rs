//! Deflate for each message, on any transport.
//!
//! Outgoing messages that are large enough are sent compressed if that makes them smaller; incoming ones are inflated.
//! Text stays text, binary stays binary, and control messages pass.
//!
//! # Why
//!
//! JSON shrinks to a third or a half. Compression costs more processor time than a system call. It pays off if the
//! network is slow, metered, or the bottleneck; it does not within one machine.
//!
//! # Handling of messages
//!
//! | outgoing | |
//! |---|---|
//! | text or binary, from [`min_size`] on | is compressed whole in `start_send`, or sent plain if it does not shrink |
//! | smaller, or over [`max_inflated`](Deflate::max_inflated) | is sent plain, without a copy |
//! | a batch, with [`batches`](Deflate::batches) off | is sent plain, without a copy |
//!
//! | incoming | |
//! |---|---|
//! | compressed | is inflated, within limits |
//! | plain | passes, without a copy: a peer that compresses nothing is understood |
//! | compressed, and over a limit or invalid | is an error item |
//!
//! For a peer that does not know compression, set [`receive_only`](Deflate::receive_only): nothing is compressed then.
//!
//! # Bounds against the peer
//!
//! Each compressed message states its inflated length. A message that claims more than
//! [`max_inflated`](Deflate::max_inflated) (4 MiB), or more than [`max_ratio`](Deflate::max_ratio) (200) times its size
//! on the wire, is refused before anything is inflated or allocated. Inflating stops at the claimed length. A message
//! therefore costs at most its limit, and 64 KiB. A compressed message within a compressed message is not inflated
//! again.
//!
//! # Backpressure
//!
//! The layer never waits on its own account: `poll_ready`, `poll_flush` and `poll_close` are the inner transport's.
//! `start_send` and `poll_next` compress and inflate in place; `cargo bench -p benches --bench overhead` has the time
//! for 2 KiB. After a final refusal the stream ends once the close message is flushed and the inner transport closed.
//!
//! # Position in the stack
//!
//! Below everything that creates messages (a codec) or makes them larger (a batch shrinks better than its parts), above
//! everything that counts bytes of the wire. With [`keep_context`](Deflate::keep_context) also below everything that
//! drops, repeats or reorders (a queue, resume), and below a reconnect, in the stack per connection, so that each
//! connection begins with a context of its own.
//!
//! # Errors
//!
//! | incoming message | error | then |
//! |---|---|---|
//! | over a limit | [`is_too_large`](crate::Error::is_too_large); names the limit and its setter | the stream goes on |
//! | deflate data that is invalid, cut or longer than claimed; text not in UTF-8 | [`is_codec`] | the stream goes on |
//! | an unknown kind of compression | [`is_protocol`](crate::Error::is_protocol) | the stream goes on |
//! | one of the first two, referring to a kept context | the same | 1009 or 1007: no later one could be inflated |
//! | a kept context, which this end does not keep | [`is_protocol`] | the transport is closed with 1002 |
//!
//! After such a close the sink returns errors for which [`is_closed`](crate::Error::is_closed) is true, with the close
//! frame and with the refusal as their source. Errors after which the stream goes on are
//! [rejections](crate::Error::is_rejection) of one message. Errors of the inner transport are passed on. After a failed
//! `start_send`, no later message refers to the one that was not sent.
//!
//! Only the receiving end sees a rejection. The sender is not told, because a close with 1009 would end its connection,
//! and a reconnecting client permanently. If the sender has to know, answer in the protocol of the application, or
//! close with 1009 (`Sender::close`, or a close message). `OptimizedTransport` tells its peer the limit when it
//! connects, so the sender refuses such a message itself.
//!
//! # Cancel safety
//!
//! All state is in the transport: dropping a `send` or a `next` loses no message. A message is compressed when the
//! transport takes it, never before.
//!
//! # On the wire
//!
//! A compressed message is a binary message: raw deflate data, the length in 4 bytes and a
//! [mark](crate::guide::wire) of 8 bytes. Any zlib reads and
//! writes it. A plain message is unchanged, unless it is binary and ends in this layer's own mark: it gets 8 more
//! bytes. This is not the WebSocket extension of RFC 7692, and a browser needs a few lines to read it; in return it
//! works on every transport.
//!
//! # Cost
//!
//! - **Time**: that of the library with a reset state, and less than 5% more: `cargo bench -p benches --bench overhead`
//!   has both rows.
//! - **Allocations**: the payload, once on each end, of exactly its size. Over 64 KiB the compressed payload is
//!   allocated larger and trimmed. None for messages that pass or do not shrink (over 64 KiB: one, which is freed at
//!   once).
//! - **Memory**: one zlib state for each thread that compresses or inflates (371 and 47 KiB), with a buffer of at most
//!   72 KiB, for all connections, until the thread ends. An idle connection holds none of it. With
//!   [`keep_context`](Deflate::keep_context) each connection holds its own: about 420 KiB.
//! - **Library**: zlib-rs, through flate2, in pure Rust, with the SIMD that it detects at run time. It is as fast as
//!   zlib-ng or faster. An application that enables a C library for flate2 (`flate2/zlib-ng`) gets that one here too,
//!   and can compare: `cargo bench -p benches --features flate2/zlib-ng --bench overhead`.
//!
//! # Secrets
//!
//! The length of data that is compressed together reveals what it has in common. If somebody can observe the lengths on
//! the wire, keep secrets and text that an attacker chooses apart: not in one message, not in one batch of the layer
//! above (unless [`Deflate::batches`] is off) and, with a kept context, not on one connection.
//!
//! # Example
//!
//! ```
//! # futures_util::FutureExt::now_or_never(async {
//! use tower::ServiceBuilder;
//! use tower_transport::{Message, ServiceBuilderExt, TransportExt, channel, layer::compression::Deflate};
//!
//! let (near, far) = channel::<Message, Message>(8);
//! let stack = ServiceBuilder::new().compress(Deflate::new());
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
//! With a kept context for small messages that resemble each other, and with a limit that a peer exceeds:
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
//!     let order =
//!         format!(r#"{{"id":{id},"side":"buy","symbol":"ACME","price":"101.25","size":300,"account":"main"}}"#);
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
//! tower-http compresses the body of an HTTP response as a stream, in the encoding that the request's `Accept-Encoding`
//! names. Its counterpart `DecompressionLayer` does not limit the inflated size. Here each message is compressed on its
//! own, nothing is negotiated (the two ends are configured alike, or one only receives), and the limits are on by
//! default.
//!
//! [`min_size`]: Deflate::min_size
//!
//! [`is_codec`]: crate::Error::is_codec
//! [`is_protocol`]: crate::Error::is_protocol

mod compressor;
mod deflate;
mod inflater;
mod stats;
mod transport;
mod wire;

pub use self::{
    deflate::Deflate,
    stats::{Stats, Volume},
    transport::{Compressed, CompressionLayer},
};
pub use crate::zlib::Level;
