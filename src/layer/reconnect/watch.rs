use std::{
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_core::Stream;
use futures_util::task::AtomicWaker;
use http::response::Parts;

use crate::Error;

/// Where a transport that reconnects stands.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum State {
    /// Not connected, and not connecting: before the first poll, and after a close by either side.
    Disconnected,
    /// An attempt to connect is under way.
    Connecting {
        /// The first attempt of a row is 1.
        attempt: u32,
    },
    /// There is a connection, and what the on-connect hook wants to say is on its way.
    Connected,
    /// The connection was lost, or not made; another attempt follows.
    Reconnecting {
        /// The number of the attempt to come.
        attempt: u32,
        /// Why there is no connection.
        cause: Error,
        /// How long that attempt waits, counted from this state's beginning.
        after: Duration,
    },
    /// There will be no other attempt.
    Failed {
        /// Why.
        cause: Error,
    },
}

impl State {
    /// Whether this is [`Connected`](Self::Connected).
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected)
    }
}

/// What the user asked for from afar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Reconnect,
    Close,
}

const NOTHING: u8 = 0;
const RECONNECT: u8 = 1;
const CLOSE: u8 = 2;

/// What a transport shares with its handles, and the wakers of both its halves. As a waker it wakes both: what makes a
/// connection concerns the reader and the writer, whoever of them happened to poll last.
pub(super) struct Shared {
    command: AtomicU8,
    reader: AtomicWaker,
    writer: AtomicWaker,
    connections: AtomicU64,
    lost: AtomicU64,
    watch: Mutex<Watch>,
}

struct Watch {
    state: State,
    /// Counts the changes.
    version: u64,
    response: Option<Arc<Parts>>,
    /// The transport is gone.
    ended: bool,
    observers: Vec<Weak<AtomicWaker>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Half {
    Reader,
    Writer,
}

impl Shared {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            command: AtomicU8::new(NOTHING),
            reader: AtomicWaker::new(),
            writer: AtomicWaker::new(),
            connections: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            watch: Mutex::new(Watch {
                state: State::Disconnected,
                version: 0,
                response: None,
                ended: false,
                observers: Vec::new(),
            }),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Watch> {
        // Nothing panics under the lock but a waker or a clone of the user's might; what is watched is whole all the same.
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This half waits for whatever may change.
    pub(super) fn register(&self, half: Half, cx: &Context<'_>) {
        match half {
            Half::Reader => self.reader.register(cx.waker()),
            Half::Writer => self.writer.register(cx.waker()),
        }
    }

    pub(super) fn wake_both(&self) {
        self.reader.wake();
        self.writer.wake();
    }

    /// Whether the user asked for something: one load, for each message.
    #[inline]
    pub(super) fn has_command(&self) -> bool {
        self.command.load(Relaxed) != NOTHING
    }

    pub(super) fn take_command(&self) -> Option<Command> {
        match self.command.swap(NOTHING, SeqCst) {
            RECONNECT => Some(Command::Reconnect),
            CLOSE => Some(Command::Close),
            _ => None,
        }
    }

    fn give(&self, command: u8) {
        // A close is not overruled by what comes later.
        self.command.fetch_max(command, SeqCst);
        self.wake_both();
    }

    pub(super) fn set(&self, state: State) {
        if !matches!((&state, &self.lock().state), (State::Disconnected, State::Disconnected)) {
            self.change(|watch| watch.state = state);
        }
    }

    pub(super) fn connected(&self, response: Arc<Parts>) {
        self.connections.fetch_add(1, Relaxed);
        self.change(|watch| (watch.state, watch.response) = (State::Connected, Some(response)));
    }

    /// The transport is dropped.
    pub(super) fn end(&self) {
        self.change(|watch| {
            watch.ended = true;
            if !matches!(watch.state, State::Failed { .. }) {
                watch.state = State::Disconnected;
            }
        });
        // A handle that lives on keeps no task alive.
        drop((self.reader.take(), self.writer.take()));
    }

    pub(super) fn lose(&self, messages: u64) {
        self.lost.fetch_add(messages, Relaxed);
    }

    fn change(&self, change: impl FnOnce(&mut Watch)) {
        let mut watch = self.lock();
        change(&mut watch);
        watch.version += 1;
        let observers: Vec<_> = watch.observers.iter().filter_map(Weak::upgrade).collect();
        drop(watch);
        for observer in observers {
            observer.wake();
        }
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_both();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_both();
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("state", &self.lock().state).finish_non_exhaustive()
    }
}

/// What can be seen and asked of a transport that reconnects, from anywhere: cheap to clone, and good while a
/// [`Driver`](crate::Driver) owns the transport.
///
/// What it asks for is done by the transport's next poll, for which it wakes the transport's tasks.
#[derive(Clone, Debug)]
pub struct ReconnectHandle {
    pub(super) shared: Arc<Shared>,
}

impl ReconnectHandle {
    /// The present state.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.lock().state.clone()
    }

