use std::{
    collections::VecDeque,
    mem,
    sync::{Arc, Weak},
    task::{Context, Poll, Waker},
    time::Duration,
};

use super::{
    Event, Position, Publication, Start,
    history::{Log, Since, Step},
    hub::{Hub, Published},
    policy::{Next, Policy, Queue},
};
use crate::{
    fingerprint::{Fingerprint, Seeds},
    sync::Mutex,
    transport::wakers::poll_prepared,
};

/// The number of groups of a topic's members, each under a lock of its own: while a publisher is in one of them,
/// members of the others come and go.
const GROUPS: usize = 8;

/// The number of messages that a subscriber takes from a history at a time.
const BATCH: usize = 32;

/// One topic: the numbers and history of its messages, and its members.
///
/// ```text
///   publish:    log -> group 0 -> group 1 -> ... -> group 7 -> wake        subscribe:  log -> one group
///                                                                          unsubscribe:       one group
/// ```
///
/// A publisher takes each lock before it releases the one before. Publishers therefore cannot overtake each other, each
/// member gets the messages in the order of their offsets, and several publishers work on different groups at once. A
/// subscriber takes its place in a group while it holds the log: it has everything up to the head that it sees there,
/// and every later publisher has yet to come by. Earlier ones may come by as well; `Seat::after` skips their messages.
///
/// Under the locks nothing of the user's is cloned, dropped or called. Messages that leave and wakers to wake are moved
/// out, and dropped or woken after the last lock is released.
pub(super) struct Core<K, M> {
    name: Arc<K>,
    pub(super) fingerprint: Fingerprint,
    hub: Weak<Hub<K, M>>,
    /// Whether a subscriber takes the history at once.
    takes_all: bool,
    log: Mutex<Recorded<K, M>>,
    groups: [Mutex<Group<K, M>>; GROUPS],
}

struct Recorded<K, M> {
    log: Log<Publication<K, M>>,
    /// Whether the hub keeps the topic alive for the history.
    is_kept: bool,
    /// The number of members so far, which distributes them among the groups.
    joined: usize,
    /// Empty vectors, to reuse their memory: a publication to ten thousand members allocates for none of them.
    spare: Option<Spare<K, M>>,
}

/// The wakers to wake, and messages to drop, once a publisher holds no lock.
struct Spare<K, M> {
    due: Vec<Waker>,
    gone: Vec<Publication<K, M>>,
}

/// The members of a topic that share a lock. A member has an index that stays the same while it is there.
struct Group<K, M> {
    seats: Vec<Option<Seat<K, M>>>,
    free: Vec<usize>,
}

struct Seat<K, M> {
    member: Arc<Member<K, M>>,
    /// The number of this topic among those of the member.
    feed: u64,
    /// The offset up to which the member has everything.
    after: u64,
}

/// The place of a member in a topic: its group, and its index there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    group: usize,
    index: usize,
}

/// The progress of a subscriber through a history.
pub(super) enum Progress {
    /// More of the history is left, after this offset.
    Behind(u64),
    /// The subscriber is a member now.
    Joined(Place),
}

impl<K, M> Core<K, M> {
    pub(super) fn new(name: K, fingerprint: Fingerprint, hub: &Arc<Hub<K, M>>) -> Self {
        // 53 bits, which a number of JavaScript holds.
        let epoch = Seeds::default().of(&()).0 >> 11;
        Self {
            name: Arc::new(name),
            fingerprint,
            hub: Arc::downgrade(hub),
            takes_all: hub.config.history.is_whole,
            log: Mutex::new(Recorded {
                log: Log::new(hub.config.history, epoch),
                is_kept: false,
                joined: 0,
                spare: None,
            }),
            groups: std::array::from_fn(|_| Mutex::new(Group { seats: Vec::new(), free: Vec::new() })),
        }
    }

    pub(super) const fn name(&self) -> &Arc<K> {
        &self.name
    }

    pub(super) fn position(&self) -> Position {
        let recorded = self.log.lock();
        Position::new(recorded.log.epoch(), recorded.log.head())
    }

    pub(super) fn subscribers(&self) -> usize {
        self.groups.iter().map(|group| group.lock().len()).sum()
    }

