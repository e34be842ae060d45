use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;

use crate::{Error, Message, transport::Transport};

trait Object<Out, In>: Sink<Out, Error = Error> + Stream<Item = Result<In, Error>> + Send {}

impl<T, Out, In> Object<Out, In> for T where T: Sink<Out, Error = Error> + Stream<Item = Result<In, Error>> + Send {}

pin_project! {
    // futures' `sink_map_err` panics at the second error. A failed sink must instead fail again when it is polled
    // again.
    struct Erased<T> {
        #[pin]
        inner: T,
    }
}

impl<T, In, E> Stream for Erased<T>
where
    T: Stream<Item = Result<In, E>>,
    E: Into<Error>,
{
    type Item = Result<In, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.project().inner.poll_next(cx).map(|item| item.map(|item| item.map_err(Into::into)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

impl<T, Out> Sink<Out> for Erased<T>
where
    T: Sink<Out, Error: Into<Error>>,
{
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.project().inner.poll_ready(cx).map_err(Into::into)
    }

    fn start_send(self: Pin<&mut Self>, item: Out) -> Result<(), Error> {
        self.project().inner.start_send(item).map_err(Into::into)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.project().inner.poll_flush(cx).map_err(Into::into)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.project().inner.poll_close(cx).map_err(Into::into)
    }
}

/// A transport of any type behind one box, for code that must name or store it.
///
/// It costs a virtual call per operation. Nothing is allocated per message.
pub struct BoxTransport<Out = Message, In = Out>(Pin<Box<dyn Object<Out, In>>>);

impl<Out, In> BoxTransport<Out, In> {
    /// Boxes a transport.
    pub fn new<T>(transport: T) -> Self
    where
        T: Transport<Out, In = In> + Send + 'static,
        Out: Send + 'static,
    {
        Self(Box::pin(Erased { inner: transport }))
    }
}

impl<Out, In> Stream for BoxTransport<Out, In> {
    type Item = Result<In, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<Out, In> Sink<Out> for BoxTransport<Out, In> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.as_mut().poll_ready(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, item: Out) -> Result<(), Error> {
        self.0.as_mut().start_send(item)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.as_mut().poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.as_mut().poll_close(cx)
    }
}

impl<Out, In> fmt::Debug for BoxTransport<Out, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxTransport").finish_non_exhaustive()
    }
}
