use std::{collections::HashMap, num::NonZeroUsize};

use super::sequence::Sequence;
use crate::{CloseCode, CloseFrame, Error, fingerprint::Fingerprint};

/// The bounds of a subscription's queue, and what happens to a message that finds it full. There is no policy that
/// waits: one reader never holds up a publisher.
///
/// | policy | a message that finds the queue full | told as |
/// |---|---|---|
/// | [`drop_oldest`](Self::drop_oldest) | takes the place of the messages that have waited longest | a gap |
/// | [`drop_newest`](Self::drop_newest) | is dropped | a gap |
/// | [`coalesce`](Self::coalesce) | as `drop_oldest`; replaces a waiting one of its key at any time | a gap, if dropped |
/// | [`close`](Self::close) | ends the subscription, and drops what waits | the error of the stream |
///
/// All topics of a subscription share its queue. Dropped and replaced messages are
/// [counted](super::Subscription::dropped).
///
/// ```
/// use tower_transport::topic::Policy;
///
/// let policy = Policy::drop_oldest().max_messages(100.try_into()?).max_bytes((1 << 20).try_into()?);
/// # drop(policy);
/// # Ok::<(), std::num::TryFromIntError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    when_full: WhenFull,
    max_messages: usize,
    max_bytes: u64,
    pub(super) max_topics: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WhenFull {
    DropOldest,
    DropNewest,
    Coalesce,
    Close(CloseCode),
}

impl Policy {
    const fn new(when_full: WhenFull) -> Self {
        Self { when_full, max_messages: 256, max_bytes: 1 << 20, max_topics: 1024 }
    }

    /// Creates a policy that drops the messages that have waited longest.
    #[must_use]
    pub const fn drop_oldest() -> Self {
        Self::new(WhenFull::DropOldest)
    }

    /// Creates a policy that drops the message that finds no room.
    #[must_use]
    pub const fn drop_newest() -> Self {
        Self::new(WhenFull::DropNewest)
    }

    /// Creates a policy with which a message replaces the waiting message of the same topic and
    /// [key](super::TopicsConfig::key_by), whether or not the queue is full. Messages still arrive in the order of their
    /// positions: the new one waits behind all others, unless its key has waited for the length of the queue. Then the
    /// older one keeps its place as well, so a key that changes all the time is not held back forever.
    ///
    /// Messages without a key, and one key too many, take the place of those that have waited longest.
    #[must_use]
    pub const fn coalesce() -> Self {
        Self::new(WhenFull::Coalesce)
    }

    /// Creates a policy that ends the subscription with an error that has this
    /// [close code](Error::close_frame), usually [`CloseCode::TRY_AGAIN`].
    #[must_use]
    pub const fn close(code: CloseCode) -> Self {
        Self::new(WhenFull::Close(code))
    }

    /// Sets the maximum number of messages that wait. Defaults to 256.
    #[must_use]
    pub const fn max_messages(mut self, messages: NonZeroUsize) -> Self {
        self.max_messages = messages.get();
        self
    }

    /// Sets the maximum size of all messages that wait, in bytes. Defaults to 1 MiB. The last message may exceed it.
    #[must_use]
    pub const fn max_bytes(mut self, bytes: NonZeroUsize) -> Self {
        self.max_bytes = bytes.get() as u64;
        self
    }

    /// Sets the maximum number of topics of one subscription. Defaults to 1,024.
    #[must_use]
    pub const fn max_topics(mut self, topics: NonZeroUsize) -> Self {
        self.max_topics = topics.get();
        self
    }
}

/// Drops the messages that have waited longest.
impl Default for Policy {
    fn default() -> Self {
        Self::drop_oldest()
    }
}

/// The messages that wait for one subscriber, within the bounds of a [`Policy`]. No I/O, no clock, no waker.
///
/// It drops no message: those that the policy removes go to `gone`, so that a queue under a lock can drop them after
/// unlocking.
///
/// Losses are kept until they are told, at most one number per topic and one per waiting message: `Untold::before` is
/// told before the next message of the topic that waits, `Untold::behind` before the next one that will be accepted.
/// Without a waiting message, both are told at once.
pub(super) struct Queue<T> {
    policy: Policy,
    waiting: Sequence<Waiting<T>>,
    /// The newest waiting message of each key, with [`WhenFull::Coalesce`].
    places: HashMap<(u64, Fingerprint), Place>,
    untold: HashMap<u64, Untold>,
    bytes: u64,
    next: u64,
    delivered: u64,
    dropped: u64,
    replaced: u64,
    overflow: Option<CloseCode>,
}

