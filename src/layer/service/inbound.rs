use std::{
    fmt,
    num::NonZeroUsize,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::outcome::Outcome;
use crate::{BoxError, Error, Transport, in_flight::InFlight};

pin_project! {
    /// A transport whose incoming messages pass through a service, created by
    /// [`ServiceLayer::inbound`](super::ServiceLayer::inbound).
    ///
    /// Its items are the service's answers. Outgoing messages pass unchanged.
    // The bounds are needed to name the service's future.
    pub struct InboundService<T, S, M>
    where
        S: Service<M>,
    {
        #[pin]
        inner: T,
        service: S,
        in_flight: InFlight<Outcome<S::Future>, (), Result<S::Response, Error>>,
        concurrency: NonZeroUsize,
        // A message that waits for the service to be ready.
        held: Option<M>,
        ended: bool,
    }
}

impl<T, S, M> InboundService<T, S, M>
where
    S: Service<M>,
{
    /// Returns a reference to the service.
    #[must_use]
    pub fn service(&self) -> &S {
        &self.service
    }

    accessors! {
        inner: T, "transport",
        get_mut: "A message received there bypasses the service.",
        into_inner: ". Messages that the service has, and one that waits for it, are dropped.",
    }
}

impl<T, S, M> InboundService<T, S, M>
where
    S: Service<M>,
    S::Error: Into<BoxError>,
{
    pub(super) fn new(inner: T, service: S, concurrency: NonZeroUsize) -> Self {
        Self { inner, service, in_flight: InFlight::new(true), concurrency, held: None, ended: false }
    }
}

impl<T, S, M, E> InboundService<T, S, M>
where
    T: Stream<Item = Result<M, E>>,
    E: Into<Error>,
    S: Service<M>,
    S::Error: Into<BoxError>,
{
    /// Reads until a message has its answer, there is no room for more, or the transport or the service is not ready.
    /// Returns the answer of a message if it is available at once and no earlier message is in flight.
    fn fill(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Option<Result<S::Response, Error>> {
        let mut this = self.project();
        while this.in_flight.front().is_none() && this.in_flight.len() < this.concurrency.get() {
            if this.held.is_none() && !*this.ended {
                match this.inner.as_mut().poll_next(cx) {
                    Poll::Pending => return None,
                    Poll::Ready(None) => *this.ended = true,
                    Poll::Ready(Some(Ok(message))) => *this.held = Some(message),
                    Poll::Ready(Some(Err(error))) => {
                        // In line with the messages, so that the error keeps its place in the order.
                        let Ok(()) = this.in_flight.push((), Outcome::failed(error.into()));
                        continue;
                    }
                }
            }
            // The stream has ended, and the last message is with the service.
            if this.held.is_none() {
                return None;
            }
            let Poll::Ready(ready) = this.service.poll_ready(cx) else { return None };
            let outcome = match ready {
                Ok(()) => Outcome::asked(this.service.call(this.held.take()?)),
                Err(error) => {
                    *this.held = None;
                    Outcome::failed(Error::from(error.into()))
                }
            };
            let Ok(answer) = this.in_flight.start((), outcome);
            if let Some(((), answer)) = answer {
                return Some(answer);
            }
        }
        None
    }
}

impl<T, S, M, E> Stream for InboundService<T, S, M>
where
    T: Stream<Item = Result<M, E>>,
    E: Into<Error>,
    S: Service<M>,
    S::Error: Into<BoxError>,
{
    type Item = Result<S::Response, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(item) = self.as_mut().fill(cx) {
            return Poll::Ready(Some(item));
        }
        let this = self.project();
        if this.in_flight.len() > 0 && this.in_flight.front().is_none() {
            let Ok(_) = this.in_flight.poll(cx);
        }
        match this.in_flight.pop() {
            Some(((), item)) => Poll::Ready(Some(item)),
            None if *this.ended && this.in_flight.len() == 0 && this.held.is_none() => Poll::Ready(None),
            None => Poll::Pending,
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let held = self.in_flight.len() + usize::from(self.held.is_some());
        if self.ended {
            return (held, Some(held));
        }
        let (lower, upper) = self.inner.size_hint();
        (lower.saturating_add(held), upper.and_then(|upper| upper.checked_add(held)))
    }
}

impl<T, S, M, Out> Sink<Out> for InboundService<T, S, M>
where
    T: Transport<Out, In = M>,
    S: Service<M>,
{
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.project().inner.poll_ready(cx).map_err(Into::into)
    }

    fn start_send(self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        self.project().inner.start_send(message).map_err(Into::into)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.project().inner.poll_flush(cx).map_err(Into::into)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.project().inner.poll_close(cx).map_err(Into::into)
    }
}

impl<T: fmt::Debug, S, M> fmt::Debug for InboundService<T, S, M>
where
    S: Service<M>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboundService")
            .field("inner", &self.inner)
            .field("concurrency", &self.concurrency)
            .finish_non_exhaustive()
    }
}
