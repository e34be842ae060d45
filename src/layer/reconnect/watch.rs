use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    },
    task::{Context, Wake},
};

use futures_util::task::AtomicWaker;
use http::response::Parts;

use super::State;
use crate::transport::wakers::{Half, WakerPair};

/// What the user asked for from afar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Reconnect,
    Close,
}

const NOTHING: u8 = 0;
pub(super) const RECONNECT: u8 = 1;
pub(super) const CLOSE: u8 = 2;

/// What a transport shares with its handles, and the wakers of both its halves. As a waker it wakes both: what makes a
/// connection concerns the reader and the writer, whoever of them happened to poll last.
pub(super) struct Shared {
    command: AtomicU8,
    wakers: WakerPair,
    pub(super) connections: AtomicU64,
    pub(super) lost: AtomicU64,
    watch: Mutex<Watch>,
}

pub(super) struct Watch {
    pub(super) state: State,
    /// Counts the changes.
    pub(super) version: u64,
    pub(super) response: Option<Arc<Parts>>,
    /// The transport is gone.
    pub(super) ended: bool,
    pub(super) observers: Vec<Weak<AtomicWaker>>,
}

impl Shared {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            command: AtomicU8::new(NOTHING),
            wakers: WakerPair::default(),
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

    pub(super) fn lock(&self) -> MutexGuard<'_, Watch> {
        // Nothing panics under the lock; what is watched is whole all the same.
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This half waits for whatever may change.
    pub(super) fn register(&self, half: Half, cx: &Context<'_>) {
        self.wakers.register(half, cx);
    }

    pub(super) fn wake_both(&self) {
        self.wakers.wake_both();
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

    pub(super) fn give(&self, command: u8) {
        // A close is not overruled by what comes later.
        self.command.fetch_max(command, SeqCst);
        self.wake_both();
    }

    pub(super) fn set(&self, state: State) {
        if !matches!((&state, &self.lock().state), (State::Disconnected, State::Disconnected)) {
            self.change(|watch| std::mem::replace(&mut watch.state, state));
        }
    }

    pub(super) fn connected(&self, response: Arc<Parts>) {
        self.connections.fetch_add(1, Relaxed);
        self.change(|watch| (std::mem::replace(&mut watch.state, State::Connected), watch.response.replace(response)));
    }

    /// The transport is dropped.
    pub(super) fn end(&self) {
        self.change(|watch| {
            watch.ended = true;
            match watch.state {
                State::Failed { .. } => State::Disconnected,
                _ => std::mem::replace(&mut watch.state, State::Disconnected),
            }
        });
        // A handle that lives on keeps no task alive.
        drop((self.wakers.reader.take(), self.wakers.writer.take()));
    }

    pub(super) fn lose(&self, messages: u64) {
        self.lost.fetch_add(messages, Relaxed);
    }

    /// What `change` replaces is dropped after the lock: an error or the extensions of a response may hold what is the user's.
    fn change<R>(&self, change: impl FnOnce(&mut Watch) -> R) {
        let mut watch = self.lock();
        let replaced = change(&mut watch);
        watch.version += 1;
        let observers: Vec<_> = watch.observers.iter().filter_map(Weak::upgrade).collect();
        drop(watch);
        drop(replaced);
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
        let state = self.lock().state.clone();
        f.debug_struct("Shared").field("state", &state).finish_non_exhaustive()
    }
}
