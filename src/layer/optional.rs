//! A layer that is on or off, decided at run time.
//!
//! # Why
//!
//! A setting or a negotiation with the peer may decide whether a transport has a layer. With and without it, the
//! transport has different types. [`Optional`] is one type for both.
//!
//! # Backpressure
//!
//! The layer adds no waiting.
//!
//! # Position in the stack
//!
//! The layer goes wherever the optional layer does. That layer must not change the type of the messages or of the
//! error, so a codec cannot be optional, and most layers need a transport whose error is [`Error`](crate::Error) below.
//!
//! # Errors
//!
//! Returns the errors of the transport with or without the layer, unchanged.
//!
//! # Cancel safety
//!
//! The layer holds nothing. The cancel safety is that of the transport with or without the layer.
//!
//! # On the wire
//!
//! The layer adds nothing.
//!
//! # Cost
//!
//! One branch per call. The type is as large as the larger of the two transports.
//!
//! # Example
//!
#![cfg_attr(feature = "compression", doc = "```")]
#![cfg_attr(not(feature = "compression"), doc = "```ignore")]
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use tower::ServiceBuilder;
//! use tower_transport::{
//!     Message, ServiceBuilderExt, TransportExt, channel,
//!     layer::compression::{CompressionLayer, Deflate},
//! };
//!
//! let is_slow_line = false;
//! let stack = ServiceBuilder::new().optional(is_slow_line.then(|| CompressionLayer::new(Deflate::new())));
//! let (near, mut far) = channel::<Message, Message>(8);
//! let mut transport = stack.service(near);
//! transport.send_message(Message::text("plain")).await?;
//! assert_eq!(far.receive_message().await.unwrap()?, Message::text("plain"));
//! assert!(!transport.is_on());
//! # Ok::<(), tower_transport::Error>(()) }).unwrap();
//! ```
//!
//! # Compared with tower's `option_layer`
//!
//! tower's `option_layer` and `Either` are for services. `Either` is neither a `Sink` nor a `Stream`. Use them on the
//! connector and for services, and this layer for transports.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;
use tower_layer::Layer;

/// A layer that may be absent. See the [module](self) for the complete documentation.
#[derive(Clone, Copy, Debug)]
pub struct OptionalLayer<L> {
    layer: Option<L>,
}

impl<L> OptionalLayer<L> {
    /// Creates a layer that applies `layer` if it is `Some`.
    #[must_use]
    pub const fn new(layer: Option<L>) -> Self {
        Self { layer }
    }
}

impl<L> From<Option<L>> for OptionalLayer<L> {
    fn from(layer: Option<L>) -> Self {
        Self::new(layer)
    }
}

impl<T, L: Layer<T>> Layer<T> for OptionalLayer<L> {
    type Service = Optional<L::Service, T>;

    fn layer(&self, transport: T) -> Self::Service {
        match &self.layer {
            Some(layer) => Optional::On { transport: layer.layer(transport) },
            None => Optional::Off { transport },
        }
    }
}

pin_project! {
    /// A transport with or without a layer, created by [`OptionalLayer`]: `A` with it, `B` without it. Any two
    /// transports of the same messages and errors fit.
    #[project = Projected]
    #[derive(Clone, Copy, Debug)]
    #[allow(missing_docs, reason = "the macro takes no comments on fields; their variants describe them")]
    pub enum Optional<A, B> {
        /// The transport with the layer.
        On { #[pin] transport: A },
        /// The transport without the layer.
        Off { #[pin] transport: B },
    }
}

impl<A, B> Optional<A, B> {
    /// Returns whether the layer is on.
    #[must_use]
    pub const fn is_on(&self) -> bool {
        matches!(self, Self::On { .. })
    }
}

macro_rules! either {
    ($self:ident, $inner:ident => $call:expr) => {
        match $self.project() {
            Projected::On { transport: $inner } => $call,
            Projected::Off { transport: $inner } => $call,
        }
    };
}

impl<A: Stream, B: Stream<Item = A::Item>> Stream for Optional<A, B> {
    type Item = A::Item;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<A::Item>> {
        either!(self, transport => transport.poll_next(cx))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::On { transport } => transport.size_hint(),
            Self::Off { transport } => transport.size_hint(),
        }
    }
}

impl<A: Sink<M>, B: Sink<M, Error = A::Error>, M> Sink<M> for Optional<A, B> {
    type Error = A::Error;

    #[inline]
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), A::Error>> {
        either!(self, transport => transport.poll_ready(cx))
    }

    #[inline]
    fn start_send(self: Pin<&mut Self>, message: M) -> Result<(), A::Error> {
        either!(self, transport => transport.start_send(message))
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), A::Error>> {
        either!(self, transport => transport.poll_flush(cx))
    }

    #[inline]
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), A::Error>> {
        either!(self, transport => transport.poll_close(cx))
    }
}
