use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::Expiring;
use crate::{
    Error, Message, Transport,
    layer::auth::{Principal, Verify},
    message::trailer::{self, Opened},
    transport::wakers::Half,
};

impl<T, V> Stream for Expiring<T, V>
where
    T: Transport<Message, In = Message>,
    V: Verify<Response: Principal>,
{
    type Item = Result<Message, Error>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_quiet() {
            let this = self.as_mut().project();
            return match this.inner.poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => Poll::Ready(Some(Ok(message))),
                polled => self.no_message(polled, cx),
            };
        }
        self.poll_next_with_care(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // One more for the error at the end.
        (0, self.inner.size_hint().1.and_then(|most| most.checked_add(1)))
    }
}

impl<T, V> Expiring<T, V>
where
    T: Transport<Message, In = Message>,
    V: Verify<Response: Principal>,
{
    /// Handles an item of the stream below, for a quiet session, that is not a message.
    #[cold]
    #[inline(never)]
    fn no_message(
        mut self: Pin<&mut Self>,
        polled: Poll<Option<Result<Message, T::TransportError>>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, Error>>> {
        match polled {
            Poll::Ready(item) => Poll::Ready(item.map(|item| item.map_err(Into::into))),
            Poll::Pending if self.as_mut().project().alarm.waits(Half::Reader, cx) => Poll::Pending,
            Poll::Pending => self.poll_next_with_care(cx),
        }
    }

    /// Kept out of the path of messages that pass, because it makes a function large.
    #[inline(never)]
    fn poll_next_with_care(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        loop {
            self.as_mut().look_at_alarm();
            if self.verifying.is_some() {
                self.as_mut().poll_verify(cx);
            }
            if !self.is_open() {
                return self.poll_rest(cx);
            }
            let mut this = self.as_mut().project();
            if this.verifier.is_some() {
                // If the transport cannot be written, its stream ends too, so the error is ignored here.
                let _ = this.control.poll_send(this.inner.as_mut(), cx);
            }
            let item = match this.inner.poll_next(cx) {
                Poll::Ready(item) => item,
                Poll::Pending if this.alarm.waits(Half::Reader, cx) => return Poll::Pending,
                Poll::Pending => continue,
            };
            match item {
                Some(Ok(message)) if this.verifier.is_some() => match trailer::open(trailer::Layer::Auth, message) {
                    Opened::Plain(message) => return Poll::Ready(Some(Ok(message))),
                    Opened::Marked(kind, body) => self.as_mut().take_token(kind, &body),
                },
                item => return Poll::Ready(item.map(|item| item.map_err(Into::into))),
            }
        }
    }
}
