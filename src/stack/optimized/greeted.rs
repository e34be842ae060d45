use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;

use crate::{Error, Message, Transport};

pin_project! {
    /// A transport whose first message was already read while the stack detected whether the peer knows it.
    #[derive(Debug)]
    pub(super) struct Greeted<T> {
        #[pin]
        inner: T,
        first: Option<Box<Message>>,
    }
}

impl<T> Greeted<T> {
    pub(super) fn new(inner: T, first: Option<Message>) -> Self {
        Self { inner, first: first.map(Box::new) }
    }
}

impl<T> Stream for Greeted<T>
where
    T: Transport<Message, In = Message, TransportError = Error>,
{
    type Item = Result<Message, Error>;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        match this.first.take() {
            Some(first) => Poll::Ready(Some(Ok(*first))),
            None => this.inner.poll_next(cx),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.inner.size_hint();
        let held = usize::from(self.first.is_some());
        (least.saturating_add(held), most.and_then(|most| most.checked_add(held)))
    }
}

impl<T> Sink<Message> for Greeted<T>
where
    T: Transport<Message, TransportError = Error>,
{
    type Error = Error;

    #[inline]
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.project().inner.poll_ready(cx)
    }

    #[inline]
    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.project().inner.start_send(message)
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.project().inner.poll_flush(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.project().inner.poll_close(cx)
    }
}
