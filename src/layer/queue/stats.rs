use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use crate::transport::backlog::Backlog;

/// The state of a queue, readable from anywhere: it is cheap to clone, and works while other code owns the transport.
///
/// Each of the three values is exact, but they are not from the same instant.
#[derive(Clone, Debug, Default)]
pub struct QueueStats(Arc<Figures>);

#[derive(Debug, Default)]
struct Figures {
    queued: AtomicUsize,
    bytes: AtomicUsize,
    dropped: AtomicU64,
}

impl QueueStats {
    /// Returns the number of waiting messages.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.0.queued.load(Relaxed)
    }

    /// Returns the number of waiting bytes, as the queue measures them.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.0.bytes.load(Relaxed)
    }

    /// Returns how many messages were dropped so far: by the queue's policy, because the transport rejected them, or
    /// because it ended first.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Relaxed)
    }

    /// Only the owner of the queue writes.
    pub(super) fn set<Out>(&self, backlog: &Backlog<Out>) {
        self.0.queued.store(backlog.len(), Relaxed);
        self.0.bytes.store(backlog.bytes(), Relaxed);
        self.0.dropped.store(backlog.dropped(), Relaxed);
    }
}
