use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed, Ordering::SeqCst},
    },
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use futures_core::Stream;
use http::response::Parts;
use tokio::sync::watch;

use crate::{
    Error, log,
    transport::wakers::{Half, WakerPair},
};

/// The state of a transport that reconnects.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum State {
    /// Neither connected nor connecting: before the first poll, and after a close by either side.
    Disconnected,
    /// An attempt to connect is in progress.
    #[non_exhaustive]
    Connecting {
        /// The number of the attempt. It is 1 for the first one after the backoff was reset.
        attempt: u32,
    },
    /// There is a connection. The messages of the on-connect hook are being sent or have been sent.
    Connected,
    /// The connection was lost, or an attempt failed. Another attempt follows.
    #[non_exhaustive]
    Reconnecting {
        /// The number of the next attempt.
        attempt: u32,
        /// The error that ended the connection or the attempt.
        cause: Error,
        /// The delay before the next attempt, counted from the beginning of this state.
        after: Duration,
    },
    /// There is no further attempt.
    #[non_exhaustive]
    Failed {
        /// The error of the last attempt or connection.
        cause: Error,
    },
}

impl State {
    /// Returns whether this is [`Connected`](Self::Connected).
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self, Self::Connected)
    }
}

/// A handle that observes and controls a transport that reconnects. It is cheap to clone, and works while a
/// [`Driver`](crate::Driver) owns the transport.
///
/// A command is carried out by the next poll of the transport. The handle wakes the tasks that wait for it.
#[derive(Clone, Debug)]
pub struct ReconnectHandle {
    pub(super) shared: Arc<Shared>,
}

impl ReconnectHandle {
    /// Returns the current state.
    #[must_use]
    pub fn state(&self) -> State {
        self.shared.state()
    }

    /// Returns the states as a stream: the current one, and then each change. See [`States`].
    #[must_use]
    pub fn states(&self) -> States {
        States::new(self.shared.clone())
    }

    /// Reconnects immediately: skips a pending backoff delay, or replaces a live connection. During an attempt, and
    /// after the end, it does nothing.
    ///
    /// A connection that is replaced is asked to close, and then dropped like a lost one:
    /// [`WhenLost`](super::WhenLost) decides about its unflushed messages. The backoff is not reset.
    pub fn reconnect_now(&self) {
        self.shared.command(RECONNECT);
    }

    /// Closes the connection for good: the stream ends, and the sink returns errors for which
    /// [`is_closed`](Error::is_closed) is true. Messages that wait for a connection are lost, and counted.
    pub fn close(&self) {
        self.shared.command(CLOSE);
    }

    /// Returns the response to the latest successful handshake: status, headers (subprotocol, cookies) and extensions.
    #[must_use]
    pub fn response(&self) -> Option<Arc<Parts>> {
        self.shared.response()
    }

    /// Returns the number of connections so far.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Relaxed)
    }

    /// Returns how many messages were accepted and then lost: with a connection or at the end, those of which no flush
    /// is known to have succeeded; with a session of a resume layer, those that the peer had not acknowledged.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Relaxed)
    }
}

/// The states of a transport that reconnects, as a stream that never fails: the current one, and then each change.
///
/// A slow reader sees the latest state, not each one in between. The stream ends after [`State::Failed`], and when the
/// transport is dropped. A clone begins with the current state.
pub struct States {
    shared: Arc<Shared>,
    /// Resolves when there is a state that this stream has not yielded. Made again for each state.
    changed: Pin<Box<dyn Future<Output = watch::Receiver<Watched>> + Send + Sync>>,
    has_ended: bool,
}

impl States {
    fn new(shared: Arc<Shared>) -> Self {
        // A new receiver has seen the current state, which this stream yields first.
        let mut receiver = shared.watched.subscribe();
        receiver.mark_changed();
        Self { shared, changed: Box::pin(changed(receiver)), has_ended: false }
    }

    /// Returns the current state, whether or not the stream has yielded it.
    #[must_use]
    pub fn current(&self) -> State {
        self.shared.state()
    }
}

async fn changed(mut receiver: watch::Receiver<Watched>) -> watch::Receiver<Watched> {
    // The sender lives in `Shared`, which the stream holds, so this does not fail.
    let _ = receiver.changed().await;
    receiver
}

impl Clone for States {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone())
    }
}

impl Stream for States {
    type Item = State;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<State>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let mut receiver = ready!(self.changed.as_mut().poll(cx));
        let Watched { state, is_gone, .. } = receiver.borrow_and_update().clone();
        // A failure is the last state, although the transport may live on.
        self.has_ended = is_gone || matches!(state, State::Failed { .. });
        self.changed = Box::pin(changed(receiver));
        Poll::Ready(Some(state))
    }
}

