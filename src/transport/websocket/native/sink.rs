use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{State, WebSocket};
use crate::{CloseCode, CloseFrame, Error, Message, transport::signal};

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Message> for WebSocket<S> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        if this.write_failed.is_some() || !matches!(this.state, State::Open) || !this.engine.can_send() {
            return Poll::Ready(Err(this.closed()));
        }
        if let Some(error) = this.poll_drain_writer(cx) {
            return Poll::Ready(Err(error));
        }
        let poll = this.engine.poll_room(Pin::new(&mut this.io), cx);
        this.writer_waits(&poll, cx);
        this.written(cx, poll)
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        let this = self.get_mut();
        if this.write_failed.is_some() || !matches!(this.state, State::Open) || !this.engine.can_send() {
            return Err(this.closed());
        }
        if message.is_close() {
            this.state = State::Closing;
        }
        if let Some(member) = this.member() {
            member.wrote();
        }
        this.engine.send(message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        if this.write_failed.is_some() || (matches!(this.state, State::Ended) && this.engine.unwritten() > 0) {
            return Poll::Ready(Err(this.closed()));
        }
        let poll = this.engine.poll_flush(Pin::new(&mut this.io), cx);
        this.writer_waits(&poll, cx);
        this.written(cx, poll)
    }

    /// Sends a close frame, unless it was already sent, and flushes. The frame is the one that the [caller asks
    /// for](signal::close_frame), or has the code 1000. The stream reads the answer.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = &mut *self;
        if matches!(this.state, State::Open) && this.write_failed.is_none() {
            let frame = signal::close_frame().or_else(|| this.drain_frame());
            this.engine.close(Some(frame.unwrap_or_else(|| CloseFrame::new(CloseCode::NORMAL, ""))));
            this.state = State::Closing;
        }
        match ready!(self.poll_flush(cx)) {
            // The caller wants the transport closed, and it is.
            Err(error) if error.is_closed() => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    fn written<T>(&mut self, cx: &Context<'_>, poll: Poll<io::Result<T>>) -> Poll<Result<T, Error>> {
        match poll {
            Poll::Pending => {
                self.sink.register(cx);
                Poll::Pending
            }
            Poll::Ready(Ok(value)) => Poll::Ready(Ok(value)),
            Poll::Ready(Err(error)) => {
                let error = Error::from(error);
                self.write_failed = Some(error.clone());
                Poll::Ready(Err(error))
            }
        }
    }
}
