use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use futures_core::Stream;
use futures_util::task::AtomicWaker;
use http::response::Parts;

use super::watch::{CLOSE, RECONNECT, Shared};
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
