use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use http::response::Parts;

use super::{
    Backoff, Class, ReconnectHandle, Target, WhenLost,
    class::{classify, is_normal_close},
    handle::Shared,
};
use crate::Error;

/// Makes a connector a transport that reconnects. See the [module](super) for the whole story.
///
/// | setting | default |
/// |---|---|
/// | [`when_lost`](Self::when_lost) | [`WhenLost::Fail`] |
/// | [`healthy_after`](Self::healthy_after) | 10 s |
/// | [`classify`](Self::classify) | [`classify`](super::classify()) |
/// | [`end_on_normal_close`](Self::end_on_normal_close) | off: the layer reconnects after code 1000 |
/// | [`on_connect`](Self::on_connect) | nothing is sent |
pub struct ReconnectLayer<Out = crate::Message> {
    pub(super) target: Target,
    pub(super) backoff: Backoff,
    pub(super) policy: Policy<Out>,
    pub(super) when_lost: WhenLost<Out>,
    first: Arc<First>,
}

/// The handle that was given out before there was a transport, and whether a transport has taken it.
struct First {
    shared: Arc<Shared>,
    is_taken: AtomicBool,
}

type Classify = Arc<dyn Fn(&Error) -> Class + Send + Sync>;
type OnConnect<Out> = Arc<dyn Fn(&Parts) -> Vec<Out> + Send + Sync>;

/// What the user decides about errors and connections.
pub(super) struct Policy<Out> {
    pub(super) healthy_after: Duration,
    classify: Option<Classify>,
    end_on_normal_close: bool,
    on_connect: Option<OnConnect<Out>>,
}

impl<Out> ReconnectLayer<Out> {
    /// Connects to `target` (a URL, or a whole request that is cloned for each attempt) and, when that fails or is lost,
    /// again as `backoff` says.
    ///
    /// A URL that is none becomes an error at the first use; [`Target::parse`] tells it at once.
    #[must_use]
    pub fn new(target: impl Into<Target>, backoff: Backoff) -> Self {
        Self {
            target: target.into(),
            backoff,
            policy: Policy {
                healthy_after: Duration::from_secs(10),
                classify: None,
                end_on_normal_close: false,
                on_connect: None,
            },
            when_lost: WhenLost::Fail,
            first: Arc::new(First { shared: Shared::new(), is_taken: AtomicBool::new(false) }),
        }
    }

    /// What becomes of messages that a connection took and was lost with. Default [`WhenLost::Fail`].
    #[must_use]
    pub fn when_lost(mut self, when_lost: WhenLost<Out>) -> Self {
        self.when_lost = when_lost;
        self
    }

    /// How long a connection must last for the attempts to count anew, and the delays to start small again. An open alone
    /// is no health: a server that accepts and then drops would be asked without a pause. Default 10 s.
    #[must_use]
    pub fn healthy_after(mut self, time: Duration) -> Self {
        self.policy.healthy_after = time;
        self
    }

    /// Says for each error whether another attempt is worth it, in place of [`classify`](super::classify()), to which it may
    /// turn for what it does not know. It is asked for failed attempts, for errors of a connection and for its end (an error
    /// that [`is_closed`](Error::is_closed), with the close frame where there is one), never for each message.
    #[must_use]
    pub fn classify(mut self, classify: impl Fn(&Error) -> Class + Send + Sync + 'static) -> Self {
        self.policy.classify = Some(Arc::new(classify));
        self
    }

    /// Sets whether a close of the peer with code 1000, "the purpose is fulfilled", ends the stream. Defaults to no: the layer
    /// reconnects, with the backoff's delays, because a server that restarts closes with 1000 too when its handlers return. Set it
    /// where the peer says with this code that there is nothing more to come.
    #[must_use]
    pub fn end_on_normal_close(mut self, end: bool) -> Self {
        self.policy.end_on_normal_close = end;
        self
    }

    /// Is asked at each connection what to send on it before anything else: subscriptions, say. It sees the answer to the
    /// handshake: status, headers, and what layers of the connector left in its extensions.
    ///
    /// The messages are sent, and flushed, before what was kept and what is new; one more than a connection can take waits for
    /// it. They are never kept: the next connection asks again. Keep them few, since nothing else bounds them.
    ///
    /// It must not block. What must wait (for an answer, or a database) belongs into the connector, where tower's `and_then`
    /// has the transport before this layer has it.
    #[must_use]
    pub fn on_connect(mut self, hook: impl Fn(&Parts) -> Vec<Out> + Send + Sync + 'static) -> Self {
        self.policy.on_connect = Some(Arc::new(hook));
        self
    }

    /// The handle of the first transport that this layer (or a clone of it, such as a stack's) makes. Each further transport
    /// has one of its own: [`Reconnect::handle`](super::Reconnect::handle).
    #[must_use]
    pub fn handle(&self) -> ReconnectHandle {
        ReconnectHandle { shared: self.first.shared.clone() }
    }

    /// Returns the shared state of one more transport: that of [`handle`](Self::handle) for the first one.
    pub(super) fn take_handle(&self) -> Arc<Shared> {
        let is_first = !self.first.is_taken.swap(true, Relaxed);
        if is_first { self.first.shared.clone() } else { Shared::new() }
    }
}

impl<Out> Policy<Out> {
    /// The class of what ended a connection, or failed an attempt, or came in a connection's stream.
    pub(super) fn class(&self, error: &Error) -> Class {
        if self.end_on_normal_close && is_normal_close(error) {
            return Class::Final;
        }
        match &self.classify {
            Some(classify) => classify(error),
            None => classify(error),
        }
    }

    pub(super) fn greeting(&self, parts: &Parts) -> Vec<Out> {
        self.on_connect.as_ref().map_or_else(Vec::new, |hook| hook(parts))
    }
}

impl<Out> Clone for ReconnectLayer<Out> {
    fn clone(&self) -> Self {
        Self {
            target: self.target.clone(),
            backoff: self.backoff.clone(),
            policy: Policy {
                healthy_after: self.policy.healthy_after,
                classify: self.policy.classify.clone(),
                end_on_normal_close: self.policy.end_on_normal_close,
                on_connect: self.policy.on_connect.clone(),
            },
            when_lost: self.when_lost.clone(),
            first: self.first.clone(),
        }
    }
}

impl<Out> fmt::Debug for ReconnectLayer<Out> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the target: a URL or a header may hold a secret.
        f.debug_struct("ReconnectLayer")
            .field("backoff", &self.backoff)
            .field("when_lost", &self.when_lost)
            .field("healthy_after", &self.policy.healthy_after)
            .field("end_on_normal_close", &self.policy.end_on_normal_close)
            .finish_non_exhaustive()
    }
}
