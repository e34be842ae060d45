use std::{
    borrow::Borrow,
    fmt,
    hash::Hash,
    num::NonZeroUsize,
    pin::Pin,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{Event, History, Policy, Publication, Start, Subscription, Topic, Topics, TopicsConfig, history::Step};
use crate::{Error, MaybeSend, MaybeSync};

/// The members of each topic. Clones are handles to the same presence.
///
/// Everybody has a key of type `I` and a small value of type `V`, such as a name and a status. A key may join several
/// times, as somebody with two devices does: it has joined with the first time, and left with the last.
///
/// It is a table of [`Topics`] whose messages are the [changes](Change) and whose history is who is present. It is
/// independent of the hub that has the messages of the same names.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use futures_util::StreamExt;
/// use tower_transport::topic::{Change, Presence, PresenceEvent};
///
/// let presence: Presence<String, u64, &str> = Presence::new(1000.try_into()?);
/// let ada = presence.join("room", 1, "Ada")?;
///
/// let mut watcher = presence.watch("room")?;
/// let Some(PresenceEvent::Change(change)) = watcher.next().await else { panic!("a change") };
/// assert_eq!(change.message(), &Change::Joined { id: 1, value: "Ada" });
///
/// drop(ada); // she leaves
/// let Some(PresenceEvent::Change(change)) = watcher.next().await else { panic!("a change") };
/// assert_eq!(change.message(), &Change::Left { id: 1 });
/// # Ok::<(), tower_transport::BoxError>(()) }).unwrap();
/// ```
///
/// # Bounds
///
/// A topic has at most as many members as [`new`](Self::new) says. A change of a member replaces an earlier one of the
/// same member that a watcher has not seen, so churn costs a slow watcher nothing: it is told the outcome. At most four
/// times as many changes as members wait for a watcher. If there are more, it [begins again](PresenceEvent::Reset).
pub struct Presence<K, I, V> {
    topics: Topics<K, Change<I, V>>,
    max_members: NonZeroUsize,
}

/// A change of who is in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change<I, V> {
    /// Somebody is present now, or has another value.
    Joined {
        /// The key of the member.
        id: I,
        /// The value of the member.
        value: V,
    },
    /// Somebody is no longer present.
    Left {
        /// The key of the member.
        id: I,
    },
}

impl<I, V> Change<I, V> {
    /// Returns the key of the member.
    #[must_use]
    pub const fn id(&self) -> &I {
        match self {
            Self::Joined { id, .. } | Self::Left { id } => id,
        }
    }

    /// Returns the value of a member that is present.
    #[must_use]
    pub const fn value(&self) -> Option<&V> {
        match self {
            Self::Joined { value, .. } => Some(value),
            Self::Left { .. } => None,
        }
    }
}

/// The change by which a member joined.
type Joined<K, I, V> = Publication<K, Change<I, V>>;

impl<K, I: Hash, V> Presence<K, I, V> {
    /// Creates a presence with at most `max_members` in each topic, and the default number of
    /// [topics](TopicsConfig::max_topics).
    #[must_use]
    pub fn new(max_members: NonZeroUsize) -> Self
    where
        I: Clone + MaybeSend + MaybeSync + 'static,
        V: 'static,
        K: 'static,
    {
        let config = TopicsConfig::values()
            .history(History::presence(max_members))
            .key_by(|_: &K, change: &Change<I, V>| Some(change.id().clone()));
        Self { topics: Topics::with_config(config), max_members }
    }
}

impl<K: Hash + Eq, I: Clone, V> Presence<K, I, V> {
    /// Adds somebody to a topic until the guard is dropped.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_full`](Error::is_full) is true if the topic has as many members as it may have,
    /// or there are as many topics as there may be.
    pub fn join<Q>(&self, topic: &Q, id: I, value: V) -> Result<Present<K, I, V>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + ToOwned<Owned = K> + ?Sized,
    {
        let topic = self.topics.topic(topic)?;
        let left = Change::Left { id: id.clone() };
        if topic.publish_step(Change::Joined { id, value }, Step::Join).is_none() {
            return Err(Error::full(format!("a topic has {} members, as many as it may have", self.max_members)));
        }
        Ok(Present { topic, left: Some(left) })
    }

