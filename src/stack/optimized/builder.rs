use std::{num::NonZeroU32, sync::Arc, time::Duration};

use http::response::Parts;
use tower_layer::Layer;

#[cfg(not(target_arch = "wasm32"))]
use super::{OptimizedAcceptor, layers::Wire, server::Config};
use super::{
    OptimizedHandle, OptimizedTransport,
    connector::{Connector, dial},
    handle::Status,
    layers::{OuterConfig, WireConfig},
    metrics::{StackMetrics, with_counts},
    peers::Peers,
};
#[cfg(not(target_arch = "wasm32"))]
use crate::layer::resume::SessionStore;
use crate::{
    Connect, Error, Limits, MaybeSend, MaybeSync, Message, QueueConfig, Transport,
    layer::{
        batch::{self, BatchPolicy},
        compression::{CompressionLayer, Deflate},
        heartbeat::{self, HeartbeatLayer, Monitor},
        limit::LimitLayer,
        rate_limit::RateLimitLayer,
        reconnect::{Backoff, Keep, ReconnectLayer, Target, WhenLost},
        resume::{self, ResumeHandle, ResumeLayer},
        trace::{self, RECONNECTS, Role, TraceLayer},
    },
    threads::dyn_shared,
    transport::websocket::WebSocketConnector,
};

/// The layers that are on in an [`OptimizedTransport`], and their settings. The same builder creates the client's and
/// the server's end.
///
/// | layer | default | requires on the peer |
/// |---|---|---|
/// | [`trace`](crate::layer::trace) | counts and a span for each connection; no message is sampled | nothing |
/// | [`limit`](crate::layer::limit) | messages of at most 4 MiB | nothing |
/// | [`rate_limit`](crate::layer::rate_limit) | off | nothing |
/// | [`reconnect`](crate::layer::reconnect) (client) | exponential, full jitter; resends unflushed messages | nothing |
/// | [`resume`](crate::layer::resume) | on; the server keeps a session for 2 minutes | this stack |
/// | [`batch`](crate::layer::batch) | 64 messages or 64 KiB, for messages that are flushed together | this stack |
/// | [`compression`](crate::layer::compression) | messages of 256 bytes or more; no context is kept | this stack |
/// | [`heartbeat`](crate::layer::heartbeat) | a ping after 20 s of silence, 20 s for the answer | nothing |
/// | the queue of [`split`](OptimizedTransport::split) | 1024 messages or 1 MiB; senders wait for room | nothing |
#[derive(Clone, Debug)]
pub struct OptimizedBuilder {
    name: Arc<str>,
    limits: Limits,
    limit: LimitLayer,
    rate_limit: Option<RateLimitLayer>,
    batch: Option<BatchPolicy>,
    compression: Option<Deflate>,
    heartbeat: Option<HeartbeatLayer>,
    resume: Option<ResumeLayer>,
    backoff: Backoff,
    when_lost: WhenLost<Message>,
    on_connect: Option<OnConnect>,
    session_ttl: Duration,
    max_sessions: usize,
    sessions_per_key: Option<usize>,
    total_replay_bytes: Option<usize>,
    sampled: Option<NonZeroU32>,
    trace: Option<TraceHook>,
    queue: QueueConfig<Message>,
    peers: Peers,
}

type Hook = dyn_shared!(Fn(&Parts) -> Vec<Message>);

#[derive(Clone)]
struct OnConnect(Arc<Hook>);

impl std::fmt::Debug for OnConnect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnConnect")
    }
}

#[derive(Clone)]
struct TraceHook(Arc<dyn_shared!(Fn(TraceLayer) -> TraceLayer)>);

impl std::fmt::Debug for TraceHook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TraceHook")
    }
}

