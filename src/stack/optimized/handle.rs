use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use super::layers::Agreed;
use crate::{
    layer::{
        compression, heartbeat,
        rate_limit::RateLimitCounts,
        reconnect::{ReconnectHandle, State},
        resume::ResumeHandle,
    },
    stack::Capabilities,
    sync::Mutex,
};

/// The agreement with the peer of the latest connection.
#[derive(Clone, Default)]
pub(super) struct Status(Arc<LatestConnection>);

struct LatestConnection {
    capabilities: AtomicU32,
    /// The largest message that the peer accepts.
    max_message: AtomicU32,
    /// The heartbeat of a later connection of a server's session.
    heartbeat: Mutex<Option<heartbeat::Monitor>>,
}

impl Default for LatestConnection {
    fn default() -> Self {
        Self { capabilities: AtomicU32::new(0), max_message: AtomicU32::new(u32::MAX), heartbeat: Mutex::new(None) }
    }
}

impl Status {
    /// Records a new connection.
    pub(super) fn connected(&self, agreed: Agreed) {
        // The two values are read apart, and each is right for some connection. Nothing is decided by both.
        self.0.capabilities.store(agreed.capabilities.bits(), Relaxed);
        self.0.max_message.store(agreed.max_message, Relaxed);
    }

    /// Records that the session has another connection, with a heartbeat of its own.
    #[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "the server's end is native"))]
    pub(super) fn watched_by(&self, monitor: heartbeat::Monitor) {
        // A monitor holds the observer, which is the user's recorder: it is dropped without the lock.
        let older = self.0.heartbeat.lock().replace(monitor);
        drop(older);
    }

    fn heartbeat(&self) -> Option<heartbeat::Monitor> {
        self.0.heartbeat.lock().clone()
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        Capabilities::from_bits(self.0.capabilities.load(Relaxed))
    }

    /// Returns the largest message that the peer accepts, in bytes, or [`u32::MAX`] if the peer has not announced it.
    #[inline]
    pub(super) fn max_message(&self) -> u32 {
        self.0.max_message.load(Relaxed)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Status")
            .field("capabilities", &self.capabilities())
            .field("max_message", &self.max_message())
            .field("heartbeat", &self.heartbeat())
            .finish()
    }
}

/// A handle to the status of an [`OptimizedTransport`](super::OptimizedTransport). It is cheap to clone and remains
/// valid after a [`split`](super::OptimizedTransport::split).
#[derive(Clone, Debug)]
pub struct OptimizedHandle {
    pub(super) status: Status,
    pub(super) heartbeat: heartbeat::Monitor,
    pub(super) compression: Option<compression::Stats>,
    pub(super) rate_limit: Option<RateLimitCounts>,
    /// The handle of a client's reconnect layer.
    pub(super) reconnect: Option<ReconnectHandle>,
    pub(super) resume: Option<ResumeHandle>,
}

impl OptimizedHandle {
    /// Returns the capabilities of the latest connection. [`Capabilities::NONE`] before the first connection, and with
    /// a peer that does not know this crate.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.status.capabilities()
    }

    /// Returns the round-trip time, once a ping was answered.
    #[must_use]
    pub fn rtt(&self) -> Option<heartbeat::Rtt> {
        self.status.heartbeat().map_or_else(|| self.heartbeat.rtt(), |newest| newest.rtt())
    }

    /// Returns how much compression has saved. Returns `None` if it is off. A server's connections share the
    /// statistics.
    #[must_use]
    pub fn compression(&self) -> Option<&compression::Stats> {
        self.compression.as_ref()
    }

    /// Returns how much the rate limit has let through and held up. Returns `None` if there is no rate limit. A
    /// server's connections share the counts.
    #[must_use]
    pub fn rate_limit(&self) -> Option<&RateLimitCounts> {
        self.rate_limit.as_ref()
    }

    /// Returns a client's state and its changes, and [`reconnect_now`](ReconnectHandle::reconnect_now). Returns `None`
    /// on a server.
    #[must_use]
    pub fn reconnect(&self) -> Option<&ReconnectHandle> {
        self.reconnect.as_ref()
    }

    /// Returns a client's state. A server's end is [`Connected`](State::Connected) for as long as it exists.
    #[must_use]
    pub fn state(&self) -> State {
        self.reconnect.as_ref().map_or(State::Connected, ReconnectHandle::state)
    }

    /// Returns a client's session: its name, and the verdict after each reconnect. Returns `None` on a server, and if
    /// resuming is off.
    #[must_use]
    pub fn resume(&self) -> Option<&ResumeHandle> {
        self.resume.as_ref()
    }
}
