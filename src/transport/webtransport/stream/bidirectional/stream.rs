use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{State, WebTransportStream};
use crate::{Error, Message, rt, transport::webtransport::stream::reader::End};

impl Stream for WebTransportStream {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let _ = this.poll_owed(cx);
        match this.state {
            State::Ended => return Poll::Ready(None),
            State::Leaving => return this.poll_leaving(cx),
            State::Open => {}
        }
        // Checked before reading, because a peer may keep sending. An end that arrived in time still counts if it was
        // read late.
        let is_late = this.writer.is_closing() && this.poll_deadline(cx).is_ready();
        match this.reader.poll_next(cx) {
            Poll::Ready(Ok(message)) if !is_late || message.is_close() => {
                this.received(&message);
                let _ = this.poll_owed(cx);
                Poll::Ready(Some(Ok(message)))
            }
            Poll::Ready(Err(End::Finished)) => {
                if this.is_open() {
                    this.writer.end();
                }
                this.leave();
                let _ = this.poll_owed(cx);
                this.poll_leaving(cx)
            }
            Poll::Ready(Err(End::Lost(error))) => {
                if this.peer_close.is_none() {
                    this.peer_close = error.close_frame().cloned();
                }
                this.end(0);
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(Err(End::Broken(error, code))) => {
                this.end(code.get().into());
                Poll::Ready(Some(Err(error)))
            }
            Poll::Pending if !is_late => {
                this.writer.report_progress();
                this.reading.register(cx);
                Poll::Pending
            }
            Poll::Ready(Ok(_)) | Poll::Pending => {
                this.end(0);
                Poll::Ready(Some(Err(Error::timeout(format!(
                    "the peer did not finish the closing handshake within {:?} (Limits::close)",
                    this.close_time()
                )))))
            }
        }
    }
}

impl WebTransportStream {
    fn received(&mut self, message: &Message) {
        match message {
            Message::Ping(payload) if !self.writer.is_closing() => self.writer.answer(payload.clone()),
            Message::Close(frame) => {
                self.peer_close.clone_from(frame);
                if self.is_open() {
                    // A close frame is never too large.
                    let _ = self.writer.push(Message::Close(frame.clone()));
                }
                self.leave();
            }
            _ => {}
        }
    }

    /// Records that the peer has sent its last message.
    fn leave(&mut self) {
        self.state = State::Leaving;
        self.halves.writer.wake();
    }

    /// Waits until the peer has our last message.
    fn poll_leaving(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Message, Error>>> {
        if self.writer.owes() && self.poll_deadline(cx).is_pending() {
            self.reading.register(cx);
            return Poll::Pending;
        }
        self.end(0);
        Poll::Ready(None)
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let time = self.close_time();
        self.deadline.get_or_insert_with(|| Box::pin(rt::sleep(time))).as_mut().poll(cx)
    }

    /// Ends the stream. If it did not end cleanly, aborts it with a code for the peer.
    pub(super) fn end(&mut self, code: u32) {
        self.state = State::Ended;
        self.deadline = None;
        self.reader.stop(code);
        if self.writer.owes() || !self.writer.is_closing() {
            self.writer.reset(code);
        }
        self.halves.writer.wake();
    }
}
