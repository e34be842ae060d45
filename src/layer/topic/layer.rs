use std::{
    convert::Infallible,
    future::{Ready, ready},
    hash::Hash,
    num::NonZeroUsize,
    task::{Context, Poll},
};

use tower_layer::Layer;
use tower_service::Service;

use super::{
    protocol::{SubscribeRequest, TopicProtocol},
    transport::TopicSession,
};
use crate::topic::{Policy, Start, Topics};

/// A layer that lets a peer subscribe to [`Topics`], and sends it what is published. See the [module](super) for the
/// complete documentation.
///
/// `P` is the application's [protocol](TopicProtocol), and `A` decides who may subscribe to what.
#[derive(Clone, Debug)]
pub struct TopicLayer<P: TopicProtocol, A = Everyone> {
    topics: Topics<P::Topic, P::Message>,
    protocol: P,
    policy: Policy,
    authorize: A,
    first: Vec<(P::Topic, Start)>,
    max_requests: NonZeroUsize,
}

/// The number of requests of one message.
const MAX_REQUESTS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(1023);

impl<P: TopicProtocol> TopicLayer<P> {
    /// Creates a layer that lets every peer subscribe to every topic. Each transport has one queue, with the bounds of
    /// `policy`.
    #[must_use]
    pub fn new(topics: Topics<P::Topic, P::Message>, protocol: P, policy: Policy) -> Self {
        Self { topics, protocol, policy, authorize: Everyone, first: Vec::new(), max_requests: MAX_REQUESTS }
    }
}

impl<P: TopicProtocol, A> TopicLayer<P, A> {
    /// Sets the service that decides about each request to subscribe. Its error refuses the request, and its response
    /// is ignored. By default every request is granted.
    ///
    /// Each transport has a clone of the service: a server makes the layer for each session, with a service that knows
    /// who the peer is.
    #[must_use]
    pub fn authorize<B>(self, service: B) -> TopicLayer<P, B> {
        let Self { topics, protocol, policy, authorize: _, first, max_requests } = self;
        TopicLayer { topics, protocol, policy, authorize: service, first, max_requests }
    }

    /// Subscribes each transport to a topic from the beginning. The authorization is not asked, and the protocol does
    /// not answer.
    #[must_use]
    pub fn subscribed_to(mut self, topic: impl Into<P::Topic>, start: Start) -> Self {
        self.first.push((topic.into(), start));
        self
    }

    /// Sets the maximum number of requests in one message. Defaults to 1,024. A peer that exceeds it is closed with
    /// [1008](crate::CloseCode::POLICY).
    #[must_use]
    pub fn max_requests(mut self, requests: NonZeroUsize) -> Self {
        self.max_requests = requests;
        self
    }
}

impl<T, P, A> Layer<T> for TopicLayer<P, A>
where
    P: TopicProtocol<Topic: Hash + Eq + Clone> + Clone,
    A: Service<SubscribeRequest<P::Topic>> + Clone,
{
    type Service = TopicSession<T, P, A>;

    fn layer(&self, inner: T) -> TopicSession<T, P, A> {
        let mut subscription = self.topics.subscription(self.policy);
        let mut refused = None;
        for (topic, start) in &self.first {
            if let Err(error) = subscription.subscribe(topic, *start) {
                refused.get_or_insert(error);
            }
        }
        let (protocol, authorize) = (self.protocol.clone(), self.authorize.clone());
        TopicSession::new(inner, subscription, protocol, authorize, self.max_requests.get(), refused)
    }
}

/// The authorization that grants every request.
#[derive(Clone, Copy, Debug, Default)]
pub struct Everyone;

impl<R> Service<R> for Everyone {
    type Response = ();
    type Error = Infallible;
    type Future = Ready<Result<(), Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: R) -> Self::Future {
        ready(Ok(()))
    }
}
