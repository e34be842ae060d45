use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;

use super::{QueueStats, line::Line};
use crate::{Error, Message, Queue, Transport};

pin_project! {
    /// A transport with a bounded queue in front of it, created by [`QueueLayer`](super::QueueLayer). See the
    /// [module](super) for the complete documentation.
    #[derive(Debug)]
    pub struct Queued<T, Out = Message> {
        #[pin]
        inner: T,
        line: Line<Out>,
    }
}

impl<T, Out> Queued<T, Out> {
    pub(super) fn new<In>(inner: T, queue: &Queue<Out, In>) -> Self {
        Self { inner, line: Line::new(queue) }
    }

    /// Returns the number of waiting messages.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.line.stats.queued()
    }

    /// Returns the number of waiting bytes, as the queue measures them.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.line.stats.queued_bytes()
    }

    /// Returns how many messages were dropped so far: by the queue's policy, because the transport rejected them, or
    /// because it ended first.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.line.stats.dropped()
    }

    /// Returns a handle to the same three values, for use while other code owns the transport.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        self.line.stats.clone()
    }

    /// Returns a reference to the inner transport.
    #[must_use]
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Returns a mutable reference to the inner transport. A message sent there overtakes the queue.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Returns the inner transport. Queued messages are lost: flush first.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.inner
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
        if !this.line.is_steady()
            && let Err(refused) = this.line.move_on(this.inner.as_mut(), cx)
        {
            return Poll::Ready(Some(Err(refused)));
        }
        match this.inner.poll_next(cx) {
            Poll::Ready(Some(Ok(message))) => Poll::Ready(Some(Ok(message))),
            polled => this.line.no_message(polled, cx),
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
        this.line.poll_ready(this.inner, cx)
    }

    #[inline]
    fn start_send(self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        let this = self.project();
        this.line.start_send(this.inner, message)
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.line.poll_flush(this.inner, cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.line.poll_close(this.inner, cx)
    }
}