    /// Watches a topic: the watcher is told all who are present, then each change.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_full`](Error::is_full) is true if there are as many topics as there may be.
    pub fn watch<Q>(&self, topic: &Q) -> Result<Watcher<K, I, V>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + ToOwned<Owned = K> + ?Sized,
    {
        let policy =
            Policy::coalesce().max_messages(self.max_members.saturating_mul(NonZeroUsize::MIN.saturating_add(3)));
        Ok(Watcher { subscription: self.topics.subscribe(topic, Start::History, policy)? })
    }

    /// Returns who is in a topic, each with the change by which it joined.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_full`](Error::is_full) is true if there are as many topics as there may be.
    pub fn members<Q>(&self, topic: &Q) -> Result<Vec<Joined<K, I, V>>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + ToOwned<Owned = K> + ?Sized,
    {
        Ok(self.topics.topic(topic)?.snapshot())
    }
}

impl<K, I, V> Clone for Presence<K, I, V> {
    fn clone(&self) -> Self {
        Self { topics: self.topics.clone(), max_members: self.max_members }
    }
}

debug_fields!([K, I, V] Presence<K, I, V>, |this| { topics: this.topics.len(), max_members: this.max_members });

/// Somebody's place in a topic, created by [`Presence::join`]. Dropping it leaves.
#[must_use = "dropping it leaves the topic"]
pub struct Present<K, I, V> {
    topic: Topic<K, Change<I, V>>,
    left: Option<Change<I, V>>,
}

impl<K, I: Clone, V> Present<K, I, V> {
    /// Changes the value of the member, for all its places in the topic.
    pub fn update(&self, value: V) {
        if let Some(left) = &self.left {
            self.topic.publish(Change::Joined { id: left.id().clone(), value });
        }
    }
}

impl<K, I, V> Drop for Present<K, I, V> {
    fn drop(&mut self) {
        if let Some(left) = self.left.take() {
            self.topic.publish_step(left, Step::Leave);
        }
    }
}

debug_fields!([K, I, V] Present<K, I, V> {});

/// The changes of who is in a topic, as a stream of [`PresenceEvent`]s that does not end. Created by
/// [`Presence::watch`].
///
/// # Cancel safety
///
/// Dropping a future that waits for the next item loses nothing.
pub struct Watcher<K, I, V> {
    subscription: Subscription<K, Change<I, V>>,
}

/// An item of a [`Watcher`].
#[non_exhaustive]
pub enum PresenceEvent<K, I, V> {
    /// The next change.
    Change(Publication<K, Change<I, V>>),
    /// The watcher was too slow. Forget who was present: all who are present are told again.
    Reset,
}

impl<K: Hash + Eq + Clone, I, V> Stream for Watcher<K, I, V> {
    type Item = PresenceEvent<K, I, V>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.subscription).poll_next(cx).map(|event| {
            match event? {
                Ok(Event::Message(change)) => Some(PresenceEvent::Change(change)),
                Ok(Event::Gap { topic, .. }) => {
                    // It has a place in the topic already, so there is no bound that this could meet.
                    self.subscription.subscribe(&*topic, Start::History).ok()?;
                    Some(PresenceEvent::Reset)
                }
                // Its policy does not end it.
                Err(_) => None,
            }
        })
    }
}

debug_fields!([K, I, V] Watcher<K, I, V> { subscription });

impl<K, I: fmt::Debug, V: fmt::Debug> fmt::Debug for PresenceEvent<K, I, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Change(change) => f.debug_tuple("Change").field(change.message()).finish(),
            Self::Reset => f.write_str("Reset"),
        }
    }
}
