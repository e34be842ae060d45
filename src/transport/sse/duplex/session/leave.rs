//! What becomes of a session whose handler's end is done: the client has a while for what it has not read.

use std::{
    future::poll_fn,
    sync::{Arc, Weak},
    task::Poll,
    time::Duration,
};

use bytes::BytesMut;

use super::{Session, Who};
use crate::rt;

impl Session {
    /// The handler's end is done: the body ends behind what is in the outbox, and a POST is refused. A client that has not read to
    /// the end within [`Limits::close`](crate::Limits::close) does not get the rest, and holds no place any more.
    pub(in super::super) fn leave(self: &Arc<Self>) {
        let mut state = self.lock();
        let was_left = std::mem::replace(&mut state.is_left, true);
        let waits = !was_left && !state.is_cut;
        state.inbox.clear();
        [Who::Body, Who::Poster, Who::Writer].into_iter().for_each(|who| state.wake(who));
        drop(state);
        if waits && let Some(runtime) = &self.runtime {
            // Whoever drops a transport may stand outside the runtime.
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

/// Ends with the session, or after `time`.
async fn expire(session: Weak<Session>, time: Duration) {
    let gone = poll_fn(|cx| match session.upgrade() {
        Some(session) => session.poll(Who::Expiry, cx, |_| Poll::Pending),
        None => Poll::Ready(()),
    });
    if rt::timeout(time, gone).await.is_err()
        && let Some(session) = session.upgrade()
    {
        session.discard();
    }
}
