use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;

use super::state::{End, State};
use crate::{CloseFrame, Error, Message, Transport, codec::Codec, transport::signal};

/// How many pings and pongs one poll skips before other tasks run.
const BUDGET: usize = 128;

pin_project! {
    /// A transport of values over a transport of messages: what [`CodecLayer`](super::CodecLayer) makes.
    ///
    /// `Sink<C::Out>`, and a `Stream` of `Result<C::In, Error>`. The [module](super) tells what becomes of each message.
    #[derive(Debug)]
    pub struct Coded<T, C> {
        #[pin]
        inner: T,
        codec: C,
        close_on_bad_payload: bool,
        end: End,
    }
}

impl<T, C> Coded<T, C> {
    pub(super) const fn new(inner: T, codec: C, close_on_bad_payload: bool) -> Self {
        Self { inner, codec, close_on_bad_payload, end: End::new() }
    }

    /// Why the transport was closed, once it was with a close frame: the peer's code and reason, or those with which a bad
    /// payload was refused. `None` before that, and where the close message had no code.
    #[must_use]
    pub fn close_frame(&self) -> Option<&CloseFrame> {
        self.end.frame()
    }

    /// The codec.
    #[must_use]
    pub fn codec(&self) -> &C {
        &self.codec
    }

    /// The inner transport.
    #[must_use]
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// The inner transport. What is sent or received there bypasses the codec.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// The inner transport; the codec and what is known about the end are dropped. No message is held here.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl<T, C> Coded<T, C>
where
    T: Transport<Message>,
{
    /// After a refusal: sends the close message, flushes it, closes the transport. Ready when there is nothing left to do.
    fn poll_end(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        loop {
            let step = match this.end.state {
                State::Open | State::Ended => return Poll::Ready(()),
                State::Refusing => match ready!(this.inner.as_mut().poll_ready(cx)) {
                    Ok(()) => this.inner.as_mut().start_send(Message::Close(this.end.frame().cloned())),
                    Err(error) => Err(error),
                },
                State::Flushing => ready!(this.inner.as_mut().poll_flush(cx)),
                State::Closing => ready!(this.inner.as_mut().poll_close(cx)),
            };
            this.end.state = match (this.end.state, step) {
                (State::Refusing, Ok(())) => State::Flushing,
                (State::Flushing, Ok(())) => State::Closing,
                // Closed, or failed: then the peer is out of reach, and the refusal has been told already.
                _ => State::Ended,
            };
        }
    }
}

impl<T, C> Stream for Coded<T, C>
where
    T: Transport<Message, In = Message>,
    C: Codec,
{
    type Item = Result<C::In, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.end.state != State::Open {
            ready!(self.poll_end(cx));
            return Poll::Ready(None);
        }
        let mut this = self.as_mut().project();
        for _ in 0..BUDGET {
            let message = match ready!(this.inner.as_mut().poll_next(cx)) {
                Some(Ok(message)) => message,
                Some(Err(error)) => {
                    let error = error.into();
                    this.end.learn(&error);
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    this.end.state = State::Ended;
                    return Poll::Ready(None);
                }
            };
            match message {
                Message::Ping(_) | Message::Pong(_) => {}
                Message::Close(frame) => {
                    this.end.closed_by_peer(frame);
                    // Nobody polls for more once this stream has ended; here the transport may still get its answer out.
                    let _ = this.inner.as_mut().poll_next(cx);
                    return Poll::Ready(None);
                }
                Message::Text(_) | Message::Binary(_) => {
                    signal::decoded(message.len());
                    let value = this.codec.decode(message);
                    if value.is_err() && *this.close_on_bad_payload {
                        this.end.refuse();
                        // At once, as far as it goes, for callers that do not poll again after an error.
                        let _ = self.poll_end(cx);
                    }
                    return Poll::Ready(Some(value));
                }
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match self.end.state {
            // Each message may be one that is skipped, and each gives one item at most.
            State::Open => (0, self.inner.size_hint().1),
            _ => (0, Some(0)),
        }
    }
}

impl<T, C> Sink<C::Out> for Coded<T, C>
where
    T: Transport<Message>,
    C: Codec,
{
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.end.check_open()?;
        self.project().inner.poll_ready(cx).map_err(Into::into)
    }

    fn start_send(self: Pin<&mut Self>, value: C::Out) -> Result<(), Error> {
        self.end.check_open()?;
        let this = self.project();
        let message = this.codec.encode(&value)?;
        this.inner.start_send(message).map_err(Into::into)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // What was accepted before a refusal goes out ahead of the close message.
        ready!(self.as_mut().poll_end(cx));
        self.end.check_open()?;
        self.project().inner.poll_flush(cx).map_err(Into::into)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        ready!(self.as_mut().poll_end(cx));
        let mut this = self.project();
        // Below are messages, so a frame for the peer can be one. Transports that know of the signal need none; nor may one that is full
        // hold up the close.
        if let Some(frame) = signal::close_frame()
            && this.end.close()
            && matches!(this.inner.as_mut().poll_ready(cx), Poll::Ready(Ok(())))
        {
            // It may be closed already.
            let _ = this.inner.as_mut().start_send(Message::Close(Some(frame)));
        }
        this.inner.poll_close(cx).map_err(Into::into)
    }
}
