use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
};

use atomic_waker::AtomicWaker;

use crate::{Error, log};

/// Shuts down a [`Server`](super::Server) from elsewhere. [`Server::handle`](super::Server::handle) creates it.
#[derive(Clone)]
pub struct Handle(Arc<ServerState>);

/// The state that a server and its handles share.
#[derive(Default)]
struct ServerState {
    is_shutting_down: AtomicBool,
    server: AtomicWaker,
    rejected_answers: AtomicU64,
    unreadable_requests: AtomicU64,
}

impl Handle {
    pub(super) fn new() -> Self {
        Self(Arc::default())
    }

    /// Asks the server to stop reading, finish the requests in flight, flush, close and complete. Further calls have no
    /// effect.
    pub fn graceful_shutdown(&self) {
        self.0.is_shutting_down.store(true, Ordering::SeqCst);
        self.0.server.wake();
    }

    /// Returns how many answers the transport has rejected so far, including those that were replaced.
    #[must_use]
    pub fn rejected_answers(&self) -> u64 {
        self.0.rejected_answers.load(Ordering::Relaxed)
    }

    /// Returns how many requests could not be read so far.
    #[must_use]
    pub fn unreadable_requests(&self) -> u64 {
        self.0.unreadable_requests.load(Ordering::Relaxed)
    }

    /// Registers the server's task, then returns whether the server is to shut down.
    pub(super) fn poll_shutdown(&self, server: &Waker) -> bool {
        self.0.server.register(server);
        self.0.is_shutting_down.load(Ordering::SeqCst)
    }

    pub(super) fn answer_rejected(&self, error: &Error) {
        self.0.rejected_answers.fetch_add(1, Ordering::Relaxed);
        log::answer_rejected(error);
    }

    pub(super) fn request_unreadable(&self, error: &Error) {
        self.0.unreadable_requests.fetch_add(1, Ordering::Relaxed);
        log::request_unreadable(error);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("is_shutting_down", &self.0.is_shutting_down)
            .field("rejected_answers", &self.0.rejected_answers)
            .field("unreadable_requests", &self.0.unreadable_requests)
            .finish()
    }
}
