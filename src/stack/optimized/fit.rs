use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;

use crate::{Error, Message, Transport, message::trailer, stack::Capabilities};

pin_project! {
    /// Refuses a message that is larger on the wire than the peer's hello allows, before the peer would close the
    /// connection because of it.
    ///
    /// It sits below the layers that add to each message and survive a connection, and counts what the layers below it
    /// may add.
    #[derive(Debug)]
    pub(super) struct Fit<T> {
        #[pin]
        inner: T,
        most: usize,
        agreed: (Capabilities, u32),
    }
}

impl<T> Fit<T> {
    pub(super) const fn new(inner: T, most: usize, agreed: (Capabilities, u32)) -> Self {
        Self { inner, most, agreed }
    }

    pub(super) const fn get_ref(&self) -> &T {
        &self.inner
    }

    /// What is on between the ends of this connection, and the largest message that the peer takes.
    pub(super) const fn agreed(&self) -> (Capabilities, u32) {
        self.agreed
    }
}

/// Returns the maximum size of this message on the wire.
#[inline]
fn size(message: &Message) -> usize {
    match message {
        Message::Binary(payload) if trailer::ends_like_a_mark(payload) => payload.len() + trailer::LEN,
        message => message.len(),
    }
}

#[cold]
fn refused(size: usize, most: usize) -> Error {
    Error::too_large(format!(
        "an outgoing message has {size} bytes on the wire, over the {most} bytes that the peer accepts, and was not sent; send less at \
         once, or raise the peer's limit"
    ))
    .into_rejection()
}

impl<T: Stream> Stream for Fit<T> {
    type Item = T::Item;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T::Item>> {
        self.project().inner.poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

impl<T: Transport<Message, TransportError = Error>> Sink<Message> for Fit<T> {
    type Error = Error;

    #[inline]
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.project().inner.poll_ready(cx)
    }

    #[inline]
    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.project();
        let size = size(&message);
        if size > *this.most && message.is_data() {
            return Err(refused(size, *this.most));
        }
        this.inner.start_send(message)
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.project().inner.poll_flush(cx)
    }

    #[inline]
    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.project().inner.poll_close(cx)
    }
}
