use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, Waker},
};

use tower_service::Service;

use super::{call::PoolCall, connection, shared::Shared};
use crate::{Error, Transport, service::Correlate};

/// Connections to one target, kept open and shared: a cloneable `Service<Req, Response = Res>`.
/// [`PoolBuilder`](super::PoolBuilder) creates it. See the [module](super) for the complete documentation.
///
/// It is always ready. A call waits for a connection, within the pool's limits, and then for its answer.
pub struct Pool<T, Req, Res, C> {
    shared: Arc<Shared<T, Req, Res, C>>,
}

impl<T, Req, Res, C> Pool<T, Req, Res, C> {
    pub(super) fn new(shared: Arc<Shared<T, Req, Res, C>>) -> Self {
        shared.handles.fetch_add(1, Relaxed);
        Self { shared }
    }

    /// Returns the number of open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.shelf().open()
    }

    /// Returns the number of calls in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.shared.shelf().in_flight()
    }

    /// Returns the number of calls that wait for a connection.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.shared.shelf().waiting()
    }

    /// Returns the number of connections made so far.
    #[must_use]
    pub fn connects(&self) -> u64 {
        self.shared.connects.load(Relaxed)
    }
}

impl<T, Req, Res, C> Pool<T, Req, Res, C>
where
    C: Correlate<Req, Res> + Send + 'static,
    T: Transport<C::Out, In = C::In> + Send + 'static,
    C::In: Send,
    Req: Send + 'static,
    Res: Send + 'static,
{
    /// Opens connections until there are as many as the pool keeps
    /// ([`min_connections`](super::PoolBuilder::min_connections)), without waiting for them. After that the pool
    /// maintains the number automatically.
    pub fn warm(&self) {
        loop {
            let mut shelf = self.shared.shelf();
            if shelf.size() >= self.shared.min_connections || !shelf.begin() {
                return;
            }
            drop(shelf);
            connection::open(&self.shared);
        }
    }
}

impl<T, Req, Res, C> Service<Req> for Pool<T, Req, Res, C>
where
    C: Correlate<Req, Res> + Send + 'static,
    T: Transport<C::Out, In = C::In> + Send + 'static,
    C::In: Send,
    Req: Send + 'static,
    Res: Send + 'static,
{
    type Response = Res;
    type Error = Error;
    type Future = PoolCall<T, Req, Res, C>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        PoolCall::new(self.shared.clone(), request)
    }
}

impl<T, Req, Res, C> Clone for Pool<T, Req, Res, C> {
    fn clone(&self) -> Self {
        Self::new(self.shared.clone())
    }
}

impl<T, Req, Res, C> Drop for Pool<T, Req, Res, C> {
    fn drop(&mut self) {
        if self.shared.handles.fetch_sub(1, Relaxed) == 1 {
            let (handles, wakers) = self.shared.shelf().take_all();
            // Dropped outside the lock. The connections end when their calls are done.
            drop(handles);
            wakers.into_iter().for_each(Waker::wake);
            self.shared.keeper.wake();
        }
    }
}

impl<T, Req, Res, C> fmt::Debug for Pool<T, Req, Res, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shelf = self.shared.shelf();
        let (connections, in_flight, waiting) = (shelf.open(), shelf.in_flight(), shelf.waiting());
        drop(shelf);
        f.debug_struct("Pool")
            .field("connections", &connections)
            .field("in_flight", &in_flight)
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}
