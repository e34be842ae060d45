use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;
use tower_layer::Layer;

/// A layer that is on or off, depending on the negotiation with a peer. tower's `option_layer` only produces services.
#[derive(Clone, Copy, Debug)]
pub(super) struct OptionalLayer<L>(pub(super) Option<L>);

impl<T, L: Layer<T>> Layer<T> for OptionalLayer<L> {
    type Service = Optional<L::Service, T>;

    fn layer(&self, inner: T) -> Self::Service {
        match &self.0 {
            Some(layer) => Optional::On { inner: layer.layer(inner) },
            None => Optional::Off { inner },
        }
    }
}

pin_project! {
    /// A transport with or without a layer. A layer that is off costs one branch.
    #[project = Projected]
    #[derive(Debug)]
    pub(super) enum Optional<A, B> {
        On { #[pin] inner: A },
        Off { #[pin] inner: B },
    }
}

macro_rules! either {
    ($self:ident, $inner:ident => $call:expr) => {
        match $self.project() {
            Projected::On { inner: $inner } => $call,
            Projected::Off { inner: $inner } => $call,
        }
    };
}

impl<A: Stream, B: Stream<Item = A::Item>> Stream for Optional<A, B> {
    type Item = A::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<A::Item>> {
        either!(self, inner => inner.poll_next(cx))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self {
            Self::On { inner } => inner.size_hint(),
            Self::Off { inner } => inner.size_hint(),
        }
    }
}

impl<A: Sink<M>, B: Sink<M, Error = A::Error>, M> Sink<M> for Optional<A, B> {
    type Error = A::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), A::Error>> {
        either!(self, inner => inner.poll_ready(cx))
    }

    fn start_send(self: Pin<&mut Self>, message: M) -> Result<(), A::Error> {
        either!(self, inner => inner.start_send(message))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), A::Error>> {
        either!(self, inner => inner.poll_flush(cx))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), A::Error>> {
        either!(self, inner => inner.poll_close(cx))
    }
}
