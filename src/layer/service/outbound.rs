use std::{
    collections::VecDeque,
    fmt,
    num::NonZeroUsize,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::outcome::Outcome;
use crate::{BoxError, Error, Transport, in_flight::InFlight, transport::wakers::WakerSlot};

pin_project! {
    /// A transport whose outgoing messages pass through a service, created by
    /// [`ServiceLayer::outbound`](super::ServiceLayer::outbound).
    ///
    /// Incoming messages pass unchanged, with refusals in between if
    /// [`refusals_to_stream`](super::ServiceLayer::refusals_to_stream) is set.
    // The bounds are needed to name the service's future.
    pub struct OutboundService<T, S, M>
    where
        S: Service<M>,
    {
        #[pin]
        inner: T,
        service: S,
        in_flight: InFlight<Outcome<S::Future>, (), Result<S::Response, Error>>,
        concurrency: NonZeroUsize,
        // Whether `poll_ready` was ready, and `start_send` has not used it.
        reserved: bool,
        // Whether the inner transport was ready, and has not been given a message since.
        has_room: bool,
        // Whether the inner transport holds messages that were not flushed.
        dirty: bool,
        refusals: Refusals,
        // The refusal of a message that was accepted before, which `start_send` met: the next poll returns it.
        late: Option<Error>,
        // The error that `poll_close` returns once the inner transport is closed.
        close_error: Option<Error>,
    }
}

impl<T, S, M> OutboundService<T, S, M>
where
    S: Service<M>,
{
    /// Returns how many messages were refused so far, by the service or by the inner transport.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refusals.count()
    }

    /// Returns a reference to the service.
    #[must_use]
    pub fn service(&self) -> &S {
        &self.service
    }

    accessors! {
        inner: T, "transport",
        get_mut: "A message sent there bypasses the service, and overtakes the messages that the service has.",
        into_inner: ". Messages that the service has are dropped; flush first to lose none.",
    }
}

impl<T, S, M> OutboundService<T, S, M>
where
    S: Service<M>,
    S::Error: Into<BoxError>,
{
    pub(super) fn new(inner: T, service: S, concurrency: NonZeroUsize, refusals_to_stream: bool) -> Self {
        Self {
            inner,
            service,
            in_flight: InFlight::new(true),
            concurrency,
            reserved: false,
            has_room: false,
            dirty: false,
            refusals: Refusals::new(refusals_to_stream),
            late: None,
            close_error: None,
        }
    }
}

