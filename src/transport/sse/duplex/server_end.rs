//! The server's end.

use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

use super::session::{FromClient, Session};
use crate::{
    CloseFrame, Error, Message, log,
    transport::{
        closing::{self, Closable, Closing, Received, fault_frame},
        drain::Member,
        framing,
        permit::Admission,
    },
};

#[derive(Debug)]
pub(super) struct ServerEnd {
    session: Arc<Session>,
    pub(super) closing: Closing,
    admission: Option<Box<Admission>>,
}

impl ServerEnd {
    pub(super) fn new(session: Arc<Session>, admission: Option<Box<Admission>>) -> Self {
        let closing = Closing::new(session.limits.close).with_idle(session.limits.idle);
        Self { session, closing, admission }
    }

    pub(super) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        closing::check_open(self, cx)?;
        let room = closing::poll_room(self, cx, |this, cx| this.session.poll_room(cx));
        room.map(|has_room| if has_room { Ok(()) } else { Err(self.closing.closed()) })
    }

    pub(super) fn start_send(&mut self, message: Message) -> Result<(), Error> {
        if !self.closing.is_open() || self.session.is_cut() {
            return Err(self.closing.closed());
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
}

impl Closable for ServerEnd {
    fn closing(&mut self) -> &mut Closing {
        &mut self.closing
    }

    fn has_failed(&mut self) -> bool {
        self.session.is_cut()
    }

    fn member(&mut self) -> Option<&mut Member> {
        self.admission.as_mut()?.drain.as_mut()
    }

    fn start_close(&mut self, frame: Option<CloseFrame>) {
        if self.closing.is_open() {
            self.session.send(&Message::Close(frame));
            self.closing.start();
            self.session.wake_reader();
        }
    }

    fn send_notice(&mut self, message: Message) {
        if framing::check_outgoing(&message, self.session.limits.message).is_ok() {
            self.session.send(&message);
        }
    }

    fn poll_told(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.session.poll_told(cx)
    }

    fn unsent(&mut self) -> u64 {
        self.session.unsent()
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Received> {
        Poll::Ready(match ready!(self.session.poll_receive(cx)) {
            FromClient::Message(message) => Received::Message(message),
            FromClient::Fault(error) => {
                let frame = fault_frame(&error);
                log::closing("sse", frame.code(), &error, self.admission.as_ref().and_then(|admission| admission.peer));
                Received::Fault(error, frame)
            }
            FromClient::Cut => Received::Lost(Error::closed("the client's event stream was cut")),
        })
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match self.session.poll_flush(cx) {
            Poll::Ready(true) => Poll::Ready(Ok(())),
            Poll::Pending if !self.closing.has_ended() => Poll::Pending,
            Poll::Ready(false) | Poll::Pending => Poll::Ready(Err(self.closing.closed())),
        }
    }

    fn wake_writer(&mut self) {
        self.session.wake_writer();
    }

    fn shut(&mut self, _: &mut Context<'_>) {
        self.session.leave();
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        self.session.leave();
    }
}