debug_fields!(States, |this| { current: this.current() });

/// The commands of a handle. A larger one overrules a smaller one: a close is final.
const NOTHING: u8 = 0;
const RECONNECT: u8 = 1;
#[cfg(target_arch = "wasm32")]
const STOP: u8 = 2;
const CLOSE: u8 = 3;

/// A command of the user, from a handle, or of the browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Reconnect,
    /// The page stops running: drop the connection until the page comes back.
    #[cfg(target_arch = "wasm32")]
    Stop,
    Close,
}

/// The state that a transport shares with its handles and observers, and the wakers of both its halves.
pub(super) struct Shared {
    /// An atomic of its own, because it is read for each message.
    command: AtomicU8,
    wakers: Arc<WakerPair>,
    connections: AtomicU64,
    lost: AtomicU64,
    watched: watch::Sender<Watched>,
}

#[derive(Clone)]
struct Watched {
    state: State,
    response: Option<Arc<Parts>>,
    /// The transport was dropped.
    is_gone: bool,
}

impl Shared {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            command: AtomicU8::new(NOTHING),
            wakers: Arc::default(),
            connections: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            watched: watch::Sender::new(Watched { state: State::Disconnected, response: None, is_gone: false }),
        })
    }

    /// Returns a waker of both halves: a connection concerns both, whichever polled last.
    pub(super) fn waker(&self) -> Waker {
        Waker::from(self.wakers.clone())
    }

    /// Registers a half that waits for anything that may change.
    pub(super) fn register(&self, half: Half, cx: &Context<'_>) {
        self.wakers.register(half, cx);
    }

    pub(super) fn wake_both(&self) {
        self.wakers.wake_both();
    }

    #[inline]
    pub(super) fn has_command(&self) -> bool {
        self.command.load(Relaxed) != NOTHING
    }

    /// Takes the command, if there is one. A half registers before it looks, so a command that comes later wakes it.
    pub(super) fn take_command(&self) -> Option<Command> {
        match self.command.swap(NOTHING, SeqCst) {
            RECONNECT => Some(Command::Reconnect),
            #[cfg(target_arch = "wasm32")]
            STOP => Some(Command::Stop),
            CLOSE => Some(Command::Close),
            _ => None,
        }
    }

    /// The page stops running.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn stop(&self) {
        self.command(STOP);
    }

    fn command(&self, command: u8) {
        // A close that is not yet carried out is not overruled by a later `reconnect_now`.
        self.command.fetch_max(command, SeqCst);
        self.wake_both();
    }

    pub(super) fn state(&self) -> State {
        self.watched.borrow().state.clone()
    }

    pub(super) fn response(&self) -> Option<Arc<Parts>> {
        self.watched.borrow().response.clone()
    }

    pub(super) fn set(&self, state: State) {
        match &state {
            State::Reconnecting { attempt, cause, after } => {
                log::reconnecting(*attempt, cause, *after, self.state().is_connected());
            }
            State::Failed { cause } => log::reconnect_failed(cause),
            State::Disconnected | State::Connecting { .. } | State::Connected => {}
        }
        if !matches!((&state, self.state()), (State::Disconnected, State::Disconnected)) {
            self.change(|watched| watched.state = state);
        }
    }

    pub(super) fn connected(&self, response: Arc<Parts>) {
        log::reconnected(self.connections.fetch_add(1, Relaxed) + 1);
        self.change(|watched| (watched.state, watched.response) = (State::Connected, Some(response)));
    }

    /// The transport is dropped.
    pub(super) fn end(&self) {
        self.change(|watched| {
            watched.is_gone = true;
            if !matches!(watched.state, State::Failed { .. }) {
                watched.state = State::Disconnected;
            }
        });
        // A handle that lives on keeps no task alive.
        drop((self.wakers.reader.take(), self.wakers.writer.take()));
    }

    pub(super) fn lose(&self, messages: u64) {
        self.lost.fetch_add(messages, Relaxed);
    }

    /// Changes a copy, because the watch is locked while its value is replaced: an error or the extensions of a
    /// response may hold values of the user, whose drop must not run under that lock. Only the transport calls this.
    fn change(&self, change: impl FnOnce(&mut Watched)) {
        let mut watched = self.watched.borrow().clone();
        change(&mut watched);
        drop(self.watched.send_replace(watched));
    }
}

debug_fields!(Shared, |this| { state: this.state() });