struct Waiting<T> {
    item: T,
    feed: u64,
    size: u32,
    key: Option<Fingerprint>,
    /// The number of messages of the topic that were lost directly before this one.
    lost: u64,
}

#[derive(Clone, Copy)]
struct Place {
    number: u64,
    /// The number of deliveries after which it would be the turn of the key if none of its messages were replaced.
    turn: u64,
}

#[derive(Default)]
struct Untold {
    before: u64,
    behind: u64,
}

/// The next thing to tell a subscriber. `feed` is the number of one topic within the subscription.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<T> {
    Item(T),
    Lost { feed: u64, messages: u64 },
    Overflow(CloseCode),
}

impl<T> Queue<T> {
    pub(super) fn new(policy: Policy) -> Self {
        Self {
            policy,
            waiting: Sequence::new(),
            places: HashMap::new(),
            untold: HashMap::new(),
            bytes: 0,
            next: 0,
            delivered: 0,
            dropped: 0,
            replaced: 0,
            overflow: None,
        }
    }

    pub(super) const fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) const fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(super) const fn replaced(&self) -> u64 {
        self.replaced
    }

    pub(super) fn push(&mut self, feed: u64, item: T, size: u32, key: Option<Fingerprint>, gone: &mut Vec<T>) {
        if self.overflow.is_some() {
            gone.push(item);
            return;
        }
        let key = if self.policy.when_full == WhenFull::Coalesce { key } else { None };
        let number = self.next;
        self.next += 1;
        let mut turn = self.delivered + self.waiting.len() as u64;
        if let Some(key) = key
            && let Some(place) = self.places.get(&(feed, key)).copied()
            // Once its turn has come, the older message keeps its place: the key would wait forever otherwise.
            && self.delivered <= place.turn
            && let Some(old) = self.waiting.remove(place.number)
        {
            turn = place.turn;
            self.bytes -= u64::from(old.size);
            self.replaced += 1;
            gone.push(old.item);
        }
        while self.is_full() {
            match self.policy.when_full {
                WhenFull::DropNewest => {
                    self.dropped += 1;
                    self.untold.entry(feed).or_default().behind += 1;
                    gone.push(item);
                    return;
                }
                WhenFull::Close(code) => {
                    self.overflow = Some(code);
                    self.dropped += 1 + self.waiting.len() as u64;
                    self.bytes = 0;
                    gone.push(item);
                    gone.extend(std::iter::from_fn(|| self.waiting.pop()).map(|(_, waiting)| waiting.item));
                    return;
                }
                WhenFull::DropOldest | WhenFull::Coalesce => {
                    let Some(oldest) = self.pop() else { break };
                    self.dropped += 1;
                    self.untold.entry(oldest.feed).or_default().before += 1 + oldest.lost;
                    gone.push(oldest.item);
                }
            }
        }
        if let Some(key) = key {
            self.places.insert((feed, key), Place { number, turn });
        }
        // An earlier loss is told before a message that already waits, so only `behind` goes with this one.
        let lost = self.untold.get_mut(&feed).map_or(0, |untold| std::mem::take(&mut untold.behind));
        self.bytes += u64::from(size);
        self.waiting.push(number, Waiting { item, feed, size, key, lost });
    }

    /// Returns the next thing to tell the subscriber.
    pub(super) fn next(&mut self) -> Option<Next<T>> {
        if let Some(code) = self.overflow {
            return Some(Next::Overflow(code));
        }
        let Some((_, front)) = self.waiting.front() else {
            loop {
                let feed = *self.untold.keys().next()?;
                let Untold { before, behind } = self.untold.remove(&feed)?;
                if before + behind > 0 {
                    return Some(Next::Lost { feed, messages: before + behind });
                }
            }
        };
        let (feed, mut messages) = (front.feed, std::mem::take(&mut front.lost));
        if let Some(untold) = self.untold.get_mut(&feed) {
            messages += std::mem::take(&mut untold.before);
            if untold.behind == 0 {
                self.untold.remove(&feed);
            }
        }
        if messages > 0 {
            return Some(Next::Lost { feed, messages });
        }
        let waiting = self.pop()?;
        self.delivered += 1;
        Some(Next::Item(waiting.item))
    }

    /// Forgets a topic: its messages and losses.
    pub(super) fn forget(&mut self, feed: u64, gone: &mut Vec<T>) {
        self.untold.remove(&feed);
        self.places.retain(|(other, _), _| *other != feed);
        let bytes = &mut self.bytes;
        self.waiting.extract(
            |waiting| waiting.feed == feed,
            |waiting| {
                *bytes -= u64::from(waiting.size);
                gone.push(waiting.item);
            },
        );
    }

    fn is_full(&self) -> bool {
        self.waiting.len() >= self.policy.max_messages || self.bytes >= self.policy.max_bytes
    }

    fn pop(&mut self) -> Option<Waiting<T>> {
        let (number, waiting) = self.waiting.pop()?;
        self.bytes -= u64::from(waiting.size);
        if let Some(key) = waiting.key
            && let std::collections::hash_map::Entry::Occupied(place) = self.places.entry((waiting.feed, key))
            && place.get().number == number
        {
            place.remove();
        }
        Some(waiting)
    }
}

