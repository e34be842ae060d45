use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;

use super::{HeartbeatLayer, Monitor, Rtt, beat::Beat, pings::Pings};
use crate::{Error, Message, Transport, transport::signal::Mark};

/// How many messages that nobody else sees are read in one poll.
const BUDGET: u32 = 32;

/// What the inner stream gives.
type Polled<T> = Poll<Option<Result<Message, <T as Transport>::TransportError>>>;

pin_project! {
    /// A transport whose peer is watched: what [`HeartbeatLayer`] makes. The [module](super) tells how.
    #[derive(Debug)]
    pub struct Heartbeat<T> {
        #[pin]
        inner: T,
        beat: Beat<Message>,
        pings: Pings,
    }
}

impl<T> Heartbeat<T> {
    pub(super) fn new(inner: T, layer: &HeartbeatLayer, monitor: Monitor) -> Self {
        let mut beat = Beat::new(layer.interval, layer.timeout, false, monitor);
        if !layer.watches {
            beat.silence.ignore();
        }
        Self { inner, beat, pings: Pings::new(layer) }
    }

    /// The round-trip times of this connection, once a pong came.
    #[must_use]
    pub fn rtt(&self) -> Option<Rtt> {
        self.beat.measure.rtt()
    }

    /// What tells the round-trip times while something else owns the transport.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        self.beat.measure.monitor().clone()
    }

    /// The inner transport.
    #[must_use]
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// The inner transport. What is received there is not taken for a sign of life.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// The inner transport. A ping or pong that waits to be written is lost, and with it a message that was accepted behind
    /// one: flush first.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<T> Heartbeat<T>
where
    T: Transport<Message, In = Message>,
{
    /// All but a message that passes by; `first` is what the inner stream has given already, and how many bytes moved with it.
    #[cold]
    #[inline(never)]
    fn poll_busy(
        self: Pin<&mut Self>,
        first: Option<(Polled<T>, u64)>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Message, Error>>> {
        let mut this = self.project();
        let (beat, pings) = (this.beat, this.pings);
        if beat.sink.has_ended() {
            return beat.sink.poll_end(this.inner, cx);
        }
        // Before the reading, for a peer may talk on and on.
        beat.write(this.inner.as_mut(), cx);
        let mut first = first;
        for _ in 0..BUDGET {
            let (polled, moved) = first.take().unwrap_or_else(|| {
                let mark = Mark::now();
                (this.inner.as_mut().poll_next(cx), mark.moved())
            });
            let item = match polled {
                Poll::Ready(Some(Ok(message))) => {
                    beat.silence.heard();
                    match pings.concern(&message) {
                        true => pings.take(message, beat),
                        false => Some(Ok(message)),
                    }
                }
                Poll::Ready(Some(Err(error))) => Some(Err(error.into())),
                Poll::Ready(None) => {
                    beat.stop();
                    beat.settle();
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    beat.silence.moved(moved);
                    beat.write(this.inner.as_mut(), cx);
                    beat.look_at_clock(this.inner.as_mut(), cx, |number| pings.ask(number));
                    beat.settle();
                    return if beat.sink.has_ended() { beat.sink.poll_end(this.inner, cx) } else { Poll::Pending };
                }
            };
            if item.is_some() {
                beat.settle();
                return Poll::Ready(item);
            }
        }
        // A flood of pings: other tasks have their turn.
        beat.settle();
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<T: Transport<Message>> Heartbeat<T> {
    /// `start_send` of all but a message that passes by.
    #[cold]
    #[inline(never)]
    fn start_rare(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.project();
        this.beat.sink.check_open()?;
        let message = if this.pings.concern(&message) { Pings::pass(message, this.beat) } else { message };
        this.beat.sink.start_send(this.inner, message)
    }
}

impl<T> Stream for Heartbeat<T>
where
    T: Transport<Message, In = Message>,
{
    type Item = Result<Message, Error>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.as_mut().project();
        if !this.beat.is_calm {
            return self.poll_busy(None, cx);
        }
        let mark = Mark::now();
        match this.inner.poll_next(cx) {
            // Looked at where it stands: then it is moved as a whole, which is cheaper by far.
            Poll::Ready(Some(Ok(message))) if !this.pings.concern(&message) => {
                this.beat.silence.heard();
                Poll::Ready(Some(Ok(message)))
            }
            polled => self.poll_busy(Some((polled, mark.moved())), cx),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.beat.sink.has_ended() {
            return (0, Some(0));
        }
        // Each message may be one that is not passed on, and one error may come besides.
        (0, self.inner.size_hint().1.and_then(|most| most.checked_add(1)))
    }
}

impl<T> Sink<Message> for Heartbeat<T>
where
    T: Transport<Message>,
{
    type Error = Error;

    #[inline]
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.beat.poll_ready(this.inner, cx)
    }

    #[inline]
    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.as_mut().project();
        if !this.pings.concern(&message) && this.beat.sink.passes() {
            return this.inner.start_send(message).map_err(Into::into);
        }
        self.start_rare(message)
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.beat.poll_flush(this.inner, cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.beat.poll_close(this.inner, cx)
    }
}
