//! A transport that rejects some messages for their own sake, for the layers above it that send messages of their own.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{Sink, SinkExt, Stream, StreamExt};
use tower_transport::{Channel, Error};

type Reason<M> = Box<dyn FnMut(&M) -> Option<Error> + Send>;

pub(super) struct Rejecting<M> {
    inner: Channel<M>,
    reason: Reason<M>,
}

/// Rejects each message for which `reason` returns an error.
pub(super) fn rejecting<M>(
    inner: Channel<M>,
    reason: impl FnMut(&M) -> Option<Error> + Send + 'static,
) -> Rejecting<M> {
    Rejecting { inner, reason: Box::new(reason) }
}

impl<M> Stream for Rejecting<M> {
    type Item = Result<M, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.inner.poll_next_unpin(cx)
    }
}

impl<M> Sink<M> for Rejecting<M> {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready_unpin(cx)
    }

    fn start_send(mut self: Pin<&mut Self>, message: M) -> Result<(), Error> {
        match (self.reason)(&message) {
            Some(error) => Err(error),
            None => self.inner.start_send_unpin(message),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        SinkExt::<M>::poll_flush_unpin(&mut self.inner, cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        SinkExt::<M>::poll_close_unpin(&mut self.inner, cx)
    }
}