/// Creates the error of a subscription that was too slow.
pub(super) fn overflow(policy: &Policy, code: CloseCode) -> Error {
    Error::full(format!(
        "the queue of a subscription is full ({} messages, {} bytes at most): its policy ends it with {code}",
        policy.max_messages, policy.max_bytes
    ))
    .into_fatal()
    .with_close_frame(Some(CloseFrame::new(code, "too slow: the queue of the subscription was full")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fingerprint::Seeds;

    const SIZE: u32 = 10;

    #[derive(Clone, Debug)]
    enum Step {
        Push { feed: u64, key: Option<u8>, size: u32 },
        Take,
        Forget(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let push = (0u64..3, prop::option::of(0u8..4), 1..=SIZE);
        prop_oneof![
            6 => push.prop_map(|(feed, key, size)| Step::Push { feed, key, size }),
            4 => Just(Step::Take),
            1 => (0u64..3).prop_map(Step::Forget),
        ]
    }

    fn policy() -> impl Strategy<Value = Policy> {
        let policies =
            [Policy::drop_oldest(), Policy::drop_newest(), Policy::coalesce(), Policy::close(CloseCode::TRY_AGAIN)];
        (prop::sample::select(policies.to_vec()), 1usize..9, 1usize..80).prop_map(|(policy, messages, bytes)| {
            policy.max_messages(messages.try_into().unwrap()).max_bytes(bytes.try_into().unwrap())
        })
    }

    /// The messages of one topic, by their numbers from 1.
    #[derive(Default)]
    struct Model {
        pushed: u64,
        /// The number up to which every message was delivered, told as lost, or replaced.
        settled: u64,
        /// Lost messages told since the last delivery.
        told: u64,
        replaced: u64,
    }

    type Item = (u64, u64);

    fn settle(models: &mut [Model; 3], next: Option<Next<Item>>, coalesces: bool) -> Result<(), TestCaseError> {
        match next {
            Some(Next::Item((feed, number))) => {
                let model = &mut models[feed as usize];
                prop_assert!(number > model.settled, "{number} came twice or out of order");
                let missing = number - model.settled - 1;
                if coalesces {
                    prop_assert!(model.told <= missing);
                    model.replaced += missing - model.told;
                } else {
                    prop_assert_eq!(missing, model.told, "a gap before {} that is not told", number);
                }
                (model.settled, model.told) = (number, 0);
            }
            Some(Next::Lost { feed, messages }) => {
                prop_assert!(messages > 0);
                models[feed as usize].told += messages;
            }
            Some(Next::Overflow(code)) => prop_assert_eq!(code, CloseCode::TRY_AGAIN),
            None => {}
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn no_message_is_missing_untold_or_twice_or_out_of_order_and_the_bounds_hold(
            policy in policy(),
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let seeds = Seeds::default();
            let coalesces = policy.when_full == WhenFull::Coalesce;
            let mut queue = Queue::new(policy);
            let mut models = <[Model; 3]>::default();
            let (mut gone, mut given, mut pushed, mut is_over) = (Vec::new(), 0u64, 0u64, false);
            for step in steps {
                match step {
                    Step::Push { feed, key, size } => {
                        let model = &mut models[feed as usize];
                        model.pushed += 1;
                        pushed += 1;
                        queue.push(feed, (feed, model.pushed), size, key.map(|key| seeds.of(&key)), &mut gone);
                    }
                    Step::Take => {
                        let next = queue.next();
                        given += u64::from(matches!(next, Some(Next::Item(_))));
                        is_over |= matches!(next, Some(Next::Overflow(_)));
                        prop_assert!(!is_over || matches!(next, Some(Next::Overflow(_))));
                        settle(&mut models, next, coalesces)?;
                    }
                    Step::Forget(feed) => {
                        queue.forget(feed, &mut gone);
                        let model = &mut models[feed as usize];
                        *model = Model { pushed: model.pushed, settled: model.pushed, told: 0, replaced: 0 };
                    }
                }
                prop_assert!(queue.len() <= policy.max_messages);
                prop_assert!(queue.bytes() < policy.max_bytes + u64::from(SIZE));
                prop_assert_eq!(pushed, given + gone.len() as u64 + queue.len() as u64);
                prop_assert!(queue.places.len() <= queue.len());
            }
            while let Some(next) = queue.next() {
                if matches!(next, Next::Overflow(_)) {
                    prop_assert!(queue.dropped() > 0);
                    return Ok(());
                }
                settle(&mut models, Some(next), coalesces)?;
            }
            prop_assert_eq!(queue.bytes(), 0);
            for model in models {
                if coalesces {
                    prop_assert!(model.settled + model.told <= model.pushed);
                } else {
                    prop_assert_eq!(model.settled + model.told, model.pushed, "a gap at the end that is not told");
                }
            }
        }
    }

    fn queue(policy: Policy, max: usize) -> (Queue<u64>, Seeds) {
        (Queue::new(policy.max_messages(max.try_into().unwrap())), Seeds::default())
    }

    fn rest(queue: &mut Queue<u64>) -> Vec<Next<u64>> {
        std::iter::from_fn(|| queue.next()).collect()
    }

    #[test]
    fn a_newer_message_of_a_key_replaces_the_waiting_one_and_is_the_last_to_go() {
        let (mut queue, seeds) = queue(Policy::coalesce(), 8);
        for (number, key) in [(1, "a"), (2, "b"), (3, "a"), (4, "c"), (5, "b")] {
            queue.push(0, number, 1, Some(seeds.of(key)), &mut Vec::new());
        }
        assert_eq!(rest(&mut queue), [3, 4, 5].map(Next::Item));
        assert_eq!((queue.replaced(), queue.dropped()), (2, 0));
    }

    #[test]
    fn a_key_that_changes_all_the_time_is_not_held_back_by_the_others() {
        let (mut queue, seeds) = queue(Policy::coalesce(), 64);
        let (mut number, mut hot) = (0, Vec::new());
        // The reader takes one message for each ten of the hot key and two of the others.
        for turn in 0..1000u64 {
            for key in [0, 0, 0, 0, 0, 1 + turn % 20, 0, 0, 0, 0, 0, 1 + (turn + 10) % 20] {
                number += 1;
                queue.push(0, (number << 8) | key, 1, Some(seeds.of(&key)), &mut Vec::new());
            }
            if let Some(Next::Item(item)) = queue.next()
                && item & 0xff == 0
            {
                hot.push(turn);
            }
        }
        assert_eq!(queue.dropped(), 0);
        assert!(hot.windows(2).all(|turns| turns[1] - turns[0] <= 64), "{hot:?}");
        assert!(hot.len() > 20, "{hot:?}");
    }

    #[test]
    fn a_large_message_takes_the_place_of_as_many_as_the_bytes_demand() {
        let mut queue = Queue::new(Policy::drop_oldest().max_bytes(100.try_into().unwrap()));
        for number in 1..=9 {
            queue.push(0, number, 10, None, &mut Vec::new());
        }
        for number in 10..=13 {
            queue.push(0, number, 90, None, &mut Vec::new());
        }
        assert!(queue.bytes() < 190, "{} bytes wait", queue.bytes());
        // The last one may exceed the bound.
        assert_eq!(rest(&mut queue), [Next::Lost { feed: 0, messages: 11 }, Next::Item(12), Next::Item(13)]);
    }

    #[test]
    fn the_topics_of_a_subscription_share_its_queue_and_each_is_told_what_it_lost() {
        let (mut queue, _) = queue(Policy::drop_oldest(), 2);
        for (feed, number) in [(1, 11), (2, 21), (2, 22), (2, 23)] {
            queue.push(feed, number, 1, None, &mut Vec::new());
        }
        let told = [
            Next::Lost { feed: 2, messages: 1 },
            Next::Item(22),
            Next::Item(23),
            // Nothing of that topic waits, so it is told when nothing else is left.
            Next::Lost { feed: 1, messages: 1 },
        ];
        assert_eq!(rest(&mut queue), told);
    }

    #[test]
    fn an_overflow_drops_everything_and_stays() {
        let (mut queue, _) = queue(Policy::close(CloseCode::TRY_AGAIN), 2);
        let mut gone = Vec::new();
        for number in 1..=4 {
            queue.push(0, number, 1, None, &mut gone);
        }
        assert_eq!((gone, queue.len(), queue.dropped()), (vec![3, 1, 2, 4], 0, 3));
        assert_eq!(queue.next(), Some(Next::Overflow(CloseCode::TRY_AGAIN)));
        assert_eq!(queue.next(), Some(Next::Overflow(CloseCode::TRY_AGAIN)));
    }
}
