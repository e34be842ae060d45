//! The state under a session's lock, and the tasks that wait for it.

use std::{
    mem,
    ops::{Deref, DerefMut},
    sync::MutexGuard,
    task::Waker,
};

use bytes::{Bytes, BytesMut};

use super::{event, inbox::Inbox, token::Token};
use crate::{Error, Limits};

/// The state of a session.
///
/// | `is_left` | `is_cut` | the session |
/// |---|---|---|
/// | no | no | is open: both ends are there |
/// | no | yes | has lost its client: the handler reads the rest of the inbox, and can send nothing |
/// | yes | no | was left by its handler: the client reads the rest of the outbox, for a limited time |
/// | yes | yes | is over |
///
/// `is_lost` goes with the last three: the outbox was dropped with something in it. `fault` ends the inbox, whichever
/// row applies; the handler's end then closes the session.
pub(super) struct SessionState {
    pub(super) inbox: Inbox,
    /// The number of the newest POST: older ones take nothing any more.
    pub(super) post: u64,
    pub(super) outbox: BytesMut,
    /// The answer to the newest ping, which waits for room in the outbox.
    pub(super) pong: Option<Bytes>,
    /// The client's violation of the protocol or of a limit.
    pub(super) fault: Option<Error>,
    /// Whether the body, and with it the client, is gone.
    pub(super) is_cut: bool,
    /// Whether it left before it had taken everything.
    pub(super) is_lost: bool,
    /// Whether the handler's end is gone or done.
    pub(super) is_left: bool,
    wakers: Wakers,
}

/// A task that waits for a change.
#[derive(Clone, Copy, Debug)]
pub(super) enum Waiter {
    Reader,
    /// The reader, which waits until the client has been told.
    Teller,
    Writer,
    Body,
    /// The newest POST.
    Post,
    /// The task that waits for the session's end, once the handler's end is gone.
    Expiry,
}

#[derive(Default)]
struct Wakers([Option<Waker>; 6]);

impl Wakers {
    fn of(&mut self, who: Waiter) -> &mut Option<Waker> {
        let [reader, teller, writer, body, poster, expiry] = &mut self.0;
        match who {
            Waiter::Reader => reader,
            Waiter::Teller => teller,
            Waiter::Writer => writer,
            Waiter::Body => body,
            Waiter::Post => poster,
            Waiter::Expiry => expiry,
        }
    }
}

impl SessionState {
    pub(super) fn new(token: Token, limits: Limits) -> Self {
        let mut outbox = BytesMut::new();
        outbox.extend_from_slice(format!("event: {}\ndata: {}\n\n", event::SESSION, token.text()).as_bytes());
        Self {
            inbox: Inbox::new(limits),
            post: 0,
            outbox,
            pong: None,
            fault: None,
            is_cut: false,
            is_lost: false,
            is_left: false,
            wakers: Wakers::default(),
        }
    }
}

/// The locked state, and the wakers to wake or drop once it is unlocked. A waker runs unknown code, which may access
/// this session.
pub(super) struct Locked<'a> {
    // Declared first, so that it is dropped first: dropping it unlocks.
    state: MutexGuard<'a, SessionState>,
    woken: Woken,
}

#[derive(Default)]
struct Woken {
    wakers: Wakers,
    replaced: Option<Waker>,
}

impl<'a> Locked<'a> {
    pub(super) fn new(state: MutexGuard<'a, SessionState>) -> Self {
        Self { state, woken: Woken::default() }
    }

    /// Wakes `who`, once the state is unlocked.
    pub(super) fn wake(&mut self, who: Waiter) {
        if let Some(waker) = self.state.wakers.of(who).take() {
            // A waker is registered only at the end, so the other slot is empty.
            *self.woken.wakers.of(who) = Some(waker);
        }
    }

    pub(super) fn is_registered(&mut self, who: Waiter, waker: &Waker) -> bool {
        self.state.wakers.of(who).as_ref().is_some_and(|registered| registered.will_wake(waker))
    }

    pub(super) fn register(&mut self, who: Waiter, waker: Waker) {
        self.woken.replaced = self.state.wakers.of(who).replace(waker);
    }
}

impl Deref for Locked<'_> {
    type Target = SessionState;

    fn deref(&self) -> &SessionState {
        &self.state
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut SessionState {
        &mut self.state
    }
}

impl Drop for Woken {
    fn drop(&mut self) {
        mem::take(&mut self.wakers.0).into_iter().flatten().for_each(Waker::wake);
        drop(self.replaced.take());
    }
}
