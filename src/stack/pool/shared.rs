use std::{
    future::Future,
    pin::Pin,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::Waker,
    time::Duration,
};

use futures_util::task::AtomicWaker;

use super::shelf::Shelf;
use crate::{Error, layer::reconnect::Backoff, service::Client};

/// A connect that runs on its own task.
pub(super) type Connecting<K> = Pin<Box<dyn Future<Output = Result<K, Error>> + Send>>;

/// Starts a connect.
pub(super) type Connector<K> = Box<dyn Fn() -> Connecting<K> + Send + Sync>;

/// The state that all handles, calls and connections of a pool share.
pub(super) struct Shared<T, Req, Res, C> {
    pub(super) shelf: Mutex<Shelf<Client<T, Req, Res, C>>>,
    pub(super) connect: Connector<Client<T, Req, Res, C>>,
    pub(super) min_connections: usize,
    pub(super) idle_timeout: Duration,
    pub(super) max_lifetime: Duration,
    pub(super) max_wait: Duration,
    /// How long the keeper waits between its attempts.
    pub(super) backoff: Backoff,
    /// Whether the keeper is running.
    pub(super) is_kept: AtomicBool,
    /// Wakes the keeper when there may be too few connections, or no handle.
    pub(super) keeper: AtomicWaker,
    /// The number of handles. Without one, connections end when their calls are done.
    pub(super) handles: AtomicUsize,
    /// The number of connections made so far.
    pub(super) connects: AtomicU64,
}

impl<T, Req, Res, C> Shared<T, Req, Res, C> {
    pub(super) fn shelf(&self) -> MutexGuard<'_, Shelf<Client<T, Req, Res, C>>> {
        // The shelf runs no user code that could panic, so it is consistent even if the lock is poisoned.
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives this connection no more calls; its current calls go on.
    pub(super) fn retire(&self, id: u64) {
        let (handle, wakers) = self.shelf().take(id);
        // Outside the lock: dropping the last handle of a client wakes its driver.
        drop(handle);
        wakers.into_iter().for_each(Waker::wake);
        self.keeper.wake();
    }

    /// Returns whether the pool has fewer connections than it must keep.
    pub(super) fn is_short(&self) -> bool {
        self.shelf().size() < self.min_connections
    }

    pub(super) fn has_handles(&self) -> bool {
        self.handles.load(Relaxed) > 0
    }
}
