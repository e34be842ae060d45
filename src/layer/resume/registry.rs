//! The sessions of a store, found by name, by key and by the time at which they are over. The caller provides the time.

use std::{
    collections::{BTreeSet, HashMap},
    hint::black_box,
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use super::{SessionId, handoff::Handoff, wire::Bytes16};
use crate::{rt::Instant, sync::Mutex};

/// The client that a session is counted for.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key {
    /// An authenticated client. Only this owner finds the session again.
    Owner(Box<[u8]>),
    /// A key that the user chose. It does not say who may come back.
    Group(Box<[u8]>),
    /// The address of the client. A proxy or NAT has one address for many clients, so it has no bound of its own.
    Address(IpAddr),
    /// Nothing is known about the client.
    Anyone,
}

impl Key {
    /// Returns the key of a client's address. A subscriber usually has a whole /64 of IPv6.
    pub(super) fn of_address(address: IpAddr) -> Self {
        Self::Address(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6((u128::from(address) >> 64 << 64).into()),
            address => address,
        })
    }

    fn has_bound(&self) -> bool {
        matches!(self, Self::Owner(_) | Self::Group(_))
    }

    pub(super) fn owner(&self) -> Option<&[u8]> {
        match self {
            Self::Owner(owner) => Some(owner),
            Self::Group(_) | Self::Address(_) | Self::Anyone => None,
        }
    }
}

/// Sessions without a connection: when each is over, and its name.
type Lost = BTreeSet<(Instant, Bytes16)>;

/// All sessions. A removed one is returned to the caller, which drops it after unlocking.
pub(super) struct Registry<T> {
    records: HashMap<Bytes16, Record<T>>,
    /// All sessions without a connection. The first is the next to be over.
    lost: Lost,
    /// Those of them that never carried a message, so nothing is lost with them.
    unused: Lost,
    keys: HashMap<Arc<Key>, PerKey>,
    /// The keys with lost sessions, ordered by how many they have.
    crowds: BTreeSet<(usize, Arc<Key>)>,
    /// How many clients came back to a session that was over.
    pub(super) fresh: u64,
    /// How many clients came back to their session.
    pub(super) resumed: u64,
}

pub(super) struct Record<T> {
    pub(super) token: Bytes16,
    pub(super) ttl: Duration,
    pub(super) handoff: Arc<Handoff<T>>,
    pub(super) key: Arc<Key>,
    /// When the session is over, if it has no connection.
    expires: Option<Instant>,
}

impl<T> Record<T> {
    pub(super) const fn new(token: Bytes16, ttl: Duration, handoff: Arc<Handoff<T>>, key: Arc<Key>) -> Self {
        Self { token, ttl, handoff, key, expires: None }
    }
}

#[derive(Default)]
struct PerKey {
    sessions: usize,
    lost: Lost,
}

/// The result of [`Registry::add`].
#[allow(dead_code, reason = "the records are there to be dropped by the caller, without the lock")]
pub(super) enum Added<T> {
    /// The session was added. This lost one was ended for it, if there was no room.
    Yes(Option<Record<T>>),
    /// There are too many sessions, each with a connection.
    Full(Record<T>),
    /// There are too many with the same key, each with a connection.
    KeyIsFull(Record<T>),
}

