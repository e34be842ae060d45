//! A layer that does nothing: what a layer costs by being there.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;
use tower_layer::Layer;

#[derive(Clone, Copy)]
pub(crate) struct PassThroughLayer;

impl<T> Layer<T> for PassThroughLayer {
    type Service = PassThrough<T>;

    fn layer(&self, inner: T) -> PassThrough<T> {
        PassThrough { inner }
    }
}

pin_project! {
    pub(crate) struct PassThrough<T> {
        #[pin]
        inner: T,
    }
}

impl<T: Sink<M>, M> Sink<M> for PassThrough<T> {
    type Error = T::Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.project().inner.poll_ready(cx)
    }

    fn start_send(self: Pin<&mut Self>, message: M) -> Result<(), T::Error> {
        self.project().inner.start_send(message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.project().inner.poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), T::Error>> {
        self.project().inner.poll_close(cx)
    }
}

impl<T: Stream> Stream for PassThrough<T> {
    type Item = T::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T::Item>> {
        self.project().inner.poll_next(cx)
    }
}
