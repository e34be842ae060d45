use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    HeartbeatEvent, Monitor,
    rtt::RoundTrips,
    silence::{Silence, Step},
};
use crate::{
    Error, Transport,
    layer::own::LayerSink,
    log,
    rt::{self, Instant, Timer},
    transport::signal::Mark,
};

/// A heartbeat without the inner transport and the form of pings: when to ping, what waits to be written, and whether
/// the peer is alive.
#[derive(Debug)]
#[expect(unnameable_types, reason = "belongs to a sealed trait")]
pub struct Watchdog<M> {
    interval: Duration,
    timeout: Duration,
    pub(super) silence: Silence,
    timer: Timer,
    pub(super) sink: LayerSink<M>,
    /// The peer is not dead, and nothing of the layer's own waits: reading is all there is to do. Derived by
    /// [`settle`](Self::settle), so that each message costs one branch.
    pub(super) is_calm: bool,
    /// The inner transport had no room for what was sent. Bytes that it takes from now on are bytes that the peer took.
    is_full: bool,
    /// A ping, and the answer to the newest ping of the peer. Both wait until what was sent before has left, so that a
    /// peer that pings and does not read costs no more than these two.
    ping: Option<M>,
    answer: Option<M>,
    /// The number of pings sent.
    pings: u32,
    pinged_at: Option<Instant>,
    pub(super) rtt: RoundTrips,
    /// The error because of which nothing can be written any more.
    write_failed: Option<Error>,
    /// The rejection of one message, for the stream. Nothing more is written until the stream has returned it.
    rejected: Option<Error>,
}

impl<M> Watchdog<M> {
    pub(super) fn new(interval: Duration, timeout: Duration, is_steady: bool, monitor: Monitor) -> Self {
        Self {
            interval,
            timeout,
            silence: Silence::new(interval, timeout).steady(is_steady),
            timer: Timer::new(),
            sink: LayerSink::new(),
            is_calm: true,
            is_full: false,
            ping: None,
            answer: None,
            pings: 0,
            pinged_at: None,
            rtt: RoundTrips::new(monitor),
            write_failed: None,
            rejected: None,
        }
    }

    /// Stops pinging, because one of the ends closes.
    pub(super) fn stop(&mut self) {
        self.silence.stop();
        self.timer.clear();
        // A close follows, and nothing may follow a close.
        (self.ping, self.answer) = (None, None);
    }

    pub(super) fn settle(&mut self) {
        self.is_calm = !self.sink.has_ended() && !self.has_to_write();
    }

    /// Queues an answer to the peer, in place of one that still waits.
    pub(super) fn answer(&mut self, answer: M) {
        if !self.silence.is_over() {
            self.answer = Some(answer);
        }
    }

    /// Measures the round trip: the answer to the newest ping has arrived.
    pub(super) fn measure_round_trip(&mut self) {
        if let Some(pinged_at) = self.pinged_at {
            self.rtt.add(pinged_at.elapsed());
        }
    }

    /// Notes that a message came. Returns whether a ping may be due although the stream never waits.
    pub(super) fn heard_and_checks_clock(&mut self) -> bool {
        self.silence.heard();
        self.silence.is_steady()
    }

    /// Returns the rejection that the stream has not returned yet.
    pub(super) fn take_rejection(&mut self) -> Option<Error> {
        self.rejected.take()
    }

    fn has_to_write(&self) -> bool {
        self.ping.is_some() || self.answer.is_some() || self.rejected.is_some() || !self.sink.is_idle()
    }

    /// Notes that a method of the inner sink was polled. `mark` was taken before.
    fn sent(&mut self, mark: Mark, is_pending: bool) {
        if self.is_full {
            self.silence.moved(mark.moved());
        }
        // A socket is also `Pending` if the task has used up its budget.
        self.is_full = is_pending && (self.is_full || rt::has_budget_remaining());
    }

    // Bytes that the inner sink takes are a sign of life only if it had no room before, so its methods are measured
    // then.

    #[inline]
    pub(super) fn poll_ready<T: Transport<M>>(
        &mut self,
        mut inner: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        let polled = if self.is_full { None } else { self.sink.forward_ready(inner.as_mut(), cx) };
        match polled {
            Some(Poll::Ready(polled)) => Poll::Ready(polled),
            polled => self.measured(|sink| polled.unwrap_or_else(|| sink.poll_ready(inner, cx))),
        }
    }

