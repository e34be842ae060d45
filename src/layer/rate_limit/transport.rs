use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;

use super::{
    bucket::Excess,
    cost::{Cost, PerMessage},
    gate::Gate,
};
use crate::{CloseCode, CloseFrame, Error, Message, Transport, layer::own::LayerSink};

pin_project! {
    /// A transport with a rate limit, created by [`RateLimitLayer`](super::RateLimitLayer).
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

impl<T, In, C, A: Default> RateLimit<T, In, C, A> {
    pub(super) fn new(inner: T, cost: C, when: WhenExceeded, incoming: Option<Gate>, outgoing: Option<Gate>) -> Self {
        Self { inner, cost, when, incoming, outgoing, held: None, ending: A::default() }
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
debug_fields!([T: fmt::Debug, In, C, A: fmt::Debug] RateLimit<T, In, C, A>, |this| {
    inner,
    incoming,
    outgoing,
    holds: this.held.is_some(),
    ending,
});

/// The policy for a message over the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WhenExceeded {
    Wait,
    Reject,
    Close,
}

/// The rate limit makes messages wait, or rejects them; the transport stays open. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stays;

/// The rate limit [closes](super::RateLimitLayer::close) a transport of [`Message`]s that exceeds it.
#[derive(Debug, Default)]
pub struct Closes(LayerSink<Message>);

#[expect(unnameable_types, reason = "that is what seals")]
mod sealed {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use crate::Error;

    /// The end of a transport, as its reader sees it.
    pub trait End<T> {
        fn check_open(&self) -> Result<(), Error>;
        fn close(&mut self, error: Error);
        fn take_error(&mut self) -> Option<Error>;
        fn poll_end<In>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Option<Result<In, Error>>>;
    }

    /// The sink's methods; `start_send` is the inner transport's.
    pub trait Outgoing<T, Out>: End<T> {
        fn poll_ready(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;
        fn poll_flush(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;
        fn poll_close(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>>;
    }
}

pub(super) use sealed::{End, Outgoing};

impl<T> End<T> for Stays {
    fn check_open(&self) -> Result<(), Error> {
        Ok(())
    }

    fn close(&mut self, _: Error) {}

    fn take_error(&mut self) -> Option<Error> {
        None
    }

    fn poll_end<In>(&mut self, _: Pin<&mut T>, _: &mut Context<'_>) -> Poll<Option<Result<In, Error>>> {
        Poll::Ready(None)
    }
}

impl<T: Transport<Out>, Out> Outgoing<T, Out> for Stays {
    fn poll_ready(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        inner.poll_ready(cx).map_err(Into::into)
    }

    fn poll_flush(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        inner.poll_flush(cx).map_err(Into::into)
    }

    fn poll_close(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        inner.poll_close(cx).map_err(Into::into)
    }
}

impl<T: Transport<Message>> End<T> for Closes {
    fn check_open(&self) -> Result<(), Error> {
        self.0.check_open()
    }

    fn close(&mut self, error: Error) {
        // The peer is told the rule that it broke, not the numbers: they are this end's business.
        self.0.close(CloseFrame::new(CloseCode::POLICY, "rate limit"), error);
    }

    fn take_error(&mut self) -> Option<Error> {
        self.0.take_error()
    }

    fn poll_end<In>(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Option<Result<In, Error>>> {
        self.0.poll_end(inner, cx)
    }
}

impl<T: Transport<Message>> Outgoing<T, Message> for Closes {
    fn poll_ready(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(inner, cx)
    }

    fn poll_flush(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_flush(inner, cx)
    }

    fn poll_close(&mut self, inner: Pin<&mut T>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_close(inner, cx)
    }
}
