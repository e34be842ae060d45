use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

/// The counts of a rate limit, over all transports or services of one layer. Clones show the same counts.
///
/// A connection adds the messages that it admitted 64 at a time. It adds the rest when a message waits or is refused,
/// when the stream is `Pending`, or when the transport is closed or dropped. Until then up to 63 messages of each
/// direction are not counted yet. Services count each call at once.
#[derive(Clone, Debug, Default)]
pub struct RateLimitCounts(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    admitted: AtomicU64,
    waited: AtomicU64,
    rejected: AtomicU64,
}

impl RateLimitCounts {
    /// Returns how many messages or calls passed. Those that cost nothing are not counted.
    #[must_use]
    pub fn admitted(&self) -> u64 {
        self.0.admitted.load(Relaxed)
    }

    /// Returns how often a message or call had to wait.
    #[must_use]
    pub fn waited(&self) -> u64 {
        self.0.waited.load(Relaxed)
    }

    /// Returns how many messages or calls were refused.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.0.rejected.load(Relaxed)
    }

    pub(super) fn reject(&self) {
        self.0.rejected.fetch_add(1, Relaxed);
    }
}

/// The counts of one direction of one connection, before they are added to the shared ones: an atomic addition per
/// message would cost too much.
#[derive(Debug)]
pub(super) struct Tally {
    admitted: u32,
    /// The messages that this direction of this connection held up or rejected, for the log.
    limited: u32,
    shared: RateLimitCounts,
}

impl Tally {
    pub(super) fn new(shared: RateLimitCounts) -> Self {
        Self { admitted: 0, limited: 0, shared }
    }

    #[inline]
    pub(super) fn admit(&mut self) {
        self.admitted += 1;
        // Connections that share the counts would otherwise contend for one cache line with each message.
        if self.admitted >= 64 {
            self.report();
        }
    }

    /// Counts a message that has to wait. Returns how many this connection has had over its limit.
    pub(super) fn wait(&mut self) -> u32 {
        self.settle();
        self.shared.0.waited.fetch_add(1, Relaxed);
        self.limit()
    }

    /// Counts a rejected message. Returns how many this connection has had over its limit.
    pub(super) fn reject(&mut self) -> u32 {
        self.settle();
        self.shared.reject();
        self.limit()
    }

    fn limit(&mut self) -> u32 {
        self.limited = self.limited.saturating_add(1);
        self.limited
    }

    #[inline]
    pub(super) fn settle(&mut self) {
        if self.admitted > 0 {
            self.report();
        }
    }

    fn report(&mut self) {
        self.shared.0.admitted.fetch_add(u64::from(self.admitted), Relaxed);
        self.admitted = 0;
    }
}

impl Clone for Tally {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone())
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        self.settle();
    }
}
