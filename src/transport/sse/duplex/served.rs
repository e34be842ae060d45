//! The server's end.

use std::{
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    phase::{Course, Phase, fault_frame},
    session::{Received, Session},
};
use crate::{
    CloseCode, CloseFrame, Error, Message, log,
    transport::{drain::Member, framing, guest::Guest, signal},
};

#[derive(Debug)]
pub(super) struct Served {
    session: Arc<Session>,
    course: Course,
    guest: Option<Box<Guest>>,
}

impl Served {
    pub(super) fn new(session: Arc<Session>, guest: Option<Box<Guest>>) -> Self {
        let course = Course::new(session.limits.close);
        Self { session, course, guest }
    }

    pub(super) fn course(&self) -> &Course {
        &self.course
    }

    /// Sends our close, unless it was already sent.
    pub(super) fn start_close(&mut self, frame: Option<CloseFrame>) {
        if self.course.is_open() {
            self.session.send(&Message::Close(frame));
            self.course.phase = Phase::Closing;
        }
    }

    fn member(&mut self) -> Option<&mut Member> {
        self.guest.as_mut()?.drain.as_mut()
    }

    fn poll_cut(&mut self) -> Option<Error> {
        if matches!(self.course.phase, Phase::Ended) {
            return None;
        }
        let error = self.member()?.cut()?;
        self.end();
        Some(error)
    }

    /// Checks the drain for the reading half: begins the close if the drain asks for it, and returns the cause if the
    /// drain cuts the session.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Option<Error> {
        let cut = self.poll_cut();
        if self.course.is_open()
            && let Some(frame) = self.member().and_then(|member| member.poll_reader(cx))
        {
            self.start_close(Some(frame));
            self.session.wake_writer();
        }
        cut
    }

    fn writer_waits<T>(&mut self, polled: &Poll<T>, cx: &Context<'_>) {
        if let Some(member) = self.member()
            && member.writer_waits(polled, cx)
        {
            cx.waker().wake_by_ref();
        }
    }

    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        loop {
            if let Some(error) = self.poll_drain(cx) {
                return Poll::Ready(Some(Err(error)));
            }
            match self.course.phase {
                Phase::Ended => return Poll::Ready(None),
                Phase::Leaving | Phase::Failing(_) => {
                    if self.session.poll_told(cx).is_pending() && self.course.poll_deadline(cx).is_pending() {
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
            match self.session.poll_receive(cx) {
                Poll::Ready(Received::Message(message)) if !is_late || message.is_close() => {
                    if let Message::Close(frame) = &message {
                        self.course.peer_close.clone_from(frame);
                        self.start_close(frame.clone());
                        self.course.phase = Phase::Leaving;
                        self.session.wake_writer();
                    }
                    return Poll::Ready(Some(Ok(message)));
                }
                Poll::Ready(Received::Fault(error)) => {
                    let frame = fault_frame(&error);
                    log::closing("sse", frame.code(), &error, self.guest.as_ref().and_then(|guest| guest.peer));
                    self.start_close(Some(frame));
                    self.course.phase = Phase::Failing(error);
                    self.session.wake_writer();
                }
                Poll::Ready(Received::Cut) => {
                    self.end();
                    return Poll::Ready(Some(Err(Error::closed("the client's event stream was cut"))));
                }
                Poll::Pending if !is_late => {
                    if self.member().is_some_and(|member| member.reader_waits(cx)) {
                        continue;
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Received::Message(_)) | Poll::Pending => {
                    self.end();
                    return Poll::Ready(Some(Err(self.course.late())));
                }
            }
        }
    }

    fn end(&mut self) -> Phase {
        self.session.leave();
        self.course.end()
    }

    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.course.is_open() {
            return Poll::Ready(Err(self.course.closed()));
        }
        if let Some(error) = self.poll_cut() {
            return Poll::Ready(Err(error));
        }
        if let Some(frame) = self.member().and_then(|member| member.poll_writer()) {
            self.start_close(Some(frame));
            return Poll::Ready(Err(self.course.closed()));
        }
        let room = self.session.poll_room(cx);
        self.writer_waits(&room, cx);
        room.map(|has_room| if has_room { Ok(()) } else { Err(self.course.closed()) })
    }

    pub(super) fn start_send(&mut self, message: Message) -> Result<(), Error> {
        if !self.course.is_open() || self.session.is_cut() {
            return Err(self.course.closed());
        }
        framing::check_outgoing(&message, self.session.limits.message)?;
        if let Some(member) = self.member() {
            member.wrote();
        }
        match message {
            Message::Close(frame) => self.start_close(frame),
            message => self.session.send(&message),
        }
        Ok(())
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let flushed = self.session.poll_flush(cx);
        self.writer_waits(&flushed, cx);
        match flushed {
            Poll::Ready(true) => Poll::Ready(Ok(())),
            Poll::Ready(false) => Poll::Ready(Err(self.course.closed())),
            Poll::Pending if matches!(self.course.phase, Phase::Ended) => Poll::Ready(Err(self.course.closed())),
            Poll::Pending if !self.course.is_open() => {
                self.course.poll_sink_deadline(cx).map(|()| Err(self.course.late()))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    pub(super) fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.session.is_cut() {
            let frame = signal::close_frame().or_else(|| self.member()?.frame());
            self.start_close(Some(frame.unwrap_or_else(|| CloseFrame::new(CloseCode::NORMAL, ""))));
        }
        match self.poll_flush(cx) {
            // The caller wants the transport closed, and it is.
            Poll::Ready(Err(error)) if error.is_closed() => Poll::Ready(Ok(())),
            other => other,
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.session.leave();
    }
}
