use std::{
    borrow::Borrow,
    collections::HashMap,
    hash::Hash,
    num::NonZeroUsize,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{History, Policy, Start, Subscription, history::Step, members::Core};
use crate::{
    Error, MaybeSend, MaybeSync, Message,
    codec::Encoded,
    fingerprint::{Fingerprint, Seeds},
    rt::Instant,
    sync::{Mutex, MutexGuard},
    threads::dyn_shared,
    transport::payload::Payload,
};

/// The number of parts of the table of topics, each under a lock of its own.
const PARTS: usize = 16;

/// The configuration of [`Topics`].
///
/// | setting | default |
/// |---|---|
/// | [`history`](Self::history) | off |
/// | [`key_by`](Self::key_by) | messages have no key |
/// | [`max_topics`](Self::max_topics) | 65,536 |
pub struct TopicsConfig<K, M = Message> {
    pub(super) history: History,
    key: Option<KeyOf<K, M>>,
    max_topics: usize,
    payload: Payload<M>,
    prepare: fn(M) -> M,
}

type KeyOf<K, M> = Arc<dyn_shared!(Fn(&Seeds, &K, &M) -> Option<Fingerprint>)>;

impl<K> TopicsConfig<K, Message> {
    /// Creates the configuration of topics of [`Message`]s, which are measured by their payloads and, with the feature
    /// `deflate`, [prepared](Message::into_prepared) to be compressed once.
    #[must_use]
    pub fn messages() -> Self {
        Self { payload: Payload::messages(), prepare: prepared, ..Self::values() }
    }
}

impl<K, C> TopicsConfig<K, Encoded<C>> {
    /// Creates the configuration of topics of values that a codec has [encoded](Encoded), with the same properties as
    /// [`messages`](TopicsConfig::messages).
    #[must_use]
    pub fn encoded() -> Self {
        let payload = Payload::values().sized_by(|encoded: &Encoded<C>| encoded.message().len());
        Self { payload, prepare: |encoded| encoded.map_message(prepared), ..Self::values() }
    }
}

impl<K, M> TopicsConfig<K, M> {
    /// Creates the configuration of topics of values. A value counts with the size of its type.
    #[must_use]
    pub fn values() -> Self {
        Self {
            history: History::off(),
            key: None,
            max_topics: 1 << 16,
            payload: Payload::values(),
            prepare: std::convert::identity,
        }
    }

    /// Creates the configuration of topics of values that `size` measures in bytes.
    #[must_use]
    pub fn values_sized_by(size: fn(&M) -> usize) -> Self {
        Self { payload: Payload::values().sized_by(size), ..Self::values() }
    }

    /// Sets the history of each topic. Defaults to none.
    #[must_use]
    pub fn history(mut self, history: History) -> Self {
        self.history = history;
        self
    }

    /// Sets the function that finds the key of a message for [`Policy::coalesce`] and [`History::last_by_key`]. It gets
    /// the topic's name and the message, and runs once for each message, before anything is locked.
    #[must_use]
    pub fn key_by<T: Hash>(mut self, key: impl Fn(&K, &M) -> Option<T> + MaybeSend + MaybeSync + 'static) -> Self {
        self.key = Some(Arc::new(move |seeds, topic, message| key(topic, message).map(|key| seeds.of(&key))));
        self
    }

    /// Sets the maximum number of topics. Defaults to 65,536. A topic exists while somebody subscribes to it or holds
    /// its [`Topic`], and while its history is not empty.
    #[must_use]
    pub fn max_topics(mut self, topics: NonZeroUsize) -> Self {
        self.max_topics = topics.get();
        self
    }
}

#[cfg(all(feature = "deflate", not(target_arch = "wasm32")))]
fn prepared(message: Message) -> Message {
    message.into_prepared()
}

#[cfg(not(all(feature = "deflate", not(target_arch = "wasm32"))))]
fn prepared(message: Message) -> Message {
    message
}

// A derived implementation would require the same trait of `K` and `M`.
impl<K, M> Clone for TopicsConfig<K, M> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), ..*self }
    }
}

debug_fields!([K, M] TopicsConfig<K, M> { history, max_topics });

/// A hub of topics: what is published to a topic goes to all who subscribe to it. Clones are handles to the same hub.
///
/// See the [module](super) for the complete documentation.
pub struct Topics<K, M = Message>(pub(super) Arc<Hub<K, M>>);

pub(super) struct Hub<K, M> {
    pub(super) config: TopicsConfig<K, M>,
    seeds: Seeds,
    /// Under these locks no name is compared, cloned or dropped, because that is user code.
    parts: [Mutex<HashMap<Fingerprint, Entry<K, M>>>; PARTS],
    /// The number of entries of all parts.
    topics: AtomicUsize,
    started: Instant,
}

/// A topic belongs to its subscribers and handles. The hub keeps it alive only for its history.
struct Entry<K, M> {
    core: Weak<Core<K, M>>,
    kept: Option<Arc<Core<K, M>>>,
}

impl<K> Topics<K, Message> {
    /// Creates a hub of [`Message`]s without history.
    #[must_use]
    pub fn new() -> Self {
        Self::with_config(TopicsConfig::messages())
    }
}

