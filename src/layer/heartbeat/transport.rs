use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;

use super::{
    HeartbeatLayer, Monitor, Rtt,
    beat::Beat,
    wire::{self, Incoming},
};
use crate::{Error, Message, Transport};

/// How many messages that nobody else sees are read in one poll.
const BUDGET: u32 = 32;

pin_project! {
    /// A transport whose peer is watched: what [`HeartbeatLayer`] makes. The [module](super) tells how.
    #[derive(Debug)]
    pub struct Heartbeat<T> {
        #[pin]
        inner: T,
        beat: Beat,
    }
}

impl<T> Heartbeat<T> {
    pub(super) fn new(inner: T, layer: &HeartbeatLayer, monitor: Monitor) -> Self {
        Self { inner, beat: Beat::new(layer, monitor) }
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

impl<T> Stream for Heartbeat<T>
where
    T: Transport<Message, In = Message>,
{
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        let beat = this.beat;
        if beat.dead.is_some() {
            return Poll::Ready(None);
        }
        // Before the reading, for a peer may talk on and on.
        if beat.has_to_write() {
            beat.write(this.inner.as_mut(), cx);
        }
        for _ in 0..BUDGET {
            let message = match this.inner.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => message,
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Ready(None) => {
                    beat.stop();
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    if beat.has_to_write() {
                        beat.write(this.inner.as_mut(), cx);
                    }
                    return beat.poll_silence(this.inner, cx).map(|error| Some(Err(error)));
                }
            };
            beat.silence.heard();
            match wire::open(message) {
                Incoming::Message(message) => {
                    match &message {
                        Message::Text(_) | Message::Binary(_) | Message::Pong(_) => {}
                        Message::Ping(payload) => {
                            if beat.answers_pings {
                                beat.answer(Message::Pong(payload.clone()));
                            }
                            // The transport may have an answer of its own, and wait for a flush.
                            beat.control.flush_soon();
                        }
                        Message::Close(_) => beat.stop(),
                    }
                    return Poll::Ready(Some(Ok(message)));
                }
                Incoming::Ping(payload) => beat.answer(wire::pong(payload)),
                Incoming::Pong(payload) => beat.answered(payload),
                Incoming::Malformed(kind) => {
                    let error = format!("the peer sent a heartbeat that is neither ping nor pong (kind {kind})");
                    return Poll::Ready(Some(Err(Error::protocol(error))));
                }
            }
        }
        // A flood of pings: other tasks have their turn.
        cx.waker().wake_by_ref();
        Poll::Pending
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

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.beat.check_alive()?;
        this.beat.control.poll_ready(this.inner, cx).map_err(Into::into)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.project();
        this.beat.check_alive()?;
        if message.is_close() {
            this.beat.stop();
        }
        this.beat.control.start_send(this.inner, wire::close(message)).map_err(Into::into)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.beat.check_alive()?;
        this.beat.control.poll_flush(this.inner, cx).map_err(Into::into)
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
