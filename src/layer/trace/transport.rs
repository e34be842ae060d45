use std::{
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;
use tracing::Span;

use super::{Direction, Messages, Received, Subject, session::Session};
use crate::{Error, Transport};

pin_project! {
    /// A transport with instrumentation, created by [`TraceLayer`](super::TraceLayer). Messages and errors pass
    /// unchanged.
    #[derive(Debug)]
    pub struct Traced<T, K = Messages> {
        #[pin]
        inner: T,
        session: Session,
        subject: PhantomData<K>,
    }
}

impl<T, K> Traced<T, K> {
    pub(super) const fn new(inner: T, session: Session) -> Self {
        Self { inner, session, subject: PhantomData }
    }

    /// Returns the span of this session. The transport's own methods do not enter it. To record events of your task in
    /// the session, instrument the task with it.
    #[must_use]
    pub fn span(&self) -> &Span {
        self.session.span()
    }

    /// Returns the last message of `poll_next` if it was sampled: its span, and the context of its sender.
    #[must_use]
    pub fn received(&self) -> Option<&Received> {
        self.session.received.as_ref()
    }

    /// Returns the number of incoming messages so far.
    #[must_use]
    pub fn messages_in(&self) -> u64 {
        self.session.incoming.messages
    }

    /// Returns the number of outgoing messages so far.
    #[must_use]
    pub fn messages_out(&self) -> u64 {
        self.session.outgoing.messages
    }

    /// Returns a reference to the inner transport.
    #[must_use]
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// Returns a mutable reference to the inner transport. The layer does not see what is sent or received there.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// Returns the inner transport, which ends the session. The layer holds no message.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl Session {
    /// Counts an incoming message, unless there is more to do.
    #[inline]
    fn passes<K: Subject<M>, M>(&mut self, message: &M) -> bool {
        let is_rare = K::is_close(message) || (self.propagates() && K::is_marked(message));
        !is_rare && self.incoming.passes(K::size(message))
    }

    /// Handles every item of the inner stream except a message that [passes](Self::passes).
    #[cold]
    #[inline(never)]
    fn take<K: Subject<M>, M, E: Into<Error>>(
        &mut self,
        polled: Poll<Option<Result<M, E>>>,
    ) -> Poll<Option<Result<M, Error>>> {
        match polled {
            Poll::Ready(Some(message)) => Poll::Ready(Some(
                message
                    .map_err(Into::into)
                    .and_then(|message| self.open::<K, M>(message))
                    .map_err(|error| self.pass(Direction::In, error)),
            )),
            Poll::Ready(None) => {
                self.incoming.tell();
                Poll::Ready(None)
            }
            Poll::Pending => {
                self.incoming.tell();
                Poll::Pending
            }
        }
    }

    fn open<K: Subject<M>, M>(&mut self, message: M) -> Result<M, Error> {
        let (message, context) = if self.propagates() { K::open(message)? } else { (message, None) };
        let size = K::size(&message);
        let is_sampled = self.incoming.samples();
        self.incoming.count(size);
        self.received = None;
        if is_sampled | context.is_some_and(|context| context.is_sampled()) {
            self.trace_incoming(size, context);
        }
        if K::is_close(&message) {
            self.closing(K::close_frame(&message));
        }
        Ok(message)
    }

    /// Takes back a message that was counted and then not accepted.
    #[cold]
    #[inline(never)]
    fn refused(&mut self, size: usize, error: impl Into<Error>) -> Error {
        self.outgoing.take_back(size);
        self.pass(Direction::Out, error)
    }

    /// Records an error.
    #[cold]
    #[inline(never)]
    fn pass(&mut self, direction: Direction, error: impl Into<Error>) -> Error {
        let error = error.into();
        self.failed(direction, &error);
        error
    }
}

impl<T, K, In, E> Stream for Traced<T, K>
where
    T: Stream<Item = Result<In, E>>,
    E: Into<Error>,
    K: Subject<In>,
{
    type Item = Result<In, Error>;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        match this.inner.poll_next(cx) {
            // Inspected in place: it is then moved as a whole, which is much cheaper.
            Poll::Ready(Some(Ok(message))) if this.session.passes::<K, In>(&message) => Poll::Ready(Some(Ok(message))),
            polled => this.session.take::<K, In, E>(polled),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

impl<T, K> Traced<T, K> {
    /// Runs `start_send` for a message that is more than counted.
    #[cold]
    #[inline(never)]
    fn start_rare<Out>(mut self: Pin<&mut Self>, message: Out, size: usize) -> Result<(), Error>
    where
        T: Transport<Out>,
        K: Subject<Out>,
    {
        let sent = self.as_mut().start_marked(message, size);
        let session = self.project().session;
        sent.map(|()| session.outgoing.count(size)).map_err(|error| session.pass(Direction::Out, error))
    }

    /// Gives a sampled message its span, and its context if it has one; escapes other messages if necessary.
    fn start_marked<Out>(self: Pin<&mut Self>, message: Out, size: usize) -> Result<(), T::TransportError>
    where
        T: Transport<Out>,
        K: Subject<Out>,
    {
        let this = self.project();
        let session = this.session;
        if K::is_close(&message) {
            session.closing(K::close_frame(&message));
        }
        if !session.outgoing.samples() {
            return this.inner.start_send(if session.propagates() { K::close(message) } else { message });
        }
        let (span, context) = session.trace_outgoing(size);
        let message = match context {
            Some(context) if session.propagates() => K::mark(message, &context),
            _ if session.propagates() => K::close(message),
            _ => message,
        };
        let sent = span.in_scope(|| this.inner.start_send(message));
        session.unflushed = Some(span);
        sent
    }
}

impl<T, K, Out> Sink<Out> for Traced<T, K>
where
    T: Transport<Out>,
    K: Subject<Out>,
{
    type Error = Error;

    #[inline]
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.inner.poll_ready(cx).map_err(|error| this.session.pass(Direction::Out, error))
    }

    #[inline]
    fn start_send(mut self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        let size = K::size(&message);
        let this = self.as_mut().project();
        if this.session.propagates() || K::is_close(&message) || !this.session.outgoing.passes(size) {
            return self.start_rare(message, size);
        }
        this.inner.start_send(message).map_err(|error| this.session.refused(size, error))
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        let flushed = this.inner.poll_flush(cx).map_err(|error| this.session.pass(Direction::Out, error));
        if flushed.is_ready() {
            this.session.outgoing.tell();
            this.session.unflushed = None;
        }
        flushed
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        let closed = this.inner.poll_close(cx).map_err(|error| this.session.pass(Direction::Out, error));
        if closed.is_ready() {
            this.session.outgoing.tell();
            this.session.unflushed = None;
        }
        closed
    }
}
