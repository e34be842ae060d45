use std::{
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;
use tracing::Span;

use super::{
    Direction, Received,
    instruments::{Instruments, size},
    wire,
};
use crate::{Error, Message, Transport, macros::accessors, transport::payload::Payload};

pin_project! {
    /// A transport with instrumentation, created by [`TraceLayer`](super::TraceLayer). Messages and errors pass
    /// unchanged.
    #[derive(Debug)]
    pub struct Traced<T> {
        #[pin]
        inner: T,
        instruments: Instruments,
    }
}

impl<T> Traced<T> {
    pub(super) const fn new(inner: T, instruments: Instruments) -> Self {
        Self { inner, instruments }
    }

    /// Returns the span of this session. The transport's own methods do not enter it. To record events of your task in
    /// the session, instrument the task with it.
    #[must_use]
    pub fn span(&self) -> &Span {
        self.instruments.span()
    }

    /// Returns the last message of `poll_next` if it was sampled: its span, and the context of its sender.
    #[must_use]
    pub fn received(&self) -> Option<&Received> {
        self.instruments.received.as_ref()
    }

    /// Returns the number of incoming messages so far.
    #[must_use]
    pub fn messages_in(&self) -> u64 {
        self.instruments.incoming.messages
    }

    /// Returns the number of outgoing messages so far.
    #[must_use]
    pub fn messages_out(&self) -> u64 {
        self.instruments.outgoing.messages
    }

    accessors! {
        inner: T, "transport",
        get_mut: "The layer does not see what is sent or received there.",
        into_inner: ", which ends the session. The layer holds no message.",
    }
}

impl<T, In, E> Stream for Traced<T>
where
    T: Stream<Item = Result<In, E>>,
    E: Into<Error>,
    In: 'static,
{
    type Item = Result<In, Error>;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        match this.inner.poll_next(cx) {
            Poll::Ready(Some(Ok(message))) if this.instruments.passes(&message) => Poll::Ready(Some(Ok(message))),
            polled => this.instruments.receive(polled),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

impl<T> Traced<T> {
    /// Runs `start_send` for a message that is more than counted.
    #[cold]
    #[inline(never)]
    fn start_rare<Out>(mut self: Pin<&mut Self>, message: Out, size: usize) -> Result<(), Error>
    where
        T: Transport<Out>,
        Out: 'static,
    {
        let sent = self.as_mut().start_marked(message, size);
        let instruments = self.project().instruments;
        sent.map(|()| instruments.outgoing.count(size)).map_err(|error| instruments.pass(Direction::Out, error.into()))
    }

    /// Gives a sampled message its span, and its context if it has one; escapes other messages if necessary.
    fn start_marked<Out>(self: Pin<&mut Self>, mut message: Out, size: usize) -> Result<(), T::TransportError>
    where
        T: Transport<Out>,
        Out: 'static,
    {
        let this = self.project();
        let instruments = this.instruments;
        // Before the send: a transport that has the close message may end at once, and then the frame is gone.
        instruments.look_for_close(&message);
        let sampled = instruments.outgoing.samples().then(|| instruments.trace_outgoing(size));
        if instruments.propagates()
            && let Some(message) = Payload::of().get_mut(&mut message)
        {
            // The mark goes on after the size was counted: both ends count the user's bytes.
            let plain = std::mem::replace(message, Message::Close(None));
            *message = match &sampled {
                Some((_, Some(context))) => wire::mark(plain, context),
                _ => wire::escape(plain),
            };
        }
        let Some((span, _)) = sampled else { return this.inner.start_send(message) };
        // The layers below run inside the span, so that their events belong to the message.
        let sent = span.in_scope(|| this.inner.start_send(message));
        instruments.unflushed = Some(span);
        sent
    }
}

impl<T, Out> Sink<Out> for Traced<T>
where
    T: Transport<Out>,
    Out: 'static,
{
    type Error = Error;

    #[inline]
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.inner.poll_ready(cx).map_err(|error| this.instruments.pass(Direction::Out, error.into()))
    }

    #[inline]
    fn start_send(mut self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        let size = size(&message);
        let this = self.as_mut().project();
        // A propagating layer looks at each message: even one that is not sampled may end like a mark and must be
        // escaped.
        if this.instruments.propagates() || Payload::of().is_close(&message) || !this.instruments.outgoing.passes(size)
        {
            return self.start_rare(message, size);
        }
        // Counted before it is sent, in the one comparison that all messages pass, and taken back if it is refused.
        this.inner.start_send(message).map_err(|error| this.instruments.refused(size, error.into()))
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        let flushed = this.inner.poll_flush(cx);
        if flushed.is_ready() {
            this.instruments.flushed();
        }
        flushed.map_err(|error| this.instruments.pass(Direction::Out, error.into()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        let closed = this.inner.poll_close(cx);
        if closed.is_ready() {
            this.instruments.flushed();
        }
        closed.map_err(|error| this.instruments.pass(Direction::Out, error.into()))
    }
}
