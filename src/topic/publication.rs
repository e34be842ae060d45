use std::sync::Arc;

use super::Position;

/// A message of a topic, as its subscribers get it. A clone costs a reference count.
pub struct Publication<K, M>(Arc<Shared<K, M>>);

/// One message for all subscribers. It is allocated once, by the publisher.
struct Shared<K, M> {
    topic: Arc<K>,
    position: Position,
    message: M,
}

impl<K, M> Publication<K, M> {
    pub(super) fn new(topic: Arc<K>, position: Position, message: M) -> Self {
        Self(Arc::new(Shared { topic, position, message }))
    }

    /// Returns the name of the topic.
    #[must_use]
    pub fn topic(&self) -> &K {
        &self.0.topic
    }

    /// Returns the position of the message. A subscriber that has processed it returns with
    /// [`Start::After`](super::Start::After) this position.
    #[must_use]
    pub fn position(&self) -> Position {
        self.0.position
    }

    /// Returns the message.
    #[must_use]
    pub fn message(&self) -> &M {
        &self.0.message
    }
}

impl<K, M: Clone> Publication<K, M> {
    /// Returns the message: a clone, unless this is the last handle to it.
    #[must_use]
    pub fn into_message(self) -> M {
        match Arc::try_unwrap(self.0) {
            Ok(shared) => shared.message,
            Err(shared) => shared.message.clone(),
        }
    }
}

impl<K, M> Clone for Publication<K, M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

debug_fields!([K, M] Publication<K, M>, |this| { position: this.0.position });

/// An item of a [`Subscription`](super::Subscription).
#[non_exhaustive]
pub enum Event<K, M> {
    /// The next message of a topic.
    Message(Publication<K, M>),
    /// Messages of this topic are missing here, because the subscription's policy dropped them or the history no longer
    /// has them.
    Gap {
        /// The name of the topic.
        topic: Arc<K>,
        /// The number of missing messages, or `None` if it is unknown: the position to return to is of another epoch,
        /// or the history is by key.
        missed: Option<u64>,
    },
}

impl<K, M> Event<K, M> {
    /// Returns the name of the topic.
    #[must_use]
    pub fn topic(&self) -> &K {
        match self {
            Self::Message(publication) => publication.topic(),
            Self::Gap { topic, .. } => topic,
        }
    }

    /// Returns the message, or `None` for a gap.
    #[must_use]
    pub fn into_publication(self) -> Option<Publication<K, M>> {
        match self {
            Self::Message(publication) => Some(publication),
            Self::Gap { .. } => None,
        }
    }
}

impl<K, M> Clone for Event<K, M> {
    fn clone(&self) -> Self {
        match self {
            Self::Message(publication) => Self::Message(publication.clone()),
            Self::Gap { topic, missed } => Self::Gap { topic: topic.clone(), missed: *missed },
        }
    }
}

impl<K, M> std::fmt::Debug for Event<K, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Message(publication) => f.debug_tuple("Message").field(publication).finish(),
            Self::Gap { missed, .. } => f.debug_struct("Gap").field("missed", missed).finish_non_exhaustive(),
        }
    }
}
