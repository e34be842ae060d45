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
use crate::{Error, MaybeSend, MaybeSync, threads::dyn_shared};

/// A layer that turns a connector into a transport that reconnects. See the [module](super) for the complete
/// documentation.
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

/// The shared state of the first transport, which exists before the transport, and whether that transport exists.
struct First {
    shared: Arc<Shared>,
    is_taken: AtomicBool,
}

type Classify = Arc<dyn_shared!(Fn(&Error) -> Class)>;
type OnConnect<Out> = Arc<dyn_shared!(Fn(&Parts) -> Vec<Out>)>;

/// The user's decisions about errors and connections.
pub(super) struct Policy<Out> {
    pub(super) healthy_after: Duration,
    classify: Option<Classify>,
    end_on_normal_close: bool,
    on_connect: Option<OnConnect<Out>>,
}

impl<Out> ReconnectLayer<Out> {
    /// Creates a layer that connects to `target` and reconnects with `backoff`. The target is a URL, or a request that
    /// is cloned for each attempt.
    ///
    /// An invalid URL is reported on first use. Use [`Target::parse`] to validate it up front.
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

    /// Sets the fate of messages that a connection had accepted when it was lost. Defaults to [`WhenLost::Fail`].
    #[must_use]
    pub fn when_lost(mut self, when_lost: WhenLost<Out>) -> Self {
        self.when_lost = when_lost;
        self
    }

    /// Sets how long a connection must last to reset the backoff. Defaults to 10 s. A successful connect alone does not
    /// reset it; otherwise a server that accepts and drops would be retried in a tight loop.
    #[must_use]
    pub fn healthy_after(mut self, time: Duration) -> Self {
        self.policy.healthy_after = time;
        self
    }

    /// Sets the function that decides whether an error is retried. Defaults to [`classify`](super::classify()), which
    /// your function can call for errors that it does not know. It is called for failed attempts, for errors of a
    /// connection and for its end (an error for which [`is_closed`](Error::is_closed) is true, with the close frame if
    /// there is one), not for each message.
    #[must_use]
    pub fn classify(mut self, classify: impl Fn(&Error) -> Class + MaybeSend + MaybeSync + 'static) -> Self {
        self.policy.classify = Some(Arc::new(classify));
        self
    }

    /// Sets whether a close by the peer with code 1000 ends the stream. Defaults to `false`: the layer reconnects, with
    /// the delays of the backoff, because a server that restarts also closes with 1000 when its handlers return. Turn
    /// it on if your peer uses this code to say that nothing more follows.
    #[must_use]
    pub fn end_on_normal_close(mut self, end: bool) -> Self {
        self.policy.end_on_normal_close = end;
        self
    }

    /// Sets the function that returns the first messages of each connection, such as subscriptions. It sees the
    /// response to the handshake: status, headers, and extensions from layers of the connector.
    ///
    /// The messages are sent and flushed before kept and new ones. They are not kept: the function is called again for
    /// the next connection. Return few messages, for nothing else bounds their number.
    ///
    /// The function must not block. Work that waits (for a response, or a database) goes into the connector: tower's
    /// `and_then` gets the transport before this layer does.
    #[must_use]
    pub fn on_connect(mut self, hook: impl Fn(&Parts) -> Vec<Out> + MaybeSend + MaybeSync + 'static) -> Self {
        self.policy.on_connect = Some(Arc::new(hook));
        self
    }

    /// Returns the handle of the first transport that this layer or a clone of it creates. Each further transport has
    /// its own: [`Reconnect::handle`](super::Reconnect::handle).
    #[must_use]
    pub fn handle(&self) -> ReconnectHandle {
        ReconnectHandle { shared: self.first.shared.clone() }
    }

    /// Returns the shared state of one more transport: that of [`handle`](Self::handle) for the first one.
    pub(super) fn take_handle(&self) -> Arc<Shared> {
        // A stack clones its layers before it has a transport, so "the first" counts over all clones.
        let is_first = !self.first.is_taken.swap(true, Relaxed);
        if is_first { self.first.shared.clone() } else { Shared::new() }
    }
}

impl<Out> Policy<Out> {
    /// Returns the class of an error of an attempt, a connection or its stream.
    pub(super) fn class(&self, error: &Error) -> Class {
        // Not left to the classifier: a user's own would have to repeat the setting.
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
        // Without the target: a URL or a header may hold a secret.
        f.debug_struct("ReconnectLayer")
            .field("backoff", &self.backoff)
            .field("when_lost", &self.when_lost)
            .field("healthy_after", &self.policy.healthy_after)
            .field("end_on_normal_close", &self.policy.end_on_normal_close)
            .finish_non_exhaustive()
    }
}
