use std::fmt;

use metrics::Gauge;
use tracing::Span;

use super::{
    BYTES, ERRORS, MESSAGE_BYTES, MESSAGES, SESSIONS, SESSIONS_OPEN, TraceContext,
    escaped::Escaped,
    layer::Config,
    sampling::{Ids, Sampler},
    way::Way,
};
use crate::{CloseFrame, Error};

/// The direction of a message: the label `direction`, `in` or `out`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the peer.
    In,
    /// To the peer.
    Out,
}

impl Direction {
    const fn word(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
        }
    }
}

/// A sampled incoming message. See [`Traced::received`](super::Traced::received).
#[derive(Clone, Debug)]
pub struct Received {
    pub(super) span: Span,
    pub(super) context: Option<TraceContext>,
}

impl Received {
    /// Returns the span of this message, for the work on the message.
    #[must_use]
    pub fn span(&self) -> &Span {
        &self.span
    }

    /// Returns the context that came with the message: that of the sender's span.
    #[must_use]
    pub fn context(&self) -> Option<&TraceContext> {
        self.context.as_ref()
    }
}

/// One connection, as the instrumentation sees it.
pub(super) struct Session {
    config: Config,
    span: Span,
    open: Gauge,
    pub(super) incoming: Way,
    pub(super) outgoing: Way,
    pub(super) received: Option<Received>,
    /// The span of the last sampled message that is accepted and not flushed.
    pub(super) unflushed: Option<Span>,
    close: Option<CloseFrame>,
    ids: Option<Box<Ids>>,
}

impl Session {
    pub(super) fn new(config: &Config, turn: u32) -> Self {
        let (name, role) = (&config.name, config.role.word());
        let way = |direction: Direction| {
            let word = direction.word();
            let messages = metrics::counter!(MESSAGES, "name" => name.clone(), "role" => role, "direction" => word);
            let bytes = metrics::counter!(BYTES, "name" => name.clone(), "role" => role, "direction" => word);
            let sizes = config.sizes.then(
                || metrics::histogram!(MESSAGE_BYTES, "name" => name.clone(), "role" => role, "direction" => word),
            );
            Way::new(messages, bytes, sizes, Sampler::new(config.sample, turn))
        };
        let span = config.span.clone().unwrap_or_else(|| {
            let peer = config.peer.as_deref().map(|peer| tracing::field::display(Escaped(peer)));
            tracing::info_span!(target: "tower_transport", "session", name = %name, role, peer)
        });
        tracing::debug!(target: "tower_transport", parent: &span, "open");
        metrics::counter!(SESSIONS, "name" => name.clone(), "role" => role).increment(1);
        let open = metrics::gauge!(SESSIONS_OPEN, "name" => name.clone(), "role" => role);
        open.increment(1.0);
        Self {
            incoming: way(Direction::In),
            outgoing: way(Direction::Out),
            config: config.clone(),
            span,
            open,
            received: None,
            unflushed: None,
            close: None,
            ids: None,
        }
    }

    pub(super) const fn span(&self) -> &Span {
        &self.span
    }

    #[inline]
    pub(super) const fn propagates(&self) -> bool {
        self.config.propagate
    }

    /// Returns the span of a sampled incoming message.
    #[cold]
    pub(super) fn trace_incoming(&mut self, size: usize, context: Option<TraceContext>) {
        let span = self.message_span(Direction::In, size);
        if let Some(context) = &context
            && !span.is_disabled()
        {
            span.record("trace_id", tracing::field::display(format_args!("{:032x}", context.trace_id())));
            span.record("parent_id", tracing::field::display(format_args!("{:016x}", context.span_id())));
        }
        if let Some(hook) = &self.config.on_message {
            hook(&span, Direction::In, context.as_ref());
        }
        self.received = Some(Received { span, context });
        // The span ends with the next message.
        self.incoming.look_at_next();
    }

    /// Returns the span of a sampled outgoing message, and the context to send with it.
    #[cold]
    pub(super) fn trace_outgoing(&mut self, size: usize) -> (Span, Option<TraceContext>) {
        let span = self.message_span(Direction::Out, size);
        if let Some(hook) = &self.config.on_message {
            hook(&span, Direction::Out, None);
        }
        let context = match &self.config.context_of {
            Some(context_of) => context_of(&span),
            // No subscriber would see it.
            None if span.is_disabled() => None,
            None => Some(self.ids.get_or_insert_default().root()),
        };
        if let Some(context) = &context
            && !span.is_disabled()
        {
            span.record("trace_id", tracing::field::display(format_args!("{:032x}", context.trace_id())));
            span.record("span_id", tracing::field::display(format_args!("{:016x}", context.span_id())));
        }
        (span, context)
    }

    fn message_span(&self, direction: Direction, size: usize) -> Span {
        use tracing::field::Empty;
        tracing::info_span!(
            target: "tower_transport",
            parent: &self.span,
            "message",
            direction = direction.word(),
            size,
            trace_id = Empty,
            span_id = Empty,
            parent_id = Empty,
        )
    }

    /// Records an error.
    #[cold]
    pub(super) fn failed(&mut self, direction: Direction, error: &Error) {
        let way = match direction {
            Direction::In => &mut self.incoming,
            Direction::Out => &mut self.outgoing,
        };
        // A closed sink may be called repeatedly; that it is closed is one event.
        if error.is_closed() && std::mem::replace(&mut way.is_closed, true) {
            return;
        }
        if let (None, Some(frame)) = (&self.close, error.close_frame()) {
            self.close = Some(frame.clone());
        }
        let (name, role) = (self.config.name.clone(), self.config.role.word());
        let (word, kind) = (direction.word(), error.kind_name());
        // Looked up when an error happens: there are too many kinds to keep a handle to each for every connection.
        metrics::counter!(ERRORS, "name" => name, "role" => role, "direction" => word, "kind" => kind).increment(1);
        tracing::debug!(
            target: "tower_transport",
            parent: &self.span,
            direction = word,
            kind,
            error = %Escaped(error),
            "error"
        );
    }

    /// Records a close message.
    #[cold]
    pub(super) fn closing(&mut self, frame: Option<&CloseFrame>) {
        if self.close.is_none() {
            self.close = frame.cloned();
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.incoming.tell();
        self.outgoing.tell();
        self.open.decrement(1.0);
        let (code, reason) = self.close.as_ref().map(|frame| (frame.code().get(), Escaped(frame.reason()))).unzip();
        tracing::debug!(
            target: "tower_transport",
            parent: &self.span,
            messages_in = self.incoming.messages,
            bytes_in = self.incoming.bytes,
            messages_out = self.outgoing.messages,
            bytes_out = self.outgoing.bytes,
            code,
            reason = reason.map(tracing::field::display),
            "closed"
        );
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("name", &self.config.name)
            .field("messages_in", &self.incoming.messages)
            .field("messages_out", &self.outgoing.messages)
            .finish_non_exhaustive()
    }
}
