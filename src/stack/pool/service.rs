use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use tower_service::Service;

use super::{call::PoolCall, connections::Connections};
use crate::{Error, Transport, service::Correlate};

/// Connections to one target, kept open and shared: a cloneable `Service<Req, Response = Res>`.
/// [`PoolBuilder`](super::PoolBuilder) creates it. See the [module](super) for the complete documentation.
///
/// It is always ready. A call waits for a connection, within the pool's limits, and then for its answer.
pub struct Pool<T, Req, Res, C> {
    connections: Arc<Connections<T, Req, Res, C>>,
}

impl<T, Req, Res, C> Pool<T, Req, Res, C> {
    pub(super) fn new(connections: Arc<Connections<T, Req, Res, C>>) -> Self {
        connections.add_handle();
        Self { connections }
    }

    /// Returns the number of open connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.slots().open()
    }

    /// Returns the number of calls in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.connections.slots().in_flight()
    }

    /// Returns the number of calls that wait for a connection.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.connections.slots().waiting()
    }

    /// Returns the number of connections made so far.
    #[must_use]
    pub fn connects(&self) -> u64 {
        self.connections.connects()
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
        self.connections.fill();
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
        PoolCall::new(self.connections.clone(), request)
    }
}

impl<T, Req, Res, C> Clone for Pool<T, Req, Res, C> {
    fn clone(&self) -> Self {
        Self::new(self.connections.clone())
    }
}

impl<T, Req, Res, C> Drop for Pool<T, Req, Res, C> {
    fn drop(&mut self) {
        self.connections.drop_handle();
    }
}

impl<T, Req, Res, C> fmt::Debug for Pool<T, Req, Res, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots = self.connections.slots();
        let (connections, in_flight, waiting) = (slots.open(), slots.in_flight(), slots.waiting());
        drop(slots);
        f.debug_struct("Pool")
            .field("connections", &connections)
            .field("in_flight", &in_flight)
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}
