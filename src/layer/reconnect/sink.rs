use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_sink::Sink;

use super::{Reconnect, core::Granted, state::Phase, transport::LinkParts};
use crate::{
    Connect, Error, Transport,
    transport::{payload::Payload, wakers::Half},
};

/// What the connection's sink says.
type Polled<C, Out> = Poll<Result<(), <<C as Connect>::Transport as Transport<Out>>::TransportError>>;

// What is not the connection's alone, out of the way of what is.
impl<C, Out> Reconnect<C, Out>
where
    C: Connect<Transport: Transport<Out>>,
    Out: 'static,
{
    #[cold]
    #[inline(never)]
    fn place_rare(
        self: Pin<&mut Self>,
        polled: Option<Polled<C, Out>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        self.project().poll_place(polled.map(|polled| polled.map_err(Into::into)), cx)
    }

    #[cold]
    #[inline(never)]
    fn flush_rare(
        self: Pin<&mut Self>,
        polled: Option<Polled<C, Out>>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        self.project().poll_out(polled.map(|polled| polled.map_err(Into::into)), cx)
    }

    #[cold]
    #[inline(never)]
    fn send_rare(self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        let mut this = self.project();
        if this.core.steady && this.core.granted == Granted::Direct {
            this.core.granted = Granted::Nothing;
            return this.send_directly(message);
        }
        this.send_later(message)
    }

    /// The connection did not take a message.
    #[cold]
    #[inline(never)]
    fn refused(self: Pin<&mut Self>, error: impl Into<Error>) -> Result<(), Error> {
        self.project().failed_to_send(error.into())
    }
}

impl<C, Out> Sink<Out> for Reconnect<C, Out>
where
    C: Connect<Transport: Transport<Out>>,
    Out: 'static,
{
    type Error = Error;

    #[inline]
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.as_mut().project();
        if this.core.is_steady()
            && !this.core.buffer.has_report()
            && this.core.granted == Granted::Nothing
            && !this.core.buffer.is_full()
            && let LinkParts::Up { transport } = this.link.project()
        {
            return match transport.poll_ready(cx) {
                Poll::Ready(Ok(())) => {
                    this.core.granted = Granted::Direct;
                    Poll::Ready(Ok(()))
                }
                polled => self.place_rare(Some(polled), cx),
            };
        }
        self.place_rare(None, cx)
    }

    // The message is given on, or to what deals with it, and never dropped here: so it is not copied on its way.
    #[inline]
    fn start_send(mut self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        let this = self.as_mut().project();
        if this.core.steady
            && this.core.granted == Granted::Direct
            && Payload::of().close_message(&message).is_none()
            && let LinkParts::Up { transport } = this.link.project()
            // The layer below holds the message until it is acknowledged, or this layer counts it. One that this layer has to
            // keep takes the longer way.
            && (this.core.outlives || this.core.buffer.count_sending())
        {
            this.core.granted = Granted::Nothing;
            return match transport.start_send(message) {
                Ok(()) => Ok(()),
                Err(error) => self.refused(error),
            };
        }
        self.send_rare(message)
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.as_mut().project();
        if this.core.is_steady()
            && !this.core.buffer.has_report()
            && let LinkParts::Up { transport } = this.link.project()
        {
            return match transport.poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    this.core.buffer.flushed();
                    Poll::Ready(Ok(()))
                }
                polled => self.flush_rare(Some(polled), cx),
            };
        }
        self.flush_rare(None, cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let mut this = self.project();
        loop {
            if this.core.is_closing() && !this.core.end.hang_up {
                let closed = this.close_directly(cx);
                if closed.is_pending() {
                    this.core.shared.register(Half::Writer, cx);
                }
                ready!(closed)?;
                return Poll::Ready(this.core.check_report());
            }
            let is_down = matches!(this.core.machine.phase(), Phase::Idle | Phase::Waiting | Phase::Dialling);
            if is_down && !this.core.buffer.has_unsent() {
                this.close();
            }
            match this.poll_up(Half::Writer, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(false) if this.core.end.lost > 0 => {
                    let error = this.core.ended();
                    this.core.end.lost = 0;
                    return Poll::Ready(Err(error));
                }
                Poll::Ready(false) => return Poll::Ready(Ok(())),
                Poll::Ready(true) if this.core.is_closing() => {}
                Poll::Ready(true) if this.core.steady => this.start_closing(),
                Poll::Ready(true) => return Poll::Pending,
            }
        }
    }
}
