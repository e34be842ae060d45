use std::{borrow::Cow, fmt, num::NonZeroUsize, sync::Arc, time::Duration};

use http::Request;
use tower::ServiceExt;
use tower_service::Service;

use super::{
    Pool,
    connections::{Connecting, Connections, Settings},
    slots::Limits,
};
use crate::{
    Connect, Error, Transport,
    layer::reconnect::Backoff,
    service::{ByTag, Client, Correlate, InOrder, Tagged},
};

/// The limits of a [`Pool`], and how it connects.
///
/// | limit | default |
/// |---|---|
/// | [`max_connections`](Self::max_connections) | 8 |
/// | [`min_connections`](Self::min_connections) | 0 |
/// | [`backoff`](Self::backoff) | exponential, from 100 ms to 30 s, full jitter |
/// | [`calls_per_connection`](Self::calls_per_connection) | 64 |
/// | [`max_waiting`](Self::max_waiting) | 1024 calls |
/// | [`max_wait`](Self::max_wait) | 10 s |
/// | [`idle_timeout`](Self::idle_timeout) | 60 s |
/// | [`max_lifetime`](Self::max_lifetime) | 1 h |
#[derive(Clone)]
pub struct PoolBuilder<S> {
    connector: S,
    request: Request<()>,
    max_connections: NonZeroUsize,
    min_connections: usize,
    backoff: Backoff,
    calls_per_connection: NonZeroUsize,
    max_waiting: usize,
    max_wait: Duration,
    idle_timeout: Duration,
    max_lifetime: Duration,
    name: Cow<'static, str>,
}

impl<S> PoolBuilder<S> {
    /// Creates a pool of the connections that `connector` makes with `request`.
    #[must_use]
    pub const fn new(connector: S, request: Request<()>) -> Self {
        Self {
            connector,
            request,
            max_connections: NonZeroUsize::MIN.saturating_add(7),
            min_connections: 0,
            backoff: Backoff::exponential(),
            calls_per_connection: NonZeroUsize::MIN.saturating_add(63),
            max_waiting: 1024,
            max_wait: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            max_lifetime: Duration::from_secs(3600),
            name: Cow::Borrowed("pool"),
        }
    }

