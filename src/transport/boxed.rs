use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;

use super::{Foreign, Transport};
use crate::{Error, MaybeSend, Message};

trait Object<Out, In>: Sink<Out, Error = Error> + Stream<Item = Result<In, Error>> + MaybeSend {}

impl<T: Sink<Out, Error = Error> + Stream<Item = Result<In, Error>> + MaybeSend, Out, In> Object<Out, In> for T {}

/// A transport of any type behind one box, for code that must name or store it.
///
/// It costs a virtual call per operation. Nothing is allocated per message.
pub struct BoxTransport<Out = Message, In = Out>(Pin<Box<dyn Object<Out, In>>>);

impl<Out, In> BoxTransport<Out, In> {
    /// Boxes a transport.
    pub fn new<T>(transport: T) -> Self
    where
        T: Transport<Out, In = In> + MaybeSend + 'static,
        Out: MaybeSend + 'static,
    {
        Self(Box::pin(Foreign::with(transport, Into::into, Into::into)))
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

debug_fields!([Out, In] BoxTransport<Out, In> {});
