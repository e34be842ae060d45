use std::{future::poll_fn, net::IpAddr, sync::Arc, task::Waker, time::Duration};

use super::{
    Session,
    handoff::{Handoff, Offer, Outcome},
    layer::{Config, session_settings},
    ledger::Ledger,
    registry::{Added, Entry, Key, Record, Registry, Sessions},
    replay::{Budget, Pool},
    wire::{self, Bytes16, Hello, Own, Parsed, Welcome},
};
use crate::{
    CloseCode, CloseFrame, Error, Message, Text, Transport, TransportExt, log,
    rt::{self, Instant},
    sync::Mutex,
    transport::wakers::WakerPair,
};

/// How many sessions that are over are removed with each new one. That is more than are added, so none of them stays
/// for long, and few enough that nobody waits for it.
const EXPIRED: usize = 2;

/// The sessions of a server, in memory. A clone is the same store. See the [module](super) for the complete
/// documentation.
///
/// | setting | default | above it |
/// |---|---|---|
/// | [`ttl`](Self::ttl) | 2 min | a session without a connection ends |
/// | [`sessions`](Self::sessions) | 1024 | a session without a connection ends, or the client is refused (1013) |
/// | [`sessions_per_key`](Self::sessions_per_key) | a quarter of them | the same, for one owner or key |
/// | [`replay_messages`](Self::replay_messages) | 1024 | `poll_ready` of that session is `Pending` |
/// | [`replay_bytes`](Self::replay_bytes) | 1 MiB | the same |
/// | [`total_replay_bytes`](Self::total_replay_bytes) | 256 MiB | the same, for all sessions with a message in flight |
/// | [`max_stalled_connections`](Self::max_stalled_connections) | 1000 | the session ends |
/// | [`max_stalled_time`](Self::max_stalled_time) | 10 min, over 16 connections at least | the same |
/// | [`ack_delay`](Self::ack_delay) | 100 ms | |
/// | [`deadline`](Self::deadline) | 10 s | a connection that does not open a session is closed |
///
/// Change settings before the store is cloned: a clone keeps the settings that it was created with.
pub struct SessionStore<T> {
    config: Config,
    room: Room,
    pool: Arc<Pool>,
    registry: Sessions<T>,
}

/// How many sessions a store has room for, and how long one without a connection stays.
#[derive(Clone, Copy, Debug)]
struct Room {
    ttl: Duration,
    sessions: usize,
    sessions_per_key: Option<usize>,
}

/// The maximum number of control messages before the opening message.
const MAX_CONTROL: usize = 16;

/// The result of accepting a connection.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one for each connection, and it is moved once")]
#[must_use = "a session that is dropped is over"]
pub enum Accepted<T> {
    /// A new session: the transport for its handler.
    New(Session<T>),
    /// The connection was handed to the session that it belongs to. The handler of that session continues, and nothing
    /// is left to do here.
    Resumed,
}

