use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;
use tower_layer::Layer;

use super::send_queue::{QueueStats, SendQueue};
use crate::{Error, Message, QueueConfig, Transport};

/// A layer that puts a bounded queue in front of a transport. See the [module](super) for the complete documentation.
///
/// Each transport gets its own queue.
#[derive(Debug)]
pub struct QueueLayer<Out = Message, In = Out> {
    queue: QueueConfig<Out, In>,
}

impl<Out, In> QueueLayer<Out, In> {
    /// Creates a layer with such queues. The inbox limits have no effect here.
    #[must_use]
    pub const fn new(queue: QueueConfig<Out, In>) -> Self {
        Self { queue }
    }
}

// A derived impl would require the same of `Out` and `In`.
impl<Out, In> Clone for QueueLayer<Out, In> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone() }
    }
}

impl Default for QueueLayer {
    /// Returns a layer with [`QueueConfig::messages`].
    fn default() -> Self {
        Self::new(QueueConfig::messages())
    }
}

impl<T, Out, In> Layer<T> for QueueLayer<Out, In> {
    type Service = Queued<T, Out>;

    fn layer(&self, inner: T) -> Queued<T, Out> {
        Queued { inner, queue: SendQueue::new(&self.queue) }
    }
}

pin_project! {
    /// A transport with a bounded queue in front of it, created by [`QueueLayer`]. See the
    /// [module](super) for the complete documentation.
    #[derive(Debug)]
    pub struct Queued<T, Out = Message> {
        #[pin]
        inner: T,
        queue: SendQueue<Out>,
    }
}

impl<T, Out> Queued<T, Out> {
    /// Returns the number of waiting messages.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.stats.queued()
    }

    /// Returns the number of waiting bytes, as the queue measures them.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queue.stats.queued_bytes()
    }

    /// Returns how many messages were dropped so far: by the queue's policy, because the transport rejected them, or
    /// because it ended first.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.queue.stats.dropped()
    }

    /// Returns a handle to the same three values, for use while other code owns the transport.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        self.queue.stats.clone()
    }

    accessors! {
        inner: T, "transport",
        get_mut: "A message sent there overtakes the queue.",
        into_inner: ". Queued messages are lost: flush first.",
    }
}

impl<T, Out> Stream for Queued<T, Out>
where
    T: Transport<Out>,
{
    type Item = Result<T::In, Error>;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        if !this.queue.is_steady()
            && let Err(refused) = this.queue.move_on(this.inner.as_mut(), cx)
        {
            return Poll::Ready(Some(Err(refused)));
        }
        match this.inner.poll_next(cx) {
            Poll::Ready(Some(Ok(message))) => Poll::Ready(Some(Ok(message))),
            polled => this.queue.no_message(polled, cx),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // An error of a rejected message may come in addition.
        (self.inner.size_hint().0, None)
    }
}

impl<T, Out> Sink<Out> for Queued<T, Out>
where
    T: Transport<Out>,
{
    type Error = Error;

    #[inline]
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.queue.poll_ready(this.inner, cx)
    }

    #[inline]
    fn start_send(self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        let this = self.project();
        this.queue.start_send(this.inner, message)
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.queue.poll_flush(this.inner, cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.queue.poll_close(this.inner, cx)
    }
}
