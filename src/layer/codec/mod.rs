//! Typed values in place of messages.
//!
//! Turns a transport of [`Message`](crate::Message)s into a transport of the values of a
//! [`Codec`](crate::codec::Codec).
//!
//! # Why
//!
//! Above this layer nobody handles bytes, forgets that a ping may arrive where an order was expected, or guesses why a
//! stream ended.
//!
//! # Handling of messages
//!
//! | outgoing | |
//! |---|---|
//! | a value | is encoded in `start_send`, and sent |
//! | a value that was [encoded before](crate::codec::EncodeOnce), for many connections | is sent as it is |
//! | a value that cannot be encoded | is an error of `start_send` ([`is_codec`]); nothing is sent, the sink goes on |
//!
//! | incoming | |
//! |---|---|
//! | text, binary | is decoded and delivered |
//! | a bad payload | is an error ([`is_codec`]); the stream goes on, or ends with 1007 ([`close_on_bad_payload`]) |
//! | ping, pong | is skipped, at most 128 of them in one poll; answering is the transport's business |
//! | close | ends the stream with `None`; [`Coded::close_frame`] and the sink's error have the code and the reason |
//!
//! # Backpressure
//!
//! The layer never waits on its own account: `poll_ready`, `poll_flush` and `poll_close` are the inner transport's.
//! After a bad payload under [`close_on_bad_payload`](CodecLayer::close_on_bad_payload), the stream ends once the close
//! message is flushed and the inner transport closed. With a peer that does not read, that takes as long as the
//! transport's [`close`](crate::Limits::close) limit.
//!
//! # Position in the stack
//!
//! Outermost of all layers for messages (compression, heartbeat): added first. Layers for values (a filter, a batch by
//! key) go above it.
//!
//! # Errors
//!
//! Returns errors for which [`is_codec`](crate::Error::is_codec) or [`is_closed`](crate::Error::is_closed) is true.
//! Errors of the inner transport are passed on.
//!
//! # Cancel safety
//!
//! All state is in the transport: dropping a `send` or a `next` loses no message. A value is encoded when the transport
//! takes it, never before.
//!
//! # On the wire
//!
//! The layer adds nothing to the codec's output.
//!
//! # Example
//!
//! ```
//! # #[cfg(feature = "rkyv")]
//! # futures_util::FutureExt::now_or_never(async {
//! use tower::ServiceBuilder;
//! use tower_transport::{ServiceBuilderExt, TransportExt, channel, codec::RkyvCodec};
//!
//! let (near, far) = channel(8);
//! let stack = ServiceBuilder::new().codec(RkyvCodec::<String, u32>::new());
//! let mut near = stack.service(near);
//! let mut far = ServiceBuilder::new().codec(RkyvCodec::<u32, String>::new()).service(far);
//!
//! near.send_message("how many?".to_owned()).await?;
//! assert_eq!(far.receive_message().await.unwrap()?, "how many?");
//! far.send_message(3).await?;
//! assert_eq!(near.receive_message().await.unwrap()?, 3);
//! # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
//! ```
//!
//! With a peer whose first bad payload ends the connection:
//!
//! ```
//! # #[cfg(feature = "rkyv")]
//! # futures_util::FutureExt::now_or_never(async {
//! use tower::Layer;
//! use tower_transport::{
//!     CloseCode, Message, TransportExt, channel,
//!     codec::RkyvCodec,
//!     layer::codec::CodecLayer,
//! };
//!
//! let (near, mut far) = channel(8);
//! let layer = CodecLayer::new(RkyvCodec::<u32>::new()).close_on_bad_payload();
//! let mut near = layer.layer(near);
//!
//! far.send_message(Message::text("three")).await?;
//! assert!(near.receive_message().await.unwrap().unwrap_err().is_codec());
//! assert!(near.receive_message().await.is_none());
//!
//! let Some(Ok(Message::Close(Some(frame)))) = far.receive_message().await else { panic!("no close message") };
//! assert_eq!(frame.code(), CloseCode::INVALID_PAYLOAD);
//! # Ok::<(), tower_transport::Error>(()) }).unwrap().unwrap();
//! ```
//!
//! # Unlike `tokio_util::codec::Framed`
//!
//! `Framed` cuts a stream of bytes into frames. Here the transport has done so already: a codec sees whole messages,
//! and a message that cannot be decoded costs that message alone.
//!
//! [`is_codec`]: crate::Error::is_codec
//! [`close_on_bad_payload`]: CodecLayer::close_on_bad_payload

mod transport;

pub use self::transport::{CodecLayer, Coded};
