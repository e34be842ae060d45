use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;
use tower_layer::Layer;

use super::{
    RateLimitLayer,
    bucket::{Bucket, Excess, Pair},
    cost::{Cost, PerMessage},
    excess::{End, Outgoing, Stays, WhenExceeded},
    gate::Gate,
};
use crate::{Error, Transport, macros::accessors};

pin_project! {
    /// A transport with a rate limit, created by [`RateLimitLayer`].
    ///
    /// `In` is the type of incoming messages. The [module](super) documents when it waits and which messages are
    /// refused.
    pub struct RateLimit<T, In, C = PerMessage, A = Stays> {
        #[pin]
        inner: T,
        cost: C,
        when: WhenExceeded,
        incoming: Option<Gate>,
        outgoing: Option<Gate>,
        // A message that came in before there was room for it, and its cost.
        held: Option<(In, u32)>,
        ending: A,
    }
}

impl<T, In, E, C, A> Layer<T> for RateLimitLayer<C, A>
where
    T: Stream<Item = Result<In, E>>,
    C: Clone,
    A: Default,
{
    type Service = RateLimit<T, In, C, A>;

    fn layer(&self, inner: T) -> Self::Service {
        let Pair { inbound, outbound } = self.pair();
        let gate = |state, what| Gate::new(Bucket::new(self.limiter.clone(), state), self.counts.clone(), what);
        let incoming = self.is_inbound.then(|| gate(inbound, "an incoming message"));
        let outgoing = self.is_outbound.then(|| gate(outbound, "an outgoing message"));
        RateLimit {
            inner,
            cost: self.cost.clone(),
            when: self.when,
            incoming,
            outgoing,
            held: None,
            ending: A::default(),
        }
    }
}

impl<T, In, C, A> RateLimit<T, In, C, A> {
    accessors! {
        inner: T, "transport",
        get_mut: "Messages that are sent or received there are not counted.",
        into_inner: ". An incoming message that still waits for its turn is dropped.",
    }
}

/// Takes the cells of an outgoing message.
#[inline]
fn leave(gate: &mut Option<Gate>, when: WhenExceeded, cost: u32) -> Result<(), Excess> {
    match gate {
        None => Ok(()),
        Some(gate) if when == WhenExceeded::Wait => gate.spend(cost),
        Some(gate) => gate.try_take(cost),
    }
}

fn settle(gate: &mut Option<Gate>) {
    if let Some(gate) = gate {
        gate.tally.settle();
    }
}

/// Takes the cells of an incoming message.
#[inline]
fn enter<In, C: Cost<In>>(gate: &mut Option<Gate>, cost: &C, message: &In) -> Result<(), Excess> {
    match gate {
        None => Ok(()),
        Some(gate) => gate.try_take(cost.cost(message)),
    }
}

type PollItem<In, E = Error> = Poll<Option<Result<In, E>>>;

