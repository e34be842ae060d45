use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use crate::transport::backlog::Backlog;

/// How a queue stands, readable from anywhere: it is cheap to clone, and works while something else owns the transport.
///
/// The three figures are each exact, and not of one instant.
#[derive(Clone, Debug, Default)]
pub struct QueueStats(Arc<Figures>);

#[derive(Debug, Default)]
struct Figures {
    queued: AtomicUsize,
    bytes: AtomicUsize,
    dropped: AtomicU64,
}

impl QueueStats {
    /// How many messages wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.0.queued.load(Relaxed)
    }

    /// How many bytes wait, as the queue measures them.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.0.bytes.load(Relaxed)
    }

    /// How many messages were dropped since the beginning: by the queue's policy, because the transport refused them, or
    /// because it ended first.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Relaxed)
    }

    /// One writes: the owner of the queue.
    pub(super) fn set<Out>(&self, backlog: &Backlog<Out>) {
        self.0.queued.store(backlog.len(), Relaxed);
        self.0.bytes.store(backlog.bytes(), Relaxed);
        self.0.dropped.store(backlog.dropped(), Relaxed);
    }
}
