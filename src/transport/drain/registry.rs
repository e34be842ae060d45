use std::{
    collections::{HashMap, VecDeque},
    fmt,
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    task::Context,
    time::Duration,
};

use atomic_waker::AtomicWaker;
use tokio::sync::Notify;

use crate::{
    CloseFrame, Message,
    log::Peer,
    rt,
    sync::{Mutex, MutexGuard},
};

/// The state that all clones of a [`Drain`](super::Drain) share.
///
/// ```text
///           start                  cut: the time limit is over
///   OPEN ----------> STARTED ------------------------------------> CUT
/// ```
///
/// Each connection has a copy of these phases, because [`Drain::close_one`](super::Drain::close_one) starts a single one.
/// A phase never goes back, so a connection that misses a wake-up sees it in its next poll. A connection registers its
/// waker first and reads its phase after that; a change of the phase comes before the wake-ups.
pub(super) struct Registry {
    /// The bits [`STARTED`] and [`CUT`].
    phase: AtomicU8,
    start: OnceLock<Start>,
    /// The time over which the returns are spread, in milliseconds.
    spread: AtomicU64,
    /// The number of return hints that were given.
    hints: AtomicU32,
    refused: AtomicUsize,
    entries: Mutex<Entries>,
    /// The notification that the drain has started.
    pub(super) started: Notify,
    /// The notification that the last seat was released.
    pub(super) emptied: Notify,
}

pub(super) struct Start {
    pub(super) frame: CloseFrame,
    /// The number of connections that were open.
    pub(super) open: usize,
    /// The place in the window at which the hints begin.
    offset: u32,
}

#[derive(Default)]
struct Entries {
    next: u64,
    taken: HashMap<u64, Arc<Entry>>,
}

const STARTED: u8 = 1;
const CUT: u8 = 2;
/// A message of [`Drain::broadcast`](super::Drain::broadcast) waits.
const NOTICE: u8 = 4;

/// The default time over which clients return, in milliseconds.
const SPREAD: u64 = 5000;

/// The number of broadcast messages that wait for one connection.
const NOTICES: usize = 16;

impl Default for Registry {
    fn default() -> Self {
        Self {
            phase: AtomicU8::new(0),
            start: OnceLock::new(),
            spread: AtomicU64::new(SPREAD),
            hints: AtomicU32::new(0),
            refused: AtomicUsize::new(0),
            entries: Mutex::default(),
            started: Notify::new(),
            emptied: Notify::new(),
        }
    }
}

impl Registry {
    pub(super) fn set_spread(&self, window: Duration) {
        let milliseconds = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        self.spread.store(milliseconds.min(u32::MAX.into()), Ordering::Relaxed);
    }

    pub(super) fn is_started(&self) -> bool {
        self.phase.load(Ordering::Acquire) != 0
    }

    pub(super) fn start(&self) -> Option<&Start> {
        self.start.get()
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock()
    }

    /// Returns the connections. Their wakers are user code, so they are woken without the lock.
    fn snapshot(&self) -> Vec<(u64, Arc<Entry>)> {
        self.entries().taken.iter().map(|(id, entry)| (*id, entry.clone())).collect()
    }

    pub(super) fn connections(&self) -> usize {
        self.entries().taken.len()
    }

    pub(super) fn sessions(&self) -> usize {
        self.entries().taken.values().filter(|entry| !entry.is_http).count()
    }

    /// Starts the drain, unless it was started before.
    pub(super) fn begin(&self, frame: CloseFrame) {
        let mut is_first = false;
        let open = self.connections();
        // The start is set before the phase, so a task that sees the phase finds the frame.
        self.start.get_or_init(|| {
            is_first = true;
            Start { frame, open, offset: rand::random() }
        });
        if !is_first {
            return;
        }
        self.phase.fetch_or(STARTED, Ordering::AcqRel);
        for (_, entry) in self.snapshot() {
            self.begin_entry(&entry);
        }
        self.started.notify_waiters();
    }

    fn begin_entry(&self, entry: &Entry) {
        if let Some(start) = self.start.get() {
            entry.begin(|| if entry.is_http { start.frame.clone() } else { self.with_hint(start) });
        }
    }

