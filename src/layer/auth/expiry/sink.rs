use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_sink::Sink;

use super::Expiring;
use crate::{
    Error, Message, Transport,
    layer::auth::{Principal, Verify},
    message::trailer,
    transport::wakers::Half,
};

impl<T, V> Sink<Message> for Expiring<T, V>
where
    T: Transport<Message>,
    V: Verify<Response: Principal>,
{
    type Error = Error;

    #[inline]
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.is_quiet() {
            let this = self.as_mut().project();
            // The alarm also wakes a task that waits in the layer below.
            let ready = this.inner.poll_ready(cx);
            if ready.is_ready() || this.alarm.waits(Half::Writer, cx) {
                return ready.map_err(Into::into);
            }
        }
        self.poll_ready_with_care(cx)
    }

    #[inline]
    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        if self.is_plain {
            return self.project().inner.start_send(message).map_err(Into::into);
        }
        self.start_send_with_care(message)
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.is_quiet() {
            let this = self.as_mut().project();
            let flushed = this.inner.poll_flush(cx);
            if flushed.is_ready() || this.alarm.waits(Half::Writer, cx) {
                return flushed.map_err(Into::into);
            }
        }
        self.poll_flush_with_care(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.is_open() {
            return self.as_mut().poll_end(Half::Writer, cx).map(Ok);
        }
        let this = self.project();
        this.control.poll_close(this.inner, cx).map_err(Into::into)
    }
}

/// The rare paths are kept out of the functions that every message takes, because they make a function large.
impl<T, V> Expiring<T, V>
where
    T: Transport<Message>,
    V: Verify<Response: Principal>,
{
    #[inline(never)]
    fn poll_ready_with_care(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            self.as_mut().look_at_alarm();
            self.check_open()?;
            let this = self.as_mut().project();
            let ready = match this.is_plain {
                true => this.inner.poll_ready(cx),
                false => this.control.poll_ready(this.inner, cx),
            };
            if ready.is_ready() || this.alarm.waits(Half::Writer, cx) {
                return ready.map_err(Into::into);
            }
        }
    }

    #[inline(never)]
    fn start_send_with_care(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.check_open()?;
        let this = self.project();
        this.control.start_send(this.inner, trailer::close(trailer::Layer::Auth, message)).map_err(Into::into)
    }

    #[inline(never)]
    fn poll_flush_with_care(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            self.as_mut().look_at_alarm();
            if !self.is_open() {
                // Messages that were accepted before are sent ahead of the close message.
                ready!(self.as_mut().poll_end(Half::Writer, cx));
                return Poll::Ready(Err(self.closed()));
            }
            let this = self.as_mut().project();
            let flushed = match this.is_plain {
                true => this.inner.poll_flush(cx),
                false => this.control.poll_flush(this.inner, cx),
            };
            if flushed.is_ready() || this.alarm.waits(Half::Writer, cx) {
                return flushed.map_err(Into::into);
            }
        }
    }
}