    /// Publishes a message. Returns whether the hub has to keep the topic from now on, or `None` if the step is refused.
    pub(super) fn publish(
        &self,
        message: M,
        step: Step,
        size: u32,
        key: Option<Fingerprint>,
        now: Duration,
    ) -> Option<(Published, bool)> {
        let mut recorded = self.log.lock();
        if !recorded.log.count(step, key) {
            drop(recorded);
            return None;
        }
        let Spare { mut due, mut gone } =
            recorded.spare.take().unwrap_or_else(|| Spare { due: Vec::new(), gone: Vec::new() });
        let epoch = recorded.log.epoch();
        let mut position = Position::new(epoch, 0);
        let publication = recorded.log.append(
            |offset| {
                position = Position::new(epoch, offset);
                Publication::new(self.name.clone(), position, message)
            },
            step,
            size,
            key,
            now,
            &mut gone,
        );
        let must_be_kept = recorded.log.len() > 0 && !mem::replace(&mut recorded.is_kept, true);
        let mut subscribers = 0;
        let mut groups = self.groups.iter();
        let mut group = groups.next().map(Mutex::lock);
        drop(recorded);
        while let Some(members) = &mut group {
            subscribers += members.deliver(&publication, size, key, &mut due, &mut gone);
            // The next one is locked before this one is released.
            group = groups.next().map(Mutex::lock);
        }
        due.drain(..).for_each(Waker::wake);
        gone.clear();
        // Of two publications at once, the last one keeps its vectors.
        let before = self.log.lock().spare.replace(Spare { due, gone });
        drop(before);
        Some((Published { position: Some(position), subscribers }, must_be_kept))
    }

    /// Drops messages that are too old. Returns the number of those that remain.
    pub(super) fn expire(&self, now: Duration) -> usize {
        let mut gone = Vec::new();
        let mut recorded = self.log.lock();
        recorded.log.expire(now, &mut gone);
        recorded.log.len()
    }

    /// Drops messages that are too old. Returns whether the history is empty, so that the hub need not keep the topic.
    pub(super) fn release(&self, now: Duration) -> bool {
        let mut gone = Vec::new();
        let mut recorded = self.log.lock();
        recorded.log.expire(now, &mut gone);
        recorded.is_kept = recorded.log.len() > 0;
        !recorded.is_kept
    }

    pub(super) fn is_kept(&self) -> bool {
        self.log.lock().is_kept
    }

    pub(super) fn get(&self, key: &Fingerprint) -> Option<Publication<K, M>> {
        self.log.lock().log.get(key).cloned()
    }

    /// Returns the messages of the history.
    pub(super) fn snapshot(&self) -> Vec<Publication<K, M>> {
        self.log.lock().log.after(0).map(|(_, publication)| publication.clone()).collect()
    }

    pub(super) fn remove(&self, key: &Fingerprint) -> bool {
        let mut gone = Vec::new();
        let mut recorded = self.log.lock();
        recorded.log.remove(key, &mut gone)
    }

    /// Returns the offset after which a subscription begins, and the gap with which it does.
    pub(super) fn begin(&self, start: Start, now: Duration) -> (Position, Option<Option<u64>>) {
        let mut gone = Vec::new();
        let mut recorded = self.log.lock();
        let log = &mut recorded.log;
        log.expire(now, &mut gone);
        let (offset, gap) = match start {
            Start::Live => (log.head(), None),
            Start::History => (log.floor(), None),
            Start::After(position) if position.epoch() == log.epoch() && position.offset() <= log.head() => {
                match log.since(position.offset()) {
                    Since::Whole => (position.offset(), None),
                    Since::Missing(messages) => (log.floor(), Some(messages)),
                }
            }
            Start::After(_) => (log.floor(), Some(None)),
        };
        (Position::new(log.epoch(), offset), gap)
    }

    /// Takes messages after `offset` from the history, and makes the subscriber a member once it has them all.
    pub(super) fn advance(
        &self,
        member: &Arc<Member<K, M>>,
        feed: u64,
        offset: u64,
        now: Duration,
        events: &mut VecDeque<(u64, Event<K, M>)>,
    ) -> Progress {
        let mut gone = Vec::new();
        let mut recorded = self.log.lock();
        let log = &mut recorded.log;
        log.expire(now, &mut gone);
        let mut offset = offset;
        if let Since::Missing(missed) = log.since(offset) {
            offset = log.floor();
            events.push_back((feed, Event::Gap { topic: self.name.clone(), missed }));
        }
        let mut left = if self.takes_all { usize::MAX } else { BATCH };
        for (next, publication) in log.after(offset) {
            if left == 0 {
                return Progress::Behind(offset);
            }
            events.push_back((feed, Event::Message(publication.clone())));
            offset = next;
            left -= 1;
        }
        Progress::Joined(self.join(&mut recorded, member, feed))
    }

