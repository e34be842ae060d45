//! Transport layers for each connection that a connector makes.
//!
//! A connector is a service: it takes a request, and returns a response with a transport as its body. Layers such as
//! tower's timeout wrap the connector. A layer for messages (a codec, compression, a heartbeat) must wrap each
//! *transport* instead. This layer applies it to the transport in the response.
//!
//! # Backpressure
//!
//! The layer adds no waiting.
//!
//! # Position in the stack
//!
//! The layer goes anywhere above the connector. Below [`reconnect`-like layers](crate::Connect), each new connection
//! gets its layers again, with fresh state. Several `per_connection` layers nest as any layers do: the first is
//! outermost.
//!
//! # Errors
//!
//! Returns the errors of the connector unchanged.
//!
//! # Cancel safety
//!
//! Dropping the future of a call drops the connector's future; nothing else is held.
//!
//! # Example
//!
//! ```
//! # #[cfg(feature = "rkyv")]
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use std::time::Duration;
//! use tower::{ServiceBuilder, ServiceExt, service_fn, timeout::TimeoutLayer};
//! use tower_transport::{
//!     Error, Message, ServiceBuilderExt, TransportExt, channel,
//!     codec::RkyvCodec,
//!     layer::codec::CodecLayer,
//! };
//!
//! let (near, mut far) = channel::<Message, Message>(8);
//! let mut near = Some(near);
//! let connector = service_fn(move |_: http::Request<()>| {
//!     let transport = near.take().ok_or_else(|| Error::refused("one connection only"));
//!     async { transport.map(http::Response::new) }
//! });
//!
//! let connector = ServiceBuilder::new()
//!     .per_connection(CodecLayer::new(RkyvCodec::<String>::new()))
//!     .layer(TimeoutLayer::new(Duration::from_secs(5))) // on the connect
//!     .service(connector);
//!
//! let mut transport = connector.oneshot(http::Request::new(())).await?.into_body();
//! transport.send_message("typed".to_owned()).await?;
//! assert!(matches!(far.receive_message().await, Some(Ok(Message::Binary(_)))));
//! # Ok::<(), tower_transport::BoxError>(()) }).unwrap();
//! ```
//!
//! # Compared with tower's `map_response`
//!
//! `map_response` takes a function of the whole response. This layer takes any [`Layer`](tower_layer::Layer), including
//! a whole `ServiceBuilder` stack. It keeps status, headers and extensions, and its type can be named.

mod future;
mod layer;
mod service;

pub use self::{future::ResponseFuture, layer::PerConnectionLayer, service::PerConnection};
