use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;

use super::{HeartbeatLayer, Monitor, Rtt, beat::Beat, pings::Pings};
use crate::{Error, Message, Transport, rt, transport::signal::Mark};

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
        if beat.dead.is_some() {
            return Poll::Ready(None);
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
                    let given_up = beat.poll_silence(this.inner, cx, |number| pings.ask(number));
                    beat.settle();
                    return given_up.map(|error| Some(Err(error)));
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
    /// `poll_ready` where it is not the inner transport's alone.
    #[cold]
    #[inline(never)]
    fn poll_room(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.beat.check_alive()?;
        let mark = Mark::now();
        let room = this.beat.control.poll_ready(this.inner, cx);
        this.beat.sent(mark, room.is_pending());
        room.map_err(Into::into)
    }

    /// `poll_flush` where it is not the inner transport's alone.
    #[cold]
    #[inline(never)]
    fn poll_out(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.beat.check_alive()?;
        let mark = Mark::now();
        let flushed = this.beat.control.poll_flush(this.inner, cx);
        this.beat.sent(mark, flushed.is_pending());
        flushed.map_err(Into::into)
    }

    /// `start_send` of all but a message that passes by.
    #[cold]
    #[inline(never)]
    fn start_rare(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.project();
        this.beat.check_alive()?;
        let message = if this.pings.concern(&message) { Pings::pass(message, this.beat) } else { message };
        this.beat.control.start_send(this.inner, message).map_err(Into::into)
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
        match self.beat.dead {
            // Each message may be one that is not passed on, and one error may come besides.
            None => (0, self.inner.size_hint().1.and_then(|most| most.checked_add(1))),
            Some(_) => (0, Some(0)),
        }
    }
}

impl<T> Sink<Message> for Heartbeat<T>
where
    T: Transport<Message>,
{
    type Error = Error;

    // The peer was not given up while `control` is steady: one look for both.

    #[inline]
    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.as_mut().project();
        if this.beat.control.is_steady() && !this.beat.is_full {
            let room = this.beat.control.poll_ready(this.inner, cx);
            this.beat.is_full = room.is_pending() && rt::has_budget_remaining();
            return room.map_err(Into::into);
        }
        self.poll_room(cx)
    }

    #[inline]
    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.as_mut().project();
        if !this.pings.concern(&message) && this.beat.control.passes() {
            return this.inner.start_send(message).map_err(Into::into);
        }
        self.start_rare(message)
    }

    #[inline]
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.as_mut().project();
        if this.beat.control.is_steady() && !this.beat.is_full {
            let flushed = this.beat.control.poll_flush(this.inner, cx);
            this.beat.is_full = flushed.is_pending() && rt::has_budget_remaining();
            return flushed.map_err(Into::into);
        }
        self.poll_out(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        if this.beat.dead.is_some() {
            // A last try. Nobody is left to wait for.
            let _ = this.inner.poll_close(cx);
            return Poll::Ready(Ok(()));
        }
        this.beat.stop();
        this.beat.control.poll_close(this.inner, cx).map_err(Into::into)
    }
}
