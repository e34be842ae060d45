use std::{fmt, hash::Hash, marker::PhantomData, sync::Arc};

use futures_core::Stream;
use tower_layer::Layer;

use super::{
    Closes, KeyedRateLimiter, PerMessage, Quota, RateLimit, RateLimitCounts, RateLimitServiceLayer, Stays,
    bucket::{Bucket, Limiter, Pair},
    clock::Clock,
    excess::WhenExceeded,
    gate::Gate,
};

/// Lets no more messages pass than a [`Quota`] allows. See the [module](super) for the whole story.
///
/// Defaults: both directions, each with a bucket of its own; one cell a message; what is over the limit waits; the
/// processor's clock.
///
/// `C` is the [cost](Self::cost), `A` whether the layer may close the transport ([`close`](Self::close)).
pub struct RateLimitLayer<C = PerMessage, A = Stays> {
    pub(super) scope: Scope,
    pub(super) limiter: Arc<Limiter>,
    cost: C,
    pub(super) when: WhenExceeded,
    is_inbound: bool,
    is_outbound: bool,
    pub(super) counts: RateLimitCounts,
    ending: PhantomData<fn() -> A>,
}

/// Whose buckets they are.
#[derive(Clone, Debug)]
pub(super) enum Scope {
    /// Each transport's own.
    PerConnection,
    /// Those of all transports of this layer.
    Shared(Pair),
    /// Those of a key, in a limiter with a clock of its own.
    Keyed(Pair),
}

impl RateLimitLayer {
    /// Each transport that the layer is put on gets the whole quota for itself.
    #[must_use]
    pub fn per_connection(quota: Quota) -> Self {
        Self::new(Scope::PerConnection, Limiter::new(quota, Clock::fast()))
    }

    /// All transports (and services) of this layer and of its clones share the quota.
    #[must_use]
    pub fn shared(quota: Quota) -> Self {
        Self::new(Scope::Shared(Pair::default()), Limiter::new(quota, Clock::fast()))
    }

    /// All transports (and services) with this key share the quota, whatever layer they have:
    /// [`limiter.for_key(key)`](KeyedRateLimiter::for_key).
    #[must_use]
    pub fn keyed<K: Hash + Eq>(limiter: &KeyedRateLimiter<K>, key: K) -> Self {
        limiter.for_key(key)
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
    /// Only what comes in: a server's protection.
    #[must_use]
    pub fn inbound(self) -> Self {
        Self { is_inbound: true, is_outbound: false, ..self }
    }

    /// Only what goes out: for a client that must keep to its provider's limit.
    #[must_use]
    pub fn outbound(self) -> Self {
        Self { is_inbound: false, is_outbound: true, ..self }
    }

    /// Both directions, each with the whole quota. The default.
    #[must_use]
    pub fn both(self) -> Self {
        Self { is_inbound: true, is_outbound: true, ..self }
    }

    /// What a message costs: [`PerMessage`] (the default), [`PerByte`](super::PerByte), or a type of the caller's.
    #[must_use]
    pub fn cost<D>(self, cost: D) -> RateLimitLayer<D, A> {
        self.with(cost)
    }

    /// What a message costs, by a function. A message for which it says 0 passes at once.
    #[must_use]
    pub fn cost_by<M, F: Fn(&M) -> u32>(self, cost: F) -> RateLimitLayer<F, A> {
        self.with(cost)
    }

    /// A message for which there is no room waits for it. The default.
    #[must_use]
    pub fn wait(self) -> RateLimitLayer<C, Stays> {
        RateLimitLayer { when: WhenExceeded::Wait, ..self.ending() }
    }

    /// A message for which there is no room is dropped, with an error that
    /// [`is_rate_limited`](crate::Error::is_rate_limited) and says after which time to
    /// [try again](crate::Error::retry_after): of `start_send`, or as an item of the stream. The transport goes on.
    #[must_use]
    pub fn reject(self) -> RateLimitLayer<C, Stays> {
        RateLimitLayer { when: WhenExceeded::Reject, ..self.ending() }
    }

    /// A message for which there is no room is refused as by [`reject`](Self::reject), and is the last: the transport is closed
    /// with [1008](crate::CloseCode::POLICY) "rate limit". For transports of [`Message`](crate::Message)s.
    #[must_use]
    pub fn close(self) -> RateLimitLayer<C, Closes> {
        RateLimitLayer { when: WhenExceeded::Close, ..self.ending() }
    }

    /// Takes the time from the runtime's clock (tokio's), so that a test which pauses that pauses the limit too. It costs
    /// about 20 ns more a message. Begins with full buckets; a [keyed](RateLimitLayer::keyed) layer has the clock of its
    /// [limiter](KeyedRateLimiter::runtime_clock), and this changes nothing.
    #[must_use]
    pub fn runtime_clock(mut self) -> Self {
        match &mut self.scope {
            Scope::PerConnection => {}
            Scope::Shared(pair) => *pair = Pair::default(),
            Scope::Keyed(_) => return self,
        }
        self.limiter = Limiter::new(self.limiter.quota(), Clock::runtime());
        self
    }

    /// What has passed, waited and been refused so far, over all transports of this layer and of its clones.
    #[must_use]
    pub fn counts(&self) -> RateLimitCounts {
        self.counts.clone()
    }

    /// The same limit for a service.
    #[must_use]
    pub fn for_service(self) -> RateLimitServiceLayer {
        RateLimitServiceLayer::new(self.with(PerMessage).ending())
    }

    fn with<D>(self, cost: D) -> RateLimitLayer<D, A> {
        let Self { scope, limiter, when, is_inbound, is_outbound, counts, ending, .. } = self;
        RateLimitLayer { scope, limiter, cost, when, is_inbound, is_outbound, counts, ending }
    }

    fn ending<B>(self) -> RateLimitLayer<C, B> {
        let Self { scope, limiter, cost, when, is_inbound, is_outbound, counts, .. } = self;
        RateLimitLayer { scope, limiter, cost, when, is_inbound, is_outbound, counts, ending: PhantomData }
    }

    /// The buckets of one more transport or service.
    pub(super) fn pair(&self) -> Pair {
        match &self.scope {
            Scope::PerConnection => Pair::default(),
            Scope::Shared(pair) | Scope::Keyed(pair) => pair.clone(),
        }
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
        RateLimit::new(inner, self.cost.clone(), self.when, incoming, outgoing)
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
impl<C, A> fmt::Debug for RateLimitLayer<C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayer")
            .field("quota", &self.limiter.quota())
            .field("scope", &self.scope)
            .field("when", &self.when)
            .field("inbound", &self.is_inbound)
            .field("outbound", &self.is_outbound)
            .finish_non_exhaustive()
    }
}
