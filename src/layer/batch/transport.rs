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

/// How many messages may come in, one upon the other, before it is looked after what has waited too long to go out.
const LOOK: u8 = 64;

pin_project! {
    /// A transport that packs small messages together: what [`BatchLayer`](super::BatchLayer) makes.
    ///
    /// The [module](super) tells when a batch leaves.
    #[derive(Debug)]
    pub struct Batched<T> {
        #[pin]
        inner: T,
        outgoing: Option<Outgoing>,
        incoming: Unpack,
        unpacks: bool,
        max_items: usize,
        given: u8,
    }
}

impl<T> Batched<T> {
    pub(super) fn new(inner: T, pack: Option<Pack>, unpacks: bool, max_items: usize) -> Self {
        Self { inner, outgoing: pack.map(Outgoing::new), incoming: Unpack::default(), unpacks, max_items, given: 0 }
    }

    /// When batches leave; `None` where the layer only [receives](super::BatchLayer::receive_only) them.
    #[must_use]
    pub fn policy(&self) -> Option<&BatchPolicy> {
        self.outgoing.as_ref().map(Outgoing::policy)
    }

    /// How many messages wait in the batch that is not full.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.outgoing.as_ref().map_or(0, Outgoing::waiting)
    }

    /// The inner transport.
    #[must_use]
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// The inner transport. What is sent there overtakes what waits, and what is received there may be a batch.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// The inner transport. What waits to be sent and was not flushed is dropped, and so is what was not read of the last
    /// batch.
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
            Poll::Ready(Some(Ok(message))) if unpack::is_plain(&message) || !*this.unpacks => {
                Poll::Ready(Some(Ok(message)))
            }
            polled => self.unpack(polled, cx),
        }
    }
}

/// What the inner stream gives.
type Polled<T> = Poll<Option<Result<Message, <T as Transport>::TransportError>>>;

impl<T> Batched<T>
where
    T: Transport<Message, In = Message>,
{
    /// All that the inner stream gives but a message that came by itself.
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
