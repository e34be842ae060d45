use std::{future::poll_fn, time::Duration};

use tower_layer::Layer;

use super::{Resume, ResumeHandle, ResumedTransport, Verdict, opening::Opening, state::Window};
use crate::{Error, Message, Transport};

/// Sessions that outlive connections, on a connector. See the [module](super) for the whole story.
///
/// | setting | default |
/// |---|---|
/// | [`replay_messages`](Self::replay_messages) | 1024 |
/// | [`replay_bytes`](Self::replay_bytes) | 1 MiB |
/// | [`max_stalled_connections`](Self::max_stalled_connections) | 1000 |
/// | [`ack_delay`](Self::ack_delay) | 100 ms |
/// | [`deadline`](Self::deadline) | 10 s |
#[derive(Clone, Debug)]
pub struct ResumeLayer {
    pub(super) config: Config,
    handle: Option<ResumeHandle>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Config {
    pub(super) window: Window,
    pub(super) max_stalled: u32,
    pub(super) ack_delay: Duration,
    pub(super) deadline: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            window: Window::default(),
            max_stalled: MAX_STALLED,
            ack_delay: Duration::from_millis(100),
            deadline: Duration::from_secs(10),
        }
    }
}

/// A long message on a bad line may need many connections, so this only stops a loop without end. The time to live of a session
/// is the usual bound.
pub(super) const MAX_STALLED: u32 = 1000;

/// A bound as the wire has it.
pub(super) fn at_most(bound: usize) -> u32 {
    u32::try_from(bound.max(1)).unwrap_or(u32::MAX)
}

impl ResumeLayer {
    /// With the defaults. Each connector that it is put on has a session of its own.
    #[must_use]
    pub fn new() -> Self {
        Self { config: Config::default(), handle: None }
    }

    /// Shows the session through `handle`. One handle belongs to one connector: two connectors with the same handle would
    /// have one session, and take it from each other.
    #[must_use]
    pub fn handle(mut self, handle: ResumeHandle) -> Self {
        self.handle = Some(handle);
        self
    }

    /// How many messages may be accepted and not yet acknowledged, at least 1. With so many the sink is not ready.
    #[must_use]
    pub fn replay_messages(mut self, messages: usize) -> Self {
        self.config.window.messages = at_most(messages);
        self
    }

    /// How many bytes of payload may be accepted and not yet acknowledged, at least 1; the last message may go over it.
    #[must_use]
    pub fn replay_bytes(mut self, bytes: usize) -> Self {
        self.config.window.bytes = at_most(bytes);
        self
    }

    /// Sets how many connections in a row may end without progress before the session is given up, at least 1. Defaults to
    /// 1000.
    ///
    /// A connection makes progress if any message was acknowledged or received, or if no message waits for its
    /// acknowledgement. Three connections are enough if they ended because of a message: with close code 1003, 1007 or
    /// 1009, or with an error that [`is_too_large`](crate::Error::is_too_large). Only an acknowledgement resets that count;
    /// incoming messages and other lost connections do not.
    ///
    /// The transport then fails with an error that names the last cause, and that is `is_too_large` if that was a message's
    /// size. The next connection begins a new session.
    #[must_use]
    pub fn max_stalled_connections(mut self, connections: u32) -> Self {
        self.config.max_stalled = connections.max(1);
        self
    }

    /// Sets how long a received message may stay without an acknowledgement. Defaults to 100 ms. Once a quarter of the peer's bounds
    /// is used, the acknowledgement goes with the next message that is sent; once half is used, it goes at once.
    #[must_use]
    pub fn ack_delay(mut self, time: Duration) -> Self {
        self.config.ack_delay = time;
        self
    }

    /// How long the opening exchange may take, from the inner connector's answer on.
    #[must_use]
    pub fn deadline(mut self, time: Duration) -> Self {
        self.config.deadline = time;
        self
    }

    /// Opens the session on a transport that is already connected, or resumes it there. [`SessionStore::accept`](super::SessionStore::accept)
    /// is the server's side.
    ///
    /// The session is that of this layer's [`handle`](Self::handle). Without one, each call begins a new session. A connector that
    /// calls this reports the verdict with [`Verdict::insert_into`].
    ///
    /// # Errors
    ///
    /// Returns an error for which one of these is true:
    ///
    /// - [`is_timeout`](Error::is_timeout): the session was not opened within [`deadline`](Self::deadline).
    /// - [`is_closed`](Error::is_closed): the server closed the connection instead, the connection ended, or a newer connection took
    ///   the session.
    /// - [`is_protocol`](Error::is_protocol): the server does not use a [`SessionStore`](super::SessionStore), or breaks the protocol.
    ///
    /// Errors of the transport are returned unchanged.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future drops the connection. The session stays with the handle.
    pub async fn open<T>(&self, transport: T) -> Result<(ResumedTransport<T>, Verdict), Error>
    where
        T: Transport<Message, In = Message> + Unpin,
    {
        let handle = self.handle.clone().unwrap_or_default();
        let mut opening = Opening::new(transport, self.config, handle.home);
        poll_fn(|cx| opening.poll(cx)).await
    }
}

impl Default for ResumeLayer {
    fn default() -> Self {
        Self::new()
    }
}

impl<S> Layer<S> for ResumeLayer {
    type Service = Resume<S>;

    fn layer(&self, connector: S) -> Resume<S> {
        Resume::new(connector, self.config, self.handle.clone().unwrap_or_default())
    }
}