    /// Returns the close frame for one more connection. The hints follow each other by the golden ratio, which spreads
    /// any number of them evenly over the window, in no order of the connections.
    fn with_hint(&self, start: &Start) -> CloseFrame {
        const GOLDEN: u32 = 0x9E37_79B9;

        let window = self.spread.load(Ordering::Relaxed);
        let hint = self.hints.fetch_add(1, Ordering::Relaxed);
        let place = start.offset.wrapping_add(hint.wrapping_mul(GOLDEN));
        // The window fits 32 bits, so the product fits 64.
        start.frame.clone().with_return_after(Duration::from_millis((window * u64::from(place)) >> 32))
    }

    /// Cuts all connections.
    pub(super) fn cut(&self) {
        self.phase.fetch_or(CUT, Ordering::AcqRel);
        for (_, entry) in self.snapshot() {
            entry.cut();
        }
    }

    pub(super) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn refused(&self) -> usize {
        self.refused.load(Ordering::Relaxed)
    }

    pub(super) fn close_one(&self, id: ConnectionId, frame: CloseFrame) -> bool {
        let Some(entry) = self.entries().taken.get(&id.0).cloned() else { return false };
        entry.begin(|| frame)
    }

    pub(super) fn broadcast(&self, message: &Message) -> usize {
        let sessions = self.snapshot();
        sessions.iter().filter(|(_, entry)| !entry.is_http && entry.notify(message)).count()
    }

    pub(super) fn list(&self) -> Vec<OpenConnection> {
        let mut list: Vec<_> = self.snapshot().iter().map(|(id, entry)| entry.describe(*id)).collect();
        list.sort_unstable_by_key(|connection| connection.id);
        list
    }

    /// Adds a connection.
    pub(super) fn enter(self: &Arc<Self>, is_http: bool) -> Arc<Seat> {
        let entry = Arc::new(Entry::new(is_http));
        let mut entries = self.entries();
        let id = entries.next;
        entries.next += 1;
        entries.taken.insert(id, entry.clone());
        drop(entries);
        // The drain may have started before the connection was in the list.
        let phase = self.phase.load(Ordering::Acquire);
        if phase & STARTED != 0 {
            self.begin_entry(&entry);
        }
        if phase & CUT != 0 {
            entry.cut();
        }
        Arc::new(Seat { registry: self.clone(), id, entry })
    }

    fn leave(&self, id: u64) {
        let mut entries = self.entries();
        let left = entries.taken.remove(&id);
        let is_empty = entries.taken.is_empty();
        drop(entries);
        drop(left);
        if is_empty {
            self.emptied.notify_waiters();
        }
    }
}

/// The part of a [`Drain`](super::Drain) for of one connection.
struct Entry {
    /// The bits [`STARTED`], [`CUT`] and [`NOTICE`]. Each poll of the connection reads it once.
    state: AtomicU8,
    close: OnceLock<Close>,
    wakers: Wakers,
    notices: Mutex<VecDeque<Message>>,
    is_http: bool,
    since: rt::Instant,
    peer: OnceLock<Peer>,
}

/// The close of one connection.
pub(super) struct Close {
    pub(super) frame: CloseFrame,
    pub(super) at: rt::Instant,
}

/// The tasks of one connection. Each is woken when the drain starts and when it cuts.
#[derive(Debug, Default)]
pub(super) struct Wakers {
    pub(super) reader: AtomicWaker,
    pub(super) writer: AtomicWaker,
    pub(super) handler: AtomicWaker,
}

impl Entry {
    fn new(is_http: bool) -> Self {
        Self {
            state: AtomicU8::new(0),
            close: OnceLock::new(),
            wakers: Wakers::default(),
            notices: Mutex::default(),
            is_http,
            since: rt::Instant::now(),
            peer: OnceLock::new(),
        }
    }

    /// Starts the close. Returns whether it had not started before.
    fn begin(&self, frame: impl FnOnce() -> CloseFrame) -> bool {
        let mut is_first = false;
        self.close.get_or_init(|| {
            is_first = true;
            Close { frame: frame(), at: rt::Instant::now() }
        });
        if is_first {
            self.set(STARTED);
        }
        is_first
    }

    fn cut(&self) {
        self.set(CUT);
    }

    fn set(&self, bit: u8) {
        self.state.fetch_or(bit, Ordering::AcqRel);
        self.wakers.reader.wake();
        self.wakers.writer.wake();
        self.wakers.handler.wake();
    }

