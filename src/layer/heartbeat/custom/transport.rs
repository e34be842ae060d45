use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;

use super::{CustomHeartbeatLayer, replies::Replies};
use crate::{
    Error, Transport,
    layer::heartbeat::{Monitor, Rtt, beat::Beat},
    transport::signal::Mark,
};

/// How many messages that nobody else sees are read in one poll.
const BUDGET: u32 = 32;

/// After so many messages in a row the time is looked at, though the stream never waits.
const LOOK: u32 = 64;

pin_project! {
    /// A transport whose peer is watched: what [`CustomHeartbeatLayer`] makes, which tells how.
    pub struct CustomHeartbeat<T, Out, P, A, R> {
        #[pin]
        inner: T,
        ping: P,
        is_answer: A,
        replies: R,
        passes_on: bool,
        unanswered: Unanswered,
        // Messages since the time was looked at.
        run: u32,
        beat: Beat<Out>,
    }
}

/// The pings without an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unanswered {
    None,
    Newest,
    /// An answer may be to any of them.
    Several,
}

impl Unanswered {
    fn asked(&mut self) {
        *self = if *self == Self::None { Self::Newest } else { Self::Several };
    }
}

impl<T, Out, P, A, R> CustomHeartbeat<T, Out, P, A, R> {
    pub(super) fn new(inner: T, layer: CustomHeartbeatLayer<P, A, R>) -> Self {
        let CustomHeartbeatLayer { interval, timeout, monitor, ping, is_answer, replies, is_steady, passes_on } = layer;
        let beat = Beat::new(interval, timeout, is_steady, monitor.unwrap_or_default());
        Self { inner, ping, is_answer, replies, passes_on, unanswered: Unanswered::None, run: 0, beat }
    }

    /// Returns the round-trip times of this connection, once an answer came.
    #[must_use]
    pub fn rtt(&self) -> Option<Rtt> {
        self.beat.measure.rtt()
    }

    /// Returns the monitor of the round-trip times, for use while something else owns the transport.
    #[must_use]
    pub fn monitor(&self) -> Monitor {
        self.beat.measure.monitor().clone()
    }

    /// Returns the inner transport.
    #[must_use]
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Returns the inner transport. What is received there is not taken for a sign of life.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Returns the inner transport. A ping or an answer that waits to be written is lost, and with it a message that was accepted
    /// behind one: flush first.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<T, Out, P, A, R> Stream for CustomHeartbeat<T, Out, P, A, R>
where
    T: Transport<Out>,
    P: FnMut(u32) -> Out,
    A: FnMut(&T::In) -> bool,
    R: Replies<T::In, Out>,
{
    type Item = Result<T::In, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        let (beat, unanswered, make) = (this.beat, this.unanswered, this.ping);
        if beat.sink.has_ended() {
            return beat.sink.poll_end(this.inner, cx);
        }
        let mut ping = |unanswered: &mut Unanswered, number| {
            unanswered.asked();
            make(number)
        };
        if !beat.is_calm {
            // Before the reading, for a peer may talk on and on.
            beat.write(this.inner.as_mut(), cx);
        }
        for _ in 0..BUDGET {
            let mark = Mark::now();
            let message = match this.inner.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(message))) => message,
                Poll::Ready(Some(Err(error))) => {
                    beat.settle();
                    return Poll::Ready(Some(Err(error.into())));
                }
                Poll::Ready(None) => {
                    beat.stop();
                    beat.settle();
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    *this.run = 0;
                    beat.silence.moved(mark.moved());
                    beat.write(this.inner.as_mut(), cx);
                    beat.look_at_clock(this.inner.as_mut(), cx, |number| ping(unanswered, number));
                    beat.settle();
                    return if beat.sink.has_ended() { beat.sink.poll_end(this.inner, cx) } else { Poll::Pending };
                }
            };
            beat.silence.heard();
            *this.run += 1;
            if *this.run >= LOOK {
                *this.run = 0;
                // A ping may be due. Nobody is given up who was just heard.
                beat.look_at_clock(this.inner.as_mut(), cx, |number| ping(unanswered, number));
            }
            let is_taken = if (this.is_answer)(&message) {
                if std::mem::replace(unanswered, Unanswered::None) == Unanswered::Newest {
                    beat.answered();
                }
                true
            } else if let Some(reply) = this.replies.reply(&message) {
                beat.answer(reply);
                beat.write(this.inner.as_mut(), cx);
                true
            } else {
                false
            };
            if !is_taken || *this.passes_on {
                beat.settle();
                return Poll::Ready(Some(Ok(message)));
            }
        }
        // Other tasks have their turn.
        beat.settle();
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.beat.sink.has_ended() {
            return (0, Some(0));
        }
        // Each message may be one that is not passed on, and one error may come besides.
        (0, self.inner.size_hint().1.and_then(|most| most.checked_add(1)))
    }
}

impl<T, Out, P, A, R> Sink<Out> for CustomHeartbeat<T, Out, P, A, R>
where
    T: Transport<Out>,
{
    type Error = Error;

    #[inline]
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.beat.poll_ready(this.inner, cx)
    }

    fn start_send(self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        let this = self.project();
        this.beat.sink.start_send(this.inner, message)
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

impl<T: fmt::Debug, Out, P, A, R> fmt::Debug for CustomHeartbeat<T, Out, P, A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CustomHeartbeat").field("inner", &self.inner).finish_non_exhaustive()
    }
}
