use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;

use crate::{Error, Message, Transport, message::trailer, stack::Capabilities};

/// The agreement of the two ends of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agreed {
    /// The capabilities that both ends have on.
    pub(super) capabilities: Capabilities,
    /// The largest message that the peer accepts, in bytes. [`u32::MAX`] if the peer has not announced it.
    pub(super) max_message: u32,
}

pin_project! {
    /// Refuses a message that is larger on the wire than the peer's hello allows, before the peer would close the
    /// connection because of it.
    ///
    /// It sits below the layers that add to each message and survive a connection, and counts what the layers below it
    /// may add.
    #[derive(Debug)]
    pub(super) struct PeerLimit<T> {
        #[pin]
        inner: T,
        most: usize,
        agreed: Agreed,
    }
}

impl<T> PeerLimit<T> {
    pub(super) const fn new(inner: T, most: usize, agreed: Agreed) -> Self {
        Self { inner, most, agreed }
    }

    pub(super) const fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Returns what was agreed on this connection.
    pub(super) const fn agreed(&self) -> Agreed {
        self.agreed
    }
}

/// Returns the maximum size of this message on the wire.
#[inline]
fn size(message: &Message) -> usize {
    match message {
        // A layer below escapes such a message, which makes it longer.
        Message::Binary(payload) if trailer::ends_like_a_mark(payload) => payload.len() + trailer::LEN,
        message => message.len(),
    }
}

fn refused(size: usize, most: usize) -> Error {
    Error::too_large(format!(
        "an outgoing message has {size} bytes on the wire, over the {most} bytes that the peer accepts, and was not \
         sent; send less at once, or raise the peer's limit"
    ))
    .into_rejection()
}

impl<T: Stream> Stream for PeerLimit<T> {
    type Item = T::Item;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T::Item>> {
        self.project().inner.poll_next(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

impl<T: Transport<Message, TransportError = Error>> Sink<Message> for PeerLimit<T> {
    type Error = Error;

    #[inline]
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.project().inner.poll_ready(cx)
    }

    #[inline]
    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.project();
        let size = size(&message);
        // Control messages are bounded by the protocol, and a close must always pass.
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
