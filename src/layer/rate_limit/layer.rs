use std::{marker::PhantomData, sync::Arc};

use futures_core::Stream;
use tower_layer::Layer;

use super::{
    Closes, PerMessage, Quota, RateLimitCounts, Stays,
    bucket::{Bucket, Clock, Limiter, Pair},
    gate::Gate,
    transport::{RateLimit, WhenExceeded},
};

/// A layer that limits messages to a [`Quota`]. See the [module](super) for the complete documentation.
///
/// Defaults: both directions, each with its own bucket; one cell per message; messages over the limit wait; the
/// processor's clock.
///
/// `C` is the [cost](Self::cost). `A` states whether the layer may close the transport ([`close`](Self::close)).
pub struct RateLimitLayer<C = PerMessage, A = Stays> {
    pub(super) scope: Scope,
    pub(super) limiter: Arc<Limiter>,
    pub(super) cost: C,
    pub(super) when: WhenExceeded,
    pub(super) is_inbound: bool,
    pub(super) is_outbound: bool,
    pub(super) counts: RateLimitCounts,
    ending: PhantomData<fn() -> A>,
}

/// The owner of the buckets.
#[derive(Clone, Debug)]
pub(super) enum Scope {
    /// Each transport has its own.
    PerConnection,
    /// Shared by all transports of this layer.
    Shared(Pair),
    /// The buckets of a key, in a limiter with its own clock.
    Keyed(Pair),
}

impl RateLimitLayer {
    /// Creates a layer that gives each transport the whole quota.
    #[must_use]
    pub fn per_connection(quota: Quota) -> Self {
        Self::new(Scope::PerConnection, Limiter::new(quota, Clock::fast()))
    }

    /// Creates a layer whose quota is shared by all transports (and services) of this layer and its clones.
    #[must_use]
    pub fn shared(quota: Quota) -> Self {
        Self::new(Scope::Shared(Pair::default()), Limiter::new(quota, Clock::fast()))
    }

    /// Returns the gate of one more service.
    pub(super) fn call_gate(&self) -> Gate {
        Gate::new(Bucket::new(self.limiter.clone(), self.pair().inbound), self.counts(), "a call")
    }

    pub(super) fn new(scope: Scope, limiter: Arc<Limiter>) -> Self {
        Self {
            scope,
            limiter,
            cost: PerMessage,
            when: WhenExceeded::Wait,
            is_inbound: true,
            is_outbound: true,
            counts: RateLimitCounts::default(),
            ending: PhantomData,
        }
    }
}

impl<C, A> RateLimitLayer<C, A> {
    /// Limits only incoming messages, to protect a server.
    #[must_use]
    pub fn inbound(self) -> Self {
        Self { is_inbound: true, is_outbound: false, ..self }
    }

    /// Limits only outgoing messages, for a client that must respect its provider's limit.
    #[must_use]
    pub fn outbound(self) -> Self {
        Self { is_inbound: false, is_outbound: true, ..self }
    }

    /// Limits both directions, each with the whole quota. The default.
    #[must_use]
    pub fn both(self) -> Self {
        Self { is_inbound: true, is_outbound: true, ..self }
    }

    /// Sets the cost of a message: [`PerMessage`] (the default), [`PerByte`](super::PerByte), or your own type.
    #[must_use]
    pub fn cost<D>(self, cost: D) -> RateLimitLayer<D, A> {
        self.with(cost)
    }

    /// Sets the cost of a message as a function. A message for which it returns 0 passes at once.
    #[must_use]
    pub fn cost_by<M, F: Fn(&M) -> u32>(self, cost: F) -> RateLimitLayer<F, A> {
        self.with(cost)
    }

    /// Makes a message over the limit wait. The default.
    #[must_use]
    pub fn wait(self) -> RateLimitLayer<C, Stays> {
        RateLimitLayer { when: WhenExceeded::Wait, ..self.ending() }
    }

    /// Drops a message over the limit, with an error for which [`is_rate_limited`](crate::Error::is_rate_limited) is
    /// true and which states when to [try again](crate::Error::retry_after). `start_send` returns it, or it is an item
    /// of the stream. The transport goes on.
    #[must_use]
    pub fn reject(self) -> RateLimitLayer<C, Stays> {
        RateLimitLayer { when: WhenExceeded::Reject, ..self.ending() }
    }

    /// Refuses a message over the limit as [`reject`](Self::reject) does, and closes the transport with
    /// [1008](crate::CloseCode::POLICY) "rate limit". For transports of [`Message`](crate::Message)s.
    #[must_use]
    pub fn close(self) -> RateLimitLayer<C, Closes> {
        RateLimitLayer { when: WhenExceeded::Close, ..self.ending() }
    }

    /// Uses the runtime's clock (tokio's), so that a test which pauses it also pauses the limit. It costs about 20 ns
    /// more per message. The buckets start full. A [keyed](RateLimitLayer::keyed) layer uses the clock of its
    /// [limiter](super::KeyedRateLimiter::runtime_clock), and this has no effect.
    #[must_use]
    pub fn runtime_clock(mut self) -> Self {
        match &mut self.scope {
            Scope::PerConnection => {}
            // The times in a bucket are those of its clock.
            Scope::Shared(pair) => *pair = Pair::default(),
            Scope::Keyed(_) => return self,
        }
        self.limiter = Limiter::new(self.limiter.quota(), Clock::runtime());
        self
    }

    /// Returns the counts of passed, waiting and refused messages, over all transports of this layer and its clones.
    #[must_use]
    pub fn counts(&self) -> RateLimitCounts {
        self.counts.clone()
    }

    pub(super) fn with<D>(self, cost: D) -> RateLimitLayer<D, A> {
        let Self { scope, limiter, when, is_inbound, is_outbound, counts, ending, .. } = self;
        RateLimitLayer { scope, limiter, cost, when, is_inbound, is_outbound, counts, ending }
    }

    pub(super) fn ending<B>(self) -> RateLimitLayer<C, B> {
        let Self { scope, limiter, cost, when, is_inbound, is_outbound, counts, .. } = self;
        RateLimitLayer { scope, limiter, cost, when, is_inbound, is_outbound, counts, ending: PhantomData }
    }

    /// Returns the buckets of one more transport or service.
    pub(super) fn pair(&self) -> Pair {
        match &self.scope {
            Scope::PerConnection => Pair::default(),
            Scope::Shared(pair) | Scope::Keyed(pair) => pair.clone(),
        }
    }
}

impl<C: Clone, A> Clone for RateLimitLayer<C, A> {
    fn clone(&self) -> Self {
        Self {
            scope: self.scope.clone(),
            limiter: self.limiter.clone(),
            cost: self.cost.clone(),
            when: self.when,
            is_inbound: self.is_inbound,
            is_outbound: self.is_outbound,
            counts: self.counts.clone(),
            ending: PhantomData,
        }
    }
}

// A cost may be a closure, which has no `Debug`.
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
        RateLimit::new(inner, self.cost.clone(), self.when, incoming, outgoing)
    }
}

debug_fields!([C, A] RateLimitLayer<C, A>, |this| {
    quota: this.limiter.quota(),
    scope,
    when,
    inbound: this.is_inbound,
    outbound: this.is_outbound,
});
