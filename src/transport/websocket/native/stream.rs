use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{State, WebSocket};
use crate::{CloseCode, CloseFrame, Error, Message, Text, log, rt, transport::websocket::engine::End};

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for WebSocket<S> {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
            if let Some(error) = this.poll_drain(cx) {
                return Poll::Ready(Some(Err(error)));
            }
            if this.engine.answer_waits() {
                this.poll_answer(cx);
            }
            match &this.state {
                State::Ended => return Poll::Ready(None),
                State::Failing { .. } => return this.poll_failing(cx).map(|error| Some(Err(error))),
                State::Leaving => {
                    let is_told = !this.engine.answer_waits() || this.write_failed.is_some();
                    if !is_told && this.poll_deadline(cx).is_pending() {
                        return Poll::Pending;
                    }
                    this.end(cx);
                    return Poll::Ready(None);
                }
                State::Open | State::Closing => {}
            }
            // Checked before reading, because a peer may keep sending. A close that arrived in time still counts if it
            // was read late.
            let is_late = matches!(this.state, State::Closing) && this.poll_deadline(cx).is_ready();
            match this.engine.poll_read(Pin::new(&mut this.io), cx) {
                Poll::Ready(Ok(message)) if !is_late || message.is_close() => {
                    if let Message::Close(frame) = &message {
                        this.peer_close.clone_from(frame);
                        this.state = State::Leaving;
                        this.sink.wake();
                    }
                    if this.engine.answer_waits() {
                        this.poll_answer(cx);
                    }
                    return Poll::Ready(Some(Ok(message)));
                }
                Poll::Ready(Err(End::Closed)) => this.state = State::Leaving,
                Poll::Ready(Err(End::Failed(error, code))) => {
                    if let Some(error) = this.fail(error, code, cx) {
                        return Poll::Ready(Some(Err(error)));
                    }
                }
                Poll::Pending if !is_late => {
                    if this.engine.answer_waits() {
                        this.poll_answer(cx);
                    }
                    if this.reader_waits(cx) {
                        continue;
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Ok(_)) | Poll::Pending => {
                    this.end(cx);
                    let limit = this.close_time;
                    return Poll::Ready(Some(Err(Error::timeout(format!(
                        "the peer did not finish the closing handshake within {limit:?} (Limits::close)"
                    )))));
                }
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Writes pending answers even if no task flushes.
    fn poll_answer(&mut self, cx: &mut Context<'_>) {
        if self.write_failed.is_some() {
            return;
        }
        match self.engine.poll_flush(Pin::new(&mut self.io), cx) {
            Poll::Pending => {}
            Poll::Ready(result) => {
                self.write_failed = result.err().map(Error::from);
                // Our waker had replaced the sink's.
                self.sink.wake();
            }
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let time = self.close_time;
        self.deadline.get_or_insert_with(|| Box::pin(rt::sleep(time))).as_mut().poll(cx)
    }

    /// Ends the connection: closes the socket as far as possible without waiting.
    pub(super) fn end(&mut self, cx: &mut Context<'_>) {
        self.state = State::Ended;
        self.deadline = None;
        self.sink.wake();
        let _ = Pin::new(&mut self.io).poll_shutdown(cx);
    }

    fn fail(&mut self, error: Error, code: Option<CloseCode>, cx: &mut Context<'_>) -> Option<Error> {
        match code {
            // The peer is told, and its remaining data is read: cutting now could prevent it from receiving our close
            // frame (RFC 6455, 7.1.1).
            Some(code) if self.write_failed.is_none() => {
                let reason = match code {
                    CloseCode::TOO_BIG => "message too big",
                    CloseCode::INVALID_PAYLOAD => "text that is not UTF-8",
                    _ => "protocol error",
                };
                log::closing("websocket", code, &error, self.guest.as_ref().and_then(|guest| guest.peer));
                self.engine.close(Some(CloseFrame::new(code, Text::from_static(reason))));
                self.state = State::Failing { error, is_shut: false };
                None
            }
            _ => {
                self.end(cx);
                Some(error)
            }
        }
    }

    /// Waits until the peer, which was told of its fault, has closed too.
    fn poll_failing(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let is_told = !self.engine.answer_waits() || self.write_failed.is_some();
        let State::Failing { error, is_shut } = &mut self.state else { return Poll::Pending };
        if is_told && !*is_shut {
            *is_shut = Pin::new(&mut self.io).poll_shutdown(cx).is_ready();
        }
        let error = error.clone();
        // The deadline is checked first, so that a peer that keeps sending cannot prevent the check.
        let is_late = self.poll_deadline(cx).is_ready();
        if !is_late && self.engine.poll_discard(Pin::new(&mut self.io), cx).is_pending() {
            return Poll::Pending;
        }
        self.end(cx);
        Poll::Ready(error)
    }
}
