use std::{
    borrow::Borrow,
    collections::{HashMap, VecDeque},
    hash::Hash,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{
    Event, Policy, Position, Start,
    hub::Hub,
    members::{Core, Member, Place, Progress},
    policy::{self, Next},
};
use crate::{Error, Message, fingerprint::Fingerprint};

/// The number of items after which the stream lets other tasks run.
const STREAK: u32 = 1024;

/// The messages of one or more topics, as a stream of [`Event`]s. Created by [`Topics`](super::Topics).
///
/// All topics share one queue with the bounds of a [`Policy`]. The messages of one topic come in the order of their
/// positions, none twice. Missing ones are told by an [`Event::Gap`] where they are missing, or, with
/// [`Policy::close`], by the error that ends the stream. The stream has no other error, and no other end.
///
/// It also allocates nothing for a message: what it gives is a handle to the one that was published.
///
/// # Cancel safety
///
/// Dropping a future that waits for the next item loses nothing. Dropping the subscription leaves its topics.
pub struct Subscription<K, M = Message> {
    hub: Arc<Hub<K, M>>,
    member: Arc<Member<K, M>>,
    policy: Policy,
    feeds: HashMap<Fingerprint, Feed<K, M>>,
    /// The topic of each feed.
    topics: HashMap<u64, Fingerprint>,
    /// Feeds that read the history.
    behind: VecDeque<Fingerprint>,
    /// Taken from a history.
    events: VecDeque<(u64, Event<K, M>)>,
    next_feed: u64,
    /// Whether it is the turn of a feed that reads the history.
    is_turn_of_history: bool,
    streak: u32,
    is_over: bool,
}

/// One topic of a subscription. The subscription gives each a number of its own, so that nothing of a topic that it
/// left is taken for one that it joined again.
struct Feed<K, M> {
    id: u64,
    core: Arc<Core<K, M>>,
    place: FeedPlace,
}

enum FeedPlace {
    /// The subscriber has everything of the history up to this offset.
    Behind(u64),
    Member(Place),
}

impl<K, M> Subscription<K, M> {
    pub(super) fn new(hub: Arc<Hub<K, M>>, policy: Policy) -> Self {
        Self {
            hub,
            member: Member::new(policy),
            policy,
            feeds: HashMap::new(),
            topics: HashMap::new(),
            behind: VecDeque::new(),
            events: VecDeque::new(),
            next_feed: 0,
            is_turn_of_history: true,
            streak: 0,
            is_over: false,
        }
    }

    /// Returns the number of topics.
    #[must_use]
    pub fn topics(&self) -> usize {
        self.feeds.len()
    }

    /// Returns the number of messages that wait in the queue. Messages of a history are not counted.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.member.counts().0
    }

    /// Returns the number of bytes that wait in the queue.
    #[must_use]
    pub fn queued_bytes(&self) -> u64 {
        self.member.counts().1
    }

    /// Returns the number of messages that the policy dropped, each of which is also told by a gap or an error.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.member.counts().2
    }

    /// Returns the number of messages that a newer one of their key replaced, with [`Policy::coalesce`].
    #[must_use]
    pub fn replaced(&self) -> u64 {
        self.member.counts().3
    }

    fn leave(&mut self, topic: Fingerprint) -> bool {
        let Some(feed) = self.feeds.remove(&topic) else { return false };
        self.topics.remove(&feed.id);
        match feed.place {
            FeedPlace::Member(place) => feed.core.leave(place),
            FeedPlace::Behind(_) => self.behind.retain(|other| *other != topic),
        }
        // Not before it has left: no more messages of this feed arrive now.
        self.member.forget(feed.id);
        self.events.retain(|(other, _)| *other != feed.id);
        true
    }

    /// Takes messages of the history for the topic whose turn it is.
    fn advance(&mut self) {
        let Some(topic) = self.behind.pop_front() else { return };
        let Some(feed) = self.feeds.get_mut(&topic) else { return };
        let FeedPlace::Behind(offset) = feed.place else { return };
        feed.place = match feed.core.advance(&self.member, feed.id, offset, self.hub.now(), &mut self.events) {
            Progress::Behind(offset) => {
                self.behind.push_back(topic);
                FeedPlace::Behind(offset)
            }
            Progress::Joined(place) => FeedPlace::Member(place),
        };
    }

    fn end(&mut self) {
        self.is_over = true;
        let topics: Vec<_> = self.feeds.keys().copied().collect();
        for topic in topics {
            self.leave(topic);
        }
    }

    fn poll(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Event<K, M>, Error>>> {
        loop {
            if self.is_over {
                return Poll::Ready(None);
            }
            if let Some((_, event)) = self.events.pop_front() {
                return Poll::Ready(Some(Ok(event)));
            }
            let next = if self.behind.is_empty() {
                match self.member.poll_next(cx) {
                    Poll::Ready(next) => next,
                    Poll::Pending => return Poll::Pending,
                }
            } else {
                // In turns, so that neither a long history nor a busy topic holds up the other.
                if std::mem::replace(&mut self.is_turn_of_history, false) {
                    self.advance();
                    continue;
                }
                self.is_turn_of_history = true;
                match self.member.next() {
                    Some(next) => next,
                    None => continue,
                }
            };
            match next {
                Next::Item(publication) => return Poll::Ready(Some(Ok(Event::Message(publication)))),
                Next::Lost { feed, messages } => {
                    let feed = self.topics.get(&feed).and_then(|topic| self.feeds.get(topic));
                    if let Some(feed) = feed {
                        let topic = feed.core.name().clone();
                        return Poll::Ready(Some(Ok(Event::Gap { topic, missed: Some(messages) })));
                    }
                }
                Next::Overflow(code) => {
                    self.end();
                    return Poll::Ready(Some(Err(policy::overflow(&self.policy, code))));
                }
            }
        }
    }
}

