use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Duration,
};

use super::{
    SessionId,
    budget::Pool,
    layer::{MAX_STALLED, at_most},
    registry::{Added, Key, Record, Registry},
    slot::Slot,
    state::Window,
    wire::Bytes16,
};
use crate::{Error, rt::Instant};

/// How many sessions that are over are removed with each new one: more than come, so that none of them stays for long, and never so many that
/// others wait for it.
const EXPIRED: usize = 2;

/// The sessions of a server, in memory. A clone is the same store. See the [module](super) for the whole story.
///
/// | setting | default | over it |
/// |---|---|---|
/// | [`ttl`](Self::ttl) | 2 min | a session without a connection ends |
/// | [`sessions`](Self::sessions) | 1024 | a session without a connection ends; with none, the new client is refused, [`is_full`](Error::is_full), close code 1013 |
/// | [`sessions_per_key`](Self::sessions_per_key) | a quarter of them | the oldest of the same owner or key without a connection ends; with none, the new client is refused |
/// | [`replay_messages`](Self::replay_messages) | 1024 | `poll_ready` of that session is `Pending` |
/// | [`replay_bytes`](Self::replay_bytes) | 1 MiB | the same |
/// | [`total_replay_bytes`](Self::total_replay_bytes) | 256 MiB | the same, until one message alone is left to acknowledge |
/// | [`max_stalled_connections`](Self::max_stalled_connections) | 1000 | the session ends, [`is_too_large`](Error::is_too_large) or as the last connection |
/// | [`ack_delay`](Self::ack_delay) | 100 ms | |
/// | [`deadline`](Self::deadline) | 10 s | a connection that does not open a session is closed |
///
/// Settings are for the time before the store is cloned: a clone keeps those that it was made with.
pub struct SessionStore<T> {
    pub(super) config: Config,
    pub(super) pool: Arc<Pool>,
    pub(super) shared: Arc<Shared<T>>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Config {
    pub(super) ttl: Duration,
    sessions: usize,
    sessions_per_key: Option<usize>,
    pub(super) window: Window,
    pub(super) max_stalled: u32,
    pub(super) ack_delay: Duration,
    pub(super) deadline: Duration,
}

/// All sessions.
pub(super) struct Shared<T>(Mutex<Registry<T>>);

impl<T> SessionStore<T> {
    /// An empty store with the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            config: Config {
                ttl: Duration::from_secs(120),
                sessions: 1024,
                sessions_per_key: None,
                window: Window::default(),
                max_stalled: MAX_STALLED,
                ack_delay: Duration::from_millis(100),
                deadline: Duration::from_secs(10),
            },
            pool: Arc::new(Pool::new(256 << 20)),
            shared: Arc::new(Shared(Mutex::new(Registry::new()))),
        }
    }

    /// How long a session waits for its client to come back.
    #[must_use]
    pub fn ttl(mut self, time: Duration) -> Self {
        self.config.ttl = time;
        self
    }

    /// Sets how many sessions there may be, with a connection or without. Defaults to 1024.
    ///
    /// One more takes the place of a session without a connection: of one that never carried a message of yours, else of
    /// the oldest one of the client that has the most of them. A client is an owner, a key, or an address if the session
    /// was accepted by an [`OptimizedAcceptor`](crate::stack::OptimizedAcceptor) or a
    /// [`SessionServer`](crate::stack::adaptive::SessionServer) that sees it. Sessions of [`accept`](Self::accept) count as
    /// those of one client. A new client is refused only if every session has a connection.
    #[must_use]
    pub fn sessions(mut self, sessions: usize) -> Self {
        self.config.sessions = sessions;
        self
    }

    /// Sets how many of the sessions one owner ([`accept_as`](Self::accept_as)) or one key ([`accept_from`](Self::accept_from)) may have, at
    /// least 1. Defaults to a quarter of [`sessions`](Self::sessions), so that nobody fills the store alone.
    ///
    /// One more takes the place of the owner's or key's session that has been without a connection for the longest time,
    /// which ends. A client is refused if each of them has a connection.
    ///
    /// Sessions without an owner and a key have no such bound. The store could only count them by address, and the clients
    /// behind one proxy or NAT share an address: a bound that fits one client would refuse them.
    #[must_use]
    pub fn sessions_per_key(mut self, sessions: usize) -> Self {
        self.config.sessions_per_key = Some(sessions.max(1));
        self
    }

    /// How many messages a session may have accepted without their acknowledgement, at least 1.
    #[must_use]
    pub fn replay_messages(mut self, messages: usize) -> Self {
        self.config.window.messages = at_most(messages);
        self
    }

    /// How many bytes of payload a session may have accepted without their acknowledgement, at least 1; the last message may
    /// go over it.
    #[must_use]
    pub fn replay_bytes(mut self, bytes: usize) -> Self {
        self.config.window.bytes = at_most(bytes);
        self
    }

    /// Sets how many bytes all sessions together may hold: what they have accepted and their clients have not acknowledged, and what was read
    /// ahead. Defaults to 256 MiB.
    ///
    /// A session takes of it what it holds, up to twice as much while its buffer grows, and nothing while its buffer is empty. When it is used
    /// up, a session still sends one message at a time, and a connection that would have to be read ahead is closed with 1013; its session
    /// goes on with the client's next one.
    #[must_use]
    pub fn total_replay_bytes(mut self, bytes: usize) -> Self {
        self.pool = Arc::new(Pool::new(bytes));
        self
    }

    /// Sets how many connections in a row may end without progress before the session is given up, at least 1. Defaults to
    /// 1000.
    ///
    /// A connection makes progress if any message was acknowledged or received, or if no message waits for its
    /// acknowledgement. Three connections are enough if they ended because of a message: with close code 1003, 1007 or
    /// 1009, or with an error that [`is_too_large`](Error::is_too_large). Only an acknowledgement resets that count;
    /// incoming messages and other lost connections do not.
    ///
    /// The session's stream then returns an error that names the last cause, and that is `is_too_large` if that was a
    /// message's size.
    #[must_use]
    pub fn max_stalled_connections(mut self, connections: u32) -> Self {
        self.config.max_stalled = connections.max(1);
        self
    }

    /// Sets how long a received message may stay without an acknowledgement. Defaults to 100 ms. Once a quarter of the client's bounds
    /// is used, the acknowledgement goes with the next message that is sent; once half is used, it goes at once.
    #[must_use]
    pub fn ack_delay(mut self, time: Duration) -> Self {
        self.config.ack_delay = time;
        self
    }

    /// How long [`accept`](Self::accept) may take.
    #[must_use]
    pub fn deadline(mut self, time: Duration) -> Self {
        self.config.deadline = time;
        self
    }

    /// How many sessions there are, with a connection or without.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.lock().len()
    }

    /// Whether there is no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many sessions wait for their client to come back.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.lock().lost()
    }

    /// The session of this name, for whoever holds its secret and is its owner. All others learn the same: there is none.
    pub(super) fn find(&self, id: &Bytes16, token: &Bytes16, owner: Option<&[u8]>) -> Option<Arc<Slot<T>>> {
        self.expire();
        self.shared.lock().find(id, token, owner, Instant::now())
    }

    /// Removes sessions that are over.
    fn expire(&self) {
        for _ in 0..EXPIRED {
            let Some(late) = self.shared.lock().expire(Instant::now()) else { return };
            late.slot.leave();
        }
    }

    /// A place for a new session: its name, its secret, and where its later connections are laid down.
    pub(super) fn add(&self, key: Key, session: Waker) -> Result<(Seat<T>, Bytes16), Error> {
        self.expire();
        let (id, token): (Bytes16, Bytes16) = (rand::random(), rand::random());
        let slot = Arc::new(Slot::new(session));
        let record = Record::new(token, self.config.ttl, slot.clone(), Arc::new(key));
        let most = self.config.sessions;
        let most_per_key = self.config.sessions_per_key.unwrap_or(most / 4).max(1);
        let added = self.shared.lock().add(id, record, most, most_per_key);
        match added {
            Added::Yes(ended) => {
                if let Some(ended) = ended {
                    ended.slot.evict();
                }
                Ok((Seat { id, slot, shared: self.shared.clone() }, token))
            }
            Added::Full(_) => Err(Error::full(format!(
                "resume: there are {most} sessions already, each with a connection (SessionStore::sessions)"
            ))),
            Added::KeyIsFull(_) => Err(Error::full(format!(
                "resume: this owner or key has {most_per_key} sessions already, each with a connection \
                 (SessionStore::sessions_per_key)"
            ))),
        }
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, Registry<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session's place in the store, free when it is dropped.
pub(super) struct Seat<T> {
    pub(super) id: Bytes16,
    pub(super) slot: Arc<Slot<T>>,
    shared: Arc<Shared<T>>,
}

impl<T> Seat<T> {
    /// The session has a connection again.
    pub(super) fn set_found(&self) {
        self.shared.lock().set_found(&self.id);
    }

    /// The session has lost its connection now. `is_used` says whether it ever carried a message of a user.
    pub(super) fn set_lost(&self, is_used: bool) {
        self.shared.lock().set_lost(&self.id, is_used, Instant::now());
    }

    /// The session can be found no more.
    pub(super) fn leave(&self) {
        let record = self.shared.lock().remove(&self.id);
        self.slot.leave();
        drop(record);
    }
}

impl<T> Drop for Seat<T> {
    fn drop(&mut self) {
        self.leave();
    }
}

impl<T> fmt::Debug for Seat<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat").field("id", &SessionId(self.id)).field("slot", &self.slot).finish_non_exhaustive()
    }
}

impl<T> Clone for SessionStore<T> {
    fn clone(&self) -> Self {
        Self { config: self.config, pool: self.pool.clone(), shared: self.shared.clone() }
    }
}

impl<T> Default for SessionStore<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for SessionStore<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionStore")
            .field("config", &self.config)
            .field("sessions", &self.len())
            .finish_non_exhaustive()
    }
}