impl<T> SessionStore<T> {
    /// Creates an empty store with the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            config: Config::default(),
            room: Room { ttl: Duration::from_secs(120), sessions: 1024, sessions_per_key: None },
            pool: Arc::new(Pool::new(256 << 20)),
            registry: Arc::new(Mutex::new(Registry::new())),
        }
    }

    /// Sets how long a session waits for its client to come back. Defaults to 2 minutes.
    #[must_use]
    pub fn ttl(mut self, time: Duration) -> Self {
        self.room.ttl = time;
        self
    }

    /// Sets how many sessions there may be, with a connection or without. Defaults to 1024.
    ///
    /// One more takes the place of a session without a connection: of one that never carried a message of yours, else
    /// of the oldest one of the client that has the most of them. A client is an owner, a key, or an address if the
    /// session was accepted by an [`OptimizedAcceptor`](crate::stack::OptimizedAcceptor) or a
    /// [`SessionServer`](crate::stack::adaptive::SessionServer) that sees it. Sessions of [`accept`](Self::accept)
    /// count as those of one client. A new client is refused only if every session has a connection.
    #[must_use]
    pub fn sessions(mut self, sessions: usize) -> Self {
        self.room.sessions = sessions;
        self
    }

    /// Sets how many of the sessions one owner ([`accept_as`](Self::accept_as)) or one key
    /// ([`accept_from`](Self::accept_from)) may have, at least 1. Defaults to a quarter of
    /// [`sessions`](Self::sessions), so that nobody fills the store alone.
    ///
    /// One more takes the place of the owner's or key's session that has been without a connection for the longest
    /// time, which ends. A client is refused if each of them has a connection.
    ///
    /// Sessions without an owner and a key have no such bound. The store could only count them by address, and the
    /// clients behind one proxy or NAT share an address: a bound that fits one client would refuse them.
    #[must_use]
    pub fn sessions_per_key(mut self, sessions: usize) -> Self {
        self.room.sessions_per_key = Some(sessions.max(1));
        self
    }

    session_settings!();

    /// Sets how many bytes all sessions together may hold: what they have accepted and their clients have not
    /// acknowledged, and what was read ahead. Defaults to 256 MiB.
    ///
    /// A session takes of it what it holds, up to twice as much while its buffer grows, and nothing while its buffer is
    /// empty. When it is used up, a session still sends one message at a time, and reads one ahead; a connection of
    /// which more would have to be read is closed with 1013, and its session goes on with the client's next one.
    ///
    /// So the bound is exceeded by at most two messages of each session: [`sessions`](Self::sessions) times twice the
    /// size of the largest message. Otherwise clients that acknowledge nothing could stop all others. If your messages
    /// are large, lower [`Limits::message`](crate::Limits::message) or the number of sessions.
    /// [`held_bytes`](Self::held_bytes) returns the sum.
    #[must_use]
    pub fn total_replay_bytes(mut self, bytes: usize) -> Self {
        self.pool = Arc::new(Pool::new(bytes));
        self
    }

    /// Sets how long [`accept`](Self::accept) may take. Defaults to 10 s.
    #[must_use]
    pub fn deadline(mut self, time: Duration) -> Self {
        self.config.deadline = time;
        self
    }

    /// Returns how many bytes of [`total_replay_bytes`](Self::total_replay_bytes) all sessions have taken.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.pool.used()
    }

    /// Returns the number of sessions, with a connection or without.
    #[must_use]
    pub fn len(&self) -> usize {
        self.registry.lock().len()
    }

    /// Returns whether there is no session.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns how many sessions wait for their client to come back.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.registry.lock().lost()
    }

    /// Returns how many clients came back and got their session, since the start.
    #[must_use]
    pub fn resumed(&self) -> u64 {
        self.registry.lock().resumed
    }

    /// Returns how many clients came back and got a new session, because theirs was over, since the start.
    #[must_use]
    pub fn fresh(&self) -> u64 {
        self.registry.lock().fresh
    }

    /// Finds the session of this name, if the token is its secret and the owner is its owner. All others learn the
    /// same: there is no such session.
    fn find(&self, id: &Bytes16, token: &Bytes16, owner: Option<&[u8]>) -> Option<Arc<Handoff<T>>> {
        // Before the search: the session of a client that comes back too late must not be found only because nobody has
        // looked since.
        self.expire();
        self.registry.lock().find(id, token, owner, Instant::now())
    }

    /// Removes sessions that are over.
    fn expire(&self) {
        for _ in 0..EXPIRED {
            // One at a time and unlocked in between: waking an acceptor and logging run code of the user.
            let Some(late) = self.registry.lock().expire(Instant::now()) else { return };
            late.handoff.leave();
            log::session_expired(self.room.ttl);
        }
    }

    /// Adds a session. Returns its entry and its secret.
    fn add(&self, key: Key, session: Waker) -> Result<(Entry<T>, Bytes16), Error> {
        self.expire();
        // The id names the session, and only the token proves that a client owns it. Both are random, so that the id of
        // one session says nothing about another's.
        let (id, token): (Bytes16, Bytes16) = (rand::random(), rand::random());
        let handoff = Arc::new(Handoff::new(session));
        let record = Record::new(token, self.room.ttl, handoff.clone(), Arc::new(key));
        let most = self.room.sessions;
        let most_per_key = self.room.sessions_per_key.unwrap_or(most / 4).max(1);
        // The answer holds the records that have to go, so that none of them is dropped under the lock.
        let added = self.registry.lock().add(id, record, most, most_per_key);
        match added {
            Added::Yes(ended) => {
                if let Some(ended) = ended {
                    ended.handoff.evict();
                    log::session_evicted(most, most_per_key);
                }
                Ok((Entry { id, handoff, sessions: self.registry.clone() }, token))
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

impl<T: Transport<Message, In = Message> + Unpin> SessionStore<T> {
    /// Opens a session on a connection, or hands the connection to the session that its client resumes.
    ///
    /// A transport does not say who its client is, so one client may fill the store with sessions that have a
    /// connection, and end the lost sessions of others. Use [`accept_as`](Self::accept_as),
    /// [`accept_from`](Self::accept_from) or [`accept_at`](Self::accept_at) where you know the client, and limit the
    /// connections of one client with a [`ConnectionLimitLayer`](crate::handshake::limit::ConnectionLimitLayer).
    ///
    /// Returns [`Accepted::Resumed`] once the handler of the session has polled its [`Session`], which then has the
    /// connection.
    ///
    /// # Errors
    ///
    /// Returns an error for which one of these is true:
    ///
    /// - [`is_timeout`](Error::is_timeout): the client did not open a session, or the session's handler did not poll
    ///   it, within [`deadline`](Self::deadline).
    /// - [`is_protocol`](Error::is_protocol): the first message does not open a session, or its position in the session
    ///   is impossible (closed with 1002). The session stays as it was, on its connection if it has one.
    /// - [`is_full`](Error::is_full): there are too many sessions (closed with 1013).
    /// - [`is_closed`](Error::is_closed): the connection ended, or the client has a newer one already.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection, unless its session has taken it.
    pub async fn accept(&self, transport: T) -> Result<Accepted<T>, Error> {
        self.accept_for(transport, Key::Anyone).await
    }

    /// Opens a session as [`accept`](Self::accept) does, and counts it for `key`: the peer's address, for example, if
    /// clients do not authenticate. [`sessions_per_key`](Self::sessions_per_key) bounds how many sessions one key has.
    ///
    /// A client finds its session again even if its key has changed. Behind a proxy, use the address that the proxy
    /// reports.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`accept`](Self::accept).
    ///
    /// # Cancel safety
    ///
    /// The same as for [`accept`](Self::accept).
    pub async fn accept_from(&self, transport: T, key: impl AsRef<[u8]>) -> Result<Accepted<T>, Error> {
        self.accept_for(transport, Key::Group(key.as_ref().into())).await
    }

    /// Opens a session as [`accept`](Self::accept) does, for an authenticated client. Only the same `owner` finds the
    /// session again, and it is counted for it ([`sessions_per_key`](Self::sessions_per_key)).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`accept`](Self::accept). For a session of another owner, a new session begins, whatever
    /// its secret is.
    ///
    /// # Cancel safety
    ///
    /// The same as for [`accept`](Self::accept).
    pub async fn accept_as(&self, transport: T, owner: impl AsRef<[u8]>) -> Result<Accepted<T>, Error> {
        self.accept_for(transport, Key::Owner(owner.as_ref().into())).await
    }

    /// Opens a session as [`accept`](Self::accept) does, for a client of this address. Many clients can have one
    /// address (a proxy, a NAT), so it has no bound of its own, but a full store ends a lost session of the address
    /// that has the most of them. One client therefore ends its own sessions and not those of others. The addresses of
    /// one IPv6 network (/64) count as one.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`accept`](Self::accept).
    ///
    /// # Cancel safety
    ///
    /// The same as for [`accept`](Self::accept).
    pub async fn accept_at(&self, transport: T, address: IpAddr) -> Result<Accepted<T>, Error> {
        self.accept_for(transport, Key::of_address(address)).await
    }

    async fn accept_for(&self, transport: T, key: Key) -> Result<Accepted<T>, Error> {
        let limit = self.config.deadline;
        match rt::timeout(limit, self.open(transport, key)).await {
            Ok(accepted) => accepted,
            Err(_) => Err(Error::timeout(format!(
                "resume: a connection did not get a session within {limit:?} (SessionStore::deadline)"
            ))),
        }
    }

    async fn open(&self, mut link: T, key: Key) -> Result<Accepted<T>, Error> {
        let hello = match hello(&mut link).await {
            Ok(hello) => hello,
            Err(error) => return refuse(link, error).await,
        };
        let Some((id, token, position)) = hello.session else { return self.begin(link, &hello, key).await };
        let Some(handoff) = self.find(&id, &token, key.owner()) else {
            return self.begin_fresh(link, &hello, key).await;
        };
        let offer = Offer { link, epoch: hello.epoch, window: hello.window, position, is_unread: hello.is_unread };
        // The session may end at any time from here on. Then the connection comes back, and begins a new session.
        let link = match handoff.offer(offer) {
            Ok(ticket) => {
                // The caller may drop this future while the offer is waiting; the offer then goes with it.
                let wait = Wait { handoff, ticket };
                match poll_fn(|cx| wait.handoff.poll_outcome(ticket, cx)).await? {
                    Outcome::Taken => {
                        self.registry.lock().resumed += 1;
                        return Ok(Accepted::Resumed);
                    }
                    Outcome::Refused(link, error) => return refuse(link, error).await,
                    Outcome::Free(link) => link,
                }
            }
            Err(link) => link,
        };
        self.begin_fresh(link, &hello, key).await
    }

    /// Begins a session for a client whose session is over.
    async fn begin_fresh(&self, link: T, hello: &Hello, key: Key) -> Result<Accepted<T>, Error> {
        self.registry.lock().fresh += 1;
        log::session_lost();
        self.begin(link, hello, key).await
    }

    async fn begin(&self, mut link: T, hello: &Hello, key: Key) -> Result<Accepted<T>, Error> {
        // In the table before the welcome is sent: a client whose connection breaks at once must find its session. If
        // the welcome cannot be sent, dropping the entry removes the session.
        let (wakers, both) = WakerPair::new();
        let (entry, token) = match self.add(key, both) {
            Ok(added) => added,
            Err(error) => return refuse(link, error).await,
        };
        let welcome = Welcome {
            is_resumed: false,
            id: entry.id,
            token,
            window: self.config.window,
            position: Default::default(),
            is_unread: false,
        };
        link.send_message(Own::Welcome(welcome).into_message()).await?;
        let (Config { window, patience, ack_delay, .. }, ttl) = (self.config, self.room.ttl);
        let ledger = Ledger::new(entry.id, window, hello.window, Budget::of(self.pool.clone()), patience);
        Ok(Accepted::New(Session::new(link, entry, wakers, ledger, hello.epoch, (ttl, ack_delay))))
    }
}

async fn hello<T: Transport<Message, In = Message> + Unpin>(link: &mut T) -> Result<Hello, Error> {
    // The layers below may send pings first. Their number is limited, or a client could be busy here without ever
    // opening a session.
    for _ in 0..=MAX_CONTROL {
        match link.receive_message().await {
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(frame))) => {
                let error = Error::closed("resume: the client closed before it opened a session");
                return Err(error.with_close_frame(frame));
            }
            Some(Ok(message)) => match wire::read(message)? {
                Parsed::Own(Own::Hello(hello)) => return Ok(hello),
                _ => break,
            },
            Some(Err(error)) => return Err(error),
            None => return Err(Error::closed("resume: the connection ended before a session was opened")),
        }
    }
    Err(Error::protocol("resume: the first message does not open a session: the client has no ResumeLayer"))
}

/// Tells the client the reason, if it listens.
async fn refuse<T, R>(mut link: T, error: Error) -> Result<R, Error>
where
    T: Transport<Message, In = Message> + Unpin,
{
    let (code, reason) = match () {
        () if error.is_protocol() => (CloseCode::PROTOCOL, "resume: no such opening message"),
        () if error.is_full() => (CloseCode::TRY_AGAIN, "resume: too many sessions"),
        () => return Err(error),
    };
    let frame = CloseFrame::new(code, Text::from_static(reason));
    let _ = link.send_message(Message::Close(Some(frame))).await;
    Err(error)
}

/// An offer that is withdrawn when nobody waits for it any more.
struct Wait<T> {
    handoff: Arc<Handoff<T>>,
    ticket: u64,
}

impl<T> Drop for Wait<T> {
    fn drop(&mut self) {
        self.handoff.withdraw(self.ticket);
    }
}

impl<T> Clone for SessionStore<T> {
    fn clone(&self) -> Self {
        Self { config: self.config, room: self.room, pool: self.pool.clone(), registry: self.registry.clone() }
    }
}

impl<T> Default for SessionStore<T> {
    fn default() -> Self {
        Self::new()
    }
}

debug_fields!([T] SessionStore<T>, |this| { config, room, sessions: this.len() });