impl<K> Default for Topics<K, Message> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, M> Topics<K, M> {
    /// Creates a hub with this configuration.
    #[must_use]
    pub fn with_config(config: TopicsConfig<K, M>) -> Self {
        Self(Arc::new(Hub {
            config,
            seeds: Seeds::default(),
            parts: std::array::from_fn(|_| Mutex::default()),
            topics: AtomicUsize::new(0),
            started: Instant::now(),
        }))
    }

    /// Creates a subscription without a topic. Each topic that it [subscribes](Subscription::subscribe) to shares its
    /// queue, which has the bounds of `policy`.
    #[must_use]
    pub fn subscription(&self, policy: Policy) -> Subscription<K, M> {
        Subscription::new(self.0.clone(), policy)
    }

    /// Returns the number of topics that exist.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.topics.load(Relaxed)
    }

    /// Returns whether no topic exists.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Drops messages that are older than [`History::max_age`], and topics that nobody uses any more. A hub with many
    /// topics that are used once calls it from time to time. It also happens to a topic whenever it is used.
    pub fn expire(&self) {
        for part in &self.0.parts {
            let cores: Vec<_> = part.lock().values().filter_map(|entry| entry.kept.clone()).collect();
            for core in cores {
                self.0.release(&core);
            }
        }
    }
}

impl<K: Hash + Eq, M> Topics<K, M> {
    /// Publishes a message to all who subscribe to `topic`. Never waits for a subscriber.
    ///
    /// The message is not copied: all subscribers and the history share it. A topic that nobody subscribes to is not
    /// created unless there is a history.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_full`](Error::is_full) is true if the topic would have to be created for the
    /// history and there are already [`max_topics`](TopicsConfig::max_topics). Without a history, it never fails.
    pub fn publish<Q>(&self, topic: &Q, message: M) -> Result<Published, Error>
    where
        K: Borrow<Q>,
        Q: Hash + ToOwned<Owned = K> + ?Sized,
    {
        let topic = match self.0.find(self.0.seeds.of(topic)) {
            Some(core) => Topic { core, hub: self.0.clone() },
            None if self.0.config.history.is_off() => return Ok(Published { position: None, subscribers: 0 }),
            None => self.topic(topic)?,
        };
        Ok(topic.publish(message))
    }

