use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use super::{
    HeartbeatLayer, Monitor,
    rtt::Measure,
    state::{Silence, Step},
    wire::{self, Form, Incoming, Payload},
};
use crate::{
    Error, Message, Transport,
    layer::control::Control,
    rt::{self, Instant, Timer},
    transport::signal::Mark,
};

/// All of a [`Heartbeat`](super::Heartbeat) but the inner transport.
#[derive(Debug)]
pub(super) struct Beat {
    interval: Duration,
    timeout: Duration,
    form: Form,
    answers_pings: bool,
    pub(super) silence: Silence,
    timer: Timer,
    pub(super) control: Control<Message>,
    /// The peer was not given up, and nothing of the layer's own waits: reading is all there is to do. Known after each time
    /// that it was not.
    pub(super) is_calm: bool,
    /// The transport below had no room for what was sent: bytes that it takes from now on are bytes that the peer took.
    pub(super) is_full: bool,
    /// An own ping, and the answer to the newest of the peer's, which wait until what was sent before has left: so a peer
    /// that asks and does not read costs no more than these.
    ask: Option<Message>,
    answer: Option<Message>,
    /// How many pings were sent.
    asked: u32,
    asked_at: Option<Instant>,
    /// The payload of the newest, until its pong comes.
    awaited: Option<Payload>,
    pub(super) measure: Measure,
    /// Why nothing can be said any more.
    write_failed: Option<Error>,
    /// The peer was given up: what the sink says.
    pub(super) dead: Option<Error>,
}

impl Beat {
    pub(super) fn new(layer: &HeartbeatLayer, monitor: Monitor) -> Self {
        Self {
            interval: layer.interval,
            timeout: layer.timeout,
            form: layer.form,
            answers_pings: layer.answers_pings,
            silence: Silence::new(layer.interval, layer.timeout),
            timer: Timer::new(),
            control: Control::new(),
            is_calm: true,
            is_full: false,
            ask: None,
            answer: None,
            asked: 0,
            asked_at: None,
            awaited: None,
            measure: Measure::new(monitor),
            write_failed: None,
            dead: None,
        }
    }

    #[inline]
    pub(super) fn check_alive(&self) -> Result<(), Error> {
        match &self.dead {
            None => Ok(()),
            Some(error) => Err(again(error)),
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
        self.is_calm = self.dead.is_none() && !self.has_to_write();
    }

    /// Has this said to the peer, in place of an answer that still waits.
    fn answer(&mut self, answer: Message) {
        if !self.silence.is_over() {
            self.answer = Some(answer);
        }
    }

    /// Takes a message that [concerns](wire::concerns) the layer; gives what is to be passed on.
    #[cold]
    pub(super) fn take(&mut self, message: Message) -> Option<Result<Message, Error>> {
        match wire::open(message) {
            Incoming::Message(message) => {
                match &message {
                    Message::Text(_) | Message::Binary(_) | Message::Pong(_) => {}
                    Message::Ping(payload) => {
                        if self.answers_pings {
                            self.answer(Message::Pong(payload.clone()));
                        }
                        // The transport may have an answer of its own, and wait for a flush.
                        self.control.flush_soon();
                    }
                    Message::Close(_) => self.stop(),
                }
                return Some(Ok(message));
            }
            Incoming::Ping(payload) => self.answer(wire::pong(payload)),
            Incoming::Pong(payload) => self.answered(payload),
            Incoming::Malformed(kind) => {
                let error = format!("the peer sent a heartbeat that is neither ping nor pong (kind {kind})");
                return Some(Err(Error::protocol(error).into_rejection()));
            }
        }
        None
    }

    /// The user's message, where it [concerns](wire::concerns) the layer, as it is to be sent.
    #[cold]
    pub(super) fn pass(&mut self, message: Message) -> Message {
        if message.is_close() {
            self.stop();
        }
        wire::close(message)
    }

    /// The pong of this payload came.
    fn answered(&mut self, payload: Payload) {
        if self.awaited.take_if(|awaited| *awaited == payload).is_some()
            && let Some(asked_at) = self.asked_at
        {
            self.measure.add(asked_at.elapsed());
        }
    }

    pub(super) fn has_to_write(&self) -> bool {
        self.ask.is_some() || self.answer.is_some() || !self.control.is_idle()
    }

    /// A method of the sink below was polled, `mark` being taken before.
    pub(super) fn sent(&mut self, mark: Mark, is_pending: bool) {
        if self.is_full {
            self.silence.moved(mark.moved());
        }
        // A socket may also be `Pending` because the task has had its turn.
        self.is_full = is_pending && (self.is_full || rt::has_budget_remaining());
    }

    /// Writes what the peer waits for, though nobody else writes.
    pub(super) fn write<T: Transport<Message>>(&mut self, mut inner: Pin<&mut T>, cx: &Context<'_>) {
        while self.has_to_write() && self.write_failed.is_none() {
            if self.control.len() == 0 {
                self.answer.take().into_iter().chain(self.ask.take()).for_each(|message| self.control.push(message));
            }
            let mark = Mark::now();
            let sent = self.control.poll_send(inner.as_mut(), cx);
            self.sent(mark, sent.is_pending());
            match sent {
                Poll::Pending => return,
                Poll::Ready(Ok(())) => {}
                // The stream knows better what has happened; if it does not, it will be silent.
                Poll::Ready(Err(error)) => self.write_failed = Some(error.into()),
            }
        }
    }

    /// The inner stream has no more for now. Ready when the peer is given up.
    pub(super) fn poll_silence<T: Transport<Message>>(
        &mut self,
        mut inner: Pin<&mut T>,
        cx: &mut Context<'_>,
    ) -> Poll<Error> {
        if self.silence.is_over() {
            return Poll::Pending;
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
                    self.ask();
                    self.write(inner.as_mut(), cx);
                }
                Step::GiveUp => return Poll::Ready(self.give_up()),
            }
        }
        Poll::Pending
    }

    fn ask(&mut self) {
        self.asked = self.asked.wrapping_add(1);
        let payload = wire::payload(self.asked);
        self.ask = Some(wire::ping(self.form, payload));
        self.awaited = Some(payload);
        self.asked_at = Some(Instant::now());
    }

    fn give_up(&mut self) -> Error {
        let (interval, timeout) = (self.interval, self.timeout);
        let mut error = Error::timeout(format!(
            "the peer is taken for dead: nothing came within {timeout:?} of a ping, after a silence of {interval:?} at most \
             (HeartbeatLayer::new)"
        ));
        if let Some(write_failed) = self.write_failed.take() {
            error = error.with_source(write_failed);
        }
        self.dead = Some(Error::closed("the peer did not answer the heartbeat").with_source(error.clone()));
        self.stop();
        self.control.end();
        error
    }
}

#[cold]
fn again(error: &Error) -> Error {
    error.clone()
}