impl<T, In, C, A: End<T>> RateLimit<T, In, C, A> {
    /// Handles every item of the inner stream except a message that passes.
    #[cold]
    #[inline(never)]
    fn rare<E: Into<Error>>(mut self: Pin<&mut Self>, cx: &mut Context<'_>, polled: PollItem<In, E>) -> PollItem<In>
    where
        C: Cost<In>,
    {
        let this = self.as_mut().project();
        match polled {
            // Called again for the reason.
            Poll::Ready(Some(Ok(message))) => match enter(this.incoming, this.cost, &message) {
                Ok(()) => Poll::Ready(Some(Ok(message))),
                Err(excess) => {
                    let cost = this.cost.cost(&message);
                    self.exceeded(cx, message, cost, excess)
                }
            },
            // A pause is the moment to add the counts: it costs nothing while messages flow.
            Poll::Pending => {
                settle(this.incoming);
                settle(this.outgoing);
                Poll::Pending
            }
            polled => polled.map_err(Into::into),
        }
    }

    /// Handles an incoming message for which there are no cells.
    fn exceeded(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        message: In,
        cost: u32,
        excess: Excess,
    ) -> PollItem<In> {
        let this = self.as_mut().project();
        let Some(gate) = this.incoming else { return Poll::Ready(Some(Ok(message))) };
        if let (WhenExceeded::Wait, Excess::Until(time)) = (*this.when, &excess) {
            // Nothing further is read until it may pass. The order stays, and the peer feels the limit.
            gate.wait(*time, cost);
            *this.held = Some((message, cost));
            return self.poll_held(cx);
        }
        let error = gate.refuse(&excess, cost);
        if *this.when == WhenExceeded::Close {
            this.ending.close(error);
            return this.ending.poll_end(this.inner, cx);
        }
        Poll::Ready(Some(Err(error)))
    }

    /// Returns the waiting message, once its cells are available.
    fn poll_held(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PollItem<In> {
        let this = self.project();
        let (Some(gate), Some((_, cost))) = (this.incoming, &*this.held) else { return Poll::Pending };
        // Dropping the poll loses nothing: the message stays in `held`, and its turn in the gate.
        ready!(gate.poll_take(*cost, cx));
        gate.tally.admit();
        Poll::Ready(this.held.take().map(|(message, _)| Ok(message)))
    }
}

impl<T, In, E, C, A> Stream for RateLimit<T, In, C, A>
where
    T: Stream<Item = Result<In, E>>,
    E: Into<Error>,
    C: Cost<In>,
    A: End<T>,
{
    type Item = Result<In, Error>;

    #[inline]
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.as_mut().project();
        if this.ending.check_open().is_err() {
            return this.ending.poll_end(this.inner, cx);
        }
        if this.held.is_some() {
            return self.poll_held(cx);
        }
        match this.inner.poll_next(cx) {
            // Inspected in place: it is then moved as a whole, which is much cheaper.
            Poll::Ready(Some(Ok(message))) if enter(this.incoming, this.cost, &message).is_ok() => {
                Poll::Ready(Some(Ok(message)))
            }
            polled => self.rare(cx, polled),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let held = usize::from(self.held.is_some());
        match (self.ending.check_open(), self.inner.size_hint()) {
            // Each message may be refused, and each refusal is an item; the last one may be the end.
            (Ok(()), (_, most)) => (held, most.and_then(|most| most.checked_add(held))),
            (Err(_), _) => (0, Some(0)),
        }
    }
}

impl<T, In, C, A> RateLimit<T, In, C, A> {
    /// Handles a message that must stay; called again for the reason.
    #[cold]
    #[inline(never)]
    fn refuse<Out>(self: Pin<&mut Self>, message: Out, cost: u32) -> Result<(), Error>
    where
        T: Transport<Out>,
        A: End<T>,
    {
        let this = self.project();
        this.ending.check_open()?;
        match (leave(this.outgoing, *this.when, cost), this.outgoing) {
            (Err(excess), Some(gate)) => {
                let error = gate.refuse(&excess, cost);
                if *this.when == WhenExceeded::Close {
                    this.ending.close(error.clone());
                    // The sink returns it, and the stream ends without.
                    this.ending.take_error();
                }
                Err(error)
            }
            _ => this.inner.start_send(message).map_err(Into::into),
        }
    }
}

impl<T, Out, In, C, A> Sink<Out> for RateLimit<T, In, C, A>
where
    T: Transport<Out>,
    C: Cost<Out>,
    A: Outgoing<T, Out>,
{
    type Error = Error;

    #[inline]
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        // The transport first: a cell that is taken for a transport without room is missing elsewhere.
        ready!(this.ending.poll_ready(this.inner, cx))?;
        if let (Some(gate), WhenExceeded::Wait) = (this.outgoing, *this.when) {
            ready!(gate.poll_prepay(cx));
        }
        Poll::Ready(Ok(()))
    }

    // The message is passed on, or to the code that refuses it, and never dropped here, so it need not be copied.
    #[inline]
    fn start_send(mut self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        let this = self.as_mut().project();
        let cost = this.cost.cost(&message);
        if this.ending.check_open().is_ok() && leave(this.outgoing, *this.when, cost).is_ok() {
            return this.inner.start_send(message).map_err(Into::into);
        }
        self.refuse(message, cost)
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.ending.poll_flush(this.inner, cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        settle(this.outgoing);
        this.ending.poll_close(this.inner, cx)
    }
}

// Neither a cost nor a message needs a `Debug`.
impl<T: fmt::Debug, In, C, A: fmt::Debug> fmt::Debug for RateLimit<T, In, C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimit")
            .field("inner", &self.inner)
            .field("incoming", &self.incoming)
            .field("outgoing", &self.outgoing)
            .field("holds", &self.held.is_some())
            .field("ending", &self.ending)
            .finish_non_exhaustive()
    }
}
