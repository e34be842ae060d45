use std::{future::Future, net::IpAddr, sync::Arc};

use http::{Extensions, HeaderValue, request};

use super::{
    OptimizedHandle, OptimizedTransport, greeting,
    handle::Status,
    layers::{self, Agreement, OuterConfig, Wire, WireConfig},
    metrics::{StackMetrics, with_counts},
    shutdown::GracefulShutdown,
};
use crate::{
    CloseCode, CloseFrame, Error, Limits, Message, QueueConfig, Transport,
    layer::{
        heartbeat::{HeartbeatLayer, Monitor},
        optional::Optional,
        resume::{Accepted, SessionStore},
        trace::{FRESH, Meter, RESUME_BYTES, RESUME_SESSIONS, RESUME_WAITING, RESUMED, Role, TraceLayer},
    },
    log,
    stack::hello::SUBPROTOCOL,
    transport::{
        drain::{Attended, Drain, Seat},
        websocket::{WebSocket, WebSocketService},
    },
};
use tower_layer::Layer;

/// The server's end: makes an [`OptimizedTransport`] of each connection, or hands the connection to the session that it
/// belongs to. Clones share the sessions.
pub struct OptimizedAcceptor<T = WebSocket> {
    config: Arc<Config>,
    store: SessionStore<Wire<T>>,
    drain: Drain,
    metrics: Arc<StackMetrics>,
}

/// The settings of a server's end, from its builder.
pub(super) struct Config {
    pub(super) wire: WireConfig,
    pub(super) outer: OuterConfig,
    pub(super) heartbeat: Option<HeartbeatLayer>,
    pub(super) trace: TraceLayer,
    pub(super) name: Arc<str>,
    pub(super) limits: Limits,
    pub(super) transport_limits: Limits,
    pub(super) queue: QueueConfig<Message>,
}

/// The owner of a session.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Client<'a> {
    Anyone,
    /// The address of a client of which nothing else is known.
    Address(IpAddr),
    /// Only this owner can resume the session, and the session counts for it.
    Owner(&'a [u8]),
    /// The session counts for this key.
    Key(&'a [u8]),
}

impl Client<'_> {
    /// Returns the client of a request without an owner and a key.
    pub(crate) fn at(extensions: &Extensions) -> Self {
        log::peer(extensions).map_or(Self::Anyone, |peer| Self::Address(peer.address()))
    }
}

impl<T> OptimizedAcceptor<T> {
    pub(super) fn new(config: Config, store: SessionStore<Wire<T>>) -> Self {
        let compression = config.wire.compression.as_ref().map(|layer| layer.stats());
        let rate_limit = config.outer.rate_limit.as_ref().map(|layer| layer.counts());
        let metrics = StackMetrics::new(config.name.clone(), Role::Server, move |meter| {
            with_counts(meter, compression.clone(), rate_limit.clone())
        });
        Self { config: Arc::new(config), store, drain: Drain::new(), metrics }
    }

