use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;

use super::{
    Monitor, Rtt,
    pings::{Pings, ProtocolPings},
    watchdog::Watchdog,
};
use crate::{
    Error, Message, Transport,
    transport::{contract::Polled, signal::Mark},
};

/// The maximum number of messages that one poll takes out of the stream before other tasks run.
const BUDGET: u32 = 32;

pin_project! {
    /// A transport that detects a dead peer, created by [`HeartbeatLayer`](super::HeartbeatLayer) and
    /// [`CustomHeartbeatLayer`](super::CustomHeartbeatLayer).
    ///
    /// `Out` is the type of outgoing messages, and `P` says which messages are pings and answers. The [module](super)
    /// documents the behavior.
    pub struct Heartbeat<T, Out = Message, P = ProtocolPings> {
        #[pin]
        inner: T,
        pings: P,
        watchdog: Watchdog<Out>,
    }
}

impl<T, Out, P> Heartbeat<T, Out, P> {
    pub(super) fn new(inner: T, pings: P, watchdog: Watchdog<Out>) -> Self {
        Self { inner, pings, watchdog }
    }

    /// Returns the round-trip times of this connection, once the peer has answered a ping.
    #[must_use]
    pub fn rtt(&self) -> Option<Rtt> {
        self.watchdog.rtt.get()
    }

    /// Returns the monitor of the round-trip times, for use while something else owns the transport.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        self.watchdog.rtt.monitor().clone()
    }

    accessors! {
        inner: T, "transport",
        get_mut: "A message that is received there is not a sign of life.",
        into_inner: ". A ping or an answer that waits to be written is dropped, and so is a message that was \
            accepted behind it: flush first.",
    }
}

impl<T, Out, P> Heartbeat<T, Out, P>
where
    T: Transport<Out>,
    P: Pings<T::In, Out>,
{
    /// Handles everything except a message that only passes. `first` is the result of a poll of the inner stream that
    /// was made already, and the number of bytes that moved during it.
    #[cold]
    fn poll_busy(
        self: Pin<&mut Self>,
        mut first: Option<(Polled<T, Out>, u64)>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<T::In, Error>>> {
        let mut this = self.project();
        let (watchdog, pings) = (this.watchdog, this.pings);
        if watchdog.sink.has_ended() {
            return watchdog.sink.poll_end(this.inner, cx);
        }
        // Before reading, because a peer may talk without end.
        watchdog.write(this.inner.as_mut(), cx);
        for _ in 0..BUDGET {
            // Not in place of an item that was taken from below.
            if first.is_none()
                && let Some(rejected) = watchdog.take_rejection()
            {
                watchdog.settle();
                return Poll::Ready(Some(Err(rejected)));
            }
            let (polled, moved) = first.take().unwrap_or_else(|| {
                let mark = Mark::now();
                (this.inner.as_mut().poll_next(cx), mark.moved())
            });
            let item = match polled {
                Poll::Ready(Some(Ok(message))) => {
                    if watchdog.heard_and_checks_clock() {
                        watchdog.check_clock(this.inner.as_mut(), cx, |number| pings.ping(number));
                    }
                    let item = match pings.concerns_incoming(&message) {
                        true => pings.receive(message, watchdog),
                        false => Some(Ok(message)),
                    };
                    if item.is_some() {
                        // An answer leaves before the user takes its time with the message.
                        watchdog.write(this.inner.as_mut(), cx);
                    }
                    item
                }
                Poll::Ready(Some(Err(error))) => Some(Err(error.into())),
                Poll::Ready(None) => {
                    watchdog.stop();
                    watchdog.settle();
                    return Poll::Ready(None);
                }
                // Only now has everything that arrived been read. A clock that is checked before would take a peer for
                // dead whose answer is in the socket, because this task was slow.
                Poll::Pending => {
                    watchdog.silence.moved(moved);
                    watchdog.write(this.inner.as_mut(), cx);
                    watchdog.check_clock(this.inner.as_mut(), cx, |number| pings.ping(number));
                    let rejected = watchdog.take_rejection();
                    watchdog.settle();
                    if let Some(rejected) = rejected {
                        return Poll::Ready(Some(Err(rejected)));
                    }
                    return match watchdog.sink.has_ended() {
                        true => watchdog.sink.poll_end(this.inner, cx),
                        false => Poll::Pending,
                    };
                }
            };
            if item.is_some() {
                watchdog.settle();
                return Poll::Ready(item);
            }
        }
        // A flood of pings: other tasks run first.
        watchdog.settle();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sends a message that does more than pass.
    #[cold]
    fn send_with_care(self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        let this = self.project();
        this.watchdog.sink.check_open()?;
        let message = match this.pings.concerns_outgoing(&message) {
            true => this.pings.send(message, this.watchdog),
            false => message,
        };
        this.watchdog.sink.start_send(this.inner, message)
    }
}

impl<T, Out, P> Stream for Heartbeat<T, Out, P>
where
    T: Transport<Out>,
    P: Pings<T::In, Out>,
{
    type Item = Result<T::In, Error>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.as_mut().project();
        if !this.watchdog.is_calm {
            return self.poll_busy(None, cx);
        }
        // Bytes that arrive without a whole message are a sign of life, too: a large message takes a while on a slow
        // line.
        let mark = Mark::now();
        match this.inner.poll_next(cx) {
            // Inspected in place: it is then moved as a whole, which is much cheaper.
            Poll::Ready(Some(Ok(message))) if !this.pings.concerns_incoming(&message) => {
                this.watchdog.silence.heard();
                Poll::Ready(Some(Ok(message)))
            }
            polled => self.poll_busy(Some((polled, mark.moved())), cx),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.watchdog.sink.has_ended() {
            return (0, Some(0));
        }
        // Each message may be one that is not passed on, and each ping may add a rejection.
        (0, None)
    }
}

impl<T, Out, P> Sink<Out> for Heartbeat<T, Out, P>
where
    T: Transport<Out>,
    P: Pings<T::In, Out>,
{
    type Error = Error;

    #[inline]
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.watchdog.poll_ready(this.inner, cx)
    }

    #[inline]
    fn start_send(mut self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        let this = self.as_mut().project();
        if !this.pings.concerns_outgoing(&message) && this.watchdog.sink.passes() {
            return this.inner.start_send(message).map_err(Into::into);
        }
        self.send_with_care(message)
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.watchdog.poll_flush(this.inner, cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.watchdog.stop();
        this.watchdog.sink.poll_close(this.inner, cx)
    }
}

// Neither a message nor a function needs a `Debug`.
debug_fields!([T: fmt::Debug, Out, P] Heartbeat<T, Out, P>, |this| {
    inner,
    rtt: this.rtt(),
    sink: this.watchdog.sink,
});
