use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::Waker,
    time::Duration,
};

use super::shelf::Shelf;
use crate::{Error, service::Client};

/// A connect that runs on a task of its own.
pub(super) type Connecting<K> = Pin<Box<dyn Future<Output = Result<K, Error>> + Send>>;

/// What begins one.
pub(super) type Connector<K> = Box<dyn Fn() -> Connecting<K> + Send + Sync>;

/// What all handles, calls and connections of a pool share.
pub(super) struct Shared<T, Req, Res, C> {
    pub(super) shelf: Mutex<Shelf<Client<T, Req, Res, C>>>,
    pub(super) connect: Connector<Client<T, Req, Res, C>>,
    pub(super) min_connections: usize,
    pub(super) idle_timeout: Duration,
    pub(super) max_lifetime: Duration,
    pub(super) max_wait: Duration,
    /// The handles. Without one, connections end when their calls are done.
    pub(super) handles: AtomicUsize,
    /// The connections that were made so far.
    pub(super) connects: AtomicU64,
}

impl<T, Req, Res, C> Shared<T, Req, Res, C> {
    pub(super) fn shelf(&self) -> MutexGuard<'_, Shelf<Client<T, Req, Res, C>>> {
        // The shelf runs no code of a user that could panic; whatever did, it is whole.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// No call gets this connection any more; those that have it go on.
    pub(super) fn retire(&self, id: u64) {
        let (handle, wakers) = self.shelf().take(id);
        // Outside the lock: dropping the last handle of a client wakes its driver.
        drop(handle);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(super) fn has_handles(self: &Arc<Self>) -> bool {
        self.handles.load(Relaxed) > 0
    }
}