impl<K: Hash + Eq, M> Subscription<K, M> {
    /// Adds a topic, which is created if it does not exist. Returns the position after which everything arrives, or is
    /// told to be missing. No message is missed between this call and the next.
    ///
    /// Subscribing to a topic again begins again, as after [`unsubscribe`](Self::unsubscribe).
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_full`](Error::is_full) is true if the subscription already has
    /// [`Policy::max_topics`], or if the topic does not exist and there are already
    /// [`max_topics`](super::TopicsConfig::max_topics). Returns an error for which [`is_closed`](Error::is_closed) is
    /// true if [`Policy::close`] has ended the subscription.
    pub fn subscribe<Q>(&mut self, topic: &Q, start: Start) -> Result<Position, Error>
    where
        K: Borrow<Q>,
        Q: Hash + ToOwned<Owned = K> + ?Sized,
    {
        if self.is_over {
            return Err(Error::closed("the subscription was too slow and has ended; make another one"));
        }
        let fingerprint = self.hub.fingerprint(topic);
        let max = self.policy.max_topics;
        if self.feeds.len() >= max && !self.feeds.contains_key(&fingerprint) {
            return Err(Error::full(format!("a subscription has {max} topics, as many as `max_topics` allows")));
        }
        let core = match self.hub.find(fingerprint) {
            Some(core) => core,
            None => self.hub.create(topic.to_owned(), fingerprint)?,
        };
        self.leave(fingerprint);
        let id = self.next_feed;
        self.next_feed += 1;
        let (place, position) = if start == Start::Live {
            let (place, position) = core.join_live(&self.member, id);
            (FeedPlace::Member(place), position)
        } else {
            let (position, gap) = core.begin(start, self.hub.now());
            if let Some(missed) = gap {
                self.events.push_back((id, Event::Gap { topic: core.name().clone(), missed }));
            }
            self.behind.push_back(fingerprint);
            (FeedPlace::Behind(position.offset()), position)
        };
        self.topics.insert(id, fingerprint);
        self.feeds.insert(fingerprint, Feed { id, core, place });
        Ok(position)
    }

    /// Leaves a topic: what waits of it is dropped, and nothing of it arrives any more. Returns whether the
    /// subscription had it.
    pub fn unsubscribe<Q>(&mut self, topic: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.leave(self.hub.fingerprint(topic))
    }

    /// Returns whether the subscription has this topic.
    #[must_use]
    pub fn contains<Q>(&self, topic: &Q) -> bool
    where
        K: Borrow<Q>,
        Q: Hash + ?Sized,
    {
        self.feeds.contains_key(&self.hub.fingerprint(topic))
    }
}

impl<K, M> Stream for Subscription<K, M> {
    type Item = Result<Event<K, M>, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.streak == STREAK {
            this.streak = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = this.poll(cx);
        this.streak = if polled.is_ready() { this.streak + 1 } else { 0 };
        polled
    }
}

impl<K, M> Drop for Subscription<K, M> {
    fn drop(&mut self) {
        self.end();
    }
}

debug_fields!([K, M] Subscription<K, M>, |this| {
    topics: this.topics(),
    queued: this.queued(),
    queued_bytes: this.queued_bytes(),
    dropped: this.dropped(),
    replaced: this.replaced(),
    policy: this.policy,
});
