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
    /// A transport that is watched: what [`TraceLayer`](super::TraceLayer) makes. Messages and errors pass as they are.
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

    /// The span of this session. It is not entered by the transport's own methods: instrument the task that uses it, where
    /// what happens there is to belong to the session.
    #[must_use]
    pub fn span(&self) -> &Span {
        self.session.span()
    }

    /// The message that `poll_next` gave last, if it was a sampled one: its span, and the context of its sender.
    #[must_use]
    pub fn received(&self) -> Option<&Received> {
        self.session.received.as_ref()
    }

    /// How many messages came in so far.
    #[must_use]
    pub fn messages_in(&self) -> u64 {
        self.session.incoming.tally.messages
    }

    /// How many messages went out so far.
    #[must_use]
    pub fn messages_out(&self) -> u64 {
        self.session.outgoing.tally.messages
    }

    /// The inner transport.
    #[must_use]
    pub fn get_ref(&self) -> &T {
        &self.inner
    }

    /// The inner transport. What is sent or received there is not seen.
    #[must_use]
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// The inner transport. The session ends here. No message is held.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl Session {
    /// Looks at a message that comes in, where it stands.
    #[inline(always)]
    fn see<K: Subject<M>, M>(&mut self, message: &M) {
        self.incoming.tally.count(K::size(message));
        // One jump for all that is rare.
        if self.incoming.sampler.hit() | self.received.is_some() | K::is_close(message) {
            self.see_more::<K, M>(message);
        }
    }

    #[cold]
    fn see_more<K: Subject<M>, M>(&mut self, message: &M) {
        self.received = None;
        if self.incoming.sampler.has_hit() {
            self.trace_incoming(K::size(message), None);
        }
        if K::is_close(message) {
            self.closing(K::close_frame(message));
        }
    }

    /// An error, or a message with a mark that is taken off.
    #[cold]
    fn take<K: Subject<M>, M, E: Into<Error>>(&mut self, message: Result<M, E>) -> Result<M, Error> {
        message
            .map_err(Into::into)
            .and_then(|message| self.open::<K, M>(message))
            .map_err(|error| self.pass(Direction::In, error))
    }

    fn open<K: Subject<M>, M>(&mut self, message: M) -> Result<M, Error> {
        let (message, context) = K::open(message)?;
        let size = K::size(&message);
        self.incoming.tally.count(size);
        self.received = None;
        if self.incoming.sampler.hit() | context.is_some_and(|context| context.is_sampled()) {
            self.trace_incoming(size, context);
        }
        Ok(message)
    }

    /// Notes an error that passes.
    #[cold]
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

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        let session = this.session;
        // Looked at where it stands: to move a message costs more than to count it.
        let polled = this.inner.poll_next(cx);
        match &polled {
            Poll::Ready(Some(Ok(message))) if !(session.propagates() && K::is_marked(message)) => {
                session.see::<K, In>(message);
            }
            Poll::Ready(Some(_)) => return polled.map(|item| item.map(|message| session.take::<K, In, E>(message))),
            Poll::Ready(None) | Poll::Pending => session.incoming.tally.tell(),
        }
        polled.map_err(Into::into)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

impl<T, K> Traced<T, K> {
    /// Gives a sampled message its span, and its context where it has one; makes sure that others are taken for plain ones.
    #[inline(never)]
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
        if !session.outgoing.sampler.has_hit() {
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

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.inner.poll_ready(cx).map_err(|error| this.session.pass(Direction::Out, error))
    }

    fn start_send(mut self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        let size = K::size(&message);
        let this = self.as_mut().project();
        let is_rare = this.session.outgoing.sampler.hit() | this.session.propagates() | K::is_close(&message);
        let sent = if is_rare { self.as_mut().start_marked(message, size) } else { this.inner.start_send(message) };
        let session = self.project().session;
        match sent {
            Ok(()) => {
                session.outgoing.tally.count(size);
                Ok(())
            }
            Err(error) => Err(session.pass(Direction::Out, error)),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        let flushed = this.inner.poll_flush(cx).map_err(|error| this.session.pass(Direction::Out, error));
        if flushed.is_ready() {
            this.session.outgoing.tally.tell();
            this.session.unflushed = None;
        }
        flushed
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        let closed = this.inner.poll_close(cx).map_err(|error| this.session.pass(Direction::Out, error));
        if closed.is_ready() {
            this.session.outgoing.tally.tell();
            this.session.unflushed = None;
        }
        closed
    }
}