    /// Queues a message of a broadcast. Returns `false` if too many wait.
    fn notify(&self, message: &Message) -> bool {
        let message = message.clone();
        let mut notices = self.notices.lock();
        if notices.len() >= NOTICES {
            drop(notices);
            return false;
        }
        notices.push_back(message);
        self.state.fetch_or(NOTICE, Ordering::AcqRel);
        drop(notices);
        self.wakers.reader.wake();
        true
    }

    fn describe(&self, id: u64) -> OpenConnection {
        OpenConnection {
            id: ConnectionId(id),
            peer: self.peer.get().map(|peer| peer.address()),
            age: self.since.elapsed(),
            is_session: !self.is_http,
            is_closing: self.close.get().is_some(),
        }
    }
}

/// The name of a connection of a [`Drain`](super::Drain). It is in the extensions of the request parts that a handler
/// gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One of the connections that [`Drain::list`](super::Drain::list) returns.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OpenConnection {
    /// The name for [`Drain::close_one`](super::Drain::close_one).
    pub id: ConnectionId,
    /// The client's address, if the server has put it into the extensions of the request.
    pub peer: Option<IpAddr>,
    /// The time since the connection was accepted.
    pub age: Duration,
    /// Whether it is a session. Otherwise it is an HTTP connection that the drain [watches](super::Drain::watch).
    pub is_session: bool,
    /// Whether the drain has begun to close it.
    pub is_closing: bool,
}

/// A place among the connections of a [`Drain`](super::Drain), held by the transport and by its handler, and released
/// when both are gone.
pub(crate) struct Seat {
    registry: Arc<Registry>,
    id: u64,
    entry: Arc<Entry>,
}

impl Seat {
    #[inline]
    pub(crate) fn is_started(&self) -> bool {
        self.entry.state.load(Ordering::Acquire) & STARTED != 0
    }

    #[inline]
    pub(crate) fn is_cut(&self) -> bool {
        self.entry.state.load(Ordering::Acquire) & CUT != 0
    }

    /// Returns whether there is nothing to do for the drain.
    #[inline]
    pub(super) fn is_quiet(&self) -> bool {
        self.entry.state.load(Ordering::Acquire) == 0
    }

    /// Returns the close, once it has started.
    pub(super) fn close(&self) -> Option<&Close> {
        self.entry.close.get()
    }

    /// Returns the close frame, once the close has started.
    pub(crate) fn frame(&self) -> Option<CloseFrame> {
        self.close().map(|close| close.frame.clone())
    }

    pub(super) fn has_notice(&self) -> bool {
        self.entry.state.load(Ordering::Acquire) & NOTICE != 0
    }

    /// Takes the next message of a broadcast.
    pub(crate) fn take_notice(&self) -> Option<Message> {
        if !self.has_notice() {
            return None;
        }
        let mut notices = self.entry.notices.lock();
        let message = notices.pop_front();
        if notices.is_empty() {
            self.entry.state.fetch_and(!NOTICE, Ordering::AcqRel);
        }
        message
    }

    /// Registers the task of a stream that has nothing to send. Returns whether the stream is to close instead. A
    /// broadcast that came before the registration wakes the task again.
    #[cfg_attr(not(feature = "sse"), allow(dead_code, reason = "for event streams"))]
    pub(crate) fn must_close(&self, cx: &Context<'_>) -> bool {
        self.entry.wakers.reader.register(cx.waker());
        if self.has_notice() {
            cx.waker().wake_by_ref();
        }
        self.is_started()
    }

    pub(super) fn wakers(&self) -> &Wakers {
        &self.entry.wakers
    }

    /// Notes the client's address, for [`Drain::list`](super::Drain::list).
    pub(crate) fn set_peer(&self, peer: Option<Peer>) {
        if let Some(peer) = peer {
            let _ = self.entry.peer.set(peer);
        }
    }

    /// Puts the connection's name into the extensions of its request, and notes the client's address.
    pub(crate) fn introduce(&self, parts: &mut http::request::Parts) {
        self.set_peer(crate::log::peer(&parts.extensions));
        parts.extensions.insert(ConnectionId(self.id));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.registry.leave(self.id);
    }
}

debug_fields!(Seat { id });
