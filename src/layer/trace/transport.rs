use std::{
    borrow::Cow,
    num::NonZeroU32,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;
use futures_sink::Sink;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tracing::{Level, Span};

use super::{
    Direction, Received, Role, TraceContext,
    instruments::{Config, Instruments, size},
    sampling::SampleOffsets,
    wire,
};
use crate::{Error, MaybeSend, MaybeSync, Message, Transport, transport::payload::Payload};

/// A layer that adds spans and metrics to each transport. See the [module](super) for the complete documentation.
///
/// Each transport that it wraps is a separate session. Clones only share the position of the sampling. Clone the layer
/// to give one connection its [`peer`](Self::peer).
#[derive(Clone)]
pub struct TraceLayer {
    pub(super) config: Config,
    offsets: SampleOffsets,
}

impl TraceLayer {
    /// Creates a layer for connections that this end makes. `name` describes their purpose in one fixed word. It is a
    /// label of every metric, so do not derive it from data that a peer sends.
    #[must_use]
    pub fn client(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, Role::Client)
    }

    /// Creates a layer for connections that this end accepts; `name` as for [`client`](Self::client).
    #[must_use]
    pub fn server(name: impl Into<Cow<'static, str>>) -> Self {
        Self::new(name, Role::Server)
    }

    /// Creates a layer for connections of one end; `name` as for [`client`](Self::client).
    #[must_use]
    pub fn new(name: impl Into<Cow<'static, str>>, role: Role) -> Self {
        let config = Config {
            name: name.into(),
            role,
            peer: None,
            span: None,
            span_level: Level::INFO,
            event_level: Level::DEBUG,
            error_level: Level::DEBUG,
            sample: None,
            propagate: false,
            sizes: false,
            on_message: None,
            context_of: None,
        };
        Self { config, offsets: SampleOffsets::default() }
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

    /// Sets the field `network.peer.address` of the session's span: where the peer is. It is not a label of metrics. It
    /// is escaped when it is logged. For other fields, such as a user, make the [`span`](Self::span) yourself.
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

    /// Sets the level of the spans `session` and `message`. Defaults to `INFO`. A span of your own
    /// ([`span`](Self::span)) has its own level.
    #[must_use]
    pub fn span_level(mut self, level: Level) -> Self {
        self.config.span_level = level;
        self
    }

    /// Sets the level of the events `open` and `closed`, one of each for a connection. Defaults to `DEBUG`.
    #[must_use]
    pub fn event_level(mut self, level: Level) -> Self {
        self.config.event_level = level;
        self
    }

    /// Sets the level of the event `error`, one for each error that the user of the transport gets. Defaults to
    /// `DEBUG`. A peer can cause many of them, for example with messages that a layer rejects.
    #[must_use]
    pub fn error_level(mut self, level: Level) -> Self {
        self.config.error_level = level;
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
        hook: impl Fn(&Span, Direction, Option<&TraceContext>) + MaybeSend + MaybeSync + 'static,
    ) -> Self {
        self.config.on_message = Some(Arc::new(hook));
        self
    }

    /// Calls `context_of` with the span of each sampled outgoing message to get its context: a bridge to OpenTelemetry
    /// knows the ids that it assigned. `None` sends no context. Without this, each message begins a new trace with
    /// random ids.
    #[must_use]
    pub fn context_of(
        mut self,
        context_of: impl Fn(&Span) -> Option<TraceContext> + MaybeSend + MaybeSync + 'static,
    ) -> Self {
        self.config.context_of = Some(Arc::new(context_of));
        self
    }
}

impl<T> Layer<T> for TraceLayer {
    type Service = Traced<T>;

    fn layer(&self, inner: T) -> Traced<T> {
        Traced::new(inner, Instruments::new(&self.config, self.offsets.next()))
    }
}

debug_fields!(TraceLayer, |this| {
    name: this.config.name,
    role: this.config.role,
    peer: this.config.peer,
    sample_one_in: this.config.sample,
    propagate: this.config.propagate,
});

pin_project! {
    /// A transport with instrumentation, created by [`TraceLayer`](super::TraceLayer). Messages and errors pass
    /// unchanged.
    #[derive(Debug)]
    pub struct Traced<T> {
        #[pin]
        inner: T,
        instruments: Instruments,
    }
}

impl<T> Traced<T> {
    pub(super) const fn new(inner: T, instruments: Instruments) -> Self {
        Self { inner, instruments }
    }

    /// Returns the span of this session. The transport's own methods do not enter it. To record events of your task in
    /// the session, instrument the task with it.
    #[must_use]
    pub fn span(&self) -> &Span {
        self.instruments.span()
    }

    /// Returns the last message of `poll_next` if it was sampled: its span, and the context of its sender.
    #[must_use]
    pub fn received(&self) -> Option<&Received> {
        self.instruments.received.as_ref()
    }

    /// Returns the number of incoming messages so far.
    #[must_use]
    pub fn messages_in(&self) -> u64 {
        self.instruments.incoming.messages
    }

    /// Returns the number of outgoing messages so far.
    #[must_use]
    pub fn messages_out(&self) -> u64 {
        self.instruments.outgoing.messages
    }

    accessors! {
        inner: T, "transport",
        get_mut: "The layer does not see what is sent or received there.",
        into_inner: ", which ends the session. The layer holds no message.",
    }
}

impl<T, In, E> Stream for Traced<T>
where
    T: Stream<Item = Result<In, E>>,
    E: Into<Error>,
    In: 'static,
{
    type Item = Result<In, Error>;

    #[inline]
    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        match this.inner.poll_next(cx) {
            Poll::Ready(Some(Ok(message))) if this.instruments.passes(&message) => Poll::Ready(Some(Ok(message))),
            polled => this.instruments.receive(polled),
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}

impl<T> Traced<T> {
    /// Runs `start_send` for a message that is more than counted.
    #[cold]
    fn start_rare<Out>(mut self: Pin<&mut Self>, message: Out, size: usize) -> Result<(), Error>
    where
        T: Transport<Out>,
        Out: 'static,
    {
        let sent = self.as_mut().start_marked(message, size);
        let instruments = self.project().instruments;
        sent.map(|()| instruments.outgoing.count(size)).map_err(|error| instruments.pass(Direction::Out, error.into()))
    }

    /// Gives a sampled message its span, and its context if it has one; escapes other messages if necessary.
    fn start_marked<Out>(self: Pin<&mut Self>, mut message: Out, size: usize) -> Result<(), T::TransportError>
    where
        T: Transport<Out>,
        Out: 'static,
    {
        let this = self.project();
        let instruments = this.instruments;
        // Before the send: a transport that has the close message may end at once, and then the frame is gone.
        instruments.look_for_close(&message);
        let sampled = instruments.outgoing.samples().then(|| instruments.trace_outgoing(size));
        if instruments.propagates()
            && let Some(message) = Payload::of().get_mut(&mut message)
        {
            // The mark goes on after the size was counted: both ends count the user's bytes.
            let plain = std::mem::replace(message, Message::Close(None));
            *message = match &sampled {
                Some((_, Some(context))) => wire::mark(plain, context),
                _ => wire::escape(plain),
            };
        }
        let Some((span, _)) = sampled else { return this.inner.start_send(message) };
        // The layers below run inside the span, so that their events belong to the message.
        let sent = span.in_scope(|| this.inner.start_send(message));
        instruments.unflushed = Some(span);
        sent
    }
}

impl<T, Out> Sink<Out> for Traced<T>
where
    T: Transport<Out>,
    Out: 'static,
{
    type Error = Error;

    #[inline]
    fn poll_ready(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        this.inner.poll_ready(cx).map_err(|error| this.instruments.pass(Direction::Out, error.into()))
    }

    #[inline]
    fn start_send(mut self: Pin<&mut Self>, message: Out) -> Result<(), Error> {
        let size = size(&message);
        let this = self.as_mut().project();
        // A propagating layer looks at each message: even one that is not sampled may end like a mark and must be
        // escaped.
        if this.instruments.propagates() || Payload::of().is_close(&message) || !this.instruments.outgoing.passes(size)
        {
            return self.start_rare(message, size);
        }
        // Counted before it is sent, in the one comparison that all messages pass, and taken back if it is refused.
        this.inner.start_send(message).map_err(|error| this.instruments.refused(size, error.into()))
    }

    #[inline]
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        let flushed = this.inner.poll_flush(cx);
        if flushed.is_ready() {
            this.instruments.flushed();
        }
        flushed.map_err(|error| this.instruments.pass(Direction::Out, error.into()))
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let this = self.project();
        let closed = this.inner.poll_close(cx);
        if closed.is_ready() {
            this.instruments.flushed();
        }
        closed.map_err(|error| this.instruments.pass(Direction::Out, error.into()))
    }
}
