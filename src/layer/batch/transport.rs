use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;

use super::{
    BatchPolicy,
    outgoing::Outgoing,
    pack::Pack,
    unpack::{self, Incoming, Unpack},
};
use crate::{Error, Message, Transport};

/// The number of messages that may come in, one after another, before the layer checks for outgoing messages that have
/// waited too long.
const LOOK: u8 = 64;

pin_project! {
    /// A transport that batches small messages, created by [`BatchLayer`](super::BatchLayer).
    ///
    /// The [module](super) documents when a batch is sent.
    #[derive(Debug)]
    pub struct Batched<T> {
        #[pin]
        inner: T,
        outgoing: Option<Outgoing>,
        incoming: Unpack,
        max_items: usize,
        given: u8,
    }
}

impl<T> Batched<T> {
    pub(super) fn new(inner: T, pack: Option<Pack>, max_items: usize) -> Self {
        Self { inner, outgoing: pack.map(Outgoing::new), incoming: Unpack::default(), max_items, given: 0 }
    }

    /// Returns the policy. `None` if the layer [only receives](super::BatchLayer::receive_only) batches.
    #[must_use]
    pub fn policy(&self) -> Option<&BatchPolicy> {
        self.outgoing.as_ref().map(Outgoing::policy)
    }

    /// Returns the number of messages that wait in the unfinished batch.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.outgoing.as_ref().map_or(0, Outgoing::waiting)
    }

    /// Returns a reference to the inner transport.
    #[must_use]
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Returns a mutable reference to the inner transport. A message sent there overtakes waiting messages, and a
    /// message received there may be a batch.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Returns the inner transport. Waiting messages that were not flushed are dropped, and so is the unread part of
    /// the last batch.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<T> Stream for Batched<T>
where
    T: Transport<Message, In = Message>,
{
    type Item = Result<Message, Error>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.as_mut().project();
        *this.given = this.given.wrapping_add(1);
        if let Some(outgoing) = this.outgoing
            && this.given.is_multiple_of(LOOK)
        {
            outgoing.poll_due(this.inner.as_mut(), cx)?;
        }
        if !this.incoming.is_empty()
            && let Some(message) = this.incoming.next()
        {
            return Poll::Ready(Some(Ok(message)));
        }
        if let Some(outgoing) = this.outgoing {
            outgoing.unpark();
        }
        match this.inner.poll_next(cx) {
            Poll::Ready(Some(Ok(message))) if unpack::is_plain(&message) => Poll::Ready(Some(Ok(message))),
            polled => self.unpack(polled, cx),
        }
    }
}

/// The result of polling the inner stream.
type Polled<T> = Poll<Option<Result<Message, <T as Transport>::TransportError>>>;

impl<T> Batched<T>
where
    T: Transport<Message, In = Message>,
{
    /// Handles every item of the inner stream except a message that is not a batch.
    #[inline(never)]
    fn unpack(self: Pin<&mut Self>, polled: Polled<T>, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        let this = self.project();
        match polled {
            Poll::Ready(Some(Ok(message))) => Poll::Ready(match unpack::open(message, *this.max_items) {
                Ok(Incoming::Single(message)) => Some(Ok(message)),
                Ok(Incoming::Many(batch)) => {
                    *this.incoming = batch;
                    // A batch has at least one message.
                    this.incoming.next().map(Ok)
                }
                Err(error) => Some(Err(error)),
            }),
            Poll::Ready(end) => {
                if let Some(outgoing) = this.outgoing {
                    outgoing.reconsider();
                }
                Poll::Ready(end.map(|failed| failed.map_err(Into::into)))
            }
            Poll::Pending => {
                if let Some(outgoing) = this.outgoing {
                    outgoing.park(this.inner, cx)?;
                }
                Poll::Pending
            }
        }
    }
}

impl<T> Sink<Message> for Batched<T>
where
    T: Transport<Message>,
{
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        match this.outgoing {
            Some(outgoing) => outgoing.poll_ready(this.inner, cx),
            None => this.inner.poll_ready(cx).map_err(Into::into),
        }
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.project();
        match this.outgoing {
            Some(outgoing) => outgoing.start_send(this.inner, message),
            None => this.inner.start_send(message).map_err(Into::into),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        match this.outgoing {
            Some(outgoing) => outgoing.poll_flush(this.inner, cx),
            None => this.inner.poll_flush(cx).map_err(Into::into),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        match this.outgoing {
            Some(outgoing) => outgoing.poll_close(this.inner, cx),
            None => this.inner.poll_close(cx).map_err(Into::into),
        }
    }
}
