use std::{num::NonZeroU32, sync::Arc, time::Duration};

use http::response::Parts;
use tower::{ServiceExt, util::BoxCloneSyncService};
use tower_layer::Layer;

use super::{
    OptimizedAcceptor, OptimizedHandle, OptimizedTransport,
    connector::Connector,
    peers::Peers,
    shell::ShellConfig,
    status::Status,
    wire::{Wire, WireConfig},
};
use crate::{
    Connect, Error, Limits, Message, Queue, Transport,
    layer::{
        batch::{self, BatchPolicy},
        compression::{CompressionLayer, Deflate},
        heartbeat::{self, HeartbeatLayer, Monitor},
        limit::LimitLayer,
        rate_limit::RateLimitLayer,
        reconnect::{Backoff, Keep, ReconnectLayer, Target, WhenLost},
        resume::{self, ResumeHandle, ResumeLayer, SessionStore},
        trace::{self, TraceLayer},
    },
    transport::websocket::WebSocketConnector,
};

/// What is on in an [`OptimizedTransport`], with which settings; the same builder makes the client's and the server's end.
///
/// | layer | default | works against |
/// |---|---|---|
/// | [`trace`](crate::layer::trace) | counts and a span for each connection; no message is sampled | every peer |
/// | [`limit`](crate::layer::limit) | messages of at most 4 MiB | every peer |
/// | [`rate_limit`](crate::layer::rate_limit) | off | every peer |
/// | [`reconnect`](crate::layer::reconnect) (client) | exponential, full jitter; what was not flushed is sent again | every peer |
/// | [`resume`](crate::layer::resume) | on; the server keeps a session for 2 minutes | one that knows it |
/// | [`batch`](crate::layer::batch) | 64 messages or 64 KiB, for what is flushed at once | one that knows it |
/// | [`compression`](crate::layer::compression) | messages from 256 bytes on; no context is kept | one that knows it |
/// | [`heartbeat`](crate::layer::heartbeat) | a ping after 20 s of silence, 20 s for the answer | every peer |
/// | the queue of [`split`](OptimizedTransport::split) | 1024 messages or 1 MiB; who sends more waits | every peer |
#[derive(Clone, Debug)]
pub struct OptimizedBuilder {
    name: Arc<str>,
    pub(super) limits: Limits,
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
    pub(super) queue: Queue<Message>,
    peers: Peers,
}

type Hook = dyn Fn(&Parts) -> Vec<Message> + Send + Sync;

#[derive(Clone)]
struct OnConnect(Arc<Hook>);

impl std::fmt::Debug for OnConnect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("OnConnect")
    }
}