    /// Returns the number of sessions, including those whose clients are disconnected.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.store.len()
    }

    /// Returns the limits of each connection.
    #[cfg(feature = "adaptive")]
    pub(crate) fn limits(&self) -> Limits {
        self.config.limits
    }

    /// Returns the limits for your own upgrade: see
    /// [`OptimizedBuilder::transport_limits`](super::OptimizedBuilder::transport_limits).
    #[must_use]
    pub fn transport_limits(&self) -> Limits {
        self.config.transport_limits
    }

    /// Ends all transports that this acceptor or a clone has made and will make, because the server is shutting down.
    /// Each one sends a close message of code 1001 after the messages that it has accepted. Its stream goes on with the
    /// messages that the client has sent before it knew, for at most [`Limits::close`]. Then it returns an error for
    /// which [`is_closed`](Error::is_closed) is true, and ends.
    ///
    /// It returns at once. The handlers notice when they use their transports, and those that are waiting in one are
    /// woken. A transport whose peer does not read or is disconnected ends with the heartbeat and the [session's time
    /// to live](super::OptimizedBuilder::session_ttl), unless it is dropped earlier.
    pub fn close(&self) {
        self.drain.start(CloseFrame::new(CloseCode::AWAY, "the server goes away"));
    }

    /// Returns the drain that the sessions belong to. It ends them with a frame of your choice, waits for them and cuts
    /// those that do not end in time. [`close`](Self::close) is its [`start`](Drain::start) with 1001. Share it with
    /// the other listeners of the server, and one call ends all of them.
    ///
    /// A session counts as one connection, together with the handler that [`upgrade`](OptimizedAcceptor::upgrade) has
    /// started for it.
    #[must_use]
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// Makes this acceptor and the clones that are made of it later use `drain`, so that one handle drains several
    /// acceptors and other services. Call it before the first connection.
    #[must_use]
    pub fn with_drain(mut self, drain: &Drain) -> Self {
        self.drain = drain.clone();
        self
    }

    /// Waits until the acceptor is [closed](Self::close).
    ///
    /// # Cancel safety
    ///
    /// Dropping this future has no effect.
    pub async fn closed(&self) {
        self.drain.started().await;
    }

    /// Returns whether the acceptor was [closed](Self::close).
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.drain.is_started()
    }
}

