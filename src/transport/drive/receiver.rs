use std::{
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{
    queues::{Queues, Taken},
    watch::Undriven,
};
use crate::{Error, transport::signal};

/// The reading end of a [driven](crate::TransportExt::drive) transport.
///
/// While its inbox is full ([`QueueConfig::max_inbox`](crate::QueueConfig::max_inbox)), the driver does not read from
/// the transport: this applies backpressure to the peer. Dropping the receiver does not stop the writing; incoming
/// messages are then dropped.
///
/// Errors of the transport are yielded unchanged, and the transport decides whether more items follow. A message that
/// the transport rejects individually (too large, or not encodable) was accepted by the queue, so its error is yielded
/// here while there is room for it. [`Sender::dropped`](crate::Sender::dropped) counts it in any case. Messages lost
/// with a connection are also reported here if the transport continues with another one
/// ([`WhenLost::Fail`](crate::layer::reconnect::WhenLost::Fail) of a reconnecting transport). The error of each of
/// these [is a rejection](Error::is_rejection).
pub struct Receiver<Out, In = Out> {
    queues: Arc<Queues<Out, In>>,
}

impl<Out, In> Receiver<Out, In> {
    pub(super) fn new(queues: Arc<Queues<Out, In>>) -> Self {
        Self { queues }
    }

    /// Receives one message. Returns `None` once the transport has ended and all messages were received.
    ///
    /// # Errors
    ///
    /// Returns the errors of the transport, and one for which [`is_config`](Error::is_config) is true if nobody has
    /// polled the [driver](crate::Driven::into_parts) yet, after 10 seconds (never in wasm32 and with
    /// `panic = "abort"`).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub async fn receive(&mut self) -> Option<Result<In, Error>> {
        let mut undriven = Undriven::new();
        poll_fn(|cx| match Pin::new(&mut *self).poll_next(cx) {
            Poll::Pending => undriven.poll(&self.queues, cx).map(|error| Some(Err(error))),
            received => received,
        })
        .await
    }
}

impl<Out, In> Receiver<Out, In> {
    fn take(&self) -> Poll<Option<Result<In, Error>>> {
        let mut inbox = self.queues.inbox.lock();
        let (message, made_room) = loop {
            match inbox.pop() {
                Some(Taken::Item(message, made_room)) => break (message, made_room),
                Some(Taken::Loss) => signal::connection_lost(),
                None if inbox.ended => return Poll::Ready(None),
                None => return Poll::Pending,
            }
        };
        // A message is there, so the wake that would announce the next one has no waiter.
        inbox.is_awaited = false;
        drop(inbox);
        if made_room {
            self.queues.driver.wake();
        }
        Poll::Ready(Some(message))
    }
}

impl<Out, In> Stream for Receiver<Out, In> {
    type Item = Result<In, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(message) = self.take() {
            return Poll::Ready(message);
        }
        // Without the lock: cloning a waker runs executor code.
        self.queues.receiver.register(cx.waker());
        self.queues.inbox.lock().is_awaited = true;
        self.take()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.queues.inbox.lock().len(), None)
    }
}

impl<Out, In> Drop for Receiver<Out, In> {
    fn drop(&mut self) {
        // The messages are dropped after the lock is released.
        let unread = self.queues.inbox.lock().abandon();
        drop(unread);
        self.queues.driver.wake();
    }
}

impl<Out, In> fmt::Debug for Receiver<Out, In> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.queues.inbox.lock().len();
        f.debug_struct("Receiver").field("waiting", &waiting).finish_non_exhaustive()
    }
}
