use std::{
    borrow::Cow,
    fmt::{self, Write},
    num::NonZeroU32,
    sync::Arc,
    task::Poll,
};

use metrics::Gauge;
use tracing::{Level, Span};

use super::{
    TraceContext,
    metrics::{BYTES, CLOSES, ERRORS, MESSAGE_BYTES, MESSAGES, SESSION_SECONDS, SESSIONS, SESSIONS_OPEN},
    sampling::{Ids, Sampler},
    traffic::Traffic,
    wire,
};
use crate::{CloseCode, CloseFrame, Error, Message, rt::Instant, threads::dyn_shared, transport::payload::Payload};

/// The end of a connection: the label `role`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The end that connects.
    Client,
    /// The end that accepts.
    Server,
}

impl Role {
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// The direction of a message: the label `network.io.direction`, `receive` or `transmit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the peer.
    In,
    /// To the peer.
    Out,
}

impl Direction {
    /// The value of OpenTelemetry's attribute `network.io.direction`.
    const fn attribute(self) -> &'static str {
        match self {
            Self::In => "receive",
            Self::Out => "transmit",
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

type OnMessage = dyn_shared!(Fn(&Span, Direction, Option<&TraceContext>));
type ContextOf = dyn_shared!(Fn(&Span) -> Option<TraceContext>);

#[derive(Clone)]
pub(super) struct Config {
    pub(super) name: Cow<'static, str>,
    pub(super) role: Role,
    pub(super) peer: Option<Arc<str>>,
    pub(super) span: Option<Span>,
    pub(super) span_level: Level,
    pub(super) event_level: Level,
    pub(super) error_level: Level,
    pub(super) sample: Option<NonZeroU32>,
    pub(super) propagate: bool,
    pub(super) sizes: bool,
    pub(super) on_message: Option<Arc<OnMessage>>,
    pub(super) context_of: Option<Arc<ContextOf>>,
}

/// Calls tracing's macro `span` or `event` with a level that is known at run time. The level of a callsite is fixed, so
/// there is one for each level.
macro_rules! at_level {
    ($macro:ident, $level:expr, parent: $parent:expr, $($rest:tt)+) => {
        match $level {
            Level::ERROR => at_level!(@ $macro, Level::ERROR, $parent, $($rest)+),
            Level::WARN => at_level!(@ $macro, Level::WARN, $parent, $($rest)+),
            Level::INFO => at_level!(@ $macro, Level::INFO, $parent, $($rest)+),
            Level::DEBUG => at_level!(@ $macro, Level::DEBUG, $parent, $($rest)+),
            Level::TRACE => at_level!(@ $macro, Level::TRACE, $parent, $($rest)+),
        }
    };
    (@ $macro:ident, $level:expr, $parent:expr, $($rest:tt)+) => {
        tracing::$macro!(target: "tower_transport", parent: $parent, $level, $($rest)+)
    };
}

/// The instruments of one transport: its span, its metrics and its counts.
pub(super) struct Instruments {
    config: Config,
    span: Span,
    since: Instant,
    open: Gauge,
    pub(super) incoming: Traffic,
    pub(super) outgoing: Traffic,
    pub(super) received: Option<Received>,
    /// The span of the last sampled message that is accepted and not flushed.
    pub(super) unflushed: Option<Span>,
    close: Option<CloseFrame>,
    ids: Option<Box<Ids>>,
}

impl Instruments {
    pub(super) fn new(config: &Config, offset: u32) -> Self {
        let (name, role) = (&config.name, config.role.label());
        let traffic = |direction: Direction| {
            let word = direction.attribute();
            let labels = || [("name", name.clone()), ("role", role.into()), ("network.io.direction", word.into())];
            let messages = metrics::counter!(MESSAGES, &labels());
            let bytes = metrics::counter!(BYTES, &labels());
            let sizes = config.sizes.then(|| metrics::histogram!(MESSAGE_BYTES, &labels()));
            Traffic::new(messages, bytes, sizes, Sampler::new(config.sample, offset))
        };
        let span = config.span.clone().unwrap_or_else(|| {
            let peer = config.peer.as_deref().map(|peer| tracing::field::display(Escaped(peer)));
            at_level!(
                span, config.span_level, parent: Span::current(),
                "session", name = %name, role, network.peer.address = peer
            )
        });
        at_level!(event, config.event_level, parent: &span, "open");
        metrics::counter!(SESSIONS, "name" => name.clone(), "role" => role).increment(1);
        // Changed by differences, because all transports of one name share the gauge.
        let open = metrics::gauge!(SESSIONS_OPEN, "name" => name.clone(), "role" => role);
        open.increment(1.0);
        // The handles are looked up once here, for a look-up by labels hashes and allocates.
        Self {
            incoming: traffic(Direction::In),
            outgoing: traffic(Direction::Out),
            config: config.clone(),
            span,
            since: Instant::now(),
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

    /// Counts an incoming message, unless there is more to do. Looks at it in place: a message that is then moved as a
    /// whole is moved once.
    #[inline]
    pub(super) fn passes<M: 'static>(&mut self, message: &M) -> bool {
        let size = match Payload::of().get(message) {
            Some(message) if message.is_close() || (self.propagates() && wire::is_marked(message)) => return false,
            Some(message) => message.len(),
            None => 0,
        };
        self.incoming.passes(size)
    }

    /// Handles every item of the inner stream except a message that [passes](Self::passes).
    #[cold]
    pub(super) fn receive<M: 'static, E: Into<Error>>(
        &mut self,
        polled: Poll<Option<Result<M, E>>>,
    ) -> Poll<Option<Result<M, Error>>> {
        let received = match polled {
            Poll::Ready(Some(received)) => received,
            Poll::Ready(None) => {
                self.incoming.report();
                return Poll::Ready(None);
            }
            // There is time now, and the counts of a quiet connection should not be old.
            Poll::Pending => {
                self.incoming.report();
                return Poll::Pending;
            }
        };
        let message = received.map_err(Into::into).and_then(|message| self.open(message));
        Poll::Ready(Some(message.map_err(|error| self.pass(Direction::In, error))))
    }

    fn open<M: 'static>(&mut self, mut message: M) -> Result<M, Error> {
        let mut context = None;
        if self.propagates()
            && let Some(message) = Payload::of().get_mut(&mut message)
        {
            (*message, context) = wire::open(std::mem::replace(message, Message::Close(None)))?;
        }
        // Without the mark: both ends count the same bytes.
        let size = size(&message);
        let is_sampled = self.incoming.samples();
        self.incoming.count(size);
        // Ends the span of the previous message before that of this one begins.
        self.received = None;
        // A context that came with the message decides as well, whatever this end's own sampling says: otherwise a
        // trace that the peer began would end here.
        if is_sampled | context.is_some_and(|context| context.is_sampled()) {
            self.trace_incoming(size, context);
        }
        self.look_for_close(&message);
        Ok(message)
    }

    /// Keeps the frame of the first close message, for the event at the end.
    pub(super) fn look_for_close<M: 'static>(&mut self, message: &M) {
        if let (None, Some(Some(frame))) = (&self.close, Payload::of().close_message(message)) {
            self.close = Some(frame.clone());
        }
    }

