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
    #[inline]
    fn receive<K: Subject<M>, M>(&mut self, message: M) -> Result<M, Error> {
        let (message, context) = if self.propagates() { K::open(message)? } else { (message, None) };
        let size = K::size(&message);
        self.incoming.tally.count(size);
        if let Some(frame) = K::close_frame(&message) {
            self.closing(frame);
        }
        let is_sampled = self.incoming.sampler.hit();
        if is_sampled || context.is_some_and(|context| context.is_sampled()) {
            self.trace_incoming(size, context);
        } else if self.received.is_some() {
            self.received = None;
        }
        Ok(message)
    }

    /// Notes an error that passes.
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
        let received = match this.inner.poll_next(cx) {
            Poll::Ready(Some(Ok(message))) => this.session.receive::<K, In>(message),
            Poll::Ready(Some(Err(error))) => Err(error.into()),
            Poll::Ready(None) => {
                this.session.incoming.tally.tell();
                return Poll::Ready(None);
            }
            Poll::Pending => {
                this.session.incoming.tally.tell();
                return Poll::Pending;
            }
        };
        Poll::Ready(Some(received.map_err(|error| this.session.pass(Direction::In, error))))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
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

    fn start_send(self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        let this = self.project();
        let session = this.session;
        let size = K::size(&message);
        if let Some(frame) = K::close_frame(&message) {
            session.closing(frame);
        }
        let sent = if session.outgoing.sampler.hit() {
            let (span, context) = session.trace_outgoing(size);
            let message = match context {
                Some(context) if session.propagates() => K::mark(message, &context),
                _ if session.propagates() => K::close(message),
                _ => message,
            };
            let sent = span.in_scope(|| this.inner.start_send(message));
            session.unflushed = Some(span);
            sent
        } else {
            this.inner.start_send(if session.propagates() { K::close(message) } else { message })
        };
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