impl OptimizedBuilder {
    /// Creates a builder with the defaults.
    #[must_use]
    pub fn new() -> Self {
        Self {
            name: "optimized".into(),
            limits: Limits::default(),
            limit: LimitLayer::new(),
            rate_limit: None,
            batch: Some(BatchPolicy::on_flush(64)),
            compression: Some(Deflate::new()),
            heartbeat: Some(HeartbeatLayer::default()),
            resume: Some(ResumeLayer::new()),
            backoff: Backoff::default(),
            when_lost: WhenLost::Keep(Keep::messages()),
            on_connect: None,
            session_ttl: Duration::from_secs(120),
            max_sessions: 1024,
            sessions_per_key: None,
            total_replay_bytes: None,
            sampled: None,
            trace: None,
            queue: QueueConfig::messages(),
            peers: Peers::default(),
        }
    }

    /// Sets the name used in spans and metrics, such as `orders`. Defaults to `optimized`.
    #[must_use]
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the limits of each connection and of its handshake. The message limit applies to the application's
    /// messages. The bytes that the layers of the stack add are allowed in addition
    /// ([`transport_limits`](Self::transport_limits)).
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self.limit = self.limit.max_message(limits.message);
        self
    }

    /// Returns [`limits`](Self::limits) plus room for the bytes that the layers of the stack add to a message: less
    /// than 100 bytes, or 4 KiB more if the compression context is kept.
    ///
    /// [`connect`](Self::connect) and [`OptimizedAcceptor::upgrade`] use them. Pass them to your own connector or
    /// upgrade. With a smaller limit there, a message of almost [`Limits::message`] to which a layer adds its mark is
    /// refused ([`is_too_large`](Error::is_too_large)) and not sent.
    #[must_use]
    pub fn transport_limits(&self) -> Limits {
        self.limits.message(self.limits.message.saturating_add(self.overhead()))
    }

    /// Returns the sum over all layers between the limit and the transport, whether they are on or off.
    fn overhead(&self) -> usize {
        let compression = self.compression.map_or(0, |deflate| CompressionLayer::new(deflate).overhead());
        trace::OVERHEAD + resume::OVERHEAD + batch::OVERHEAD + compression + heartbeat::OVERHEAD
    }

    /// Sets how long the transport may be idle, without a text or binary message in either direction, before it is
    /// closed. Defaults to no limit.
    #[must_use]
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.limit = self.limit.idle_timeout(time);
        self
    }

    /// Sets a rate limit. Defaults to no rate limit.
    #[must_use]
    pub fn rate_limit(mut self, limit: RateLimitLayer) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// Sets how small messages are batched; `None` turns batching off. Defaults to at most 64 messages or 64 KiB that
    /// are flushed together. [`compression`](Self::compression) describes what the size of a batch reveals to an
    /// eavesdropper.
    #[must_use]
    pub fn batch(mut self, policy: impl Into<Option<BatchPolicy>>) -> Self {
        self.batch = policy.into();
        self
    }

    /// Sets how messages are compressed; `None` turns compression off, and a peer's compressed messages are refused.
    ///
    /// A batch is compressed as a whole. Its messages share a block of deflate, and the length on the wire reveals what
    /// they have in common. If secrets and text chosen by a stranger may be sent together, use
    /// [`Deflate::batches(false)`](Deflate::batches): each message worth compressing is then compressed separately.
    #[must_use]
    pub fn compression(mut self, deflate: impl Into<Option<Deflate>>) -> Self {
        self.compression = deflate.into();
        self
    }

    /// Sets when the peer is pinged; `None` turns the heartbeat off. Defaults to a ping after 20 s of silence, and 20 s
    /// for the answer. Between two ends of this stack, pings of either [mode](HeartbeatLayer::application_level) are
    /// answered. Other peers get [`Message::Ping`] in any mode.
    #[must_use]
    pub fn heartbeat(mut self, heartbeat: impl Into<Option<HeartbeatLayer>>) -> Self {
        self.heartbeat = heartbeat.into();
        self
    }

    /// Sets how a client's session is resumed; `None` turns resuming off. On a server it only sets whether sessions are
    /// resumed: see [`session_ttl`](Self::session_ttl), [`max_sessions`](Self::max_sessions),
    /// [`sessions_per_key`](Self::sessions_per_key) and [`total_replay_bytes`](Self::total_replay_bytes).
    #[must_use]
    pub fn resume(mut self, resume: impl Into<Option<ResumeLayer>>) -> Self {
        self.resume = resume.into();
        self
    }

    /// Sets how long a client waits before it reconnects. Defaults to exponential backoff with full jitter.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets what happens to messages that a client's connection accepted before it was lost, if the peer does not
    /// resume. If the peer resumes, they are kept in the session; if that is lost, so are they, and
    /// [one error reports it](WhenLost#with-a-resume-layer). By default they are sent again, so a message may arrive
    /// twice.
    #[must_use]
    pub fn when_lost(mut self, when_lost: WhenLost<Message>) -> Self {
        self.when_lost = when_lost;
        self
    }

    /// Sets what a client sends on each connection before anything else; see [`ReconnectLayer::on_connect`]. The
    /// [`Verdict`](crate::layer::resume::Verdict) on the session, if there is one, is in the extensions. After
    /// [`Resumed`](crate::layer::resume::Verdict::Resumed) the server still knows the subscriptions.
    #[must_use]
    pub fn on_connect(mut self, hook: impl Fn(&Parts) -> Vec<Message> + MaybeSend + MaybeSync + 'static) -> Self {
        self.on_connect = Some(OnConnect(Arc::new(hook)));
        self
    }

    /// Sets how long a server keeps a session whose client is disconnected. Defaults to 2 minutes.
    #[must_use]
    pub fn session_ttl(mut self, time: Duration) -> Self {
        self.session_ttl = time;
        self
    }

    /// Sets how many sessions a server holds. Defaults to 1024. A client over the limit is refused with 1013.
    #[must_use]
    pub fn max_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    /// Sets how many sessions of a server one owner or key may have. Defaults to a quarter of
    /// [`max_sessions`](Self::max_sessions). See [`SessionStore::sessions_per_key`].
    #[must_use]
    pub fn sessions_per_key(mut self, sessions: usize) -> Self {
        self.sessions_per_key = Some(sessions);
        self
    }

    /// Sets how many bytes all sessions of a server together may hold: messages that were sent and not acknowledged,
    /// and messages that were read ahead. Defaults to 256 MiB. See [`SessionStore::total_replay_bytes`].
    #[must_use]
    pub fn total_replay_bytes(mut self, bytes: usize) -> Self {
        self.total_replay_bytes = Some(bytes);
        self
    }

    /// Sets that one message in N is followed by a span, and across the wire if the peer also samples. By default no
    /// message is sampled.
    ///
    /// With sampling on, a client makes a span for each message that the peer marks as sampled, and a server does so
    /// for each of its clients. Turn it on for peers that you trust with your logs.
    #[must_use]
    pub fn sample_one_in(mut self, every: NonZeroU32) -> Self {
        self.sampled = Some(every);
        self
    }

    /// Changes the trace layer of the stack: its levels, or the hooks of a bridge to OpenTelemetry. `change` is called
    /// once for each client and each acceptor. Turn sampling on by [`sample_one_in`](Self::sample_one_in), with which
    /// the peer agrees.
    ///
    /// ```
    /// use tower_transport::stack::OptimizedTransport;
    /// use tracing::Level;
    ///
    /// // Each connection is logged when it opens and when it closes.
    /// let builder = OptimizedTransport::builder().trace(|layer| layer.event_level(Level::INFO));
    /// # drop(builder);
    /// ```
    #[must_use]
    pub fn trace(mut self, change: impl Fn(TraceLayer) -> TraceLayer + MaybeSend + MaybeSync + 'static) -> Self {
        self.trace = Some(TraceHook(Arc::new(change)));
        self
    }

    /// Sets the outgoing queue of [`split`](OptimizedTransport::split), and what happens when it is full. Defaults to
    /// 1024 messages or 1 MiB, and a sender waits when it is full.
    #[must_use]
    pub fn queue(mut self, queue: QueueConfig<Message>) -> Self {
        self.queue = queue;
        self
    }

    /// Connects to `url` (`ws://`, `wss://`), and reconnects whenever the connection is lost.
    ///
    /// # Errors
    ///
    /// Returns the error of the first attempt, which is not retried. It is an error of [`WebSocketConnector`], or one
    /// for which [`is_timeout`](Error::is_timeout) is true if a server that has said hello before is now silent. A
    /// server that agrees to the subprotocol without knowing it gets plain messages.
    ///
    /// # Cancel safety
    ///
    /// Dropping this future cancels the connection attempt.
    pub async fn connect(self, url: &str) -> Result<OptimizedTransport, Error> {
        let connector = WebSocketConnector::new().limits(self.transport_limits());
        // The connector gets room for the layers' bytes, so that the application's limit holds for its own messages.
        let headroom = self.overhead();
        self.connect_over(connector, Target::parse(url)?, headroom).connected().await
    }

    /// Connects by your own connector: layers of tower and tower-http on a [`WebSocketConnector`], your own TLS, a
    /// token source, or another transport. `target` is a URL or a whole request, which is cloned for each attempt. The
    /// stack's subprotocol is offered after those of the connector and the request. A server that chooses one of those
    /// gets plain messages.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`connect`](Self::connect) and of the connector.
    ///
    /// # Cancel safety
    ///
    /// Dropping this future cancels the connection attempt.
    pub async fn connect_with<C>(
        self,
        connector: C,
        target: impl Into<Target>,
    ) -> Result<OptimizedTransport<C::Transport>, Error>
    where
        C: Connect<Future: MaybeSend + 'static> + Clone + MaybeSend + MaybeSync + 'static,
        C::Transport: Transport<Message, In = Message, TransportError = Error> + Unpin + MaybeSend + 'static,
    {
        self.connect_lazily(connector, target).connected().await
    }

    /// Creates a transport as [`connect_with`](Self::connect_with) does, without waiting. It connects when it is first
    /// polled, and a failed first attempt is retried with the [`backoff`](Self::backoff).
    pub fn connect_lazily<C>(self, connector: C, target: impl Into<Target>) -> OptimizedTransport<C::Transport>
    where
        C: Connect<Future: MaybeSend + 'static> + Clone + MaybeSend + MaybeSync + 'static,
        C::Transport: Transport<Message, In = Message, TransportError = Error> + Unpin + MaybeSend + 'static,
    {
        // The limits of a foreign connector are not known, so the peer is told that there is no room beyond them.
        self.connect_over(connector, target, 0)
    }

    /// Connects by a connector that accepts `headroom` bytes more than [`limits`](Self::limits).
    fn connect_over<C>(
        self,
        connector: C,
        target: impl Into<Target>,
        headroom: usize,
    ) -> OptimizedTransport<C::Transport>
    where
        C: Connect<Future: MaybeSend + 'static> + Clone + MaybeSend + MaybeSync + 'static,
        C::Transport: Transport<Message, In = Message, TransportError = Error> + Unpin + MaybeSend + 'static,
    {
        let (status, session) = (Status::default(), ResumeHandle::new());
        let (mut wire, outer) = (self.wire(), self.outer());
        wire.headroom = headroom;
        let mut reconnect = ReconnectLayer::new(target, self.backoff.clone()).when_lost(self.when_lost.clone());
        if let Some(OnConnect(hook)) = self.on_connect.clone() {
            reconnect = reconnect.on_connect(move |parts| hook(parts));
        }
        let compression = wire.compression.as_ref().map(CompressionLayer::stats);
        let rate_limit = outer.rate_limit.as_ref().map(RateLimitLayer::counts);
        let metrics = {
            let (compression, rate_limit, handle) = (compression.clone(), rate_limit.clone(), reconnect.handle());
            StackMetrics::new(self.name.clone(), Role::Client, move |meter| {
                let handle = handle.clone();
                let meter = meter.counter(RECONNECTS, move || handle.connections().saturating_sub(1));
                with_counts(meter, compression.clone(), rate_limit.clone())
            })
        };
        // The observer is asked for at each event: a recorder may be installed before the first connection.
        let monitor = Monitor::with_observer(Some(metrics.late_observer()));
        wire.heartbeat = wire.heartbeat.map(|layer| layer.monitor(monitor.clone()));
        let handle = OptimizedHandle {
            status: status.clone(),
            heartbeat: monitor,
            compression,
            rate_limit,
            reconnect: Some(reconnect.handle()),
            resume: self.resume.as_ref().map(|_| session.clone()),
        };
        let connector = Connector {
            dial: dial(connector),
            wire: Arc::new(wire),
            trace: self.trace_layer(TraceLayer::client(self.name.to_string())),
            resume: self.resume.clone().unwrap_or_default().handle(session),
            status,
            handshake: self.limits.handshake,
            peers: self.peers.clone(),
            metrics: metrics.clone(),
        };
        OptimizedTransport::client(outer.layer(reconnect.layer(connector)), handle, self.queue, metrics)
    }

    /// Creates the server's end with these settings and its own session store.
    #[cfg(not(target_arch = "wasm32"))]
    #[must_use]
    pub fn acceptor<T>(self) -> OptimizedAcceptor<T> {
        let mut store: SessionStore<Wire<T>> = SessionStore::new().ttl(self.session_ttl).sessions(self.max_sessions);
        if let Some(sessions) = self.sessions_per_key {
            store = store.sessions_per_key(sessions);
        }
        if let Some(bytes) = self.total_replay_bytes {
            store = store.total_replay_bytes(bytes);
        }
        let wire = self.wire();
        let config = Config {
            heartbeat: wire.heartbeat.clone(),
            wire,
            outer: self.outer(),
            trace: self.trace_layer(TraceLayer::server(self.name.to_string())),
            name: self.name.clone(),
            limits: self.limits,
            transport_limits: self.transport_limits(),
            queue: self.queue,
        };
        OptimizedAcceptor::new(config, store)
    }

    /// With this memory of servers.
    fn remembering(self, peers: Peers) -> Self {
        Self { peers, ..self }
    }

    fn wire(&self) -> WireConfig {
        WireConfig {
            batch: self.batch,
            compression: self
                .compression
                .map(|deflate| CompressionLayer::new(deflate.max_inflated(self.transport_limits().message))),
            heartbeat: self.heartbeat.clone(),
            resume: self.resume.is_some(),
            trace_context: self.sampled.is_some(),
            max_message: self.limits.message,
            headroom: 0,
        }
    }

    fn outer(&self) -> OuterConfig {
        OuterConfig { limit: self.limit.clone(), rate_limit: self.rate_limit.clone() }
    }

    fn trace_layer(&self, layer: TraceLayer) -> TraceLayer {
        let layer = match self.sampled {
            Some(every) => layer.sample_one_in(every),
            None => layer,
        };
        match &self.trace {
            Some(TraceHook(change)) => change(layer),
            None => layer,
        }
    }
}

impl Default for OptimizedBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl OptimizedTransport {
    /// Returns a builder with the defaults, to be configured and then used to connect or accept.
    #[must_use]
    pub fn builder() -> OptimizedBuilder {
        OptimizedBuilder::new()
    }

    /// Connects to `url` with the defaults: see [`OptimizedBuilder::connect`].
    ///
    /// All calls in a process share one memory of the servers that do not speak `tower-transport.v1`: at most 1,024
    /// URLs, for 10 minutes. A builder has a memory of its own, which its clones share.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`OptimizedBuilder::connect`].
    ///
    /// # Cancel safety
    ///
    /// Dropping this future cancels the connection attempt.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::builder().remembering(Peers::of_the_process()).connect(url).await
    }
}
