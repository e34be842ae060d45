use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_core::Stream;

use super::{SessionId, Verdict, home::Home};

/// A client's session, seen from outside: it works while a driver or a reconnect layer owns the connector and its
/// transports. Clones show the same session.
#[derive(Clone, Debug, Default)]
pub struct ResumeHandle {
    pub(super) home: Arc<Home>,
}

impl ResumeHandle {
    /// A handle for [`ResumeLayer::handle`](super::ResumeLayer::handle).
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The session's public name, while there is a session.
    #[must_use]
    pub fn id(&self) -> Option<SessionId> {
        self.home.id()
    }

    /// The verdict of the last connection.
    #[must_use]
    pub fn verdict(&self) -> Option<Verdict> {
        self.home.verdict()
    }

    /// The verdicts of the connections from now on. Who looks late sees the newest alone.
    #[must_use]
    pub fn verdicts(&self) -> Verdicts {
        let mut seen = 0;
        let _ = self.home.poll_verdict(&mut seen, &mut Context::from_waker(std::task::Waker::noop()));
        Verdicts { home: self.home.clone(), seen }
    }

    /// How many messages this end has accepted that the peer has not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.home.unacknowledged().0
    }

    /// Returns how many bytes these messages have on the wire.
    #[must_use]
    pub fn unacknowledged_bytes(&self) -> usize {
        self.home.unacknowledged().1
    }
}

/// A stream of [`Verdict`]s, without an end; see [`ResumeHandle::verdicts`].
#[derive(Debug)]
pub struct Verdicts {
    home: Arc<Home>,
    seen: u64,
}

impl Verdicts {
    /// The next verdict. Dropping it loses nothing.
    pub fn changed(&mut self) -> impl Future<Output = Verdict> + '_ {
        std::future::poll_fn(|cx| self.home.poll_verdict(&mut self.seen, cx))
    }
}

impl Stream for Verdicts {
    type Item = Verdict;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Verdict>> {
        let this = &mut *self;
        this.home.poll_verdict(&mut this.seen, cx).map(Some)
    }
}