    /// Returns a topic, which is created if it does not exist.
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_full`](Error::is_full) is true if there are already
    /// [`max_topics`](TopicsConfig::max_topics).
    pub fn topic<Q>(&self, topic: &Q) -> Result<Topic<K, M>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + ToOwned<Owned = K> + ?Sized,
    {
        let fingerprint = self.0.seeds.of(topic);
        let core = match self.0.find(fingerprint) {
            Some(core) => core,
            None => self.0.create(topic.to_owned(), fingerprint)?,
        };
        Ok(Topic { core, hub: self.0.clone() })
    }

    /// Creates a subscription to one topic. The same as [`subscription`](Self::subscription) and
    /// [`Subscription::subscribe`].
    ///
    /// # Errors
    ///
    /// Returns an error for which [`is_full`](Error::is_full) is true if the topic does not exist and there are already
    /// [`max_topics`](TopicsConfig::max_topics).
    pub fn subscribe<Q>(&self, topic: &Q, start: Start, policy: Policy) -> Result<Subscription<K, M>, Error>
    where
        K: Borrow<Q>,
        Q: Hash + ToOwned<Owned = K> + ?Sized,
    {
        let mut subscription = self.subscription(policy);
        subscription.subscribe(topic, start)?;
        Ok(subscription)
    }
}

impl<K, M> Clone for Topics<K, M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

debug_fields!([K, M] Topics<K, M>, |this| { topics: this.len(), config: this.0.config });

impl<K, M> Hub<K, M> {
    pub(super) fn fingerprint<Q: Hash + ?Sized>(&self, topic: &Q) -> Fingerprint {
        self.seeds.of(topic)
    }

    /// Returns the time since the hub was made, or zero if nobody needs it.
    pub(super) fn now(&self) -> Duration {
        if self.config.history.ages() { self.started.elapsed() } else { Duration::ZERO }
    }

    fn part(&self, topic: Fingerprint) -> MutexGuard<'_, HashMap<Fingerprint, Entry<K, M>>> {
        // Not the bits by which the table of the part distributes its entries: those come from a hash of all bits.
        self.parts[topic.0 as usize % PARTS].lock()
    }

    pub(super) fn find(&self, topic: Fingerprint) -> Option<Arc<Core<K, M>>> {
        self.part(topic).get(&topic)?.core.upgrade()
    }

    pub(super) fn create(self: &Arc<Self>, name: K, topic: Fingerprint) -> Result<Arc<Core<K, M>>, Error> {
        let core = Arc::new(Core::new(name, topic, self));
        let mut part = self.part(topic);
        let known = part.get(&topic);
        if let Some(found) = known.and_then(|entry| entry.core.upgrade()) {
            drop(part);
            return Ok(found);
        }
        // An entry whose topic is being dropped is replaced: that topic finds another one in its place and leaves it.
        if known.is_none() && self.topics.fetch_add(1, Relaxed) >= self.config.max_topics {
            self.topics.fetch_sub(1, Relaxed);
            drop(part);
            let max = self.config.max_topics;
            return Err(Error::full(format!("there are {max} topics, as many as `max_topics` allows")));
        }
        part.insert(topic, Entry { core: Arc::downgrade(&core), kept: None });
        drop(part);
        Ok(core)
    }

    /// Keeps a topic for its history.
    fn keep(&self, core: &Arc<Core<K, M>>) {
        let mut part = self.part(core.fingerprint);
        let entry = part.get_mut(&core.fingerprint);
        if let Some(entry) =
            entry.filter(|entry| entry.kept.is_none() && Weak::as_ptr(&entry.core) == Arc::as_ptr(core))
        {
            entry.kept = Some(core.clone());
        }
    }

    /// Keeps a topic no longer if its history is empty.
    fn release(&self, core: &Arc<Core<K, M>>) {
        if core.release(self.now()) {
            let kept = self.part(core.fingerprint).get_mut(&core.fingerprint).and_then(|entry| entry.kept.take());
            drop(kept);
            // A publisher that came in between found the topic kept.
            if core.is_kept() {
                self.keep(core);
            }
        }
    }

    /// Removes a topic that is being dropped, unless another one has taken its place.
    pub(super) fn forget(&self, topic: Fingerprint, core: *const Core<K, M>) {
        let mut part = self.part(topic);
        if part.get(&topic).is_some_and(|entry| Weak::as_ptr(&entry.core) == core) {
            // Nothing of the user's is in it: the topic is not kept, or it would not be dropped.
            part.remove(&topic);
            self.topics.fetch_sub(1, Relaxed);
        }
    }
}

/// A handle to one topic, for publishers that publish often: it does not look for the topic each time.
///
/// The topic exists as long as the handle.
pub struct Topic<K, M = Message> {
    core: Arc<Core<K, M>>,
    hub: Arc<Hub<K, M>>,
}

impl<K, M> Topic<K, M> {
    /// Publishes a message to all who subscribe. Never waits for a subscriber.
    pub fn publish(&self, message: M) -> Published {
        self.publish_step(message, Step::Publish).unwrap_or(Published { position: None, subscribers: 0 })
    }

    /// Publishes a message, unless the step is refused.
    pub(super) fn publish_step(&self, message: M, step: Step) -> Option<Published> {
        let config = &self.hub.config;
        let message = (config.prepare)(message);
        // A function of the user may return any number, and sums of sizes must not overflow.
        let size = u32::try_from(config.payload.size(&message)).unwrap_or(u32::MAX);
        let key = config.key.as_ref().and_then(|key| key(&self.hub.seeds, self.core.name(), &message));
        let (published, is_first_kept) = self.core.publish(message, step, size, key, self.hub.now())?;
        if is_first_kept {
            self.hub.keep(&self.core);
        } else if step == Step::Leave {
            self.hub.release(&self.core);
        }
        Some(published)
    }

    /// Returns the messages of the history.
    pub(super) fn snapshot(&self) -> Vec<super::Publication<K, M>> {
        self.core.snapshot()
    }

    /// Returns the name of the topic.
    #[must_use]
    pub fn name(&self) -> &K {
        self.core.name()
    }

    /// Returns the position of the last message.
    #[must_use]
    pub fn position(&self) -> super::Position {
        self.core.position()
    }

    /// Returns the number of subscriptions to it. A subscription that has not yet caught up with the history counts
    /// from then on.
    #[must_use]
    pub fn subscribers(&self) -> usize {
        self.core.subscribers()
    }

    /// Returns the number of messages in the history.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.core.expire(self.hub.now())
    }

    /// Returns the last message of a key, with [`History::last_by_key`].
    #[must_use]
    pub fn get<T: Hash + ?Sized>(&self, key: &T) -> Option<super::Publication<K, M>> {
        self.core.get(&self.hub.seeds.of(key))
    }

    /// Removes the last message of a key from the history: later subscribers do not get it. Returns whether there was
    /// one.
    pub fn remove<T: Hash + ?Sized>(&self, key: &T) -> bool {
        self.core.remove(&self.hub.seeds.of(key))
    }
}

impl<K, M> Clone for Topic<K, M> {
    fn clone(&self) -> Self {
        Self { core: self.core.clone(), hub: self.hub.clone() }
    }
}

debug_fields!([K, M] Topic<K, M>, |this| { position: this.position(), subscribers: this.subscribers() });

/// The outcome of publishing a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Published {
    pub(super) position: Option<super::Position>,
    pub(super) subscribers: usize,
}

impl Published {
    /// Returns the position of the message, or `None` if the topic does not exist.
    #[must_use]
    pub const fn position(self) -> Option<super::Position> {
        self.position
    }

    /// Returns the number of subscriptions whose policy saw the message.
    #[must_use]
    pub const fn subscribers(self) -> usize {
        self.subscribers
    }
}