    /// Takes back a message that was counted and then not accepted.
    pub(super) fn refused(&mut self, size: usize, error: Error) -> Error {
        // The counts are of messages that were accepted.
        self.outgoing.take_back(size);
        self.pass(Direction::Out, error)
    }

    /// Records an error that the user sees.
    pub(super) fn pass(&mut self, direction: Direction, error: Error) -> Error {
        self.failed(direction, &error);
        error
    }

    /// Notes that everything was flushed, or the sink was closed.
    pub(super) fn flushed(&mut self) {
        self.outgoing.report();
        // The span of the last sampled message ends when the message has left.
        self.unflushed = None;
    }

    /// Returns the span of a sampled incoming message.
    fn trace_incoming(&mut self, size: usize, context: Option<TraceContext>) {
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
        self.incoming.inspect_next();
    }

    /// Returns the span of a sampled outgoing message, and the context to send with it.
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
        at_level!(
            span,
            self.config.span_level,
            parent: &self.span,
            "message",
            network.io.direction = direction.attribute(),
            size,
            trace_id = Empty,
            span_id = Empty,
            parent_id = Empty,
        )
    }

    fn failed(&mut self, direction: Direction, error: &Error) {
        let traffic = match direction {
            Direction::In => &mut self.incoming,
            Direction::Out => &mut self.outgoing,
        };
        // A closed sink may be called repeatedly; that it is closed is one event.
        if error.is_closed() && std::mem::replace(&mut traffic.is_closed, true) {
            return;
        }
        if let (None, Some(frame)) = (&self.close, error.close_frame()) {
            self.close = Some(frame.clone());
        }
        let (name, role) = (self.config.name.clone(), self.config.role.label());
        let kind = error.kind_name();
        // Looked up when an error happens: there are too many kinds to keep a handle to each for every connection.
        let attribute = direction.attribute();
        metrics::counter!(
            ERRORS, "name" => name, "role" => role, "network.io.direction" => attribute, "error.type" => kind
        )
        .increment(1);
        at_level!(
            event,
            self.config.error_level,
            parent: &self.span,
            network.io.direction = attribute,
            "error.type" = kind,
            error = %Escaped(error),
            "error"
        );
    }
}

