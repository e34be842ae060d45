use std::{num::NonZeroUsize, time::Duration};

use tower_layer::Layer;

use super::{
    transport::Limited,
    watch::{Watch, shortened},
};

/// Keeps the messages, the idle time and the life of a transport within bounds. See the [module](super) for the whole story.
///
/// | limit | default | over it |
/// |---|---|---|
/// | [`max_incoming`](Self::max_incoming) | 4 MiB | an error item, then closed with 1009 |
/// | [`max_outgoing`](Self::max_outgoing) | 4 MiB | an error of `start_send`; nothing is sent, the sink goes on |
/// | [`idle_timeout`](Self::idle_timeout) | none | closed with 1001, and an error item |
/// | [`lifetime`](Self::lifetime) | none | closed with 1001, and an error item |
/// | [`max_in_flight`](Self::max_in_flight) | none | `poll_ready` waits until all is flushed |
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitLayer {
    pub(super) sizes: Sizes,
    idle: Option<Duration>,
    lifetime: Option<Duration>,
    jitter: Duration,
}

/// What each message is held against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) incoming: usize,
    pub(super) outgoing: usize,
    pub(super) in_flight: usize,
    pub(super) skips_large: bool,
}

impl LimitLayer {
    /// Messages of at most 4 MiB each way; no other limit.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            sizes: Sizes { incoming: 4 << 20, outgoing: 4 << 20, in_flight: usize::MAX, skips_large: false },
            idle: None,
            lifetime: None,
            jitter: Duration::ZERO,
        }
    }

    /// The largest message that may come in, in bytes of payload.
    #[must_use]
    pub const fn max_incoming(mut self, bytes: usize) -> Self {
        self.sizes.incoming = bytes;
        self
    }

    /// The largest message that may go out, in bytes of payload.
    #[must_use]
    pub const fn max_outgoing(mut self, bytes: usize) -> Self {
        self.sizes.outgoing = bytes;
        self
    }

    /// The largest message both ways: [`max_incoming`](Self::max_incoming) and [`max_outgoing`](Self::max_outgoing).
    #[must_use]
    pub const fn max_message(self, bytes: usize) -> Self {
        self.max_incoming(bytes).max_outgoing(bytes)
    }

    /// A message that is too large to come in is dropped with its error, and the stream goes on with the next. Without this
    /// the transport is closed with [1009](crate::CloseCode::TOO_BIG).
    #[must_use]
    pub const fn skip_large(mut self) -> Self {
        self.sizes.skips_large = true;
        self
    }

    /// Sets how long no text or binary message may pass, either way. Pings and pongs do not count: they show that the connection
    /// lives, not that anyone uses it. The transport is closed between `time` and `time * 9 / 8` after the last; at the
    /// earliest after 8 ms. There is no idle timeout by default.
    ///
    /// A message that is on its way counts while 1,024 bytes a second move, averaged over an eighth of `time`. Bytes stop counting when
    /// more of them have moved since the last whole message than [`max_incoming`](Self::max_incoming) and
    /// [`max_outgoing`](Self::max_outgoing) together. So a message that never ends is idleness in the end, whatever it consists of.
    #[must_use]
    pub const fn idle_timeout(mut self, time: Duration) -> Self {
        self.idle = Some(time);
        self
    }

    /// How long the transport may live, from when it is first used.
    #[must_use]
    pub const fn lifetime(mut self, time: Duration) -> Self {
        self.lifetime = Some(time);
        self
    }

    /// Shortens each [`lifetime`](Self::lifetime) by a random time of at most `most`, so that connections which began
    /// together do not end together. Default zero.
    #[must_use]
    pub const fn lifetime_jitter(mut self, most: Duration) -> Self {
        self.jitter = most;
        self
    }

    /// How many messages may be accepted and not yet flushed. Where so many are, `poll_ready` flushes the transport and
    /// waits for that. It bounds what is lost with a connection, in messages, where the transport itself bounds bytes.
    ///
    /// For calls in flight of a service that is tower's own `ConcurrencyLimitLayer`.
    #[must_use]
    pub const fn max_in_flight(mut self, messages: NonZeroUsize) -> Self {
        self.sizes.in_flight = messages.get();
        self
    }
}

impl Default for LimitLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Layer<T> for LimitLayer {
    type Service = Limited<T>;

    fn layer(&self, inner: T) -> Limited<T> {
        let lifetime = self.lifetime.map(|time| shortened(time, self.jitter));
        // A message each way may be on its way at once.
        let most = self.sizes.incoming.saturating_add(self.sizes.outgoing);
        Limited::new(inner, self.sizes, Watch::new(self.idle, lifetime, most))
    }
}
