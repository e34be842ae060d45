use std::{
    collections::HashMap,
    fmt,
    hint::black_box,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
    time::Duration,
};

use super::{SessionId, budget::Pool, layer::at_most, slot::Slot, state::Window, wire::Bytes16};
use crate::Error;

/// The sessions of a server, in memory. A clone is the same store. See the [module](super) for the whole story.
///
/// | setting | default | over it |
/// |---|---|---|
/// | [`ttl`](Self::ttl) | 2 min | a session without a connection ends |
/// | [`sessions`](Self::sessions) | 1024 | a new client is refused, [`is_full`](Error::is_full), close code 1013 |
/// | [`replay_messages`](Self::replay_messages) | 1024 | `poll_ready` of that session is `Pending` |
/// | [`replay_bytes`](Self::replay_bytes) | 1 MiB | the same |
/// | [`total_replay_bytes`](Self::total_replay_bytes) | 256 MiB | the same, until one message alone is left to acknowledge |
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
    pub(super) window: Window,
    pub(super) ack_delay: Duration,
    pub(super) deadline: Duration,
}

/// All sessions by their public name.
pub(super) struct Shared<T>(Mutex<HashMap<Bytes16, Record<T>>>);

struct Record<T> {
    token: Bytes16,
    owner: Option<Box<[u8]>>,
    ttl: Duration,
    slot: Arc<Slot<T>>,
}

impl<T> SessionStore<T> {
    /// An empty store with the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            config: Config {
                ttl: Duration::from_secs(120),
                sessions: 1024,
                window: Window::default(),
                ack_delay: Duration::from_millis(100),
                deadline: Duration::from_secs(10),
            },
            pool: Arc::new(Pool::new(256 << 20)),
            shared: Arc::new(Shared(Mutex::default())),
        }
    }

    /// How long a session waits for its client to come back.
    #[must_use]
    pub fn ttl(mut self, time: Duration) -> Self {
        self.config.ttl = time;
        self
    }

    /// How many sessions there may be, with a connection or without. None makes place for a new one before its time: else
    /// whoever opens many could end those of others.
    #[must_use]
    pub fn sessions(mut self, sessions: usize) -> Self {
        self.config.sessions = sessions;
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

    /// How many bytes of payload all sessions together may have accepted without their acknowledgement. It is taken in pieces
    /// of 64 KiB, so allow each session at least that. When it is used up, a session still sends one message at a time.
    #[must_use]
    pub fn total_replay_bytes(mut self, bytes: usize) -> Self {
        self.pool = Arc::new(Pool::new(bytes));
        self
    }

    /// How long a received message may stay without an acknowledgement while nothing else comes in. A quarter of the
    /// client's bounds is acknowledged at once.
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
        self.shared.lock().values().filter(|record| !record.slot.is_connected()).count()
    }

    /// The session of this name, for whoever holds its secret and is its owner. All others learn the same: there is none.
    pub(super) fn find(&self, id: &Bytes16, token: &Bytes16, owner: Option<&[u8]>) -> Option<Arc<Slot<T>>> {
        let mut sessions = self.shared.lock();
        let record = sessions.get(id)?;
        if !is_equal(&record.token, token) || record.owner.as_deref() != owner {
            return None;
        }
        if record.slot.is_expired(record.ttl) {
            let late = sessions.remove(id);
            drop(sessions);
            late.into_iter().for_each(|record| record.slot.leave());
            return None;
        }
        Some(record.slot.clone())
    }

    /// A place for a new session: its name, its secret, and where its later connections are laid down.
    pub(super) fn add(&self, owner: Option<&[u8]>, session: Waker) -> Result<(Seat<T>, Bytes16), Error> {
        let (id, token): (Bytes16, Bytes16) = (rand::random(), rand::random());
        let slot = Arc::new(Slot::new(session));
        let record = Record { token, owner: owner.map(Into::into), ttl: self.config.ttl, slot: slot.clone() };
        let mut sessions = self.shared.lock();
        let mut late = Vec::new();
        if sessions.len() >= self.config.sessions {
            late.extend(sessions.extract_if(|_, record| record.slot.is_expired(record.ttl)));
        }
        let has_room = sessions.len() < self.config.sessions;
        if has_room {
            sessions.insert(id, record);
        }
        drop(sessions);
        late.into_iter().for_each(|(_, record)| record.slot.leave());
        if !has_room {
            let limit = self.config.sessions;
            return Err(Error::full(format!("resume: there are {limit} sessions already (SessionStore::sessions)")));
        }
        Ok((Seat { id, slot, shared: self.shared.clone() }, token))
    }
}

/// In a time that does not depend on where they differ.
fn is_equal(one: &Bytes16, other: &Bytes16) -> bool {
    let difference = one.iter().zip(other).fold(0, |all, (one, other)| black_box(all | (one ^ other)));
    black_box(difference) == 0
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, HashMap<Bytes16, Record<T>>> {
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