    /// Sets the name in the [metrics](super#metrics), such as `orders`. Defaults to `pool`.
    #[must_use]
    pub fn named(mut self, name: impl Into<Cow<'static, str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the maximum number of connections. Defaults to 8. Connections that are being opened count, and so do idle
    /// and old ones that finish their calls.
    #[must_use]
    pub const fn max_connections(mut self, connections: NonZeroUsize) -> Self {
        self.max_connections = connections;
        self
    }

    /// Sets how many connections are kept open however long they are idle. Defaults to 0. The first ones are opened by
    /// calls, or by [`Pool::warm`]. Lost ones are replaced one after the other, with the delays of
    /// [`backoff`](Self::backoff).
    #[must_use]
    pub const fn min_connections(mut self, connections: usize) -> Self {
        self.min_connections = connections;
        self
    }

    /// Sets the delays before the attempts to replace lost connections of those that the pool
    /// [keeps](Self::min_connections). Defaults to [`Backoff::exponential`]. A connection that lasted 10 s resets the
    /// delays. Calls do not wait for the backoff: each call that finds no connection makes an attempt.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets how many calls may share a connection. Defaults to 64.
    #[must_use]
    pub const fn calls_per_connection(mut self, calls: NonZeroUsize) -> Self {
        self.calls_per_connection = calls;
        self
    }

    /// Sets how many calls may wait for a connection. Defaults to 1024; 0 is treated as 1, because the first call waits
    /// for its connect. A call over the limit fails at once with an error for which [`is_full`](Error::is_full) is
    /// true.
    #[must_use]
    pub const fn max_waiting(mut self, calls: usize) -> Self {
        self.max_waiting = calls;
        self
    }

    /// Sets how long a call may wait for a connection. Defaults to 10 s. After that it fails with an error for which
    /// [`is_timeout`](Error::is_timeout) is true.
    #[must_use]
    pub const fn max_wait(mut self, time: Duration) -> Self {
        self.max_wait = time;
        self
    }

    /// Sets how long a connection may be without a call before it is closed (up to a quarter later, and at least
    /// 40 ms). Defaults to 60 s.
    #[must_use]
    pub const fn idle_timeout(mut self, time: Duration) -> Self {
        self.idle_timeout = time;
        self
    }

    /// Sets the age at which a connection gets no more calls. Defaults to 1 h. It is closed when its calls are done.
    /// Another server behind a load balancer then gets its share.
    #[must_use]
    pub const fn max_lifetime(mut self, time: Duration) -> Self {
        self.max_lifetime = time;
        self
    }

    /// Creates the pool. Answers come in the order of their requests.
    pub fn in_order<Req, Res>(self) -> Pool<S::Transport, Req, Res, InOrder>
    where
        S: Connect<Future: Send> + Clone + Send + Sync + 'static,
        S::Transport: Transport<Req, In = Res> + Send + 'static,
    {
        self.build(InOrder)
    }

    /// Creates the pool. Requests and answers carry a tag, so answers may come in any order.
    pub fn by_tag<Req, Res>(self) -> Pool<S::Transport, Req, Res, ByTag>
    where
        S: Connect<Future: Send> + Clone + Send + Sync + 'static,
        S::Transport: Transport<Tagged<Req>, In = Tagged<Res>> + Send + 'static,
    {
        self.build(ByTag)
    }

    /// Creates the pool with your own correlation.
    pub fn build<Req, Res, C>(self, correlate: C) -> Pool<S::Transport, Req, Res, C>
    where
        S: Connect<Future: Send> + Clone + Send + Sync + 'static,
        S::Transport: Transport<C::Out, In = C::In> + Send + 'static,
        C: Correlate<Req, Res> + Clone + Send + Sync + 'static,
    {
        let limits = Limits {
            connections: self.max_connections.get(),
            calls_per_connection: self.calls_per_connection.get(),
            waiting: self.max_waiting.max(1),
        };
        let (connector, request, calls) = (self.connector, self.request, self.calls_per_connection);
        let connect = move || -> Connecting<_> {
            let connecting = connect(connector.clone(), request.clone());
            let correlate = correlate.clone();
            // One allocation per connection, which its handshake outweighs by far.
            Box::pin(async move { Ok(Client::with_max_in_flight(connecting.await?, correlate, calls)) })
        };
        let settings = Settings {
            connect: Box::new(connect),
            min_connections: self.min_connections.min(self.max_connections.get()),
            idle_timeout: self.idle_timeout,
            max_lifetime: self.max_lifetime,
            max_wait: self.max_wait,
            backoff: self.backoff,
            name: self.name.into(),
        };
        Pool::new(Arc::new(Connections::new(limits, settings)))
    }
}

async fn connect<S: Connect>(mut connector: S, request: Request<()>) -> Result<S::Transport, Error> {
    let ready = ServiceExt::<Request<()>>::ready(&mut connector).await.map_err(Into::into)?;
    Service::call(ready, request).await.map(http::Response::into_body).map_err(Into::into)
}

impl<S> fmt::Debug for PoolBuilder<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Only the host of the request is shown: its URL and its headers may contain a token.
        f.debug_struct("PoolBuilder")
            .field("name", &self.name)
            .field("host", &self.request.uri().host())
            .field("max_connections", &self.max_connections)
            .field("min_connections", &self.min_connections)
            .field("calls_per_connection", &self.calls_per_connection)
            .field("max_waiting", &self.max_waiting)
            .field("max_wait", &self.max_wait)
            .field("idle_timeout", &self.idle_timeout)
            .field("max_lifetime", &self.max_lifetime)
            .finish_non_exhaustive()
    }
}