impl<T> OptimizedAcceptor<T>
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin + Send + 'static,
{
    /// Accepts a connection over any transport of messages, as [`accept`](OptimizedAcceptor::accept) does for a
    /// WebSocket. `is_known` states whether the handshake chose the subprotocol [`OptimizedAcceptor::SUBPROTOCOL`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`accept`](OptimizedAcceptor::accept).
    ///
    /// # Cancel safety
    ///
    /// The same as [`accept`](OptimizedAcceptor::accept).
    pub async fn accept_over(&self, transport: T, is_known: bool) -> Result<Option<OptimizedTransport<T>>, Error> {
        // Boxed, so that the exchange takes no room in the session's task later.
        Box::pin(self.accept_for(transport, is_known, Client::Anyone, 0, self.drain.enter())).await
    }

    /// Accepts as [`accept_over`](Self::accept_over) does, for an authenticated client. Only the same `owner` can
    /// resume its session, over any transport.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`accept`](OptimizedAcceptor::accept).
    ///
    /// # Cancel safety
    ///
    /// The same as [`accept`](OptimizedAcceptor::accept).
    pub async fn accept_over_as(
        &self,
        transport: T,
        is_known: bool,
        owner: impl AsRef<[u8]>,
    ) -> Result<Option<OptimizedTransport<T>>, Error> {
        Box::pin(self.accept_for(transport, is_known, Client::Owner(owner.as_ref()), 0, self.drain.enter())).await
    }

    /// Accepts as [`accept_over`](Self::accept_over) does, and counts the session for `key`: see
    /// [`SessionStore::accept_from`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`accept`](OptimizedAcceptor::accept).
    ///
    /// # Cancel safety
    ///
    /// The same as [`accept`](OptimizedAcceptor::accept).
    pub async fn accept_over_from(
        &self,
        transport: T,
        is_known: bool,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<OptimizedTransport<T>>, Error> {
        Box::pin(self.accept_for(transport, is_known, Client::Key(key.as_ref()), 0, self.drain.enter())).await
    }

    /// Accepts as [`accept_over`](Self::accept_over) does, for a transport that has the
    /// [`transport_limits`](Self::transport_limits), with the handler's seat. The handler and its session then count as
    /// one.
    pub(crate) async fn accept_own(
        &self,
        transport: T,
        is_known: bool,
        client: Client<'_>,
        seat: Arc<Seat>,
    ) -> Result<Option<OptimizedTransport<T>>, Error> {
        let config = &*self.config;
        // Only a transport that this crate has configured has the room; one of the caller may have any limit.
        let headroom = config.transport_limits.message - config.limits.message;
        Box::pin(self.accept_for(transport, is_known, client, headroom, seat)).await
    }

    async fn accept_for(
        &self,
        mut transport: T,
        is_known: bool,
        client: Client<'_>,
        headroom: usize,
        seat: Arc<Seat>,
    ) -> Result<Option<OptimizedTransport<T>>, Error> {
        self.metrics.start_with(|meter| with_sessions(meter, &self.store));
        let config = &*self.config;
        let mut layers = config.wire.clone();
        layers.headroom = headroom;
        let agreement = if is_known {
            match greeting::welcome(&mut transport, layers.hello(), config.limits.handshake).await {
                Ok(theirs) => layers.agree(theirs),
                Err(error) => {
                    // The client is told the reason, because it would otherwise reconnect in the same way forever.
                    greeting::refuse(transport, &error, config.limits.close).await;
                    return Err(error);
                }
            }
        } else {
            Agreement::plain(None)
        };
        let agreed = agreement.agreed();
        let heartbeat = Monitor::with_observer(self.metrics.observer());
        layers.heartbeat = config.heartbeat.clone().map(|layer| layer.monitor(heartbeat.clone()));
        let wire = layers.layer(transport, agreement);
        let status = Status::default();
        status.connected(agreed);
        let link = if agreed.capabilities.resume() {
            let accepted = match client {
                Client::Owner(owner) => self.store.accept_as(wire, owner).await?,
                Client::Key(key) => self.store.accept_from(wire, key).await?,
                Client::Address(address) => self.store.accept_at(wire, address).await?,
                Client::Anyone => self.store.accept(wire).await?,
            };
            match accepted {
                Accepted::New(mut session) => {
                    // A later connection may agree on less, so the handle shows the agreement of the newest one.
                    let status = status.clone();
                    let leaving = seat.clone();
                    // The hint tells the client that the bye is exact.
                    session.leaves_if(move || leaving.frame().is_some_and(|frame| frame.return_after().is_some()));
                    session.on_adopted(move |wire: &Wire<T>| {
                        if let Some((agreed, monitor)) = layers::inspect(wire) {
                            status.connected(agreed);
                            status.watched_by(monitor);
                        }
                    });
                    Optional::On { transport: session }
                }
                // The session's own task has taken the connection, and its handler is running already.
                Accepted::Resumed => return Ok(None),
            }
        } else {
            Optional::Off { transport: wire }
        };
        let handle = OptimizedHandle {
            status,
            heartbeat,
            compression: config.wire.compression.as_ref().map(|layer| layer.stats()),
            rate_limit: config.outer.rate_limit.as_ref().map(|layer| layer.counts()),
            reconnect: None,
            resume: None,
        };
        let traced = config.trace.clone().propagate(agreed.capabilities.trace_context()).layer(link);
        let shutdown = GracefulShutdown::new(seat, config.limits.close);
        let (stack, queue) = (config.outer.layer(traced), config.queue.clone());
        Ok(Some(OptimizedTransport::server(stack, shutdown, handle, queue, self.metrics.clone())))
    }
}

impl<S> OptimizedAcceptor<WebSocket<S>>
where
    WebSocket<S>: Transport<Message, In = Message, TransportError = Error> + Unpin + Send + 'static,
{
    /// Accepts a connection. If the handshake chose the subprotocol of [`OptimizedTransport`], it says hello and adds
    /// the layers that both ends have on. Returns `None` if the client resumed a session: the handler of that session
    /// continues with this connection, and nothing is left to do here.
    ///
    /// The upgrade must [offer](crate::transport::websocket::WebSocketService::subprotocol) the subprotocol
    /// [`OptimizedAcceptor::SUBPROTOCOL`], as [`upgrade`](OptimizedAcceptor::upgrade) does.
    ///
    /// # Errors
    ///
    /// Returns an error for which one of these is true:
    ///
    /// - [`is_timeout`](Error::is_timeout): the client did not say hello, or did not open a session, within
    ///   [`Limits::handshake`].
    /// - [`is_protocol`](Error::is_protocol): the client agreed to the subprotocol and does not speak it. It is told
    ///   with a close message of code 1002.
    /// - [`is_full`](Error::is_full): there are too many sessions.
    /// - [`is_closed`](Error::is_closed): the connection ended.
    ///
    /// # Cancel safety
    ///
    /// Dropping this future drops the connection, unless its session has taken it.
    pub async fn accept(&self, websocket: WebSocket<S>) -> Result<Option<OptimizedTransport<WebSocket<S>>>, Error> {
        let is_known = websocket.subprotocol() == Some(SUBPROTOCOL);
        self.accept_over(websocket, is_known).await
    }

    /// Accepts as [`accept`](Self::accept) does, for an authenticated client. Only the same `owner` can resume its
    /// session.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`accept`](Self::accept).
    ///
    /// # Cancel safety
    ///
    /// The same as [`accept`](Self::accept).
    pub async fn accept_as(
        &self,
        websocket: WebSocket<S>,
        owner: impl AsRef<[u8]>,
    ) -> Result<Option<OptimizedTransport<WebSocket<S>>>, Error> {
        let is_known = websocket.subprotocol() == Some(SUBPROTOCOL);
        self.accept_over_as(websocket, is_known, owner).await
    }
}

impl OptimizedAcceptor {
    /// The subprotocol by which two ends detect that both know the stack.
    pub const SUBPROTOCOL: &str = SUBPROTOCOL;

    /// Returns a [`WebSocketService`] for hyper and axum. Its `handler` gets each new session, with the parts of its
    /// request. A client that resumes a session continues with the handler that it had. A connection that does not
    /// become a session ends with its error, which is logged.
    ///
    /// Sessions have no owner here. If clients authenticate, use [`WebSocketService::new`] with
    /// [`SUBPROTOCOL`](Self::SUBPROTOCOL) and [`accept_as`](OptimizedAcceptor::accept_as) instead.
    pub fn upgrade<H, F>(
        &self,
        handler: H,
    ) -> WebSocketService<impl FnOnce(WebSocket, request::Parts) -> Handled + Clone + Send + Sync + use<H, F>>
    where
        H: FnOnce(OptimizedTransport, request::Parts) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let acceptor = self.clone();
        WebSocketService::new(move |websocket, mut parts| -> Handled {
            let seat = acceptor.drain.enter();
            seat.introduce(&mut parts);
            // The seat is held until the handler has ended, not only until the session has: the drain waits for both.
            let attending = seat.clone();
            let client = Client::at(&parts.extensions);
            // In its own box, which is dropped before the session runs.
            let accepting = Box::pin(async move {
                let is_known = websocket.subprotocol() == Some(SUBPROTOCOL);
                acceptor.accept_own(websocket, is_known, client, seat).await
            });
            let handled = async move {
                match accepting.await {
                    Ok(Some(transport)) => handler(transport, parts).await,
                    Ok(None) => {}
                    Err(error) => tracing::debug!(target: log::OPTIMIZED, %error, "a connection was not accepted"),
                }
            };
            Box::pin(Attended::new(handled, Some(attending)))
        })
        .limits(self.config.transport_limits)
        .with_subprotocol(HeaderValue::from_static(SUBPROTOCOL))
        .refusing_with(&self.drain)
    }
}

/// Adds the sources of a store's metrics.
fn with_sessions<T: Send + 'static>(meter: Meter, store: &SessionStore<Wire<T>>) -> Meter
where
    SessionStore<Wire<T>>: Send + 'static,
{
    let of = || store.clone();
    let (sessions, waiting, bytes, resumed, fresh) = (of(), of(), of(), of(), of());
    meter
        .gauge(RESUME_SESSIONS, move || sessions.len() as f64)
        .gauge(RESUME_WAITING, move || waiting.waiting() as f64)
        .gauge(RESUME_BYTES, move || bytes.held_bytes() as f64)
        .counter(RESUMED, move || resumed.resumed())
        .counter(FRESH, move || fresh.fresh())
}

/// A handler's future. Boxed once for each connection.
pub type Handled = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl<T> Clone for OptimizedAcceptor<T> {
    fn clone(&self) -> Self {
        Self {
            config: self.config.clone(),
            store: self.store.clone(),
            drain: self.drain.clone(),
            metrics: self.metrics.clone(),
        }
    }
}

debug_fields!([T] OptimizedAcceptor<T> { store });