    /// The states as a stream: the present one, and then each change. See [`States`].
    #[must_use]
    pub fn states(&self) -> States {
        States::new(self.shared.clone())
    }

    /// Connects at once: ends the wait before the next attempt, or replaces the connection that is there by another. While an
    /// attempt is under way, and after the end, it does nothing.
    ///
    /// The connection that is replaced is asked to close, and dropped: it is as good as lost, and
    /// [`WhenLost`](super::WhenLost) decides about what it had not flushed. The attempts are not counted anew.
    pub fn reconnect_now(&self) {
        self.shared.give(RECONNECT);
    }

    /// Closes the connection, and makes no other: the stream ends, and the sink [`is_closed`](Error::is_closed). What waits
    /// for a connection is lost, and counted.
    pub fn close(&self) {
        self.shared.give(CLOSE);
    }

    /// The answer to the latest handshake that succeeded: status, headers (subprotocol, cookies) and extensions.
    #[must_use]
    pub fn response(&self) -> Option<Arc<Parts>> {
        self.shared.lock().response.clone()
    }

    /// How many connections were made so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Relaxed)
    }

    /// How many messages were accepted and then lost with a connection or at the end: those of which no flush is known to
    /// have succeeded.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Relaxed)
    }
}

/// The states of a transport that reconnects, as a stream that never fails: the present one at once, then each change.
///
/// Who is slow sees the latest, and not each one in between. It ends after [`State::Failed`], and when the transport is
/// dropped. A clone begins with the present state.
#[derive(Debug)]
pub struct States {
    shared: Arc<Shared>,
    waker: Arc<AtomicWaker>,
    /// The version that was given last.
    seen: Option<u64>,
    ended: bool,
}

impl States {
    fn new(shared: Arc<Shared>) -> Self {
        let waker = Arc::new(AtomicWaker::new());
        let mut watch = shared.lock();
        watch.observers.retain(|observer| observer.strong_count() > 0);
        watch.observers.push(Arc::downgrade(&waker));
        drop(watch);
        Self { shared, waker, seen: None, ended: false }
    }

    /// The present state, whether or not the stream has given it.
    #[must_use]
    pub fn current(&self) -> State {
        self.shared.lock().state.clone()
    }
}

impl Clone for States {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone())
    }
}

impl Stream for States {
    type Item = State;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<State>> {
        let this = &mut *self;
        if this.ended {
            return Poll::Ready(None);
        }
        this.waker.register(cx.waker());
        let watch = this.shared.lock();
        if this.seen != Some(watch.version) {
            this.seen = Some(watch.version);
            this.ended = watch.ended || matches!(watch.state, State::Failed { .. });
            return Poll::Ready(Some(watch.state.clone()));
        }
        if watch.ended {
            this.ended = true;
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

/// A waker of both halves.
pub(super) fn both(shared: &Arc<Shared>) -> Waker {
    Waker::from(shared.clone())
}