impl OptimizedBuilder {
    /// The defaults.
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
            queue: Queue::messages(),
            peers: Peers::default(),
        }
    }

    /// The name in spans and metrics, of your own choosing: `orders`, say. Default `optimized`.
    #[must_use]
    pub fn named(mut self, name: impl Into<Arc<str>>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the limits of each connection and of its handshake. The message limit is that of the application's messages: what the layers of
    /// the stack add to one has room beyond it ([`transport_limits`](Self::transport_limits)).
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self.limit = self.limit.max_message(limits.message);
        self
    }

    /// Returns [`limits`](Self::limits) with room for what the layers of the stack add to a message: less than 100 bytes, or 4 KiB more where
    /// the compression context is kept.
    ///
    /// [`connect`](Self::connect) and [`OptimizedAcceptor::upgrade`] use them. Give them to a connector or an upgrade of your own. With a
    /// smaller limit there, a message of almost [`Limits::message`] to which a layer adds its mark is refused
    /// ([`is_too_large`](Error::is_too_large)) and not sent.
    #[must_use]
    pub fn transport_limits(&self) -> Limits {
        self.limits.message(self.limits.message.saturating_add(self.overhead()))
    }

    /// The sum over all layers between the limit and the transport, whichever are on.
    fn overhead(&self) -> usize {
        let compression = self.compression.map_or(0, |deflate| CompressionLayer::new(deflate).overhead());
        trace::OVERHEAD + resume::OVERHEAD + batch::OVERHEAD + compression + heartbeat::OVERHEAD
    }

    /// How long no text or binary message may pass, either way, before the transport is closed. Default: for ever.
    #[must_use]
    pub fn idle_timeout(mut self, time: Duration) -> Self {
        self.limit = self.limit.idle_timeout(time);
        self
    }

    /// A rate limit. Default none.
    #[must_use]
    pub fn rate_limit(mut self, limit: RateLimitLayer) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// Sets how small messages are put together; `None` for never. See [`compression`](Self::compression) for what a batch tells an eavesdropper.
    #[must_use]
    pub fn batch(mut self, policy: impl Into<Option<BatchPolicy>>) -> Self {
        self.batch = policy.into();
        self
    }

    /// Sets how messages are compressed; `None` turns compression off, and a peer's compressed messages are refused.
    ///
    /// A batch is compressed as a whole, so its messages share a block of deflate and the length on the wire tells what they have in common. Where
    /// secrets and text that a stranger chose may leave together, use [`Deflate::batches(false)`](Deflate::batches): messages that are worth it
    /// are then compressed by themselves.
    #[must_use]
    pub fn compression(mut self, deflate: impl Into<Option<Deflate>>) -> Self {
        self.compression = deflate.into();
        self
    }

    /// When the peer is asked whether it is there; `None` for never.
    #[must_use]
    pub fn heartbeat(mut self, heartbeat: impl Into<Option<HeartbeatLayer>>) -> Self {
        self.heartbeat = heartbeat.into();
        self
    }

    /// How a client's session is resumed; `None` for never. On a server, only whether: see
    /// [`session_ttl`](Self::session_ttl), [`max_sessions`](Self::max_sessions), [`sessions_per_key`](Self::sessions_per_key) and
    /// [`total_replay_bytes`](Self::total_replay_bytes).
    #[must_use]
    pub fn resume(mut self, resume: impl Into<Option<ResumeLayer>>) -> Self {
        self.resume = resume.into();
        self
    }

    /// How long a client waits before it connects again.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// What becomes of messages that a client's connection took and was lost with, where the peer does not resume. Where it
    /// does, they are in the session. Default: they are sent again, so that one may come twice.
    #[must_use]
    pub fn when_lost(mut self, when_lost: WhenLost<Message>) -> Self {
        self.when_lost = when_lost;
        self
    }

    /// What a client sends at each connection before anything else; see [`ReconnectLayer::on_connect`]. The
    /// [`Verdict`](crate::layer::resume::Verdict) on the session, if there is one, is in the extensions: after
    /// [`Resumed`](crate::layer::resume::Verdict::Resumed) a server still knows the subscriptions.
    #[must_use]
    pub fn on_connect(mut self, hook: impl Fn(&Parts) -> Vec<Message> + Send + Sync + 'static) -> Self {
        self.on_connect = Some(OnConnect(Arc::new(hook)));
        self
    }

    /// How long a server keeps a session whose client is away. Default 2 minutes.
    #[must_use]
    pub fn session_ttl(mut self, time: Duration) -> Self {
        self.session_ttl = time;
        self
    }

    /// How many sessions a server holds; one more client is refused with 1013. Default 1024.
    #[must_use]
    pub fn max_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    /// Sets how many sessions of a server one owner or key may have. Defaults to a quarter of [`max_sessions`](Self::max_sessions). See
    /// [`SessionStore::sessions_per_key`].
    #[must_use]
    pub fn sessions_per_key(mut self, sessions: usize) -> Self {
        self.sessions_per_key = Some(sessions);
        self
    }

    /// Sets how many bytes all sessions of a server together may hold: what was sent and not acknowledged, and what was read ahead. Defaults to
    /// 256 MiB. See [`SessionStore::total_replay_bytes`].
    #[must_use]
    pub fn total_replay_bytes(mut self, bytes: usize) -> Self {
        self.total_replay_bytes = Some(bytes);
        self
    }

    /// Follows one message in so many, by a span, and across the wire where the peer does so too. Default: none.
    ///
    /// Then a client makes a span for each message that the peer says is sampled, and a server for each of its clients': turn
    /// it on for peers whom you trust with your logs.
    #[must_use]
    pub fn sample_one_in(mut self, every: NonZeroU32) -> Self {
        self.sampled = Some(every);
        self
    }

    /// The outgoing queue of [`split`](OptimizedTransport::split), and what happens when it is full.
    #[must_use]
    pub fn queue(mut self, queue: Queue<Message>) -> Self {
        self.queue = queue;
        self
    }

    /// Connects to `url` (`ws://`, `wss://`), and goes on with it whenever the connection is lost.
    ///
    /// # Errors
    ///
    /// Why the first attempt failed; it is not tried again. Those of [`WebSocketConnector`], and [`is_timeout`](Error::is_timeout)
    /// of a server that has said hello before and is silent now. A server that agrees to the subprotocol without knowing it gets plain messages.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the attempt is.
    pub async fn connect(self, url: &str) -> Result<OptimizedTransport, Error> {
        let connector = WebSocketConnector::new().limits(self.transport_limits());
        let headroom = self.overhead();
        self.connect_over(connector, Target::parse(url)?, headroom).connected().await
    }

    /// Connects by a connector of your own: layers of tower and tower-http on a [`WebSocketConnector`], own TLS, a token source;
    /// or another transport. `target` is a URL or a whole request, which is cloned for each attempt. Our subprotocol is offered after
    /// those of the connector and the request: a server that chooses one of them gets plain messages.
    ///
    /// # Errors
    ///
    /// Those of [`connect`](Self::connect), and of the connector.
    ///
    /// # Cancel safety
    ///
    /// Dropped, the attempt is.
    pub async fn connect_with<C>(
        self,
        connector: C,
        target: impl Into<Target>,
    ) -> Result<OptimizedTransport<C::Transport>, Error>
    where
        C: Connect<Future: Send + 'static> + Clone + Send + Sync + 'static,
        C::Transport: Transport<Message, In = Message, TransportError = Error> + Unpin + Send + 'static,
    {
        self.connect_lazily(connector, target).connected().await
    }

    /// As [`connect_with`](Self::connect_with), without waiting: it connects when it is first polled, and a first attempt that
    /// fails is followed by others as the [`backoff`](Self::backoff) says.
    pub fn connect_lazily<C>(self, connector: C, target: impl Into<Target>) -> OptimizedTransport<C::Transport>
    where
        C: Connect<Future: Send + 'static> + Clone + Send + Sync + 'static,
        C::Transport: Transport<Message, In = Message, TransportError = Error> + Unpin + Send + 'static,
    {
        self.connect_over(connector, target, 0)
    }

    /// With a connector that takes `headroom` bytes more than [`limits`](Self::limits) say.
    fn connect_over<C>(
        self,
        connector: C,
        target: impl Into<Target>,
        headroom: usize,
    ) -> OptimizedTransport<C::Transport>
    where
        C: Connect<Future: Send + 'static> + Clone + Send + Sync + 'static,
        C::Transport: Transport<Message, In = Message, TransportError = Error> + Unpin + Send + 'static,
    {
        let (status, monitor, session) = (Status::default(), Monitor::new(), ResumeHandle::new());
        let (mut wire, shell) = (self.wire(), self.shell());
        wire.headroom = headroom;
        wire.heartbeat = wire.heartbeat.map(|layer| layer.monitor(monitor.clone()));
        let mut reconnect = ReconnectLayer::new(target, self.backoff.clone()).when_lost(self.when_lost.clone());
        if let Some(OnConnect(hook)) = self.on_connect.clone() {
            reconnect = reconnect.on_connect(move |parts| hook(parts));
        }
        let handle = OptimizedHandle {
            name: self.name(),
            status: status.clone(),
            heartbeat: monitor,
            compression: wire.compression.as_ref().map(CompressionLayer::stats),
            rate_limit: shell.rate_limit.as_ref().map(RateLimitLayer::counts),
            reconnect: Some(reconnect.handle()),
            resume: self.resume.as_ref().map(|_| session.clone()),
        };
        let connector = Connector {
            dial: BoxCloneSyncService::new(connector.map_err(Into::into)),
            wire: Arc::new(wire),
            trace: self.trace(TraceLayer::client(self.name.to_string())),
            resume: self.resume.clone().unwrap_or_default().handle(session),
            status,
            handshake: self.limits.handshake,
            peers: self.peers.clone(),
        };
        OptimizedTransport::client(shell.layer(reconnect.layer(connector)), handle, self.queue)
    }

    /// The server's end with these settings, and a store of sessions of its own.
    #[must_use]
    pub fn acceptor<T>(self) -> OptimizedAcceptor<T> {
        let mut store: SessionStore<Wire<T>> = SessionStore::new().ttl(self.session_ttl).sessions(self.max_sessions);
        if let Some(sessions) = self.sessions_per_key {
            store = store.sessions_per_key(sessions);
        }
        if let Some(bytes) = self.total_replay_bytes {
            store = store.total_replay_bytes(bytes);
        }
        OptimizedAcceptor::new(self, store)
    }

    pub(super) fn name(&self) -> Arc<str> {
        self.name.clone()
    }

    pub(super) fn wire(&self) -> WireConfig {
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

    pub(super) fn shell(&self) -> ShellConfig {
        ShellConfig { limit: self.limit.clone(), rate_limit: self.rate_limit.clone() }
    }

    pub(super) fn trace(&self, trace: TraceLayer) -> TraceLayer {
        match self.sampled {
            Some(every) => trace.sample_one_in(every),
            None => trace,
        }
    }
}

impl Default for OptimizedBuilder {
    fn default() -> Self {
        Self::new()
    }
}
