use std::{fmt, future::Future, sync::Arc};

use http::{HeaderValue, request};

use super::{
    OptimizedHandle, OptimizedTransport,
    builder::OptimizedBuilder,
    greeting,
    leave::Leave,
    status::Status,
    wire::{Agreement, Wire, WireConfig},
};
use crate::{
    CloseCode, CloseFrame, Error, Limits, Message, Queue, Transport,
    layer::{
        heartbeat::{HeartbeatLayer, Monitor},
        resume::{Accepted, Session, SessionStore},
        trace::{TraceLayer, Traced},
    },
    stack::{hello::SUBPROTOCOL, optional::Optional},
    transport::{
        drain::{Attended, Drain, Seat},
        websocket::{WebSocket, WebSocketUpgrade},
    },
};
use tower_layer::Layer;

/// A session of a server, or a bare connection: traced.
pub(super) type ServerLink<T> = Traced<Optional<Session<Wire<T>>, Wire<T>>>;

/// The server's end: makes an [`OptimizedTransport`] of each connection, or hands the connection to the session that it
/// belongs to. Clones share the sessions.
pub struct OptimizedAcceptor<T = WebSocket> {
    config: Arc<Config>,
    store: SessionStore<Wire<T>>,
    drain: Drain,
}

struct Config {
    wire: WireConfig,
    shell: super::shell::ShellConfig,
    heartbeat: Option<HeartbeatLayer>,
    trace: TraceLayer,
    name: Arc<str>,
    limits: Limits,
    transport_limits: Limits,
    queue: Queue<Message>,
}

/// Whose session it is.
#[derive(Clone, Copy, Debug)]
pub(in crate::stack) enum Client<'a> {
    Anyone,
    /// It is found again by this owner alone, and counted for it.
    Owner(&'a [u8]),
    /// It is counted for this key.
    Key(&'a [u8]),
}

impl<T> OptimizedAcceptor<T> {
    pub(super) fn new(builder: OptimizedBuilder, store: SessionStore<Wire<T>>) -> Self {
        let (wire, shell, name) = (builder.wire(), builder.shell(), builder.name());
        let config = Config {
            heartbeat: wire.heartbeat.clone(),
            wire,
            shell,
            trace: builder.trace(TraceLayer::server(name.to_string())),
            name,
            limits: builder.limits,
            transport_limits: builder.transport_limits(),
            queue: builder.queue,
        };
        Self { config: Arc::new(config), store, drain: Drain::new() }
    }

    /// How many sessions there are, those among them whose clients are away.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.store.len()
    }

    /// The limits of each connection.
    #[cfg(feature = "adaptive")]
    pub(in crate::stack) fn limits(&self) -> Limits {
        self.config.limits
    }

    /// Returns the limits for an upgrade of your own: see [`OptimizedBuilder::transport_limits`].
    #[must_use]
    pub fn transport_limits(&self) -> Limits {
        self.config.transport_limits
    }

    /// Ends all transports that this acceptor, or a clone of it, has made and will make, because the server goes away: each sends a
    /// close message of code 1001 behind what it has accepted; when that is on its way, its stream gives an error that
    /// [`is_closed`](Error::is_closed), and ends. What has come in and was not read is dropped.
    ///
    /// It returns at once. The handlers find out as they use their transports; those that wait in one are woken. A transport whose peer
    /// does not read, or is away, ends with the heartbeat and the [time of its session](super::OptimizedBuilder::session_ttl), if nobody
    /// drops it before.
    pub fn close(&self) {
        self.drain.start(CloseFrame::new(CloseCode::AWAY, "the server goes away"));
    }

    /// Returns the drain that the sessions belong to: it ends them with a frame of your choice, waits for them and cuts those that do not end
    /// in time. [`close`](Self::close) is its [`start`](Drain::start) with 1001. Give it to the other doors of the server, and one call ends
    /// all of them.
    ///
    /// A session counts as one connection, together with the handler that [`upgrade`](OptimizedAcceptor::upgrade) has started for it.
    #[must_use]
    pub fn drain(&self) -> &Drain {
        &self.drain
    }

    /// Waits until it is [closed](Self::close).
    ///
    /// # Cancel safety
    ///
    /// It only watches.
    pub async fn closed(&self) {
        self.drain.started().await;
    }

    /// Whether it was [closed](Self::close).
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.drain.is_started()
    }
}

