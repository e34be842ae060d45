use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use web_transport_quinn::{self as wtq, generic::poll::SendStream as _};

use super::{outgoing::Outgoing, progress::Progress};
use crate::{
    Error, Message,
    transport::{
        closing::linger,
        signal,
        webtransport::{Session, fault},
    },
};

/// The sending half of a stream, which passes messages to QUIC.
pub(super) struct Writer {
    session: Session,
    /// QUIC's stream, taken out when this stream is dropped.
    send: Option<wtq::SendStream>,
    outgoing: Outgoing,
    progress: Progress,
    /// The newest ping that is not answered yet.
    pong: Option<Bytes>,
    /// Whether room was promised, which remains valid whatever else is written.
    promised: bool,
    /// Whether waiting data must be sent even if no task flushes.
    owes: bool,
    /// Whether the last message is in `outgoing`, or already with QUIC.
    closing: bool,
    /// Whether QUIC has the last message and the end of the stream.
    finished: bool,
    failed: Option<Error>,
}

impl Writer {
    pub(super) fn new(session: Session, send: wtq::SendStream) -> Self {
        Self {
            send: Some(send),
            outgoing: Outgoing::new(session.limits()),
            progress: Progress::default(),
            pong: None,
            promised: false,
            owes: false,
            closing: false,
            finished: false,
            failed: None,
            session,
        }
    }

    pub(super) fn push_preamble(&mut self) {
        self.outgoing.push_preamble();
    }

    /// Returns why nothing can be written any more.
    pub(super) fn failed(&self) -> Option<&Error> {
        self.failed.as_ref()
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    pub(super) fn push(&mut self, message: Message) -> Result<(), Error> {
        self.promised = false;
        let is_close = message.is_close();
        self.outgoing.push(message)?;
        self.closing |= is_close;
        self.owes |= is_close;
        Ok(())
    }

    /// Ends the stream once everything is written, without a close frame.
    pub(super) fn end(&mut self) {
        self.closing = true;
        self.owes = true;
    }

    /// Answers a ping as soon as there is room. If several wait, only the newest is answered (RFC 6455, section 5.5.3).
    pub(super) fn answer(&mut self, ping: Bytes) {
        self.pong = Some(ping);
        self.owes = true;
    }

    /// Returns whether data waits that must be sent even if no task flushes: a pong, the last message.
    pub(super) fn owes(&self) -> bool {
        self.failed.is_none() && self.owes
    }

    /// Promises room for a message, if there is room.
    pub(super) fn has_room(&mut self) -> bool {
        self.promised |= self.outgoing.has_room();
        self.promised
    }

    pub(super) fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        while !self.has_room() {
            ready!(self.poll_write(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Gives QUIC all waiting data.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            if self.outgoing.has_room()
                && !self.closing
                && let Some(pong) = self.pong.take()
            {
                // The payload arrived in a ping, so it is not too large for a pong.
                let _ = self.outgoing.push(Message::Pong(pong));
            }
            if self.outgoing.is_empty() {
                break;
            }
            ready!(self.poll_write(cx))?;
        }
        if self.closing && !self.finished {
            self.pong = None;
            self.finished = true;
            if let Some(send) = &mut self.send {
                // This fails if the peer has stopped the stream and is no longer interested.
                let _ = wtq::SendStream::finish(send);
            }
        }
        self.owes = false;
        Poll::Ready(Ok(()))
    }

    /// Writes some of the waiting data. The future is created for each poll: it has no state, and QUIC keeps the waker
    /// per stream.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(error) = &self.failed {
            return Poll::Ready(Err(error.clone()));
        }
        let Some(send) = &mut self.send else { return Poll::Ready(Err(Error::closed("the stream is closed"))) };
        let written = ready!(pin!(send.write_chunks(self.outgoing.chunks())).poll(cx));
        Poll::Ready(match written {
            Ok(written) => {
                self.outgoing.written(written.bytes, written.chunks);
                self.progress.given(written.bytes);
                signal::moved(written.bytes);
                Ok(())
            }
            Err(error) => {
                let error = fault::write(error);
                self.failed = Some(error.clone());
                // A stream that the peer has stopped counts toward the maximum number of open streams until it is
                // reset.
                self.reset(0);
                Err(error)
            }
        })
    }

    /// Reports the progress that QUIC has made meanwhile.
    pub(super) fn report_progress(&mut self) {
        if self.progress.is_under_way() {
            signal::moved(self.progress.sent_on(self.session.quic()));
        }
    }

    /// Returns the number of bytes that the peer does not have yet, as far as is known.
    pub(super) fn unsent(&mut self) -> u64 {
        self.outgoing.len() as u64 + self.progress.left(self.session.quic())
    }

    /// Abandons undelivered data, and reports why.
    pub(super) fn reset(&mut self, code: u32) {
        if let Some(send) = &mut self.send
            && !self.finished
        {
            let _ = wtq::SendStream::reset(send, code);
        }
        self.finished = true;
        self.failed.get_or_insert_with(|| Error::closed("the stream is closed"));
    }

    pub(super) fn set_priority(&self, priority: i32) {
        if let Some(send) = &self.send {
            // Has no effect on a stream that has ended.
            let _ = wtq::SendStream::set_priority(send, priority);
        }
    }

    /// Waits until the peer has acknowledged the whole stream. Returns an error if the peer stops it.
    pub(super) fn poll_stopped(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        match &mut self.send {
            Some(send) => send.poll_closed(cx).map_err(fault::write),
            None => Poll::Ready(Ok(())),
        }
    }

    /// Handles the drop of the stream. QUIC still delivers data that it accepted with the end of the stream: until
    /// then, for [`Limits::close`](crate::Limits::close) from the last progress, the session is kept.
    pub(super) fn leave(&mut self) {
        if !self.finished || self.failed.is_some() {
            return self.reset(0);
        }
        let Some(send) = self.send.take() else { return };
        if pin!(send.stopped()).poll(&mut Context::from_waker(Waker::noop())).is_ready() {
            return;
        }
        // Without a runtime, no task can wait.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let session = self.session.clone();
            let mut progress = std::mem::take(&mut self.progress);
            runtime.spawn(async move {
                linger(session.limits().close, send.stopped(), || progress.left(session.quic())).await;
            });
        }
    }
}
