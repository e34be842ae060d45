use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    Monitor,
    rtt::Measure,
    state::{Silence, Step},
};
use crate::{
    Error, Transport,
    layer::own::LayerSink,
    rt::{self, Instant, Timer},
    transport::signal::Mark,
};

/// All of a heartbeat but the inner transport and what a ping is: when one is sent, what waits to be written, and whether the peer is
/// alive.
#[derive(Debug)]
pub(super) struct Beat<M> {
    interval: Duration,
    timeout: Duration,
    pub(super) silence: Silence,
    timer: Timer,
    pub(super) sink: LayerSink<M>,
    /// The peer was not given up, and nothing of the layer's own waits: reading is all there is to do. Known after each time
    /// that it was not.
    pub(super) is_calm: bool,
    /// The transport below had no room for what was sent: bytes that it takes from now on are bytes that the peer took.
    is_full: bool,
    /// An own ping, and the answer to the newest of the peer's, which wait until what was sent before has left: so a peer
    /// that asks and does not read costs no more than these.
    ask: Option<M>,
    answer: Option<M>,
    /// How many pings were sent.
    asked: u32,
    asked_at: Option<Instant>,
    pub(super) measure: Measure,
    /// Why nothing can be said any more.
    write_failed: Option<Error>,
}

impl<M> Beat<M> {
    pub(super) fn new(interval: Duration, timeout: Duration, is_steady: bool, monitor: Monitor) -> Self {
        Self {
            interval,
            timeout,
            silence: Silence::new(interval, timeout).steady(is_steady),
            timer: Timer::new(),
            sink: LayerSink::new(),
            is_calm: true,
            is_full: false,
            ask: None,
            answer: None,
            asked: 0,
            asked_at: None,
            measure: Measure::new(monitor),
            write_failed: None,
        }
    }

    /// One of the ends closes: nobody is asked any more.
    pub(super) fn stop(&mut self) {
        self.silence.stop();
        self.timer.clear();
        (self.ask, self.answer) = (None, None);
    }

    /// Looks whether there is something besides reading.
    pub(super) fn settle(&mut self) {
        self.is_calm = !self.sink.has_ended() && !self.has_to_write();
    }

    /// Has this said to the peer, in place of an answer that still waits.
    pub(super) fn answer(&mut self, answer: M) {
        if !self.silence.is_over() {
            self.answer = Some(answer);
        }
    }

    /// The answer to the newest ping came: measures the round trip.
    pub(super) fn answered(&mut self) {
        if let Some(asked_at) = self.asked_at {
            self.measure.add(asked_at.elapsed());
        }
    }

    pub(super) fn has_to_write(&self) -> bool {
        self.ask.is_some() || self.answer.is_some() || !self.sink.is_idle()
    }

    /// A method of the sink below was polled, `mark` being taken before.
    fn sent(&mut self, mark: Mark, is_pending: bool) {
        if self.is_full {
            self.silence.moved(mark.moved());
        }
        // A socket may also be `Pending` because the task has had its turn.
        self.is_full = is_pending && (self.is_full || rt::has_budget_remaining());
    }

    // The sink of the layer: what the transport below takes is a sign of life if it had no room before.

    #[inline]
    pub(super) fn poll_ready<T: Transport<M>>(
        &mut self,
        inner: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if self.sink.is_steady() && !self.is_full {
            let room = self.sink.poll_ready(inner, cx);
            self.is_full = room.is_pending() && rt::has_budget_remaining();
            return room;
        }
        self.measured(|sink| sink.poll_ready(inner, cx))
    }

    #[inline]
    pub(super) fn poll_flush<T: Transport<M>>(
        &mut self,
        inner: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        if self.sink.is_steady() && !self.is_full {
            let flushed = self.sink.poll_flush(inner, cx);
            self.is_full = flushed.is_pending() && rt::has_budget_remaining();
            return flushed;
        }
        self.measured(|sink| sink.poll_flush(inner, cx))
    }

    pub(super) fn poll_close<T: Transport<M>>(
        &mut self,
        inner: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        self.stop();
        self.sink.poll_close(inner, cx)
    }

    #[cold]
    #[inline(never)]
    fn measured<R>(&mut self, poll: impl FnOnce(&mut LayerSink<M>) -> Poll<R>) -> Poll<R> {
        let mark = Mark::now();
        let polled = poll(&mut self.sink);
        self.sent(mark, polled.is_pending());
        polled
    }

    /// Writes what the peer waits for, though nobody else writes.
    pub(super) fn write<T: Transport<M>>(&mut self, mut inner: Pin<&mut T>, cx: &Context<'_>) {
        while self.has_to_write() && self.write_failed.is_none() {
            if self.sink.is_empty() {
                self.answer.take().into_iter().chain(self.ask.take()).for_each(|message| self.sink.push(message));
            }
            let mark = Mark::now();
            let sent = self.sink.poll_send(inner.as_mut(), cx);
            self.sent(mark, sent.is_pending());
            match sent {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => {}
                // The stream knows better what has happened; if it does not, it will be silent.
                Poll::Ready(Err(error)) => self.write_failed = Some(error.into()),
            }
        }
    }

    /// The inner stream has no more for now. Ends the transport when the peer is given up. `ping` makes the ping of a number.
    pub(super) fn look_at_clock<T: Transport<M>>(
        &mut self,
        mut inner: Pin<&mut T>,
        cx: &mut Context<'_>,
        mut ping: impl FnMut(u32) -> M,
    ) {
        if self.silence.is_over() {
            return;
        }
        if let Some(time) = self.silence.quiet() {
            self.timer.set(time);
        }
        while self.timer.poll(cx).is_ready() {
            let since = self.asked_at.map_or(Duration::ZERO, |asked_at| asked_at.elapsed());
            match self.silence.rang(since) {
                Step::Wait(time) => self.timer.set(time),
                Step::Ask(time) => {
                    self.timer.set(time);
                    self.asked = self.asked.wrapping_add(1);
                    self.ask = Some(ping(self.asked));
                    self.asked_at = Some(Instant::now());
                    self.write(inner.as_mut(), cx);
                }
                Step::GiveUp => return self.give_up(),
            }
        }
    }

    fn give_up(&mut self) {
        let (interval, timeout) = (self.interval, self.timeout);
        let mut error = Error::timeout(format!(
            "the peer is taken for dead: nothing came within {timeout:?} of a ping, after a silence of {interval:?} at most \
             (HeartbeatLayer::new)"
        ));
        if let Some(write_failed) = self.write_failed.take() {
            error = error.with_source(write_failed);
        }
        let closed = Error::closed("the peer did not answer the heartbeat").with_source(error.clone());
        self.sink.abort(error, closed);
        self.stop();
    }
}