impl<T> Registry<T> {
    pub(super) fn new() -> Self {
        Self {
            records: HashMap::new(),
            lost: Lost::new(),
            unused: Lost::new(),
            keys: HashMap::new(),
            crowds: BTreeSet::new(),
            fresh: 0,
            resumed: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    pub(super) fn lost(&self) -> usize {
        self.lost.len()
    }

    /// Removes one session that is over, the oldest first. Each session is looked at once, when it is over.
    pub(super) fn expire(&mut self, now: Instant) -> Option<Record<T>> {
        let (expires, id) = *self.lost.first()?;
        if expires <= now { self.remove(&id) } else { None }
    }

    /// Finds the session of this name, if the token is its secret and the owner is its owner. A session that is over is
    /// not found.
    pub(super) fn find(
        &self,
        id: &Bytes16,
        token: &Bytes16,
        owner: Option<&[u8]>,
        now: Instant,
    ) -> Option<Arc<Handoff<T>>> {
        let record = self.records.get(id)?;
        let is_owner = record.key.owner() == owner;
        let is_over = record.expires.is_some_and(|expires| expires <= now);
        // All conditions give the same answer, and the token is compared in constant time: a stranger learns neither
        // which sessions exist nor how much of a guess was right.
        (is_equal(&record.token, token) && is_owner && !is_over).then(|| record.handoff.clone())
    }

    pub(super) fn add(&mut self, id: Bytes16, record: Record<T>, most: usize, most_per_key: usize) -> Added<T> {
        let mut ended = None;
        if record.key.has_bound()
            && let Some(of_key) = self.keys.get(&record.key)
            && of_key.sessions >= most_per_key
        {
            // A session with a connection is never ended for a new one: its client is there.
            let Some(&(_, oldest)) = of_key.lost.first() else { return Added::KeyIsFull(record) };
            ended = self.remove(&oldest);
        }
        // A session that was ended for its key has made room in the store as well.
        if ended.is_none() && self.records.len() >= most {
            let Some(least) = self.least() else { return Added::Full(record) };
            ended = self.remove(&least);
        }
        self.keys.entry(record.key.clone()).or_default().sessions += 1;
        self.records.insert(id, record);
        Added::Yes(ended)
    }

    /// Returns the session to end in favor of a new client. A session that carried nothing loses nothing. Otherwise it
    /// is the oldest of the client with the most lost sessions, so a client that opens many ends its own.
    fn least(&self) -> Option<Bytes16> {
        let crowd = match self.crowds.last() {
            // From two on: with one lost session each, no client has more than its share, and the oldest goes.
            Some((2.., key)) => self.keys.get(key).map(|of_key| &of_key.lost),
            _ => Some(&self.lost),
        };
        let (_, id) = self.unused.first().or_else(|| crowd?.first())?;
        Some(*id)
    }

    /// Notes that the session has lost its connection. `is_used` says whether it ever carried a message of a user.
    pub(super) fn set_lost(&mut self, id: &Bytes16, is_used: bool, now: Instant) {
        // A session that is lost already may be lost again, with a later end: its old entries must not stay.
        self.set_found(id);
        let Some(record) = self.records.get_mut(id) else { return };
        // A time beyond the clock's range is never over.
        let Some(expires) = now.checked_add(record.ttl) else { return };
        record.expires = Some(expires);
        self.lost.insert((expires, *id));
        if !is_used {
            self.unused.insert((expires, *id));
        }
        let key = record.key.clone();
        self.change_lost(&key, |lost| lost.insert((expires, *id)));
    }

    /// Notes that the session has a connection.
    pub(super) fn set_found(&mut self, id: &Bytes16) {
        let Some(record) = self.records.get_mut(id) else { return };
        let Some(expires) = record.expires.take() else { return };
        self.lost.remove(&(expires, *id));
        self.unused.remove(&(expires, *id));
        let key = record.key.clone();
        self.change_lost(&key, |lost| lost.remove(&(expires, *id)));
    }

    fn change_lost(&mut self, key: &Arc<Key>, change: impl FnOnce(&mut Lost) -> bool) {
        let Some(of_key) = self.keys.get_mut(key) else { return };
        // The set is ordered by this number, so the key is taken out under the old one and put in under the new.
        let before = of_key.lost.len();
        change(&mut of_key.lost);
        let after = of_key.lost.len();
        self.crowds.remove(&(before, key.clone()));
        if after > 0 {
            self.crowds.insert((after, key.clone()));
        }
    }

    pub(super) fn remove(&mut self, id: &Bytes16) -> Option<Record<T>> {
        // It must leave the sets that are ordered by its time, which only its record knows.
        self.set_found(id);
        let record = self.records.remove(id)?;
        if let Some(of_key) = self.keys.get_mut(&record.key) {
            of_key.sessions -= 1;
            if of_key.sessions == 0 {
                self.keys.remove(&record.key);
            }
        }
        Some(record)
    }
}

/// The sessions of a store.
pub(super) type Sessions<T> = Arc<Mutex<Registry<T>>>;

/// A session's entry in the store. Dropping it removes the session.
pub(super) struct Entry<T> {
    pub(super) id: Bytes16,
    pub(super) handoff: Arc<Handoff<T>>,
    pub(super) sessions: Sessions<T>,
}

impl<T> Entry<T> {
    /// Notes that the session has a connection again.
    pub(super) fn set_found(&self) {
        self.sessions.lock().set_found(&self.id);
    }

    /// Notes that the session has lost its connection. `is_used` says whether it ever carried a message of a user.
    pub(super) fn set_lost(&self, is_used: bool) {
        self.sessions.lock().set_lost(&self.id, is_used, Instant::now());
    }

    /// Removes the session from the store.
    pub(super) fn leave(&self) {
        // Removed first, so that no acceptor finds a session that takes no more offers. The record is dropped without
        // the lock.
        let record = self.sessions.lock().remove(&self.id);
        self.handoff.leave();
        drop(record);
    }
}

impl<T> Drop for Entry<T> {
    fn drop(&mut self) {
        self.leave();
    }
}

debug_fields!([T] Entry<T>, |this| { id: SessionId(this.id), handoff });

/// Compares in a time that does not depend on where they differ.
fn is_equal(one: &Bytes16, other: &Bytes16) -> bool {
    let difference = one.iter().zip(other).fold(0, |all, (one, other)| black_box(all | (one ^ other)));
    black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn id(number: u8) -> Bytes16 {
        [number; 16]
    }

    fn record(key: Option<&[u8]>) -> Record<()> {
        let key = key.map_or(Key::Anyone, |key| Key::Group(key.into()));
        with_key(key)
    }

    fn with_key(key: Key) -> Record<()> {
        Record::new([0; 16], TTL, Arc::new(Handoff::new(Waker::noop().clone())), Arc::new(key))
    }

    fn is_added(registry: &mut Registry<()>, number: u8, key: Option<&[u8]>) -> bool {
        matches!(registry.add(id(number), record(key), 4, 2), Added::Yes(None))
    }

    #[test]
    fn one_key_makes_room_with_its_own_lost_sessions_and_is_refused_when_it_has_none() {
        let (mut registry, now) = (Registry::new(), Instant::now());
        assert!(is_added(&mut registry, 1, Some(b"a")) && is_added(&mut registry, 2, Some(b"a")));
        assert!(matches!(registry.add(id(3), record(Some(b"a")), 4, 2), Added::KeyIsFull(_)));
        assert!(is_added(&mut registry, 3, Some(b"b")), "another key has its own bound");
        registry.set_lost(&id(2), true, now);
        registry.set_lost(&id(1), true, now + TTL / 2);
        let Added::Yes(Some(ended)) = registry.add(id(4), record(Some(b"a")), 4, 2) else { panic!("no room") };
        assert!(
            !registry.records.contains_key(&id(2)) && ended.expires.is_none() && registry.records.contains_key(&id(1)),
            "the oldest is ended"
        );
    }

    #[test]
    fn a_full_store_makes_room_with_what_carried_nothing_then_with_the_oldest_lost_session() {
        let (mut registry, now) = (Registry::new(), Instant::now());
        for number in 1..=4 {
            assert!(is_added(&mut registry, number, None));
        }
        assert!(matches!(registry.add(id(5), record(None), 4, 2), Added::Full(_)), "each has a connection");
        registry.set_lost(&id(1), true, now);
        registry.set_lost(&id(2), true, now + TTL / 4);
        registry.set_lost(&id(3), false, now + TTL / 2);
        for (newer, ended) in [(5, 3), (6, 1), (7, 2)] {
            assert!(matches!(registry.add(id(newer), record(None), 4, 2), Added::Yes(Some(_))));
            assert!(!registry.records.contains_key(&id(ended)), "{ended} makes room for {newer}");
        }
        assert!(matches!(registry.add(id(8), record(None), 4, 2), Added::Full(_)), "each has a connection");
        assert!(registry.lost.is_empty() && registry.unused.is_empty() && registry.len() == 4);
    }

    #[test]
    fn a_full_store_makes_room_with_the_oldest_session_of_the_address_with_the_most_lost_ones() {
        let (mut registry, now) = (Registry::new(), Instant::now());
        let at = |last| Key::of_address([192, 0, 2, last].into());
        for (number, address) in [(1, 1), (2, 2), (3, 2), (4, 3)] {
            assert!(matches!(registry.add(id(number), with_key(at(address)), 4, 1), Added::Yes(None)), "no bound");
            registry.set_lost(&id(number), true, now + TTL * u32::from(number));
        }
        assert!(matches!(registry.add(id(5), with_key(at(2)), 4, 1), Added::Yes(Some(_))));
        assert!(!registry.records.contains_key(&id(2)), "the oldest of the address that has two");
        registry.set_lost(&id(5), true, now + TTL * 5);
        assert!(matches!(registry.add(id(6), with_key(at(4)), 4, 1), Added::Yes(Some(_))));
        assert!(!registry.records.contains_key(&id(3)) && registry.records.contains_key(&id(1)));
        assert!(matches!(registry.add(id(7), with_key(at(4)), 4, 1), Added::Yes(Some(_))));
        assert!(!registry.records.contains_key(&id(1)), "each has one: the oldest of all");
        for number in 4..=7 {
            drop(registry.remove(&id(number)));
        }
        assert!(registry.keys.is_empty() && registry.crowds.is_empty() && registry.lost.is_empty());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_client() {
        let key = |address: &str| Key::of_address(address.parse().unwrap());
        assert_eq!(key("2001:db8:1:2::3"), key("2001:db8:1:2:ffff::"));
        assert_ne!(key("2001:db8:1:2::3"), key("2001:db8:1:3::3"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }

    #[test]
    fn what_is_over_is_found_at_once_and_leaves_nothing() {
        let (mut registry, now) = (Registry::new(), Instant::now());
        for number in 1..=3 {
            assert!(is_added(&mut registry, number, Some(&[number])));
        }
        registry.set_lost(&id(2), false, now);
        registry.set_lost(&id(3), true, now);
        registry.set_found(&id(3));
        assert!(registry.expire(now + TTL / 2).is_none());
        assert!(registry.find(&id(2), &[0; 16], None, now + TTL / 2).is_some());
        assert!(registry.find(&id(2), &[0; 16], None, now + TTL).is_none());
        assert!(registry.expire(now + TTL).is_some() && registry.expire(now + TTL).is_none());
        assert_eq!((registry.len(), registry.lost()), (2, 0));
        for number in 1..=3 {
            drop(registry.remove(&id(number)));
        }
        assert!(registry.records.is_empty() && registry.keys.is_empty());
        assert!(registry.lost.is_empty() && registry.unused.is_empty());
    }
}
