use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;
use tower_layer::Layer;

use super::{
    BatchPolicy,
    sink::BatchSink,
    wire::{self, Pack, Unpack, Unpacked},
};
use crate::{Error, Message, MessageStream, Transport, transport::contract::Polled};

/// The number of messages that may come in, one after another, before the layer checks whether outgoing messages can
/// go on that had no room, and without a timer whether they have waited too long.
const LOOK: u8 = 64;

/// The default number of messages that one batch of the peer may contain; see [`BatchLayer::max_items`].
const MAX_ITEMS: usize = 1 << 16;

/// Packs small outgoing messages together, and unpacks those of the peer. See the [module](super) for the complete
/// documentation.
#[derive(Clone, Debug)]
pub struct BatchLayer {
    policy: Option<BatchPolicy>,
    max_items: usize,
}

impl BatchLayer {
    /// Creates a layer that packs by this policy and unpacks. Each transport has its own batch.
    #[must_use]
    pub const fn new(policy: BatchPolicy) -> Self {
        Self { policy: Some(policy), max_items: MAX_ITEMS }
    }

    /// Creates a layer that unpacks, and sends every message separately and unchanged: for a peer that may send batches
    /// and does not unpack any.
    #[must_use]
    pub const fn receive_only() -> Self {
        Self { policy: None, max_items: MAX_ITEMS }
    }

    /// Sets how many messages one batch of the peer may contain. Defaults to 65,536. A batch with more is an error for
    /// which [`is_too_large`](crate::Error::is_too_large) is true, and none of its messages is delivered.
    ///
    /// An empty message costs one byte within a batch. The transport's byte limit alone would let a peer have 4 million
    /// of them handled at a time.
    #[must_use]
    pub const fn max_items(mut self, items: usize) -> Self {
        self.max_items = items;
        self
    }
}

impl Default for BatchLayer {
    /// Returns [`BatchPolicy::default`].
    fn default() -> Self {
        Self::new(BatchPolicy::default())
    }
}

impl<T: MessageStream> Layer<T> for BatchLayer {
    type Service = Batched<T>;

    fn layer(&self, inner: T) -> Batched<T> {
        Batched {
            inner,
            sink: self.policy.map(|policy| BatchSink::new(Pack::new(policy))),
            unread: Unpack::default(),
            max_items: self.max_items,
            given: 0,
        }
    }
}

pin_project! {
    /// A transport that batches small messages, created by [`BatchLayer`].
    ///
    /// The [module](super) documents when a batch is sent.
    #[derive(Debug)]
    pub struct Batched<T> {
        #[pin]
        inner: T,
        sink: Option<BatchSink>,
        unread: Unpack,
        max_items: usize,
        given: u8,
    }
}

impl<T> Batched<T> {
    /// Returns the policy. `None` if the layer [only receives](BatchLayer::receive_only) batches.
    #[must_use]
    pub fn policy(&self) -> Option<&BatchPolicy> {
        self.sink.as_ref().map(BatchSink::policy)
    }

    /// Returns the number of messages that wait in the unfinished batch.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.sink.as_ref().map_or(0, BatchSink::waiting)
    }

    accessors! {
        inner: T, "transport",
        get_mut: "A message sent there overtakes waiting messages, and a message received there may be a batch.",
        into_inner: ". Waiting messages that were not flushed are dropped, and so is the unread part of the last \
            batch.",
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
        // A stream that is never `Pending` never parks, so the delay of what waits to be sent is checked here.
        if let Some(sink) = this.sink
            && (this.given.is_multiple_of(LOOK) || sink.may_be_due())
        {
            sink.poll_due(this.inner.as_mut(), cx)?;
        }
        // The messages of a batch come out one a poll, as slices of it. The next one is not read before, so a peer's
        // batch costs no more memory than the message that it came in.
        if !this.unread.is_empty()
            && let Some(message) = this.unread.next()
        {
            return Poll::Ready(Some(Ok(message)));
        }
        if let Some(sink) = this.sink {
            sink.unpark();
        }
        match this.inner.poll_next(cx) {
            Poll::Ready(Some(Ok(message))) if wire::is_plain(&message) => Poll::Ready(Some(Ok(message))),
            polled => self.unpack(polled, cx),
        }
    }
}

impl<T> Batched<T>
where
    T: Transport<Message, In = Message>,
{
    /// Handles every item of the inner stream except a message that is not a batch.
    #[inline(never)]
    fn unpack(self: Pin<&mut Self>, polled: Polled<T>, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        let this = self.project();
        match polled {
            Poll::Ready(Some(Ok(message))) => Poll::Ready(match wire::open(message, *this.max_items) {
                Ok(Unpacked::Single(message)) => Some(Ok(message)),
                Ok(Unpacked::Many(batch)) => {
                    *this.unread = batch;
                    // A batch has at least one message.
                    this.unread.next().map(Ok)
                }
                Err(error) => Some(Err(error)),
            }),
            Poll::Ready(end) => {
                if let Some(sink) = this.sink {
                    sink.reconsider();
                }
                Poll::Ready(end.map(|failed| failed.map_err(Into::into)))
            }
            Poll::Pending => {
                if let Some(sink) = this.sink {
                    sink.park(this.inner, cx)?;
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
        match this.sink {
            Some(sink) => sink.poll_ready(this.inner, cx),
            None => this.inner.poll_ready(cx).map_err(Into::into),
        }
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.project();
        match this.sink {
            Some(sink) => sink.start_send(this.inner, message),
            None => this.inner.start_send(message).map_err(Into::into),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        match this.sink {
            Some(sink) => sink.poll_flush(this.inner, cx),
            None => this.inner.poll_flush(cx).map_err(Into::into),
        }
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        match this.sink {
            Some(sink) => sink.poll_close(this.inner, cx),
            None => this.inner.poll_close(cx).map_err(Into::into),
        }
    }
}
