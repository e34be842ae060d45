//! Transport layers for each connection that a connector makes.
//!
//! A connector is a service: a request goes in, and a response with a transport as its body comes out. Layers such as
//! tower's timeout wrap the connector. A layer of the message plane (a codec, compression, a heartbeat) must wrap each
//! *transport* instead: this layer reaches into the response and does that.
//!
//! # Where it waits
//!
//! Nowhere by itself.
//!
//! # Where it belongs in the stack
//!
//! Anywhere above the connector. Below [`reconnect`-like layers](crate::Connect), each new connection gets its layers anew, with
//! fresh state. Several `per_connection` stand as any layers do: the first is outermost.
//!
//! # Errors
//!
//! Those of the connector, as they are.
//!
//! # Cancel safety
//!
//! Dropping the future of a call drops the connector's own; nothing else is held.
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
//! # Unlike tower's `map_response`
//!
//! That one takes a function of the whole response. This takes any [`Layer`](tower_layer::Layer), a whole `ServiceBuilder`
//! stack among them, keeps status, headers and extensions, and its type can be named.

mod future;
mod layer;
mod service;

pub use self::{future::ResponseFuture, layer::PerConnectionLayer, service::PerConnection};