    /// Makes the subscriber a member from the next message on. Returns the position after which it gets everything.
    pub(super) fn join_live(&self, member: &Arc<Member<K, M>>, feed: u64) -> (Place, Position) {
        let mut recorded = self.log.lock();
        let place = self.join(&mut recorded, member, feed);
        (place, Position::new(recorded.log.epoch(), recorded.log.head()))
    }

    fn join(&self, recorded: &mut Recorded<K, M>, member: &Arc<Member<K, M>>, feed: u64) -> Place {
        let group = recorded.joined % GROUPS;
        recorded.joined += 1;
        let seat = Seat { member: member.clone(), feed, after: recorded.log.head() };
        let index = self.groups[group].lock().insert(seat);
        Place { group, index }
    }

    /// Removes a member.
    pub(super) fn leave(&self, place: Place) {
        let seat = self.groups[place.group].lock().remove(place.index);
        drop(seat);
    }
}

impl<K, M> Drop for Core<K, M> {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            hub.forget(self.fingerprint, self);
        }
    }
}

impl<K, M> Group<K, M> {
    fn len(&self) -> usize {
        self.seats.len() - self.free.len()
    }

    fn insert(&mut self, seat: Seat<K, M>) -> usize {
        if let Some(index) = self.free.pop()
            && let Some(slot) = self.seats.get_mut(index)
        {
            *slot = Some(seat);
            return index;
        }
        self.seats.push(Some(seat));
        self.seats.len() - 1
    }

    fn remove(&mut self, index: usize) -> Option<Seat<K, M>> {
        let seat = self.seats.get_mut(index)?.take()?;
        self.free.push(index);
        if self.len() == 0 {
            (self.seats, self.free) = (Vec::new(), Vec::new());
        }
        Some(seat)
    }

    /// Puts a message into the queue of each member. Returns the number of members.
    fn deliver(
        &self,
        publication: &Publication<K, M>,
        size: u32,
        key: Option<Fingerprint>,
        due: &mut Vec<Waker>,
        gone: &mut Vec<Publication<K, M>>,
    ) -> usize {
        let offset = publication.position().offset();
        let mut members = 0;
        for seat in self.seats.iter().flatten().filter(|seat| seat.after < offset) {
            members += 1;
            let mut waiting = seat.member.waiting.lock();
            waiting.queue.push(seat.feed, publication.clone(), size, key, gone);
            due.extend(waiting.waker.take());
        }
        members
    }
}

/// The end of a subscription that publishers see.
pub(super) struct Member<K, M> {
    waiting: Mutex<Waiting<K, M>>,
}

struct Waiting<K, M> {
    queue: Queue<Publication<K, M>>,
    /// The task that found nothing.
    waker: Option<Waker>,
}

impl<K, M> Member<K, M> {
    pub(super) fn new(policy: Policy) -> Arc<Self> {
        Arc::new(Self { waiting: Mutex::new(Waiting { queue: Queue::new(policy), waker: None }) })
    }

    /// Returns the next thing to tell the subscriber, or registers its task for when there is one.
    pub(super) fn poll_next(&self, cx: &Context<'_>) -> Poll<Next<Publication<K, M>>> {
        poll_prepared(cx, |prepared| {
            let mut waiting = self.waiting.lock();
            let next = waiting.queue.next();
            if next.is_none() {
                prepared.keep_in(&mut waiting.waker);
            }
            next
        })
    }

    /// Returns the next thing to tell the subscriber.
    pub(super) fn next(&self) -> Option<Next<Publication<K, M>>> {
        self.waiting.lock().queue.next()
    }

    /// Forgets what waits of a topic.
    pub(super) fn forget(&self, feed: u64) {
        let mut gone = Vec::new();
        self.waiting.lock().queue.forget(feed, &mut gone);
    }

    /// Returns the numbers of messages and bytes that wait, and of messages that were dropped and replaced.
    pub(super) fn counts(&self) -> (usize, u64, u64, u64) {
        let waiting = self.waiting.lock();
        let queue = &waiting.queue;
        (queue.len(), queue.bytes(), queue.dropped(), queue.replaced())
    }
}
