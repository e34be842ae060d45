//! The client's end.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use super::{
    downlink::Downlink,
    event,
    phase::{Course, Phase, fault_frame},
    uplink::Uplink,
};
use crate::{
    CloseCode, CloseFrame, Error, Limits, Message,
    transport::{
        framing, signal,
        wakers::{WakerPair, WakerSlot},
    },
};

#[derive(Debug)]
pub(super) struct Called {
    /// The receiving direction, or `None` once it has ended.
    down: Option<Downlink>,
    up: Uplink,
    course: Course,
    limit: usize,
    halves: Arc<WakerPair>,
    /// A waker for both halves, since either half drives the sending direction.
    both: Waker,
    /// The reading half's task, woken when the sending direction fails under the writing half.
    reader: WakerSlot,
}

impl Called {
    pub(super) fn new(down: Downlink, up: Uplink, limits: Limits) -> Self {
        let (halves, both) = WakerPair::new();
        let course = Course::new(limits.close);
        Self { down: Some(down), up, course, limit: limits.message, halves, both, reader: WakerSlot::default() }
    }

    pub(super) fn course(&self) -> &Course {
        &self.course
    }

    /// Sends our close, unless it was already sent.
    pub(super) fn start_close(&mut self, frame: Option<CloseFrame>) {
        if self.course.is_open() {
            self.up.outbox().close(&Message::Close(frame));
            self.course.phase = Phase::Closing;
        }
    }

    fn poll_up(&mut self) {
        if self.up.poll(&mut Context::from_waker(&self.both)) {
            self.reader.wake();
        }
    }

    /// Ensures that the reading half's messages are sent even if no task flushes.
    fn poll_answer(&mut self, cx: &Context<'_>) {
        if self.up.outbox().is_answering() {
            self.halves.reader.register(cx.waker());
            self.poll_up();
        }
    }