    #[inline]
    pub(super) fn poll_flush<T: Transport<M>>(
        &mut self,
        mut inner: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>> {
        let polled = if self.is_full { None } else { self.sink.forward_flush(inner.as_mut(), cx) };
        match polled {
            Some(Poll::Ready(polled)) => Poll::Ready(polled),
            polled => self.measured(|sink| polled.unwrap_or_else(|| sink.poll_flush(inner, cx))),
        }
    }

    /// Out of line, so that the methods above are small enough to be inlined.
    #[inline(never)]
    fn measured<R>(&mut self, poll: impl FnOnce(&mut LayerSink<M>) -> Poll<R>) -> Poll<R> {
        let mark = Mark::now();
        let polled = poll(&mut self.sink);
        self.sent(mark, polled.is_pending());
        polled
    }

    /// Writes what the peer waits for, even if the user never writes.
    #[inline]
    pub(super) fn write<T: Transport<M>>(&mut self, inner: Pin<&mut T>, cx: &Context<'_>) {
        // Most polls find nothing to write.
        if self.has_to_write() {
            self.write_all(inner, cx);
        }
    }

    fn write_all<T: Transport<M>>(&mut self, mut inner: Pin<&mut T>, cx: &Context<'_>) {
        while self.has_to_write() && self.write_failed.is_none() && self.rejected.is_none() {
            // Only when the sink is empty: it keeps everything that is pushed, and a peer that pings without reading
            // would fill it.
            if self.sink.is_empty() {
                self.answer.take().into_iter().chain(self.ping.take()).for_each(|message| self.sink.push(message));
            }
            let mark = Mark::now();
            let sent = self.sink.poll_send(inner.as_mut(), cx);
            self.sent(mark, sent.is_pending());
            match sent {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => {}
                // One message: a ping that is dropped here is followed by that of the next interval.
                Poll::Ready(Err(error)) if error.is_rejection() => self.rejected = Some(error),
                // The stream returns the cause. If it does not, it will be silent.
                Poll::Ready(Err(error)) => self.write_failed = Some(error),
            }
        }
    }

    /// Sends a ping or ends the transport, if the time for that has come. Everything that arrived must have been read.
    /// `ping` makes the ping of a number.
    pub(super) fn check_clock<T: Transport<M>>(
        &mut self,
        mut inner: Pin<&mut T>,
        cx: &mut Context<'_>,
        mut ping: impl FnMut(u32) -> M,
    ) {
        if self.silence.is_over() {
            return;
        }
        // The timer is set here and not for each message: setting it costs more than the rest of the layer.
        if let Some(time) = self.silence.quiet() {
            self.timer.set(time);
        }
        while self.timer.poll(cx).is_ready() {
            let since = self.pinged_at.map_or(Duration::ZERO, |pinged_at| pinged_at.elapsed());
            match self.silence.rang(since) {
                Step::Wait(time) => self.timer.set(time),
                Step::Ping(time) => {
                    self.timer.set(time);
                    self.pings = self.pings.wrapping_add(1);
                    self.ping = Some(ping(self.pings));
                    self.pinged_at = Some(Instant::now());
                    self.write(inner.as_mut(), cx);
                }
                Step::GiveUp => return self.give_up(),
            }
        }
    }

    fn give_up(&mut self) {
        let (interval, timeout) = (self.interval, self.timeout);
        let mut error = Error::timeout(format!(
            "the peer is taken for dead: nothing came within {timeout:?} of a ping, after a silence of {interval:?} \
             at most (HeartbeatLayer::new)"
        ));
        if let Some(write_failed) = self.write_failed.take() {
            error = error.with_source(write_failed);
        }
        self.rtt.monitor().tell(HeartbeatEvent::TimedOut);
        log::heartbeat_timed_out(interval, timeout);
        // No close message: it would wait behind messages that the peer does not read.
        let closed = Error::closed("the peer did not answer the heartbeat").with_source(error.clone());
        self.sink.abort(error, closed);
        self.stop();
    }
}
