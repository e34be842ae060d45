use std::{
    fmt,
    future::{Future, poll_fn},
    io,
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use futures_core::Stream;
use futures_sink::Sink;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{
    Socket,
    engine::{End, Engine},
};
use crate::{CloseCode, CloseFrame, Error, Limits, Message, Text, rt};

/// A WebSocket, either end, over any byte stream.
///
/// [`WebSocketConnector`](super::WebSocketConnector) and [`WebSocketUpgrade`](super::WebSocketUpgrade) make one over a
/// [`Socket`]; [`client`](Self::client) and [`server`](Self::server) wrap a stream whose handshake is done.
///
/// # How it closes
///
/// ```text
///      Message::Close sent, or poll_close           the peer's close frame came:
///                   ┌────────────────────── Open    Message::Close is yielded, the answer is queued
///                   │ close frame queued     │ └──────────────────────────────────────────┐
///                   ▼                        │ the peer broke the protocol, or a limit:   │
///                Closing ──────────────────► │ close frame queued                         ▼
///                   │   └────────────────────┼───────────────────────────────────────► Leaving
///                   │ Limits::close ran out: ▼                                            │
///                   │ Err(is_timeout)     Failing                                         │ the answer is written,
///                   │                        │ the peer has closed too, or Limits::close  │ or Limits::close ran out:
///                   ▼                        │ ran out: Err(what it did)                  │ None
///                 Ended ◄────────────────────┘◄───────────────────────────────────────────┘
/// ```
///
/// A connection that is cut without a close frame goes from any state to *Ended*, with an error that
/// [`is_closed`](Error::is_closed). *Ended* gives `None`, again and again.
///
/// From the first close frame on, the sink gives an error that [`is_closed`](Error::is_closed) and carries the peer's close
/// frame, where there is one; what comes in after ours has gone out is still yielded. To finish a close that was started
/// here, read until `None`, or use [`close`](Self::close). Errors of the stream are final, but for an outgoing message over
/// [`Limits::message`], which concerns that message alone.
///
/// # Pings
///
/// A ping is answered as it is read, and the answer is written in the same poll (or as soon as the socket takes it, if it is
/// full). Nothing is read while nobody polls the stream: an undriven WebSocket whose user neither reads nor writes for a
/// while does not answer pings in that time. [`drive`](crate::TransportExt::drive) does.
///
/// # Cancel safety
///
/// Dropping a future that reads or sends loses nothing: see [`TransportExt`](crate::TransportExt).
///
/// # Panics
///
/// Closing waits on tokio's clock: the runtime needs its time driver (`enable_time`).
pub struct WebSocket<S = Socket> {
    io: S,
    engine: Engine,
    state: State,
    peer_close: Option<CloseFrame>,
    subprotocol: Option<Box<str>>,
    close_time: std::time::Duration,
    deadline: Option<Pin<Box<rt::Sleep>>>,
    /// A write failed: the sink is of no use any more, while the peer's last words may still be read.
    write_failed: Option<Error>,
    /// The sink's task, while the stream has taken its place in the socket to write an answer.
    sink: Option<Waker>,
}

#[derive(Debug)]
enum State {
    Open,
    /// Our close frame went out.
    Closing,
    /// The peer's came in; ours may still wait to be written.
    Leaving,
    /// The peer is at fault.
    Failing {
        error: Error,
        /// The peer has all that it will get.
        is_shut: bool,
    },
    Ended,
}

impl<S> WebSocket<S> {
    /// The client's end of a stream whose opening handshake is done.
    pub fn client(io: S, limits: Limits) -> Self {
        Self::new(io, true, limits, Bytes::new())
    }

    /// The server's end of a stream whose opening handshake is done.
    pub fn server(io: S, limits: Limits) -> Self {
        Self::new(io, false, limits, Bytes::new())
    }

    pub(super) fn new(io: S, is_client: bool, limits: Limits, leftover: Bytes) -> Self {
        Self {
            io,
            engine: Engine::new(is_client, limits, leftover),
            state: State::Open,
            peer_close: None,
            subprotocol: None,
            close_time: limits.close,
            deadline: None,
            write_failed: None,
            sink: None,
        }
    }

    pub(super) fn with_subprotocol(mut self, subprotocol: Option<Box<str>>) -> Self {
        self.subprotocol = subprotocol;
        self
    }

    /// The subprotocol that was agreed on in the handshake (RFC 6455, section 1.9).
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The byte stream below.
    pub fn get_ref(&self) -> &S {
        &self.io
    }

    /// The close frame that the peer sent, once it has.
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.peer_close.as_ref()
    }

    fn closed(&self) -> Error {
        if let Some(error) = &self.write_failed {
            return error.clone();
        }
        let error = match &self.state {
            State::Failing { error, .. } => Error::closed("the connection failed").with_source(error.clone()),
            _ if self.peer_close.is_some() => Error::closed("the peer closed the connection"),
            _ => Error::closed("the connection is closed"),
        };
        error.with_close_frame(self.peer_close.clone())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> WebSocket<S> {
    /// Closes the connection and waits for its end, at most [`Limits::close`]; gives what the peer's close frame says.
    /// Messages that still come in are dropped. Once the connection is closing already, `frame` is not sent.
    ///
    /// # Errors
    ///
    /// [`is_closed`](Error::is_closed) where the peer vanished, [`is_timeout`](Error::is_timeout) where it did not answer.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the close goes on with the next poll of the stream.
    pub async fn close(&mut self, frame: Option<CloseFrame>) -> Result<Option<CloseFrame>, Error> {
        if self.engine.can_send() && matches!(self.state, State::Open) {
            self.engine.close(frame);
            self.state = State::Closing;
        }
        while let Some(message) = poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await {
            message?;
        }
        Ok(self.peer_close.clone())
    }

    /// Writes what the peer waits for, though nobody flushes.
    fn poll_answer(&mut self, cx: &mut Context<'_>) {
        if self.write_failed.is_some() {
            return;
        }
        match self.engine.poll_flush(Pin::new(&mut self.io), cx) {
            Poll::Pending => {}
            Poll::Ready(result) => {
                self.write_failed = result.err().map(Error::from);
                // Our waker stood where the sink's was.
                if let Some(sink) = self.sink.take() {
                    sink.wake();
                }
            }
        }
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let time = self.close_time;
        self.deadline.get_or_insert_with(|| Box::pin(rt::sleep(time))).as_mut().poll(cx)
    }

    /// The connection is over: lets go of the socket as well as can be without waiting.
    fn end(&mut self, cx: &mut Context<'_>) {
        self.state = State::Ended;
        self.deadline = None;
        if let Some(sink) = self.sink.take() {
            sink.wake();
        }
        let _ = Pin::new(&mut self.io).poll_shutdown(cx);
    }

    fn fail(&mut self, error: Error, code: Option<CloseCode>, cx: &mut Context<'_>) -> Option<Error> {
        match code {
            // The peer is told, and heard out: to cut it now could take our close frame from it (RFC 6455, 7.1.1).
            Some(code) if self.write_failed.is_none() => {
                let reason = match code {
                    CloseCode::TOO_BIG => "message too big",
                    CloseCode::INVALID_PAYLOAD => "text that is not UTF-8",
                    _ => "protocol error",
                };
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

    /// Waits until the peer, told of its fault, has closed too.
    fn poll_failing(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let is_told = !self.engine.answer_waits() || self.write_failed.is_some();
        let State::Failing { error, is_shut } = &mut self.state else { return Poll::Pending };
        if is_told && !*is_shut {
            *is_shut = Pin::new(&mut self.io).poll_shutdown(cx).is_ready();
        }
        let error = error.clone();
        // The deadline first: a peer that talks on must not keep it from being looked at.
        let is_late = self.poll_deadline(cx).is_ready();
        if !is_late && self.engine.poll_discard(Pin::new(&mut self.io), cx).is_pending() {
            return Poll::Pending;
        }
        self.end(cx);
        Poll::Ready(error)
    }

    fn written<T>(&mut self, cx: &Context<'_>, poll: Poll<io::Result<T>>) -> Poll<Result<T, Error>> {
        match poll {
            Poll::Pending => {
                match &mut self.sink {
                    Some(waker) => waker.clone_from(cx.waker()),
                    None => self.sink = Some(cx.waker().clone()),
                }
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

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for WebSocket<S> {
    type Item = Result<Message, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        loop {
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
            // Before the reading, for a peer may talk on and on; what ends the connection in time is still in time if it
            // was read late.
            let is_late = matches!(this.state, State::Closing) && this.poll_deadline(cx).is_ready();
            match this.engine.poll_read(Pin::new(&mut this.io), cx) {
                Poll::Ready(Ok(message)) if !is_late || message.is_close() => {
                    if let Message::Close(frame) = &message {
                        this.peer_close.clone_from(frame);
                        this.state = State::Leaving;
                        this.sink.take().into_iter().for_each(Waker::wake);
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

impl<S: AsyncRead + AsyncWrite + Unpin> Sink<Message> for WebSocket<S> {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        if this.write_failed.is_some() || !matches!(this.state, State::Open) || !this.engine.can_send() {
            return Poll::Ready(Err(this.closed()));
        }
        let poll = this.engine.poll_room(Pin::new(&mut this.io), cx);
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
        this.engine.send(message)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.get_mut();
        if this.write_failed.is_some() || (matches!(this.state, State::Ended) && this.engine.unwritten() > 0) {
            return Poll::Ready(Err(this.closed()));
        }
        let poll = this.engine.poll_flush(Pin::new(&mut this.io), cx);
        this.written(cx, poll)
    }

    /// Sends a close frame (1000), if none was sent, and flushes. The answer is for the stream to read.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = &mut *self;
        if matches!(this.state, State::Open) && this.write_failed.is_none() {
            this.engine.close(Some(CloseFrame::new(CloseCode::NORMAL, "")));
            this.state = State::Closing;
        }
        match ready!(self.poll_flush(cx)) {
            // Whoever closes wants it closed, and that it is.
            Err(error) if error.is_closed() => Poll::Ready(Ok(())),
            result => Poll::Ready(result),
        }
    }
}

impl<S> fmt::Debug for WebSocket<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket").field("state", &self.state).finish_non_exhaustive()
    }
}