    fn is_told(&self) -> bool {
        self.up.failed().is_some() || !self.up.outbox().is_answering()
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        loop {
            self.poll_answer(cx);
            match self.course.phase {
                Phase::Ended => return Poll::Ready(None),
                Phase::Leaving | Phase::Failing(_) => {
                    if !self.is_told() && self.course.poll_deadline(cx).is_pending() {
                        return Poll::Pending;
                    }
                    return Poll::Ready(match self.end() {
                        Phase::Failing(error) => Some(Err(error)),
                        _ => None,
                    });
                }
                Phase::Open | Phase::Closing => {}
            }
            let is_late = matches!(self.course.phase, Phase::Closing) && self.course.poll_deadline(cx).is_ready();
            match self.poll_message(cx) {
                Poll::Ready(Ok(Some(message))) if !is_late || message.is_close() => {
                    self.heed(&message);
                    self.poll_answer(cx);
                    return Poll::Ready(Some(Ok(message)));
                }
                Poll::Ready(Ok(None)) => {
                    self.end();
                    return Poll::Ready(Some(Err(Error::closed("the server ended the event stream without a close"))));
                }
                Poll::Ready(Err(error)) if error.is_closed() || error.is_timeout() => {
                    self.end();
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(Err(error)) => {
                    self.start_close(Some(fault_frame(&error)));
                    self.up.outbox().answer();
                    // The event stream stays open, unread. Otherwise the session would end with it before the server
                    // was told.
                    self.course.phase = Phase::Failing(error);
                    self.halves.writer.wake();
                }
                Poll::Pending if !is_late => match self.poll_refused(cx) {
                    Some(error) => {
                        self.end();
                        return Poll::Ready(Some(Err(error)));
                    }
                    None => {
                        self.reader.register(cx);
                        return Poll::Pending;
                    }
                },
                Poll::Ready(Ok(Some(_))) | Poll::Pending => {
                    self.end();
                    let error = self.up.failed().cloned().unwrap_or_else(|| self.course.late());
                    return Poll::Ready(Some(Err(error)));
                }
            }
        }
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, Error>> {
        let Some(down) = &mut self.down else { return Poll::Ready(Ok(None)) };
        let limit = self.limit;
        down.poll_event(cx).map(|event| match event {
            Ok(event) => event.map(|event| event::decode(event, limit)).transpose(),
            Err(error) if error.is_too_large() => {
                Err(error.context(format!("an incoming message is over the limit of {limit} bytes (Limits::message)")))
            }
            Err(error) => Err(error),
        })
    }

    /// Responds to a message, if it needs a response.
    fn heed(&mut self, message: &Message) {
        match message {
            // Nothing is sent after a close.
            Message::Ping(payload) if self.course.is_open() => self.up.outbox().pong(payload.clone()),
            Message::Close(frame) => {
                self.course.peer_close.clone_from(frame);
                self.start_close(frame.clone());
                self.up.outbox().answer();
                self.course.phase = Phase::Leaving;
                self.halves.writer.wake();
            }
            _ => {}
        }
    }

    /// Returns why nothing can be sent any more. If the server knows the reason, its last messages and its close, which
    /// may be in flight, say more.
    fn poll_refused(&mut self, cx: &mut Context<'_>) -> Option<Error> {
        let error = self.up.failed()?.clone();
        if self.up.has_last_words() && self.course.poll_deadline(cx).is_pending() {
            return None;
        }
        Some(error)
    }

    fn end(&mut self) -> Phase {
        self.down = None;
        self.up.end();
        self.halves.writer.wake();
        self.course.end()
    }

    fn closed(&self) -> Error {
        match self.up.failed() {
            Some(error) if self.course.peer_close.is_none() => {
                // Keeps the kind and status: a permanent rejection must not be mistaken for a lost connection.
                error.clone().context("nothing can be sent any more")
            }
            _ => self.course.closed(),
        }
    }

    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.course.is_open() || self.up.failed().is_some() {
            return Poll::Ready(Err(self.closed()));
        }
        if self.up.outbox().has_room() {
            return Poll::Ready(Ok(()));
        }
        self.halves.writer.register(cx.waker());
        self.up.outbox().push();
        self.poll_up();
        if self.up.failed().is_some() {
            return Poll::Ready(Err(self.closed()));
        }
        if self.up.outbox().has_room() { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    pub(super) fn start_send(&mut self, message: Message) -> Result<(), Error> {
        if !self.course.is_open() || self.up.failed().is_some() {
            return Err(self.closed());
        }
        framing::check_outgoing(&message, self.limit)?;
        match message {
            Message::Close(frame) => self.start_close(frame),
            message => self.up.outbox().send(&message),
        }
        Ok(())
    }

    /// Returns `Ready` when the server has acknowledged all accepted messages. After our close it takes at most the
    /// time of a close.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.up.outbox().is_empty() {
            return Poll::Ready(Ok(()));
        }
        if matches!(self.course.phase, Phase::Ended) {
            return Poll::Ready(Err(self.closed()));
        }
        self.halves.writer.register(cx.waker());
        self.up.outbox().push();
        self.poll_up();
        if self.up.outbox().is_empty() {
            return Poll::Ready(Ok(()));
        }
        if self.up.failed().is_some() {
            return Poll::Ready(Err(self.closed()));
        }
        if !self.course.is_open() && self.course.poll_sink_deadline(cx).is_ready() {
            return Poll::Ready(Err(self.course.late()));
        }
        Poll::Pending
    }

    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.up.failed().is_none() {
            self.start_close(Some(signal::close_frame().unwrap_or_else(|| CloseFrame::new(CloseCode::NORMAL, ""))));
        }
        match self.poll_flush(cx) {
            // The caller wants the transport closed, and it is.
            Poll::Ready(Err(error)) if error.is_closed() => Poll::Ready(Ok(())),
            other => other,
        }
    }
}
