//! A server's session: what its three users share. The handler's transport takes from the inbox and writes into the outbox, the
//! POSTs fill the one, the response's body empties the other. None holds the lock while it waits.

mod down;
mod handler;
mod leave;
mod up;

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Waker},
};

use bytes::{Bytes, BytesMut};

pub(super) use self::{
    handler::Received,
    up::{Step, Turn},
};
use super::{event, inbox::Inbox, sessions::Sessions, token::Token};
use crate::{Error, Limits, rt, transport::place::Place};

/// The most that the body takes at once.
const FRAME: usize = 16 * 1024;

pub(super) struct Session {
    token: Token,
    pub(super) limits: Limits,
    sessions: Arc<Sessions>,
    state: Mutex<State>,
    /// Where it was opened; `None` outside of one.
    runtime: Option<rt::Handle>,
    /// What guards want back when both ends are gone.
    _place: Option<Place>,
}

struct State {
    inbox: Inbox,
    /// Which POST is the newest: an older one takes nothing any more.
    post: u64,
    outbox: BytesMut,
    /// The answer to the newest ping, which waits for its turn in the outbox.
    pong: Option<Bytes>,
    /// The client broke the protocol, or a limit.
    fault: Option<Error>,
    /// The body is gone, and with it the client.
    is_cut: bool,
    /// It went before it had taken all.
    is_lost: bool,
    /// The handler's end is gone, or done.
    is_left: bool,
    reader: Option<Waker>,
    /// The reader, which waits until the client has been told.
    teller: Option<Waker>,
    writer: Option<Waker>,
    body: Option<Waker>,
    poster: Option<Waker>,
    /// Waits for the session's end, once the handler's is gone.
    expiry: Option<Waker>,
}

fn register(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

fn wake(place: &mut Option<Waker>) {
    if let Some(waker) = place.take() {
        waker.wake();
    }
}

impl Session {
    pub(super) fn new(token: Token, limits: Limits, sessions: Arc<Sessions>, place: Option<Place>) -> Self {
        let mut outbox = BytesMut::new();
        outbox.extend_from_slice(format!("event: {}\ndata: {}\n\n", event::SESSION, token.text()).as_bytes());
        let state = State {
            inbox: Inbox::new(limits.write_buffer),
            post: 0,
            outbox,
            pong: None,
            fault: None,
            is_cut: false,
            is_lost: false,
            is_left: false,
            reader: None,
            teller: None,
            writer: None,
            body: None,
            poster: None,
            expiry: None,
        };
        Self {
            token,
            limits,
            sessions,
            state: Mutex::new(state),
            runtime: rt::Handle::try_current().ok(),
            _place: place,
        }
    }

    #[cfg(test)]
    pub(super) fn token(&self) -> Token {
        self.token
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Session {
    /// Without what waits: it begins with the token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.sessions.close(self.token);
        wake(&mut self.state.get_mut().unwrap_or_else(PoisonError::into_inner).expiry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_of_a_session_does_not_have_its_token() {
        let session = Arc::new(Sessions::new(1)).open(Limits::default(), None).unwrap();
        let printed = format!("{session:?}");
        assert!(printed.starts_with("Session") && !printed.contains(&session.token().text()), "{printed}");
        assert!(!printed.contains("outbox"), "{printed}");
    }
}
