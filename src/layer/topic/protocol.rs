use std::collections::VecDeque;

use crate::{
    Error,
    topic::{Event, Position, Start},
};

/// The messages of an application's own protocol that subscribe to topics, and those that carry published messages.
///
/// Each transport has a clone of its own, so a protocol may remember what belongs to one session, such as the
/// identifiers that a client gives its subscriptions.
///
/// Only [`read`](Self::read) and [`event`](Self::event) are required. The other methods answer requests, and by default
/// do nothing.
pub trait TopicProtocol {
    /// The name of a topic.
    type Topic;
    /// The message of a topic.
    type Message;
    /// The messages that the transport receives.
    type In;
    /// The messages that the transport sends.
    type Out;

    /// Reads a message of the peer. Returns it if it is for the user of the transport; otherwise adds what it asks for
    /// to `requests`.
    fn read(&mut self, message: Self::In, requests: &mut Requests<Self::Topic, Self::Out>) -> Option<Self::In>;

    /// Writes a published message, or a gap, by calling `send` any number of times.
    fn event(&mut self, event: Event<Self::Topic, Self::Message>, send: impl FnMut(Self::Out));

    /// Answers a request to subscribe. Everything after the position will be written. The error is that of the
    /// authorization, or of a bound that was reached.
    fn subscribed(&mut self, topic: &Self::Topic, outcome: Result<Position, Error>, send: impl FnMut(Self::Out)) {
        let _ = (topic, outcome, send);
    }

    /// Answers a request to unsubscribe. `had` is whether the session had the topic.
    fn unsubscribed(&mut self, topic: &Self::Topic, had: bool, send: impl FnMut(Self::Out)) {
        let _ = (topic, had, send);
    }
}

/// The requests of a peer's message, in order.
#[derive(Debug)]
pub struct Requests<K, Out> {
    pub(super) waiting: VecDeque<Request<K, Out>>,
    max: usize,
    pub(super) is_over_limit: bool,
}

#[derive(Debug)]
pub(super) enum Request<K, Out> {
    Subscribe(SubscribeRequest<K>),
    Unsubscribe(K),
    Send(Out),
}

impl<K, Out> Requests<K, Out> {
    pub(super) const fn new(max: usize) -> Self {
        Self { waiting: VecDeque::new(), max, is_over_limit: false }
    }

    /// Subscribes to a topic, once the authorization has permitted it.
    pub fn subscribe(&mut self, topic: K, start: Start) {
        self.push(Request::Subscribe(SubscribeRequest { topic, start }));
    }

    /// Leaves a topic.
    pub fn unsubscribe(&mut self, topic: K) {
        self.push(Request::Unsubscribe(topic));
    }

    /// Sends a message to the peer, such as the answer to a request that is not valid.
    pub fn send(&mut self, message: Out) {
        self.push(Request::Send(message));
    }

    fn push(&mut self, request: Request<K, Out>) {
        if self.waiting.len() < self.max {
            self.waiting.push_back(request);
        } else {
            self.is_over_limit = true;
        }
    }
}

/// A request to subscribe, as the authorization gets it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscribeRequest<K> {
    /// The name of the topic.
    pub topic: K,
    /// The place where the subscription begins.
    pub start: Start,
}
