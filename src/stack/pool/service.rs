use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::sync::oneshot;
use tower_service::Service;

use super::{
    connections::{Connections, Granted},
    metrics::Reason,
    slots::{Admission, Grant},
};
use crate::{
    Error, Transport,
    rt::{Instant, Timer},
    service::{Call, Client, Correlate},
};

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
        self.connections.slots.lock().open()
    }

    /// Returns the number of calls in flight.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.connections.slots.lock().in_flight()
    }

    /// Returns the number of calls that wait for a connection.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.connections.slots.lock().waiting()
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
        let slots = self.connections.slots.lock();
        let (connections, in_flight, waiting) = (slots.open(), slots.in_flight(), slots.waiting());
        drop(slots);
        f.debug_struct("Pool")
            .field("connections", &connections)
            .field("in_flight", &in_flight)
            .field("waiting", &waiting)
            .finish_non_exhaustive()
    }
}

/// The future of a call of a [`Pool`](super::Pool): waits for a connection, then for the answer. Dropping it abandons
/// the call.
#[must_use = "futures do nothing unless awaited"]
pub struct PoolCall<T, Req, Res, C> {
    connections: Arc<Connections<T, Req, Res, C>>,
    request: Option<Req>,
    max_wait: Timer,
    stage: Stage<T, Req, Res, C>,
}

enum Stage<T, Req, Res, C> {
    /// Not polled yet, done, or about to ask for a connection.
    Idle,
    /// In line for a connection.
    Waiting(InLine<Client<T, Req, Res, C>>),
    /// The connection in use, and the call on it.
    Calling(u64, Call<T, Req, Res, C>),
}

/// A call's place in line.
struct InLine<K> {
    place: u64,
    since: Instant,
    /// Tells the end of the wait.
    grant: oneshot::Receiver<Grant<K>>,
}

// The request is moved, never pinned; a client's call is `Unpin`.
impl<T, Req, Res, C> Unpin for PoolCall<T, Req, Res, C> {}

impl<T, Req, Res, C> PoolCall<T, Req, Res, C> {
    pub(super) fn new(connections: Arc<Connections<T, Req, Res, C>>, request: Req) -> Self {
        Self { connections, request: Some(request), max_wait: Timer::new(), stage: Stage::Idle }
    }

    /// Removes the call from the line, or from the load of its connection.
    fn leave(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle => {}
            Stage::Waiting(mut line) => {
                self.connections.metrics.waited(line.since.elapsed());
                let left = self.connections.slots.lock().leave(line.place);
                drop(left);
                line.grant.close();
                // The grant may have come just before the close.
                if let Ok(Ok((id, client))) = line.grant.try_recv() {
                    drop(client);
                    self.connections.release(id);
                }
            }
            Stage::Calling(id, mut call) => {
                // First the call, then its room: the next call finds the client's place free. In order, the place of an
                // abandoned call stays taken until its answer comes, and its room with it.
                let is_kept = call.abandon();
                drop(call);
                match is_kept {
                    true => self.connections.abandon(id),
                    false => self.connections.release(id),
                }
            }
        }
    }
}

impl<T, Req, Res, C> PoolCall<T, Req, Res, C>
where
    C: Correlate<Req, Res> + Send + 'static,
    T: Transport<C::Out, In = C::In> + Send + 'static,
    C::In: Send,
    Req: Send + 'static,
    Res: Send + 'static,
{
    fn poll_grant(&mut self, cx: &mut Context<'_>) -> Poll<Result<Granted<T, Req, Res, C>, Error>> {
        loop {
            let Stage::Waiting(InLine { since, grant, .. }) = &mut self.stage else {
                match self.connections.admit() {
                    Admission::Use(id, client) => return Poll::Ready(Ok((id, client))),
                    Admission::Refuse(error) => return Poll::Ready(Err(error.into_unsent())),
                    Admission::Wait(place, grant) => {
                        self.stage = Stage::Waiting(InLine { place, since: Instant::now(), grant });
                    }
                }
                continue;
            };
            let since = *since;
            match Pin::new(grant).poll(cx) {
                Poll::Pending => return self.poll_max_wait(cx).map(Err),
                Poll::Ready(granted) => {
                    self.stage = match granted {
                        Ok(granted) => {
                            self.connections.metrics.waited(since.elapsed());
                            self.stage = Stage::Idle;
                            return Poll::Ready(granted.map_err(Error::into_unsent));
                        }
                        // The last handle of the pool is gone, and its connections with it: this call opens another.
                        Err(_) => Stage::Idle,
                    }
                }
            }
        }
    }

    fn poll_max_wait(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        let limit = self.connections.max_wait();
        if !self.max_wait.is_set() {
            self.max_wait.set(limit);
        }
        ready!(self.max_wait.poll(cx));
        let error = format!("no connection of the pool was free within {limit:?} (PoolBuilder::max_wait)");
        Poll::Ready(Error::timeout(error).into_unsent())
    }

    /// Gets a connection and starts the call on it.
    fn poll_start(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            let (id, mut client) = ready!(self.poll_grant(cx))?;
            // The pool counts a call at least as long as its client does: only a connection that has ended is not
            // ready.
            match (client.poll_ready(cx), self.request.take()) {
                (Poll::Ready(Ok(())), Some(request)) => {
                    self.stage = Stage::Calling(id, client.call(request));
                    return Poll::Ready(Ok(()));
                }
                (_, request) => {
                    self.request = request;
                    // Retired, so that the next round of this loop finds another connection.
                    drop(client);
                    self.connections.retire(id, Reason::Lost);
                }
            }
        }
    }
}

impl<T, Req, Res, C> Future for PoolCall<T, Req, Res, C>
where
    C: Correlate<Req, Res> + Send + 'static,
    T: Transport<C::Out, In = C::In> + Send + 'static,
    C::In: Send,
    Req: Send + 'static,
    Res: Send + 'static,
{
    type Output = Result<Res, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if !matches!(this.stage, Stage::Calling(..)) {
            if this.request.is_none() {
                return Poll::Pending;
            }
            if let Err(error) = ready!(this.poll_start(cx)) {
                this.leave();
                this.request = None;
                return Poll::Ready(Err(error));
            }
        }
        let Stage::Calling(_, call) = &mut this.stage else { return Poll::Pending };
        let answer = ready!(Pin::new(call).poll(cx));
        this.leave();
        Poll::Ready(answer)
    }
}

impl<T, Req, Res, C> Drop for PoolCall<T, Req, Res, C> {
    fn drop(&mut self) {
        self.leave();
    }
}

debug_fields!([T, Req, Res, C] PoolCall<T, Req, Res, C>, |this| {
    has_connection: matches!(this.stage, Stage::Calling(..)),
});