impl<T> OptimizedAcceptor<T>
where
    T: Transport<Message, In = Message, TransportError = Error> + Unpin + Send + 'static,
{
    /// Takes a connection over any transport of messages, as [`accept`](OptimizedAcceptor::accept) does a WebSocket. `is_known` says
    /// whether the handshake chose the subprotocol [`OptimizedAcceptor::SUBPROTOCOL`].
    ///
    /// # Errors
    ///
    /// Those of [`accept`](OptimizedAcceptor::accept).
    ///
    /// # Cancel safety
    ///
    /// As [`accept`](OptimizedAcceptor::accept).
    pub async fn accept_over(&self, transport: T, is_known: bool) -> Result<Option<OptimizedTransport<T>>, Error> {
        // Boxed, so that the exchange takes no room in the session's task later.
        Box::pin(self.accept_for(transport, is_known, Client::Anyone, 0, self.drain.enter())).await
    }

    /// [`accept_over`](Self::accept_over), for a client that has proved who it is: its session is found again by the same `owner`
    /// alone, over whichever transport.
    ///
    /// # Errors
    ///
    /// Those of [`accept`](OptimizedAcceptor::accept).
    ///
    /// # Cancel safety
    ///
    /// As [`accept`](OptimizedAcceptor::accept).
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
    /// Those of [`accept`](OptimizedAcceptor::accept).
    ///
    /// # Cancel safety
    ///
    /// As [`accept`](OptimizedAcceptor::accept).
    pub async fn accept_over_from(
        &self,
        transport: T,
        is_known: bool,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<OptimizedTransport<T>>, Error> {
        Box::pin(self.accept_for(transport, is_known, Client::Key(key.as_ref()), 0, self.drain.enter())).await
    }

    /// [`accept_over`](Self::accept_over), of a transport that has the [`transport_limits`](Self::transport_limits),
    /// with the seat of the handler, which then counts with its session as one.
    pub(in crate::stack) async fn accept_own(
        &self,
        transport: T,
        is_known: bool,
        client: Client<'_>,
        seat: Arc<Seat>,
    ) -> Result<Option<OptimizedTransport<T>>, Error> {
        let config = &*self.config;
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
        let config = &*self.config;
        let mut layers = config.wire.clone();
        layers.headroom = headroom;
        let agreement = if is_known {
            match greeting::welcome(&mut transport, layers.hello(), config.limits.handshake).await {
                Ok(theirs) => layers.agree(theirs),
                Err(error) => {
                    greeting::refuse(transport, &error, config.limits.close).await;
                    return Err(error);
                }
            }
        } else {
            Agreement::plain(None)
        };
        let (agreed, max_message) = (agreement.capabilities, agreement.max_message());
        let heartbeat = Monitor::new();
        layers.heartbeat = config.heartbeat.clone().map(|layer| layer.monitor(heartbeat.clone()));
        let wire = layers.layer(transport, agreement);
        let link = if agreed.resume() {
            let accepted = match client {
                Client::Owner(owner) => self.store.accept_as(wire, owner).await?,
                Client::Key(key) => self.store.accept_from(wire, key).await?,
                Client::Anyone => self.store.accept(wire).await?,
            };
            match accepted {
                Accepted::New(session) => Optional::On { inner: session },
                Accepted::Resumed => return Ok(None),
            }
        } else {
            Optional::Off { inner: wire }
        };
        let status = Status::default();
        status.agreed(agreed, max_message);
        let handle = OptimizedHandle {
            name: config.name.clone(),
            status,
            heartbeat,
            compression: config.wire.compression.as_ref().map(|layer| layer.stats()),
            rate_limit: config.shell.rate_limit.as_ref().map(|layer| layer.counts()),
            reconnect: None,
            resume: None,
        };
        let traced = config.trace.clone().propagate(agreed.trace_context()).layer(link);
        let leave = Leave::new(seat, config.limits.close);
        Ok(Some(OptimizedTransport::server(config.shell.layer(traced), leave, handle, config.queue.clone())))
    }
}

impl<S> OptimizedAcceptor<WebSocket<S>>
where
    WebSocket<S>: Transport<Message, In = Message, TransportError = Error> + Unpin + Send + 'static,
{
    /// Takes a connection: says hello, if the handshake chose [`OptimizedTransport`]'s subprotocol, and puts on what both ends
    /// have on. `None`: the client came back to a session, whose handler goes on with this connection; there is nothing left
    /// to do here.
    ///
    /// The upgrade must [offer](crate::transport::websocket::WebSocketUpgrade::subprotocol) the subprotocol
    /// [`OptimizedAcceptor::SUBPROTOCOL`], as [`upgrade`](OptimizedAcceptor::upgrade) does.
    ///
    /// # Errors
    ///
    /// - [`is_timeout`](Error::is_timeout): the client did not say hello within [`Limits::handshake`], or opened no session.
    /// - [`is_protocol`](Error::is_protocol): it agreed to the subprotocol and does not speak it. It is told by a close message of code 1002.
    /// - [`is_full`](Error::is_full): there are too many sessions.
    /// - [`is_closed`](Error::is_closed): the connection ended.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the connection is, unless its session has taken it.
    pub async fn accept(&self, websocket: WebSocket<S>) -> Result<Option<OptimizedTransport<WebSocket<S>>>, Error> {
        let is_known = websocket.subprotocol() == Some(SUBPROTOCOL);
        self.accept_over(websocket, is_known).await
    }

    /// [`accept`](Self::accept), for a client that has proved who it is: its session is found again by the same `owner` alone.
    ///
    /// # Errors
    ///
    /// Those of [`accept`](Self::accept).
    ///
    /// # Cancel safety
    ///
    /// As [`accept`](Self::accept).
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
    /// The subprotocol by which two ends find out that they know each other.
    pub const SUBPROTOCOL: &str = SUBPROTOCOL;

    /// A [`WebSocketUpgrade`] for hyper and axum, whose `handler` gets each new session (a client that comes back is handed to
    /// the handler that it had) with the parts of its request. A connection that is no session ends with its error, which is
    /// traced.
    ///
    /// Sessions are bound to no owner here. Where clients prove who they are, take [`WebSocketUpgrade::new`] with
    /// [`SUBPROTOCOL`](Self::SUBPROTOCOL) and [`accept_as`](OptimizedAcceptor::accept_as) in its place.
    pub fn upgrade<H, F>(
        &self,
        handler: H,
    ) -> WebSocketUpgrade<impl FnOnce(WebSocket, request::Parts) -> Handled + Clone + Send + Sync + use<H, F>>
    where
        H: FnOnce(OptimizedTransport, request::Parts) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let acceptor = self.clone();
        WebSocketUpgrade::new(move |websocket, parts| -> Handled {
            let seat = acceptor.drain.enter();
            let attending = seat.clone();
            // In a box of its own, which is gone before the session runs.
            let accepting = Box::pin(async move {
                let is_known = websocket.subprotocol() == Some(SUBPROTOCOL);
                acceptor.accept_own(websocket, is_known, Client::Anyone, seat).await
            });
            let handled = async move {
                match accepting.await {
                    Ok(Some(transport)) => handler(transport, parts).await,
                    Ok(None) => {}
                    Err(error) => tracing::debug!(%error, "a connection was not accepted"),
                }
            };
            Box::pin(Attended::new(handled, Some(attending)))
        })
        .limits(self.config.transport_limits)
        .with_subprotocol(HeaderValue::from_static(SUBPROTOCOL))
        .refusing_with(&self.drain)
    }
}

/// A handler's future. Boxed once for each connection.
pub type Handled = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

impl<T> Clone for OptimizedAcceptor<T> {
    fn clone(&self) -> Self {
        Self { config: self.config.clone(), store: self.store.clone(), drain: self.drain.clone() }
    }
}

impl<T> fmt::Debug for OptimizedAcceptor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OptimizedAcceptor").field("store", &self.store).finish_non_exhaustive()
    }
}