impl<T, S, M> OutboundService<T, S, M>
where
    T: Transport<S::Response>,
    S: Service<M>,
    S::Error: Into<BoxError>,
{
    /// Hands an answer to the inner transport, which has room if this is a message.
    fn hand_over(self: Pin<&mut Self>, answer: Result<S::Response, Error>) -> Result<(), Stop> {
        let mut this = self.project();
        let error = match answer {
            Err(error) => error,
            Ok(message) => {
                *this.has_room = false;
                *this.dirty = true;
                match this.inner.as_mut().start_send(message).map_err(Into::into) {
                    Ok(()) => return Ok(()),
                    Err(error) if error.is_closed() && !error.is_rejection() => return Err(Stop::Broken(error)),
                    // The inner transport rejects only this message.
                    Err(error) => error,
                }
            }
        };
        this.refusals.refuse(error).map_err(Stop::Refused)
    }

    /// Hands over the next answer in order.
    fn hand_over_next(mut self: Pin<&mut Self>) -> Result<(), Stop> {
        match self.as_mut().project().in_flight.pop() {
            Some(((), answer)) => self.hand_over(answer),
            None => Ok(()),
        }
    }

    /// Returns whether the next answer in order can be handed over now.
    fn can_hand_over(&self) -> bool {
        self.in_flight.front().is_some_and(|answer| self.has_room || answer.is_err())
    }

    fn poll_room(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        if !*this.has_room {
            ready!(this.inner.poll_ready(cx)).map_err(Into::into)?;
            *this.has_room = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Hands over finished answers. `Ready` when the service has no more messages.
    fn poll_hand_over(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Stop>> {
        while self.in_flight.len() > 0 {
            if self.in_flight.front().is_none() {
                let Ok(_) = self.as_mut().project().in_flight.poll(cx);
                if self.in_flight.front().is_none() {
                    return Poll::Pending;
                }
            }
            if !self.can_hand_over() {
                ready!(self.as_mut().poll_room(cx)).map_err(Stop::Broken)?;
            }
            self.as_mut().hand_over_next()?;
        }
        Poll::Ready(Ok(()))
    }

    /// Flushes the inner transport while the service is busy with the rest.
    fn flush_meanwhile(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Result<(), Error> {
        let this = self.project();
        if *this.dirty
            && let Poll::Ready(flushed) = this.inner.poll_flush(cx)
        {
            flushed.map_err(Into::into)?;
            *this.dirty = false;
        }
        Ok(())
    }
}

impl<T, S, M> Sink<M> for OutboundService<T, S, M>
where
    T: Transport<S::Response>,
    S: Service<M>,
    S::Error: Into<BoxError>,
{
    type Error = Error;

    fn poll_ready(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(late) = self.as_mut().project().late.take() {
            return Poll::Ready(Err(late));
        }
        if self.reserved {
            return Poll::Ready(Ok(()));
        }
        if let Poll::Ready(handed) = self.as_mut().poll_hand_over(cx) {
            handed.map_err(Stop::into_error)?;
        }
        // Finished answers that wait for room below count, too: otherwise a slow peer would grow the line.
        if self.in_flight.len() >= self.concurrency.get() {
            return Poll::Pending;
        }
        ready!(self.as_mut().poll_room(cx))?;
        let this = self.project();
        ready!(this.service.poll_ready(cx)).map_err(|error| Error::from(error.into()))?;
        *this.reserved = true;
        Poll::Ready(Ok(()))
    }

    fn start_send(mut self: Pin<&mut Self>, message: M) -> Result<(), Error> {
        let this = self.as_mut().project();
        if !std::mem::take(this.reserved) {
            return Err(Error::full("start_send was called without room; wait for poll_ready first"));
        }
        let asked = Outcome::asked(this.service.call(message));
        // The common case: the service answers at once and the transport has room, so nothing is queued.
        if *this.has_room {
            let Ok(answer) = this.in_flight.start((), asked);
            if let Some(((), answer)) = answer {
                return self.hand_over(answer).map_err(Stop::into_error);
            }
        } else {
            let Ok(()) = this.in_flight.push((), asked);
        }
        while self.can_hand_over() {
            match self.as_mut().hand_over_next() {
                // The error of an earlier message: the caller must not take it for that of this message, the last one.
                Err(Stop::Refused(error)) if self.in_flight.len() > 0 => {
                    *self.as_mut().project().late = Some(error);
                    break;
                }
                handed => handed.map_err(Stop::into_error)?,
            }
        }
        Ok(())
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if let Some(late) = self.as_mut().project().late.take() {
            return Poll::Ready(Err(late));
        }
        match self.as_mut().poll_hand_over(cx) {
            Poll::Ready(handed) => handed.map_err(Stop::into_error)?,
            Poll::Pending => {
                self.flush_meanwhile(cx)?;
                return Poll::Pending;
            }
        }
        let this = self.project();
        ready!(this.inner.poll_flush(cx)).map_err(Into::into)?;
        *this.dirty = false;
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.as_mut().project();
        *this.reserved = false;
        if let Some(late) = this.late.take() {
            this.close_error.get_or_insert(late);
        }
        loop {
            match self.as_mut().poll_hand_over(cx) {
                Poll::Ready(Ok(())) => break,
                Poll::Ready(Err(Stop::Refused(error))) => {
                    self.as_mut().project().close_error.get_or_insert(error);
                }
                Poll::Ready(Err(Stop::Broken(error))) => {
                    let this = self.as_mut().project();
                    this.close_error.get_or_insert(error);
                    this.in_flight.clear();
                }
                Poll::Pending => {
                    self.flush_meanwhile(cx)?;
                    return Poll::Pending;
                }
            }
        }
        let this = self.project();
        // A promise of `poll_ready` ends with the close.
        *this.has_room = false;
        let closed = ready!(this.inner.poll_close(cx)).map_err(Into::into);
        Poll::Ready(this.close_error.take().map_or(closed, Err))
    }
}

impl<T, S, M, In, E> Stream for OutboundService<T, S, M>
where
    T: Stream<Item = Result<In, E>>,
    E: Into<Error>,
    S: Service<M>,
{
    type Item = Result<In, Error>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        if let Some(refusal) = this.refusals.next() {
            return Poll::Ready(Some(Err(refusal)));
        }
        let item = this.inner.poll_next(cx);
        match &item {
            Poll::Pending => this.refusals.register(cx),
            Poll::Ready(None) => this.refusals.end(),
            Poll::Ready(Some(_)) => {}
        }
        item.map(|item| item.map(|item| item.map_err(Into::into)))
    }
}

impl<T: fmt::Debug, S, M> fmt::Debug for OutboundService<T, S, M>
where
    S: Service<M>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundService")
            .field("inner", &self.inner)
            .field("concurrency", &self.concurrency)
            .field("refusals", &self.refusals)
            .finish_non_exhaustive()
    }
}

/// The maximum number of refusals of outgoing messages that wait to be read from the stream.
pub const MAX_REFUSALS: usize = 64;

/// The reason why handing over stopped.
enum Stop {
    /// One message was refused; the rest can go on.
    Refused(Error),
    /// The inner transport has failed.
    Broken(Error),
}

impl Stop {
    fn into_error(self) -> Error {
        match self {
            Self::Refused(error) | Self::Broken(error) => error,
        }
    }
}

/// Routes the errors of refused messages. Pure.
#[derive(Debug, Default)]
struct Refusals {
    to_stream: bool,
    /// Whether the stream has ended: from then on the sink returns the errors.
    ended: bool,
    waiting: VecDeque<Error>,
    reader: WakerSlot,
    count: u64,
}

impl Refusals {
    fn new(to_stream: bool) -> Self {
        Self { to_stream, ..Self::default() }
    }

    fn count(&self) -> u64 {
        self.count
    }

    /// Records a refusal. A returned error is for the sink's caller.
    fn refuse(&mut self, error: Error) -> Result<(), Error> {
        self.count += 1;
        let error = error.context("an outgoing message was refused");
        if !self.to_stream || self.ended {
            return Err(error);
        }
        if self.waiting.len() < MAX_REFUSALS {
            // So that layers above do not take it for an incoming message's.
            self.waiting.push_back(error.into_unsent());
        }
        self.reader.wake();
        Ok(())
    }

    /// Returns the next refusal for the stream.
    fn next(&mut self) -> Option<Error> {
        self.waiting.pop_front()
    }

    /// Registers the pending stream to be woken by a refusal.
    fn register(&mut self, cx: &Context<'_>) {
        if self.to_stream {
            self.reader.register(cx);
        }
    }

    /// Records that the stream has ended.
    fn end(&mut self) {
        self.ended = true;
    }
}