/// Returns the bytes of a message's payload. Those of a value are not known, and count as 0.
#[inline]
pub(super) fn size<M: 'static>(message: &M) -> usize {
    Payload::of().get(message).map_or(0, Message::len)
}

/// Returns the label of a close code. The peer chooses the code, so those without a name of their own share a label:
/// otherwise a peer could create thousands of series.
const fn code_label(code: CloseCode) -> &'static str {
    match code.get() {
        1000 => "1000",
        1001 => "1001",
        1002 => "1002",
        1003 => "1003",
        1007 => "1007",
        1008 => "1008",
        1009 => "1009",
        1010 => "1010",
        1011 => "1011",
        1012 => "1012",
        1013 => "1013",
        1014 => "1014",
        3000..=3999 => "3xxx",
        4000..=4999 => "4xxx",
        _ => "other",
    }
}

impl Drop for Instruments {
    fn drop(&mut self) {
        // The counts of up to 255 messages are not reported yet.
        self.incoming.report();
        self.outgoing.report();
        self.open.decrement(1.0);
        let (name, role) = (self.config.name.clone(), self.config.role.label());
        let word = self.close.as_ref().map_or("none", |frame| code_label(frame.code()));
        let seconds = self.since.elapsed().as_secs_f64();
        metrics::histogram!(SESSION_SECONDS, "name" => name.clone(), "role" => role).record(seconds);
        metrics::counter!(CLOSES, "name" => name, "role" => role, "code" => word).increment(1);
        let (code, reason) = self.close.as_ref().map(|frame| (frame.code().get(), Escaped(frame.reason()))).unzip();
        at_level!(
            event,
            self.config.event_level,
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

debug_fields!(Instruments, |this| {
    name: this.config.name,
    messages_in: this.incoming.messages,
    messages_out: this.outgoing.messages,
});

/// Prints text from a peer so that it cannot control a terminal, break a log line or change the text direction.
struct Escaped<D>(D);

impl<D: fmt::Display> fmt::Display for Escaped<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

struct Escaping<'a, 'f>(&'a mut fmt::Formatter<'f>);

impl Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars().try_for_each(|c| match c {
            // Part of ordinary sentences, and harmless.
            '"' | '\'' | '\\' => self.0.write_char(c),
            c => c.escape_debug().try_for_each(|c| self.0.write_char(c)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_printed_and_not_obeyed() {
        let printed = Escaped("\u{1b}[2J\r\nINFO \"all is well\" \u{202e}é").to_string();
        assert_eq!(printed, r#"\u{1b}[2J\r\nINFO "all is well" \u{202e}é"#);
    }
}
