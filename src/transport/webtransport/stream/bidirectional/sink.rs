use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_sink::Sink;

use super::{State, WebTransportStream};
use crate::{
    CloseCode, CloseFrame, Error, Message,
    transport::{signal, webtransport::stream::writer::Writer},
};

impl Sink<Message> for WebTransportStream {
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if !self.is_open() {
            return Poll::Ready(Err(self.closed()));
        }
        // The common case: nothing is written, and no task has to be woken.
        if self.writer.has_room() {
            return Poll::Ready(Ok(()));
        }
        self.poll_writer(cx, Writer::poll_room)
    }

    fn start_send(mut self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        if !self.is_open() {
            return Err(self.closed());
        }
        let is_close = message.is_close();
        self.writer.push(message)?;
        if is_close {
            // The stream now has to wait for an answer within a time limit.
            self.reading.wake();
        }
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.poll_writer(cx, Writer::poll_flush)
    }

    /// Sends a close frame, unless it was already sent (1000, or the [one asked for](signal::close_frame)), flushes and
    /// ends this direction. The stream reads the answer.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.state != State::Ended && self.is_open() {
            let frame = signal::close_frame().unwrap_or_else(|| CloseFrame::new(CloseCode::NORMAL, ""));
            self.writer.push(Message::Close(Some(frame)))?;
            self.reading.wake();
        }
        match ready!(self.poll_writer(cx, Writer::poll_flush)) {
            // The caller wants the transport closed, and it is.
            Err(error) if error.is_closed() => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}
