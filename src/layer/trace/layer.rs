use std::{borrow::Cow, fmt, marker::PhantomData, num::NonZeroU32, sync::Arc};

use tower_layer::Layer;
use tracing::Span;

use super::{Direction, Messages, TraceContext, Traced, Values, sampling::Turns, session::Session};

/// The end of a connection: the label `role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The end that connects.
    Client,
    /// The end that accepts.
    Server,
}

impl Role {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

type OnMessage = dyn Fn(&Span, Direction, Option<&TraceContext>) + Send + Sync;
type ContextOf = dyn Fn(&Span) -> Option<TraceContext> + Send + Sync;

/// A layer that adds spans and metrics to each transport. See the [module](super) for the complete documentation.
///
/// Each transport that it wraps is a separate session. Clones only share the position of the sampling. Clone the layer
/// to give one connection its [`peer`](Self::peer).
pub struct TraceLayer<K = Messages> {
    pub(super) config: Config,
    turns: Turns,
    subject: PhantomData<K>,
}

#[derive(Clone)]
pub(super) struct Config {
    pub(super) name: Cow<'static, str>,
    pub(super) role: Role,
    pub(super) peer: Option<Arc<str>>,
    pub(super) span: Option<Span>,
    pub(super) sample: Option<NonZeroU32>,
    pub(super) propagate: bool,
    pub(super) sizes: bool,
    pub(super) on_message: Option<Arc<OnMessage>>,
    pub(super) context_of: Option<Arc<ContextOf>>,
}

impl TraceLayer {
    /// Creates a layer for connections that this end makes. `name` describes their purpose in one fixed word. It is a
    /// label of every metric, so do not derive it from data that a peer sends.
    #[must_use]
    pub fn client(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name.into(), Role::Client)
    }

    /// Creates a layer for connections that this end accepts; `name` as for [`client`](Self::client).
    #[must_use]
    pub fn server(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name.into(), Role::Server)
    }

    fn new(name: Cow<'static, str>, role: Role) -> Self {
        let config = Config {
            name,
            role,
            peer: None,
            span: None,
            sample: None,
            propagate: false,
            sizes: false,
            on_message: None,
            context_of: None,
        };
        Self { config, turns: Turns::default(), subject: PhantomData }
    }

    /// Sets whether the context of a sampled message travels with it, and that of an incoming message is removed from
    /// it. Defaults to off.
    ///
    /// **Both ends must turn it on**: a peer without this layer treats the mark as part of the payload.
    #[must_use]
    pub fn propagate(mut self, propagate: bool) -> Self {
        self.config.propagate = propagate;
        self
    }

    /// Converts the layer for a transport of values, above a codec. Messages are counted, bytes are not, and no context
    /// travels.
    #[must_use]
    pub fn values(mut self) -> TraceLayer<Values> {
        self.config.propagate = false;
        TraceLayer { config: self.config, turns: self.turns, subject: PhantomData }
    }
}

impl<K> TraceLayer<K> {
    /// Sets the field `peer` of the session's span, such as an address or a user. It is not a label of metrics. It is
    /// escaped when it is logged.
    #[must_use]
    pub fn peer(mut self, peer: impl Into<Arc<str>>) -> Self {
        self.config.peer = Some(peer.into());
        self
    }

    /// Sets the session's span, in place of one that is created for each transport, to add your own fields. Clone the
    /// layer and set a different span for each connection.
    #[must_use]
    pub fn span(mut self, span: Span) -> Self {
        self.config.span = Some(span);
        self
    }

    /// Sets that one in `every` messages gets a span, counted for each connection and direction. Defaults to off.
    /// Incoming messages that carry the context of a sampled message also get one.
    #[must_use]
    pub fn sample_one_in(mut self, every: NonZeroU32) -> Self {
        self.config.sample = Some(every);
        self
    }

    /// Records the size of each message in a histogram ([`MESSAGE_BYTES`](super::MESSAGE_BYTES)). Defaults to off,
    /// because it costs an entry in the recorder for each message.
    #[must_use]
    pub fn record_sizes(mut self) -> Self {
        self.config.sizes = true;
        self
    }

    /// Calls `hook` with the span of each sampled message before it is entered. For an incoming message, the hook also
    /// gets the context of its sender. A bridge to OpenTelemetry sets the span's parent here.
    #[must_use]
    pub fn on_message(
        mut self,
        hook: impl Fn(&Span, Direction, Option<&TraceContext>) + Send + Sync + 'static,
    ) -> Self {
        self.config.on_message = Some(Arc::new(hook));
        self
    }

    /// Calls `context_of` with the span of each sampled outgoing message to get its context: a bridge to OpenTelemetry
    /// knows the ids that it assigned. `None` sends no context. Without this, each message begins a new trace with
    /// random ids.
    #[must_use]
    pub fn context_of(mut self, context_of: impl Fn(&Span) -> Option<TraceContext> + Send + Sync + 'static) -> Self {
        self.config.context_of = Some(Arc::new(context_of));
        self
    }
}

impl<T, K> Layer<T> for TraceLayer<K> {
    type Service = Traced<T, K>;

    fn layer(&self, inner: T) -> Traced<T, K> {
        Traced::new(inner, Session::new(&self.config, self.turns.next()))
    }
}

impl<K> Clone for TraceLayer<K> {
    fn clone(&self) -> Self {
        Self { config: self.config.clone(), turns: self.turns.clone(), subject: PhantomData }
    }
}

impl<K> fmt::Debug for TraceLayer<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TraceLayer")
            .field("name", &self.config.name)
            .field("role", &self.config.role)
            .field("peer", &self.config.peer)
            .field("sample_one_in", &self.config.sample)
            .field("propagate", &self.config.propagate)
            .finish_non_exhaustive()
    }
}
