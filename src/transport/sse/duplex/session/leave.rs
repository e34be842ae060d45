//! A session whose handler's end is done: the client has a limited time to read the rest.

use std::{
    future::poll_fn,
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use bytes::BytesMut;

use super::{Session, Who};
use crate::transport::closing::linger;

impl Session {
    /// Ends the handler's side: the body ends after the content of the outbox, and POSTs are rejected. A client that
    /// has not read to the end, nor made progress within [`Limits::close`](crate::Limits::close), loses the rest, and
    /// its place is released.
    pub(in super::super) fn leave(self: &Arc<Self>) {
        let mut state = self.lock();
        let was_left = std::mem::replace(&mut state.is_left, true);
        let waits = !was_left && !state.is_cut;
        state.inbox.clear();
        [Who::Body, Who::Poster, Who::Writer].into_iter().for_each(|who| state.wake(who));
        drop(state);
        if waits && let Some(runtime) = &self.runtime {
            // A transport may be dropped outside of the runtime.
            runtime.spawn(expire(Arc::downgrade(self), self.limits.close));
        }
    }

    fn discard(&self) {
        let mut state = self.lock();
        state.is_lost = state.is_lost || !state.outbox.is_empty();
        state.outbox = BytesMut::new();
        state.pong = None;
        [Who::Body, Who::Teller, Who::Writer].into_iter().for_each(|who| state.wake(who));
        drop(state);
        self.sessions.close(self.token);
    }
}

/// Ends with the session, or `time` after the client's last progress.
async fn expire(session: Weak<Session>, time: Duration) {
    let gone = poll_fn(|cx| match session.upgrade() {
        Some(session) => session.poll(Who::Expiry, cx, |_| Poll::Pending),
        None => Poll::Ready(()),
    });
    let unsent = || session.upgrade().map_or(0, |session| session.unsent());
    if !linger(time, gone, unsent).await
        && let Some(session) = session.upgrade()
    {
        session.discard();
    }
}
